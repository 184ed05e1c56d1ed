"""Public files pinned by their content: read their lists, and download them over https."""

from __future__ import annotations

import csv
import hashlib
import os
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
from urllib.parse import quote, urlsplit

from platformdirs import user_cache_path

from harness.cards import RemoteFile
from harness.errors import HarnessError, MismatchError
from harness.files import WEIGHTS, regular, whole
from harness.record import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_BELOW = r"(?!/)(?!(.*/)?\.\.(/|$)).+"
_COLUMNS = {
    "pin": r"sha256:[0-9a-f]{64}|sha256-prefix:[0-9a-f]{8}|git:[0-9a-f]{40}",
    "sha256": r"[0-9a-f]{64}",
    "tensors_sha256": r"([0-9a-f]{64})?",
    "pixels_sha256": r"[0-9a-f]{64}",
    "sr_sha256": r"[0-9a-f]{64}",
    "repository": r"[\w.-]+/[\w.-]+|https://[\w.-]+(/[\w-]+)*",
    "commit": r"[\w.]*",
    "path": _BELOW,
    "file": _BELOW,
    "bytes": r"([1-9]\d*)?",
    "width": r"[1-9]\d*",
    "height": r"[1-9]\d*",
    "original_width": r"([1-9]\d*)?",
    "original_height": r"([1-9]\d*)?",
    "scales": r"\d( \d)*",
    "third_party": r"(mirrored|converted)?",
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


def remote_file(row: Mapping[str, str]) -> RemoteFile:
    """Return the pinned file that a row describes."""
    size = int(row["bytes"]) if row["bytes"] else None
    pin = row.get("pin") or f"sha256:{row['sha256']}"
    return RemoteFile(row["repository"], row["commit"], row["path"], size, pin)


HOST = "https://raw.githubusercontent.com"
"""Where GitHub serves the files of its repositories."""
MOST_BYTES = 256 << 20
"""The most bytes of a download whose size is not pinned; EDSR's weights have about 172 million."""
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


def named_roots(variable: str) -> list[Path]:
    """List the folders that ``HARNESS_DATA`` or ``HARNESS_WEIGHTS`` names."""
    return [Path(part) for part in os.environ.get(variable, "").split(os.pathsep) if part]


def missing_roots() -> list[str]:
    """Say which folders the environment variables name that do not exist."""
    return [
        f"{variable} names {root}, which is no folder; '{os.pathsep}' separates several."
        for variable in ("HARNESS_DATA", "HARNESS_WEIGHTS")
        for root in named_roots(variable)
        if not os.path.isdir(root)
    ]


def unwritable(path: Path, error: OSError) -> HarnessError:
    """Make the error for a cache that cannot be written."""
    return HarnessError(
        f"{path} cannot be written ({error}): choose another folder for the cache with the "
        "environment variable XDG_CACHE_HOME."
    )


def url(file: RemoteFile) -> str:
    """Return the download address of a pinned file."""
    on_github = "://" not in file.repository
    folder = f"{HOST}/{file.repository}/{file.commit}" if on_github else file.repository
    return f"{folder}/{quote(file.path)}"


def sha256_pin(path: Path) -> str:
    """Return the strongest pin of a file on this machine: its whole SHA-256."""
    return f"sha256:{file_digest(path)}"


def git_pin(path: Path) -> str:
    """Return the pin of a file on this machine by git's blob id: SHA-1 of its size and bytes.

    Raises:
        OSError, HarnessError: the file cannot be read.
    """
    with regular(path, WEIGHTS).open("rb") as stream:
        header = b"blob %d\0" % path.stat().st_size
        sha1 = hashlib.file_digest(stream, lambda: hashlib.sha1(header, usedforsecurity=False))
    return f"git:{sha1.hexdigest()}"


PINS = {
    "sha256": "its SHA-256",
    "git": "its git blob id, a SHA-1, which is hard to forge but weaker than a SHA-256",
    "sha256-prefix": "the start of its SHA-256 only, which reveals damage but can be forged",
}
"""What each kind of pin is, and how much it protects."""


def unsound(files: Iterable[tuple[RemoteFile, Path]]) -> list[tuple[RemoteFile, Path]]:
    """Select the files that are missing, truncated or altered at their paths."""
    return [(file, path) for file, path in files if not matches(file, path)]


def matches(file: RemoteFile, path: Path) -> bool:
    """Whether the file at a path is there, can be read, and has the pinned size and content."""
    kind, _, digits = file.pin.partition(":")
    try:
        if file.bytes not in (None, path.stat().st_size):
            return False
        found = git_pin(path) if kind == "git" else sha256_pin(path)
    except (OSError, HarnessError):
        return False
    return found.partition(":")[2].startswith(digits)


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
    for host in dict.fromkeys(_host(file) for file, _ in wanted):
        if not _reachable(host):
            raise OfflineError(
                f"{host} cannot be reached: connect to the network, or copy the files into folders "
                "that the environment variables HARNESS_DATA (images) and HARNESS_WEIGHTS name."
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
            if not matches(file, partial):
                raise _mismatch(file)
    except requests.RequestException as error:
        raise HarnessError(f"The download of {url(file)} failed ({error}): try again.") from error
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def _mismatch(file: RemoteFile) -> MismatchError:
    kind, _, digits = file.pin.partition(":")
    name = "git blob id" if kind == "git" else "SHA-256"
    size = f" and the {file.bytes} bytes" if file.bytes else ""
    return MismatchError(
        f"{url(file)} does not have the {name} {digits[:12]}...{size} that the registry pins: the "
        "file was not kept."
    )


def _endless(file: RemoteFile) -> MismatchError:
    return MismatchError(
        f"{url(file)} has more than {MOST_BYTES:,} bytes, the limit for a file whose size is not "
        "pinned: the file was not kept."
    )


def _received(file: RemoteFile, stop: threading.Event) -> Iterator[bytes]:
    """Yield the pieces of a download, as long as it is fast enough, see `LIMITS`.

    Raises:
        CancelledError: ``stop`` is set.
        MismatchError: the file is larger than its pinned size, or than `MOST_BYTES` without one.
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
            if received > (file.bytes or MOST_BYTES):
                raise _mismatch(file) if file.bytes else _endless(file)
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


def _host(file: RemoteFile) -> str:
    return "{0.scheme}://{0.netloc}".format(urlsplit(url(file)))


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
