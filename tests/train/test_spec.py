import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import HarnessError, UsageError
from harness.train.checkpoint import load_checkpoint, save_checkpoint
from harness.train.loop import Trainer
from harness.train.spec import Scores, Training, ValidationError
from tests.pictures import picture
from tests.train.trainings import Said, notes_of, scores_of, stranger, training

pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, error: Exception) -> list[object]:
    """Let one of the validations to come fail; returns a list that holds one entry for each."""
    real, calls = Training.validate, []

    def validate(self: Training, *words: object) -> Scores | None:
        calls.append(words)
        if len(calls) == number:
            raise error
        return real(self, *words)

    monkeypatch.setattr(Training, "validate", validate)
    return calls


class TestBeforeTheFirstStep:
    def test_an_image_that_fails_is_named(self, harness, words, tmp_path: Path) -> None:
        Image.fromarray(picture(84, 96)).save(tmp_path / "val/odd.png")
        shown = harness(*stranger(words, "windows"), "--steps", 3, "--out", tmp_path / "out")
        assert shown.exit_code == 1
        assert "The validation fails on odd.png, 24 x 21 LR pixels (RuntimeError: " in shown.output
        assert "use other images (--val-data) or none (--set val_images=0)" in shown.output
        assert not list((tmp_path / "out").rglob("*.pt"))
        # Nothing has to be moved away.
        harness_again = (*stranger(words, "windows"), "--out", tmp_path / "out")
        none = harness(*harness_again, "--steps", 3, "--set", "val_images=0")
        assert none.exit_code == 0, none.output

    def test_an_image_that_is_too_small_or_broken_is_named_or_skipped(
        self, harness, words, tmp_path: Path
    ) -> None:
        Image.fromarray(picture(16, 16)).save(tmp_path / "val/icon.png")
        (tmp_path / "val/torn.png").write_bytes(b"torn")
        words = [*words, "--steps", "2", "--out", str(tmp_path / "out")]
        shown = harness(*words)
        assert shown.exit_code == 1 and "val/icon.png cannot be used for validation: 16 x 16" in (
            shown.output
        )
        skipped = harness(*words, "--skip-bad")
        assert skipped.exit_code == 0, skipped.output
        assert "icon.png of the validation is skipped: 16 x 16" in skipped.output
        told = notes_of(tmp_path / "out")["validation_images"]
        assert told["count"] == 2 and list(told["skipped"]) == ["val/icon.png", "val/torn.png"]

    def test_its_score_is_said(self, words) -> None:
        said = Said()
        Trainer(training(words, steps=1), said, resume=False).run()
        assert said[0] == "First, the network is scored on 2 images"
        assert said[1].startswith("The network starts at ")


class TestOneThatFails:
    def test_it_costs_no_step(self, words, tmp_path: Path, monkeypatch) -> None:
        fail_at(monkeypatch, 2, ValidationError("The validation fails on 0.png (a whim)"))
        one = training(words, steps=6, log_every=2, validate_every=0.0)
        with pytest.raises(HarnessError, match="step 2 is saved, go on with --resume and other"):
            Trainer(one, Said(), resume=False).run()
        assert load_checkpoint(one.folder / "last.pt")["step"] == 2
        assert [row["step"] for row in rows_of(one.folder)] == ["2"]
        # With none, or with others.
        none = training(words, resume=True, steps=6, val_images=0)
        said = Said()
        trainer = Trainer(none, said, resume=True)
        assert trainer.state.step == 2
        trainer.run()
        assert trainer.state.step == 6
        assert said[0] == "Training continues without its earlier validation"

    def test_weights_are_written_without_it(self, harness, words, tmp_path, monkeypatch) -> None:
        """Rounding to fp16 is tried at the very end."""
        out = tmp_path / "out"
        calls = fail_at(monkeypatch, 3, RuntimeError("the card is lost"))
        shown = harness(*words, "--steps", 2, "--out", out)
        assert shown.exit_code == 0, shown.output
        assert len(calls) == 3 and notes_of(out)["stored_as"] == "fp32"


def test_a_network_may_keep_a_buffer_of_the_size_of_its_image(harness, words, tmp_path) -> None:
    words = [*stranger(words, "mask"), "--out", str(tmp_path / "out")]
    shown = harness(*words, "--steps", 4, "--log-every", 1, "--validate-every", 0)
    assert shown.exit_code == 0, shown.output
    again = harness(*words, "--steps", 4, "--resume")
    assert again.exit_code == 0, again.output
    folder = tmp_path / "out/mask-x4"
    run = ["run", "--models", "mask", "--plugin", words[3], "--datasets", tmp_path / "val"]
    shown = harness(*run, "--weights", f"mask={folder / 'mask-x4.repro.safetensors'}", "--json")
    assert shown.exit_code == 0, shown.output
    (scores,) = json.loads(shown.stdout)
    assert scores["means"]["psnr"] == pytest.approx(float(rows_of(folder)[-1]["psnr"]), abs=0.001)


class TestInfinitePSNR:
    def test_it_is_left_out_of_the_mean_and_named(self, harness, words, tmp_path: Path) -> None:
        Image.new("RGB", (96, 80)).save(tmp_path / "val/a_black.png")
        out = ("--out", tmp_path / "out", "--log-every", 1, "--validate-every", 0)
        shown = harness(*stranger(words, "black"), *out, "--steps", 6, "--lr", 1e-3)
        assert shown.exit_code == 0, shown.output
        assert (
            "The PSNR of a_black.png is infinite: left out of the mean from now on" in shown.output
        )
        folder = tmp_path / "out/black-x4"
        scores = [float(row["psnr"]) for row in rows_of(folder)]
        assert len(scores) == 6 and all(map(math.isfinite, scores))
        text = (folder / "black-x4.repro.json").read_text()
        notes = json.loads(text, parse_constant=lambda word: pytest.fail(word))
        assert notes["stored_as"] == "fp16"
        best = json.loads((folder / "black-x4.repro-best.json").read_text())
        assert best["steps"] == 1 + int(np.argmax(scores))

    def test_means_are_over_the_other_images(self) -> None:
        scores = scores_of(30.0, math.inf, 32.0)
        assert scores.means() == (31.0, 0.9) and scores.infinite == {1}
        assert scores.means({0}) == (32.0, 0.9)
        assert scores_of(math.inf).means() is None

    def test_one_that_becomes_infinite_does_not_freeze_the_best(self, words, monkeypatch) -> None:
        """From 50 dB with an almost black image, 31 dB without it is a gain."""
        made = [scores_of(30, 90), scores_of(30, 90), scores_of(31, math.inf), scores_of(32, 90)]
        monkeypatch.setattr(Training, "validate", lambda *_: made.pop(0))
        one = training(words, steps=3, log_every=1, validate_every=0.0)
        trainer = Trainer(one, Said(), resume=False)
        trainer.run()
        assert [row.psnr for row in trainer.log.rows] == [60, 31, 32]
        assert trainer.state.best == 32
        best = notes_of(one.folder.parent, "repro-best")
        assert [row["psnr"] for row in best["validation"]] == [31, 32]


class TestResume:
    def resumed(self, words: list[str], said: Said, **changes: object) -> Trainer:
        return Trainer(training(words, resume=True, steps=2, **changes), said, resume=True)

    @pytest.fixture
    def ended(self, words) -> Trainer:
        """A training of two steps."""
        trainer = Trainer(training(words, steps=2), Said(), resume=False)
        trainer.run()
        return trainer

    def test_images_count_and_not_the_words_for_them(self, words, ended, tmp_path) -> None:
        said = Said()
        (tmp_path / "val").rename(tmp_path / "moved")
        (tmp_path / "train").rename(tmp_path / "elsewhere")
        words = [w.replace("/train", "/elsewhere").replace("/val", "/moved") for w in words]
        trainer = self.resumed(words, said)
        assert (trainer.state.step, trainer.state.validated_from, said) == (2, 0, [])

    def test_other_pictures_under_the_same_names_are_refused(
        self, words, ended, tmp_path: Path
    ) -> None:
        Image.fromarray(picture(80, 96, seed=77)).save(tmp_path / "val/0.png")
        with pytest.raises(UsageError, match="are not those that this training was validated on"):
            self.resumed(words, Said())

    def test_another_validation_is_what_one_may_ask_for(self, words, ended, tmp_path) -> None:
        (tmp_path / "other").mkdir()
        Image.fromarray(picture(80, 96, seed=77)).save(tmp_path / "other/0.png")
        said = Said()
        trainer = self.resumed(words, said, val_data=(str(tmp_path / "other"),))
        assert trainer.state.best == -math.inf and trainer.state.validated_from == 2
        assert "the best weights are chosen again" in said[0]

    @pytest.mark.parametrize("word", ["{}/", "./{}/../{}"])
    def test_another_spelling_is_no_other_validation(self, words, ended, tmp_path, word) -> None:
        Image.fromarray(picture(80, 96, seed=77)).save(tmp_path / "val/0.png")
        with pytest.raises(UsageError, match="are not those that this training was validated on"):
            self.resumed(words, Said(), val_data=(word.format("val", "val"),))

    def test_fewer_images_are_what_one_may_ask_for(self, words, ended) -> None:
        said = Said()
        assert self.resumed(words, said, val_images=1).state.validated_from == 2
        assert "the best weights are chosen again" in said[0]

    def test_files_may_be_renamed(self, words, ended, tmp_path: Path) -> None:
        for path in (tmp_path / "train").iterdir():
            path.rename(path.with_stem(f"image-{path.stem}"))
        assert self.resumed(words, Said()).state.step == 2

    def test_other_training_images_are_refused(self, words, ended, tmp_path: Path) -> None:
        Image.fromarray(picture(80, 96, seed=77)).save(tmp_path / "train/0.png")
        with pytest.raises(UsageError, match="another training: the training images differ"):
            self.resumed(words, Said())

    def test_a_validation_that_was_broken_off_at_the_end_is_made_up_for(
        self, words, monkeypatch
    ) -> None:
        one = training(words, steps=2)
        fail_at(monkeypatch, 2, ValidationError("The validation fails on 0.png (a whim)"))
        with pytest.raises(HarnessError, match="step 2 is saved"):
            Trainer(one, Said(), resume=False).run()
        assert rows_of(one.folder)[-1]["psnr"] == ""
        resumed = self.resumed(words, Said())
        resumed.run()
        assert float(rows_of(one.folder)[-1]["psnr"]) == resumed.state.best > 0
        assert notes_of(one.folder.parent, "repro-best")["steps"] == 2

    def test_a_checkpoint_of_another_version_is_refused(self, words, ended) -> None:
        path = ended._checkpoint
        saved = load_checkpoint(path)
        save_checkpoint(path, saved | {"format": 1})
        with pytest.raises(HarnessError, match="written by another version of drfn-harness"):
            self.resumed(words, Said())

    def test_the_best_score_is_the_log_s(self, words, ended) -> None:
        """The checkpoint is written before the validation of its step."""
        assert load_checkpoint(ended._checkpoint)["best"] == -math.inf
        trainer = self.resumed(words, Said())
        trainer.run()
        assert trainer.state.best == ended.state.best > 0

    def test_the_hash_of_the_images_is_in_the_notes(self, harness, words, tmp_path) -> None:
        assert harness(*words, "--steps", 1, "--out", tmp_path / "out").exit_code == 0
        told = notes_of(tmp_path / "out")["validation_images"]
        assert told["count"] == 2 and len(told["sha256"]) == 64


def test_a_validation_that_is_interrupted_has_no_score(words) -> None:
    one = training(words)
    trainer = Trainer(one, Said(), resume=False)
    asked = iter([False, True])
    assert one.validate(trainer.average, lambda: next(asked)) is None


def test_a_network_that_draws_random_numbers_is_trained_alike_however_often_it_is_validated(
    words,
) -> None:
    ends = []
    for log_every in (1, 8):
        one = training(words, "moody", steps=8, log_every=log_every, validate_every=0.0)
        trainer = Trainer(replace(one, folder=one.folder / str(log_every)), Said(), resume=False)
        ends.append(trainer.run().state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
