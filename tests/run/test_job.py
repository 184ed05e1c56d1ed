import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.errors import HarnessError
from harness.files import FileLock
from harness.global_state import NOTE, interrupts_held
from harness.paper.evidence import Evidence
from harness.paper.schema import DEFAULT, paper
from harness.record import ImageResult, RunRecord
from harness.run import job
from harness.run.store import ResultStore, picture_path, read_record
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


METRICS = Path(__file__).parents[1] / "cases/metrics"
FURTHER = ("--metric", "mae-rgb", "--metric", "ssim-whole", "--metric", "mae")
PLUGINS = ("--plugin", METRICS / "colour.py", "--plugin", METRICS / "kept.py")


class TestFurtherMetrics:
    """A run whose SR images are saved gets further metrics without its network."""

    def scored(self, harness, *words: object) -> tuple[RunRecord, str]:
        """Carry out one run, and return its record and what was printed."""
        known = set(Path("results/local").rglob("*.json"))
        shown = harness("run", *words, *PLUGINS)
        assert shown.exit_code == 0, shown.output
        (path,) = set(Path("results/local").rglob("*.json")) - known
        return read_record(path), shown.output

    def full(self, harness, *words: object) -> list[ImageResult]:
        """The scores of the whole run, carried out in an empty folder."""
        shown = harness("run", *words, *PLUGINS, "--results", "full", "--json")
        return RunRecord.from_json(json.loads(shown.stdout)[0]).images

    @pytest.mark.parametrize("how", ["", "--grey=full-range", "--self-ensemble", "--tile=8"])
    @pytest.mark.parametrize("folder", ["results/local", "pictures"])
    def test_they_are_those_of_the_whole_run_bit_for_bit(
        self, harness, photos: Path, monkeypatch, how: str, folder: str
    ) -> None:
        words = ("--models", "edsr-baseline", "--datasets", photos, *how.split())
        first, _ = self.scored(harness, *words, "--metric", "mae", "--save-images", folder)
        full = self.full(harness, *words, *FURTHER)
        monkeypatch.setattr(job, "upscaler", None)
        again = ("--save-images", folder) if folder == "pictures" else ()
        record, said = self.scored(harness, *words, *FURTHER, *again)
        assert f"takes further metrics from the SR images that run {first.identity.id[:12]}" in said
        assert record.identity.metrics == ("psnr", "ssim", "mae-rgb", "ssim-whole", "mae")
        assert [(one.image, one.scores) for one in record.images] == [
            (one.image, one.scores) for one in full
        ]
        assert [one.seconds for one in record.images] == [one.seconds for one in first.images]
        assert set(record.plugins) == {"edsr-baseline", "mae-rgb", "mae"}
        assert record.provenance["further_metrics"]["run"] == first.identity.id
        saved = [
            [picture_path(Path(folder), run.identity, name) for name in "abc"]
            for run in (first, record)
        ]
        for one, other in zip(*saved, strict=True) if again else ():
            assert one.read_bytes() == other.read_bytes()
        assert "computed" not in harness("run", *words, *FURTHER, *again, *PLUGINS).output

    @pytest.mark.parametrize("fault", ["altered", "grey", "cut", "missing", "no image"])
    def test_an_image_that_is_not_the_records_makes_the_network_run(
        self, harness, photos: Path, fault: str
    ) -> None:
        words = ("--models", "bicubic-rgb", "--datasets", photos)
        first, _ = self.scored(harness, *words, "--save-images", "results/local")
        path = picture_path(Path("results/local"), first.identity, "b")
        image = np.array(Image.open(path))
        image[20, 20, 1] ^= 1
        match fault:
            case "altered":
                Image.fromarray(image).save(path)
            case "grey":
                Image.fromarray(image[:, :, 0]).save(path)
            case "cut":
                Image.fromarray(image[:-4]).save(path)
            case "missing":
                path.unlink()
            case _:
                path.write_bytes(b"no image")
        record, said = self.scored(harness, *words, *FURTHER)
        assert "(3 images computed)" in said and "further_metrics" not in record.provenance
        assert ("does not use the SR images that run" in said) == (fault != "missing")
        assert str(path) in said or fault == "missing"
        full = self.full(harness, *words, *FURTHER)
        assert [one.scores for one in record.images] == [one.scores for one in full]

    def test_a_finished_run_keeps_its_record_where_only_its_images_are_missing(
        self, harness, photos: Path
    ) -> None:
        words = ("--models", "bicubic-rgb", "--datasets", photos, "--save-images", "results/local")
        self.scored(harness, *words)
        record, _ = self.scored(harness, *words, *FURTHER, "--force")
        for name in "abc":
            picture_path(Path("results/local"), record.identity, name).unlink()
        shown = harness("run", *words, *FURTHER, *PLUGINS, "--json")
        (again,) = json.loads(shown.stdout)
        assert again["sha256"] == record.to_json()["sha256"]

    def test_luma_is_not_saved_as_it_is_scored(self, harness, photos: Path) -> None:
        words = ("--models", "bicubic", "--datasets", photos)
        self.scored(harness, *words, "--save-images", "results/local")
        record, said = self.scored(harness, *words, *FURTHER)
        assert "(3 images computed)" in said and "further_metrics" not in record.provenance
        assert "the SR images that run" not in said

    def test_a_metric_whose_code_has_changed_is_computed_again(self, harness, photos: Path) -> None:
        plugin = Path("mean.py")
        text = (
            "from harness.registry import register_metric\n"
            "@register_metric('mean')\n"
            "def mean(sr, hr): return sr.mean()\n"
        )
        plugin.write_text(text)
        words = ("--models", "bicubic-rgb", "--datasets", photos, "--plugin", plugin)
        words += ("--metric", "mean", "--save-images", "results/local")
        first, _ = self.scored(harness, *words)
        plugin.write_text(text.replace("sr.mean()", "2 * sr.mean()"))
        record, said = self.scored(harness, *words, "--metric", "mae")
        assert "(3 images computed)" in said
        for one, other in zip(first.images, record.images, strict=True):
            assert other.scores["mean"] == 2 * one.scores["mean"]


def scores(shown: str) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of all images by protocol, from the output of ``harness run --json``."""
    records = map(RunRecord.from_json, json.loads(shown))
    return {
        one.identity.protocol: {image.image: dict(image.scores) for image in one.images}
        for one in records
    }


def separate(harness, words: list[object], *rules: str) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of separate runs under each set of rules, each in a folder of its own."""
    found = {}
    for place, one in enumerate(rules):
        options = ("--metric", "ssim-whole", *one.split(), "--results", f"alone{place}", "--json")
        shown = harness("run", *words, *options)
        assert "already finished" not in shown.stderr
        found |= scores(shown.stdout)
    return found


class TestAllRules:
    """Runs under every rule that printed scores follow; colour images are computed once."""

    RGB = ("", "--grey=full-range", "--float-lr", "--grey=full-range --float-lr")
    Y = ("", "--grey=as-rgb", "--float-y", "--grey=as-rgb --float-y")

    @pytest.mark.parametrize("how", ["", "--self-ensemble", "--tile=8"])
    @pytest.mark.parametrize("folder", ["", "pictures"])
    def test_they_are_the_separate_runs_bit_for_bit(
        self, harness, photos: Path, how: str, folder: str
    ) -> None:
        words = ["--models", "edsr-baseline", "--datasets", photos, *how.split()]
        saved = ["--save-images", folder] if folder else []
        shown = harness("run", *words, *saved, "--all-rules", "--json")
        assert shown.exit_code == 0, shown.output
        assert scores(shown.stdout) == separate(harness, words, *self.RGB)
        assert [shown.stderr.count(f"({n} image") for n in (3, 1)] == [2, 2]
        if folder:
            identities = [RunRecord.from_json(one).identity for one in json.loads(shown.stdout)]
            alone = [*words, "--grey=full-range", "--metric=ssim-whole", "--results=again"]
            harness("run", *alone, "--save-images", "others")
            for name in "abc":
                one, other = (
                    picture_path(Path(place), identities[1], name).read_bytes()
                    for place in (folder, "others")
                )
                assert one == other

    def test_the_record_names_the_run_of_its_colour_images(self, harness, photos: Path) -> None:
        words = ("run", "--models", "bicubic", "--datasets", photos, "--all-rules", "--json")
        records = [RunRecord.from_json(one) for one in json.loads(harness(*words).stdout)]
        own, grey, floats, both = records
        assert [one.provenance.get("colour_images_of") for one in records] == [
            None,
            own.identity.id,
            None,
            floats.identity.id,
        ]
        for one, other in ((own, grey), (floats, both)):
            same = [a.scores == b.scores for a, b in zip(one.images, other.images, strict=True)]
            assert same == [True, True, False]
        assert "already finished" not in harness(*words, "--force").stderr

    @pytest.mark.real_data
    def test_a_verdict_needs_no_others_and_their_ids_are_known(self, harness) -> None:
        words = ["--models", "fsrcnn:official", "--datasets", "set14"]
        shown = harness("run", *words, "--all-rules", "--json")
        reference = Path(job.__file__).parents[2] / "results/reference/x4/set14"
        records = [RunRecord.from_json(one) for one in json.loads(shown.stdout)]
        assert len(records) == 4
        for one in records:
            known = read_record(reference / f"fsrcnn-{one.identity.id[:12]}.json")
            assert known.identity == one.identity
            assert one.means["psnr"] == pytest.approx(known.means["psnr"], abs=1e-4)
        evidence = Evidence(ResultStore(Path("results/local")).read().table(), paper(DEFAULT))
        cells = [cell for cell in evidence.cells if cell.runs]
        assert len(cells) == 2 and not any(cell.unsettled for cell in cells)
        assert scores(shown.stdout) == separate(harness, words, *self.Y)

    def test_a_set_without_grey_images_has_no_rule_for_them(self, harness, photos: Path) -> None:
        (photos / "c.png").unlink()
        words = ("run", "--models", "bicubic", "--datasets", photos, "--all-rules", "--json")
        assert list(scores(harness(*words).stdout)) == ["BI-x4/y", "BI-x4/y+float-y"]

    def test_sr_images_have_no_rule_for_lr_images(self, harness, photos: Path) -> None:
        saved = ("--save-images", "pictures", "--results", "others")
        harness("run", "--models", "bicubic-rgb", "--datasets", photos, *saved)
        (folder,) = Path("pictures/x4/photos").iterdir()
        words = ("run", "--datasets", photos, "--all-rules", "--json", "--models")
        shown = harness(*words, f"mine={folder}")
        assert list(scores(shown.stdout)) == ["BI-x4/rgb", "BI-x4/rgb+full-range"]
        Path("none").mkdir()
        assert harness(*words, "mine=none").stderr.count("none has no SR images") == 1

    def test_given_lr_images_are_rounded_already(self, harness, photos: Path) -> None:
        """One is grey where its HR image is not: each rule reads it in another way."""
        lr = Path("lr")
        lr.mkdir()
        for path in photos.iterdir():
            image = Image.open(path).convert("L" if path.stem == "a" else "RGB")
            image.resize((image.width // 4, image.height // 4)).save(lr / path.name)
        words = ("run", "--datasets", photos, "--lr-images", lr, "--all-rules", "--json")
        shown = harness(*words, "--models", "edsr-baseline")
        assert list(scores(shown.stdout)) == ["BI-x4/rgb", "BI-x4/rgb+full-range"]
        shown = harness(*words, "--models", "bicubic")
        found = scores(shown.stdout)
        assert len(found) == 4
        alone = ["--models", "bicubic", "--datasets", photos, "--lr-images", lr]
        assert found == separate(harness, alone, *self.Y)
        assert found["BI-x4/y"]["a"] != found["BI-x4/y+as-rgb"]["a"]

    def test_another_machine_computes_all_images(self, harness, photos: Path) -> None:
        words = ("run", "--models", "bicubic", "--datasets", photos)
        assert harness(*words).exit_code == 0
        store = ResultStore(Path("results/local"))
        (record,) = store.records()
        store.write(replace(record, provenance=record.provenance | {"cpu": "another"}))
        assert "(3 images computed)" in harness(*words, "--grey", "as-rgb").stderr

    def test_workers_compute_all_images(self, harness, photos: Path) -> None:
        words = ("run", "--models", "bicubic", "--datasets", photos, "--all-rules", "--json")
        here = scores(harness(*words).stdout)
        assert len(here) == 4
        shown = harness(*words, "--executor", "dask", "--workers", 1, "--results", "dask")
        assert shown.stderr.count("(3 images computed)") == 4
        assert scores(shown.stdout) == here

    def test_published_images_are_scored_under_the_rules_that_concern_them(
        self, harness, photos: Path
    ) -> None:
        Path("theirs").mkdir()
        for path in photos.iterdir():
            image = Image.open(path).point(lambda value: value ^ 1)
            image.crop((0, 0, image.width // 4 * 4, image.height // 4 * 4)).save(
                Path("theirs", path.name)
            )
        words = ("run", "--models", "theirs=theirs", "--datasets", photos, "--all-rules")
        shown = harness(*words, "--json")
        assert list(scores(shown.stdout)) == ["BI-x4/rgb", "BI-x4/rgb+full-range"]

    @pytest.mark.parametrize(
        "option", ["--grey=as-rgb", "--grey=full-range", "--float-y", "--float-lr", "--like=vdsr"]
    )
    def test_a_single_rule_contradicts_it(self, harness, photos: Path, option: str) -> None:
        words = ("--models", "bicubic", "--datasets", photos, "--all-rules", option)
        assert harness("run", *words).exit_code == 2


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
