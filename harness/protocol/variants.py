"""Luma and SSIM as other people's code computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.protocol.color import rgb_to_y, to_uint8
from harness.protocol.metrics import PEAK, ssim, ssim_map, ssim_whole

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray, FloatArray

Channel = Literal["Y", "rounded Y", "Y with 64.738", "full-range Y", "OpenCV Y", "RGB"]
"""What of two pictures is compared.

``Y`` is BT.601 luma as MATLAB has it, in double; ``rounded Y`` the same in 8 bits; ``Y with
64.738`` that of a port much copied, with a digit of 65.738 / 256 wrong; ``full-range Y`` that of
JPEG and of Pillow's mode L, in 8 bits; ``OpenCV Y`` the same in the fixed-point arithmetic of
OpenCV's COLOR_BGR2YCrCb, which rounds 0.2 % of all colours otherwise; ``RGB`` all three channels.
"""

Window = Literal[
    "Gaussian 11x11",
    "Gaussian 11x11, whole image",
    "uniform 7x7",
    "Gaussian 11x11, zero padding",
    "Gaussian 11x11, downsampled",
    "Gaussian 11x11x11",
]
"""The SSIM's window.

That of Wang et al. 2004, inside the image only (their ``ssim_index.m``); with edges continued, as
MATLAB's ``ssim`` has it; the default of scikit-image; with zeros beyond the edge, as pytorch-ssim
has it; that of Wang's later ``ssim.m``, which first shrinks images of 384 pixels and more; or that
of MATLAB's ``ssim`` given colour, which it takes for a volume.
"""


def luma_64_738(image: ByteArray) -> FloatArray:
    """Luma of the port of MATLAB's ``rgb2ycbcr`` with 64.738 in it, not rounded."""
    return image @ (np.array([64.738, 129.057, 25.064]) / 256) + 16


def luma_full(image: ByteArray) -> ByteArray:
    """Luma from 0 to 255, in 8 bits.

    Source: JPEG File Interchange Format.
    """
    return to_uint8(image @ np.array([0.299, 0.587, 0.114]))


def luma_opencv(image: ByteArray) -> ByteArray:
    """Luma of OpenCV's ``cvtColor`` for 8-bit images.

    Source: OpenCV, ``color_yuv``: weights of 14 bits, which sum to 1; found equal to
    ``cv2.cvtColor(., COLOR_BGR2YCrCb)`` of OpenCV 5.0.0 for every colour.
    """
    weighted = image.astype(np.int64) @ np.array([4899, 9617, 1868])
    return ((weighted + (1 << 13)) >> 14).astype(np.uint8)


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


def _each_channel(
    metric: Callable[[AnyArray, AnyArray], float],
) -> Callable[[AnyArray, AnyArray], float]:
    """An SSIM of planes, that of colour being the mean over the channels."""

    def mean(sr: AnyArray, hr: AnyArray) -> float:
        if sr.ndim == 2:
            return metric(sr, hr)
        return float(np.mean([metric(sr[:, :, c], hr[:, :, c]) for c in range(3)]))

    return mean


CHANNELS: Mapping[Channel, Callable[[ByteArray], AnyArray]] = {
    "Y": rgb_to_y,
    "rounded Y": lambda image: to_uint8(rgb_to_y(image)),
    "Y with 64.738": luma_64_738,
    "full-range Y": luma_full,
    "OpenCV Y": luma_opencv,
    "RGB": lambda image: image,
}
"""From an RGB image to what is compared."""

WINDOWS: Mapping[Window, Callable[[AnyArray, AnyArray], float]] = {
    "Gaussian 11x11": _each_channel(ssim),
    "Gaussian 11x11, whole image": _each_channel(ssim_whole),
    "uniform 7x7": ssim_uniform,
    "Gaussian 11x11, zero padding": _each_channel(ssim_zero_padded),
    "Gaussian 11x11, downsampled": _each_channel(ssim_downsampled),
    "Gaussian 11x11x11": ssim_whole,
}
"""From SR and HR, ``(H, W)`` or ``(H, W, 3)``, to the SSIM."""
