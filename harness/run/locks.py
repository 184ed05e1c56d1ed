"""Locks between processes that share a folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import HarnessError

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
