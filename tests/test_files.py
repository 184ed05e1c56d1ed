"""Safe reading and atomic writing of files."""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.files import TEXT, regular, whole, write_atomically


def test_a_file_or_a_link_to_one_may_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert regular(tmp_path / name, 1).read_text() == "x"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fifo", "a FIFO"), ("socket", "a socket"), ("device", "a device"), ("folder", "a folder")],
)
def test_nothing_else_may_nor_a_link_to_it(tmp_path: Path, name: str, kind: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(name)
    for path in (tmp_path / name, tmp_path / "link"):
        with pytest.raises(OSError, match=f"is {kind}, not a file"):
            regular(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(TEXT + 1)
    with pytest.raises(OSError, match="67,108,865 bytes, and at most 67,108,864 are read"):
        regular(tmp_path / "sparse", TEXT)
    with pytest.raises(FileNotFoundError):
        regular(tmp_path / "gone")


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").write_text("old")

    def broken() -> None:
        with whole(tmp_path / "x") as partial:
            if kind == "folder":
                partial.mkdir()
                partial /= "inside"
            partial.write_text("half")
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError):
        broken()
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


KILLED = """
import os, sys
from pathlib import Path
from harness.files import whole, write_atomically

with whole(Path("x")) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_killed_processes_left_goes_and_what_others_are_writing_stays(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    writing = tmp_path / f".x.{platform.node()}.{os.getppid()}"
    elsewhere = tmp_path / ".x.another-machine.999999999"
    another = tmp_path / ".y.of.another.file"
    for path in (writing, elsewhere, another):
        path.touch()
    with whole(tmp_path / "x") as partial:
        partial.write_text("whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "x", writing, elsewhere, another}


def test_the_longest_name_of_a_file_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ü" * 127):
        write_atomically(tmp_path / name, name)
        assert (tmp_path / name).read_text() == name
    assert len(os.listdir(tmp_path)) == 2


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("fifo", "link"):
        with pytest.raises(OSError, match="not a file"):
            write_atomically(tmp_path / name, "x")
    assert sorted(os.listdir(tmp_path)) == ["fifo", "link"]
