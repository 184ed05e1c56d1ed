"""PSNR and SSIM of two luma images, and SSIM as other code has it: pure functions of arrays."""

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
    _same_shape(sr, hr)
    edge = SSIM_WINDOW // 2
    if min(sr.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels a side, not {sr.shape}")
    return float(np.mean(ssim_map(sr, hr)[edge:-edge, edge:-edge]))


@register_metric("ssim-whole")
def ssim_whole(sr: AnyArray, hr: AnyArray) -> float:
    """SSIM averaged over every pixel, edges continued by their last pixel: MATLAB's ``ssim``.

    Window and constants are those of `ssim`. Authors who used that function print values that
    differ from `ssim` by about 0.001. Like MATLAB's it takes colour for a volume, with a window of
    11 x 11 x 11.

    Args:
        sr: ``(H, W)`` or ``(H, W, 3)``, values in [0, 255].
        hr: the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(sr, hr)
    return float(np.mean(ssim_map(sr, hr)))


def ssim_map(sr: AnyArray, hr: AnyArray, beyond: str = "nearest") -> FloatArray:
    """SSIM at every pixel.

    The variances enter as their sum alone, so four means under the window are enough.

    Args:
        sr: of any number of dimensions, with the window along each; values in [0, 255].
        hr: the same shape.
        beyond: how edges are continued, as a mode of `scipy.ndimage.correlate1d`.
    """
    from scipy.ndimage import correlate1d

    def smooth(values: FloatArray) -> FloatArray:
        """The mean under the window; writes over what it is given."""
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
    """SSIM by scikit-image's default: a uniform window of 7 x 7, unbiased variances.

    Args:
        sr: ``(H, W)``, or ``(H, W, 3)`` for the mean over the channels; values in [0, 255].
        hr: the same shape.
    """
    from skimage.metrics import structural_similarity

    axis = 2 if sr.ndim == 3 else None
    doubles = sr.astype(np.float64), hr.astype(np.float64)
    return float(structural_similarity(*doubles, data_range=PEAK, channel_axis=axis))


def ssim_zero_padded(sr: AnyArray, hr: AnyArray) -> float:
    """SSIM averaged over every pixel, with zeros beyond the edge.

    Args:
        sr: ``(H, W)``, values in [0, 255].
        hr: the same shape.

    Source: pytorch-ssim (P.-H. Su), whose convolution pads by half its window.
    """
    return float(np.mean(ssim_map(sr, hr, "constant")))


def ssim_downsampled(sr: AnyArray, hr: AnyArray) -> float:
    """SSIM of images shrunk to a shorter side of about 256 pixels.

    Both are averaged over f x f pixels, edges mirrored, and every f-th pixel is kept; f is the
    shorter side over 256, rounded.

    Args:
        sr: ``(H, W)``, values in [0, 255].
        hr: the same shape.

    Source: Wang, "SSIM Index with automatic downsampling", 2009: ``ssim.m``.
    """
    factor = max(1, int(min(sr.shape) / 256 + 0.5))
    return ssim(_downsample(sr, factor), _downsample(hr, factor))


def _downsample(image: AnyArray, factor: int) -> FloatArray:
    """MATLAB's ``imfilter`` has the middle of an even window left of centre, SciPy right of it."""
    from scipy.ndimage import uniform_filter

    origin = 0 if factor % 2 else -1
    mean = uniform_filter(image.astype(np.float64), factor, mode="reflect", origin=origin)
    return mean[::factor, ::factor]
