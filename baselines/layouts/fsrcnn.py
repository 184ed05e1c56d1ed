"""The authors' MATLAB file of FSRCNN (Dong et al.): cells of filters, biases and PReLU slopes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cards import FileLayout

from .srcnn import from_columns

if TYPE_CHECKING:
    from harness.cards import AnyArray


def layouts() -> tuple[FileLayout, ...]:
    """The layouts of FSRCNN's published weights."""
    names = {"weights_conv", "prelu_conv"}
    return (FileLayout("mat", lambda content: names <= content.keys(), _read),)


def _read(content: Mapping[str, Any]) -> Iterator[tuple[str, AnyArray]]:
    """Yield names and arrays; the last layer is the transposed convolution."""
    filters, biases = content["weights_conv"], content["biases_conv"]
    last = len(filters) - 1
    inputs = 1
    for layer, slope in enumerate(content["prelu_conv"][:last]):
        outputs = np.size(biases[layer])
        yield f"{2 * layer}.weight", from_columns(filters[layer], inputs, outputs)
        yield f"{2 * layer}.bias", np.reshape(biases[layer], outputs)
        yield f"{2 * layer + 1}.weight", np.reshape(slope, 1)
        inputs = outputs
    # (k * k, in): one column for each input channel.
    columns = from_columns(filters[last], 1, inputs)
    yield f"{2 * last}.deconv.weight", columns
    yield f"{2 * last}.deconv.bias", np.reshape(biases[last], 1)
