"""Downloads of files pinned by commit, size and SHA-256, through pooch and over https alone."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from platformdirs import user_cache_path

from harness.errors import HarnessError, MismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from harness.specs import RemoteFile

HOST = "https://raw.githubusercontent.com"
_PROBE_SECONDS = 4.0
_READ_SECONDS = 60.0


class OfflineError(HarnessError):
    """The host of the files cannot be reached."""


def cache_root() -> Path:
    """The user's cache folder of this harness."""
    return user_cache_path("drfn-harness")


def url(file: RemoteFile) -> str:
    """Where a pinned file of a public repository is downloaded from."""
    return f"{HOST}/{file.repository}/{file.commit}/{quote(file.path)}"


def fetch(
    files: Iterable[tuple[RemoteFile, Path]], done: Callable[[Path], object] = lambda path: None
) -> None:
    """Download files, four at a time, each to a temporary file that is renamed once it is right.

    Args:
        files: what to download and where to put it; what is there already is left alone.
        done: called with each path that arrived.

    Raises:
        OfflineError: the host cannot be reached; noticed once, within seconds.
        MismatchError: a file is not what the registry says.
        HarnessError: the host refused a file.
    """
    wanted = [(file, path) for file, path in files if not path.exists()]
    if not wanted:
        return
    if not _reachable(HOST):
        raise OfflineError(
            f"{HOST} cannot be reached: connect to the network, or bring the files below folders "
            "that HARNESS_DATA and HARNESS_WEIGHTS name."
        )
    with ThreadPoolExecutor(4) as pool:
        for path in pool.map(lambda pair: _fetch_one(*pair), wanted):
            done(path)


def _fetch_one(file: RemoteFile, path: Path) -> Path:
    import pooch
    import requests

    def stream(address: str, output: str, _: object) -> None:
        _stream(address, output, file.bytes)

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            url(file),
            known_hash=f"sha256:{file.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=stream,
        )
    except requests.RequestException as error:
        raise HarnessError(f"The download of {url(file)} failed ({error}): try again.") from error
    except ValueError as error:
        raise MismatchError(
            f"{url(file)} does not have the SHA-256 {file.sha256[:12]}... and the {file.bytes} "
            "bytes that the registry pins: nothing was kept."
        ) from error
    except OSError as error:
        raise HarnessError(f"{path} cannot be written ({error}).") from error
    return path


def _stream(address: str, output: str, size: int) -> None:
    """Write what an address gives to a file, and stop once it is more than it may be.

    A redirection is not followed: it could lead to another host, or away from https.

    Raises:
        requests.RequestException: the host did not give the file.
        ValueError: it gave more.
    """
    import requests

    limits = (_PROBE_SECONDS, _READ_SECONDS)
    options: dict[str, Any] = {"stream": True, "timeout": limits, "allow_redirects": False}
    with requests.get(address, **options) as answer, open(output, "wb") as target:
        answer.raise_for_status()
        if answer.is_redirect:
            raise requests.TooManyRedirects(f"it was redirected to {answer.headers['location']}")
        for piece in answer.iter_content(1 << 16):
            size -= len(piece)
            if size < 0:
                raise ValueError("the file is larger than the registry says")
            target.write(piece)


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
