"""Only files are opened, and none that are larger than their kind can be."""

import os
import socket
from pathlib import Path

import pytest

from harness.files import TEXT, regular


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
