"""Opening files that others made: regular ones only, and none larger than its kind can be."""

from __future__ import annotations

import stat
from pathlib import Path

TEXT = 64 << 20
"""Bytes of a record, journal, log, recipe, plug-in or notes file, at most."""
IMAGE = 1 << 30
"""Bytes of an image file, at most: 200 million pixels of RGB take 600 million."""
WEIGHTS = 16 << 30
"""Bytes of a weights file or checkpoint, at most."""


def regular(path: Path, most: int | None = None) -> Path:
    """The path of a regular file, or of a link to one, that may be opened.

    Opening a FIFO waits for a writer, and reading a device may never end.

    Args:
        path: the file.
        most: the bytes that it may have; None for any number.

    Raises:
        OSError: it is missing, no regular file, or larger.
    """
    if kind(path) != "a file":
        raise OSError(f"{path} is {kind(path)}, not a file")
    size = path.stat().st_size
    if most is not None and size > most:
        raise OSError(f"{path} has {size:,} bytes, and at most {most:,} are read")
    return path


def kind(path: Path) -> str:
    """What there is at a path, or where a link leads: ``a file``, ``a folder``, ``a FIFO``, ...

    Raises:
        OSError: nothing, or one may not look.
    """
    mode = path.stat().st_mode
    kinds = {
        stat.S_ISREG: "a file",
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a FIFO",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for is_it, name in kinds.items() if is_it(mode)), "something else")
