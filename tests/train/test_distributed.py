import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.errors import HarnessError
from harness.registry import MODELS
from harness.train.checkpoint import load_checkpoint
from harness.train.distributed import SyncSchedule, failures_named, sharing_notes
from tests.pictures import picture
from tests.train.trainings import STRANGERS, start, torchrun, weights_of
from tests.train.two_processes import VALUES

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = [
    "dcsr",
    "drfn",
    "drfn-2conv",
    "edsr",
    "edsr-baseline",
    "fsrcnn",
    "lapsrn",
    "memnet",
    "msrn",
    "rdn",
    "srcnn",
    "srmdnf",
    "vdsr",
]
FOREIGN = ["depth", "lazymask", "mask", "norm", "oldnorm", "pooled", "unused"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(2):
        Image.fromarray(picture(64, 64, seed=number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def by_two(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of all networks, trained for some steps of six by two processes."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.train.two_processes"]
    done = subprocess.run(
        [*command, str(folder), str(images), *SHIPPED, *FOREIGN],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def said_of(by_two: Path, model: str) -> str:
    return "\n".join(json.loads((by_two / f"{model}-x4/said.json").read_text()))


def test_all_networks_that_ship_are_tried() -> None:
    assert [name for name in MODELS if MODELS.get(name).params != 0] == SHIPPED


@pytest.mark.parametrize("model", [*SHIPPED, *FOREIGN])
def test_a_training_by_two_processes_is_resumed_by_one(harness, by_two, images, model) -> None:
    saved = by_two / f"{model}-x4/last.pt"
    assert f"{model} fails" not in (by_two / f"{model}-x4/said.json").read_text()
    assert 2 <= load_checkpoint(saved)["step"] < 6
    changes = [word for name, value in VALUES.items() for word in ("--set", f"{name}={value}")]
    words = ["train", model, "--plugin", STRANGERS, "--train-data", images, "--device", "cpu"]
    shown = harness(*words, *changes, "--out", by_two, "--resume")
    assert shown.exit_code == 0, shown.output
    assert load_checkpoint(saved)["step"] == 6
    saved.unlink()  # 700 MB of EDSR


def test_parameters_without_influence_are_named(by_two: Path) -> None:
    said = said_of(by_two, "unused")
    assert "spare.weight, spare.bias have no influence on the output" in said
    assert "no influence" not in said_of(by_two, "drfn")


def test_statistics_of_each_process_alone_are_said(by_two: Path) -> None:
    for model, alone in {"norm": True, "memnet": True, "edsr-baseline": False}.items():
        said = said_of(by_two, model)
        assert ("normalised by each process alone, over 2 patches:" in said) == alone


def test_statistics_of_all_processes_have_the_names_of_those_of_one() -> None:
    """On GPUs, where processes share them, a checkpoint and the average stay what they are."""
    network = MODELS.get("memnet").build(scale=4)
    before = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    shared = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert {name: tuple(value.shape) for name, value in shared.state_dict().items()} == before
    assert not sharing_notes(shared, [], 4)


def test_two_processes_train_like_one_with_the_same_batch(words: list[str], tmp_path: Path) -> None:
    words = [*words, "--steps", "20"]
    assert start(words, tmp_path / "one").wait() == 0
    two = torchrun([*words, "--out", "two"], tmp_path)
    _, said = two.communicate(timeout=120)
    assert two.returncode == 0, said[-2000:]
    one, two_of = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(two_of[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_agreed_on_long_before_the_next_line(
    words: list[str], tmp_path: Path, stop: signal.Signals
) -> None:
    """From a terminal all processes get Ctrl-C, and torchrun passes it on; SIGTERM is its own."""
    words = [*words, "--steps", "1000000", "--out", "out", "--log-every", "100000000"]
    run = torchrun([*words, "--save-every", "100000"], tmp_path)
    assert run.stderr is not None
    next(line for line in run.stderr if line.startswith("The network starts at"))
    time.sleep(3)  # before the first step there is nothing to save
    if stop == signal.SIGINT:
        os.killpg(run.pid, stop)
    else:
        run.send_signal(stop)
    _, said = run.communicate(timeout=120)
    saved = tmp_path / "out/tiny-x4/last.pt"
    step = load_checkpoint(saved)["step"]
    assert step > 0 and f"Step {step} is in out/tiny-x4/last.pt: go on with --resume" in said
    assert "SIGKILL" not in said


class TestSyncSchedule:
    def test_processes_agree_about_once_a_second_whatever_a_step_takes(self) -> None:
        schedule, seconds = SyncSchedule(0, 0.0, alone=False), 0.0
        held = []
        for step in range(1, 401):
            seconds += 0.01 if step <= 200 else 0.5
            if schedule.due(step):
                schedule.done(step, seconds)
                held.append(step)
        fast, slow = held[:4], held[3:]
        assert fast[0] == 1
        assert [later - sooner for sooner, later in pairwise(fast)] == pytest.approx(
            [99] * 3, abs=1
        )
        # One stretch of slow steps was planned by the fast steps before it.
        assert 295 <= slow[0] <= 301 and slow[-1] >= 399
        assert {later - sooner for sooner, later in pairwise(slow)} == {2}

    def test_one_process_alone_looks_after_each_step(self) -> None:
        schedule = SyncSchedule(0, 0.0, alone=True)
        schedule.done(1, 1e-6)
        assert schedule.due(2)

    def test_a_clock_that_stood_still_does_not_part_them(self) -> None:
        schedule = SyncSchedule(3, 1.0, alone=False)
        schedule.done(4, 1.0)
        assert not schedule.due(103) and schedule.due(104)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[enforce fail] Connection closed by peer [127.0.0.1]:1", "Another process of this"),
        ("Timed out waiting 10800000ms for recv operation", "Another process of this"),
        ("Expected to have finished reduction in the prior iteration", "train it with one"),
    ],
)
def test_what_several_processes_make_fail_is_one_sentence(said: str, told: str) -> None:
    with pytest.raises(HarnessError, match=told), failures_named():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="anything else"), failures_named():
        raise RuntimeError("anything else")
