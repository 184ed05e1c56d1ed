"""RDN (Zhang et al., CVPR 2018): residual dense blocks with local and global feature fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import conv, upsampler


class ResidualDenseBlock(nn.Module):
    """Densely connected convolutions, fused by 1x1 and added to the input (Eqs. 5 to 7)."""

    def __init__(self, width: int, growth: int, convs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(width + i * growth, growth) for i in range(convs))
        self.fusion = conv(width + convs * growth, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        dense = features
        for layer in self.convs:
            dense = torch.cat([dense, torch.relu(layer(dense))], dim=1)
        return features + self.fusion(dense)


class RDN(nn.Module):
    """Two shallow convolutions, dense blocks, global fusion, pixel-shuffle upsampling."""

    def __init__(self, scale: int, blocks: int, convs: int, growth: int, width: int) -> None:
        super().__init__()
        self.shallow1 = conv(3, width)
        self.shallow2 = conv(width, width)
        self.blocks = nn.ModuleList(ResidualDenseBlock(width, growth, convs) for _ in range(blocks))
        self.fusion = nn.Sequential(conv(blocks * width, width, 1), conv(width, width))
        self.tail = nn.Sequential(upsampler(scale, width), conv(width, 3))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB in [0, 1] to ``(N, 3, scale H, scale W)``."""
        first = self.shallow1(image)
        features, outputs = self.shallow2(first), []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        return self.tail(first + self.fusion(torch.cat(outputs, dim=1)))


@register_model(
    "rdn",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Zhang et al., CVPR 2018",
    params=22_271_107,
    layouts="harness.baselines.layouts.rdn:layouts",
)
def rdn(
    scale: int = 4, *, blocks: int = 16, convs: int = 8, growth: int = 64, width: int = 64
) -> nn.Module:
    """D = 16 blocks of C = 8 convolutions, growth 64, with a two-step pixel shuffle at x4."""
    return RDN(scale, blocks, convs, growth, width)
