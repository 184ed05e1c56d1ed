"""How deep a network is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.models.counts import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import fx, nn

    from harness.cards import ModelCard


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

        network = _on_meta(card, scale, hyper).eval()
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
            for module in _on_meta(card, scale, hyper).modules()
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
        from harness.models.inference import Upscaler

        return Upscaler(card, scale, None).receptive_radius()

    return kept(int, count, ("receptive radius",), card, scale, {})


def _on_meta(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> nn.Module:
    import torch

    from harness.models.inference import build_network

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
