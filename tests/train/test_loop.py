import csv
import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import harness
from harness.cli.progress import TrainProgress, bars
from harness.data.identify import NEAR_DUPLICATES, fingerprint
from harness.data.images import read_image
from harness.data.pinned import cache_root
from harness.errors import HarnessError, UsageError
from harness.global_state import apply_settings, settings_guarded, training_numerics
from harness.models.find_weights import notes_from
from harness.registry import MODELS
from harness.run.store import ResultStore
from harness.train.checkpoint import LogRow, TrainLog, find_origin, load_checkpoint
from harness.train.export import finish
from harness.train.loop import INTERRUPTED, Trainer
from harness.train.patches import place_of
from harness.train.plan import plan_training
from harness.train.spec import Scores, TrainRequest
from tests.pictures import picture
from tests.train.trainings import (
    Interrupting,
    Said,
    notes_of,
    scores_of,
    start,
    stranger,
    training,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_leaves_weights_that_a_run_can_use(harness, words, tmp_path: Path) -> None:
    shown = harness(
        *words, "--steps", 300, "--log-every", 20, "--out", tmp_path / "out", "--lr", 3e-3
    )
    assert shown.exit_code == 0, shown.output
    folder = tmp_path / "out/tiny-x4"
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(20, 301, 20))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert float(rows[-1]["psnr"]) > 15
    with Image.open(folder / "curve.png") as curve:
        assert curve.size == (1050, 600)
    words = ["run", "--models", "tiny", "--plugin", words[3], "--datasets", tmp_path / "val"]
    run = harness(*words, "--weights", f"tiny={folder / 'tiny-x4.repro.safetensors'}")
    assert run.exit_code == 0, run.output
    (record,) = ResultStore(Path("results/local")).records()
    # The validation is the evaluation itself; storing in fp16 may move the last digits.
    assert record.means["psnr"] == pytest.approx(float(rows[-1]["psnr"]), abs=0.001)
    assert record.weights is not None and record.weights.tag == "repro"
    best = folder / "tiny-x4.repro-best.safetensors"
    best = harness(*words, "--weights", f"tiny={best}", "--json")
    (scores,) = json.loads(best.stdout)
    assert scores["means"]["psnr"] == pytest.approx(max(float(row["psnr"] or 0) for row in rows))


def test_shipped_weights_carry_their_scores_and_are_found(harness, words, tmp_path: Path) -> None:
    plugin = words[3]
    assert harness(*words, "--steps", 10, "--out", tmp_path / "out").exit_code == 0
    weights = tmp_path / "out/tiny-x4/tiny-x4.repro.safetensors"
    ship = ("weights", "ship", weights, "--to", tmp_path / "weights", "--plugin", plugin)
    early = harness(*ship)
    assert early.exit_code == 1 and "has no finished run of these weights" in early.output
    run = ("run", "--models", "tiny", "--plugin", plugin, "--datasets", tmp_path / "val")
    assert harness(*run, "--weights", f"tiny={weights}").exit_code == 0
    assert harness(*ship).exit_code == 0
    facts = json.loads((tmp_path / "weights/tiny-x4.repro.json").read_text())
    assert facts["recipe"]["steps"] == facts["steps"] == 10
    assert facts["scores"]["val"]["psnr"] == pytest.approx(
        facts["validation"][-1]["psnr"], abs=0.01
    )
    assert facts["images"]["count"] == 4 and facts["provenance"]["cpu"]
    # Beside the plug-in, they need not be named any more, and the run is the same one.
    again = harness(*run)
    assert again.exit_code == 0 and "already finished" in again.output
    weights.with_suffix(".json").write_text("{}")
    broken = harness(*ship)
    assert broken.exit_code == 1 and "not the file that training wrote" in broken.output


def test_a_killed_training_that_is_resumed_equals_an_uninterrupted_one(
    words: list[str], tmp_path: Path
) -> None:
    words = [*words, "--steps", "1500", "--log-every", "10", "--save-every", "0"]
    victim = start(words, tmp_path / "killed")
    log = tmp_path / "killed/tiny-x4/log.csv"
    deadline = time.monotonic() + 120
    while not log.exists() or log.read_text().count("\n") < 20:
        assert time.monotonic() < deadline and victim.poll() is None
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    reached = load_checkpoint(tmp_path / "killed/tiny-x4/last.pt")["step"]
    assert 100 < reached < 1500
    assert start(words, tmp_path / "killed", "--resume").wait() == 0
    assert start(words, tmp_path / "whole").wait() == 0
    resumed, whole = (
        load_checkpoint(tmp_path / f"{n}/tiny-x4/last.pt") for n in ("killed", "whole")
    )
    assert resumed["step"] == whole["step"] == 1500
    for part in ("network", "average"):
        for name, tensor in whole[part].items():
            assert torch.equal(resumed[part][name], tensor), (part, name)


@pytest.mark.parametrize(
    ("warmup", "said"),
    [
        # The first step leaves weights so large that the loss of the second one overflows.
        (1_000_000_000, "The loss of step 2 is not finite; the last good checkpoint is {}: train"),
        # The first step spoils the weights, although its own loss was fine.
        (1, "The state of step 1 is not finite; nothing was saved yet: train again"),
    ],
)
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    harness, words, tmp_path: Path, warmup: int, said: str
) -> None:
    out = ("--out", tmp_path / "out", "--steps", 50, "--log-every", 1, "--save-every", 0)
    wild = ("--lr", 1e38, "--set", "clip=0", "--set", f"warmup={warmup}")
    shown = harness(*words[:-2], *out, *wild)
    kept = tmp_path / "out/tiny-x4/last.pt"
    assert shown.exit_code == 1 and said.format(kept) in shown.output
    assert "with a lower --lr" in shown.output
    assert kept.exists() == ("last good checkpoint" in said)
    saved = load_checkpoint(kept) if kept.exists() else {"network": {}, "average": {}}
    values = [value for part in ("network", "average") for value in saved[part].values()]
    assert len(values) == 6 * kept.exists() and all(value.isfinite().all() for value in values)


def test_weights_that_are_not_finite_are_never_saved(words, tmp_path: Path) -> None:
    trainer = Trainer(training(words), Said(), resume=False)
    trainer._save()
    before = trainer._checkpoint.read_bytes()
    next(trainer.average.parameters()).data[0] = float("inf")
    with pytest.raises(HarnessError, match="not finite; the last good checkpoint is .*last.pt"):
        trainer._save()
    assert trainer._checkpoint.read_bytes() == before


def test_a_network_that_was_trained_is_not_replaced(harness, words, tmp_path: Path) -> None:
    out = ("--steps", 3, "--out", tmp_path / "out")
    assert harness(*words, *out).exit_code == 0
    again = harness(*words, *out)
    assert again.exit_code == 2
    assert "holds a training already: go on with --resume, or choose another --out" in again.output
    assert harness(*words, *out, "--seed", 1).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "tiny-x4",
        "tiny-x4-seed1",
    ]


def test_ctrl_c_saves_the_step_under_way_and_says_how_to_go_on(
    words: list[str], tmp_path: Path
) -> None:
    more = ("--steps", "100000", "--log-every", "10")
    process = start(words, tmp_path / "out", *more, stderr=subprocess.PIPE)
    assert process.stderr is not None
    until = iter(process.stderr.readline, b"")
    next(line for line in until if line.startswith(b"step 20:"))
    process.send_signal(signal.SIGINT)
    with process.stderr:
        said = process.stderr.read().decode()
    assert process.wait() == 1
    step = load_checkpoint(tmp_path / "out/tiny-x4/last.pt")["step"]
    assert f"{INTERRUPTED}." in said
    assert f"Step {step} is in {tmp_path}/out/tiny-x4/last.pt: go on with --resume" in said


def test_a_validation_on_a_test_set_is_refused(harness, words, tmp_path, monkeypatch) -> None:
    Image.fromarray(picture(80, 96)[:, ::-1]).save(tmp_path / "val/0.png")
    own = fingerprint(read_image(tmp_path / "val/0.png").pixels)
    monkeypatch.setitem(NEAR_DUPLICATES, own, 'the Set5 image "woman" in another size')
    shown = harness(*words, "--steps", 1)
    assert shown.exit_code == 1
    assert 'the Set5 image "woman"' in shown.output
    assert "take it out of the validation images" in shown.output


def test_images_that_are_skipped_are_named_and_recorded(harness, words, tmp_path: Path) -> None:
    (tmp_path / "train/bad.png").write_bytes(b"broken")
    for name, side in (("little", 40), ("tiny", 9)):
        Image.fromarray(picture(side, side)).save(tmp_path / f"train/{name}.png")
    words = [*words, "--steps", "1", "--out", str(tmp_path / "out")]
    assert "cannot be read" in harness(*words).output
    shown = harness(*words, "--skip-bad")
    assert shown.exit_code == 0, shown.output
    assert "bad.png is skipped: " in shown.output
    assert "2 images with no room for a patch of 12 LR pixels are left out: 2 of" in shown.output
    facts = json.loads((tmp_path / "out/tiny-x4/tiny-x4.repro.json").read_text())
    skipped = facts["images"]["skipped"]
    assert list(skipped) == ["train/bad.png", "train/tiny.png", "train/little.png"]
    assert "10 x 10 LR pixels" in skipped["train/little.png"]
    assert "9 x 9 pixels" in skipped["train/tiny.png"]
    (one,) = facts["images"]["sets"].values()
    assert one["files"] == 7 and len(one["sha256"]) == 64
    assert (facts["compiled"], facts["processes"]) == (False, 1) and facts["threads"] >= 1


def test_the_average_has_the_statistics_of_the_network(words) -> None:
    trainer = Trainer(training(words), Said(), resume=False)
    for network in (trainer.network, trainer.average):
        network.register_buffer("running_mean", torch.zeros(3))
    trainer.network.running_mean += 1
    trainer.step._update_average(0.5)
    assert trainer.average.running_mean.tolist() == [1, 1, 1]


def test_weights_that_fp16_would_spoil_are_stored_as_they_are(words, monkeypatch) -> None:
    one = training(words, val_images=1)
    trainer = Trainer(one, Said(), resume=False)
    scores = iter([scores_of(30.0), scores_of(29.0)])
    monkeypatch.setattr("harness.train.spec.Training.validate", lambda *_: next(scores))
    exact = {name: value.clone() for name, value in trainer.average.state_dict().items()}
    path = finish(one, trainer.average, trainer.state, [], trainer.how())
    assert json.loads(path.with_suffix(".json").read_text())["stored_as"] == "fp32"
    stored = load_file(path)
    assert stored.keys() == exact.keys()
    for name, value in stored.items():
        assert torch.equal(value, exact[name])


class TestMemory:
    def test_a_validation_that_does_not_fit_is_left_out(self, words, monkeypatch) -> None:
        def full(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr("harness.train.spec.Upscaler.__call__", full)
        said = Said()
        trainer = Trainer(training(words, steps=3), said, resume=False)
        trainer.run()
        assert trainer.state.step == 3
        assert "is too small to validate on 0.png, 24 x 20 LR pixels: training goes on" in said[1]

    @pytest.fixture
    def trainer(self, words) -> Trainer:
        return Trainer(training(words, val_images=0), Said(), resume=False)

    def test_a_full_gpu_says_which_batch_would_fit(self, trainer, monkeypatch) -> None:
        whole = trainer.step._run

        def small(given, *others):
            if len(given) > 2:
                trainer.device = torch.device("cuda", 0)  # from here on only its name counts
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(given, *others)

        monkeypatch.setattr(trainer.step, "_run", small)
        with pytest.raises(HarnessError, match="is full: --batch 2 would fit"):
            trainer.run()

    def test_a_full_machine_is_said(self, trainer, monkeypatch) -> None:
        def full(*_):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

        monkeypatch.setattr(trainer.step, "_run", full)
        with pytest.raises(HarnessError, match="The memory of this machine is full: use a smaller"):
            trainer.run()

    def test_images_stay_out_of_a_gpu_that_they_would_fill(self, monkeypatch) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
        gpu = torch.device("cuda", 0)
        assert place_of(400, gpu) == gpu
        assert place_of(600, gpu) == torch.device("cpu")


def test_numerics_of_training_end_with_it() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.deterministic, cudnn.benchmark = True, False  # those of scoring
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    with training_numerics():
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
        assert not cudnn.allow_tf32 and not matmul.allow_tf32
        with settings_guarded(set()):
            assert apply_settings() == []
            assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
    assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    assert not cudnn.allow_tf32 and not matmul.allow_tf32  # nothing needs less than full fp32


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is(words, monkeypatch) -> None:
    def broken(*_, **options):
        def forward(given):
            raise AssertionError("replication_pad2d_backward")

        return forward

    plain = training(words, val_images=0, steps=5)
    wanted = Trainer(plain, Said(), resume=False).run().state_dict()
    monkeypatch.setattr(torch, "compile", broken)
    said = Said()
    compiling = dataclasses.replace(plain.request, compile=True)
    trainer = Trainer(dataclasses.replace(plain, request=compiling), said, resume=False)
    made = trainer.run().state_dict()
    assert "Compiled blocks are not used (AssertionError: replication_pad2d_backward)" in said[0]
    assert not trainer.how()["compiled"]
    # The trials have left no trace.
    assert all(torch.equal(made[name], value) for name, value in wanted.items())


def test_there_must_be_something_to_train(harness) -> None:
    shown = harness("train", "bicubic")
    assert shown.exit_code == 2
    assert "bicubic has no parameters: there is nothing to train" in shown.output


def test_variants_of_table_1_have_names_of_their_own(words) -> None:
    data = {"train_data": (words[5],), "val_images": 0}
    one = plan_training(
        TrainRequest("drfn", changes=data, variant="ff", tag="table1-ff", device="cpu")
    )
    assert (one.request.tag, one.folder.name) == ("table1-ff", "drfn-ff-x4")


class TestLog:
    def test_it_goes_on_from_the_checkpoint_without_later_or_torn_lines(self, tmp_path) -> None:
        log = TrainLog(tmp_path)
        rows = [LogRow(step, 0.1 * step, 1 / 3, 1e-4, 2.0, 0.0) for step in (1, 2, 3)]
        rows[0].psnr = 30.123456789
        for row in rows:
            log.add(row)
        with log.path.open("a") as stream:
            stream.write("4,0.")
        resumed = TrainLog(tmp_path, step=2)
        assert resumed.rows == rows[:2]
        resumed.add(rows[2])
        assert TrainLog(tmp_path, step=3).rows == rows


def test_another_training_is_not_resumed(harness, words, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    missing = harness(*words, *out, "--steps", 5, "--resume")
    assert missing.exit_code == 1 and "There is no checkpoint" in missing.output
    assert harness(*words, *out, "--steps", 5).exit_code == 0
    shown = harness(*words, *out, "--steps", 6, "--lr", 0.5, "--resume")
    assert shown.exit_code == 2
    assert "recipe.steps was 5 and is 6" in shown.output
    assert "recipe.lr was 0.0004 and is 0.5" in shown.output


def test_training_by_the_clock_ends_with_the_clock(harness, words, tmp_path: Path) -> None:
    shown = harness(*words, "--minutes", 0.02, "--log-every", 5, "--out", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    saved = load_checkpoint(tmp_path / "out/tiny-x4/last.pt")
    assert 1.2 <= saved["seconds"] < 10
    rows = list(csv.DictReader((tmp_path / "out/tiny-x4/log.csv").read_text().splitlines()))
    assert float(rows[-1]["lr"]) < 1e-4
    facts = json.loads((tmp_path / "out/tiny-x4/tiny-x4.repro.json").read_text())
    assert (facts["recipe"]["minutes"], facts["recipe"]["steps"]) == (0.02, 0)
    both = harness(*words, "--minutes", 1, "--steps", 5, "--out", tmp_path / "two")
    assert both.exit_code == 2 and "Either --steps or --minutes" in both.output


def test_bf16_trains_with_fp32_weights(harness, words, tmp_path: Path) -> None:
    shown = harness(*words, "--steps", 5, "--precision", "bf16", "--out", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    assert {t.dtype for t in weights_of(tmp_path / "out").values()} == {torch.float32}


def test_a_variant_that_the_ablation_does_not_have_is_refused(harness, words) -> None:
    words = ["drfn" if word == "tiny" else word for word in words]
    shown = harness(*words, "--variant", "fff")
    assert shown.exit_code == 2 and "there are none, ff, lsc, both" in shown.output


def test_the_variants_of_table_1_are_arguments_of_drfn(harness, words) -> None:
    shown = harness(*words, "--variant", "ff")
    assert shown.exit_code == 2 and "--variant is for drfn" in shown.output


@pytest.mark.parametrize(
    ("option", "code", "said"),
    [
        (("--patch", 30), 1, "has room for a patch of 30 LR pixels: use a --patch of at most 20"),
        (("--train-data", "gone"), 2, "No training set or folder is called 'gone'"),
        (("--val-data", "./train"), 1, "0.png of the validation is 0.png of the training"),
    ],
)
def test_a_training_that_cannot_start_says_why(
    harness, words, tmp_path, option, code: int, said: str
) -> None:
    shown = harness(*words, "--out", tmp_path / "out", *option)
    assert shown.exit_code == code
    assert said in shown.output and "Traceback" not in shown.output


def test_numbers_are_reproducible_from_the_seed(harness, words, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        harness(*words, "--steps", 5, "--seed", seed, "--out", tmp_path / name)
    made = {"a": "tiny-x4-seed1", "b": "tiny-x4-seed1", "c": "tiny-x4-seed2"}
    saved = (load_checkpoint(tmp_path / name / folder / "last.pt") for name, folder in made.items())
    a, b, c = (state["network"]["0.weight"] for state in saved)
    assert torch.equal(a, b)
    assert not np.allclose(a, c)


def test_tensorboard_gets_the_lines_of_the_log(harness, words, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = ("--log-every", 5, "--out", tmp_path / "out")
    assert harness(*words, *out, "--steps", 20).exit_code == 0
    folder = tmp_path / "out/tiny-x4"
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    events = EventAccumulator(str(folder))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(int(row["step"]), pytest.approx(float(row["loss"]))) for row in rows]
    assert events.Scalars("psnr")[-1].value == pytest.approx(float(rows[-1]["psnr"]))


class TestUnits:
    def test_a_mean_squared_error_is_shown_in_squared_levels(
        self, harness, words, tmp_path
    ) -> None:
        rows = {}
        for loss in ("l1", "l2"):
            out = tmp_path / loss
            more = ("--steps", 1, "--log-every", 1, "--set", f"loss={loss}", "--out", out)
            shown = harness(*words, *more)
            (rows[loss],) = csv.DictReader((out / "tiny-x4/log.csv").read_text().splitlines())
            assert f"loss {float(rows[loss]['loss']):.3f} levels" in shown.output
            assert ("levels²" in shown.output) == (loss == "l2")
        # Of one batch, the mean square is between the square of the mean and 255 times the mean.
        absolute, squared = (float(rows[loss]["loss"]) for loss in ("l1", "l2"))
        assert absolute**2 < squared < 255 * absolute


class TestFrom:
    def test_the_provenance_is_a_chain_of_budgets(self, harness, words, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in ("one", "two", "three")]
        assert harness(*words, "--steps", 10, "--out", folders[0]).exit_code == 0
        first = folders[0] / "tiny-x4/tiny-x4.repro.safetensors"
        more = ("--steps", 20, "--seed", 1, "--recipe", "finetune", "--from", first)
        assert harness(*words, *more, "--out", folders[1]).exit_code == 0
        second = folders[1] / "tiny-x4-seed1"
        last = ("--steps", 5, "--from", second / "last.pt", "--out", folders[2])
        assert harness(*words, *last).exit_code == 0
        chain = notes_of(folders[2])
        budgets = []
        while chain:
            budgets.append((chain["recipe"]["name"], chain["steps"]))
            chain = chain.get("from")
        assert budgets == [("short", 5), ("finetune", 20), ("short", 10)]
        told = notes_from(notes_of(folders[2]))
        assert told.pixels == 35 * 4 * 12**2
        assert "5 steps of 4 patches" in str(told) and ", after 20 steps of 4 patches" in str(told)
        assert notes_of(folders[2])["from"]["weights"] == "last.pt"

    def test_training_begins_with_those_weights_and_a_fresh_optimiser(
        self, words, tmp_path
    ) -> None:
        one = training(words)
        trained = Trainer(one, Said(), resume=False)
        trained.state.step = 1
        path = finish(one, trained.average, trained.state, [], trained.how())
        start, origin = find_origin(one.card, 4, {}, str(path))
        begun = Trainer(dataclasses.replace(one, start=start, origin=origin), Said(), resume=False)
        exact = load_file(path)
        for network in (begun.network, begun.average):
            for name, value in network.state_dict().items():
                assert torch.equal(value, exact[name].float())
        assert not begun.step.optimizer.state

    def test_a_resumed_training_keeps_its_chain(self, harness, words, tmp_path: Path) -> None:
        assert harness(*words, "--steps", 3, "--out", tmp_path / "one").exit_code == 0
        first = tmp_path / "one/tiny-x4/tiny-x4.repro.safetensors"
        out = ("--steps", 4, "--out", tmp_path / "two")
        assert harness(*words, *out, "--from", first).exit_code == 0
        before = notes_of(tmp_path / "two")
        assert harness(*words, *out, "--resume").exit_code == 0
        assert notes_of(tmp_path / "two")["from"] == before["from"]
        both = harness(*words, *out, "--resume", "--from", first)
        assert both.exit_code == 2 and "--from starts a training" in both.output

    def test_weights_of_another_variant_are_refused(self, random_weights) -> None:
        path = random_weights("drfn", groups=4, blocks=1, width=16)
        with pytest.raises(UsageError, match="is drfn with the arguments .*'groups': 4"):
            find_origin(MODELS.get("drfn"), 4, {}, str(path))

    def test_weights_that_are_not_there_are_named(self, harness, words) -> None:
        shown = harness(*words, "--steps", 1, "--from", "gone")
        assert shown.exit_code == 1 and "no weights for tiny:gone" in shown.output


class TestDeadline:
    def test_it_counts_from_the_start_of_the_process(self, words, tmp_path: Path) -> None:
        begin = time.monotonic()
        process = start(words, tmp_path / "out", "--stop-after", "16", stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=60)
        spent = time.monotonic() - begin
        assert process.returncode == 0, said
        assert spent < 21  # where the machine is busy
        folder = tmp_path / "out/tiny-x4"
        rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
        # The schedule spanned the time that was left: the rate has come down to nothing.
        assert float(rows[-1]["lr"]) < 4e-6 and float(rows[-1]["psnr"]) > 0
        assert {"last.pt", "tiny-x4.repro.safetensors", "tiny-x4.repro-best.safetensors"} <= set(
            os.listdir(folder)
        )
        notes = notes_of(tmp_path / "out")
        assert (notes["recipe"]["stop_after"], notes["recipe"]["steps"]) == (16, 0)

    def test_a_budget_that_it_cuts_short_can_be_gone_on_with(self, words, monkeypatch) -> None:
        monkeypatch.setattr(harness, "STARTED", time.monotonic())
        said, one = Said(), training(words, steps=100_000, stop_after=7.0, log_every=5)
        trainer = Trainer(one, said, resume=False)
        trainer.run()
        assert 0 < trainer.state.step < 100_000
        assert said[-1].startswith(f"Step {trainer.state.step} is in ") and "--resume" in said[-1]
        monkeypatch.setattr(harness, "STARTED", time.monotonic())
        resumed = Trainer(
            dataclasses.replace(one, recipe=dataclasses.replace(one.recipe, stop_after=8.0)),
            said,
            resume=True,
        )
        assert resumed.state.step == trainer.state.step
        # A time limit alone leaves the budget as it was.
        recipe = dataclasses.replace(one.recipe, steps=0)
        limited = Trainer(dataclasses.replace(one, recipe=recipe), said, resume=True)
        assert limited.training.recipe.steps == 100_000

    def test_a_validation_there_is_no_time_for_is_left_out(self, words, monkeypatch) -> None:
        monkeypatch.setattr(harness, "STARTED", time.monotonic())
        said, one = Said(), training(words, stop_after=8.0)

        def slow(*_: object) -> Scores:
            time.sleep(1)
            return scores_of(20.0)

        monkeypatch.setattr("harness.train.spec.Training.validate", slow)
        trainer = Trainer(one, said, resume=False)
        trainer.run()
        assert "too long for the time left: training goes on without validation" in said[2]
        assert not trainer.training.validation and trainer.state.step > 0

    def test_without_time_for_a_step_it_says_so(self, words, monkeypatch) -> None:
        monkeypatch.setattr(harness, "STARTED", time.monotonic() - 10)
        with pytest.raises(HarnessError, match="No step was taken in 8 s"):
            Trainer(training(words, stop_after=8.0), Said(), resume=False).run()


def test_weights_in_parts_are_the_weights(harness, words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("harness.models.weights.PART_BYTES", 3000)
    out = ("--steps", 2, "--out", tmp_path / "out", "--fp16", "--split")
    assert harness(*words, *out).exit_code == 0
    folder = tmp_path / "out/tiny-x4"
    whole = folder / "tiny-x4.repro.safetensors"
    parts = sorted(folder.glob("tiny-x4.repro.safetensors.*of*"))
    assert len(parts) == 3 and {value.dtype for value in load_file(whole).values()} == {
        torch.float16
    }
    imported = harness("weights", "import", "tiny", parts[1], "--plugin", words[3], "--tag", "home")
    assert imported.exit_code == 0, imported.output
    told = json.loads((cache_root() / "weights/tiny-x4.home.json").read_text())
    assert told == json.loads((folder / "tiny-x4.repro.json").read_text())
    for name, value in load_file(cache_root() / "weights/tiny-x4.home.safetensors").items():
        assert torch.equal(value, load_file(whole)[name])
    damaged = bytearray(parts[2].read_bytes())
    damaged[-1] ^= 1
    parts[2].write_bytes(damaged)
    flipped = harness("weights", "import", "tiny", parts[1], "--plugin", words[3])
    assert flipped.exit_code == 1 and "is damaged" in flipped.output
    parts[2].unlink()
    lost = harness("weights", "import", "tiny", parts[0], "--plugin", words[3])
    assert lost.exit_code == 1 and "3of3 is missing" in lost.output


class TestStrangersMachine:
    @pytest.fixture
    def sets(self, tmp_path: Path, monkeypatch) -> Path:
        """A folder with T91 and nothing else, one image of which is small."""
        (tmp_path / "sets/T91").mkdir(parents=True)
        for number in range(91):
            side = 20 if number == 5 else 200
            (tmp_path / "sets/T91").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(side, side, seed=number)).save(
                tmp_path / f"sets/T91/{number}.png"
            )
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "sets"))
        return tmp_path / "sets"

    def test_it_trains_on_what_is_there_and_says_what_is_not(self, harness, words, sets) -> None:
        words = ["train", "tiny", "--plugin", words[3], "--steps", "1", "--batch", "2"]
        shown = harness(*words, "--recipe", "paper", "--out", "out")
        assert shown.exit_code == 0, shown.output
        for said in (
            "The recipe is generic: tiny has no recipe of its own paper here.",
            "bsds400 is not on this machine, and its host cannot be reached",
            "kodak24 is not on this machine",
            "Training goes on without validation.",
            "1 image with no room for a patch of 24 LR pixels is left out: 1 of t91.",
            f"{sets / 'T91'} is used as t91: it has as many images, but other files",
        ):
            assert said in shown.output, said
        notes = json.loads(Path("out/tiny-x4/tiny-x4.repro.json").read_text())
        assert notes["recipe"]["train_data"] == ["t91"]
        assert notes["images"]["sets"]["t91"]["pinned"] is False

    def test_what_was_asked_for_must_be_there(self, harness, words, sets) -> None:
        words = ["train", "tiny", "--plugin", words[3], "--steps", "1"]
        for option in ("--train-data", "--val-data"):
            shown = harness(*words, option, "kodak24")
            assert shown.exit_code == 1 and "kodak24 is not on this machine" in shown.output

    def test_a_recipe_whose_sets_are_not_for_everyone_takes_others(
        self, harness, words, sets
    ) -> None:
        shown = harness(
            "train", "drfn", "--recipe", "paper", "--steps", 1, "--batch", 1, "--patch", 8
        )
        assert shown.exit_code == 0, shown.output
        assert "div2k is not on this machine and may not be downloaded" in shown.output
        assert "t91 are trained on instead" in shown.output


class TestAnOutputIsChecked:
    @pytest.mark.parametrize(
        ("model", "said"),
        [
            ("onechannel", "returned (4, 1, 48, 48) for (4, 3, 12, 12), not (4, 3, 48, 48): fix"),
            ("half", "returned (4, 3, 24, 24) for (4, 3, 12, 12), not (4, 3, 48, 48): fix"),
            ("aslist", "returned a list ([0] (4, 3, 48, 48)), not a tensor of (4, 3, 48, 48)"),
        ],
    )
    def test_at_the_first_step(self, harness, words, tmp_path, model: str, said: str) -> None:
        out = ("--steps", 3, "--set", "val_images=0", "--out", tmp_path / "out")
        shown = harness(*stranger(words, model), *out)
        assert shown.exit_code == 1
        assert f"The network {said}" in shown.output
        assert not list((tmp_path / "out").rglob("*.safetensors"))

    def test_with_a_validation_too(self, harness, words, tmp_path: Path) -> None:
        shown = harness(*stranger(words, "aslist"), "--steps", 3, "--out", tmp_path / "out")
        assert shown.exit_code == 1
        said = "aslist returned a list ([0] (1, 3, 80, 96)), not a tensor of (1, 3, 80, 96)"
        assert said in shown.output

    def test_sizes_that_do_not_fit_are_one_sentence(self, harness, words, tmp_path) -> None:
        more = ("--set", "val_images=0", "--patch", 11, "--out", tmp_path / "out")
        words = stranger(words, "windows")
        shown = harness(*words[: words.index("--patch")], *more)
        assert shown.exit_code == 1 and "unexpected" not in shown.output
        assert "A step fails on patches of 11 LR pixels (RuntimeError: shape" in shown.output


@pytest.mark.parametrize("model", ["moody", "numpy", "dropout"])
def test_random_numbers_of_a_network_are_seeded_saved_and_restored(words, model: str) -> None:
    whole, halves = (
        dataclasses.replace(one, folder=one.folder / name)
        for name in ("whole", "halves")
        for one in [training(words, model, steps=9, log_every=3)]
    )
    wanted = Trainer(whole, Said(), resume=False).run().state_dict()
    with pytest.raises(KeyboardInterrupt):
        Trainer(halves, Interrupting(3), resume=False).run()
    resumed = Trainer(halves, Said(), resume=True)
    assert 3 <= resumed.state.step < 9
    made = resumed.run().state_dict()
    assert all(torch.equal(made[name], value) for name, value in wanted.items())


class TestWhatIsAskedFor:
    def test_sets_are_those_of_set(self, harness, words, tmp_path: Path) -> None:
        (tmp_path / "train").rename(tmp_path / "mine")
        at = words.index("--train-data")
        words = [*words[:at], *words[at + 2 :], "--set", f"train_data={tmp_path / 'mine'}"]
        shown = harness(*words, "--steps", 1, "--out", tmp_path / "out")
        assert shown.exit_code == 0, shown.output
        recipe = notes_of(tmp_path / "out")["recipe"]
        assert recipe["train_data"] == [str(tmp_path / "mine")]

    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ("--steps 10 --set steps=3", "steps is given twice"),
            ("--set val_data=here", "val_data is given twice"),
            ("--minutes 0", "minutes of 0 would end training before its first step"),
            ("--validate-every nan", "The seconds between checkpoints and validations"),
            ("--save-every -1", "The seconds between checkpoints and validations"),
        ],
    )
    def test_a_contradiction_is_one_sentence(self, harness, words, option, said) -> None:
        shown = harness(*words, *option.split())
        assert shown.exit_code == 2 and said in shown.output


class TestFolderOfAnother:
    def test_weights_without_a_checkpoint_are_not_overwritten(
        self, harness, words, tmp_path: Path
    ) -> None:
        words = [*words, "--steps", "2", "--out", str(tmp_path / "out")]
        assert harness(*words).exit_code == 0
        folder = tmp_path / "out/tiny-x4"
        (folder / "last.pt").unlink()
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        shown = harness(*words)
        assert shown.exit_code == 2
        assert "holds log.csv of another training, and no checkpoint" in shown.output
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        (folder / "log.csv").unlink()
        assert "holds tiny-x4.repro-best.safetensors of another" in harness(*words).output

    def test_a_training_without_a_step_leaves_nothing_to_lose(
        self, harness, words, tmp_path: Path, monkeypatch
    ) -> None:
        def full(*_):
            raise MemoryError

        words = [*words, "--steps", "2", "--out", str(tmp_path / "out")]
        with monkeypatch.context() as patched:
            patched.setattr(nn.Sequential, "forward", full)
            assert harness(*words, "--set", "val_images=0").exit_code == 1
        assert (tmp_path / "out/tiny-x4/log.csv").exists()
        assert harness(*words).exit_code == 0

    def test_that_holds_before_a_deadline_too(self, words, monkeypatch) -> None:
        monkeypatch.setattr(harness, "STARTED", time.monotonic())
        one = training(words, "onechannel", val_images=0, stop_after=60.0)
        with pytest.raises(HarnessError, match="fix the network"):
            Trainer(one, Said(), resume=False).run()
        assert not (one.folder / "last.pt").exists()


@pytest.mark.parametrize("model", ["lazymask", "oldnorm", "pooled"])
def test_networks_that_keep_what_they_compute_are_trained_and_scored(
    harness, words, tmp_path: Path, model: str
) -> None:
    words = [*stranger(words, model), "--out", str(tmp_path / "out")]
    shown = harness(*words, "--steps", 4, "--log-every", 2, "--validate-every", 0)
    assert shown.exit_code == 0, shown.output
    assert harness(*words, "--steps", 4, "--resume").exit_code == 0
    weights = tmp_path / f"out/{model}-x4/{model}-x4.repro.safetensors"
    run = ["run", "--models", model, "--plugin", words[3], "--datasets", tmp_path / "val"]
    shown = harness(*run, "--weights", f"{model}={weights}")
    assert shown.exit_code == 0, shown.output
    counted = harness("complexity", model, "--plugin", words[3])
    assert counted.exit_code == 0, counted.output


@pytest.mark.parametrize("under_nohup", [False, True])
def test_a_lost_terminal_saves_but_under_nohup(words, under_nohup: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if under_nohup else signal.SIG_DFL)
    one = training(words, steps=6, log_every=2)
    trainer = Trainer(one, Interrupting(2, signal.SIGHUP), resume=False)
    try:
        if under_nohup:
            trainer.run()
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
    finally:
        signal.signal(signal.SIGHUP, before)
    saved = load_checkpoint(one.folder / "last.pt")["step"]
    assert saved == 6 if under_nohup else 2 <= saved < 6


def test_steps_of_a_network_that_draws_from_python_are_not_recorded(words) -> None:
    said = Said()
    one = training(words, "moody", steps=1, val_images=0, compile=True)
    trainer = Trainer(one, said, resume=False)
    trainer.run()
    assert "draws random numbers of Python or numpy" in said[0]
    assert not trainer.how()["compiled"]


class TestFiles:
    def test_the_curve_is_drawn_at_each_validation(self, words) -> None:
        one = training(words, steps=4, log_every=1, validate_every=0.0)
        drawn = []

        class Watching(TrainProgress):
            def validated(self, *words: object) -> None:
                super().validated(*words)
                drawn.append((one.folder / "curve.png").stat().st_size)

        with bars() as shown:
            Trainer(one, Watching(shown), resume=False).run()
        assert len(drawn) == 4 and min(drawn) > 1000

    def test_one_that_cannot_be_drawn_costs_nothing(self, harness, words, tmp_path) -> None:
        (tmp_path / "out/tiny-x4/curve.png/is-a-folder").mkdir(parents=True)
        shown = harness(*words, "--steps", 2, "--out", tmp_path / "out")
        assert shown.exit_code == 0, shown.output
        assert "curve.png cannot be written (" in shown.output
        assert notes_of(tmp_path / "out")["steps"] == 2

    def test_a_log_that_a_spreadsheet_has_saved_is_named(self, harness, words, tmp_path) -> None:
        words = [*words, "--steps", "4", "--log-every", "1", "--out", str(tmp_path / "out")]
        assert harness(*words).exit_code == 0
        log = tmp_path / "out/tiny-x4/log.csv"
        log.write_text(log.read_text().replace(",", ";"))
        shown = harness(*words, "--resume")
        assert shown.exit_code == 1 and "unexpected" not in shown.output
        assert f"The log {log} is not as training wrote it" in shown.output
        log.unlink()
        assert harness(*words, "--resume").exit_code == 0

    def test_weights_have_the_mode_of_other_files(self, harness, words, tmp_path) -> None:
        before = os.umask(0o022)
        try:
            assert harness(*words, "--steps", 1, "--out", tmp_path / "out").exit_code == 0
        finally:
            os.umask(before)
        files = list((tmp_path / "out/tiny-x4").iterdir())
        modes = {path.name: path.stat().st_mode & 0o777 for path in files}
        assert set(modes.values()) == {0o644}, modes


def test_lr_images_beside_the_hr_images_are_named_and_not_used(
    harness, words, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "train").rename(tmp_path / "set/HR")
    (tmp_path / "set/LR_bicubic").mkdir()
    words[words.index("--train-data") + 1] = str(tmp_path / "set")
    shown = harness(*words, "--steps", 1, "--out", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    said = f"{tmp_path / 'set/HR'} has the HR images; those of LR_bicubic beside it are not used"
    assert said in shown.output
