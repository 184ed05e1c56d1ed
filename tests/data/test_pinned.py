"""Downloads of pinned files."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest

from harness.cards import RemoteFile
from harness.data import pinned
from harness.data.pinned import OfflineError, fetch, git_pin, pinned_rows, remote_file, unsound, url
from harness.errors import HarnessError, MismatchError
from tests.conftest import Host

CONTENT = b"some pixels"
# Saved before tests replace the host.
PUBLIC_HOST = pinned.HOST


@pytest.fixture
def server(host: Host) -> Path:
    """The folder that the host serves as one commit of a repository."""
    folder = host.root / "owner/repo/abc"
    (folder / "a folder").mkdir(parents=True)
    return folder


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pinned_file(path: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile("owner/repo", "abc", path, len(content), f"sha256:{digest(content)}")


def test_files_arrive_whole_and_what_is_there_is_left_alone(
    host: Host, server: Path, tmp_path: Path
) -> None:
    names = ["a folder/1 #.png", "2.png"]
    for name in names:
        (server / name).write_bytes(CONTENT)
    pairs = [(pinned_file(name), tmp_path / "cache" / name) for name in names]
    arrived: list[Path] = []
    fetch(pairs, arrived.append)
    assert sorted(arrived) == sorted(path for _, path in pairs)
    assert all(path.read_bytes() == CONTENT for path in arrived)
    host.requests.clear()
    fetch(pairs)
    assert host.requests == []


@pytest.mark.parametrize("kept", [CONTENT[:4], CONTENT[:-1] + b"X", b""])
def test_what_is_truncated_or_altered_is_downloaded_again(
    server: Path, tmp_path: Path, kept: bytes
) -> None:
    (server / "x.png").write_bytes(CONTENT)
    path = tmp_path / "cache/x.png"
    path.parent.mkdir()
    path.write_bytes(kept)
    fetch([(pinned_file("x.png"), path)])
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_what_is_there_stays_where_it_cannot_be_replaced(server: Path, tmp_path: Path) -> None:
    (server / "x.png").write_bytes(b"something else")
    (tmp_path / "x.png").write_bytes(b"altered")
    with pytest.raises(MismatchError):
        fetch([(pinned_file("x.png"), tmp_path / "x.png")])
    assert (tmp_path / "x.png").read_bytes() == b"altered"


def test_a_file_with_another_checksum_is_not_kept(server: Path, tmp_path: Path) -> None:
    (server / "x.png").write_bytes(b"something else")
    with pytest.raises(MismatchError, match="does not have the SHA-256"):
        fetch([(pinned_file("x.png"), tmp_path / "cache/x.png")])
    assert list((tmp_path / "cache").iterdir()) == []


def test_every_address_is_one_of_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "HOST", PUBLIC_HOST)
    lists = ("testsets", "trainsets", "demo", "weights")
    addresses = [url(remote_file(row)) for name in lists for row in pinned_rows(name)]
    assert all(address.startswith("https://") for address in addresses)
    assert "https://cv.snu.ac.kr/research/EDSR/models/edsr_x4-4f62e9ef.pt" in addresses
    commit = f"{PUBLIC_HOST}/MIVRC/MSRN-PyTorch/a0e038de7eb42e21d2e88c38e6490b61a02c566e"
    assert f"{commit}/MSRN/Test/model/MSRN_x4.pt" in addresses


@pytest.mark.parametrize(
    ("content", "blob"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ],
)
def test_a_blob_id_is_that_of_git_hash_object(tmp_path: Path, content: bytes, blob: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert git_pin(tmp_path / "x") == f"git:{blob}"


WEAK = [f"sha256-prefix:{digest(CONTENT)[:8]}", "git:ae91021d85fafe4c239774dfb8c3f5c59a443edc"]


@pytest.mark.parametrize("pin", WEAK)
def test_a_file_of_unknown_size_is_kept_if_it_has_the_pinned_content(
    server: Path, tmp_path: Path, pin: str
) -> None:
    pair = RemoteFile("owner/repo", "abc", "x.pt", None, pin), tmp_path / "cache/x.pt"
    digits = pin.partition(":")[2]
    (server / "x.pt").write_bytes(CONTENT[:-1] + b"X")
    with pytest.raises(MismatchError, match=rf"does not have the .* {digits[:8]}\S*\.\.\. that"):
        fetch([pair])
    assert list((tmp_path / "cache").iterdir()) == []
    (server / "x.pt").write_bytes(CONTENT)
    fetch([pair])
    assert pair[1].read_bytes() == CONTENT and unsound([pair]) == []
    pair[1].write_bytes(CONTENT[:-1])
    assert unsound([pair]) == [pair]


def test_another_host_than_github_is_asked_by_its_own_address(
    host: Host, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server / "x.pt").write_bytes(CONTENT)
    folder = f"{pinned.HOST}/owner/repo/abc"
    monkeypatch.setattr(pinned, "HOST", "http://127.0.0.1:9")
    fetch([(RemoteFile(folder, "", "x.pt", None, WEAK[0]), tmp_path / "x.pt")])
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "pin", ["", "sha256:", f"sha256:{'0' * 63}", "sha256-prefix:4f62e9e", "git:0", "md5:0", "4f62"]
)
def test_a_list_without_a_whole_pin_is_refused(tmp_path: Path, monkeypatch, pin: str) -> None:
    text = files("harness.data").joinpath("pins/weights.csv").read_text()
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins/weights.csv").write_text(text.replace("sha256-prefix:4f62e9ef", pin))
    monkeypatch.setattr(pinned, "files", lambda package: tmp_path)
    with pytest.raises(HarnessError, match=r"Line 9 of .* weights\.csv is damaged \(pin\)"):
        pinned_rows("weights")


class Odd(BaseHTTPRequestHandler):
    """A host that sends too many bytes, redirects, stalls or trickles."""

    sent = 0
    over: threading.Event

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name == "silent.png":
            self.over.wait()
            return
        if name == "moved.png":
            self.send_response(302)
            self.send_header("Location", "http://elsewhere.invalid/moved.png")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            getattr(self, name.removesuffix(".png"), self.stalls)()

    def endless(self) -> None:
        while Odd.sent < 100_000_000:
            self.wfile.write(bytes(100_000))
            Odd.sent += 100_000

    def zeros(self) -> None:
        self.wfile.write(bytes(5_000))

    def stalls(self) -> None:
        self.zeros()
        self.over.wait()

    def trickles(self) -> None:
        while not self.over.wait(0.01):
            self.wfile.write(bytes(100))

    def steady(self) -> None:
        for _ in range(40):
            self.wfile.write(bytes(1_000))
            self.over.wait(0.05)

    def log_message(self, *words: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def odd_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Odd.over = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(pinned, "HOST", f"http://127.0.0.1:{server.server_port}")
    yield pinned.HOST
    Odd.over.set()
    server.shutdown()
    server.server_close()


NEVER = 3600.0
LARGE = bytes(1_000_000)


@pytest.mark.parametrize(
    ("name", "limits", "said"),
    [
        ("silent", ((0.3, 1_000), (NEVER, 60_000)), "fewer than 1,000 bytes came in 0.3 s"),
        ("stalls", ((0.3, 1_000), (NEVER, 60_000)), "fewer than 1,000 bytes came in 0.3 s"),
        ("trickles", ((NEVER, 1_000), (0.3, 60_000)), "fewer than 60,000 bytes came in 0.3 s"),
    ],
)
def test_a_host_that_stalls_or_trickles_is_given_up(
    odd_host: str, tmp_path: Path, monkeypatch, name: str, limits: object, said: str
) -> None:
    monkeypatch.setattr(pinned, "LIMITS", limits)
    with pytest.raises(HarnessError, match=rf"of {odd_host}/\S*/{name}\.png was given up.* {said}"):
        fetch([(pinned_file(f"{name}.png", LARGE), tmp_path / "cache/x.png")])
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_host_that_is_slow_and_steady_is_waited_for(
    odd_host: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(pinned, "LIMITS", ((1.0, 1_000), (1.0, 2_000)))
    fetch([(pinned_file("steady.png", bytes(40_000)), tmp_path / "x.png")])
    assert (tmp_path / "x.png").stat().st_size == 40_000


def test_one_download_that_fails_ends_the_others_at_once(odd_host: str, tmp_path: Path) -> None:
    names = ["stalls.png", "silent.png", "moved.png", "trickles.png", "last.png"]
    with pytest.raises(HarnessError, match="redirected"):
        fetch([(pinned_file(name, LARGE), tmp_path / name) for name in names])
    assert list(tmp_path.iterdir()) == []


def started(host: str, code: str, *words: str) -> subprocess.Popen[str]:
    """Run Python code in a separate process, with downloads from a host."""
    start = f"from harness.data import pinned; pinned.HOST = {host!r}; "
    command = [sys.executable, "-c", start + code, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


def wait_for_files(process: subprocess.Popen[str], folder: Path, count: int) -> list[Path]:
    """Wait until a folder holds this many files, and return them."""
    while len(found := [path for path in folder.rglob("*") if path.is_file()]) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found


def test_what_a_killed_download_left_goes_with_the_next_one(odd_host: str, tmp_path: Path) -> None:
    code = "from harness.cards import RemoteFile; from pathlib import Path; "
    code += "file = RemoteFile('owner/repo', 'abc', 'stalls.png', 10**6, 'sha256:0'); "
    code += "pinned.fetch([(file, Path('cache/x.png'))])"
    process = started(odd_host, code)
    (left,) = wait_for_files(process, tmp_path / "cache", 1)
    process.kill()
    process.communicate()
    assert left.exists() and left.name != "x.png"
    fetch([(pinned_file("zeros.png", bytes(5_000)), tmp_path / "cache/x.png")])
    assert os.listdir(tmp_path / "cache") == ["x.png"]


def test_ctrl_c_ends_downloads_at_once_and_leaves_nothing(odd_host: str, tmp_path: Path) -> None:
    code = "from harness.cli import main; main()"
    process = started(odd_host, code, "data", "fetch", "set5")
    wait_for_files(process, tmp_path / "cache", 4)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)  # the host stalls for longer
    assert process.returncode == 1 and said.endswith("Aborted!\n")
    assert "Traceback" not in said
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_download_ends_when_it_is_larger_than_the_registry_says(odd_host, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="and the 11 bytes that the registry pins"):
        fetch([(pinned_file("endless.png"), tmp_path / "cache/endless.png")])
    assert Odd.sent < 50_000_000
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("pin", WEAK)
def test_nor_does_a_file_of_unknown_size_fill_the_disk(
    odd_host, tmp_path: Path, monkeypatch, pin: str
) -> None:
    monkeypatch.setattr(pinned, "MOST_BYTES", 100_000)
    monkeypatch.setattr(Odd, "sent", 0)
    file = RemoteFile("owner/repo", "abc", "endless.png", None, pin)
    with pytest.raises(MismatchError, match="more than 100,000 bytes, the limit"):
        fetch([(file, tmp_path / "cache/endless.png")])
    assert Odd.sent < 50_000_000
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_redirection_is_not_followed(odd_host, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"redirected to http://elsewhere\.invalid"):
        fetch([(pinned_file("moved.png"), tmp_path / "cache/moved.png")])
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_the_host_does_not_have_is_named(server: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"gone\.png failed \(404"):
        fetch([(pinned_file("gone.png"), tmp_path / "gone.png")])


def test_a_folder_that_cannot_be_written_is_named(server: Path, tmp_path: Path) -> None:
    (server / "x.png").write_bytes(CONTENT)
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="cannot be written .* XDG_CACHE_HOME"):
        fetch([(pinned_file("x.png"), tmp_path / "file/x.png")])


def test_a_missing_network_is_noticed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import requests

    asked: list[str] = []

    def silent_host(url: str, **options: object) -> None:
        asked.append(url)
        time.sleep(30)

    monkeypatch.setattr(requests, "head", silent_host)
    monkeypatch.setattr(pinned, "_PROBE_SECONDS", 0.1)
    for name in ("1.png", "2.png"):
        with pytest.raises(OfflineError, match="cannot be reached"):
            fetch([(pinned_file(name), tmp_path / name)])
    assert len(asked) == 1
