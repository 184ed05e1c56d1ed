from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """The function that makes the files, the command, its exit code, and a part of its message.

    The folder ``good`` holds a valid image.
    """

    name: str
    make: Callable[[], object]
    words: str
    code: int
    said: str


def nothing() -> None:
    """Make no file."""
