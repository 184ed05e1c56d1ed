"""The ncnn file of SRMDNF, whose weights are fp32 truncated to fp16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from harness.cards import NCNN_HALF, FileLayout

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray

_DEPTH, _WIDTH, _PLANES = 12, 128, 18


def layouts() -> tuple[FileLayout, ...]:
    """The layouts of SRMDNF's published weights."""
    return (FileLayout("ncnn", lambda words: True, _read),)


def _read(words: AnyArray) -> Iterator[tuple[str, AnyArray]]:
    """Yield names and arrays: each convolution is stored as a flag, its filters and its biases.

    The number of filters of the last one follows from the size of the file.

    Raises:
        ValueError: the file has another layout.
    """
    start, inputs = 0, _PLANES
    for layer in range(_DEPTH):
        left = len(words) - start
        # Two words for the flag; per filter nine words per input channel, and two for its bias.
        outputs = _WIDTH if layer < _DEPTH - 1 else (left - 2) // (9 * inputs + 2)
        filters = start + 2
        biases = filters + 9 * inputs * outputs
        end = biases + 2 * outputs
        if words[start : start + 2].tobytes() != NCNN_HALF or end > len(words):
            raise ValueError(f"layer {layer} does not begin or end where it should")
        weight = midpoint(words[filters:biases].view("<f2"))
        yield f"body.{2 * layer}.weight", weight.reshape(outputs, inputs, 3, 3)
        yield f"body.{2 * layer}.bias", words[biases:end].view("<f4")
        start, inputs = end, outputs
    if start != len(words):
        raise ValueError(f"{2 * (len(words) - start)} bytes are left over")


def midpoint(truncated: AnyArray) -> FloatArray:
    """Return the middle of the values that truncate to each fp16 value.

    The weights in the file were truncated towards zero, not rounded; on average the true value is
    half a unit in the last place further from zero. This correction brings SRMDNF from 31.936 to
    31.946 dB on Set5, the PSNR of the authors' own fp32 weights (96.4 % of the samples then equal
    theirs).
    """
    values = truncated.astype(np.float64)
    return values + np.sign(values) * np.spacing(np.abs(truncated)).astype(np.float64) / 2
