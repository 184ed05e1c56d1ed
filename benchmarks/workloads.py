"""Commands whose results are known, for what disturbs them: a few runs, and a short training."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from skimage import data

from harness.errors import HarnessError
from harness.models.weights import Weights, save_weights, tensors_digest
from harness.record import WeightsInfo
from harness.registry import MODELS, load_plugins
from harness.run.store import read_record
from harness.train.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
LIMIT = 300.0
"""Seconds after which a command counts as hanging."""

TINY = '''
from harness.baselines.drfn import drfn
from harness.registry import register_model


@register_model("tiny", pipeline="rgb", input="lr", scales=(4,), global_pooling=True)
def tiny(scale=4):
    """DRFN with one group of one block."""
    return drfn(scale, groups=1, blocks=1, width=16)
'''

Process = subprocess.Popen[str]
State = dict[Path, object]
"""What there is of finished results, by their paths: their values, or None if unreadable."""


class Work:
    """A command whose results are known, since it was carried out undisturbed.

    Args:
        home: gets images and the undisturbed results.
    """

    def __init__(self, home: Path) -> None:
        load_plugins()
        self.home = home
        self.prepare()
        whole = home / "undisturbed"
        self.seconds = self._time(whole)
        self.expected = self.state(whole)
        self._files = {path.relative_to(whole) for path in whole.rglob("*")}

    def prepare(self) -> None:
        """Make what the command works with."""
        raise NotImplementedError

    def words(self, results: Path) -> list[str]:
        """The command, for a folder of results that may hold some already."""
        raise NotImplementedError

    def state(self, results: Path) -> State:
        """What there is of finished results."""
        raise NotImplementedError

    def surplus(self, results: Path) -> list[Path]:
        """What an undisturbed run does not leave, but for TensorBoard's files of other names."""
        return [
            path
            for path in results.rglob("*")
            if path.relative_to(results) not in self._files and "tfevents" not in path.name
        ]

    def start(self, results: Path) -> Process:
        """Begin the command, with one thread, so that its numbers are the same every time."""
        quiet = {"HARNESS_DATA": "", "HARNESS_WEIGHTS": "", "XDG_CACHE_HOME": str(self.home / "c")}
        env = os.environ | quiet | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "harness", *self.words(results)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.home, env=env, text=True, **pipes)

    def until_at_work(self, results: Path, process: Process) -> None:
        """Wait for the first file of the results, or the end."""
        while process.poll() is None and not any(p.is_file() for p in results.rglob("*")):
            time.sleep(0.002)

    def _time(self, results: Path) -> float:
        """Seconds from the first file of the results to the last that matters."""
        process = self.start(results)
        self.until_at_work(results, process)
        begin = time.time()
        said, _ = process.communicate(timeout=LIMIT)
        if process.returncode:
            raise SystemExit(f"The undisturbed command failed:\n{said}")
        return max(path.stat().st_mtime for path in results.rglob("*.*[!g]")) - begin


class Evaluation(Work):
    """Four runs: two models on two sets of eight small pieces of photographs."""

    models, sets = "bicubic,srcnn", "./a,./b"

    def prepare(self) -> None:
        """Images and weights."""
        for name, photo in (("a", data.astronaut()), ("b", data.coffee())):
            cut(photo, self.home / name, 8)
        self.weights = random_weights("srcnn", self.home)

    def words(self, results: Path) -> list[str]:
        """``harness run``."""
        models = ["--models", self.models, "--weights", f"srcnn={self.weights}"]
        return [
            "run",
            "--self-ensemble",
            *models,
            "--datasets",
            self.sets,
            "--results",
            str(results),
        ]

    def state(self, results: Path) -> State:
        """The scores of every finished record."""
        found: State = {}
        for path in results.glob("x*/*/*.json"):
            try:
                record = read_record(path)
            except HarnessError as error:
                print(error)
                found[path.relative_to(results)] = None
                continue
            if record.status == "finished":
                scores = [(image.image, dict(image.scores)) for image in record.images]
                facts = (record.identity.id, record.parameters, record.macs)
                found[path.relative_to(results)] = (scores, facts)
        return found


class ClusterEvaluation(Evaluation):
    """The same runs on two dask workers."""

    def words(self, results: Path) -> list[str]:
        """``harness run --executor dask``."""
        return [*super().words(results), "--executor", "dask", "--workers", "2"]

    def until_at_work(self, results: Path, process: Process) -> None:
        """Wait for the first journal: all workers have started then."""
        while process.poll() is None and not any(results.rglob("*.journal")):
            time.sleep(0.002)


class Training(Work):
    """A small DRFN that is trained and writes a checkpoint every few steps."""

    steps = 300

    def prepare(self) -> None:
        """Images and a network."""
        cut(data.astronaut(), self.home / "train", 3, side=160)
        cut(data.coffee(), self.home / "val", 2, side=160)
        (self.home / "tiny.py").write_text(TINY)

    def words(self, results: Path) -> list[str]:
        """``harness train``, resumed where there is a checkpoint."""
        words = "train tiny --plugin tiny.py --train-data ./train --val-data ./val --batch 2"
        more = f"--patch 8 --device cpu --log-every 5 --save-every 0 --steps {self.steps}"
        resume = ["--resume"] if (results / "tiny-x4/last.pt").exists() else []
        return [*words.split(), *more.split(), "--out", str(results), *resume]

    def state(self, results: Path) -> State:
        """The weights' hash, and which checkpoints can be read."""
        found: State = {}
        for path in (results / "tiny-x4").glob("*.pt"):
            try:
                load_checkpoint(path)
                found[path.relative_to(results)] = "readable"
            except HarnessError as error:
                print(error)
                found[path.relative_to(results)] = None
        for path in results.glob("tiny-x4/*.safetensors"):
            # Not the file's: the order of its metadata is another one every time.
            found[path.relative_to(results)] = tensors_digest(load_file(path))
        return found


def cut(photo: np.ndarray, folder: Path, count: int, side: int = 128) -> None:
    """Pieces of a photograph as PNG files."""
    folder.mkdir(parents=True)
    for place in range(count):
        top, left = divmod(place, 3)
        rows, columns = slice(top * side, (top + 1) * side), slice(left * side, (left + 1) * side)
        Image.fromarray(photo[rows, columns]).save(folder / f"{place}.png")


def random_weights(model: str, folder: Path) -> Path:
    """Small random weights of a network, the same every time."""
    card = MODELS.get(model)
    rng = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in card.build(scale=4).state_dict().items()}
    tensors = {n: rng.normal(0, 0.05, shape).astype(np.float32) for n, shape in shapes.items()}
    info = WeightsInfo("random", "", "", tensors_digest(tensors))
    return save_weights(Weights(info, tensors), card, 4, folder)
