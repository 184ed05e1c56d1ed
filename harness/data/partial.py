"""Files and folders that appear whole: made under another name, and renamed."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import HarnessError
from harness.files import regular


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write under, which becomes ``path`` when the block ends without an error.

    An error leaves nothing behind, and what a killed process has left of the same path goes.

    Raises:
        OSError: the name cannot be written, or cannot take the other's place.
    """
    if not path.name:
        raise OSError(f"{path} is a folder, not a file")
    start = f".{_short(path.name)}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(start)}*"):
        if not _is_alive(left.name.removeprefix(start)):
            _remove(left)
    if os.path.exists(path) and not os.path.isdir(path):
        regular(path)
    partial = path.with_name(f"{start}{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        _remove(partial)


def _short(name: str, most: int = 150) -> str:
    """The name of a file, or its hash where no more would fit into the name of another file."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= most else hashlib.sha256(encoded).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old or the new one, never a part."""
    with whole(path) as partial, partial.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def require_writable(folder: Path, what: str, option: str) -> None:
    """Make a folder, and try to write there.

    Args:
        folder: the one that is to be written to.
        what: whose it is, for the sentence.
        option: names another.

    Raises:
        HarnessError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HarnessError(
            f"The {what} folder {folder} cannot be written ({error.strerror}): choose "
            f"another with {option}."
        ) from error


def _is_alive(process: str) -> bool:
    """Whether a process of this machine is at work; what is no number may be anyone's."""
    if not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()
