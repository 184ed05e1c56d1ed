"""Layers that several networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of R, G and B over the DIV2K training images, in [0, 1] (Lim et al., CVPRW 2017)."""


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Conv2d:
    """Make a convolution with bias that keeps the size (zero padding by default)."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]


def upsampler(scale: int, width: int) -> nn.Sequential:
    """Sub-pixel upsampling ``(N, width, H, W)`` to ``(N, width, scale H, scale W)``.

    x3 takes one step; powers of two take one step of x2 each.

    Source: Shi et al., CVPR 2016 (ESPCN), in the steps of Lim et al., CVPRW 2017.

    Raises:
        ValueError: the scale is neither 3 nor a power of two.
    """
    if scale == 3:
        factors = [3]
    elif scale >= 2 and scale.bit_count() == 1:
        factors = [2] * int(math.log2(scale))
    else:
        raise ValueError(f"a pixel-shuffle upsampler makes x2, x3, x4, x8, not x{scale}")
    steps: list[nn.Module] = []
    for factor in factors:
        steps += [conv(width, width * factor**2), nn.PixelShuffle(factor)]
    return nn.Sequential(*steps)


class Centred(nn.Module):
    """Runs a network on ``(x - mean) * span`` and undoes both on its output.

    Args:
        body: the network, on zero-centred RGB.
        span: the range it works in, 1 or 255.
    """

    def __init__(self, body: nn.Module, span: float = 1.0) -> None:
        super().__init__()
        self.body = body
        self.span = span
        mean = torch.tensor(DIV2K_MEAN).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 3, scale H, scale W)``, both in about [0, 1]."""
        mean = self.get_buffer("mean")
        return self.body((image - mean) * self.span) / self.span + mean
