"""How time and memory of an evaluation grow with images, models and workers.

``python benchmarks/scaling.py [--models NAMES] [--datasets NAMES] [--workers 1,2,4]``

The same runs are made from nothing in one process and on some dask workers of this machine, one
thread each; then the client's own work is measured on many tiny images, for workers of one and of
eight threads. Needs the extra ``cluster``, weights of the models, and a machine that does nothing
else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from tabulate import tabulate

from harness.data.testsets import find, register_testsets, select

IMAGES, SETS = 1000, 100
"""A set of many tiny images, and many sets of one, with which the client's work is measured."""


@dataclass
class Measured:
    """One command.

    Attributes:
        start: seconds until the first run began.
        done: seconds until the last one ended.
        total: seconds until the command ended.
        client_cpu: seconds of processor time of the client.
        client_mb: most memory (resident) the client had.
        worker_mb: most memory any worker had.
        records: what it wrote.
    """

    start: float = 0.0
    done: float = 0.0
    total: float = 0.0
    client_cpu: float = 0.0
    client_mb: float = 0.0
    worker_mb: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list)


def measure(*words: str, threads: int = 1) -> Measured:
    """Carry out ``harness run`` with this number of threads a process."""
    made = Measured()
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, "-m", "harness", "run", "--results", folder, *words]
        begin = time.perf_counter()
        client = psutil.Popen(
            command, env=os.environ | counts, stdout=subprocess.DEVNULL, stderr=said
        )
        lines = 0
        while client.poll() is None:
            if os.fstat(said.fileno()).st_size > lines:
                lines, made.done = os.fstat(said.fileno()).st_size, time.perf_counter() - begin
                made.start = made.start or made.done
            with suppress(psutil.Error):  # a process has just ended
                watch(client, made)
            time.sleep(0.02)
        made.total = time.perf_counter() - begin
        if client.returncode:
            said.seek(0)
            sys.exit(said.readlines()[-1])
        made.records = [json.loads(path.read_text()) for path in Path(folder).rglob("*.json")]
    return made


def watch(client: psutil.Process, made: Measured) -> None:
    """Note the time and memory that the processes have used by now."""
    made.client_cpu = sum(client.cpu_times()[:2])
    made.client_mb = max(made.client_mb, client.memory_info().rss / 1e6)
    for child in client.children():
        made.worker_mb = max(made.worker_mb, child.memory_info().rss / 1e6)


def workers_table(serial: Measured, pools: dict[int, Measured]) -> str:
    """Time and memory by the number of workers, beside what the model says."""
    cores = len(os.sched_getaffinity(0))
    work = serial.done - serial.start
    rows: list[list[object]] = []
    for count, made in [(0, serial), *pools.items()]:
        span, end = made.done - made.start, made.total - made.done
        model = made.start + work / max(1, min(count, cores)) + end
        row = [count or "none", made.start, span, end, made.total, model, work / span]
        rows.append([*row, made.client_mb, made.worker_mb])
    headers = ["workers", "start (s)", "work (s)", "end (s)", "T (s)", "T of the model (s)"]
    headers += ["speed-up of the work", "client (MB)", "largest worker (MB)"]
    formats = ("", *(".1f",) * 5, ".2f", ".0f", ".0f")
    return tabulate(rows, headers, "github", floatfmt=formats)


def pixels_table(serial: Measured, megapixels: float) -> str:
    """Seconds a megapixel of HR image."""
    forward: dict[str, float] = defaultdict(float)
    for record in serial.records:
        forward[record["identity"]["model"]] += sum(one["seconds"] for one in record["images"])
    other = serial.done - serial.start - sum(forward.values())
    rows = [[f"forward pass of {name}", spent / megapixels] for name, spent in forward.items()]
    rows.append(["all the rest, for each model", other / megapixels / len(forward)])
    return tabulate(rows, [f"on {megapixels:.2f} MP", "s/MP"], "github", floatfmt=".3f")


def client_table() -> str:
    """The client's own processor time for an image and for a run, by the threads of a worker."""
    rows = [[threads, *(1e3 * seconds for seconds in client_work(threads))] for threads in (1, 8)]
    headers = ["threads of a worker", "an image (ms)", "a run (ms)"]
    return tabulate(rows, headers, "github", floatfmt=("", ".1f", ".1f"))


def client_work(threads: int) -> tuple[float, float]:
    """The client's processor time for an image and for a run, in seconds."""
    spent = {}
    for sets, images in ((1, 1), (1, IMAGES), (SETS, 1)):
        with tempfile.TemporaryDirectory() as root:
            folders = [Path(root, f"many{place}") for place in range(sets)]
            for folder in folders:
                folder.mkdir()
                for place in range(images):
                    pixels = np.random.default_rng(place).integers(0, 256, (40, 40), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{place}.png")
            words = ["--models", "bicubic", "--datasets", ",".join(map(str, folders))]
            made = measure(*words, "--executor", "dask", "--workers", "1", threads=threads)
            spent[sets, images] = made.client_cpu
    image = (spent[1, IMAGES] - spent[1, 1]) / (IMAGES - 1)
    return image, (spent[SETS, 1] - spent[1, 1]) / (SETS - 1) - image


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="srcnn,fsrcnn,edsr-baseline")
    parser.add_argument("--datasets", default="set5,set14")
    parser.add_argument("--workers", default="1,2,4")
    asked = parser.parse_args()
    register_testsets()
    sets = [find(card, 4) for card in select(asked.datasets.split(","))]
    megapixels = sum(np.prod(image.size) for one in sets for image in one.images) / 1e6
    words = ["--models", asked.models, "--datasets", asked.datasets, "--device", "cpu"]
    serial = measure(*words)
    pools = {
        count: measure(*words, "--executor", "dask", "--workers", str(count))
        for count in map(int, asked.workers.split(","))
    }
    print(f"{asked.models} on {asked.datasets}, {len(os.sched_getaffinity(0))} cores\n")
    print(workers_table(serial, pools), pixels_table(serial, megapixels), sep="\n\n")
    print(f"\n{client_table()}")


if __name__ == "__main__":
    main()
