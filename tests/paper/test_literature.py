"""Numbers that other public documents print, beside the paper's and the measured ones."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from harness.paper.claims import judge_claim
from harness.paper.findings import Findings
from harness.paper.literature import documents, elsewhere, measured_as
from harness.paper.schema import Claim, paper
from harness.paper.verdicts import JudgedCell
from harness.report.results import elsewhere_text, literature
from harness.report.table import Table
from harness.run.store import ResultStore
from tests.records import frame, record

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture(scope="module")
def findings() -> Findings:
    return Findings(ResultStore(REFERENCE).read().table(), paper("drfn2020"))


def cell(findings: Findings, model: str, dataset: str, metric: str) -> JudgedCell:
    place = (model, dataset, metric)
    return next(one for one in findings.cells if (one.model, one.dataset, one.metric) == place)


def reached(one: JudgedCell) -> dict[str, bool]:
    """The values that other documents print, and whether a measurement rounds to each."""
    return {other.text: other.reached is not None for other in elsewhere(one)}


def test_seven_documents_print_182_cells_of_scores() -> None:
    lines = [line for one in documents() for line in one.lines()]
    assert len(documents()) == 7
    assert sum(len(numbers) for *_, numbers in lines) == 2 * 182
    assert {one.authors_of for one in documents()} == {"", "msrn", "rdn"}


def test_fsrcnn_s_ssim_on_b100_is_printed_elsewhere_as_it_is_measured(findings: Findings) -> None:
    one = cell(findings, "fsrcnn", "b100", "ssim")
    assert one.printed == 0.7150
    assert reached(one) == {"0.7150": False, "0.7128": True}


def test_lapsrn_s_psnr_on_set14_is_printed_elsewhere_as_it_is_measured(findings: Findings) -> None:
    """The paper's number needs other rules than those of its table, this one does not."""
    one = cell(findings, "lapsrn", "set14", "psnr")
    assert one.printed == 28.19
    assert {other.text: other.reached.rules for other in elsewhere(one) if other.reached} == {
        "28.09": (),
        "28.19": ("grey images as-rgb", "luma not rounded"),
    }


def test_vdsr_s_lost_digit_is_not_lost_elsewhere(findings: Findings) -> None:
    one = cell(findings, "vdsr", "b100", "ssim")
    assert (one.printed, reached(one)) == (0.0726, {"0.7251": True})


def test_msrn_s_ssim_on_set14_differs_from_that_of_its_authors(findings: Findings) -> None:
    one = cell(findings, "msrn", "set14", "ssim")
    found = elsewhere(one)
    assert one.printed == 0.7750
    assert [e.text for e in found if e.source.authors_of == "msrn"] == [
        *("0.7751", "0.7836", "0.783577")
    ]
    assert not any(e.same for e in found)


def test_a_log_with_six_decimals_agrees_with_print_to_two(findings: Findings) -> None:
    log, *_ = elsewhere(cell(findings, "rdn", "set5", "psnr"))
    assert (log.text, log.same) == ("32.468907", True)


def test_self_ensemble_is_a_row_of_its_own() -> None:
    one = cell(Findings(frame(), paper("rdn2018")), "rdn+", "set5", "psnr")
    table = changed(one.row.table, read_from=())
    (log,) = elsewhere(replace(one, row=replace(one.row, table=table)))
    assert log.text == "32.610253"


def test_what_nobody_else_prints_has_no_sentence(findings: Findings) -> None:
    assert elsewhere_text(cell(findings, "drfn", "set14", "psnr")) == ""
    text = elsewhere_text(cell(findings, "lapsrn", "set14", "psnr"))
    assert "28.09 (SRTransGAN)" in text and "round to 28.19 (grey" in text and "and 28.09." in text


def test_weights_trained_here_do_not_count_as_measured(findings: Findings) -> None:
    copied = Findings(findings.runs, paper("imdn2019"))
    place = ("edsr-baseline", 4, "set5")
    one = next(c for c in copied.cells if (c.model, c.row.scale, c.dataset) == place)
    assert one.options
    assert measured_as(one, one.options[0].value, one.score) is None


def test_a_mean_that_leaves_an_infinite_image_out_rounds_to_nothing() -> None:
    for first, rounds in ((28.09, True), (math.inf, False)):
        run = record("lapsrn", psnr=(first, 28.09))
        one = cell(Findings(frame(run), paper("drfn2020")), "lapsrn", "set14", "psnr")
        assert one.value == pytest.approx(28.09)
        assert reached(one) == {"28.09": rounds, "28.19": False}


def test_scores_of_another_degradation_are_not_compared(findings: Findings) -> None:
    one = cell(findings, "vdsr", "set5", "psnr")
    assert elsewhere(one)
    blurred = replace(one.row, table=changed(one.row.table, degradation="BD"))
    assert elsewhere(replace(one, row=blurred)) == []


def test_documents_that_a_table_was_read_from_are_not_other_documents() -> None:
    found = Findings(frame(), paper("imdn2019"))
    sources = {e.source.name for one in found.cells for e in elsewhere(one)}
    assert sources == {"Holistic review", "SCAttNet"}


class TestReport:
    @pytest.fixture
    def table(self, findings: Findings) -> Table:
        (made,) = literature(findings)
        return made

    def test_the_csv_has_every_number_of_every_document(self, table: Table) -> None:
        numbers = table.tidy.drop_duplicates(["model", "dataset", "metric"])
        assert (len(table.tidy), len(numbers)) == (190, 90)
        assert set(numbers["model"]) == {
            *("bicubic", "srcnn", "fsrcnn", "vdsr", "lapsrn", "memnet"),
            *("edsr", "srmdnf", "rdn", "msrn"),
        }

    def test_the_table_shows_what_is_printed_and_measured(self, table: Table) -> None:
        shown = {tuple(row[:5]): row[5:] for row in table.rows}
        assert shown["FSRCNN", "x4", "B100", "SSIM", "0.7150"] == [
            *("0.7150 (SRTransGAN); 0.7128 (Holistic review)", "0.7128", "0.7128")
        ]
        assert shown["SRCNN", "x4", "Set5", "PSNR", "30.48"][1:] == ["30.489", ""]
        assert shown["MemNet", "x4", "Set14", "PSNR", "28.26"][1:] == ["", ""]
        for count in ("90 of the 116 numbers", "82 of them", "48 were", "31 round", "20 to the"):
            assert count in table.caption

    def test_it_can_be_written_in_every_format(self, table: Table) -> None:
        assert all(table.render(form) for form in table.formats)

    def test_there_is_one_for_each_table_and_none_without_a_paper(self, findings: Findings) -> None:
        several = literature(Findings(findings.runs, paper("msrn2018")))
        assert [one.name for one in several] == ["literature-authors", "literature-later"]
        assert literature(Findings(findings.runs, None)) == []


class TestAllFromOneSource:
    """The claim that all numbers of other methods are those of one paper."""

    def test_secondary_sources_do_not_decide_it(self, findings: Findings) -> None:
        one = next(one for one in findings.claims if one.claim == "other-results")
        assert one.verdict == "not measured"
        assert "82 in the same digits, 8 in others only" in one.evidence
        assert "2 numbers are known here, and 2 of them agree" in one.evidence

    def test_another_number_of_these_authors_refutes_it_in_print(self, findings: Findings) -> None:
        test = {"plugin": "harness.paper.literature:all_from", "options": {"method": "MSRN"}}
        claim = Claim(key="all", where="", quote="", test=test)
        assert judge_claim(claim, claim.parsed(), findings).verdict == "inconsistent in print"
