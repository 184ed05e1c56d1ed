"""IMDN (Hui et al., ACM Multimedia 2019) as a plug-in: ``--plugin docs/imdn.py``.

It shows how a network outside the harness looks, and is the subject of the paper ``imdn2019``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.registry import register_model

SLOPE = 0.05
"""Of the leaky ReLU."""


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Make a convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class ContrastAttention(nn.Module):
    """CCA: weights channels by their standard deviation plus their mean over the image."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            conv(width, width // reduction, 1),
            nn.ReLU(),
            conv(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        mean = features.mean(dim=(2, 3), keepdim=True)
        deviation = (features - mean).pow(2).mean(dim=(2, 3), keepdim=True).sqrt()
        return features * self.conv_du(deviation + mean)


class MultiDistillationBlock(nn.Module):
    """IMDB: three times, a quarter of the features is kept and the rest refined further."""

    def __init__(self, width: int, distillation: float) -> None:
        super().__init__()
        kept = int(width * distillation)
        self.sizes = [kept, width - kept]
        self.c1 = conv(width, width, 3)
        self.c2 = conv(width - kept, width, 3)
        self.c3 = conv(width - kept, width, 3)
        self.c4 = conv(width - kept, kept, 3)
        self.act = nn.LeakyReLU(SLOPE)
        self.cca = ContrastAttention(4 * kept)
        self.c5 = conv(4 * kept, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        rest, distilled = features, []
        for refine in (self.c1, self.c2, self.c3):
            kept, rest = torch.split(self.act(refine(rest)), self.sizes, dim=1)
            distilled.append(kept)
        joined = torch.cat([*distilled, self.c4(rest)], dim=1)
        return features + self.c5(self.cca(joined))


class IMDN(nn.Module):
    """A head, blocks whose outputs are collected (IIC), a long skip, and one pixel shuffle.

    The layers have the names of the authors' code.
    """

    def __init__(self, scale: int, blocks: int, width: int, distillation: float) -> None:
        super().__init__()
        self.fea_conv = conv(3, width, 3)
        self.blocks = [f"IMDB{number}" for number in range(1, blocks + 1)]
        for name in self.blocks:
            self.add_module(name, MultiDistillationBlock(width, distillation))
        self.c = nn.Sequential(conv(width * blocks, width, 1), nn.LeakyReLU(SLOPE))
        self.LR_conv = conv(width, width, 3)
        self.upsampler = nn.Sequential(conv(width, 3 * scale**2, 3), nn.PixelShuffle(scale))

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 3, scale H, scale W)``, both in about [0, 1]."""
        shallow = features = self.fea_conv(image)
        outputs = []
        for name in self.blocks:
            features = self.get_submodule(name)(features)
            outputs.append(features)
        collected = self.LR_conv(self.c(torch.cat(outputs, dim=1)))
        return self.upsampler(collected + shallow)


@register_model(
    "imdn",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Hui et al., ACM Multimedia 2019",
    params=715_176,
    global_pooling=True,
)
def imdn(
    scale: int = 4, *, blocks: int = 6, width: int = 64, distillation: float = 0.25
) -> nn.Module:
    """The network of the paper, 6 blocks of 64 features: 715,176 parameters at x4."""
    return IMDN(scale, blocks, width, distillation)
