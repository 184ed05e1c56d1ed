"""BT.601 as in MATLAB (luma from 16 to 235, chroma from 16 to 240), and other luma formulas."""

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
    """Compute the luma of an RGB image, not rounded.

    Args:
        image: ``(H, W, 3)``, R, G, B in [0, 255], any real dtype.

    Returns:
        ``(H, W)`` float64, 16 + (65.481 R + 128.553 G + 24.966 B) / 255, so in [16, 235].

    Source: ITU-R BT.601 as in MATLAB's ``rgb2ycbcr``.
    """
    return image.astype(np.float64) @ _TO_YCBCR[0] + 16


def rgb_to_ycbcr(image: AnyArray) -> FloatArray:
    """Convert ``(H, W, 3)`` RGB in [0, 255] to float64 YCbCr, not rounded."""
    return image.astype(np.float64) @ _TO_YCBCR.T + _OFFSET


def ycbcr_to_rgb(image: AnyArray) -> FloatArray:
    """Invert `rgb_to_ycbcr`, without rounding or clipping."""
    return (image.astype(np.float64) - _OFFSET) @ np.linalg.inv(_TO_YCBCR).T


def to_uint8(image: AnyArray) -> ByteArray:
    """Round half up and clip to [0, 255]."""
    return np.clip(np.floor(image.astype(np.float64) + 0.5), 0, 255).astype(np.uint8)


def luma_64_738(image: ByteArray) -> FloatArray:
    """Compute luma as a port of MATLAB's ``rgb2ycbcr`` with the constant 64.738, not rounded."""
    return image @ (np.array([64.738, 129.057, 25.064]) / 256) + 16


def luma_full(image: ByteArray) -> ByteArray:
    """Compute luma from 0 to 255, in 8 bits.

    Source: JPEG File Interchange Format.
    """
    return to_uint8(image @ np.array([0.299, 0.587, 0.114]))


def luma_opencv(image: ByteArray) -> ByteArray:
    """Compute luma as OpenCV's ``cvtColor`` does for 8-bit images.

    Source: OpenCV, ``color_yuv``: 14-bit weights, which sum to 1; checked to be equal to
    ``cv2.cvtColor(., COLOR_BGR2YCrCb)`` of OpenCV 5.0.0 for every colour.
    """
    weighted = image.astype(np.int64) @ np.array([4899, 9617, 1868])
    return ((weighted + (1 << 13)) >> 14).astype(np.uint8)
