import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.files import FileLock
from harness.global_state import NOTE, interrupts_held
from tests.run.processes import SlowRun


class TestTwoRunnersOnOneFolder:
    def test_each_run_is_carried_out_once_and_both_tell_of_it(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=4)
        runners = [slow.start(), slow.start()]
        assert [runner.wait() for runner in runners] == [0, 0]
        said = [runner.said() for runner in runners]
        assert set(slow.computed().values()) == {1} and len(slow.computed()) == 4
        assert sorted("(4 images computed)" in one for one in said) == [False, True]
        assert sorted("(already finished)" in one for one in said) == [False, True]
        assert [path.suffix for path in slow.results.rglob("*.*")] == [".json"]

    def test_a_run_that_another_process_is_on_comes_last(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=6, seconds=2)
        first = slow.start()
        first.until_images(slow.results, 1)
        second = slow.start("--models", "slow,bicubic")
        assert (second.wait(), first.wait()) == (0, 0)
        said = second.said()
        waiting = "Another process carries out slow on photos (BI-x4/rgb): waiting."
        assert said.index("bicubic on photos (BI-x4/y): psnr") < said.index(waiting)
        assert set(slow.computed().values()) == {1}

    def test_what_a_killed_runner_left_is_taken_up_by_one_that_waits(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=8, seconds=3)  # a second process needs seconds to start
        first = slow.start()
        first.until_images(slow.results, 2)
        second = slow.start()
        second.until(lambda: "waiting" in second.said())
        first.kill()
        kept = slow.kept()
        assert second.wait() == 0
        assert slow.record()["status"] == "finished"
        assert len(kept) >= 2 and all(slow.computed()[name] == 1 for name in kept)
        assert not list(slow.results.rglob("*.lock"))

    def test_what_one_left_that_was_killed_at_the_very_end_goes(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=1)
        assert slow.start().wait() == 0
        (record,) = slow.results.rglob("*.json")
        for suffix in (".lock", ".journal"):
            record.with_suffix(suffix).touch()
        assert slow.start().wait() == 0
        assert list(slow.results.rglob("*.*")) == [record]


class TestInterruption:
    def test_images_under_way_are_finished_and_kept(self, tmp_path: Path) -> None:
        slow = SlowRun(tmp_path, images=12, seconds=0.5)
        runner = slow.start()
        runner.until_images(slow.results, 1)
        runner.interrupt()
        assert runner.wait() == 1
        said = runner.said().splitlines()
        assert said[-1] == "Aborted!"
        assert f"{NOTE}." in said
        assert 0 < len(slow.kept()) < 12
        assert sorted(slow.computed()) == sorted(slow.kept()), "nothing computed is lost"
        assert slow.start().wait() == 0
        assert set(slow.computed().values()) == {1} and len(slow.record()["images"]) == 12

    def test_a_second_one_ends_at_once(self) -> None:
        script = (
            "import time\n"
            "from harness.global_state import interrupts_held\n"
            "with interrupts_held(lambda note: print('held', flush=True)):\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for word in ("ready\n", "held\n"):
                assert process.stdout.readline() == word
                process.send_signal(signal.SIGINT)
            assert process.wait(20) == 1


class TestHeldInterrupts:
    def test_one_that_is_passed_on_once_more_is_the_same(self) -> None:
        said: list[str] = []
        with pytest.raises(KeyboardInterrupt), interrupts_held(said.append, debounce=60) as stop:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
        assert said == [NOTE]

    def test_a_reader_that_is_gone_costs_nothing(self) -> None:
        def gone(note: str) -> None:
            raise BrokenPipeError

        done = False
        with pytest.raises(KeyboardInterrupt), interrupts_held(gone):
            signal.raise_signal(signal.SIGINT)
            done = True
        assert done

    def test_an_error_is_not_hidden(self) -> None:
        with pytest.raises(HarnessError, match="full"), interrupts_held(lambda note: None):
            signal.raise_signal(signal.SIGINT)
            raise HarnessError("The disk is full.")


class TestLock:
    def test_one_holds_it_at_a_time(self, tmp_path: Path) -> None:
        first, second = (FileLock(tmp_path / "below/run.lock") for _ in range(2))
        assert first.acquire(wait=False)
        assert not second.acquire(wait=False)
        first.release()
        assert second.acquire(wait=True)
        assert not first.acquire(wait=False)
        second.release()
        assert not first.path.exists()

    def test_a_lock_on_a_file_that_was_removed_is_none(self, tmp_path: Path, monkeypatch) -> None:
        """Its holder removes the file between another's opening it and locking it."""
        holder, late = (FileLock(tmp_path / "run.lock") for _ in range(2))
        holder.acquire(wait=False)
        opened, real = [], os.open

        def slow_open(path: Path, *words: int) -> int:
            file = real(path, *words)
            if not opened:
                holder.release()
            opened.append(file)
            return file

        monkeypatch.setattr(os, "open", slow_open)
        assert late.acquire(wait=False)
        assert len(opened) == 2 and late.path.exists()

    def test_where_it_cannot_be_made_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(HarnessError, match=r"The lock .* cannot be written"):
            FileLock(tmp_path / "file/run.lock").acquire(wait=False)
