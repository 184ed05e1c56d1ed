"""Runs in separate processes, and a slow network that logs the images it computes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.pictures import picture

SLOW = """
import os, time
WIDTH = 10
from harness.registry import register_model
from torch import nn

class Slow(nn.Module):
    def forward(self, image):
        if image.shape[-1] == WIDTH:  # an image of the run, not one that it is tried on
            time.sleep(float(os.environ["SLOW_SECONDS"]))
            with open(os.environ["SLOW_LOG"], "a") as log:
                log.write(f"{image.shape[-2]}\\n")
        return nn.functional.interpolate(image, scale_factor=4)

@register_model("slow", pipeline="rgb", input="lr", scales=(4,), params=0)
def slow(scale=4):
    return Slow()
"""


class Runner:
    """``harness`` in its own process group, as from a terminal."""

    def __init__(self, words: list[str], folder: Path, **env: str) -> None:
        command = [sys.executable, "-m", "harness", *words]
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as stderr:
            self._stderr = Path(stderr.name)
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | env,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    def said(self) -> str:
        """The text that it wrote to standard error so far."""
        return self._stderr.read_text()

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill the process without warning."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> None:
        """Send Ctrl-C to the process and all it started."""
        os.killpg(self.process.pid, signal.SIGINT)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; fail if the process ends first."""
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def until_images(self, results: Path, count: int) -> None:
        """Wait until the journals of unfinished runs hold ``count`` images."""
        self.until(lambda: sum(len(_images(j)) for j in results.rglob("*.journal")) >= count)


class SlowRun:
    """A run of a slow network on images of different heights.

    Args:
        folder: where all files are.
        images: the number of images.
        seconds: the time that each image takes.
    """

    def __init__(self, folder: Path, images: int = 12, seconds: float = 0.25) -> None:
        self.folder, self.results, self.log = folder, folder / "results", folder / "slow.log"
        self.photos = folder / "photos"
        self.photos.mkdir()
        for place in range(images):
            name = f"{10 + place}.png"
            Image.fromarray(picture(4 * (10 + place), 40, seed=place)).save(self.photos / name)
        (folder / "slow.py").write_text(SLOW)
        self.env = {"SLOW_LOG": str(self.log), "SLOW_SECONDS": str(seconds)}
        # So that any number of workers can continue a journal.
        self.env["OMP_NUM_THREADS"] = "1"

    def start(self, *words: str) -> Runner:
        """Start the run."""
        command = ["run", "--models", "slow", "--datasets", str(self.photos), "--plugin", "slow.py"]
        return Runner([*command, "--results", "results", *words], self.folder, **self.env)

    def computed(self) -> Counter[str]:
        """How often each image was computed, by its name."""
        return Counter(self.log.read_text().split())

    def kept(self) -> list[str]:
        """The images whose results are in a journal."""
        return [name for path in self.results.rglob("*.journal") for name in _images(path)]

    def record(self) -> dict[str, object]:
        """The only record."""
        (path,) = self.results.rglob("*.json")
        return json.loads(path.read_text())


def _images(journal: Path) -> list[str]:
    try:
        lines = journal.read_text().split("\n")[1:-1]
    except FileNotFoundError:  # the record has just replaced it
        return []
    return [json.loads(line)["result"]["image"] for line in lines]
