"""A check that is ended takes along whatever processes the plug-in has started."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from harness.errors import HarnessError
from harness.interrupts import isolated
from tests.run.processes import Runner

psutil = pytest.importorskip("psutil")

HANGS = """
import subprocess, sys, time
children = [subprocess.Popen(["sleep", "300"]) for _ in range(2)]
with open("pids", "w") as file:
    file.write(" ".join(str(child.pid) for child in children) + " all")
time.sleep(300)
"""


def starting(count: int, hangs: bool) -> Iterator[int]:
    """Start processes that live long, yield their ids, and hang or end."""
    for _ in range(count):
        yield subprocess.Popen(["sleep", "300"]).pid
    if hangs:
        time.sleep(300)


def are_gone(children: list) -> bool:
    return psutil.wait_procs(children, timeout=20)[1] == []


def test_at_the_time_limit_no_process_is_left() -> None:
    children = []
    with pytest.raises(HarnessError, match="did not end within 8 seconds"):
        children += map(psutil.Process, isolated(starting, (2, True), 8))
    assert len(children) == 2 and are_gone(children)


def test_a_check_that_ends_by_itself_leaves_no_process() -> None:
    children = [psutil.Process(pid) for pid in isolated(starting, (2, False), 60)]
    assert len(children) == 2 and are_gone(children)


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
    children = [psutil.Process(int(word)) for word in pids.read_text().split()[:-1]]
    runner.process.send_signal(signal)
    runner.wait()
    assert are_gone(children)
