import json
import os
import pty
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from harness.cli.progress import RunProgress, bars
from harness.record import ImageResult
from harness.run.plan import plan
from harness.run.request import Request
from harness.run.store import ResultStore
from tests.records import record


def test_a_terminal_sees_a_bar_and_then_the_outcome(photos: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = ["run", "--models", "bicubic", "--datasets", str(photos)]
    command = [sys.executable, "-m", "harness", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=theirs, stdout=pipe, text=True, cwd=tmp_path) as run:
        os.close(theirs)
        seen = b"".join(iter(partial(read, ours), b"")).decode()
        stdout, _ = run.communicate()
    os.close(ours)
    assert run.returncode == 0
    assert "━" in seen and "3/3" in seen
    assert "(3 images computed)" in seen
    assert "━" not in stdout


def read(terminal: int) -> bytes:
    """What comes next, or nothing at the end, which Linux tells by an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_runs_that_are_under_way_at_once_have_a_bar_each(photos: Path, capsys) -> None:
    first, second = plan(Request(["bicubic", "bicubic-rgb"], [str(photos)])).runs
    with bars() as shown:
        progress = RunProgress(shown)
        progress.started(first, 3, 0)
        progress.started(second, 3, 1)
        progress.image(second, ImageResult("b", {}, 0.1))
        seen = [(task.description, task.completed) for task in shown.tasks]
        assert seen == [(first.title, 0), (second.title, 2)]
        progress.ended(first, record("bicubic"))
        assert [task.description for task in shown.tasks] == [second.title]
        progress.ended(second, record("bicubic-rgb"))
        assert not shown.tasks
    said = capsys.readouterr().err
    assert "(3 images computed)" in said and "(2 images computed)" in said


@pytest.mark.parametrize(
    "streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 | head -1"]
)
def test_a_run_does_not_fail_because_nobody_reads_how_it_goes(
    photos: Path, tmp_path: Path, streams: str
) -> None:
    words = f"-m harness run --models bicubic,bicubic-rgb --datasets {photos} --results r"
    command = ["bash", "-c", f"{sys.executable} {words} {streams}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    records = ResultStore(tmp_path / "r").records()
    assert [(one.status, len(one.images)) for one in records] == [("finished", 3)] * 2


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "2>&1 | true"])
def test_a_wrong_request_has_its_exit_code_whoever_reads_why(tmp_path: Path, streams: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m harness list nonsense {streams}"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("words", ["list models", "--help", "--version", "run --help"])
def test_an_output_that_cannot_be_written_is_said(tmp_path: Path, words: str) -> None:
    command = ["bash", "-c", f"{sys.executable} -m harness {words} >/dev/full"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "Error: Standard output cannot be written (No space left on device).\n"


TALKS = """
import os, subprocess, sys
import pandas as pd
from torch import nn
from harness.registry import register_metric, register_model, register_report
from harness.report.table import Table

def talk(place):
    print(f"print: {place}")
    os.write(1, f"write: {place}\\n".encode())
    subprocess.run(["echo", f"echo: {place}"])

class Net(nn.Module):
    def forward(self, image):
        talk("forward")
        return image

@register_model("talks", pipeline="y", input="bicubic", scales=(4,), params=0)
def build(scale=4):
    talk("build")
    return Net()

@register_metric("said")
def said(sr, hr):
    talk("metric")
    return 1.0

@register_report("spoken")
def spoken(findings):
    talk("report")
    return Table("spoken", "Mine.", ["n"], [["1"]], pd.DataFrame())

talk("import")
"""
WAYS = ("print", "write", "echo")
RUN = "run --models talks --datasets photos --metric said --json"


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("list models --json", {"import"}),
        (RUN, {"import", "build", "forward", "metric"}),
        (f"{RUN} --executor dask --workers 1", {"import", "build", "forward", "metric"}),
        ("bench --models talks --datasets photos --rounds 1 --json", {"import", "build"}),
    ],
)
def test_what_a_plug_in_prints_is_no_part_of_json(
    photos: Path, tmp_path: Path, words: str, places: set[str]
) -> None:
    done = talking(tmp_path, words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    heard = set(done.stderr.splitlines())
    assert {f"{way}: {place}" for way in WAYS for place in places} <= heard


def test_what_a_plug_in_prints_is_no_part_of_a_check_or_a_report(tmp_path: Path) -> None:
    checked = talking(tmp_path, "check-model talks")
    assert checked.returncode == 0
    assert {line[:4] for line in checked.stdout.splitlines()} == {"ok  "}
    assert {f"{way}: forward" for way in WAYS} <= set(checked.stderr.splitlines())
    (tmp_path / "empty").mkdir()
    reported = talking(tmp_path, "report spoken --results empty --out out")
    assert reported.stdout == "Mine.\n\n| n   |\n|-----|\n| 1   |\n\n"
    assert {f"{way}: report" for way in WAYS} <= set(reported.stderr.splitlines())


def talking(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    (folder / "talks.py").write_text(TALKS)
    command = [sys.executable, "-m", "harness", *words.split(), "--plugin", "talks.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
