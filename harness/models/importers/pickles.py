"""What is looked at before PyTorch opens a file: its seal, and what its pickle would make."""

from __future__ import annotations

import hashlib
import os
import pickletools
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple
from zipfile import ZipFile

from harness.files import WEIGHTS, regular

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEAL = 64
"""SHA-256 of all that comes before, in hexadecimal: the comment of the zip file that PyTorch
writes, which readers of zip files pass over."""

_LENGTH = _SEAL.to_bytes(2, "little")
"""How a zip file states the length of its comment, just before it; 0 where it has none."""


def seal(stream: BinaryIO) -> None:
    """Put the hash of a zip file without a comment into its comment."""
    size = stream.seek(-len(_LENGTH), os.SEEK_END)
    stated = _digest(stream, size)
    stream.seek(size)
    stream.write(_LENGTH + stated)


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a seal, be it right or not.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    with regular(path, WEIGHTS).open("rb") as stream:
        return _stated(stream) is not None


def seal_fits(path: Path) -> bool:
    """Whether a sealed file is what its seal says.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    with regular(path, WEIGHTS).open("rb") as stream:
        stated = _stated(stream)
        return stated == _digest(stream, stream.tell() - len(_LENGTH) - _SEAL)


def _stated(stream: BinaryIO) -> bytes | None:
    """The hash at the end of a file, which is read to its end; None where there is none."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - len(_LENGTH) - _SEAL))
    found = re.fullmatch(re.escape(_LENGTH) + rb"([0-9a-f]{%d})" % _SEAL, stream.read())
    return found[1] if found else None


def _digest(stream: BinaryIO, size: int) -> bytes:
    """SHA-256 of a file's first bytes, in hexadecimal."""
    stream.seek(0)
    content = hashlib.sha256()
    while size > 0 and (piece := stream.read(min(size, 1 << 20))):
        content.update(piece)
        size -= len(piece)
    return content.hexdigest().encode()


class _Size(NamedTuple):
    """How deep tuples nest in a value, and how many values it holds, each as often as it does."""

    depth: int = 0
    values: int = 1


_MOST = _Size(100, 100_000)
"""Of a tuple. PyTorch nests four; the state of Python's random numbers has 627 values."""

_ZIP = b"PK\x03\x04"
"""How a file begins that PyTorch reads as a zip file, whatever follows."""

_EARLIER_PICKLES = 5
"""How many pickles a file begins with that is not a zip file, as PyTorch wrote them once."""


def is_hostile(path: Path) -> bool:
    """Whether a file makes tuples of tuples that end the process when they are hashed.

    Python hashes the keys of dictionaries, and follows their nesting until the stack overflows, or
    repeated parts until the end of time. Nothing is made of the file.
    """
    try:
        return any(size.depth > _MOST.depth or size.values > _MOST.values for size in _tuples(path))
    except Exception:  # PyTorch says what is wrong with a file
        return False


def _tuples(path: Path) -> Iterator[_Size]:
    """The sizes of all tuples that a file makes."""
    with regular(path, WEIGHTS).open("rb") as stream:
        is_zip = stream.read(len(_ZIP)) == _ZIP
        stream.seek(0)
        if not is_zip:
            for _ in range(_EARLIER_PICKLES):
                yield from _made(stream)
            return
        with ZipFile(stream) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        yield from _made(pickled)


def _made(pickled: IO[bytes]) -> Iterator[_Size]:
    """The sizes of the tuples that a pickle makes."""
    stack: list[_Size | None] = []  # None is a mark
    memo: dict[object, _Size | None] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "MARK":
            stack.append(None)
        elif opcode.name == "DUP":
            stack.append(stack[-1])
        elif "GET" in opcode.name:
            stack.append(memo[argument])
        elif "PUT" in opcode.name or opcode.name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        else:
            taken, size = _taken(stack, opcode), _Size()
            if "TUPLE" in opcode.name:
                depth = max((one.depth for one in taken), default=0)
                size = _Size(1 + depth, 1 + sum(one.values for one in taken))
                yield size
            stack += [size] * len(opcode.stack_after)


def _taken(stack: list[_Size | None], opcode: pickletools.OpcodeInfo) -> list[_Size]:
    """What an instruction takes off the stack, all down to the last mark where it says so."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        return [size for _ in before if (size := stack.pop())]
    taken = []
    while (size := stack.pop()) is not None:
        taken.append(size)
    del stack[len(stack) - before.index(pickletools.markobject) :]
    return taken
