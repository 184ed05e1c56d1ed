"""MSRN (Li et al., ECCV 2018): residual blocks of two kernel sizes that exchange features.

The authors published two variants: that of the paper on luma, and a later one on RGB, trained like
EDSR. This is the later one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import Centred, conv, upsampler


class MultiScaleBlock(nn.Module):
    """MSRB: two rounds of 3x3 and 5x5 side by side, joined in between, fused by 1x1, and a skip.

    Source: Eqs. 3 to 8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_3_1 = conv(width, width, 3)
        self.conv_5_1 = conv(width, width, 5)
        self.conv_3_2 = conv(2 * width, 2 * width, 3)
        self.conv_5_2 = conv(2 * width, 2 * width, 5)
        self.confusion = conv(4 * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        first = torch.cat([self.conv_3_1(features), self.conv_5_1(features)], dim=1).relu()
        second = torch.cat([self.conv_3_2(first), self.conv_5_2(first)], dim=1).relu()
        return features + self.confusion(second)


class MSRN(nn.Module):
    """A head, multi-scale blocks, and a tail that takes the outputs of the head and all blocks."""

    def __init__(self, scale: int, blocks: int, width: int) -> None:
        super().__init__()
        self.head = conv(3, width)
        self.body = nn.ModuleList(MultiScaleBlock(width) for _ in range(blocks))
        self.tail = nn.Sequential(
            conv(width * (blocks + 1), width, 1),
            conv(width, width),
            upsampler(scale, width),
            conv(width, 3),
        )

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` centred RGB to ``(N, 3, scale H, scale W)``."""
        shallow = self.head(image)
        features, outputs = shallow, []
        for block in self.body:
            features = block(features)
            outputs.append(features)
        return self.tail(torch.cat([*outputs, shallow], dim=1))


@register_model(
    "msrn",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Li et al., ECCV 2018",
    params=6_078_019,
    layouts="harness.baselines.layouts.msrn:layouts",
)
def msrn(scale: int = 4, *, blocks: int = 8, width: int = 64) -> nn.Module:
    """The authors' RGB variant, 8 blocks of 64 filters: 6,078,019 parameters at x4."""
    return Centred(MSRN(scale, blocks, width), span=255)
