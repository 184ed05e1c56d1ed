"""Only the code that has a printed network's name speaks for its numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.paper.check import against_paper, against_reference
from harness.paper.schema import paper
from harness.paper.select import broken_runs, foreign_origin
from harness.paper.verdicts import Evidence, judge_cells
from harness.record import RunRecord
from harness.report.page import record_card
from harness.report.plot import points
from harness.report.results import results
from harness.run.store import ResultStore
from tests.records import frame, record

REFERENCE = list(ResultStore(Path(__file__).parents[2] / "results/reference").records())
VERSION = "drfn-harness 0.1.0"
OWN = [
    {"module": "baselines.srcnn", "distribution": VERSION},
    {"module": "baselines.srcnn"},
    {"module": "harness.baselines.srcnn", "distribution": VERSION},
    {"module": "harness.baselines.srcnn"},
]
FOREIGN = [
    {"module": "aaa_clash", "distribution": "aaa-clash 0.1"},
    {"module": "baselines.srcnn", "distribution": "baselines 0.1.6"},
    {"module": "baselines.srcnn", "distribution": "baselines 0.1.6, drfn-harness 0.1.0"},
    {"module": "srcnn", "distribution": VERSION},
    {"file": "mine.py"},
]


def of(facts: dict[str, str], model: str = "srcnn") -> RunRecord:
    run = replace(record(model, paper()["figure5"]["set"]), parameters=10**6)
    return replace(run, plugins={model: facts | {"sha256": "0"}})


def shown(run: RunRecord) -> set[str]:
    """Where the number of a run stands in its model's row."""
    runs, model = frame(run), run.identity.model
    tidy = results(runs, paper()).tidy
    cells = judge_cells(Evidence(runs, paper()))
    found = {
        "table2": ((tidy["model"] == model) & (tidy["status"] == "measured")).any(),
        "figure5": any(one.model == model and one.run for one in points(runs, paper(), None)),
        "verdicts": any(one.model == model and one.measured for one in cells),
        "check": any(one.model == model and one.run for one in against_paper([run], paper())),
    }
    return {name for name, holds in found.items() if holds}


@pytest.mark.parametrize("facts", OWN)
def test_the_networks_of_the_harness_speak_for_printed_numbers(facts: dict[str, str]) -> None:
    assert shown(of(facts)) == {"table2", "figure5", "verdicts", "check"}


@pytest.mark.parametrize("facts", FOREIGN)
def test_other_code_of_their_name_does_not(facts: dict[str, str]) -> None:
    assert shown(of(facts)) == set()
    assert foreign_origin(of(facts)).startswith(next(iter(facts.values())))
    broken = replace(of(facts), status="error", images=(), error="broke")
    assert not broken_runs(frame(broken), 4, None)


@pytest.mark.parametrize("model", ["mine", "psnr"])
def test_networks_of_ones_own_have_rows_of_their_own(model: str) -> None:
    assert shown(of({"file": "mine.py"}, model)) == {"table2", "figure5"}


def test_a_metric_that_is_not_the_harness_s_speaks_for_no_printed_number() -> None:
    run = of(OWN[0])
    facts = {"file": "metric.py", "sha256": "0"}
    assert shown(replace(run, plugins={**run.plugins, "mae": facts}))
    assert not shown(replace(run, plugins={**run.plugins, "ssim": facts}))


@pytest.mark.parametrize("model", ["srcnn", "edsr-baseline"])
def test_other_code_is_not_held_against_the_reference(model: str) -> None:
    own = next(one for one in REFERENCE if one.identity.model == model)
    other = replace(own, plugins={model: {"file": "mine.py", "sha256": "0"}})
    assert any(row.measured for row in against_reference([own], REFERENCE))
    assert not any(row.measured for row in against_reference([other], REFERENCE))


def test_every_committed_record_speaks() -> None:
    assert len(REFERENCE) > 50 and not any(map(foreign_origin, REFERENCE))


def test_a_run_of_other_code_is_listed_and_told_of_by_its_origin(harness) -> None:
    ResultStore(Path("mine")).write(of(FOREIGN[0]))
    card = record_card(of(FOREIGN[0]), {"srcnn": "SRCNN"})
    assert card["title"].startswith("srcnn of aaa_clash (aaa-clash 0.1) on ")
    listed = harness("list", "runs", "--results", "mine")
    assert "code of aaa_clash (aaa-clash 0.1)" in listed.stdout
    for words in (("claims",), ("check", "--against", "paper"), ("list", "runs")):
        told = harness(*words, "--results", "mine").stderr
        assert "srcnn by aaa_clash (aaa-clash 0.1)" in told
