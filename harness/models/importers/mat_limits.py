"""Bounds for ``.mat`` files, checked before SciPy reads them.

SciPy unpacks whatever a file holds, and follows cells within cells until the stack overflows, which
ends the process. The layout is that of "MAT-File Format" (MathWorks), level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

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
