"""Only the code that has a printed network's name speaks for its numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.paper.check import against_paper
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.paper.select import is_comparable
from harness.record import RunRecord
from harness.report.page import record_card
from harness.report.plot import points
from harness.report.results import results
from harness.run.compare import against_reference
from harness.run.provenance import foreign_origin
from harness.run.store import ResultStore
from tests.records import frame, record

PAPER = paper("drfn2020")
(PLOT,) = PAPER.plots
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
    run = replace(record(model, PLOT.set), parameters=10**6)
    return replace(run, plugins={model: facts | {"sha256": "0"}})


def shown(run: RunRecord) -> set[str]:
    """Where the number of a run stands in its model's row."""
    findings, model = Findings(frame(run), PAPER), run.identity.model
    (table,) = results(findings)
    tidy = table.tidy[table.tidy["model"] == model]
    checked = against_paper(findings, findings)
    found = {
        "results": (tidy["status"] == "measured").any(),
        "plot": any(one.model == model and one.run for one in points(findings, PLOT)),
        "verdicts": any(one.model == model and one.measured for one in findings.cells),
        "check": any(one.model == model and one.run for one in checked),
    }
    return {name for name, holds in found.items() if holds}


@pytest.mark.parametrize("facts", OWN)
def test_the_networks_of_the_harness_speak_for_printed_numbers(facts: dict[str, str]) -> None:
    assert shown(of(facts)) == {"results", "plot", "verdicts", "check"}


@pytest.mark.parametrize("facts", FOREIGN)
def test_other_code_of_their_name_does_not(facts: dict[str, str]) -> None:
    assert shown(of(facts)) == set()
    assert foreign_origin(of(facts)).startswith(next(iter(facts.values())))
    broken = replace(of(facts), status="error", images=(), error="broke")
    assert not is_comparable(broken)
    assert not any(cell.failed for cell in Findings(frame(broken), PAPER).cells)


@pytest.mark.parametrize("model", ["mine", "psnr"])
def test_networks_of_ones_own_have_rows_of_their_own(model: str) -> None:
    assert shown(of({"file": "mine.py"}, model)) == {"results", "plot"}


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
