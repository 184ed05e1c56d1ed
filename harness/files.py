"""Files: those of others are opened with care, those of the harness appear whole, and locks."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import HarnessError

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


try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


def require_locks() -> None:
    """Refuse a system without locks, before work that needs one is begun.

    Raises:
        HarnessError: it has no ``flock``, as Windows.
    """
    if fcntl is None:
        raise HarnessError(
            "This system cannot lock files (flock): run drfn-harness on Linux, macOS or WSL."
        )


class FileLock:
    """A lock that one process at a time holds, and that ends with the process, however it ends.

    A file system that cannot lock (Lustre mounted without ``flock``, say) lets everyone pass.

    Args:
        path: the lock's file; it is there while the lock is held, and after a kill, when it
            stops nobody.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; False if another process holds it and is not waited for.

        Raises:
            HarnessError: the file cannot be made, or this system cannot lock.
        """
        require_locks()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            taken: bool | None = None
            while taken is None:
                taken = self._try(wait)
        except OSError as error:
            raise HarnessError(f"The lock {self.path} cannot be written ({error}).") from error
        return taken

    @contextmanager
    def held(self, otherwise: str = "") -> Iterator[None]:
        """Hold the lock, and give it back at the end.

        Args:
            otherwise: what to say where another process holds it; empty to wait for that one.

        Raises:
            HarnessError: another process holds it, or it cannot be taken.
        """
        if not self.acquire(wait=not otherwise):
            raise HarnessError(otherwise)
        try:
            yield
        finally:
            self.release()

    def _try(self, wait: bool) -> bool | None:
        """Take the lock, or not; None if the file was removed before it was locked."""
        # Refuses symbolic links and FIFOs: the lock's file is removed on release.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError("it is not a file")
            if not _lock(file, wait):
                return False
            if os.fstat(file).st_nlink == 0:
                return None
            self._file, file = file, -1
            return True
        finally:
            if file >= 0:
                os.close(file)

    def release(self) -> None:
        """Give the lock back, if it is held; its file goes first, so that no other's is removed."""
        if self._file is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _lock(file: int, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return True
