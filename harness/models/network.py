"""Networks: built from their cards, copied; names and shapes of their values."""

from __future__ import annotations

import copy
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import HarnessError, UsageError, sentence
from harness.global_state import random_state_kept, settings_guarded
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.cards import ModelCard, Shapes


Value = TypeVar("Value")


def on_smallest(sides: Sequence[int], work: Callable[[int], Value], who: str) -> Value:
    """Try image sizes from small to large; return the result for the first that a network accepts.

    A network may refuse small images, or pad them by more pixels than they have. ``work`` runs it
    on an image of the given side in pixels; ``who`` is the beginning of the error message.

    Raises:
        HarnessError: the network fails on all sizes.
    """
    message = ""
    for side in sides:
        try:
            return work(side)
        except (Exception, SystemExit) as error:  # plug-in code may raise anything
            message = sentence(error)
    tried = " and ".join([", ".join(map(str, sides[:-1])), str(sides[-1])])
    raise HarnessError(f"{who} fails on images of {tried} pixels a side ({message}).")


def require_images(output: object, given: Tensor, factor: int, name: str) -> Tensor:
    """Check that a network's output is a batch of images of the right shape, and return it.

    ``given`` is the network's input, ``(N, C, h, w)``, and ``factor`` output size over input size.

    Raises:
        HarnessError: the output is something else.
    """
    shape = tuple(given.shape)
    expected = (*shape[:2], *(side * factor for side in shape[2:]))
    output = require_tensor(output, expected, name)
    if tuple(output.shape) != expected:
        raise HarnessError(
            f"{name} returned {tuple(output.shape)} for {shape}, not {expected}: fix the "
            "network, or its declared scale and input."
        )
    if not output.is_floating_point():
        raise HarnessError(
            f"{name} returned {output.dtype} values: fix the network, which must return floats."
        )
    return output


def require_tensor(output: object, expected: tuple[int, ...], name: str) -> Tensor:
    """Check that a network's output is one tensor, of any shape, and return it.

    Raises:
        HarnessError: the output is something else, such as a tuple; the message says which part of
            it to return instead.
    """
    if isinstance(output, Tensor):
        return output
    parts = dict(enumerate(output)) if isinstance(output, list | tuple) else output
    shapes = {
        f"[{key!r}]": tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        for key, part in (parts.items() if isinstance(parts, Mapping) else ())
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

    ``changed`` gets the names of torch's settings that the plug-in changed.

    Raises:
        UsageError: the model is not defined for the scale.
        HarnessError: the plug-in failed, or did not return a torch module.
    """
    if scale not in card.scales:
        defined = ", ".join(f"x{s}" for s in card.scales)
        raise UsageError(f"{card.name} is not defined for x{scale}, only for {defined}.")
    try:
        with settings_guarded(set() if changed is None else changed):
            network = card.build(scale=scale, **hyper)
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:  # plug-in code may raise anything
        raise HarnessError(
            f"The plug-in {card.origin} failed to build {card.name} "
            f"({type(error).__name__}: {error})."
        ) from error
    if not isinstance(network, nn.Module):
        raise HarnessError(f"The plug-in {card.origin} built no torch module for {card.name}.")
    return network


def copy_network(network: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """Copy a network, with its parameters and buffers except those that both shall share.

    Computed tensors that its modules store, such as the weight that ``weight_norm`` recomputes in
    each forward pass, are detached first: autograd's history cannot be copied.
    """
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                vars(module)[name] = value.detach()
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})


class EachOperation(TorchDispatchMode):
    """Calls a function with each torch operation under it, its arguments and its result.

    Operations that consist of others, such as ``matmul``, are taken apart. Only under
    ``inference_mode`` torch does not do so itself.
    """

    def __init__(self, then: Callable[[Any, Any, Mapping[str, Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._then = then

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes seconds

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:
            result = operation.decompose(*args, **kwargs)
        if result is NotImplemented:
            result = operation(*args, **kwargs)
            self._then(operation, args, kwargs, result)
        return result


def network_shapes(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> Shapes:
    """Return the names and shapes of a network's values; none if it cannot be built."""
    try:
        with random_state_kept(torch.device("cpu")):
            network = build_network(card, scale, hyper)
        return {name: tuple(value.shape) for name, value in network.state_dict().items()}
    except Exception:  # a plug-in may raise anything; the run reports it
        return {}


def owner(given: Shapes, model: str, hyper: Mapping[str, Any]) -> str:
    """Say which network weights belong to that do not fit a model built with these arguments.

    Returns:
        a phrase that names the model at another scale, or another model; empty if they fit none.
    """
    for name in sorted(MODELS, key=lambda name: name != model):
        card = MODELS.get(name)
        if name != model and not _has_size(given, card):
            continue
        own = hyper if name == model else None
        scales = [scale for scale in card.scales if _fits(given, card, scale, own)]
        if scales:
            at = f" for x{scales[0]}" if len(scales) == 1 else ""
            return f"these are {'its weights' if own is not None else f'weights of {name}'}{at}"
    return ""


def _has_size(given: Shapes, card: ModelCard) -> bool:
    """Whether weights have about as many values as a network declares parameters, within a factor.

    Building a network to compare it takes up to a second. The declared number is that of one scale,
    and at another the network may have half of it; arguments may change it, too.
    """
    values = sum(map(math.prod, given.values()))
    return not card.params or card.params / 4 <= values <= 4 * card.params


def _fits(given: Shapes, card: ModelCard, scale: int, hyper: Mapping[str, Any] | None) -> bool:
    """Whether shapes fit a network; without arguments, prefixes of the names are ignored."""
    with torch.device("meta"):
        shapes = network_shapes(card, scale, hyper or {})
    same = given == shapes if hyper is not None else _bare(given) == _bare(shapes)
    return bool(shapes) and same


def _bare(shapes: Shapes) -> Shapes:
    """Remove the prefix that all names share."""
    split = {tuple(name.split(".")): shape for name, shape in shapes.items()}
    shared = len(os.path.commonprefix([words[:-1] for words in split]))
    return {".".join(words[shared:]): shape for words, shape in split.items()}


def differences(given: Shapes, own: Shapes) -> list[str]:
    """Describe how weights differ from a similar network: in channels, features or depth.

    Returns:
        phrases such as ``256 features instead of 64``; none if the networks are not similar.
    """
    shared = [(given[name], own[name]) for name in own if name in given]
    if 2 * len(shared) < min(len(given), len(own)):
        return []
    return [*_channels(shared), *_features(shared), *_depth(given, own)]


_Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""The shapes of one value in the weights and in the network."""

_COLOURS = {1: "1 channel (grey)", 3: "3 channels (RGB)"}


def _channels(shared: Iterable[_Pair]) -> list[str]:
    for theirs, ours in shared:
        if len(theirs) == len(ours) == 4 and {theirs[1], ours[1]} == {1, 3}:
            return [f"{_COLOURS[theirs[1]]} instead of {_COLOURS[ours[1]]}"]
    return []


def _features(shared: Iterable[_Pair]) -> list[str]:
    widths = Counter((a[0], b[0]) for a, b in shared if a and b and a[0] != b[0])
    del widths[1, 3], widths[3, 1]  # those are colours
    return [f"{a} features instead of {b}" for (a, b), _ in widths.most_common(1)]


def _depth(given: Shapes, own: Shapes) -> list[str]:
    theirs, ours = _counts(given), _counts(own)
    for parent in sorted(ours, key=len):  # the outermost first
        if parent in theirs and theirs[parent] != ours[parent]:
            (count, word), (expected, _) = theirs[parent], ours[parent]
            return [f"{count} {word} instead of {expected} in {parent}"]
    return []


def _counts(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Count the similar numbered modules under each name; say if they are layers or blocks."""
    numbered: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        words = name.split(".")
        for at, word in enumerate(words):
            if word.isdigit():
                numbered[".".join(words[:at])][word].add(".".join(words[at + 1 :]))
    counts = {}
    for parent, modules in numbered.items():
        ((kind, count),) = Counter(map(frozenset, modules.values())).most_common(1)
        counts[parent] = count, "blocks" if any("." in rest for rest in kind) else "layers"
    return counts
