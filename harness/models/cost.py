"""What a network costs: its parameters, operations and depth, counted once for the same code."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from harness.data.pinned import cache_root
from harness.errors import UsageError, sentence
from harness.files import TEXT, regular, whole
from harness.models.source import network_digest, unbuilt_digest
from harness.record import digest, file_digest
from harness.syntax import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from harness.cards import ModelCard


Count = TypeVar("Count")

_COUNTING = ("cost.py", "network.py", "upscaler.py")
"""The files of this folder whose code counts: one that changes may count otherwise."""

_COUNTED_WITH = ("torch", "thop")
"""The distributions that count."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A file of the cache.

    Attributes:
        count: the JSON of what was counted.
        sha256: of the key and the count.
    """

    count: msgspec.Raw
    sha256: str


def kept(
    kind: type[Count],
    count: Callable[[], Count],
    asked: Sequence[object],
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    source_sha256: str | None = None,
) -> Count:
    """What is counted of a network, or what was counted of the same code before.

    An error is not kept, and a file that is not as it was written is not used.

    Args:
        kind: the type of the count.
        count: counts it.
        asked: what is counted, and for what size.
        card: the network.
        scale: the factor.
        hyper: the arguments it is built with.
        source_sha256: what `harness.models.source.network_digest` gave, if it was asked already.

    Raises:
        Exception: what ``count`` raises.
    """
    try:
        key = _key(asked, card, scale, hyper, source_sha256)
    except Exception:  # it cannot be built on shapes alone, say
        return count()
    path = cache_root() / "counts" / f"{key}.json"
    with suppress(OSError, ValueError, RecursionError):  # it is missing, or damaged
        return _read(path, key, kind)
    counted = count()
    with suppress(OSError):
        _write(path, key, counted)
    return counted


def _key(
    asked: Sequence[object],
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    source_sha256: str | None,
) -> str:
    """SHA-256 of everything that decides a count."""
    declared = [card.name, card.pipeline, card.input, card.scales]
    code = _code(card, scale, hyper, source_sha256)
    return digest([asked, declared, scale, hyper, code, _counting()])


@cache
def _counting() -> list[str]:
    """The versions of what counts."""
    ours = [file_digest(Path(__file__).with_name(name)) for name in _COUNTING]
    return [*ours, *map(version, _COUNTED_WITH)]


def _code(card: ModelCard, scale: int, hyper: Mapping[str, Any], source_sha256: str | None) -> str:
    """A hash of a network's code, and of the layers of a network that others wrote.

    Theirs may read a width, say, from elsewhere; ours import all they are made of.
    """
    if card.origin.startswith(f"{NETWORKS}."):
        known = card.name, card.source
        if known not in _codes:
            _codes[known] = unbuilt_digest(card)
        return source_sha256 or _codes[known]
    import torch

    from harness.models.network import build_network

    with torch.device("meta"):
        network = build_network(card, scale, hyper)
    shapes = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    layers = re.sub(" at 0x[0-9a-f]+", "", str(network))  # where something is in memory
    return digest([source_sha256 or network_digest(card, scale, hyper), shapes, layers])


_codes: dict[tuple[str, Path | None], str] = {}
"""The code of networks before they were imported: what is edited after that does not run."""


def _read(path: Path, key: str, kind: type[Count]) -> Count:
    """A count that was kept.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError, RecursionError: it is not as it was written.
    """
    entry = msgspec.json.decode(regular(path, TEXT).read_bytes(), type=_Entry)
    if entry.sha256 != digest([key, bytes(entry.count).decode()]):
        raise ValueError(f"{path} was altered")
    return msgspec.json.decode(entry.count, type=kind)


def _write(path: Path, key: str, counted: object) -> None:
    raw = msgspec.json.encode(counted)
    entry = _Entry(msgspec.Raw(raw), digest([key, raw.decode()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_bytes(msgspec.json.encode(entry))


OUTPUT_SIZE = (1280, 720)
"""Width and height of the output for which multiplications are stated, as papers do."""

_SHARED = "shared "
"""Before the kind of a layer that stands under several names in a network."""
_NORMALISED = "counts element-wise scaling, which is no convolution"
_ENLARGED = "counts interpolation, which is no convolution"
_POOLED = "counts the sums of pooling, which are no convolution"
_REASONS = {
    "ConvTranspose2d": "multiplies the kernel at every output pixel, though only one product in "
    "stride squared exists",
    "BatchNorm2d": _NORMALISED,
    "InstanceNorm2d": _NORMALISED,
    "LayerNorm": _NORMALISED,
    "PReLU": "counts element-wise slopes, which are no convolution",
    "AdaptiveAvgPool2d": _POOLED,
    "AvgPool2d": _POOLED,
    "Upsample": _ENLARGED,
    "UpsamplingBilinear2d": _ENLARGED,
    "UpsamplingNearest2d": _ENLARGED,
    "functional": "sees layers only, not functions called in forward",
}


@dataclass(frozen=True)
class Complexity:
    """Size and work of a network.

    Attributes:
        parameters: trainable values.
        macs: multiply-accumulate operations of one forward pass; FLOPs are twice as many. None
            for a network that cannot be run on shapes alone.
        input_size: width and height of the network's input they are stated for.
        activations: values that convolutions put out (as the NTIRE challenges count them).
        by_kind: the operations by kind of layer; ``functional`` for those outside layers.
        obstacle: why operations could not be counted, where they could not.
    """

    parameters: int
    macs: int | None
    input_size: tuple[int, int]
    activations: int | None = None
    by_kind: Mapping[str, int] | None = None
    obstacle: str = ""


def count_parameters(network: nn.Module) -> int:
    """Trainable values, shared ones once."""
    return sum(p.numel() for p in network.parameters())


def measure_complexity(
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    output_size: tuple[int, int] = OUTPUT_SIZE,
    source_sha256: str | None = None,
) -> Complexity:
    """Count on the meta device, which computes shapes and no values, or find what was counted.

    Args:
        card: the model.
        scale: the factor.
        hyper: the arguments it is built with.
        output_size: width and height of the SR image; the input is that over the scale.
        source_sha256: what `harness.models.source.network_digest` gave, if it was asked already.

    Raises:
        HarnessError: the network cannot be built, or returns something else than a tensor.
        UsageError: the output is too small.
    """
    size = input_size(card, scale, output_size)

    def count() -> Complexity:
        return _count(card, scale, hyper, size)

    try:
        asked = "complexity", *size
        return kept(Complexity, count, asked, card, scale, hyper, source_sha256)
    except _NotCountedError as error:
        from harness.models.network import build_network

        network = build_network(card, scale, hyper)
        return Complexity(count_parameters(network), None, size, obstacle=str(error))


class _NotCountedError(Exception):
    """A network cannot be run on shapes alone."""


def _count(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], size: tuple[int, int]
) -> Complexity:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from harness.models.network import require_tensor

    try:
        network, image = _on_meta(card, scale, hyper, size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            output, activations = _run(network, image)
        total = counter.get_total_flops() // 2
        by_kind = _by_kind(network, counter.get_flop_counts(), total)
    except Exception as error:  # a network may need values, or dislike the size
        raise _NotCountedError(sentence(error).splitlines()[0]) from error
    width, height = (side * card.input_scale(scale) for side in size)
    require_tensor(output, (1, card.channels, height, width), card.name)
    return Complexity(count_parameters(network), total, size, activations, by_kind)


def input_size(card: ModelCard, scale: int, output_size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the network's input for an SR image of the given size.

    Raises:
        UsageError: the SR image is too small.
    """
    width, height = whole_multiples(output_size, scale)
    factor = card.input_scale(scale)
    return width // factor, height // factor


def whole_multiples(output_size: tuple[int, int], scale: int) -> tuple[int, int]:
    """The largest SR image of at most the given width and height that a network can make.

    Raises:
        UsageError: that is none.
    """
    width, height = output_size
    if min(width, height) < scale:
        raise UsageError(f"An output of {width} x {height} pixels is too small for x{scale}.")
    return width - width % scale, height - height % scale


def _on_meta(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], size: tuple[int, int]
) -> tuple[nn.Module, Tensor]:
    import torch

    network = _built_on_meta(card, scale, hyper).eval()
    return network, torch.empty(1, card.channels, size[1], size[0], device="meta")


def _run(network: nn.Module, image: Tensor) -> tuple[object, int]:
    """What the network makes of an image, and how many values its convolutions put out."""
    from torch import nn

    sizes: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _given, made: sizes.append(made.numel()))
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    output = network(image)
    for hook in hooks:
        hook.remove()
    return output, sum(sizes)


def _leaves(network: nn.Module) -> dict[str, str]:
    """Names and kinds of the layers that have no layers inside; shared ones under every name."""
    layers = {
        name: layer
        for name, layer in network.named_modules(remove_duplicate=False)
        if not [*layer.children()]
    }
    names = Counter(map(id, layers.values()))
    return {
        name: _SHARED * (names[id(layer)] > 1) + type(layer).__name__
        for name, layer in layers.items()
    }


def _by_kind(
    network: nn.Module, counts: Mapping[str, Mapping[Any, int]], total: int
) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for name, kind in _leaves(network).items():
        kinds[kind] += sum(counts.get(f"{type(network).__name__}.{name}", {}).values()) // 2
    rest = total - sum(kinds.values())
    return {kind: count for kind, count in {**kinds, "functional": rest}.items() if count}


def thop_macs(card: ModelCard, scale: int, size: tuple[int, int]) -> dict[str, int]:
    """Multiply-accumulate operations by kind of layer as thop counts, or counted, them on a copy.

    They add up to thop's own total.

    Raises:
        HarnessError: the network cannot be built.
    """

    def count() -> dict[str, int]:
        return _count_by_thop(card, scale, size)

    return kept(dict[str, int], count, ("thop", *size), card, scale, {})


def _count_by_thop(card: ModelCard, scale: int, size: tuple[int, int]) -> dict[str, int]:
    import thop

    from harness.models.network import copy_network

    network, image = _on_meta(card, scale, {}, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total, _, layers = thop.profile(
            copy_network(network), inputs=(image,), verbose=False, ret_layer_info=True
        )
    kinds = _leaves(network)
    counted: Counter[str] = Counter()
    for name, count in _flat(layers):
        if name in kinds:
            counted[kinds[name]] += int(count)
    counted[type(network).__name__] += int(total) - sum(counted.values())
    return {kind: count for kind, count in counted.items() if count}


def _flat(layers: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Names and counts of thop's nested answer."""
    for name, (count, _parameters, inner) in layers.items():
        yield before + name, count
        yield from _flat(inner, f"{before}{name}.")


def disagreements(ours: Mapping[str, int], thop: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Where thop counts otherwise than PyTorch: by kind, the difference and its reason."""
    return {
        kind: (thop.get(kind, 0) - ours.get(kind, 0), _reason(kind))
        for kind in sorted(ours.keys() | thop.keys())
        if thop.get(kind, 0) != ours.get(kind, 0)
    }


def _reason(kind: str) -> str:
    if kind.startswith(_SHARED):
        return (
            "counts a layer with several names once for each at every call, and adds up all names"
        )
    return _REASONS.get(kind, "reason not known")


@dataclass(frozen=True)
class Depth:
    """Layers of a network.

    Attributes:
        chain: convolutions on the longest path from input to output.
        convolutions: all of them, side paths included.
        operations: modules of any kind on the longest path: activations, poolings and pixel
            shuffles as well as convolutions.
    """

    chain: int
    convolutions: int
    operations: int


def measure_depth(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> Depth:
    """Count the layers of a network whose path does not depend on values, or find what was counted.

    Raises:
        HarnessError: the network cannot be built.
        torch.fx.proxy.TraceError: its path depends on values.
    """

    def count() -> Depth:
        from torch import fx, nn

        network = _built_on_meta(card, scale, hyper).eval()
        traced = fx.symbolic_trace(network)
        return Depth(
            _longest(traced, lambda module: isinstance(module, nn.Conv2d)),
            sum(isinstance(module, nn.Conv2d) for module in network.modules()),
            _longest(traced, lambda module: True),
        )

    return kept(Depth, count, ("depth",), card, scale, hyper)


def convolution_shapes(
    card: ModelCard, scale: int, hyper: Mapping[str, Any]
) -> Counter[tuple[int, int, int]]:
    """How many convolutions a network has of each input width, output width and kernel side.

    Raises:
        HarnessError: the network cannot be built.
    """

    def count() -> list[tuple[int, int, int]]:
        from torch import nn

        return [
            (module.in_channels, module.out_channels, int(module.kernel_size[0]))
            for module in _built_on_meta(card, scale, hyper).modules()
            if isinstance(module, nn.Conv2d)
        ]

    shapes = kept(list[tuple[int, int, int]], count, ("convolutions",), card, scale, hyper)
    return Counter(shapes)


def receptive_radius(card: ModelCard, scale: int) -> int:
    """Input pixels on each side that an output pixel depends on through convolutions, at most.

    Raises:
        HarnessError: the network cannot be built, or fails on images of every size that is tried.
    """

    def count() -> int:
        from harness.models.upscaler import Upscaler

        return Upscaler(card, scale, None).receptive_radius()

    return kept(int, count, ("receptive radius",), card, scale, {})


def _built_on_meta(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> nn.Module:
    import torch

    from harness.models.network import build_network

    with torch.device("meta"):
        return build_network(card, scale, hyper)


def _longest(traced: fx.GraphModule, counts: Callable[[nn.Module], bool]) -> int:
    """The greatest number of modules that count on any path."""
    reached: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        before = max((reached[source] for source in node.all_input_nodes), default=0)
        is_layer = node.op == "call_module" and counts(traced.get_submodule(node.target))
        reached[node] = before + is_layer
    return max(reached.values())
