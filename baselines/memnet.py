"""MemNet (Tai et al., ICCV 2017): memory blocks that keep the features of earlier blocks and steps.

This is M6R6 (6 blocks of 6 recursions) with multi-supervision. Convolutions have no bias and come
after batch normalisation and ReLU. The recursions of a block share their convolutions, but each has
its own normalisations, since the distribution of its features differs. The convolutions hold
676,992 values, the paper's "677K"; with the normalisations (16,642) and the weights of the outputs
(6) there are 693,640 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import conv


def activated(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Batch normalisation, ReLU, convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv(inputs, outputs, kernel, bias=False)
    )


class MemoryBlock(nn.Module):
    """A recursive unit and a gate unit (Eqs. 4 to 6).

    The recursions are the short-term memory, all earlier blocks the long-term memory; the gate, a
    1x1 convolution, weighs both.

    Args:
        width: filters.
        recursions: residual steps with the same weights.
        earlier: the number of memories in its input.
    """

    def __init__(self, width: int, recursions: int, earlier: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2 * recursions))
        self.convs = nn.ModuleList(conv(width, width, bias=False) for _ in range(2))
        self.gate = activated((recursions + earlier) * width, width, 1)

    def forward(self, memories: list[Tensor]) -> Tensor:
        """The memories so far, ``(N, width, H, W)`` each, to the next one."""
        state, steps = memories[-1], []
        for start in range(0, len(self.norms), 2):
            inner = state
            for norm, layer in zip(self.norms[start : start + 2], self.convs, strict=True):
                inner = layer(torch.relu(norm(inner)))
            state = state + inner
            steps.append(state)
        return self.gate(torch.cat([*steps, *memories], dim=1))


class MemNet(nn.Module):
    """One layer reconstructs an image from each block's memory; the output is their weighted sum.

    Source: Eqs. 7 to 9.
    """

    def __init__(self, blocks: int, recursions: int, width: int) -> None:
        super().__init__()
        self.extract = activated(1, width)
        self.blocks = nn.ModuleList(MemoryBlock(width, recursions, 1 + n) for n in range(blocks))
        self.reconstruct = activated(width, 1)
        self.shares = nn.Parameter(torch.full((blocks,), 1 / blocks))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 1, H, W)`` enlarged luma in [0, 1] to the same shape."""
        memories = [self.extract(image)]
        for block in self.blocks:
            memories.append(block(memories))
        outputs = [image + self.reconstruct(memory) for memory in memories[1:]]
        return (torch.stack(outputs, dim=-1) * self.shares).sum(-1)


@register_model(
    "memnet",
    pipeline="y",
    input="bicubic",
    scales=(2, 3, 4),
    paper="Tai et al., ICCV 2017",
    params=693_640,
)
def memnet(scale: int = 4, *, blocks: int = 6, recursions: int = 6, width: int = 64) -> nn.Module:
    """M6R6 with 64 filters: 693,640 parameters, 676,992 of them in convolutions."""
    return MemNet(blocks, recursions, width)
