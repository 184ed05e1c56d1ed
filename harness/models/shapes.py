"""Names and shapes of the values of networks, and what those of a file tell about its network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from harness.global_state import random_state_kept
from harness.models.inference import build_network
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.cards import ModelCard, Shapes


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
