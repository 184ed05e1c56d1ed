"""Safe reading of files, atomic writing, and file locks."""

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
"""Largest size in bytes of a record, journal, log, recipe, plug-in or notes file."""
PAPER = 1 << 20
"""Largest size in bytes of a paper: checks take longer than to read it."""
IMAGE = 1 << 30
"""Largest size in bytes of an image file: 200 million RGB pixels take 600 million bytes."""
WEIGHTS = 16 << 30
"""Largest size in bytes of a weights file or checkpoint."""


def regular(path: Path, most: int | None = None) -> Path:
    """Return the path if it is a regular file, or a link to one, of at most ``most`` bytes.

    Opening a FIFO waits for a writer, and reading a device may never end.

    Raises:
        OSError: the file is missing, too large, or not a regular file.
    """
    if kind(path) != "a file":
        raise OSError(f"{path} is {kind(path)}, not a file")
    size = path.stat().st_size
    if most is not None and size > most:
        raise OSError(f"{path} has {size:,} bytes, and at most {most:,} are read")
    return path


def kind(path: Path) -> str:
    """Name the type of a path, links followed: ``a file``, ``a folder``, ``a FIFO``, ...

    Raises:
        OSError: the path does not exist, or permission is denied.
    """
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(path.stat().st_mode), "something else")


def recorded_path(path: Path) -> str:
    """Return what a record says of a path that the user gave.

    It is relative to the working folder, or for a path elsewhere the last name alone: records are
    published, and need not tell where the user keeps files.
    """
    path = Path(os.path.abspath(path))
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to ``path`` when the block ends without an error.

    After an error the temporary file is removed, and so are those of killed processes for ``path``.

    Raises:
        OSError: the temporary file cannot be written, or cannot replace ``path``.
    """
    if not path.name:
        raise OSError(f"{path} is a folder, not a file")
    prefix = f".{_short(path.name)}.{platform.node()}."
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        if not _is_alive(leftover.name.removeprefix(prefix)):
            _remove(leftover)
    if os.path.exists(path) and not os.path.isdir(path):
        regular(path)
    partial = path.with_name(f"{prefix}{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        _remove(partial)


def _short(name: str, most: int = 150) -> str:
    """Return a file name, or its hash if the name is too long to be part of another one."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= most else hashlib.sha256(encoded).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old or the new content, never a part of it."""
    with whole(path) as partial, partial.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())


def write_file(path: Path, content: str | bytes, what: str) -> None:
    """Write a file atomically, in a folder that is created if it is missing.

    Raises:
        HarnessError: the file cannot be written; ``what`` names it in the message.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise HarnessError(f"The {what} {path} cannot be written ({error}).") from error


def require_writable(folder: Path, what: str, option: str) -> None:
    """Create a folder if it is missing, and check that files can be written there.

    Args:
        folder: the folder to check.
        what: what the folder is for, in the error message.
        option: the command-line option that chooses another folder.

    Raises:
        HarnessError: the folder cannot be written.
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


def _is_alive(suffix: str) -> bool:
    """Whether the process that wrote a partial file still runs.

    A suffix that is not a process id is assumed to be in use.
    """
    if not suffix.isdecimal():
        return True
    try:
        os.kill(int(suffix), 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


try:
    import fcntl
except ImportError:  # Windows has no fcntl
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


def require_locks() -> None:
    """Check that this system has file locks, before work that needs them starts.

    Raises:
        HarnessError: the system has no ``flock``, such as Windows.
    """
    if fcntl is None:
        raise HarnessError(
            "This system cannot lock files (flock): run drfn-harness on Linux, macOS or WSL."
        )


class FileLock:
    """A lock that one process holds at a time; the system frees it when the process ends.

    On a file system without locks (such as Lustre mounted without ``flock``) every process gets it.

    Args:
        path: the lock file; it exists while the lock is held. One that a killed process leaves
            behind blocks nobody.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; return False if another process holds it and ``wait`` is False.

        Raises:
            HarnessError: the lock file cannot be created, or this system has no locks.
        """
        require_locks()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._locked(wait)
            while self._file is not None and os.fstat(self._file).st_nlink == 0:
                os.close(self._file)  # the file was removed before it was locked
                self._file = self._locked(wait)
        except OSError as error:
            raise HarnessError(f"The lock {self.path} cannot be written ({error}).") from error
        return self._file is not None

    @contextmanager
    def held(self, message: str = "") -> Iterator[None]:
        """Hold the lock for the block, then release it; without a message, wait for it.

        Raises:
            HarnessError: another process holds the lock (the message), or it cannot be taken.
        """
        if not self.acquire(wait=not message):
            raise HarnessError(message)
        try:
            yield
        finally:
            self.release()

    def _locked(self, wait: bool) -> int | None:
        """Open the file and lock it; None if another process holds it."""
        # Refuse symbolic links and FIFOs: the lock file is removed on release.
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError("it is not a file")
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return file
            os.close(file)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return file

    def release(self) -> None:
        """Release the lock if held; the file goes first, so that no other holder's is removed."""
        if self._file is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
