import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.data import download
from harness.data.download import OfflineError, fetch
from harness.errors import HarnessError, MismatchError
from harness.specs import RemoteFile
from tests.conftest import Host

CONTENT = b"some pixels"
# Before any test puts a host of its own in its place.
PUBLIC_HOST = download.HOST


@pytest.fixture
def server(host: Host) -> Path:
    """The folder that the host serves as one commit of a repository."""
    folder = host.root / "owner/repo/abc"
    (folder / "a folder").mkdir(parents=True)
    return folder


def pinned(path: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile("owner/repo", "abc", path, len(content), hashlib.sha256(content).hexdigest())


def test_files_arrive_whole_and_what_is_there_is_left_alone(
    host: Host, server: Path, tmp_path: Path
) -> None:
    names = ["a folder/1 #.png", "2.png"]
    for name in names:
        (server / name).write_bytes(CONTENT)
    pairs = [(pinned(name), tmp_path / "cache" / name) for name in names]
    arrived: list[Path] = []
    fetch(pairs, arrived.append)
    assert arrived == [path for _, path in pairs]
    assert all(path.read_bytes() == CONTENT for path in arrived)
    host.requests.clear()
    fetch(pairs)
    assert host.requests == []


def test_a_file_with_another_checksum_is_not_kept(server: Path, tmp_path: Path) -> None:
    (server / "x.png").write_bytes(b"something else")
    with pytest.raises(MismatchError, match="does not have the SHA-256"):
        fetch([(pinned("x.png"), tmp_path / "cache/x.png")])
    assert list((tmp_path / "cache").iterdir()) == []


def test_every_address_is_one_of_https() -> None:
    assert PUBLIC_HOST.startswith("https://")


class Odd(BaseHTTPRequestHandler):
    """A host that sends no end of bytes, or sends elsewhere."""

    sent = 0

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        if self.path.endswith("moved.png"):
            self.send_response(302)
            self.send_header("Location", "http://elsewhere.invalid/moved.png")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while Odd.sent < 100_000_000:
                self.wfile.write(bytes(100_000))
                Odd.sent += 100_000

    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def odd_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(download, "HOST", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def test_a_download_ends_when_it_is_larger_than_the_registry_says(odd_host, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="and the 11 bytes that the registry pins"):
        fetch([(pinned("endless.png"), tmp_path / "cache/endless.png")])
    assert Odd.sent < 50_000_000
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_redirection_is_not_followed(odd_host, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"redirected to http://elsewhere\.invalid"):
        fetch([(pinned("moved.png"), tmp_path / "cache/moved.png")])
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_the_host_does_not_have_is_named(server: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"gone\.png failed \(404"):
        fetch([(pinned("gone.png"), tmp_path / "gone.png")])


def test_a_folder_that_cannot_be_written_is_named(server: Path, tmp_path: Path) -> None:
    (server / "x.png").write_bytes(CONTENT)
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="cannot be written"):
        fetch([(pinned("x.png"), tmp_path / "file/x.png")])


def test_a_missing_network_is_noticed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import requests

    asked: list[str] = []

    def silent_host(url: str, **options: object) -> None:
        asked.append(url)
        time.sleep(30)

    monkeypatch.setattr(requests, "head", silent_host)
    monkeypatch.setattr(download, "_PROBE_SECONDS", 0.1)
    for name in ("1.png", "2.png"):
        with pytest.raises(OfflineError, match="cannot be reached"):
            fetch([(pinned(name), tmp_path / name)])
    assert len(asked) == 1
