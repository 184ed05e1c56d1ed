"""DRFN (Wang et al., J. Phys.: Conf. Ser. 1693, 2020), the subject of this harness.

The paper is ambiguous in places; each of our choices has a name here.

Residual block
    The paper claims 5.2M parameters for 16 groups of 8 residual blocks with 64 filters. One 3x3
    convolution per block gives 5,207,203, two (the usual block) give 9,933,987. ``drfn`` uses one,
    which agrees with the claim; ``drfn-2conv`` uses two.
Input of the first fusion
    Adjacent features are fused in pairs (F_{g-1}, F_g) for g = 1 to 16, F_0 being the shallow
    feature; 16 fusions are part of the count above.
Range of the input
    Not stated; the RGB mean of DIV2K is subtracted and added back, as in EDSR.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harness.registry import register_model

from .layers import Centred, conv, upsampler


class ChannelAttention(nn.Module):
    """CAM, the Phi_CA of Eq. 5: one weight in (0, 1) for each channel.

    Global average pooling, 1x1 to ``width / reduction``, ReLU, 1x1 back, sigmoid (Section 3.3:
    reduction ratio 16, "thus channel-downscaling has 4 filters").
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv(width, width // reduction, 1),
            nn.ReLU(inplace=True),
            conv(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W)`` to its product with Phi_CA, the same shape."""
        return features * self.gate(features)


class SpatialAttention(nn.Module):
    """SAM, the Phi_SA of Eq. 5: one weight in (0, 1) for each position.

    Mean and maximum over the channels, a 7x7 convolution, sigmoid (Woo et al., ECCV 2018, which
    the paper follows; Section 3.3: "The convolution kernel of SAM is 7x7").
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(2, 1, 7)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W)`` to its product with Phi_SA, the same shape."""
        summary = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.conv(summary))


class ResidualBlock(nn.Module):
    """x + conv(ReLU(x)), or x + conv(ReLU(conv(x))) with two convolutions (X_{g,m} of Eq. 5).

    The paper does not state the initialisation. Here the last convolution starts at a tenth of
    He's values, so that 128 blocks in a row begin close to the identity (as in Wang et al., ECCVW
    2018); with PyTorch's default the features grow until the first outputs are near 75.
    """

    def __init__(self, width: int, convs: int) -> None:
        super().__init__()
        first = [conv(width, width)] if convs == 2 else []
        # Not in place: with one convolution the ReLU reads the block's own input.
        last = conv(width, width)
        nn.init.kaiming_normal_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            last.weight *= 0.1
        self.body = nn.Sequential(*first, nn.ReLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        return features + self.body(features)


class ResidualAttentionGroup(nn.Module):
    """RAG, Eq. 5: F_g = Phi_SA(Phi_CA(X) X) Phi_CA(X) X + F_{g-1}, X after M residual blocks."""

    def __init__(self, width: int, blocks: int, convs: int, reduction: int, skip: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(width, convs) for _ in range(blocks)))
        self.channel_attention = ChannelAttention(width, reduction)
        self.spatial_attention = SpatialAttention()
        self.skip = skip

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        refined = self.spatial_attention(self.channel_attention(self.blocks(features)))
        return refined + features if self.skip else refined


class FeatureFusion(nn.Module):
    """FF, one term of Eq. 6: two adjacent features joined, convolved 1x1, refined by SAM."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(2 * width, width, 1)
        self.attention = SpatialAttention()

    def forward(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Two ``(N, width, H, W)`` to one."""
        return self.attention(self.conv(torch.cat([earlier, later], dim=1)))


class FeatureFusionGroup(nn.Module):
    """FFG, Eq. 2: F_DF = Phi_RA(F_0) + sum over g of FF(F_{g-1}, F_g) + F_0.

    Phi_RA is the chain of groups followed by a 3x3 convolution; F_0 is the shallow feature.
    Without ``fusion`` the sum is left out; without ``skip`` the last term is left out.
    """

    def __init__(self, width: int, groups: nn.ModuleList, *, fusion: bool, skip: bool) -> None:
        super().__init__()
        self.groups = groups
        self.tail = conv(width, width)
        self.fusions = nn.ModuleList(FeatureFusion(width) for _ in groups) if fusion else None
        self.skip = skip

    def forward(self, shallow: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        features = [shallow]
        for group in self.groups:
            features.append(group(features[-1]))
        deep = self.tail(features[-1])
        for fuse, pair in zip(self.fusions or (), pairwise(features), strict=False):
            deep = deep + fuse(*pair)
        return deep + shallow if self.skip else deep


class DRFN(nn.Module):
    """Eqs. 1 to 3: I_SR = Phi_REC(Phi_UP(F_DF)), F_DF = FFG(Phi_SF1(I_LR)).

    Phi_SF1 and Phi_REC are 3x3 convolutions, Phi_UP is ESPCN's sub-pixel upsampling.
    """

    def __init__(self, scale: int, width: int, deep: nn.Module) -> None:
        super().__init__()
        self.shallow = conv(3, width)
        self.deep = deep
        self.upscale = upsampler(scale, width)
        self.reconstruct = conv(width, 3)

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` centred RGB to ``(N, 3, scale H, scale W)``."""
        return self.reconstruct(self.upscale(self.deep(self.shallow(image))))


@register_model(
    "drfn",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Wang et al., J. Phys. Conf. Ser. 2020",
    params=5_207_203,
    global_pooling=True,
)
def drfn(
    scale: int = 4,
    *,
    groups: int = 16,
    blocks: int = 8,
    convs: int = 1,
    width: int = 64,
    reduction: int = 16,
    feature_fusion: bool = True,
    long_short_connections: bool = True,
) -> nn.Module:
    """The paper's network with one convolution per residual block: 5,207,203 parameters at x4.

    Args:
        scale: 2, 3 or 4.
        groups: residual attention groups G (Section 3.3: 16).
        blocks: residual blocks per group M (Section 3.3: 8).
        convs: 3x3 convolutions per residual block, 1 or 2.
        width: filters.
        reduction: the reduction ratio of the channel attention.
        feature_fusion: the FF of Table 1.
        long_short_connections: the long and short connections of Table 1, understood as F_0 added
            at the end (long) and each group's input added to its output (short); the residual
            blocks keep their own skip connections.
    """
    skip = long_short_connections
    chain = nn.ModuleList(
        ResidualAttentionGroup(width, blocks, convs, reduction, skip) for _ in range(groups)
    )
    deep = FeatureFusionGroup(width, chain, fusion=feature_fusion, skip=skip)
    return Centred(DRFN(scale, width, deep))


@register_model(
    "drfn-2conv",
    pipeline="rgb",
    input="lr",
    scales=(2, 3, 4),
    paper="Wang et al., J. Phys. Conf. Ser. 2020",
    params=9_933_987,
    global_pooling=True,
)
def drfn_2conv(scale: int = 4, *, convs: int = 2, **options: Any) -> nn.Module:
    """The variant with the usual two convolutions per block: 9,933,987 parameters at x4."""
    return drfn(scale, convs=convs, **options)
