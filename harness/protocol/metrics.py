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


@register_metric("ssim-whole")
def ssim_whole(sr: AnyArray, hr: AnyArray) -> float:
    """SSIM averaged over every pixel, edges continued by their last pixel: MATLAB's ``ssim``.

    Window and constants are those of `ssim`. Authors who used that function print values that
    differ from `ssim` by about 0.001.

    Args:
        sr: ``(H, W)``, values in [0, 255].
        hr: the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    from scipy.ndimage import gaussian_filter

    _same_shape(sr, hr)

    def smooth(values: AnyArray) -> AnyArray:
        return gaussian_filter(values, 1.5, mode="nearest", radius=SSIM_WINDOW // 2)

    a, b = sr.astype(np.float64), hr.astype(np.float64)
    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(likeness / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))))


def _same_shape(sr: AnyArray, hr: AnyArray) -> None:
    if sr.shape != hr.shape or sr.size == 0:
        raise ValueError(f"metrics need two images of one size, not {sr.shape} and {hr.shape}")
