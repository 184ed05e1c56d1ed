"""Trainings of a tiny network, in this process and in others."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import torch

from harness.registry import load_plugins
from harness.train.checkpoint import LogRow, load_checkpoint
from harness.train.plan import plan_training
from harness.train.spec import Scores, Training, TrainRequest

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


STRANGERS = Path(__file__).with_name("strangers.py")
"""A plug-in of networks that do what this project's own do not."""


SETTINGS = ("resume", "compile", "log_every", "validate_every")


def training(words: list[str], model: str = "tiny", **changes: object) -> Training:
    """What the words ask for, of any network, with other settings and values of the recipe."""
    option = dict(zip(words[2::2], words[3::2], strict=True))
    load_plugins([Path(option["--plugin"]), STRANGERS])
    data = {name: (option[f"--{name}-data"],) for name in ("train", "val")}
    values = {"batch": 4, "patch": 12, "train_data": data["train"], "val_data": data["val"]}
    settings = {name: changes.pop(name) for name in SETTINGS if name in changes}
    return plan_training(TrainRequest(model, changes=values | changes, device="cpu", **settings))


def stranger(words: list[str], model: str) -> list[str]:
    """The words for another network."""
    return ["train", model, "--plugin", str(STRANGERS), *words[4:]]


def torchrun(words: list[str], folder: Path, processes: int = 2) -> subprocess.Popen[str]:
    """``harness`` in several processes; their group is one of its own, as from a terminal."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return subprocess.Popen(
        [*command, str(processes), "-m", "harness", *words],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def scores_of(*psnrs: float) -> Scores:
    return Scores(tuple((f"{place}.png", psnr, 0.9) for place, psnr in enumerate(psnrs)))


def weights_of(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "tiny-x4" / f"{name}.pt")["network"]


def start(
    words: list[str], folder: Path, *more: str, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", *words, "--out", str(folder), *more]
    return subprocess.Popen(command, cwd=folder.parent, stderr=stderr)


class Said(list[str]):
    """A listener that keeps sentences."""

    def started(self, *_: object) -> None: ...

    def logged(self, *_: object) -> None: ...

    def validated(self, *_: object) -> None: ...

    def notify(self, sentence: str) -> None:
        self.append(sentence)


class Interrupting(Said):
    """A listener that interrupts its process at a line of the log."""

    def __init__(self, step: int, sent: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.step, self.sent = step, sent

    def logged(self, training: Training, row: LogRow, progress: float) -> None:
        if row.step == self.step:
            signal.raise_signal(self.sent)


def notes_of(folder: Path, tag: str = "repro") -> dict[str, object]:
    return json.loads((folder / f"tiny-x4/tiny-x4.{tag}.json").read_text())
