"""Files pinned by commit, size and SHA-256: their lists, and their download over https alone."""

from __future__ import annotations

import csv
import re
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from platformdirs import user_cache_path

from harness.cards import RemoteFile
from harness.errors import HarnessError, MismatchError
from harness.files import whole
from harness.record import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO


_BELOW = r"(?!/)(?!(.*/)?\.\.(/|$)).+"
_COLUMNS = {
    "sha256": r"[0-9a-f]{64}",
    "pixels_sha256": r"[0-9a-f]{64}",
    "repository": r"[\w.-]+/[\w.-]+",
    "commit": r"[\w.]+",
    "path": _BELOW,
    "file": _BELOW,
    "bytes": r"[1-9]\d*",
    "width": r"[1-9]\d*",
    "height": r"[1-9]\d*",
    "original_width": r"([1-9]\d*)?",
    "original_height": r"([1-9]\d*)?",
    "scales": r"\d( \d)*",
}
"""What the columns of the lists look like; paths stay below the folder they are relative to."""


def pinned_rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of ``harness/data/pins``.

    Raises:
        HarnessError: a row is damaged.
    """
    text = files("harness.data").joinpath("pins", f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), restkey="more"))
    for number, row in enumerate(rows, start=2):
        wrong = [c for c, p in _COLUMNS.items() if c in row and not re.fullmatch(p, row[c] or "")]
        if wrong or "more" in row:
            said = " and ".join(wrong) or "number of columns"
            raise HarnessError(
                f"Line {number} of the pinned list {name}.csv is damaged ({said}): reinstall "
                "drfn-harness."
            )
    return rows


def remote_file(row: dict[str, str]) -> RemoteFile:
    """The pinned file that a row names."""
    return RemoteFile(
        row["repository"], row["commit"], row["path"], int(row["bytes"]), row["sha256"]
    )


HOST = "https://raw.githubusercontent.com"
LIMITS = ((30.0, 1_000), (60.0, 60_000))
"""Seconds within which at least as many more bytes must come; else a download is given up."""

_PROBE_SECONDS = 4.0
_READ_SECONDS = 60.0
"""After which the thread of a download that was given up ends."""

_TICK_SECONDS = 0.1
_PIECE = 1_000
"""Bytes that are read at a time: a larger piece of what trickles would be waited for too long."""


class OfflineError(HarnessError):
    """The host of the files cannot be reached."""


def cache_root() -> Path:
    """The user's cache folder of this harness."""
    return user_cache_path("drfn-harness")


def unwritable(path: Path, error: OSError) -> HarnessError:
    """What to say where the cache cannot be written."""
    return HarnessError(
        f"{path} cannot be written ({error}): choose another folder for the cache with the "
        "environment variable XDG_CACHE_HOME."
    )


def url(file: RemoteFile) -> str:
    """Where a pinned file of a public repository is downloaded from."""
    return f"{HOST}/{file.repository}/{file.commit}/{quote(file.path)}"


def unsound(files: Iterable[tuple[RemoteFile, Path]]) -> list[tuple[RemoteFile, Path]]:
    """Those files that are missing, truncated or altered where they should be."""
    return [(file, path) for file, path in files if not _is_sound(file, path)]


def _is_sound(file: RemoteFile, path: Path) -> bool:
    try:
        return path.stat().st_size == file.bytes and file_digest(path) == file.sha256
    except (OSError, HarnessError):  # what cannot be read is replaced
        return False


def fetch(
    files: Iterable[tuple[RemoteFile, Path]], done: Callable[[Path], object] = lambda path: None
) -> None:
    """Download files, four at a time, each to a temporary file that is renamed once it is right.

    An error, or Ctrl-C, ends all downloads at once; files that arrived before stay.

    Args:
        files: what to download and where to put it; what is there and right is left alone.
        done: called with each path that arrived.

    Raises:
        OfflineError: the host cannot be reached; noticed once, within seconds.
        MismatchError: a file is not what was pinned.
        HarnessError: the host refused a file, or sends it too slowly.
    """
    wanted = unsound(files)
    if not wanted:
        return
    if not _reachable(HOST):
        raise OfflineError(
            f"{HOST} cannot be reached: connect to the network, or bring the files below folders "
            "that HARNESS_DATA and HARNESS_WEIGHTS name."
        )
    stop = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        try:
            for one in as_completed([pool.submit(_fetch_one, stop, *pair) for pair in wanted]):
                done(one.result())
        finally:
            stop.set()


def _fetch_one(stop: threading.Event, file: RemoteFile, path: Path) -> Path:
    import requests

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            with partial.open("wb") as target:
                _wait_for(_Transfer(file, target), stop)
            if not _is_sound(file, partial):
                raise _mismatch(file)
    except requests.RequestException as error:
        raise HarnessError(f"The download of {url(file)} failed ({error}): try again.") from error
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def _mismatch(file: RemoteFile) -> MismatchError:
    return MismatchError(
        f"{url(file)} does not have the SHA-256 {file.sha256[:12]}... and the {file.bytes} bytes "
        "that the registry pins: nothing was kept."
    )


def _wait_for(transfer: _Transfer, stop: threading.Event) -> None:
    """Wait until a transfer ends, and no longer than it brings what it must.

    Raises:
        CancelledError: it is to stop.
        HarnessError: it is too slow.
        Exception: what the transfer met.
    """
    transfer.start()
    marks = [(time.monotonic(), 0)] * len(LIMITS)
    while transfer.is_alive() and not stop.is_set():
        transfer.join(_TICK_SECONDS)
        _require_pace(transfer, marks)
    if stop.is_set():
        raise CancelledError
    if transfer.error:
        raise transfer.error


def _require_pace(transfer: _Transfer, marks: list[tuple[float, int]]) -> None:
    """Refuse a transfer that is below a limit, and set the mark of each that it has reached.

    Args:
        transfer: what may be too slow.
        marks: for each of the limits, the time it is counted from and the bytes there were then.
    """
    now, received = time.monotonic(), transfer.received
    for place, (seconds, least) in enumerate(LIMITS):
        since, before = marks[place]
        if received - before >= least:
            marks[place] = now, received
        elif now - since > seconds and transfer.is_alive():
            raise HarnessError(
                f"The download of {transfer.address} was given up, as fewer than {least:,} bytes "
                f"came in {seconds:g} s: try again, or bring the file below a folder that "
                "HARNESS_DATA or HARNESS_WEIGHTS names."
            )


class _Transfer(threading.Thread):
    """Writes what the host gives for a file, and stops once it is more than it may be.

    A host may keep whoever reads from it waiting, so this is a thread that nobody has to wait for;
    it ends when the target is closed. A redirection is not followed: it could lead to another
    host, or away from https.

    Attributes:
        received: how many bytes have come.
        error: what ended it, if not the end of the file.
    """

    def __init__(self, file: RemoteFile, target: BinaryIO) -> None:
        super().__init__(daemon=True)
        self.address, self.received = url(file), 0
        self.error: Exception | None = None
        self._file, self._target = file, target

    def run(self) -> None:
        """Write the file, or note why that is not possible."""
        try:
            self._write()
        except Exception as error:  # whoever waits for the thread raises it
            self.error = error

    def _write(self) -> None:
        import requests

        limits = (_PROBE_SECONDS, _READ_SECONDS)
        options: dict[str, Any] = {"stream": True, "timeout": limits, "allow_redirects": False}
        with requests.get(self.address, **options) as answer:
            answer.raise_for_status()
            if answer.is_redirect:
                raise requests.TooManyRedirects(
                    f"it was redirected to {answer.headers['location']}"
                )
            for piece in answer.iter_content(_PIECE):
                self.received += len(piece)
                if self.received > self._file.bytes:
                    raise _mismatch(self._file)
                self._target.write(piece)


@cache
def _reachable(host: str) -> bool:
    """Whether the host answers at all; asked once a process.

    A name server that stays silent cannot be given a time limit, so a thread waits for it.
    """
    answered, ended = threading.Event(), threading.Event()

    def probe() -> None:
        import requests

        with suppress(requests.RequestException):
            requests.head(host, timeout=_PROBE_SECONDS)
            answered.set()
        ended.set()

    threading.Thread(target=probe, daemon=True).start()
    ended.wait(_PROBE_SECONDS)
    return answered.is_set()
