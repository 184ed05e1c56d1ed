"""MATLAB files of SRCNN, FSRCNN, VDSR and LapSRN, checked before SciPy reads them.

SciPy unpacks whatever a file holds, and follows cells within cells until the stack overflows, which
ends the process. The layout is that of "MAT-File Format" (MathWorks), level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.cards import AnyArray, Tensors

    Named = Iterable[tuple[str, AnyArray]]
    Content = Mapping[str, Any]


def read_mat(model: str, path: Path) -> Tensors:
    """The weights of a model in the ``.mat`` file of its authors.

    Raises:
        HarnessError: it is broken or of another network.
    """
    from scipy.io import loadmat

    try:
        require_harmless(path)
        content = loadmat(path, simplify_cells=True)
    except Exception as error:  # the reader meets what it does not know in many ways
        raise HarnessError(f"{path} is not a readable .mat file ({error}).") from error
    owner = next((name for name, (mark, _) in _FILES.items() if mark(content)), None)
    if owner != model:
        no_other = f"no known weights, of {model} or of another network"
        held = f"weights of {owner}, not of {model}" if owner else no_other
        raise HarnessError(f"{path} holds {held}.")
    try:
        return {
            name: np.ascontiguousarray(value, np.float32)
            for name, value in _FILES[model][1](content)
        }
    except Exception as error:  # nor does what it holds need to be what it should
        raise HarnessError(
            f"{path} is not laid out like the weights of {model} ({error})."
        ) from error


def _from_columns(filters: AnyArray, inputs: int, outputs: int) -> AnyArray:
    """``(in, k * k, out)`` to ``(out, in, k, k)``; squares were flattened column by column."""
    side = round((filters.size / inputs / outputs) ** 0.5)
    # The middle axes are (column, row) since MATLAB stores columns first.
    return filters.reshape(inputs, side, side, outputs).transpose(3, 0, 2, 1)


def _srcnn(content: Content) -> Named:
    """Dong et al.: filters as columns, ``(in, k * k, out)``."""
    for layer, (inputs, outputs) in enumerate([(1, 64), (64, 32), (32, 1)], start=1):
        filters = np.asarray(content[f"weights_conv{layer}"])
        yield f"{2 * layer - 2}.weight", _from_columns(filters, inputs, outputs)
        yield f"{2 * layer - 2}.bias", np.reshape(content[f"biases_conv{layer}"], outputs)


def _fsrcnn(content: Content) -> Named:
    """Dong et al.: cells of columns, biases and slopes; the last layer is the deconvolution."""
    filters, biases = content["weights_conv"], content["biases_conv"]
    last = len(filters) - 1
    inputs = 1
    for layer, slope in enumerate(content["prelu_conv"][:last]):
        outputs = np.size(biases[layer])
        yield f"{2 * layer}.weight", _from_columns(filters[layer], inputs, outputs)
        yield f"{2 * layer}.bias", np.reshape(biases[layer], outputs)
        yield f"{2 * layer + 1}.weight", np.reshape(slope, 1)
        inputs = outputs
    # (k * k, in): one column an input.
    columns = _from_columns(filters[last], 1, inputs)
    yield f"{2 * last}.deconv.weight", columns
    yield f"{2 * last}.deconv.bias", np.reshape(biases[last], 1)


def _vdsr(content: Mapping[str, Any]) -> Iterable[tuple[str, AnyArray]]:
    """Kim et al.: ``(H, W, in, out)``, axes of length 1 squeezed from the first and last layer."""
    weights, biases = content["model"]["weight"], content["model"]["bias"]
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs = 1 if layer == 0 else weight.shape[2]
        outputs = 1 if layer == last else weight.shape[-1]
        shaped = weight.reshape(*weight.shape[:2], inputs, outputs)
        yield f"body.{2 * layer}.weight", shaped.transpose(3, 2, 0, 1)
        yield f"body.{2 * layer}.bias", np.reshape(bias, outputs)


def _is_vdsr(content: Mapping[str, Any]) -> bool:
    held = content.get("model")
    return isinstance(held, Mapping) and {"weight", "bias"} <= held.keys()


def _is_lapsrn(content: Content) -> bool:
    """Whether a file holds a MatConvNet network with levels; other authors' have other layers."""
    try:
        names = {row["name"] for row in content["net"]["params"]}
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return {"input_conv_f", "level1_img_up_f"} <= names


def _lapsrn(content: Content) -> Named:
    """Lai et al.: a MatConvNet DagNN, ``(H, W, in, out)``, axes of length 1 squeezed.

    Transposed convolutions have ``(H, W, out, in)``, which PyTorch turns round as well.
    """
    values = {row["name"]: np.asarray(row["value"]) for row in content["net"]["params"]}
    levels = max(int(name[5]) for name in values if name.startswith("level"))
    for name, value in values.items():
        layer, kind = name.rsplit("_", 1)
        target = _lapsrn_name(layer, levels)
        if kind == "b":
            yield f"{target}.bias", value.reshape(-1)
            continue
        # Only the layers that make a residual image have one output; their last axis is gone.
        last = 1 if layer.endswith(("residual_conv", "img_up")) else value.shape[-1]
        shaped = value.reshape(*value.shape[:2], -1, last)
        yield f"{target}.weight", shaped.transpose(3, 2, 0, 1)


def _lapsrn_name(layer: str, levels: int) -> str:
    """``level2_conv3`` of two levels is ``levels.0.body.4``: level 1 is the last."""
    if layer == "input_conv":
        return "head.0"
    level, part = layer.removeprefix("level").split("_", 1)
    names = {"upconv": "enlarge", "residual_conv": "residual", "img_up": "enlarge_image"}
    inner = names.get(part) or f"body.{2 * int(part.removeprefix('conv')) - 2}"
    return f"levels.{levels - int(level)}.{inner}"


# How a file is recognised, and how it is read.
_FILES: dict[str, tuple[Callable[[Content], bool], Callable[[Content], Named]]] = {
    "srcnn": (lambda content: "weights_conv1" in content, _srcnn),
    "fsrcnn": (lambda content: {"weights_conv", "prelu_conv"} <= content.keys(), _fsrcnn),
    "vdsr": (_is_vdsr, _vdsr),
    "lapsrn": (_is_lapsrn, _lapsrn),
}


LARGEST = 1 << 26
"""Bytes that a file's variables may unpack to; those of the authors' files take up to 3 million."""
MATRICES = 3_000
"""Tags of arrays, cells and structures in a file; the authors' files have up to 1,241."""

_HEADER, _TAG = 128, 8
_MATRIX, _COMPRESSED = 14, 15


def require_harmless(path: Path) -> None:
    """Refuse a file that would take much memory or nest too deep.

    Raises:
        ValueError: it would, or it is of another level than 5.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or not all(content[:4]):
        raise ValueError("not a MATLAB 5 file")
    # Sizes may lie, so that nesting cannot be told; but each level has the tag of a matrix.
    tag = struct.pack(f"{order}I", _MATRIX)
    size = matrices = 0
    for piece in chain([content], _unpacked(content, order)):
        size += len(piece)
        matrices += piece.count(tag)
        if size > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST >> 20} MB")
        if matrices > MATRICES:
            raise ValueError(f"it has more than {MATRICES} parts")


def _unpacked(content: bytes, order: str) -> Iterator[bytes]:
    """The variables that are compressed, each up to a little more than `LARGEST`."""
    place = _HEADER
    while place + _TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        place += _TAG
        if kind == _COMPRESSED:
            try:
                unpacker = zlib.decompressobj()
                yield unpacker.decompress(content[place : place + size], LARGEST + 1)
            except zlib.error as error:
                raise ValueError(str(error)) from error
        place += size
