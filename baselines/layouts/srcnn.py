"""The authors' MATLAB file of SRCNN (Dong et al.): filters as columns, ``(in, k * k, out)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cards import FileLayout

if TYPE_CHECKING:
    from harness.cards import AnyArray


def layouts() -> tuple[FileLayout, ...]:
    """The layouts of SRCNN's published weights."""
    return (FileLayout("mat", lambda content: "weights_conv1" in content, _read),)


def _read(content: Mapping[str, Any]) -> Iterator[tuple[str, AnyArray]]:
    for layer, (inputs, outputs) in enumerate([(1, 64), (64, 32), (32, 1)], start=1):
        filters = np.asarray(content[f"weights_conv{layer}"])
        yield f"{2 * layer - 2}.weight", from_columns(filters, inputs, outputs)
        yield f"{2 * layer - 2}.bias", np.reshape(content[f"biases_conv{layer}"], outputs)


def from_columns(filters: AnyArray, inputs: int, outputs: int) -> AnyArray:
    """Reshape ``(in, k * k, out)`` to ``(out, in, k, k)``; kernels are flattened by columns."""
    side = round((filters.size / inputs / outputs) ** 0.5)
    # The middle axes are (column, row) since MATLAB stores columns first.
    return filters.reshape(inputs, side, side, outputs).transpose(3, 0, 2, 1)
