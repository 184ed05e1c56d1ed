"""SRCNN (Dong et al., TPAMI 2015): three convolutions on the enlarged luma."""

from __future__ import annotations

from torch import nn

from harness.registry import register_model

from .layers import conv


@register_model(
    "srcnn",
    pipeline="y",
    input="bicubic",
    scales=(2, 3, 4),
    paper="Dong et al., TPAMI 2015",
    params=57_281,
    layouts="harness.baselines.layouts.srcnn:layouts",
)
def srcnn(scale: int = 4) -> nn.Module:
    """The 9-5-5 network with 64 and 32 filters: 57,281 parameters.

    The authors' code repeats the edge pixels before each layer (``imfilter`` with 'replicate').
    """
    edge = {"padding_mode": "replicate"}
    return nn.Sequential(
        conv(1, 64, 9, **edge),
        nn.ReLU(inplace=True),
        conv(64, 32, 5, **edge),
        nn.ReLU(inplace=True),
        conv(32, 1, 5, **edge),
    )
