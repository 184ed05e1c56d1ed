"""What kills, full disks and vanishing files cost: time, and nothing else.

A small part of ``benchmarks/faults.py``, which docs/reliability.md shows the figures of.
"""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.faults import Outcome, repeat
from benchmarks.workloads import ClusterEvaluation, Evaluation, Training, Work

REFERENCE = Path(__file__).parents[1] / "results/reference"
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[Work]], Work]:
    """A command that was carried out undisturbed, once for all tests."""
    made: dict[type[Work], Work] = {}

    def make(kind: type[Work]) -> Work:
        if kind not in made:
            made[kind] = kind(tmp_path_factory.mktemp("work"))
        return made[kind]

    return make


class ShortEvaluation(Evaluation):
    models, sets = "srcnn", "./b"


class ShortClusterEvaluation(ClusterEvaluation):
    models, sets = "srcnn", "./b"


class ShortTraining(Training):
    steps = 150


@pytest.mark.parametrize(
    ("kind", "fault", "times"),
    [
        (ShortEvaluation, faults.kill, 2),
        (ShortTraining, faults.kill, 1),
        (ShortEvaluation, faults.kill_writing, 1),
        (ShortTraining, faults.kill_writing, 1),
        (ShortEvaluation, faults.delete, 1),
        (ShortClusterEvaluation, faults.kill_worker, 1),
    ],
)
def test_a_fault_costs_nothing_but_time(work, kind, fault, times: int) -> None:
    assert repeat(work(kind), fault, times, random.Random(0), own_disk=False) == Outcome(times)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_full_disk_costs_nothing_but_time(work) -> None:
    met = repeat(work(ShortEvaluation), faults.fill, 1, random.Random(0), own_disk=True)
    if met.tried == 0:
        pytest.skip("no disk may be mounted here")
    assert met == Outcome(1)


@pytest.mark.parametrize("name", faults.SEALED)
def test_a_bit_that_flips_is_noticed_by_reader_and_command(work, name: str) -> None:
    works = {"runner": work(ShortEvaluation), "trainer": work(ShortTraining)}
    sealed, rng = faults.SEALED[name](works), random.Random(0)
    assert not any(faults.accepted_by_reader(sealed, rng) for _ in range(20))
    assert faults.accepted_by_command(sealed, rng) == (False, False)
    sealed.read()  # the bit is as it was
    unread = replace(sealed, read=lambda: None)
    assert faults.accepted_by_reader(unread, rng)


def test_the_faults_that_are_tried_are_found_out(work, tmp_path: Path) -> None:
    """The comparison itself: a lost record, a wrong number and a file too many are counted."""
    known = work(ShortEvaluation)
    path = sorted(known.expected)[0]
    results = tmp_path / "results"
    shutil.copytree(known.home / "undisturbed", results)
    whole = (results / path).read_bytes()
    assert found(known, results) == (0, 0, [])
    (results / path).write_bytes(whole[:-9])
    assert found(known, results) == (1, 0, [])
    (results / path).unlink()
    assert found(known, results) == (1, 0, [])
    another = next((REFERENCE / "x4/demo").glob("bicubic-*.json"))
    (results / path).write_bytes(another.read_bytes())
    (results / ".half").touch()
    assert found(known, results) == (0, 1, [results / ".half"])


def found(known: Work, results: Path) -> tuple[int, int, list[Path]]:
    outcome = Outcome()
    outcome.add(known, results, known.expected)
    return outcome.lost, outcome.wrong, known.surplus(results)
