"""Files pinned by commit, size and SHA-256: read their lists, and download them over https."""

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
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING
from urllib.parse import quote

from platformdirs import user_cache_path

from harness.cards import RemoteFile
from harness.errors import HarnessError, MismatchError
from harness.files import whole
from harness.record import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_BELOW = r"(?!/)(?!(.*/)?\.\.(/|$)).+"
_COLUMNS = {
    "sha256": r"[0-9a-f]{64}",
    "pixels_sha256": r"[0-9a-f]{64}",
    "sr_sha256": r"[0-9a-f]{64}",
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
    "scale": r"\d",
    "self_ensemble": r"yes|no",
    "usual_names": r"([\w-]+( [\w-]+)*)?",
}
"""A regular expression for each column; paths must stay below their base folder."""


def pinned_rows(name: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file in ``harness/data/pins``.

    Raises:
        HarnessError: a row is damaged.
    """
    text = files("harness.data").joinpath("pins", f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), restkey="more"))
    for number, row in enumerate(rows, start=2):
        wrong = [c for c, p in _COLUMNS.items() if c in row and not re.fullmatch(p, row[c] or "")]
        if wrong or "more" in row:
            reason = " and ".join(wrong) or "number of columns"
            raise HarnessError(
                f"Line {number} of the pinned list {name}.csv is damaged ({reason}): reinstall "
                "drfn-harness."
            )
    return rows


def remote_file(row: dict[str, str]) -> RemoteFile:
    """Return the pinned file that a row describes."""
    return RemoteFile(
        row["repository"], row["commit"], row["path"], int(row["bytes"]), row["sha256"]
    )


HOST = "https://raw.githubusercontent.com"
LIMITS = ((30.0, 1_000), (60.0, 60_000))
"""Pairs (seconds, bytes): a download that receives fewer bytes in this time is stopped."""

_PROBE_SECONDS = 4.0
_READ_SECONDS = 60.0
"""Read timeout, after which the thread of a stopped download ends."""

_TICK_SECONDS = 0.1
_PIECE = 1_000
"""Bytes read at a time: with larger pieces, a slow download would seem to stand still."""
_AHEAD = 100
"""The most pieces that wait to be written."""


class OfflineError(HarnessError):
    """The host of the files cannot be reached."""


def cache_root() -> Path:
    """The user's cache folder of this harness."""
    return user_cache_path("drfn-harness")


def unwritable(path: Path, error: OSError) -> HarnessError:
    """Make the error for a cache that cannot be written."""
    return HarnessError(
        f"{path} cannot be written ({error}): choose another folder for the cache with the "
        "environment variable XDG_CACHE_HOME."
    )


def url(file: RemoteFile) -> str:
    """Return the download address of a pinned file."""
    return f"{HOST}/{file.repository}/{file.commit}/{quote(file.path)}"


def unsound(files: Iterable[tuple[RemoteFile, Path]]) -> list[tuple[RemoteFile, Path]]:
    """Select the files that are missing, truncated or altered at their paths."""
    return [(file, path) for file, path in files if not _is_sound(file, path)]


def _is_sound(file: RemoteFile, path: Path) -> bool:
    try:
        return path.stat().st_size == file.bytes and file_digest(path) == file.sha256
    except (OSError, HarnessError):  # a file that cannot be read is replaced
        return False


def fetch(
    files: Iterable[tuple[RemoteFile, Path]], done: Callable[[Path], object] = lambda path: None
) -> None:
    """Download files, four at a time, each to a temporary file that is renamed when it is correct.

    An error or Ctrl-C stops all downloads at once; complete files stay.

    Args:
        files: the files to download, with their paths; files that are already correct are skipped.
        done: called with each path when its file is complete.

    Raises:
        OfflineError: the host cannot be reached; this takes a few seconds, once per process.
        MismatchError: a file differs from its pin.
        HarnessError: the host refused a file, or sends it too slowly.
    """
    wanted = unsound(files)
    if not wanted:
        return
    if not _reachable(HOST):
        raise OfflineError(
            f"{HOST} cannot be reached: connect to the network, or copy the files into folders "
            "that HARNESS_DATA and HARNESS_WEIGHTS name."
        )
    stop = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        try:
            for future in as_completed([pool.submit(_fetch_one, stop, *pair) for pair in wanted]):
                done(future.result())
        finally:
            stop.set()


def _fetch_one(stop: threading.Event, file: RemoteFile, path: Path) -> Path:
    import requests

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            with partial.open("wb") as target:
                for piece in _received(file, stop):
                    target.write(piece)
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
        "that the registry pins: the file was not kept."
    )


def _received(file: RemoteFile, stop: threading.Event) -> Iterator[bytes]:
    """Yield the pieces of a download, as long as it is fast enough, see `LIMITS`.

    Raises:
        CancelledError: ``stop`` is set.
        MismatchError: the file is larger than its pin.
        HarnessError: the download is too slow.
        Exception: the error of the download.
    """
    # A host may keep its reader waiting: this thread need not be joined.
    pieces: Queue[bytes | Exception] = Queue(_AHEAD)
    threading.Thread(target=_send, args=(url(file), pieces), daemon=True).start()
    received = 0
    marks = [(time.monotonic(), received)] * len(LIMITS)  # when each limit was met last
    while True:
        piece: bytes | Exception | None = None
        with suppress(Empty):
            piece = pieces.get(timeout=_TICK_SECONDS)
        if stop.is_set():
            raise CancelledError
        if isinstance(piece, Exception):
            raise piece
        if piece == b"":
            return
        if piece:
            received += len(piece)
            if received > file.bytes:
                raise _mismatch(file)
            yield piece
        now = time.monotonic()
        for place, (seconds, least) in enumerate(LIMITS):
            since, before = marks[place]
            if received - before >= least:
                marks[place] = now, received
            elif now - since > seconds:
                raise HarnessError(
                    f"The download of {url(file)} was given up, as fewer than {least:,} bytes came "
                    f"in {seconds:g} s: try again, or copy the file into a folder that "
                    "HARNESS_DATA or HARNESS_WEIGHTS names."
                )


def _send(address: str, pieces: Queue[bytes | Exception]) -> None:
    """Put the pieces of a download into a queue, then nothing, or the error that ended it.

    Redirections are not followed: they could lead to another host, or away from https.
    """
    import requests

    limits = (_PROBE_SECONDS, _READ_SECONDS)
    with suppress(Full):  # nobody takes the pieces any more
        try:
            with requests.get(
                address, stream=True, timeout=limits, allow_redirects=False
            ) as response:
                response.raise_for_status()
                if response.is_redirect:
                    raise requests.TooManyRedirects(
                        f"it was redirected to {response.headers['location']}"
                    )
                for piece in response.iter_content(_PIECE):
                    pieces.put(piece, timeout=_READ_SECONDS)
                pieces.put(b"", timeout=_READ_SECONDS)
        except Exception as error:
            pieces.put(error, timeout=_READ_SECONDS)


@cache
def _reachable(host: str) -> bool:
    """Whether the host answers; checked once per process.

    A name lookup has no time limit of its own, so it runs in a thread.
    """
    answered = threading.Event()

    def probe() -> None:
        import requests

        with suppress(requests.RequestException):
            requests.head(host, timeout=_PROBE_SECONDS)
            answered.set()

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answered.is_set()
