"""How large a network is and how much it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.models.inference import build_network

if TYPE_CHECKING:
    from torch import nn

    from harness.specs import ModelCard

OUTPUT_SIZE = (1280, 720)
"""Width and height of the output for which multiplications are stated, as papers do."""


@dataclass(frozen=True)
class Complexity:
    """Size and work of a network.

    Attributes:
        parameters: trainable values.
        macs: multiply-accumulate operations of one forward pass; FLOPs are twice as many. None
            for a network that cannot be run on shapes alone.
        input_size: width and height of the network's input they are stated for.
    """

    parameters: int
    macs: int | None
    input_size: tuple[int, int]


def count_parameters(network: nn.Module) -> int:
    """Trainable values, shared ones once."""
    return sum(p.numel() for p in network.parameters())


def measure_complexity(card: ModelCard, scale: int, hyper: Mapping[str, Any]) -> Complexity:
    """Count on the meta device, which computes shapes and no values.

    Raises:
        HarnessError: the network cannot be built.
    """
    factor = card.input_scale(scale)
    width, height = (side // factor for side in OUTPUT_SIZE)
    try:
        with torch.device("meta"):
            network = build_network(card, scale, hyper).eval()
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(torch.empty(1, card.channels, height, width))
        macs = counter.get_total_flops() // 2
    except Exception:  # a network may need values, or dislike the size
        network, macs = build_network(card, scale, hyper), None
    return Complexity(count_parameters(network), macs, (width, height))
