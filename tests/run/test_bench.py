import json
import os
from pathlib import Path

import pytest

from harness.models import resources
from harness.models.resources import free_bytes, keep_freed, with_peak


class TestBench:
    def test_it_times_the_network_the_harness_and_a_plain_script(
        self, harness, photos: Path
    ) -> None:
        words = ("bench", "--models", "fsrcnn,edsr-baseline", "--datasets", photos, "--rounds", 1)
        shown = harness(*words, "--against", "naive", "--json")
        assert shown.exit_code == 0, shown.output
        found = json.loads(shown.stdout)
        assert found["roof"]["flops"] > 1e8 and found["roof"]["bandwidth"] > 1e8
        assert [bench["model"] for bench in found["benches"]] == ["fsrcnn", "edsr-baseline"]
        for bench in found["benches"]:
            assert bench["images"] == 3 and bench["layout"] in ("NCHW", "NHWC")
            assert min(bench["forward"], bench["harness"], bench["naive"], bench["flops"]) > 0
            # One of the images is grey; the plain script follows the same rules.
            assert bench["difference"] < 1e-4

    def test_it_prints_a_table(self, harness, photos: Path) -> None:
        shown = harness("bench", "--models", "bicubic", "--datasets", photos, "--rounds", 1)
        assert shown.exit_code == 0, shown.output
        assert shown.stdout.startswith("The roof of this machine: ")
        assert "harness / forward" in shown.stdout and "naive" not in shown.stdout

    def test_what_cannot_be_timed_is_an_error(self, harness, photos: Path) -> None:
        shown = harness("bench", "--models", "memnet", "--datasets", photos)
        assert shown.exit_code == 1
        assert "There are no weights for memnet" in shown.stderr


class TestMemory:
    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="it does not tell")
    def test_the_peak_is_what_was_held_at_once(self) -> None:
        size, peak = with_peak("cpu", lambda: len(bytearray(b"x" * 50_000_000)))
        assert size == 50_000_000
        assert peak is not None and 45e6 < peak < 150e6

    @pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not tell")
    def test_some_memory_is_free_and_never_more_than_there_is(self) -> None:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert 1e6 < (free_bytes("cpu") or 0) <= there

    def test_another_system_tells_nothing_and_breaks_nothing(self, monkeypatch) -> None:
        monkeypatch.setattr(resources.ctypes, "CDLL", lambda name: object())
        monkeypatch.setattr(resources, "_MEMORY", Path("/nowhere"))
        keep_freed()
        assert with_peak("cpu", lambda: 5) == (5, None) and free_bytes("cpu") is None
