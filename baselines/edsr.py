"""EDSR (Lim et al., CVPRW 2017): residual blocks without batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from harness.registry import register_model

from .layers import Centred, conv, upsampler


class ResidualBlock(nn.Module):
    """x + scaling * conv(ReLU(conv(x)))."""

    def __init__(self, width: int, scaling: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.ReLU(inplace=True), conv(width, width))
        self.scaling = scaling

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        return features + self.scaling * self.body(features)


class EDSR(nn.Module):
    """Head, residual blocks with a long skip, pixel-shuffle tail."""

    def __init__(self, scale: int, blocks: int, width: int, scaling: float) -> None:
        super().__init__()
        self.head = conv(3, width)
        residuals = [ResidualBlock(width, scaling) for _ in range(blocks)]
        self.body = nn.Sequential(*residuals, conv(width, width))
        self.tail = nn.Sequential(upsampler(scale, width), conv(width, 3))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` centred RGB to ``(N, 3, scale H, scale W)``."""
        shallow = self.head(image)
        return self.tail(shallow + self.body(shallow))


@register_model(
    "edsr",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Lim et al., CVPRW 2017",
    params=43_089_923,
    stand_in="edsr-baseline",
    layouts="harness.baselines.layouts.edsr:layouts",
)
def edsr(scale: int = 4, *, blocks: int = 32, width: int = 256, scaling: float = 0.1) -> nn.Module:
    """The network of the paper: 32 blocks of 256 filters, residuals scaled by 0.1."""
    return Centred(EDSR(scale, blocks, width, scaling), span=255)


@register_model(
    "edsr-baseline",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Lim et al., CVPRW 2017",
    params=1_517_571,
    layouts="harness.baselines.layouts.edsr:layouts",
)
def edsr_baseline(
    scale: int = 4, *, blocks: int = 16, width: int = 64, scaling: float = 1.0
) -> nn.Module:
    """The authors' small network: 16 blocks of 64 filters."""
    return edsr(scale, blocks=blocks, width=width, scaling=scaling)
