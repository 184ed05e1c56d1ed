"""SRMDNF (Zhang et al., CVPR 2018): a plain network whose input includes the degradation.

This is the noise-free network. Besides the image it takes the blur kernel, projected on 15
principal components and repeated at every pixel. For bicubic degradation the kernel has no blur.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import conv

NO_BLUR = (
    -1.1236096e-08,
    -1.3689916e-08,
    0.018563796,
    2.8606689e-08,
    0.033529297,
    8.372729e-08,
    -2.54424e-07,
    -0.031623498,
    -0.013516925,
    -1.1046609e-08,
    0.03847538,
    3.7946574e-08,
    -0.24491675,
    -0.8022135,
    -0.54054976,
)
"""The 15 x 15 unit impulse in the authors' basis, ``P @ vec(impulse)`` with the matrix P of
``srmd_pca_matlab.mat``."""


class SRMDNF(nn.Module):
    """3x3 convolutions and ReLU on image and degradation, then a pixel shuffle."""

    def __init__(self, scale: int, depth: int, width: int) -> None:
        super().__init__()
        planes = torch.tensor(NO_BLUR).reshape(1, -1, 1, 1)
        self.register_buffer("degradation", planes, persistent=False)
        layers: list[nn.Module] = [conv(3 + len(NO_BLUR), width), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(width, width), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, conv(width, 3 * scale**2), nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB in [0, 1] to ``(N, 3, scale H, scale W)``."""
        count, _, height, width = image.shape
        planes = self.get_buffer("degradation").expand(count, -1, height, width)
        return self.body(torch.cat([image, planes], dim=1))


@register_model(
    "srmdnf",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Zhang et al., CVPR 2018",
    params=1_552_048,
    layouts="harness.baselines.layouts.srmdnf:layouts",
)
def srmdnf(scale: int = 4, *, depth: int = 12, width: int = 128) -> nn.Module:
    """12 layers of 128 filters, without batch normalisation: 1,552,048 parameters at x4."""
    return SRMDNF(scale, depth, width)
