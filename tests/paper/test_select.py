"""Only the code that has a printed network's name speaks for its numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness import baselines
from harness.data.pinned import pinned_rows
from harness.paper.check import against_paper
from harness.paper.findings import Findings
from harness.paper.literature import official
from harness.paper.schema import paper
from harness.paper.select import WHOLE, follows, is_comparable, rank
from harness.paper.verdicts import JudgedCell
from harness.protocol.rules import Preset
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
WEIGHTS = Path(baselines.__file__).parent / "weights"
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


# SR images of Set5 x4 whose authors are known: see harness/data/pins/published.csv.
PINNED = {
    row["model"]: row["sr_sha256"]
    for row in pinned_rows("published")
    if row["self_ensemble"] == "no"
}


def images(model: str, sr_sha256: str, psnr: float, ssim: float = 0.5) -> RunRecord:
    """A run of published images of Set5, whose images all have the same scores."""
    run = record(model, "set5", [psnr] * 5, ssim=ssim, protocol="BI-x4/rgb", weights=None)
    identity = replace(run.identity, source_sha256="", inference=0, sr_sha256=sr_sha256)
    return replace(run, identity=identity)


def judged(*runs: RunRecord, of: str = "drfn2020", metric: str = "psnr") -> JudgedCell:
    """The printed number of the runs' network on Set5."""
    model = runs[0].identity.model
    cells = Findings(frame(*runs), paper(of)).cells
    place = (model, "set5", 4, metric)
    (cell,) = (c for c in cells if (c.model, c.dataset, c.row.scale, c.metric) == place)
    return cell


class TestPublishedImages:
    """RDN's Set5 is printed as 32.47 dB, MSRN's as 32.07 dB by DRFN's authors."""

    def test_those_of_the_papers_network_decide_as_the_authors_weights_do(self) -> None:
        for psnr, verdict in [(32.469, "reproduced"), (32.4, "refuted"), (32.6, "refuted")]:
            assert judged(images("rdn", PINNED["rdn"], psnr)).verdict == verdict

    def test_ssim_has_another_rule_in_use_to_be_tried(self) -> None:
        cell = judged(images("rdn", PINNED["rdn"], 32.469, 0.8), metric="ssim")
        told = f"1 of 2 rule sets tried; not tried: {WHOLE}"
        assert (cell.verdict, cell.unsettled) == ("undecided", [told])

    def test_those_of_unknown_origin_may_reach_a_number_and_refute_none(self) -> None:
        for psnr, verdict in [(32.469, "reproduced"), (32.4, "undecided"), (32.6, "reproduced")]:
            assert judged(images("rdn", "0" * 64, psnr)).verdict == verdict

    def test_a_folder_that_has_another_methods_images_is_of_unknown_origin(self) -> None:
        assert judged(images("edsr", PINNED["rdn"], 32.0)).verdict == "undecided"

    @pytest.mark.parametrize("psnr", [32.0, 32.07, 32.264])
    def test_those_of_another_network_decide_nothing(self, psnr: float) -> None:
        cell = judged(images("msrn", PINNED["msrn"], psnr))
        assert (cell.verdict, cell.value) == ("undecided", psnr)
        (row,) = (r for r in results(Findings(frame(*cell.runs), PAPER))[0].rows if r[0] == "MSRN")
        assert row[4][1] == f"{psnr:.3f}/0.5000‡"

    def test_they_decide_on_the_numbers_that_were_published_with_them(self) -> None:
        cell = judged(images("msrn", PINNED["msrn"], 32.264), of="msrn2018")
        assert cell.verdict == "reproduced"

    @pytest.mark.parametrize("psnr", [32.0, 32.07])
    def test_weights_of_another_network_decide_nothing_either(self, psnr: float) -> None:
        run = record("msrn", "set5", [psnr] * 5, protocol="BI-x4/rgb", weights="m")
        assert run.weights is not None
        run = replace(run, weights=replace(run.weights, file="MSRN_x4.pt"))
        findings = Findings(frame(run), PAPER)
        assert judged(run).verdict == "undecided" and official(judged(run)) == []
        (row,) = [one for one in against_paper(findings, findings) if one.measured == psnr]
        said = "the weights are those of a later network of the same authors, on RGB"
        assert (row.verdict, row.reason.startswith(said)) == ("undecided", True)
        rdn = images("rdn", PINNED["rdn"], 32.469)
        pairs = Findings(frame(run, rdn), PAPER).differences(PAPER.tables[0])
        assert not any(pair.interval for pair in pairs)

    def test_the_border_of_lr_images_is_that_of_their_authors(self) -> None:
        run = images("rdn", PINNED["rdn"], 32.469)
        assert [follows(run, Preset(border=b)) for b in ("replicate", "symmetric")] == [True, True]

    def test_the_authors_weights_come_first_then_their_images_then_others(self) -> None:
        theirs, unknown = images("rdn", PINNED["rdn"], 32.0), images("rdn", "0" * 64, 33.0)
        shipped = json.loads((WEIGHTS / "drfn-x4.repro.json").read_text())["tensors_sha256"]
        official, other = (record("drfn", "set5", tag=tag) for tag in ("official", "repro"))
        here = record("drfn", "set5", tag="file", weights=shipped)
        order = [official, theirs, here, other, unknown]
        assert rank(reversed(order)) == order

    def test_the_check_against_the_paper_excuses_only_another_network(self) -> None:
        for model, psnr, verdict in [("rdn", 32.3, "FAIL"), ("msrn", 32.264, "undecided")]:
            findings = Findings(frame(images(model, PINNED[model], psnr)), PAPER)
            nothing = Findings(frame(), PAPER)
            rows = [one for one in against_paper(findings, nothing) if one.measured == psnr]
            assert [one.verdict for one in rows] == [verdict]
