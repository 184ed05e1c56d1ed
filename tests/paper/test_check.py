import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from msgspec.structs import replace as changed

from harness.paper.check import against_paper
from harness.paper.findings import Findings
from harness.paper.schema import Doubt, Paper, Table, paper
from harness.record import RunRecord
from harness.run.compare import CheckRow
from harness.run.store import ResultStore
from tests.records import frame
from tests.records import record as plain
from tests.run.test_compare import (
    RECORDS,
    REFERENCE,
    measured,
    otherwise,
    record,
    shifted,
    stored,
    verdicts,
)

DRFN = paper("drfn2020")


def compared(
    local: Iterable[RunRecord],
    printed: Paper = DRFN,
    reference: Sequence[RunRecord] = RECORDS,
    grey: str | None = None,
) -> list[CheckRow]:
    findings = Findings(frame(*local), printed, grey)  # type: ignore[arg-type]
    return against_paper(findings, Findings(frame(*reference), printed))


def row(mine: RunRecord, metric: str, **options) -> CheckRow:
    """The row of a run's own number."""
    place = (mine.identity.model, mine.identity.dataset, metric)
    (found,) = (
        one for one in compared([mine], **options) if (one.model, one.dataset, one.metric) == place
    )
    return found


def test_every_printed_number_is_there() -> None:
    rows = compared([])
    assert len(rows) == 2 * 58
    assert set(verdicts(rows)) == {"not run"} and {one.place for one in rows} == {"table2 x4"}


def test_the_authors_weights_agree_with_what_is_printed() -> None:
    for dataset in ("set5", "set14", "b100"):
        for model in ("bicubic", "srcnn", "vdsr"):
            found = row(record(model, dataset), "psnr")
            assert (found.tier, found.tolerance, found.verdict) == ("as printed", 0.02, "ok")
    assert row(shifted(record("vdsr", "set5"), 0.022), "psnr").verdict == "FAIL"


@pytest.mark.parametrize(
    ("psnr", "verdict"), [(30.73, "undecided"), (32.15, "ok"), (33.0, "ok"), (32.13, "undecided")]
)
def test_other_weights_than_the_authors_reach_a_number_or_decide_nothing(psnr, verdict) -> None:
    """The paper prints 32.16 for DRFN on Set5; no weights of its authors are known."""
    mine = plain("drfn", "set5", [psnr] * 5, protocol="BI-x4/rgb", tag="repro")
    found = row(mine, "psnr")
    assert (found.tier, found.verdict, found.violates(require=True)) == (
        "as printed",
        verdict,
        False,
    )
    (cell,) = (
        one
        for one in Findings(frame(mine), DRFN).cells
        if (one.model, one.dataset, one.metric) == ("drfn", "set5", "psnr")
    )
    assert cell.verdict == {"ok": "reproduced"}.get(verdict, verdict)


REASON = "a digit was lost"


def doubting(seen: str) -> Paper:
    """The paper with one doubted number, VDSR's SSIM on B100."""
    return changed(DRFN, doubts=(Doubt(cell="VDSR | b100 | ssim", seen=seen, reason=REASON),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "verdict"),
    # The verdict counts, not the doubt: no committed run gives VDSR's SSIM under other rules.
    [("print", "inconsistent in print"), ("measurement", "undecided"), ("unusual", "undecided")],
)
def test_what_the_reference_measures_instead_is_no_failure(seen, verdict) -> None:
    mine, printed = record("vdsr", "b100"), doubting(seen)
    found = row(mine, "ssim", printed=printed)
    assert found.verdict == verdict and found.reason.endswith(REASON)
    assert not found.violates(require=True)
    assert row(mine, "psnr", printed=printed).known == ""
    agreeing = shifted(mine, ssim=0.0726 - mine.means["ssim"])
    agrees = "ok" if verdict == "undecided" else verdict
    assert row(agreeing, "ssim", printed=printed).verdict == agrees


@pytest.mark.parametrize("off", [0.0006, -0.0006, 0.1])
def test_any_other_number_in_such_a_cell_fails(off) -> None:
    found = row(shifted(record("vdsr", "b100"), ssim=off), "ssim", printed=doubting("print"))
    assert found.verdict == "FAIL"
    assert found.reason == "it is 0.7251 in the reference, measured with the authors' weights"


def of_others(mine: RunRecord) -> RunRecord:
    """The same run with weights that are not the authors'."""
    return otherwise(mine, weights_sha256="0" * 64)


def test_only_the_authors_weights_are_held_against_those_of_the_reference() -> None:
    mine = record("vdsr", "set5")
    off = shifted(mine, psnr=-0.03)
    assert row(off, "psnr").verdict == "FAIL"
    assert row(of_others(off), "psnr").verdict == "undecided"
    for reference in ([], [of_others(mine)], [otherwise(mine, dataset_sha256="0" * 64)]):
        assert row(off, "psnr", reference=reference).verdict == "undecided"


def test_a_misprint_is_known_without_a_reference() -> None:
    for mine in (record("vdsr", "b100"), of_others(record("vdsr", "b100"))):
        assert row(mine, "ssim", reference=[]).verdict == "inconsistent in print"


def under_every_rule(mine: RunRecord, ssim: float = 0) -> list[RunRecord]:
    """A run on B100 with both SSIMs, and one with luma not rounded that has so much more SSIM."""
    runs = mine, otherwise(shifted(mine, ssim=ssim), protocol="BI-x4/y+float-y")
    return [
        measured(run, "ssim-whole", [image.scores["ssim"] for image in run.images]) for run in runs
    ]


def test_what_is_refuted_or_only_looks_odd_fails() -> None:
    tried = under_every_rule(record("vdsr", "b100"))
    (found,) = (
        one
        for one in compared(tried, doubting("unusual"))
        if (one.model, one.dataset, one.metric) == ("vdsr", "b100", "ssim")
    )
    assert found.verdict == "FAIL" and found.reason.startswith("refuted: 4 of 4 rule sets tried")


def test_a_number_of_other_rules_is_no_failure_without_a_doubt() -> None:
    mine = record("vdsr", "b100")
    printed = printing("27.29/0.7300", columns=("b100",))
    tried = under_every_rule(mine, ssim=0.7300 - mine.means["ssim"])
    _, found = compared(tried, printed)
    assert (found.verdict, found.violates(require=True)) == ("reproduced under other rules", False)
    told = "measured with the authors' weights, it holds under luma not rounded"
    assert found.reason.startswith(told)
    assert found.measured == pytest.approx(mine.means["ssim"])
    _, found = compared([mine], printed, reference=[mine])
    assert (found.verdict, found.violates(require=True)) == ("undecided", False)
    assert found.reason == (
        "1 of 4 rule sets tried; not tried: luma not rounded and SSIM of the whole image"
    )
    _, found = compared([shifted(mine, ssim=0.001)], printed, reference=[mine])
    assert found.verdict == "FAIL"


@pytest.mark.parametrize("name", ["drfn2020", "imdn2019"])
def test_the_check_of_each_paper_says_what_its_verdicts_say(name: str) -> None:
    records = ResultStore(REFERENCE).records()
    cells = {
        (one.row.table.id, one.model, one.dataset, one.metric): one
        for one in Findings(frame(*records), paper(name)).cells
    }
    said = {"ok": "reproduced", "FAIL": "refuted"}
    rows = [one for one in compared(records, paper(name), records) if one.measured is not None]
    assert len(rows) > 40
    for one in rows:
        table = one.place.partition(" ")[0]
        standing = cells[table, one.model, one.dataset, one.metric].standing
        assert standing == said.get(one.verdict, one.verdict), one


def test_the_committed_records_miss_no_printed_number() -> None:
    """Weights trained here decide nothing, and those of others have what is doubted."""
    records = ResultStore(REFERENCE).records()
    rows = compared(records, reference=records)
    assert len(rows) == 2 * 58
    known = {
        (one.model, one.dataset, one.metric): one.verdict
        for one in rows
        if one.verdict not in ("ok", "not run")
    }
    measurements = {
        (DRFN.methods[method], dataset, metric): "reproduced under other rules"
        for (_, _, method, dataset, metric), doubt in DRFN.doubted.items()
        if doubt.seen == "measurement"
    }
    misprints = {("vdsr", "b100", "ssim"): "inconsistent in print"}
    trained = {
        ("drfn", dataset, metric): "undecided"
        for dataset in ("set5", "set14", "b100", "urban100")
        for metric in ("psnr", "ssim")
    }
    assert known == measurements | misprints | trained | {
        ("vdsr", "urban100", "ssim"): "undecided",
        ("msrn", "set5", "psnr"): "undecided",
        ("msrn", "set5", "ssim"): "undecided",
    }


def printing(numbers: str, **table: object) -> Paper:
    """A paper with VDSR's numbers on one set alone, by default Set5."""
    table = {"columns": ("set5",)} | table
    only = Table(id="t", title="Table", cells=f"x4 | VDSR | {numbers}", **table)  # type: ignore[arg-type]
    return changed(DRFN, tables=(only,), plots=(), doubts=(), claims=())


def test_a_mean_that_leaves_an_infinite_image_out_is_not_what_is_printed() -> None:
    mine = record("vdsr", "set5")
    first, *others = mine.images
    infinite = replace(first, scores=first.scores | {"psnr": float("inf")})
    mine = replace(mine, images=(infinite, *others))
    numbers = f"{mine.means['psnr']:.4f}/{mine.means['ssim']:.4f}"
    printed = printing(numbers, scores={"psnr": 4, "ssim": 4})
    psnr, ssim = compared([mine], printed)
    assert psnr.difference == pytest.approx(0, abs=1e-4)
    assert (psnr.verdict, psnr.image, psnr.apart) == ("undecided", first.image, float("inf"))
    assert ssim.verdict == "ok"
    psnr, _ = compared([of_others(mine)], printed)
    assert (psnr.verdict, psnr.image) == ("undecided", first.image)


@pytest.mark.parametrize(
    "table", [{"degradation": "BD"}, {"border": 0}, {"scores": {"psnr": 2, "lpips": 4}}]
)
def test_a_number_that_cannot_be_measured_here_never_fails(table) -> None:
    """A run of the same set and scale is not held against it."""
    *_, last = compared([record("vdsr", "set5")], printing("31.35/0.8838", **table))
    assert (last.verdict, last.impossible) == ("not run", True)
    assert last.reason.startswith("the harness ")
    assert not last.violates(require=True)


def test_a_metric_that_the_run_lacks_is_not_run() -> None:
    printed = printing("31.35/0.8780", scores={"psnr": 2, "ssim-whole": 4})
    _, lacking = compared([record("vdsr", "set5")], printed)
    assert (lacking.verdict, lacking.measured) == ("not run", None)
    assert lacking.reason == "run it again with --metric ssim-whole"
    assert (lacking.violates(require=False), lacking.violates(require=True)) == (False, True)


def test_a_broken_run_fails_with_its_reason_where_none_is_finished() -> None:
    mine = record("vdsr", "set5")
    broken = replace(mine, status="error", images=(), error="no memory")
    found = row(broken, "psnr")
    assert (found.verdict, found.reason) == ("FAIL", "the run failed: no memory")
    both = compared([broken, mine], printing("31.35/0.8838"))
    assert verdicts(both) == ["ok", "ok"]


def test_a_set_without_grey_images_counts_under_either_grey_rule() -> None:
    rows = compared([record("vdsr", name) for name in ("set5", "set14")], grey="as-rgb")
    found = {
        one.dataset: one.verdict for one in rows if (one.model, one.metric) == ("vdsr", "psnr")
    }
    assert (found["set5"], found["set14"]) == ("ok", "not run")


def test_a_number_that_ran_under_other_rules_alone_has_its_verdict() -> None:
    """FSRCNN's authors' weights give its SSIM on Set14 if the grey image is scored as RGB."""
    place = ("fsrcnn", "set14", "BI-x4/y+as-rgb")
    (mine,) = (
        one
        for one in ResultStore(REFERENCE).records()
        if (one.identity.model, one.identity.dataset, one.identity.protocol) == place
    )
    psnr, ssim = row(mine, "psnr"), row(mine, "ssim")
    assert (psnr.verdict, psnr.violates(require=True)) == ("undecided", False)
    assert (ssim.verdict, ssim.measured) == ("ok", pytest.approx(0.75515, abs=1e-5))
    assert "it holds under grey images as-rgb" in ssim.reason
    assert row(mine, "ssim", grey="full-range").verdict == "not run"


def test_a_number_that_holds_says_with_whose_weights() -> None:
    mine = otherwise(record("bicubic", "set14"), protocol="BI-x4/y+as-rgb")
    printed = changed(printing("-"), tables=(BICUBIC,))
    _, found = compared([shifted(mine, ssim=0.7027 - mine.means["ssim"])], printed)
    assert found.reason.startswith("measured without weights, it holds under grey images as-rgb")


BICUBIC = Table(id="t", title="T", columns=("set14",), cells="x4 | Bicubic | 26.00/0.7027")


def test_of_several_runs_of_a_number_the_authors_weights_count() -> None:
    mine = record("vdsr", "set5")
    rows = compared([of_others(shifted(mine, psnr=-9)), mine], printing("31.35/0.8838"))
    assert [one.record for one in rows] == [mine.identity.id[:12]] * 2
    assert verdicts(rows) == ["ok", "ok"]


@pytest.mark.parametrize("other", [{"self_ensemble": True}, {"tile": 8}, {"hyper": {"a": 1}}])
def test_unusual_runs_do_not_count(other) -> None:
    mine = otherwise(record("vdsr", "set14"), **other)
    assert row(mine, "psnr").verdict == "not run"


def test_other_weights_that_ran_under_another_grey_rule_alone_fail_nothing() -> None:
    mine = otherwise(of_others(record("vdsr", "set14")), protocol="BI-x4/y+as-rgb")
    found = row(shifted(mine, psnr=-1), "psnr", grey="as-rgb")
    assert found.measured is not None and found.verdict == "undecided"


def test_the_other_grey_rule_is_held_against_it_on_request() -> None:
    mine = otherwise(record("vdsr", "set14"), protocol="BI-x4/y+as-rgb")
    assert row(mine, "psnr", grey="as-rgb").verdict == "ok"


class TestTheCommand:
    @pytest.fixture
    def check(self, harness) -> Callable[..., Result]:
        stored(RECORDS)

        def check(*words: object) -> object:
            return harness("check", "--against", "paper", "--results", "mine", *words)

        return check

    def test_the_paper_is_held_against_with_its_misprints(self, check) -> None:
        shown = check("--models", "bicubic,srcnn,vdsr", "--datasets", "set5,b100")
        assert shown.exit_code == 0, shown.output
        counts = "Of 12 numbers of the paper, 11 are ok, 0 FAIL, 1 is inconsistent in print."
        assert counts in shown.output

    def test_it_has_the_verdicts_of_the_claims_under_any_option(self, check) -> None:
        """One tolerance would be a second verdict on the same number."""
        strict = check("--models", "vdsr", "--datasets", "set5", "--tolerance", "0.0001")
        assert strict.exit_code == 2
        assert "--tolerance is for --against reference" in strict.stderr

    def test_sets_that_nobody_ran_are_no_failure_if_others_were(self, check) -> None:
        words = ("--models", "bicubic", "--datasets")
        assert check(*words, "set*,manga*,b100").exit_code == 3, "nothing of Manga109"
        assert check(*words, "*").exit_code == 0
        assert check(*words, "manga109").exit_code == 3

    def test_another_paper_is_held_against(self, check) -> None:
        Path("mine.toml").write_text(MINE)
        shown = check("--paper", "mine.toml", "--json")
        assert shown.exit_code == 0, shown.output
        rows = {(one["place"], one["metric"]): one for one in json.loads(shown.stdout)}
        assert {place: one["verdict"] for place, one in rows.items()} == {
            ("good x4", "psnr"): "ok",
            ("good x2", "psnr"): "not run",
            ("blurred x4", "psnr"): "not run",
            ("wrong x4", "psnr"): "undecided",
        }
        assert "not by BD" in rows["blurred x4", "psnr"]["reason"]
        shown = check("--paper", "mine.toml", "--junit", "j.xml", "--require")
        assert "2 were not run, 1 of them because they cannot be." in shown.stdout
        suite = ElementTree.parse("j.xml").getroot()
        assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")
        both = ResultStore(Path("mine"))
        both.write(otherwise(record("vdsr", "set5"), protocol="BI-x4/y+float-y"))
        shown = check("--paper", "mine.toml", "--datasets", "set5")
        assert shown.exit_code == 3 and "refuted: 2 of 2 rule sets tried" in shown.output

    def test_no_paper_is_no_pass(self, check) -> None:
        shown = check("--paper", "none")
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert "harness check --against paper needs a paper" in shown.stderr


MINE = """
[paper]
id = "mine"
title = "Mine"
subject = "VDSR"

[methods]
VDSR = "vdsr"
""" + "".join(
    f"""
[[table]]
id = "{name}"
title = "{name}"
degradation = "{degradation}"
columns = ["set5"]
scores = {{ psnr = 2 }}
cells = '''{cells}'''
"""
    for name, degradation, cells in (
        ("good", "BI", "x4 | VDSR | 31.35\nx2 | VDSR | 37.53"),
        ("blurred", "BD", "x4 | VDSR | 31.35"),
        ("wrong", "BI", "x4 | VDSR | 31.53"),
    )
)
