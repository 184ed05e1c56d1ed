"""How deep a network is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from harness.models.inference import build_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.specs import ModelCard


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
    """Count the layers of a network whose path does not depend on values.

    Raises:
        HarnessError: the network cannot be built.
        torch.fx.proxy.TraceError: its path depends on values.
    """
    with torch.device("meta"):
        network = build_network(card, scale, hyper).eval()
    traced = fx.symbolic_trace(network)
    return Depth(
        _longest(traced, lambda module: isinstance(module, nn.Conv2d)),
        sum(isinstance(module, nn.Conv2d) for module in network.modules()),
        _longest(traced, lambda module: True),
    )


def convolution_shapes(
    card: ModelCard, scale: int, hyper: Mapping[str, Any]
) -> Counter[tuple[int, int, int]]:
    """How many convolutions a network has of each input width, output width and kernel side.

    Raises:
        HarnessError: the network cannot be built.
    """
    with torch.device("meta"):
        network = build_network(card, scale, hyper)
    return Counter(
        (module.in_channels, module.out_channels, int(module.kernel_size[0]))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    )


def _longest(traced: fx.GraphModule, counts: Callable[[nn.Module], bool]) -> int:
    """The greatest number of modules that count on any path."""
    reached: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        before = max((reached[source] for source in node.all_input_nodes), default=0)
        is_layer = node.op == "call_module" and counts(traced.get_submodule(node.target))
        reached[node] = before + is_layer
    return max(reached.values())
