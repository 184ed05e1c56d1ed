"""MATLAB's ``imresize(image, scale, 'bicubic')``, the resize behind every "BI" benchmark.

Reproduces published LR images bit for bit. It differs from most ports: the kernel is stretched when
shrinking, uint8 images are rounded after *each* pass, and there are two ways of padding, since
published data use both.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from harness.cards import AnyArray, Border, FloatArray

# Output rows computed at a time: the double-precision copy of their input rows fits in the cache.
_BLOCK = 32


def imresize(image: AnyArray, scale: float, border: Border = "replicate") -> AnyArray:
    """Resize like MATLAB's bicubic ``imresize`` with antialiasing.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``; uint8, or float64 of any range.
        scale: output size over input size, the same for both sides; above 0.
        border: how the image is padded beyond its edge, see `harness.cards.Border`.

    Returns:
        ``(ceil(H * scale), ceil(W * scale)[, C])`` of the input's dtype. uint8 input is rounded
        half away from zero and clipped to [0, 255] after each of the two passes (vertical first);
        float64 input is not rounded.

    Raises:
        ValueError: another dtype or number of dimensions, an empty image, a scale that is not
            positive, an unknown border.

    Source: Keys 1981 (a = -0.5) with MATLAB's output grid and tap selection.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"imresize needs a non-empty (H, W) or (H, W, C), not {image.shape}")
    if image.dtype not in (np.uint8, np.float64):
        raise ValueError(f"imresize takes uint8 or float64, not {image.dtype}")
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale is a positive number, not {scale}")
    if border not in ("replicate", "symmetric"):
        raise ValueError(f"border is 'replicate' or 'symmetric', not {border!r}")
    tall = _resize_rows(image, scale, border)
    return np.ascontiguousarray(_resize_rows(tall.swapaxes(0, 1), scale, border).swapaxes(0, 1))


def enlargement_matrix(length: int, scale: int) -> FloatArray:
    """Return the matrix M with ``M @ image @ M.T == imresize(image, scale)`` for square images.

    Returns:
        ``(length * scale, length)`` float64, borders replicated.
    """
    return _weights(length, scale, "replicate").toarray()


def _resize_rows(image: AnyArray, scale: float, border: Border) -> AnyArray:
    """Resize along the first axis, ``(H, W[, C])`` to ``(ceil(H * scale), W[, C])``.

    A sparse product adds the taps in a fixed order, unlike a BLAS, so that every machine rounds
    the same way.
    """
    weights = _weights(image.shape[0], scale, border)
    rows = image.reshape(image.shape[0], -1)
    out = np.empty((weights.shape[0], rows.shape[1]), image.dtype)
    for start in range(0, len(out), _BLOCK):
        block = weights[start : start + _BLOCK]
        first, last = block.indices.min(), block.indices.max() + 1
        block = csr_array(
            (block.data, block.indices - first, block.indptr), shape=(block.shape[0], last - first)
        )
        values = block @ rows[first:last].astype(np.float64, order="C")
        out[start : start + _BLOCK] = _round(values) if image.dtype == np.uint8 else values
    return out.reshape(len(out), *image.shape[1:])


def _round(values: FloatArray) -> FloatArray:
    """Round half up and clip to [0, 255], in place; negative values are clipped anyway."""
    values += 0.5
    np.floor(values, out=values)
    return np.clip(values, 0, 255, out=values)


@lru_cache(maxsize=128)
def _weights(length: int, scale: float, border: Border) -> csr_array:
    """Return the ``(ceil(length * scale), length)`` matrix of one pass; its rows sum to 1."""
    taps, values = _taps(length, scale)
    inside = np.clip(taps, 0, length - 1) if border == "replicate" else _mirror(taps, length)
    rows = np.broadcast_to(np.arange(len(taps))[:, None], taps.shape)
    keep = values != 0
    matrix = csr_array((values[keep], (rows[keep], inside[keep])), shape=(len(taps), length))
    matrix.sum_duplicates()
    return matrix


def _taps(length: int, scale: float) -> tuple[AnyArray, FloatArray]:
    """Return positions (0-based, may lie outside) and weights, both ``(outputs, taps)``."""
    stretch = min(scale, 1.0)
    support = 4 / stretch
    k = np.arange(1, math.ceil(length * scale) + 1)
    centre = k / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(centre - support / 2).astype(np.int64)
    taps = left[:, None] + np.arange(math.ceil(support) + 2)
    values = stretch * _keys_cubic(stretch * (centre[:, None] - taps))
    return taps - 1, values / values.sum(axis=1, keepdims=True)


def _keys_cubic(x: FloatArray) -> FloatArray:
    """The cubic convolution kernel of Keys 1981 with a = -0.5, support [-2, 2]."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x**2 + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


def _mirror(index: AnyArray, length: int) -> AnyArray:
    folded = np.mod(index, 2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)
