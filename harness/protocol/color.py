"""BT.601 as MATLAB has it: luma from 16 to 235, chroma from 16 to 240."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray, FloatArray

_TO_YCBCR = (
    np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
    / 255
)
_OFFSET = np.array([16.0, 128.0, 128.0])


def rgb_to_y(image: AnyArray) -> FloatArray:
    """Luma of an RGB image, not rounded.

    Args:
        image: ``(H, W, 3)``, R, G, B in [0, 255], any real dtype.

    Returns:
        ``(H, W)`` float64, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, so in [16, 235].

    Source: ITU-R BT.601 as in MATLAB's ``rgb2ycbcr``.
    """
    return image.astype(np.float64) @ _TO_YCBCR[0] + 16


def rgb_to_ycbcr(image: AnyArray) -> FloatArray:
    """``(H, W, 3)`` RGB in [0, 255] to float64 YCbCr, not rounded."""
    return image.astype(np.float64) @ _TO_YCBCR.T + _OFFSET


def ycbcr_to_rgb(image: AnyArray) -> FloatArray:
    """The inverse of `rgb_to_ycbcr`, not rounded and not clipped."""
    return (image.astype(np.float64) - _OFFSET) @ np.linalg.inv(_TO_YCBCR).T


def to_uint8(image: AnyArray) -> ByteArray:
    """Round half up and clip to [0, 255]."""
    return np.clip(np.floor(image.astype(np.float64) + 0.5), 0, 255).astype(np.uint8)
