import os
import pty
import subprocess
import sys
from pathlib import Path

from harness.report.console import Bars
from harness.run.plan import Request, plan
from harness.specs import ImageResult
from tests.records import record


def test_a_terminal_sees_a_bar_and_then_the_outcome(photos: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["run", "--models", "bicubic", "--datasets", str(photos)]
    command = [sys.executable, "-m", "harness", *words]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(theirs)
    seen = os.read(ours, 100_000).decode(errors="ignore")  # which ends anywhere
    os.close(ours)
    assert done.returncode == 0
    assert "━" in seen and "3/3" in seen
    assert "(3 images computed)" in seen
    assert "━" not in done.stdout


def test_runs_that_are_under_way_at_once_have_a_bar_each(photos: Path, capsys) -> None:
    first, second = plan(Request(["bicubic", "bicubic-rgb"], [str(photos)])).runs
    with Bars() as bars:
        bars.started(first, 3, 0)
        bars.started(second, 3, 1)
        bars.image(second, ImageResult("b", {}, 0.1))
        assert bars._progress is not None
        shown = [(task.description, task.completed) for task in bars._progress.tasks]
        assert shown == [(first.title, 0), (second.title, 2)]
        bars.ended(first, record("bicubic"), 3)
        assert [task.description for task in bars._progress.tasks] == [second.title]
        bars.ended(second, record("bicubic-rgb"), 2)
        assert bars._progress is None
    assert capsys.readouterr().err.count(" computed)") == 2
