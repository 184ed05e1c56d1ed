"""Numbers that other public documents print, beside the paper's and the measured ones."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from harness.paper.claims import judge_claim
from harness.paper.findings import Findings
from harness.paper.literature import (
    Log,
    beside_log,
    documents,
    elsewhere,
    logged,
    measured_as,
    printed_numbers,
)
from harness.paper.schema import Claim, paper
from harness.paper.verdicts import JudgedCell
from harness.record import ImageResult, RunRecord
from harness.registry import DATASETS
from harness.report.results import elsewhere_text, explained, literature
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


def test_seven_documents_print_190_cells_of_scores() -> None:
    lines = [line for one in documents() for line in one.lines()]
    assert len(documents()) == 7
    assert sum(len(numbers) for *_, numbers in lines) == 2 * 190
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


SETS = ("set5", "set14", "b100", "urban100")
MSRN_ON_SET5 = {
    "img_001": (33.757883, 0.893583),
    "img_002": (35.177300, 0.946496),
    "img_003": (28.781950, 0.926707),
    "img_004": (33.020601, 0.798569),
    "img_005": (30.581844, 0.914723),
}
"""Measured on the SR images that MSRN's authors published."""


def log(name: str) -> Log:
    (found,) = [one for one in documents() if isinstance(one, Log) and one.authors_of == name]
    return found


def msrn(scores: dict[str, tuple[float, float]] = MSRN_ON_SET5, **identity: object) -> RunRecord:
    """A run of MSRN on Set5."""
    made = record("msrn", "set5", protocol="BI-x4/rgb")
    images = [ImageResult(k, {"psnr": p, "ssim": s}, 0.1) for k, (p, s) in scores.items()]
    return replace(made, images=tuple(images), identity=replace(made.identity, **identity))


class TestLogs:
    def test_the_means_of_msrn_s_log_are_those_that_its_authors_state(self) -> None:
        means = {place: one.means for place, one in log("msrn").sets().items()}
        assert [tuple(means[4, "msrn", name].values()) for name in SETS] == [
            (32.263916, 0.896016),
            (28.632969, 0.783577),
            (27.613838, 0.737989),
            (26.216821, 0.791084),
        ]
        assert [means[4, "msrn+", name]["psnr"] for name in SETS] == [
            *(32.396092, 28.767400, 27.685415, 26.406269)
        ]
        assert len(means) == 8

    def test_it_has_every_image_of_each_set_in_the_set_s_order(self) -> None:
        for source in (log("msrn"), log("rdn")):
            for (*_, name), one in source.sets().items():
                known = [image.name for image in DATASETS.get(name).known]
                assert [image.image for image in one.images] == known

    @pytest.mark.parametrize("name", SETS)
    def test_its_images_are_those_of_the_runs(self, findings: Findings, name: str) -> None:
        """MSRN is up to 2.7 dB better than SRMDNF, where images are 20 dB apart."""
        run = findings.by_cell["srmdnf", name, 4, False][0]
        images = log("msrn").sets()[4, "msrn", name].images
        gains = [
            line.psnr - image.scores["psnr"]
            for line, image in zip(images, run.images, strict=True)
            if line.image == image.image
        ]
        assert len(gains) == len(images) and min(gains) > -0.3 and max(gains) < 2.7

    def test_msrn_s_authors_scored_the_grey_image_of_set14_as_rgb(self, findings: Findings) -> None:
        lines = {line.image: line for line in log("msrn").sets()[4, "msrn", "set14"].images}
        bridge = lines["img_003"]
        assert (bridge.called, round(bridge.psnr, 2)) == ("bridge", 25.38)
        gains = {}
        for run in findings.by_cell["srmdnf", "set14", 4, False]:
            (own,) = [one.scores["psnr"] for one in run.images if one.image == "img_003"]
            gains[run.identity.protocol] = bridge.psnr - own
        assert gains["BI-x4/rgb"] < 0.2 and gains["BI-x4/rgb+full-range"] > 1.2

    def test_a_log_gives_no_verdict_and_no_measurement(self) -> None:
        without_runs = Findings(frame(), paper("drfn2020"))
        for name in SETS:
            one = cell(without_runs, "msrn", name, "psnr")
            assert logged(one)
            assert (one.verdict, one.measured, one.value) == ("not measured", None, None)

    def test_it_is_of_the_network_on_rgb_in_every_paper_that_prints_it(self) -> None:
        cells = Findings(frame(), paper("msrn2018")).cells
        found = {(one.row.table.id, one.row.scale, one.dataset) for one in cells if logged(one)}
        assert found == {("later", 4, name) for name in SETS}

    def test_a_table_that_was_read_from_a_log_does_not_show_it_again(self) -> None:
        cells = Findings(frame(), paper("rdn2018")).cells
        found = {(one.row.table.id, one.row.word, one.dataset) for one in cells if logged(one)}
        assert found == {("copies", "rdn", "set5")}

    def test_another_degradation_has_no_log(self, findings: Findings) -> None:
        one = cell(findings, "msrn", "set5", "psnr")
        blurred = replace(one.row, table=changed(one.row.table, degradation="BD"))
        assert logged(replace(one, row=blurred)) is None

    def test_what_is_said_of_a_measured_number_names_the_log(self) -> None:
        one = cell(Findings(frame(msrn()), paper("drfn2020")), "msrn", "set5", "psnr")
        assert one.value == pytest.approx(32.263916, abs=1e-6)
        assert "32.263916 (MSRN's authors' log)" in explained(one)

    def test_a_run_stands_beside_the_log_and_the_largest_difference_is_named(self) -> None:
        assert "img_002  bird       35.1773  35.1773  0.9465  0.9465" in beside_log(msrn())
        assert beside_log(msrn()).endswith(" +0.0000 dB on img_001 (baby).")
        other = msrn(MSRN_ON_SET5 | {"img_003": (27.5, 0.9)})
        assert beside_log(other).endswith("Largest difference: -1.2819 dB on img_003 (butterfly).")
        ensemble = beside_log(msrn(self_ensemble=True)).splitlines()[3]
        assert ensemble.split()[:4] == ["img_001", "baby", "33.7579", "33.8064"]

    @pytest.mark.parametrize(
        "identity", [{"scale": 2}, {"dataset": "demo"}, {"tile": 48}, {"hyper": {"blocks": 2}}]
    )
    def test_a_run_that_is_not_the_log_s_stands_alone(self, identity: dict[str, object]) -> None:
        assert beside_log(msrn(**identity)) == ""
        assert beside_log(record("vdsr", "set5")) == ""


class TestReport:
    @pytest.fixture
    def table(self, findings: Findings) -> Table:
        (made,) = literature(findings)
        return made

    def test_the_csv_has_every_number_of_every_document(self, table: Table) -> None:
        numbers = table.tidy.drop_duplicates(["model", "dataset", "metric"])
        assert (len(table.tidy), len(numbers)) == (196, 90)
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
        for count in ("90 of the 116 numbers", "82 of them", "50 were", "33 round", "22 to the"):
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
        assert "82 with the same digits, 8 only with other digits" in one.evidence
        assert "knows 2 numbers that the authors of RDN published; 2 of them agree" in one.evidence

    def test_another_number_of_these_authors_refutes_it_in_print(self, findings: Findings) -> None:
        test = {"plugin": "harness.paper.literature:all_from", "options": {"method": "MSRN"}}
        claim = Claim(key="all", where="", quote="", test=test)
        assert judge_claim(claim, claim.parsed(), findings).verdict == "inconsistent in print"


class TestPrintedNumbersOfRuns:
    @pytest.mark.parametrize(
        ("model", "scale", "printed"),
        [
            ("bicubic", 4, ("28.42/0.8104", "drfn2020")),
            ("edsr", 4, ("32.46/0.8968", "drfn2020")),
            ("edsr-baseline", 4, ("32.09/0.8938", "imdn2019")),
            ("srcnn", 2, ("36.66/0.9542", "imdn2019")),
        ],
    )
    def test_they_are_those_of_the_first_paper_that_has_them(self, model, scale, printed) -> None:
        run = record(model, "set5", scale=scale)
        assert printed_numbers([run]) == {run.identity.id: printed}

    def test_none_stand_beside_runs_that_no_paper_made(self) -> None:
        whole = record("edsr", "set5")
        tiles = replace(whole, identity=replace(whole.identity, tile=64))
        runs = [record("mine", "set5"), record("edsr", "demo"), tiles]
        runs += [record("edsr", "set5", hyper={"width": 64})]
        runs += [record("edsr", "set5", self_ensemble=True)]
        assert printed_numbers(runs) == {}
