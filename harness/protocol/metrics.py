"""PSNR and SSIM of two luma images, and the SSIM variants of other code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.registry import register_metric

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray


PEAK = 255.0
SSIM_WINDOW = 11
_OFFSETS = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
_WINDOW = np.exp(-(_OFFSETS**2) / (2 * 1.5**2))
_WINDOW /= _WINDOW.sum()


@register_metric("psnr")
def psnr(sr: AnyArray, hr: AnyArray) -> float:
    """Compute the peak signal-to-noise ratio in dB, peak 255; infinite for equal images.

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
    """Compute the structural similarity, at most 1.

    Gaussian window 11 x 11 with sigma 1.5, K = (0.01, 0.03), L = 255, averaged over the positions
    where the whole window is inside the image.

    Args:
        sr: ``(H, W)``, at least 11 x 11, values in [0, 255].
        hr: the same shape.

    Raises:
        ValueError: the shapes differ, or are smaller than the window.

    Source: Wang et al., TIP 2004.
    """
    _same_shape(sr, hr)
    edge = SSIM_WINDOW // 2
    if min(sr.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels a side, not {sr.shape}")
    return float(np.mean(ssim_map(sr, hr)[edge:-edge, edge:-edge]))


@register_metric("ssim-whole")
def ssim_whole(sr: AnyArray, hr: AnyArray) -> float:
    """Compute SSIM averaged over every pixel, the last pixel replicated, as MATLAB's ``ssim`` does.

    Window and constants are those of `ssim`. Authors who used MATLAB's function print values that
    differ from `ssim` by about 0.001. As in MATLAB, a colour image is treated as a volume, with a
    window of 11 x 11 x 11.

    Args:
        sr: ``(H, W)`` or ``(H, W, 3)``, values in [0, 255].
        hr: the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(sr, hr)
    return float(np.mean(ssim_map(sr, hr)))


def ssim_map(sr: AnyArray, hr: AnyArray, beyond: str = "nearest") -> FloatArray:
    """Compute the SSIM at every pixel.

    Only the sum of the two variances is needed, so four means under the window are enough.

    Args:
        sr: any number of dimensions, with the window along each; values in [0, 255].
        hr: the same shape.
        beyond: how edges are padded, as a mode of `scipy.ndimage.correlate1d`.
    """
    from scipy.ndimage import correlate1d

    def smooth(values: FloatArray) -> FloatArray:
        """Compute the mean under the window, in place."""
        for axis in range(values.ndim):
            correlate1d(values, _WINDOW, axis, output=values, mode=beyond)
        return values

    a, b = sr.astype(np.float64), hr.astype(np.float64)
    squares, product = smooth(a * a + b * b), smooth(a * b)
    mean_a, mean_b = smooth(a), smooth(b)
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    likeness = (2 * mean_product + c1) * (2 * (product - mean_product) + c2)
    quality: FloatArray = likeness / ((mean_squares + c1) * (squares - mean_squares + c2))
    return quality


def _same_shape(sr: AnyArray, hr: AnyArray) -> None:
    if sr.shape != hr.shape or sr.size == 0:
        raise ValueError(f"metrics need two images of one size, not {sr.shape} and {hr.shape}")


def ssim_uniform(sr: AnyArray, hr: AnyArray) -> float:
    """Compute SSIM as scikit-image does by default: uniform 7 x 7 window, unbiased variances.

    Args:
        sr: ``(H, W)``, or ``(H, W, 3)`` for the mean over the channels; values in [0, 255].
        hr: the same shape.
    """
    from skimage.metrics import structural_similarity

    axis = 2 if sr.ndim == 3 else None
    doubles = sr.astype(np.float64), hr.astype(np.float64)
    return float(structural_similarity(*doubles, data_range=PEAK, channel_axis=axis))


def ssim_zero_padded(sr: AnyArray, hr: AnyArray) -> float:
    """Compute SSIM averaged over every pixel, with zero padding.

    Args:
        sr: ``(H, W)``, values in [0, 255].
        hr: the same shape.

    Source: pytorch-ssim (P.-H. Su), whose convolution pads by half its window.
    """
    return float(np.mean(ssim_map(sr, hr, "constant")))


def ssim_downsampled(sr: AnyArray, hr: AnyArray) -> float:
    """Compute the SSIM of images downsampled to a shorter side of about 256 pixels.

    Both images are averaged over f x f pixels, edges mirrored, and every f-th pixel is kept; f is
    the shorter side divided by 256, rounded.

    Args:
        sr: ``(H, W)``, values in [0, 255].
        hr: the same shape.

    Source: Wang, "SSIM Index with automatic downsampling", 2009: ``ssim.m``.
    """
    factor = max(1, int(min(sr.shape) / 256 + 0.5))
    return ssim(_downsample(sr, factor), _downsample(hr, factor))


def _downsample(image: AnyArray, factor: int) -> FloatArray:
    """Average over ``factor`` pixels and subsample, as MATLAB's ``imfilter`` does."""
    from scipy.ndimage import uniform_filter

    # The origin of an even window is left of the centre in MATLAB, and right of it in SciPy.
    origin = 0 if factor % 2 else -1
    mean = uniform_filter(image.astype(np.float64), factor, mode="reflect", origin=origin)
    return mean[::factor, ::factor]
