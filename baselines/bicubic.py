"""Bicubic interpolation, the first row of every table."""

from __future__ import annotations

from torch import nn

from harness.registry import register_model


@register_model(
    "bicubic", pipeline="y", input="bicubic", scales=(2, 3, 4), params=0, paper="Keys, TASSP 1981"
)
def bicubic(scale: int = 4) -> nn.Module:
    """MATLAB's bicubic enlargement of the luma, which the protocol computes as the input."""
    return nn.Identity()


@register_model(
    "bicubic-rgb",
    pipeline="rgb",
    input="bicubic",
    scales=(2, 3, 4),
    params=0,
    paper="Keys, TASSP 1981",
)
def bicubic_rgb(scale: int = 4) -> nn.Module:
    """The same on uint8 RGB, so that the two pipelines can be compared."""
    return nn.Identity()
