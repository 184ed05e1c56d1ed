"""PSNR and SSIM of two luma images: pure functions of two arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.registry import register_metric

if TYPE_CHECKING:
    from harness.specs import AnyArray

PEAK = 255.0
SSIM_WINDOW = 11


@register_metric("psnr")
def psnr(sr: AnyArray, hr: AnyArray) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite for equal images.

    Args:
        sr: any shape, values in [0, 255]; computed in float64.
        hr: the same shape.

    Raises:
        ValueError: the shapes differ or are empty.
    """
    _same_shape(sr, hr)
    error = np.subtract(sr, hr, dtype=np.float64)
    mse = float(np.mean(error * error))
    return math.inf if mse == 0 else 10 * math.log10(PEAK**2 / mse)


@register_metric("ssim")
def ssim(sr: AnyArray, hr: AnyArray) -> float:
    """Structural similarity, at most 1.

    Gaussian window 11 x 11 with sigma 1.5, K = (0.01, 0.03), L = 255, averaged over the positions
    where the window lies wholly inside the image.

    Args:
        sr: ``(H, W)``, at least 11 x 11, values in [0, 255].
        hr: the same shape.

    Raises:
        ValueError: the shapes differ, or are smaller than the window.

    Source: Wang et al., TIP 2004.
    """
    from skimage.metrics import structural_similarity

    _same_shape(sr, hr)
    value = structural_similarity(
        sr.astype(np.float64),
        hr.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=PEAK,
    )
    return float(value)


def _same_shape(sr: AnyArray, hr: AnyArray) -> None:
    if sr.shape != hr.shape or sr.size == 0:
        raise ValueError(f"metrics need two images of one size, not {sr.shape} and {hr.shape}")
