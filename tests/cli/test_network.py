"""A check of a plug-in ends with all the processes that it started."""

import os
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from tests.run.processes import Runner

psutil = pytest.importorskip("psutil")

HANGS = """
import subprocess, sys, time
children = [subprocess.Popen(["sleep", "300"]) for _ in range(2)]
with open("pids", "w") as file:
    file.write(" ".join(str(child.pid) for child in children) + " all")
time.sleep(300)
"""


def are_gone(children: list) -> bool:
    return psutil.wait_procs(children, timeout=20)[1] == []


def children_of(folder: Path) -> list:
    """Those of the plug-in's two processes that are left, once it has written both ids."""
    *ids, last = (folder / "pids").read_text().split()
    assert len(ids) == 2 and last == "all"
    children = []
    for number in ids:
        with suppress(psutil.NoSuchProcess):
            children.append(psutil.Process(int(number)))
    return children


def test_at_the_time_limit_no_process_is_left(harness, tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    shown = harness("check-model", "p", "--plugin", "hangs.py", "--time-limit", 15)
    assert shown.exit_code == 1 and "did not end within 15 seconds" in shown.output
    assert are_gone(children_of(tmp_path))


def test_a_check_that_ends_by_itself_leaves_no_process(harness, tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(HANGS.replace("time.sleep(300)", ""))
    shown = harness("check-model", "bicubic", "--plugin", "starts.py")
    assert shown.exit_code == 0 and "ok    " in shown.output
    assert are_gone(children_of(tmp_path))


def test_without_process_groups_no_check_is_begun(harness, monkeypatch) -> None:
    monkeypatch.delattr(os, "killpg")
    shown = harness("check-model", "drfn")
    assert shown.exit_code == 1 and "cannot end a check" in shown.output
    assert len(shown.output.splitlines()) == 1


@pytest.mark.parametrize("signal", [SIGINT, SIGTERM, SIGKILL])
def test_a_command_that_is_ended_leaves_no_process(signal: Signals, tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    runner = Runner(["check-model", "p", "--plugin", "hangs.py"], tmp_path)
    pids = tmp_path / "pids"
    while not (pids.exists() and pids.read_text().endswith("all")):
        assert runner.process.poll() is None, runner.said()
        time.sleep(0.05)
    children = children_of(tmp_path)
    assert len(children) == 2
    runner.process.send_signal(signal)
    runner.wait()
    assert are_gone(children)
