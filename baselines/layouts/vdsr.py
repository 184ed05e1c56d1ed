"""The authors' MATLAB file of VDSR (Kim et al.): filters ``(H, W, in, out)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cards import FileLayout

if TYPE_CHECKING:
    from harness.cards import AnyArray


def layouts() -> tuple[FileLayout, ...]:
    """The layouts of VDSR's published weights."""
    return (FileLayout("mat", _is_vdsr, _read),)


def _is_vdsr(content: Mapping[str, Any]) -> bool:
    model = content.get("model")
    return isinstance(model, Mapping) and {"weight", "bias"} <= model.keys()


def _read(content: Mapping[str, Any]) -> Iterator[tuple[str, AnyArray]]:
    """Yield names and arrays; the first and last layer are stored without axes of length 1."""
    weights, biases = content["model"]["weight"], content["model"]["bias"]
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs = 1 if layer == 0 else weight.shape[2]
        outputs = 1 if layer == last else weight.shape[-1]
        shaped = weight.reshape(*weight.shape[:2], inputs, outputs)
        yield f"body.{2 * layer}.weight", shaped.transpose(3, 2, 0, 1)
        yield f"body.{2 * layer}.bias", np.reshape(bias, outputs)
