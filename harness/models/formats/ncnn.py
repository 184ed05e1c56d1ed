"""The ncnn file of SRMDNF, whose weights are fp16 cut off from fp32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray, Tensors


_HALF = 0x01306B47
"""The word before weights that are stored in fp16."""
_DEPTH, _WIDTH, _PLANES = 12, 128, 18


def is_ncnn(path: Path) -> bool:
    """Whether a file begins like an ncnn model with fp16 weights.

    Raises:
        HarnessError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return int.from_bytes(stream.read(4), "little") == _HALF
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error


def read_ncnn(model: str, path: Path) -> Tensors:
    """The weights of SRMDNF: for each convolution a flag, the filters, the biases.

    Raises:
        HarnessError: another model is asked for, or the file is not laid out like SRMDNF.
    """
    if model != "srmdnf":
        raise HarnessError(f"{path} is an ncnn file, taken for weights of srmdnf, not of {model}.")
    try:
        words = np.fromfile(path, "<u2")
        return _layers(words)
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"{path} is not laid out like the weights of srmdnf ({error})."
        ) from error


def _layers(words: AnyArray) -> Tensors:
    """Cut 16-bit words into layers; the last has as many filters as are left."""
    tensors: Tensors = {}
    start, inputs = 0, _PLANES
    for layer in range(_DEPTH):
        left = len(words) - start
        # Two words of flag; for each filter nine words an input, and two of bias.
        outputs = _WIDTH if layer < _DEPTH - 1 else (left - 2) // (9 * inputs + 2)
        filters = start + 2
        biases = filters + 9 * inputs * outputs
        end = biases + 2 * outputs
        if words[start : start + 2].tobytes() != _HALF.to_bytes(4, "little") or end > len(words):
            raise ValueError(f"layer {layer} does not begin or end where it should")
        weight = midpoint(words[filters:biases].view("<f2"))
        name = f"body.{2 * layer}"
        tensors[f"{name}.weight"] = weight.reshape(outputs, inputs, 3, 3).astype(np.float32)
        tensors[f"{name}.bias"] = words[biases:end].view("<f4").astype(np.float32)
        start, inputs = end, outputs
    if start != len(words):
        raise ValueError(f"{2 * (len(words) - start)} bytes are left over")
    return tensors


def midpoint(cut: AnyArray) -> FloatArray:
    """The middle of the values that are cut off to a given fp16 value.

    The file's weights were cut towards zero, not rounded; a random value lies half a unit in the
    last place further out. That brings SRMDNF from 31.936 to 31.946 dB on Set5, where the authors'
    own fp32 weights are (protocol.md: 96.4 % of the samples are then theirs).
    """
    values = cut.astype(np.float64)
    return values + np.sign(values) * np.spacing(np.abs(cut)).astype(np.float64) / 2
