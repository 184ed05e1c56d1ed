"""LapSRN (Lai et al., CVPR 2017): a Laplacian pyramid that doubles the image level by level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import conv


def leaky() -> nn.Module:
    """Make the activation that follows every convolution of the features."""
    return nn.LeakyReLU(0.2, inplace=True)


class Level(nn.Module):
    """Doubles features and image, and adds to the image the residual found in the features."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [conv(width, width), leaky()]
        self.body = nn.Sequential(*layers)
        self.enlarge = nn.ConvTranspose2d(width, width, 3, stride=2)
        self.activation = leaky()
        self.residual = conv(width, 1)
        self.enlarge_image = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
        with torch.no_grad():  # starts as bilinear interpolation
            ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
            self.enlarge_image.weight.copy_(torch.outer(ramp, ramp))

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, width, H, W)`` and ``(N, 1, H, W)`` to the same at twice the size."""
        # A kernel of 3 adds one row and one column to the doubled size; the authors cut the last.
        larger = self.enlarge(self.body(features))[:, :, :-1, :-1]
        features = self.activation(larger)
        return features, self.enlarge_image(image) + self.residual(features)


class LapSRN(nn.Module):
    """One convolution, then ``levels`` levels."""

    def __init__(self, levels: int, depth: int, width: int) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(1, width), leaky())
        self.levels = nn.ModuleList(Level(depth, width) for _ in range(levels))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 1, H, W)`` luma in [0, 1] to ``(N, 1, 2**levels H, 2**levels W)``."""
        features = self.head(image)
        for level in self.levels:
            features, image = level(features, image)
        return image


@register_model(
    "lapsrn",
    pipeline="y",
    input="lr",
    scales=(2, 4),
    paper="Lai et al., CVPR 2017",
    params=814_242,
    layouts="harness.baselines.layouts.lapsrn:layouts",
)
def lapsrn(scale: int = 4, *, depth: int = 10, width: int = 64) -> nn.Module:
    """Ten convolutions of 64 filters per level, no shared weights: 814,242 parameters at x4."""
    return LapSRN(scale.bit_length() - 1, depth, width)
