"""Reading weights from the files that authors published, as named float32 arrays.

How the files of a network are laid out is named by its card, see `harness.cards.ModelCard`. A
``.mat`` file is checked before SciPy reads it, which unpacks whatever a file holds, and follows
cells within cells until the stack overflows, which ends the process.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable, Iterator
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
    from harness.cards import AnyArray, Shapes, Tensors

CHECKPOINTS = frozenset({".pth", ".pt", ".ckpt", ".bin"})


def read_tensors(
    model: str, path: Path, shapes: Callable[[], Shapes], key: str = ""
) -> tuple[Tensors, str]:
    """The weights of a model in a published file.

    Args:
        model: the network's registered name.
        path: a ``.mat`` or ncnn ``.bin`` file of the model's authors, or a PyTorch checkpoint.
        shapes: gives the names and shapes of the network, by which a checkpoint is searched.
        key: where a checkpoint holds it, see `read_checkpoint`.

    Returns:
        the network's parameter names and float32 arrays, and a sentence on where in the file they
        were, see `harness.models.formats.checkpoints.find_network`.

    Raises:
        HarnessError: the file is missing, broken, of another network, or of an unknown kind.
        UsageError: the key does not fit the file.
    """
    try:
        regular(path, WEIGHTS)
    except FileNotFoundError:
        raise HarnessError(f"There is no weights file {path}.") from None
    except OSError as error:
        raise HarnessError(f"The weights file {path} cannot be read ({error}).") from error
    ncnn = path.suffix == ".bin" and is_ncnn(path)
    if path.suffix in CHECKPOINTS and not ncnn:
        return read_checkpoint(path, shapes(), key, checkpoint_layouts(model))
    if key:
        raise UsageError(f"{path} holds one network: --weights-key is for checkpoints.")
    if path.suffix == ".mat":
        return _read_file(model, path, "mat", _mat_content(path)), ""
    if ncnn:
        return _read_file(model, path, "ncnn", _ncnn_content(path)), ""
    if path.suffix == ".param":
        raise HarnessError(f"{path} describes layers: the weights are in the .bin file beside it.")
    raise HarnessError(
        f"{path} is of a kind that cannot be imported: it takes .safetensors, .mat, .pth or the "
        ".bin of ncnn."
    )


def checkpoint_layouts(model: str) -> tuple[CheckpointLayout, ...]:
    """The layouts of checkpoints that any network's card names, those of a model first.

    A checkpoint may be of another network than the one that is asked for, and is then named.

    Raises:
        HarnessError: those of the model cannot be loaded.
    """
    found = [one for _, one in _layouts(model) if isinstance(one, CheckpointLayout)]
    return tuple({id(one): one for one in found}.values())


def _layouts(model: str) -> Iterator[tuple[str, CheckpointLayout | FileLayout]]:
    """The layouts that the cards of networks name, with the networks, those of a model first."""
    for name in sorted(MODELS, key=lambda name: name != model):
        card = MODELS.get(name)
        try:
            found = _load(card.layouts) if card.layouts else ()
        except Exception as error:  # from a plug-in
            if name != model:
                continue
            raise HarnessError(
                f"The layouts {card.layouts} of {card.origin} cannot be loaded "
                f"({type(error).__name__}: {error}): mend the plug-in."
            ) from error
        yield from ((name, one) for one in found)


@cache
def _load(address: str) -> tuple[CheckpointLayout | FileLayout, ...]:
    """What the function ``module:function`` returns."""
    module, _, function = address.partition(":")
    return tuple(getattr(importlib.import_module(module), function)())


def _read_file(model: str, path: Path, kind: str, content: Any) -> Tensors:
    """The weights of a model in a file of its authors that is no checkpoint.

    Raises:
        HarnessError: it is of another network, or laid out otherwise.
    """
    known = [
        (name, one)
        for name, one in _layouts(model)
        if isinstance(one, FileLayout) and one.kind == kind
    ]
    owner, layout = next(((name, one) for name, one in known if one.fits(content)), ("", None))
    if owner != model or layout is None:
        no_other = f"no known weights, of {model} or of another network"
        held = f"weights of {owner}, not of {model}" if owner else no_other
        raise HarnessError(f"{path} holds {held}.")
    try:
        read = layout.read(content)
        return {name: np.ascontiguousarray(value, np.float32) for name, value in read}
    except Exception as error:  # what a file holds need not be what it should
        raise HarnessError(
            f"{path} is not laid out like the weights of {model} ({error})."
        ) from error


def _ncnn_content(path: Path) -> AnyArray:
    try:
        return np.fromfile(path, "<u2")
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error


def is_ncnn(path: Path) -> bool:
    """Whether a file begins like an ncnn model with fp16 weights.

    Raises:
        HarnessError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(len(NCNN_HALF)) == NCNN_HALF
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error


def _mat_content(path: Path) -> dict[str, Any]:
    """The variables of a ``.mat`` file, by name.

    Raises:
        HarnessError: it is broken, or would take much memory.
    """
    from scipy.io import loadmat

    try:
        require_harmless(path)
        return loadmat(path, simplify_cells=True)
    except Exception as error:  # the reader meets what it does not know in many ways
        raise HarnessError(f"{path} is not a readable .mat file ({error}).") from error


LARGEST = 1 << 26
"""Bytes that a file's variables may unpack to; those of the authors' files take up to 3 million."""
MATRICES = 3_000
"""Tags of arrays, cells and structures in a file; the authors' files have up to 1,241."""

_HEADER, _TAG = 128, 8
_MATRIX, _COMPRESSED = 14, 15


def require_harmless(path: Path) -> None:
    """Refuse a ``.mat`` file that would take much memory or nest too deep.

    Its layout is that of "MAT-File Format" (MathWorks), level 5.

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
