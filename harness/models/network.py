"""Networks: built from their cards, copied, put on a device; names and shapes of their values."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, UsageError, sentence
from harness.global_state import random_state_kept, settings_guarded
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.cards import ModelCard, Shapes


Value = TypeVar("Value")


def on_smallest(sides: Sequence[int], work: Callable[[int], Value], who: str) -> Value:
    """What is found with the smallest image that a network takes.

    A network may refuse small images, or pad them by more pixels than they have.

    Args:
        sides: of the images that are tried, in pixels.
        work: runs the network on an image of the given side.
        who: begins the sentence about a network that takes none.

    Raises:
        HarnessError: the network fails on all of them.
    """
    said = ""
    for side in sides:
        try:
            return work(side)
        except (Exception, SystemExit) as error:  # an outsider's code may raise anything
            said = sentence(error)
    tried = " and ".join([", ".join(map(str, sides[:-1])), str(sides[-1])])
    raise HarnessError(f"{who} fails on images of {tried} pixels a side ({said}).")


def require_images(output: object, given: Tensor, factor: int, name: str) -> Tensor:
    """What a network made, if it is images of the size and channels that it should make.

    Args:
        output: what it made.
        given: ``(N, C, h, w)``.
        factor: by which it enlarges what it is given.
        name: of the network.

    Raises:
        HarnessError: it is something else.
    """
    shape = tuple(given.shape)
    expected = (*shape[:2], *(side * factor for side in shape[2:]))
    output = require_tensor(output, expected, name)
    if tuple(output.shape) != expected:
        raise HarnessError(
            f"{name} made {tuple(output.shape)} of {shape}, not {expected}: fix the plug-in."
        )
    if not output.is_floating_point():
        raise HarnessError(f"{name} made {output.dtype} values: fix the plug-in.")
    return output


def require_tensor(output: object, expected: tuple[int, ...], name: str) -> Tensor:
    """What a network made, if it is one tensor, of any shape.

    Args:
        output: what it made.
        expected: the shape that it should have.
        name: of the network.

    Raises:
        HarnessError: it is something else, such as a tuple; the message says which part of it to
            return instead.
    """
    if isinstance(output, Tensor):
        return output
    parts: Mapping[Any, Any] = {}
    if isinstance(output, Mapping):
        parts = output
    elif isinstance(output, list | tuple):
        parts = dict(enumerate(output))
    shapes = {
        f"[{key!r}]": tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        for key, part in parts.items()
    }
    fitting = [f"output{key}" for key, shape in shapes.items() if shape == expected]
    held = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
    wanted = f"{' or '.join(fitting)}, which has that shape" if fitting else "the SR image alone"
    raise HarnessError(
        f"{name} returned a {type(output).__name__}{f' ({held})' if held else ''}, not a tensor of "
        f"{expected}: wrap it in a module that returns {wanted}."
    )


def build_network(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], changed: set[str] | None = None
) -> nn.Module:
    """Build a network from its card.

    Args:
        card: the model.
        scale: the factor.
        hyper: its arguments.
        changed: gets the names of torch's settings that the plug-in changed.

    Raises:
        UsageError: the model is not defined for the scale.
        HarnessError: the plug-in failed or returned something else.
    """
    if scale not in card.scales:
        known = ", ".join(f"x{s}" for s in card.scales)
        raise UsageError(f"{card.name} is not defined for x{scale}, only for {known}.")
    try:
        with settings_guarded(set() if changed is None else changed):
            network = card.build(scale=scale, **hyper)
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:  # an outsider's code may raise anything
        raise HarnessError(
            f"The plug-in {card.origin} failed to build {card.name} "
            f"({type(error).__name__}: {error})."
        ) from error
    if not isinstance(network, nn.Module):
        raise HarnessError(f"The plug-in {card.origin} built no torch module for {card.name}.")
    return network


def copy_network(network: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A copy of a network, with values of its own.

    Args:
        network: to copy. Results that its modules keep, such as the weight that ``weight_norm``
            computes anew in each forward pass, lose their history: they could not be copied.
        shared: parameters and buffers that the copy shares with it.
    """
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                vars(module)[name] = value.detach()
    return copy.deepcopy(network, {id(one): one for one in shared})


def pick_device(name: str) -> str:
    """Resolve ``auto``, and refuse a device that is not there.

    Raises:
        UsageError: no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # a device from which nothing comes back is none
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device {name!r} here: use cpu, cuda or auto.") from error
    return name


def network_shapes(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> Shapes:
    """Names and shapes of a network's values.

    Raises:
        UsageError: the model is not defined for the scale.
        HarnessError: the plug-in failed.
    """
    with random_state_kept(torch.device("cpu")):
        network = build_network(card, scale, hyper)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def owner(given: Shapes, model: str, hyper: Mapping[str, Any]) -> str:
    """Whose weights these are, of the model at its other scales and of the other models.

    Args:
        given: names and shapes that do not fit the model.
        model: its registered name.
        hyper: the arguments it was built with.

    Returns:
        the network they fit, in words; empty where there is none.
    """
    for name in sorted(MODELS, key=lambda name: name != model):
        card = MODELS.get(name)
        own = hyper if name == model else None
        scales = [scale for scale in card.scales if _fits(given, card, scale, own)]
        if scales:
            at = f" for x{scales[0]}" if len(scales) == 1 else ""
            return f"these are {'its weights' if own is not None else f'weights of {name}'}{at}"
    return ""


def _fits(given: Shapes, card: ModelCard, scale: int, hyper: Mapping[str, Any] | None) -> bool:
    """Whether shapes fit a network; another one (without arguments) also under a prefix."""
    try:
        with torch.device("meta"):
            theirs = network_shapes(card, scale, hyper or {})
    except Exception:  # an outsider's network may raise anything
        return False
    return given == theirs if hyper is not None else bool(theirs) and _bare(given) == _bare(theirs)


def _bare(shapes: Shapes) -> Shapes:
    """Shapes by names without the words that all of them begin with."""
    split = [name.split(".") for name in shapes]
    shared = 0
    for words in zip(*(words[:-1] for words in split), strict=False):
        if len(set(words)) > 1:
            break
        shared += 1
    return {".".join(w[shared:]): shape for w, shape in zip(split, shapes.values(), strict=True)}


def differences(given: Shapes, own: Shapes) -> list[str]:
    """What sets a network apart from one that is built alike: channels, features, depth.

    Args:
        given: names and shapes of the one.
        own: those of the other.

    Returns:
        phrases such as ``256 features instead of 64``; none where they are not built alike.
    """
    shared = [(given[name], own[name]) for name in own if name in given]
    if 2 * len(shared) < min(len(given), len(own)):
        return []
    return [*_channels(shared), *_features(shared), *_depth(given, own)]


_COLOURS = {1: "1 channel (grey)", 3: "3 channels (RGB)"}


def _channels(shared: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    for theirs, ours in shared:
        if len(theirs) == len(ours) == 4 and {theirs[1], ours[1]} == {1, 3}:
            return [f"{_COLOURS[theirs[1]]} instead of {_COLOURS[ours[1]]}"]
    return []


def _features(shared: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    widths = Counter((a[0], b[0]) for a, b in shared if a and b and a[0] != b[0])
    for colours in ((1, 3), (3, 1)):
        widths.pop(colours, None)
    return [f"{a} features instead of {b}" for (a, b), _ in widths.most_common(1)]


def _depth(given: Shapes, own: Shapes) -> list[str]:
    theirs, ours = _counts(given), _counts(own)
    for place in sorted(ours, key=len):  # the outermost first
        if place in theirs and theirs[place] != ours[place]:
            (count, word), (expected, _) = theirs[place], ours[place]
            return [f"{count} {word} instead of {expected} in {place}"]
    return []


def _counts(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """How many alike modules are numbered after a name, and whether they are layers or blocks."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        words = name.split(".")
        for at, word in enumerate(words):
            if word.isdigit():
                found[".".join(words[:at])][word].add(".".join(words[at + 1 :]))
    counts = {}
    for place, modules in found.items():
        ((kind, count),) = Counter(map(frozenset, modules.values())).most_common(1)
        counts[place] = count, "blocks" if any("." in rest for rest in kind) else "layers"
    return counts
