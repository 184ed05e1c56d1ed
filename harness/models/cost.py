"""Count the parameters, operations and layers of a network, and cache the counts by its code."""

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
"""The files of this folder that take part in counting; a change in them may change counts."""

_COUNTED_WITH = ("torch", "thop")
"""The packages that take part in counting."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A file of the cache.

    Attributes:
        count: the count as JSON.
        sha256: the hash of the key and the count.
    """

    count: msgspec.Raw
    sha256: str


def cached_count(
    kind: type[Count],
    count: Callable[[], Count],
    query: Sequence[object],
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    source_sha256: str | None = None,
) -> Count:
    """Return a count from the cache, or count and store it there.

    Errors are not cached, and altered files of the cache are ignored.

    Args:
        kind: the type of the count.
        count: does the counting.
        query: what is counted, and for what size.
        card: the network.
        scale: the factor.
        hyper: the arguments it is built with.
        source_sha256: the result of `harness.models.source.network_digest`, if already computed.

    Raises:
        Exception: whatever ``count`` raises.
    """
    try:
        key = _key(query, card, scale, hyper, source_sha256)
    except Exception:  # such as a network that cannot be built on the meta device
        return count()
    path = cache_root() / "counts" / f"{key}.json"
    with suppress(OSError, ValueError, RecursionError):  # the file is missing or damaged
        return _read(path, key, kind)
    result = count()
    with suppress(OSError):
        _write(path, key, result)
    return result


def _key(
    query: Sequence[object],
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    source_sha256: str | None,
) -> str:
    """SHA-256 of everything that decides a count."""
    declared = [card.name, card.pipeline, card.input, card.scales]
    code = _code(card, scale, hyper, source_sha256)
    return digest([query, declared, scale, hyper, code, _counting()])


@cache
def _counting() -> list[str]:
    """The hashes and versions of the code that counts."""
    ours = [file_digest(Path(__file__).with_name(name)) for name in _COUNTING]
    return [*ours, *map(version, _COUNTED_WITH)]


def _code(card: ModelCard, scale: int, hyper: Mapping[str, Any], source_sha256: str | None) -> str:
    """Hash the code of a network, and for plug-ins also its layers.

    A plug-in may read a width, say, from a file; our own networks are defined by code alone.
    """
    if card.origin.startswith(f"{NETWORKS}."):
        own = card.name, card.source
        if own not in _codes:
            _codes[own] = unbuilt_digest(card)
        return source_sha256 or _codes[own]
    import torch

    from harness.models.network import build_network

    with torch.device("meta"):
        network = build_network(card, scale, hyper)
    shapes = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    layers = re.sub(" at 0x[0-9a-f]+", "", str(network))  # without memory addresses
    return digest([source_sha256 or network_digest(card, scale, hyper), shapes, layers])


_codes: dict[tuple[str, Path | None], str] = {}
"""Hashes of networks, computed once: code that is edited after its import is not run."""


def _read(path: Path, key: str, kind: type[Count]) -> Count:
    """Read a count from the cache.

    Raises:
        OSError: the file is missing, or cannot be read.
        ValueError, RecursionError: the file was altered.
    """
    entry = msgspec.json.decode(regular(path, TEXT).read_bytes(), type=_Entry)
    if entry.sha256 != digest([key, bytes(entry.count).decode()]):
        raise ValueError(f"{path} was altered")
    return msgspec.json.decode(entry.count, type=kind)


def _write(path: Path, key: str, count: object) -> None:
    raw = msgspec.json.encode(count)
    entry = _Entry(msgspec.Raw(raw), digest([key, raw.decode()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_bytes(msgspec.json.encode(entry))


OUTPUT_SIZE = (1280, 720)
"""Width and height of the SR image for which papers usually state multiplications."""

_SHARED = "shared "
"""Prefix for the kind of a layer that has several names in a network."""
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
    """Number of parameters and operations of a network.

    Attributes:
        parameters: trainable values.
        macs: multiply-accumulate operations of one forward pass; FLOPs are twice as many. None
            for a network that cannot be run on the meta device.
        input_size: width and height of the network's input that they are counted for.
        activations: values that convolutions output (as the NTIRE challenges count them).
        by_kind: the operations by kind of layer; ``functional`` for those outside layers.
        obstacle: why operations could not be counted; empty if they were.
    """

    parameters: int
    macs: int | None
    input_size: tuple[int, int]
    activations: int | None = None
    by_kind: Mapping[str, int] | None = None
    obstacle: str = ""


def count_parameters(network: nn.Module) -> int:
    """Count the trainable values of a network, shared ones once."""
    return sum(p.numel() for p in network.parameters())


def measure_complexity(
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    output_size: tuple[int, int] = OUTPUT_SIZE,
    source_sha256: str | None = None,
) -> Complexity:
    """Count on the meta device, which computes shapes but no values; counts are cached.

    Args:
        card: the model.
        scale: the factor.
        hyper: the arguments it is built with.
        output_size: width and height of the SR image; the input is smaller by the scale.
        source_sha256: the result of `harness.models.source.network_digest`, if already computed.

    Raises:
        HarnessError: the network cannot be built, or does not return a tensor.
        UsageError: the output is too small.
    """
    size = input_size(card, scale, output_size)

    def count() -> Complexity:
        return _count(card, scale, hyper, size)

    try:
        query = "complexity", *size
        return cached_count(Complexity, count, query, card, scale, hyper, source_sha256)
    except _NotCountedError as error:
        from harness.models.network import build_network

        network = build_network(card, scale, hyper)
        return Complexity(count_parameters(network), None, size, obstacle=str(error))


class _NotCountedError(Exception):
    """A network cannot be run on the meta device."""


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
    except Exception as error:  # a network may need values, or refuse the size
        raise _NotCountedError(sentence(error).splitlines()[0]) from error
    width, height = (side * card.input_scale(scale) for side in size)
    require_tensor(output, (1, card.channels, height, width), card.name)
    return Complexity(count_parameters(network), total, size, activations, by_kind)


def input_size(card: ModelCard, scale: int, output_size: tuple[int, int]) -> tuple[int, int]:
    """Compute width and height of the network's input for an SR image of the given size.

    Raises:
        UsageError: the SR image is too small.
    """
    width, height = whole_multiples(output_size, scale)
    factor = card.input_scale(scale)
    return width // factor, height // factor


def whole_multiples(output_size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Round an output size down to multiples of the scale.

    Raises:
        UsageError: the output is too small.
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
    """Run a network; return its output and the number of values that its convolutions output."""
    from torch import nn

    sizes: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(output.numel()))
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    output = network(image)
    for hook in hooks:
        hook.remove()
    return output, sum(sizes)


def _leaves(network: nn.Module) -> dict[str, str]:
    """Names and kinds of layers without children; a shared layer has an entry for each name."""
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
    """Count multiply-accumulate operations by kind of layer with thop; counts are cached.

    They add up to thop's own total.

    Raises:
        HarnessError: the network cannot be built.
    """

    def count() -> dict[str, int]:
        return _count_by_thop(card, scale, size)

    return cached_count(dict[str, int], count, ("thop", *size), card, scale, {})


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
    counts: Counter[str] = Counter()
    for name, count in _flat(layers):
        if name in kinds:
            counts[kinds[name]] += int(count)
    counts[type(network).__name__] += int(total) - sum(counts.values())
    return {kind: count for kind, count in counts.items() if count}


def _flat(layers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the names and counts of thop's nested result."""
    for name, (count, _parameters, inner) in layers.items():
        yield prefix + name, count
        yield from _flat(inner, f"{prefix}{name}.")


def disagreements(ours: Mapping[str, int], thop: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    """Compare the counts of thop and PyTorch: by kind, the difference and its reason."""
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
    """The number of layers of a network.

    Attributes:
        chain: convolutions on the longest path from input to output.
        convolutions: all convolutions, including those on side paths.
        operations: modules of any kind on the longest path: activations, poolings and pixel
            shuffles as well as convolutions.
    """

    chain: int
    convolutions: int
    operations: int


def measure_depth(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> Depth:
    """Count the layers of a network that `torch.fx` can trace; counts are cached.

    Raises:
        HarnessError: the network cannot be built.
        torch.fx.proxy.TraceError: its control flow depends on values.
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

    return cached_count(Depth, count, ("depth",), card, scale, hyper)


def convolution_shapes(
    card: ModelCard, scale: int, hyper: Mapping[str, Any]
) -> Counter[tuple[int, int, int]]:
    """Count the convolutions of a network by input channels, output channels and kernel side.

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

    shapes = cached_count(list[tuple[int, int, int]], count, ("convolutions",), card, scale, hyper)
    return Counter(shapes)


def receptive_radius(card: ModelCard, scale: int) -> int:
    """Count the input pixels on each side that an output pixel can depend on, at most.

    Raises:
        HarnessError: the network cannot be built, or fails on images of every size that is tried.
    """

    def count() -> int:
        from harness.models.upscaler import Upscaler

        return Upscaler(card, scale, None).receptive_radius()

    return cached_count(int, count, ("receptive radius",), card, scale, {})


def _built_on_meta(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> nn.Module:
    import torch

    from harness.models.network import build_network

    with torch.device("meta"):
        return build_network(card, scale, hyper)


def _longest(traced: fx.GraphModule, is_counted: Callable[[nn.Module], bool]) -> int:
    """Count the selected modules on the path that has most of them."""
    lengths: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        before = max((lengths[source] for source in node.all_input_nodes), default=0)
        is_layer = node.op == "call_module" and is_counted(traced.get_submodule(node.target))
        lengths[node] = before + is_layer
    return max(lengths.values())
