"""DCSR (Zhang et al., TIP 2019): ordinary and dilated convolutions side by side in every layer.

No code or weights were published. This implementation follows the paper's abstract: "We mix
standard convolutions and dilated convolutions in each layer"; their features "are concatenated";
"a 20-layer deep network"; several scales in a single network. Our own choices, which the abstract
does not state: half of the 64 filters of a layer have dilation 2; the first and the last layer are
ordinary; the input is the enlarged luma, to which the output is added. The number of parameters is
that of VDSR.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import conv


class MixedConv(nn.Module):
    """A 3x3 convolution and a dilated one on the same features, ``width / 2`` filters each."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.standard = conv(width, width // 2)
        self.dilated = nn.Conv2d(width, width // 2, 3, padding=dilation, dilation=dilation)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        return torch.cat([self.standard(features), self.dilated(features)], dim=1)


class DCSR(nn.Module):
    """An ordinary layer, mixed layers, an ordinary layer, and a global skip."""

    def __init__(self, depth: int, width: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(1, width), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [MixedConv(width, dilation), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, conv(width, 1))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 1, H, W)`` enlarged luma in [0, 1] to the same shape."""
        return image + self.body(image)


@register_model(
    "dcsr",
    pipeline="y",
    input="bicubic",
    scales=(2, 3, 4),
    paper="Zhang et al., TIP 2019",
    params=665_921,
)
def dcsr(scale: int = 4, *, depth: int = 20, width: int = 64, dilation: int = 2) -> nn.Module:
    """20 layers of 64 filters with the choices of this module: 665,921 parameters."""
    return DCSR(depth, width, dilation)
