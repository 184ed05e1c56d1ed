"""Read weights from files that authors published, as named float32 arrays.

The card of a network names the layouts of its files, see `harness.cards.ModelCard`. ``.mat`` files
are checked first, because SciPy unpacks whatever a file holds, and crashes the process on deeply
nested cells.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cards import NCNN_HALF, CheckpointLayout, FileLayout
from harness.errors import HarnessError, UsageError
from harness.files import WEIGHTS, regular
from harness.models.formats.checkpoints import read_checkpoint
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.cards import ModelCard, Tensors

CHECKPOINTS = frozenset({".pth", ".pt", ".ckpt", ".bin"})


def read_tensors(card: ModelCard, scale: int, path: Path, key: str = "") -> tuple[Tensors, str]:
    """Read the weights of a network from a published file.

    Args:
        card: the network.
        scale: the factor.
        path: a ``.mat`` or ncnn ``.bin`` file of the network's authors, or a PyTorch checkpoint.
        key: the keys that lead to the network in a checkpoint, see `read_checkpoint`.

    Returns:
        the network's parameter names and float32 arrays, and a sentence on where in the file they
        were found, see `harness.models.formats.checkpoints.find_network`.

    Raises:
        HarnessError: the file is broken, of another network, or of an unknown kind.
        UsageError: the file is missing, or the key does not fit it.
    """
    try:
        with regular(path, WEIGHTS).open("rb") as stream:
            ncnn = path.suffix == ".bin" and stream.read(len(NCNN_HALF)) == NCNN_HALF
    except FileNotFoundError:
        raise UsageError(f"There is no weights file {path}: correct the path.") from None
    except OSError as error:
        raise HarnessError(f"The weights file {path} cannot be read ({error}).") from error
    if path.suffix in CHECKPOINTS and not ncnn:
        from harness.models.network import network_shapes

        shapes = network_shapes(card, scale, {})
        return read_checkpoint(path, shapes, key, *checkpoint_layouts(card.name))
    if key:
        raise UsageError(f"{path} holds one network: --weights-key is only for checkpoints.")
    if path.suffix == ".mat":
        return _read_file(card.name, path, "mat", _mat_content(path)), ""
    if ncnn:
        return _read_file(card.name, path, "ncnn", np.fromfile(path, "<u2")), ""
    if path.suffix == ".param":
        raise HarnessError(f"{path} describes layers: the weights are in the .bin file beside it.")
    raise HarnessError(
        f"{path} is of a kind that cannot be imported: use a .safetensors, .mat or .pth file, or "
        "the .bin file of ncnn."
    )


def checkpoint_layouts(
    model: str,
) -> tuple[tuple[CheckpointLayout, ...], tuple[CheckpointLayout, ...]]:
    """Return the checkpoint layouts of a model, and those that only other networks have.

    Raises:
        HarnessError: the layouts of the model cannot be loaded.
    """
    own: dict[int, CheckpointLayout] = {}
    others: dict[int, CheckpointLayout] = {}
    for name, layout in _layouts(model):  # those of the model come first
        if isinstance(layout, CheckpointLayout) and id(layout) not in own:
            (own if name == model else others)[id(layout)] = layout
    return tuple(own.values()), tuple(others.values())


def _layouts(model: str) -> Iterator[tuple[str, CheckpointLayout | FileLayout]]:
    """Yield the layouts of all networks with the networks' names, those of a model first."""
    for name in sorted(MODELS, key=lambda name: name != model):
        card = MODELS.get(name)
        try:
            layouts = _load(card.layouts) if card.layouts else ()
        except Exception as error:  # from a plug-in
            if name != model:
                continue
            raise HarnessError(
                f"The layouts {card.layouts} of {card.origin} cannot be loaded "
                f"({type(error).__name__}: {error}): fix the plug-in."
            ) from error
        yield from ((name, layout) for layout in layouts)


@cache
def _load(address: str) -> tuple[CheckpointLayout | FileLayout, ...]:
    """Call the function ``module:function`` and return its layouts."""
    module, _, function = address.partition(":")
    return tuple(getattr(importlib.import_module(module), function)())


def _read_file(model: str, path: Path, kind: str, content: Any) -> Tensors:
    """Read the weights of a model from a file of its authors that is not a checkpoint.

    Raises:
        HarnessError: the file is of another network, or has another layout.
    """
    fitting = (
        (name, layout)
        for name, layout in _layouts(model)
        if isinstance(layout, FileLayout) and layout.kind == kind and layout.fits(content)
    )
    owner, layout = next(fitting, ("", None))
    if owner != model or layout is None:
        unknown = f"no known weights, of {model} or of another network"
        held = f"weights of {owner}, not of {model}" if owner else unknown
        raise HarnessError(f"{path} holds {held}.")
    try:
        named = layout.read(content)
        return {name: np.ascontiguousarray(value, np.float32) for name, value in named}
    except Exception as error:  # a damaged file may raise any error
        raise HarnessError(
            f"{path} is not laid out like the weights of {model} ({error})."
        ) from error


def _mat_content(path: Path) -> dict[str, Any]:
    """The variables of a ``.mat`` file, by name.

    Raises:
        HarnessError: the file is broken, or would take much memory.
    """
    from scipy.io import loadmat

    try:
        _require_harmless(path.read_bytes())
        return loadmat(path, simplify_cells=True)
    except Exception as error:  # SciPy raises many kinds of errors
        raise HarnessError(f"{path} is not a readable .mat file ({error}).") from error


LARGEST = 1 << 26
"""The most bytes that a file may unpack to; the authors' files unpack to at most 3 million."""
MATRICES = 3_000
"""The most arrays, cells and structures that a file may have; the authors' have at most 1,241."""

_HEADER, _TAG = 128, 8
_MATRIX, _COMPRESSED = 14, 15


def _require_harmless(content: bytes) -> None:
    """Refuse a ``.mat`` file that would take too much memory or is nested too deep.

    The format is level 5 of "MAT-File Format" (MathWorks).

    Raises:
        ValueError: the file is refused, or it is not of level 5.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or not all(content[:4]):
        raise ValueError("not a MATLAB 5 file")
    # Stated sizes may be wrong, which hides the nesting; but each level has the tag of a matrix.
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
    """Decompress the compressed variables, each up to one byte more than `LARGEST`."""
    offset = _HEADER
    while offset + _TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, offset)
        offset += _TAG
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            yield unpacker.decompress(content[offset : offset + size], LARGEST + 1)
        offset += size
