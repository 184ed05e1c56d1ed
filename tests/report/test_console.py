import os
import pty
import subprocess
import sys
from pathlib import Path


def test_a_terminal_sees_a_bar_and_then_the_outcome(photos: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["run", "--models", "bicubic", "--datasets", str(photos)]
    command = [sys.executable, "-m", "harness", *words]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(theirs)
    seen = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "━" in seen and "3/3" in seen
    assert "(3 images computed)" in seen
    assert "━" not in done.stdout
