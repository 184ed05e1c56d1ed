"""Count the parameters, operations and layers of a network, and cache the counts by its code."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, TypeVar

import msgspec

from harness.data.pinned import cache_root
from harness.errors import HarnessError, UsageError, sentence
from harness.files import TEXT, regular, write_atomically
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


CountFunction = Callable[Concatenate["ModelCard", int, Mapping[str, Any], ...], Count]
"""Counts something of a network for a card, a scale, hyper parameters and perhaps a size."""


def cached(kind: type[Count]) -> Callable[[Callable[..., Count]], CountFunction[Count]]:
    """Cache the results of a function of a card, a scale, hyper parameters and perhaps a size.

    Errors are not cached, and altered files of the cache are ignored. The function also takes
    ``source_sha256``, the result of `harness.models.source.network_digest`, if already computed.
    """

    def decorate(count: Callable[..., Count]) -> CountFunction[Count]:
        @wraps(count)
        def found(
            card: ModelCard,
            scale: int,
            hyper: Mapping[str, Any],
            *size: int,
            source_sha256: str | None = None,
        ) -> Count:
            try:
                declared = [card.name, card.pipeline, card.input, card.scales]
                code = _code(card, scale, hyper, source_sha256)
                key = digest([count.__name__, size, declared, scale, hyper, code, _counting()])
            except Exception:  # such as a network that cannot be built on the meta device
                return count(card, scale, hyper, *size)
            path = cache_root() / "counts" / f"{key}.json"
            with suppress(OSError, ValueError):  # the file is missing or damaged
                return _read(path, key, kind)
            result = count(card, scale, hyper, *size)
            with suppress(OSError):
                _write(path, key, result)
            return result

        return found

    return decorate


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
        return source_sha256 or _own_code(card)
    network = _on_meta(card, scale, hyper)
    shapes = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    layers = re.sub(" at 0x[0-9a-f]+", "", str(network))  # without memory addresses
    return digest([source_sha256 or network_digest(card, scale, hyper), shapes, layers])


_own_code = cache(unbuilt_digest)
"""The hash of a network, computed once: code that is edited after its import is not run."""


def _read(path: Path, key: str, kind: type[Count]) -> Count:
    """Read a count from the cache.

    Raises:
        OSError: the file is missing, or cannot be read.
        ValueError: the file was altered.
    """
    sha256, count = msgspec.json.decode(regular(path, TEXT).read_bytes(), type=tuple[str, str])
    if sha256 != digest([key, count]):
        raise ValueError(f"{path} was altered")
    return msgspec.json.decode(count, type=kind)


def _write(path: Path, key: str, result: object) -> None:
    """Write a count as JSON, after the hash of the key and of that text."""
    count = msgspec.json.encode(result).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode((digest([key, count]), count)))


OUTPUT_SIZE = (1280, 720)
"""Width and height of the SR image for which papers usually state multiplications."""

_SHARED = "shared "
"""Prefix for the kind of a layer that has several names in a network."""
_NORMALISED = "counts element-wise scaling, which is no convolution"
_ENLARGED = "counts interpolation, which is no convolution"
_POOLED = "counts the sums of pooling, which are no convolution"
_REASONS = {
    _SHARED: "counts a layer with several names once for each at every call, and adds up all names",
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

    ``output_size`` is width and height of the SR image; the input is smaller by the scale.

    Raises:
        HarnessError: the network cannot be built, or does not return a tensor.
        UsageError: the output is too small.
    """
    size = input_size(card, scale, output_size)
    try:
        return _count(card, scale, hyper, *size, source_sha256=source_sha256)
    except _NotCountedError as error:
        from harness.models.network import build_network

        network = build_network(card, scale, hyper)
        return Complexity(count_parameters(network), None, size, obstacle=str(error))


class _NotCountedError(Exception):
    """A network cannot be run on the meta device."""


@cached(Complexity)
def _count(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], width: int, height: int
) -> Complexity:
    from harness.models.network import require_tensor

    try:
        network = _on_meta(card, scale, hyper)
        output, activations, by_kind = _run(network, _image(card, width, height))
    except Exception as error:  # a network may need values, or refuse the size
        raise _NotCountedError(sentence(error).splitlines()[0]) from error
    factor = card.input_scale(scale)
    require_tensor(output, (1, card.channels, height * factor, width * factor), card.name)
    macs = sum(by_kind.values())
    return Complexity(count_parameters(network), macs, (width, height), activations, by_kind)


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


def _on_meta(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> nn.Module:
    """Build a network on the meta device, in evaluation mode."""
    import torch

    from harness.models.network import build_network

    with torch.device("meta"):
        return build_network(card, scale, hyper).eval()


def _image(card: ModelCard, width: int, height: int) -> Tensor:
    import torch

    return torch.empty(1, card.channels, height, width, device="meta")


def _run(network: nn.Module, image: Tensor) -> tuple[object, int, dict[str, int]]:
    """Run a network.

    Returns:
        its output, the number of values that its convolutions output, and the multiply-accumulate
        operations by kind of layer, in the order of the layers.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import flop_registry

    from harness.models.network import EachOperation

    sizes: list[int] = []
    kinds = _leaves(network)
    counts = dict.fromkeys([*kinds.values(), "functional"], 0)
    running = ["functional"]

    def add(operation: Any, args: Any, kwargs: Any, result: object) -> None:
        if operation.overloadpacket in flop_registry:
            flops = flop_registry[operation.overloadpacket](*args, **kwargs, out_val=result)
            counts[running[-1]] += flops // 2

    for name, layer in network.named_modules():
        if name in kinds:
            layer.register_forward_pre_hook(lambda *_, kind=kinds[name]: running.append(kind))
            layer.register_forward_hook(lambda *_: running.pop() and None)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda _layer, _inputs, made: sizes.append(made.numel()))
    with torch.no_grad(), EachOperation(add):
        output = network(image)
    return output, sum(sizes), {kind: count for kind, count in counts.items() if count}


def _leaves(network: nn.Module) -> dict[str, str]:
    """Names and kinds of layers without children; a shared layer has an entry for each name."""
    layers = {
        name: layer
        for name, layer in network.named_modules(remove_duplicate=False)
        if name and not [*layer.children()]
    }
    names = Counter(map(id, layers.values()))
    return {
        name: _SHARED * (names[id(layer)] > 1) + type(layer).__name__
        for name, layer in layers.items()
    }


@cached(dict[str, int])
def thop_macs(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], width: int, height: int
) -> dict[str, int]:
    """Count multiply-accumulate operations by kind of layer with thop; counts are cached.

    They add up to thop's own total. ``width`` and ``height`` are those of the network's input.

    Raises:
        HarnessError: the network cannot be built.
    """
    import thop

    from harness.models.network import copy_network

    network = _on_meta(card, scale, hyper)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total, _, layers = thop.profile(
            copy_network(network),
            inputs=(_image(card, width, height),),
            verbose=False,
            ret_layer_info=True,
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
    differing = {}
    for kind in sorted(ours.keys() | thop.keys()):
        if gap := thop.get(kind, 0) - ours.get(kind, 0):
            reason = _REASONS.get(_SHARED if kind.startswith(_SHARED) else kind)
            differing[kind] = gap, reason or "reason not known"
    return differing


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


@cached(Depth)
def measure_depth(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> Depth:
    """Count the layers of a network that `torch.fx` can trace; counts are cached.

    Raises:
        HarnessError: the network cannot be built, or its control flow depends on values.
    """
    from torch import fx, nn

    network = _on_meta(card, scale, hyper)
    try:
        traced = fx.symbolic_trace(network)
    except Exception as error:  # plug-in code may raise anything
        message = f"torch.fx cannot trace {card.name} ({sentence(error).splitlines()[0]})."
        raise HarnessError(message) from error
    return Depth(
        _longest(traced, nn.Conv2d),
        sum(isinstance(module, nn.Conv2d) for module in traced.modules()),
        _longest(traced, nn.Module),
    )


def _longest(traced: fx.GraphModule, kind: type[nn.Module]) -> int:
    """Count the modules of a kind on the path that has most of them."""
    lengths: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        before = max((lengths[source] for source in node.all_input_nodes), default=0)
        is_layer = node.op == "call_module" and isinstance(traced.get_submodule(node.target), kind)
        lengths[node] = before + is_layer
    return max(lengths.values())


@cached(list[tuple[int, int, int]])
def convolution_shapes(
    card: ModelCard, scale: int, hyper: Mapping[str, Any]
) -> list[tuple[int, int, int]]:
    """List the input channels, output channels and kernel side of each convolution; cached.

    Raises:
        HarnessError: the network cannot be built.
    """
    from torch import nn

    return [
        (module.in_channels, module.out_channels, int(module.kernel_size[0]))
        for module in _on_meta(card, scale, hyper).modules()
        if isinstance(module, nn.Conv2d)
    ]


@cached(int)
def receptive_radius(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> int:
    """Count the input pixels on each side that an output pixel can depend on, at most; cached.

    Raises:
        HarnessError: the network cannot be built, or fails on images of every size that is tried.
    """
    from harness.models.upscaler import Upscaler

    network = _on_meta(card, scale, hyper)
    return Upscaler(card, scale, None, device="meta", network=network).receptive_radius()
