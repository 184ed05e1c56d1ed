"""What evaluation costs beside the networks: ``python -m benchmarks.evaluation [--plot FILE]``.

Prints the seconds of one core for reading, LR images, PSNR and SSIM of B100; the start-up time of
the command line; and how time grows with the area and the number of images, drawn with ``--plot``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

# One core: set before NumPy and PyTorch are loaded.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
import torch
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullFormatter
from PIL import Image
from tabulate import tabulate

from harness.data.identify import ImageSet
from harness.data.images import read_image
from harness.data.testsets import find, register_testsets, select
from harness.protocol.resize import imresize
from harness.protocol.rules import Protocol, make_sample, score
from harness.registry import load_plugins
from harness.report.plot import Figure
from harness.run.evaluate import compute, upscaler
from harness.run.plan import plan
from harness.run.request import Request

if TYPE_CHECKING:
    from harness.cards import ByteArray

Made = TypeVar("Made")
Points = list[tuple[float, float]]
"""Of a size, and the seconds it took."""

ROUNDS = 3
AREAS = (0.0625, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Megapixels of the images whose area is varied."""
COUNTS = (1, 2, 4, 8, 16, 32)
"""Images of a quarter megapixel."""
MODELS = ("bicubic", "fsrcnn", "edsr-baseline")
LABELS = ("megapixels of one image", "images of 0.25 megapixels")


def seconds(action: Callable[[], object]) -> float:
    """Of a call, once."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def spent_on(sums: list[float], action: Callable[[], Made]) -> Made:
    """Call something and add its seconds to the last sum."""
    begin = time.perf_counter()
    made = action()
    sums[-1] += time.perf_counter() - begin
    return made


def core_table(b100: ImageSet) -> str:
    """Seconds of one core for all images of B100, the median of the rounds."""
    rules = Protocol("rgb", 4)
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name in ("reading", "LR", "PSNR", "SSIM"):
            spent.setdefault(name, []).append(0.0)
        for image in b100.images:
            pixels = spent_on(spent["reading"], partial(pixels_of, image.path))
            sample = spent_on(spent["LR"], partial(make_sample, pixels, rules))
            sr = imresize(sample.lr, 4, "replicate")
            spent_on(spent["PSNR"], partial(score, sr, sample, rules, ["psnr"]))
            spent_on(spent["SSIM"], partial(score, sr, sample, rules, ["ssim"]))
    rows = [[name, median(times)] for name, times in spent.items()]
    rows.append(["all", sum(row[1] for row in rows)])
    return tabulate(rows, ["B100, one core", "seconds"], "github", floatfmt=".2f")


def pixels_of(path: Path) -> ByteArray:
    """An image from its file."""
    return read_image(path).pixels


def start_table() -> str:
    """Seconds until the command line has answered, the fastest of some."""
    rows = []
    for words in (
        ["--help"],
        ["list", "models"],
        ["list", "datasets"],
        ["list", "weights"],
        ["list", "runs"],
    ):
        command = [sys.executable, "-m", "harness", *words]
        times = [
            seconds(lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL))
            for _ in range(7)
        ]
        rows.append([f"harness {' '.join(words)}", min(times), median(times)])
    return tabulate(rows, ["command", "fastest (s)", "median (s)"], "github", floatfmt=".2f")


def measured(model: str, folder: Path, sizes: Sequence[tuple[int, int]]) -> float:
    """Seconds for images of given sizes, the fastest of the rounds."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place, (width, height) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{place:03}.png")
    (run,) = plan(Request([model], [str(folder)])).runs
    network = upscaler(run, "cpu")
    return min(
        seconds(lambda: list(compute(run, run.image_set.images, network))) for _ in range(ROUNDS)
    )


def growth(root: Path) -> dict[str, tuple[Points, Points]]:
    """For each model (megapixels of one image, seconds) and (number of images, seconds)."""
    found = {}
    for model in MODELS:
        areas, counts = [], []
        for area in AREAS:
            side = round((area * 1e6) ** 0.5 / 4) * 4
            taken = measured(model, root / f"{model}-area-{area}", [(side, side)])
            areas.append((side * side / 1e6, taken))
        for count in COUNTS:
            taken = measured(model, root / f"{model}-count-{count}", [(500, 500)] * count)
            counts.append((float(count), taken))
        found[model] = areas, counts
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The exponent of a power law through points; 1 is linear."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def draw(found: dict[str, tuple[Points, Points]], path: Path) -> None:
    """Both plots as the file's suffix says."""
    title = "Seconds of a run against the area and the number of its images"
    figure = Figure("growth", lambda: plot(found), title)
    path.write_bytes(figure.render(path.suffix[1:]))


def plot(found: dict[str, tuple[Points, Points]]) -> Canvas:
    """Both plots, with logarithmic axes, beside lines of slope 1."""
    figure = Canvas(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for place, (axis, label) in enumerate(zip(axes, LABELS, strict=True)):
        for model, lines in found.items():
            x, y = np.array(lines[place]).T
            axis.loglog(x, y, "o", label=model)
            axis.loglog(x, np.exp(np.log(y / x).mean()) * x, "-", color="0.7", zorder=0)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        for one in (axis.xaxis, axis.yaxis):
            one.set_major_formatter("{x:g}")
            one.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("seconds")
    axes[1].legend(frameon=False)
    return figure


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw the growth there")
    words = parser.parse_args()
    torch.set_num_threads(1)
    register_testsets()
    load_plugins()
    print(start_table(), end="\n\n")
    print(core_table(find(select(["b100"])[0], 4)), end="\n\n")
    with tempfile.TemporaryDirectory() as root:
        found = growth(Path(root))
    rows = [[model, *map(slope, lines)] for model, lines in found.items()]
    headers = ["growth of time, as a power", "of the area", "of the number of images"]
    print(tabulate(rows, headers, "github", floatfmt=".2f"))
    if words.plot:
        draw(found, words.plot)


if __name__ == "__main__":
    main()
