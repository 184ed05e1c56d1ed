from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What makes the files, the command that meets them, its exit code, a part of what it says.

    There is a sound image in the folder ``good``.
    """

    name: str
    make: Callable[[], object]
    words: str
    code: int
    said: str


def nothing() -> None:
    """No file is needed."""
