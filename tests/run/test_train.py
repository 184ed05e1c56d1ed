import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import HarnessError
from harness.run.checkpoints import load_checkpoint, save_checkpoint
from harness.run.store import ResultStore
from tests.pictures import picture

PLUGIN = """
from harness.registry import register_model
from torch import nn


@register_model("tiny", pipeline="rgb", input="lr", scales=(4,), params=4_512)
def tiny(scale: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 48, 3, padding=1, bias=False),
        nn.PixelShuffle(4),
    )
""".replace("4_512", str(8 * 28 + 48 * 72))


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A training of a tiny network on small images, up to the steps and the folder."""
    for folder, count in (("train", 4), ("val", 2)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            Image.fromarray(picture(80, 96, seed=i)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "tiny.py").write_text(PLUGIN)
    words = f"train tiny --plugin {tmp_path / 'tiny.py'} --train-data {tmp_path / 'train'}"
    more = f"--val-data {tmp_path / 'val'} --batch 4 --patch 12 --device cpu --set warmup=5"
    return [*words.split(), *more.split()]


def weights_of(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "tiny-x4" / f"{name}.pt")["network"]


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
    assert broken.exit_code == 1 and "not what training leaves" in broken.output


def start(words: list[str], folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", *words, "--out", str(folder), *more]
    return subprocess.Popen(command, cwd=folder.parent, stderr=subprocess.DEVNULL)


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


def test_two_processes_train_like_one_with_the_same_batch(words: list[str], tmp_path: Path) -> None:
    words = [*words, "--steps", "20"]
    assert start(words, tmp_path / "one").wait() == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [
        *torchrun,
        "--nproc-per-node",
        "2",
        "-m",
        "harness",
        *words,
        "--out",
        str(tmp_path / "two"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    harness, words, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "out", "--log-every", 5, "--save-every", 0)
    assert harness(*words, *out, "--steps", 10).exit_code == 0
    before = (tmp_path / "out/tiny-x4/last.pt").read_bytes()
    shown = harness(*words, *out, "--steps", 50, "--lr", 1e38, "--set", "clip=0")
    assert shown.exit_code == 1
    assert "The loss is" in shown.output and "last good checkpoint" in shown.output
    assert (tmp_path / "out/tiny-x4/last.pt").read_bytes() == before


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
    assert saved["log"][-1]["lr"] < 1e-4


def test_bf16_trains_with_fp32_weights(harness, words, tmp_path: Path) -> None:
    shown = harness(*words, "--steps", 5, "--precision", "bf16", "--out", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    assert {t.dtype for t in weights_of(tmp_path / "out").values()} == {torch.float32}


def test_the_variants_of_table_1_are_arguments_of_drfn(harness, words) -> None:
    shown = harness(*words, "--variant", "ff")
    assert shown.exit_code == 2 and "--variant is for drfn" in shown.output


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--patch", 30), "smaller than the patch"), (("--train-data", "gone"), "No training set")],
)
def test_a_training_that_cannot_start_says_why(harness, words, tmp_path, option, said) -> None:
    shown = harness(*words, "--out", tmp_path / "out", *option)
    assert shown.exit_code in (1, 2)
    assert said in shown.output and "Traceback" not in shown.output


class TestCheckpoints:
    def test_a_full_disk_leaves_the_one_before(self, tmp_path: Path, monkeypatch) -> None:
        path = tmp_path / "last.pt"
        save_checkpoint(path, {"step": 1})

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(HarnessError, match="No space left .* the one before it is intact"):
            save_checkpoint(path, {"step": 2})
        assert load_checkpoint(path) == {"step": 1}
        assert os.listdir(tmp_path) == ["last.pt"]

    def test_what_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "last.pt").write_bytes(b"garbage")
        with pytest.raises(HarnessError, match=r"last\.pt cannot be read"):
            load_checkpoint(tmp_path / "last.pt")


def test_numbers_are_reproducible_from_the_seed(harness, words, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        harness(*words, "--steps", 5, "--seed", seed, "--out", tmp_path / name)
    a, b, c = (weights_of(tmp_path / name)["0.weight"] for name in "abc")
    assert torch.equal(a, b)
    assert not np.allclose(a, c)
