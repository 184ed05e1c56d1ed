"""Locks between processes that share a results folder."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from harness.errors import HarnessError

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


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
            HarnessError: the file cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            taken: bool | None = None
            while taken is None:
                taken = self._try(wait)
        except OSError as error:
            raise HarnessError(f"The lock {self.path} cannot be written ({error}).") from error
        return taken

    def _try(self, wait: bool) -> bool | None:
        """Take the lock, or not; None if the file was removed before it was locked."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
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
