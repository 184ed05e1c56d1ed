"""Faults, real ones, and what they cost: ``python -m benchmarks.faults [--moments 50]``.

A runner, a worker of a cluster and a trainer are killed (SIGKILL) at random moments, runner and
trainer also while they write; their disk gets full (a small tmpfs, for which one must be root);
images go while they are used.
After each fault every record and checkpoint that is there is read and compared with those of an
undisturbed run; then the same command is given again, and must end with the same numbers and no
file more. Another fault is one more line of `FAULTS`.

Then single bits flip in files that are sealed by a hash, which their readers and the commands that
use them must notice. Another kind of file is one more line of `SEALED`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.workloads import (
    LIMIT,
    ClusterEvaluation,
    Evaluation,
    Process,
    State,
    Training,
    Work,
)
from harness.data.testsets import register_testsets
from harness.data.trainsets import find_images, prepare_images
from harness.errors import HarnessError
from harness.models.weights import read_weights
from harness.protocol.rules import Protocol
from harness.registry import MODELS
from harness.train.checkpoint import load_checkpoint


@dataclass
class Outcome:
    """What faults of one kind did.

    Attributes:
        tried: faults that met a process at work.
        lost: finished records, checkpoints or weights that could not be read or were gone.
        wrong: those whose numbers are not those of an undisturbed run.
        stuck: faults after which the next run did not complete.
        leftovers: files beside those of an undisturbed run, after the next run.
        unsaid: faults that a process outlived without an error, or with more than a sentence.
    """

    tried: int = 0
    lost: int = 0
    wrong: int = 0
    stuck: int = 0
    leftovers: int = 0
    unsaid: int = 0

    def add(self, work: Work, results: Path, before: State) -> None:
        """Count what became of results that were there before, and of those that are there."""
        now = work.state(results)
        self.lost += sum(value is None for value in now.values()) + len(before.keys() - now.keys())
        self.wrong += sum(
            value is not None and value != work.expected.get(path) for path, value in now.items()
        )


@dataclass(frozen=True)
class Scene:
    """A command at work, the folder of its results, and what decides where chance is asked."""

    work: Work
    results: Path
    process: Process
    rng: random.Random


Undo = Callable[[], object]
Fault = Callable[[Scene], Undo | None]
"""Does harm to a command at work; returns what takes the harm back, None if it came too late."""


def suffer(work: Work, results: Path, rng: random.Random, fault: Fault) -> Outcome:
    """Carry the command out, with a fault at a random moment; then carry it out again."""
    outcome = Outcome()
    process = work.start(results)
    work.until_at_work(results, process)
    time.sleep(0.9 * rng.random() * work.seconds)
    before = work.state(results)
    undo = fault(Scene(work, results, process, rng))
    said, _ = process.communicate(timeout=LIMIT)
    if undo is None or (process.returncode == 0 and fault is not kill_worker):
        (undo or done)()  # it came too late
        return outcome
    outcome.tried = 1
    if fault is kill_worker:  # which the command must survive
        finish(work, results, process.returncode, said, outcome)
        return outcome
    if process.returncode != -signal.SIGKILL:
        sentence = re.search("^Error: |: failed: ", said, re.MULTILINE)
        outcome.unsaid = process.returncode != 1 or "Traceback" in said or not sentence
    outcome.add(work, results, before)
    undo()
    again = work.start(results)
    said, _ = again.communicate(timeout=LIMIT)
    finish(work, results, again.returncode, said, outcome)
    return outcome


def finish(work: Work, results: Path, returncode: int, said: str, outcome: Outcome) -> None:
    """Count what a command did not complete, or left behind."""
    if returncode or work.state(results).keys() != work.expected.keys():
        print(said)
        outcome.stuck = 1
    outcome.add(work, results, {})
    outcome.leftovers = len(work.surplus(results))


def done() -> None:
    """Nothing is left to be taken back."""


def kill(scene: Scene) -> Undo:
    """End the process at once."""
    scene.process.kill()
    return done


def kill_worker(scene: Scene) -> Undo | None:
    """End one of the processes that do the work; the command goes on."""
    try:
        children = psutil.Process(scene.process.pid).children()
        workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        scene.rng.choice(workers).kill()
    except (psutil.Error, IndexError):
        return None
    return done


def kill_writing(scene: Scene) -> Undo:
    """End the process while it writes a file that is not whole yet."""
    partial = f".*.{scene.process.pid}"
    while scene.process.poll() is None and not any(scene.results.rglob(partial)):
        pass
    return kill(scene)


def fill(scene: Scene) -> Undo:
    """Leave nothing free on the disk that holds the results."""
    ballast = scene.results.parent / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free))
    return ballast.unlink


def delete(scene: Scene) -> Undo:
    """Delete the image that comes last."""
    path = scene.work.home / "b/7.png"
    content = path.read_bytes()
    path.unlink()
    return lambda: path.write_bytes(content)


def truncate(scene: Scene) -> Undo:
    """Cut off the end of the image that comes last."""
    path = scene.work.home / "b/7.png"
    content = path.read_bytes()
    path.write_bytes(content[: scene.rng.randrange(len(content))])
    return lambda: path.write_bytes(content)


@contextmanager
def disk(size: str = "8m") -> Iterator[Path | None]:
    """A disk of its own; None where one may not be had."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if os.geteuid() or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


FAULTS: tuple[tuple[str, str, Fault, float, bool], ...] = (
    ("runner killed", "runner", kill, 0.4, False),
    ("worker killed", "cluster", kill_worker, 0.2, False),
    ("trainer killed", "trainer", kill, 0.4, False),
    ("runner killed while writing", "runner", kill_writing, 0.2, False),
    ("trainer killed while writing", "trainer", kill_writing, 0.2, False),
    ("runner's disk full", "runner", fill, 0.2, True),
    ("trainer's disk full", "trainer", fill, 0.2, True),
    ("image deleted while running", "runner", delete, 0.1, False),
    ("image truncated while running", "runner", truncate, 0.1, False),
)
"""What happens, to whom, how, how often for one moment, and whether it needs a disk."""


def repeat(work: Work, fault: Fault, times: int, rng: random.Random, *, own_disk: bool) -> Outcome:
    """So many faults that met a process at work, each on results of its own."""
    total = Outcome()
    for _ in range(10 * times):
        if total.tried == times:
            break
        with disk() if own_disk else tempfile.TemporaryDirectory() as folder:
            if folder is None:
                return total
            one = suffer(work, Path(folder) / "results", rng, fault)
        for name, value in vars(one).items():
            setattr(total, name, getattr(total, name) + value)
    return total


@dataclass(frozen=True)
class Sealed:
    """Files that are sealed by a hash, and what uses them.

    Attributes:
        work: the command that reads them, and must end with an error.
        results: the folder that it is given a copy of, with the files where they lie in it.
        files: of which one has a flipped bit.
        read: reads them in this process, and must raise a `HarnessError`.
    """

    work: Work
    results: Path
    files: Sequence[Path]
    read: Callable[[], object]


def checkpoint(works: Mapping[str, Work]) -> Sealed:
    """The last checkpoint of a training, which is resumed."""
    work = works["trainer"]
    path = work.home / "undisturbed/tiny-x4/last.pt"
    return Sealed(work, work.home / "undisturbed", [path], partial(load_checkpoint, path))


def cache(works: Mapping[str, Work]) -> Sealed:
    """The decoded images of a training, which is begun anew."""
    work = works["trainer"]
    os.environ["XDG_CACHE_HOME"] = str(work.home / "c")
    register_testsets()  # no image of theirs is trained on
    images, rules = find_images([str(work.home / "train")]), Protocol("rgb", grey="as-rgb")
    assert prepare_images(images, rules).prepared == 0, "the command has prepared others"
    files = list(work.home.glob("c/*/training/*/*"))
    return Sealed(work, work.home / "none", files, partial(prepare_images, images, rules))


def weights(works: Mapping[str, Work]) -> Sealed:
    """Weights that a run is given."""
    work = works["runner"]
    assert isinstance(work, Evaluation)
    read = partial(read_weights, MODELS.get("srcnn"), 4, work.weights)
    return Sealed(work, work.home / "none", [work.weights], read)


SEALED = {"checkpoint": checkpoint, "training cache": cache, "weights": weights}
"""What flips its bits; each file is as the harness writes it."""


@contextmanager
def flipped(files: Sequence[Path], rng: random.Random) -> Iterator[None]:
    """One bit of the files is another, all being as likely."""
    (path,) = rng.choices(files, [one.stat().st_size for one in files])
    place = rng.randrange(8 * path.stat().st_size)
    flip(path, place)
    try:
        yield
    finally:
        flip(path, place)


def flip(path: Path, place: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as stream:
        stream.seek(place // 8)
        (byte,) = stream.read(1)
        stream.seek(place // 8)
        stream.write(bytes([byte ^ 1 << place % 8]))


def accepted_by_reader(sealed: Sealed, rng: random.Random) -> bool:
    """Whether files with a flipped bit are read all the same."""
    with flipped(sealed.files, rng):
        try:
            sealed.read()
        except HarnessError:
            return False
    return True


def accepted_by_command(sealed: Sealed, rng: random.Random) -> tuple[bool, bool]:
    """Whether a command works with a flipped bit, and whether it fails without a sentence."""
    with flipped(sealed.files, rng), tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        if sealed.results.exists():
            shutil.copytree(sealed.results, results)
        process = sealed.work.start(results)
        said, _ = process.communicate(timeout=LIMIT)
    accepted = process.returncode == 0
    return accepted, not accepted and ("Traceback" in said or "is damaged" not in said)


def flip_bits(works: Mapping[str, Work], only: str, bits: int, commands: int, seed: int) -> None:
    """Flip bits, and print the table of what came of it."""
    print("\n| file | bits flipped | read | commands | completed | not said |")
    print("|---|---|---|---|---|---|")
    for name, prepared in SEALED.items():
        if not re.search(only, f"bit of {name}"):
            continue
        sealed, rng = prepared(works), random.Random(seed)
        sealed.read()
        read = sum(accepted_by_reader(sealed, rng) for _ in range(bits))
        ended = [accepted_by_command(sealed, rng) for _ in range(commands)]
        completed, unsaid = (sum(column) for column in zip(*ended, strict=True))
        print(f"| {name} | {bits} | {read} | {commands} | {completed} | {unsaid} |", flush=True)


def main() -> None:
    """Try all faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50, help="of kills, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bits", type=int, default=3000, help="flipped for each reader")
    parser.add_argument("--commands", type=int, default=30, help="with a flipped bit, of each kind")
    parser.add_argument("--only", default="", help="faults whose names this expression finds")
    words = parser.parse_args()
    rng = random.Random(words.seed)
    print("| fault | tried | lost | wrong | next run failed | leftovers | not said |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        kinds = {"runner": Evaluation, "cluster": ClusterEvaluation, "trainer": Training}
        works = {name: kind(Path(home, name)) for name, kind in kinds.items()}
        chosen = [one for one in FAULTS if re.search(words.only, one[0])]
        for title, whose, fault, share, own_disk in chosen:
            times = round(share * words.moments)
            got = repeat(works[whose], fault, times, rng, own_disk=own_disk)
            numbers = [str(value) for value in vars(got).values()]
            print(f"| {title} | {' | '.join(numbers)} |", flush=True)
        flip_bits(works, words.only, words.bits, words.commands, words.seed)


if __name__ == "__main__":
    main()
