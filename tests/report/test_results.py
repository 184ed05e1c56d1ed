"""The reports on printed tables and their runs: results and rules."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_fields

from harness import baselines
from harness.errors import HarnessError
from harness.paper.findings import Findings
from harness.paper.schema import Paper, paper, read_paper
from harness.record import RunRecord
from harness.registry import MODELS, REPORTS, register_model
from harness.report.claims import claims
from harness.report.legend import grey_note
from harness.report.results import differences, elsewhere_text, explained, results, rules
from harness.report.table import Table
from tests.records import frame, record, with_metric

WEIGHTS = Path(baselines.__file__).parent / "weights"
SETS = ["set5", "set14", "b100", "urban100", "manga109"]
DRFN = "drfn2020"
LINES = ("printed", "measured", "difference")


def found(*records: RunRecord, of: Paper | None = None, grey: str | None = None) -> Findings:
    return Findings(frame(*records), of or paper(DRFN), grey)


def made(*records: RunRecord, grey: str | None = None) -> Table:
    (table,) = results(found(*records, grey=grey))
    return table


def cell(table: Table, model: str, dataset: str, metric: str = "psnr") -> dict[str, object]:
    tidy = table.tidy
    (row,) = tidy[
        (tidy.model == model) & (tidy.dataset == dataset) & (tidy.metric == metric)
    ].to_dict("records")
    return row


def lines(table: Table, method: str) -> list[list[str]]:
    """The three lines of a method."""
    at = [line[0] for line in table.lines].index(method)
    return [list(line) for line in table.lines[at : at + 3]]


def at(time: str, run: RunRecord) -> RunRecord:
    return replace(run, provenance={"utc": time})


def test_every_row_and_column_of_the_paper_is_there() -> None:
    table = made(record("srcnn"))
    assert (table.name, list(table.headers)) == (
        "table2",
        ["Method", "Scale", "Pipeline", "", "Set5", "Set14", "B100", "Urban100", "Manga109"],
    )
    assert [row[0] for row in table.rows] == [
        *("Bicubic", "SRCNN", "FSRCNN", "VDSR", "LapSRN", "MemNet"),
        *("EDSR", "SRMDNF", "RDN", "DCSR", "MSRN", "DRFN"),
    ]
    dashes = {row[0]: [cell[0] for cell in row[4:]].count("-/-") for row in table.rows}
    assert {name for name, count in dashes.items() if count} == {"EDSR", "DCSR"}
    # The typographical error stays.
    assert lines(table, "VDSR")[0][6] == "27.29 ○/0.0726 ≠"


def test_a_measured_cell_stands_between_what_is_printed_and_the_difference() -> None:
    table = made(record("srcnn", "set5", [30.4888], ssim=0.86281))
    printed, measured, difference = lines(table, "SRCNN")
    assert printed[:5] == ["SRCNN", "x4", "y", "printed", "30.48 ✓/0.8628 ✓"]
    assert measured[3:6] == ["measured", "30.489/0.8628", "missing"]
    assert difference[3:6] == ["difference", "+0.009/+0.0000", ""]
    assert cell(table, "srcnn", "set5")["difference"] == pytest.approx(0.0088)


def test_missing_cells_are_shown_as_missing() -> None:
    table = made(record("srcnn", "set5"))
    assert sum(line.count("missing") for line in table.lines) == 12 * 5 - 1
    assert cell(table, "drfn", "set5")["run"] == "missing"
    assert "1 of 58 printed cells are measured" in table.caption


def test_a_run_that_broke_is_shown_as_failed_where_none_is_finished() -> None:
    broken = replace(record("vdsr", "set5"), status="error", images=(), error="no memory")
    table = made(broken, record("srcnn", "set5"))
    assert lines(table, "VDSR")[1][4:6] == ["failed", "missing"]
    assert lines(table, "VDSR")[1][4].run == broken.identity.id
    assert cell(table, "vdsr", "set5")["status"] == "failed"
    assert cell(table, "vdsr", "set5")["run"] == broken.identity.id
    assert "1 of 58 printed cells are measured." in table.caption
    done = made(broken, record("vdsr", "set5", weights="others"))
    assert cell(done, "vdsr", "set5")["status"] == "measured"


def test_an_authors_log_has_a_line_of_its_own_and_is_no_measurement() -> None:
    table = made(record("srcnn"))
    start = [line[0] for line in table.lines].index("MSRN")
    _, measured, difference, log = (line[3:] for line in table.lines[start : start + 4])
    assert measured == ("measured", *["missing"] * 5) and difference == ("difference", *[""] * 5)
    assert log == (
        "authors' log",
        *("32.264/0.8960 log", "28.633/0.7836 log", "27.614/0.7380 log", "26.217/0.7911 log", ""),
    )
    assert "baby 33.758/0.8936, bird 35.177/0.9465" in log[1].more
    assert "1 of 58 printed cells are measured" in table.caption
    assert "Log: the mean of what the authors published" in table.caption
    assert "trained on DIV2K 1 to 895" in table.render("md") and log[1].more.endswith(" 1 to 895.")
    assert "authors' log" not in [line[3] for line in table.lines[:start] if line[0] == "EDSR"]


def test_the_csv_has_the_mean_of_a_log_and_its_source() -> None:
    table = made(record("srcnn"))
    facts = cell(table, "msrn", "b100")
    assert (facts["log"], facts["status"]) == (27.613838, "missing")
    assert "MIVRC/MSRN-PyTorch at 7873388" in str(facts["log_of"])
    assert set(table.tidy[table.tidy.log_of != ""].model) == {"msrn", "rdn"}


def test_every_printed_number_has_the_mark_of_its_verdict_and_the_caption_counts_them() -> None:
    table = made(record("vdsr", psnr=(28.0, 28.04), ssim=0.75))
    printed = lines(table, "VDSR")[0]
    assert printed[4:7] == ["31.35 ○/0.8830 ○", "28.02 ✓/0.7680 ?", "27.29 ○/0.0726 ≠"]
    assert "✓ reproduced (1), ≈ reproduced under other rules (0)" in table.caption
    verdicts = table.tidy["verdict"].value_counts()
    assert sum(verdicts) - verdicts[""] == 116 and verdicts["undecided"] == 1


def test_a_number_that_only_other_rules_give_has_a_mark_of_its_own_and_names_them() -> None:
    table = made(
        record("lapsrn", psnr=(28.085, 28.085), ssim=0.7721),
        record("lapsrn", psnr=(28.181, 28.181), ssim=0.75, protocol="BI-x4/y+as-rgb"),
    )
    printed, measured, _ = lines(table, "LapSRN")
    assert (printed[5], measured[5]) == ("28.19 ≈/0.7720 ✓", "28.085/0.7721")
    assert printed[5].more.startswith("PSNR: Measured under grey images as-rgb: 28.181.")


def test_a_doubted_number_has_its_reason_and_one_that_others_print_says_where() -> None:
    findings = found(record("srcnn"))
    cells = [cell for cell in findings.cells if cell.doubt or elsewhere_text(cell)]
    assert 50 < len(cells) < len(findings.cells)
    for one in cells:
        assert one.doubt is None or one.doubt.reason in explained(one)
        assert elsewhere_text(one) in explained(one)
    facts = made(record("srcnn"))
    assert str(cell(facts, "edsr", "set5", "ssim")["remark"]).startswith("0.0022 below RDN")


def test_runs_that_all_broke_are_no_table() -> None:
    broken = replace(record("vdsr", "set5"), status="error", images=())
    with pytest.raises(HarnessError, match="no finished runs"):
        results(found(broken))
    with pytest.raises(HarnessError, match="no finished runs"):
        results(Findings(frame(), None))


def test_other_weights_than_the_authors_are_marked_and_their_training_is_told() -> None:
    notes = json.loads((WEIGHTS / "drfn-x4.repro.json").read_text())
    own = record("drfn", "set5", tag="repro", weights=notes["tensors_sha256"])
    table = made(own, record("srcnn", "set5"))
    measured = [row[4][1] for row in table.rows]
    assert [text.endswith("†") for text in measured if text != "missing"] == [False, True]
    for words in (
        "2 of 58 printed cells are measured, 1 of them with other weights than the authors' (†).",
        f"cannot refute one: DRFN with {notes['steps']:,} steps of 8 patches",
    ):
        assert words in table.caption
    assert str(cell(table, "drfn", "set5")["training"]).startswith(f"{notes['steps']:,} steps")
    assert cell(table, "srcnn", "set5")["training"] == ""
    assert "†" not in made(record("srcnn", "set5")).caption


def test_a_network_the_paper_does_not_know_gets_a_row() -> None:
    table = made(record("mine", "set5", [31.5], protocol="BI-x4/rgb"))
    printed, measured, _ = lines(table, "mine")
    assert printed == ["mine", "x4", "rgb", "printed", *["-/-"] * 5]
    assert measured[:5] == ["", "", "", "measured", "31.500/0.8000"]


def test_the_caption_names_pipelines_grey_rule_and_what_is_unverified() -> None:
    caption = made(replace(record("srcnn", "set5"), verified=False)).caption
    for words in (
        "Pipeline y",
        "pipeline rgb",
        "Grey images: full-range in pipeline y",
        "but full-range for SRMDNF on Set14",
        "published pixels: set5",
    ):
        assert words in caption


def test_a_stand_in_does_not_fill_the_row_of_the_larger_network() -> None:
    table = made(record("edsr-baseline", "set5", protocol="BI-x4/rgb"))
    assert cell(table, "edsr", "set5")["run"] == "missing"
    assert cell(table, "edsr-baseline", "set5")["status"] == "measured"


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "BI-x4/y+symmetric"},
        {"protocol": "BI-x4/y+float-y"},
        {"self_ensemble": True},
        {"tile": 64},
        {"hyper": {"width": 32}},
        {"protocol": "BI-x2/y", "scale": 2},
    ],
)
def test_runs_under_other_rules_do_not_fill_a_cell(other: dict[str, object]) -> None:
    run = record("srcnn", "set5", [99.0])
    strange = at("2026-02-01", replace(run, identity=replace(run.identity, **other)))
    table = made(record("srcnn", "set5", [30.0]), strange)
    assert cell(table, "srcnn", "set5")["measured"] == 30.0
    assert cell(made(strange), "srcnn", "set5")["measured"] != 99.0


def test_the_other_grey_rule_is_a_table_of_its_own() -> None:
    runs = [record("srcnn", psnr=[27.5]), record("srcnn", psnr=[27.6], protocol="BI-x4/y+as-rgb")]
    assert cell(made(*runs), "srcnn", "set14")["measured"] == 27.5
    table = made(*runs, grey="as-rgb")
    assert cell(table, "srcnn", "set14")["measured"] == 27.6
    assert "Grey images: as-rgb." in table.caption


def test_official_weights_come_first_then_the_latest_run() -> None:
    runs = [
        at("2026-01-01", record("drfn", "set5", [2.0], tag="repro", weights="b")),
        at("2026-02-01", record("drfn", "set5", [3.0], tag="file", weights="c")),
    ]
    assert cell(made(*runs), "drfn", "set5")["measured"] == 3.0
    official = at("2025-01-01", record("drfn", "set5", [4.0]))
    assert cell(made(*runs, official), "drfn", "set5")["measured"] == 4.0


def test_a_network_of_ones_own_has_no_dagger() -> None:
    """The dagger is for networks of a paper with other weights than their authors'."""
    register_model("mine", pipeline="rgb", input="lr", scales=(4,))(MODELS.get("drfn").build)
    own, theirs = (record(name, "set5", [30.0], tag="file") for name in ("mine", "drfn"))
    table = made(own, theirs)
    marks = {}
    for name in ("mine", "DRFN"):
        (line,) = (line for line in lines(table, name) if line[3] == "measured")
        marks[name] = line[4].removeprefix("30.000/0.8000")
    assert marks == {"mine": "", "DRFN": "†"}
    assert "DRFN with a training" in table.caption and "mine with" not in table.caption


def test_other_weights_are_marked_without_the_plug_in_of_their_network() -> None:
    """IMDN of the paper imdn2019 is a plug-in, docs/imdn.py."""
    assert "imdn" not in MODELS
    imdn = record("imdn", "set5", [30.0], tag="file", protocol="BI-x4/rgb+symmetric")
    own = record("mine", "set5", [30.0], tag="file")
    (table,) = results(Findings(frame(imdn, own), paper("imdn2019")))
    measured = {line[0]: line[4][1] for line in table.rows if line[1] == "x4" and line[4][1:]}
    assert (measured["IMDN"], measured["mine"]) == ("30.000/0.8000†", "30.000/0.8000")
    assert "IMDN with a training of which nothing is known" in table.caption


def test_of_two_trainings_the_note_says_which_row_has_which() -> None:
    long = json.loads((WEIGHTS / "drfn-x4.repro.json").read_text())["tensors_sha256"]
    runs = [
        record("drfn", "set5", [30.0], tag="repro", weights=long),
        record("drfn", "set14", [27.0], tag="other", weights="f" * 64),
    ]
    caption = made(*runs).caption
    assert "DRFN with 3,902 steps" in caption
    assert "DRFN:other with a training of which nothing is known" in caption
    assert "DRFN with a training" not in caption


def test_of_weights_trained_here_those_that_saw_most_count() -> None:
    notes = json.loads((WEIGHTS / "drfn-x4.repro.json").read_text())
    long = record("drfn", "set5", [1.0], tag="repro", weights=notes["tensors_sha256"])
    later = at("2026-02-01", record("drfn", "set5", [2.0], tag="repro", weights="other"))
    assert cell(made(long, later), "drfn", "set5")["measured"] == 1.0


def test_every_model_of_the_paper_that_is_registered_has_its_pipeline() -> None:
    assert {"results", "rules", "differences"} <= set(REPORTS)
    assert MODELS.get("vdsr").pipeline == "y" and MODELS.get("rdn").pipeline == "rgb"


OTHER = """
[paper]
id = "other2030"
title = "Another Network"
subject = "VDSR"
[methods]
SRCNN = "srcnn"
VDSR = "vdsr"
"VDSR+" = "vdsr+"
Ours = ""
[[table]]
id = "table-3"
title = "Table 3"
columns = ["set5", "nobodys"]
scores = { psnr = 3, ssim = 4 }
cells = '''
x2 | SRCNN | 36.660/0.9542 | -/-
x2 | VDSR  | 37.530/0.9587 | 30.000/0.9000
x4 | SRCNN | 30.480/-      | -/-
x4 | VDSR+ | 31.500/0.8900 | -/-
x4 | Ours  | 31.000/0.8800 | -/-
'''
[[table]]
id = "table-4"
title = "Table 4"
degradation = "BD"
rules = "imdn"
columns = ["set14"]
scores = { psnr = 2 }
cells = "x3 | VDSR | 27.00"
"""


@pytest.fixture
def other(tmp_path: Path) -> Paper:
    """A paper with two tables, one of them of two scales, the other of another degradation."""
    path = tmp_path / "other2030.toml"
    path.write_text(OTHER)
    return read_paper(path)


def at_x2(run: RunRecord) -> RunRecord:
    return replace(run, identity=replace(run.identity, scale=2, protocol="BI-x2/y"))


class TestAnyPaper:
    RUNS = (
        at_x2(record("srcnn", "set5", [36.6, 36.7142], ssim=0.9541)),
        record("srcnn", "set5", [30.4801] * 2),
        record("vdsr", "set5", [31.5] * 2, ssim=0.89, self_ensemble=True),
    )

    def test_each_table_is_a_report_with_its_own_name(self, other: Paper) -> None:
        findings = found(*self.RUNS, of=other)
        assert [one.name for one in results(findings)] == ["table-3", "table-4"]
        # Nothing of Table 4 was measured.
        assert [one.name for one in rules(findings)] == ["rules-table-3"]
        assert [one.name for one in differences(findings)] == ["differences-table-3"]

    def test_each_row_has_its_scale(self, other: Paper) -> None:
        findings = found(*self.RUNS, of=other)
        table, _ = results(findings)
        assert "Scale" in table.headers and set(table.tidy["scale"]) == {2, 4}
        assert "at x2 and x4 (" in table.caption and "as many pixels as the scale" in table.caption
        assert [list(line[:4]) for line in table.lines[:4]] == [
            ["SRCNN", "x2", "y", "printed"],
            ["", "", "", "measured"],
            ["", "", "", "difference"],
            ["VDSR", "x2", "y", "printed"],
        ]
        assert table.rows[0][4] == ("36.660 ✓/0.9542 ✓", "36.657/0.9541", "-0.003/-0.0001")

    def test_a_row_with_self_ensemble_and_half_a_cell_are_what_they_are(self, other: Paper) -> None:
        table = results(found(*self.RUNS, of=other))[0]
        half, ensemble = (table.rows[place][4] for place in (2, 3))
        assert half == ("30.480 ✓/-", "30.480/0.8000", "+0.000/-")
        assert ensemble == ("31.500 ✓/0.8900 ✓", "31.500/0.8900", "+0.000/+0.0000")
        assert set(table.tidy["model"]) == {"srcnn", "vdsr", "vdsr+", "~ours"}

    def test_a_table_in_which_nothing_is_printed_has_no_report(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.toml"
        path.write_text(OTHER.replace("27.00", "-"))
        findings = found(*self.RUNS, of=read_paper(path))
        for report in (rules, differences):
            assert [one.name for one in report(findings)] == [f"{report.__name__}-table-3"]
        assert [one.name for one in results(findings)] == ["table-3"]

    def test_what_cannot_be_measured_says_why(self, other: Paper) -> None:
        run = record("vdsr", psnr=[27.0])
        x3 = replace(run, identity=replace(run.identity, scale=3, protocol="BI-x3/y+symmetric"))
        findings = found(*self.RUNS, x3, of=other)
        reason = "the harness makes LR images by bicubic (BI), not by BD"
        first, second = results(findings)
        assert f"What cannot be measured: {reason}." in second.caption
        assert "no test set nobodys" in first.caption
        assert list(second.tidy["status"]) == [reason]
        assert second.rows == [["VDSR", "x3", "y", LINES, ("27.00 ○", "missing", "")]]
        assert "as-rgb (border of imresize: symmetric)" in second.caption

    def test_numbers_that_are_not_from_the_paper_itself_say_so(self, tmp_path: Path) -> None:
        path = tmp_path / "copied.toml"
        path.write_text(
            OTHER.replace('"Table 4"', '"Table 4"\nread_from = ["A", "a review, README.md"]')
        )
        findings = found(*self.RUNS, of=read_paper(path))
        copied = "Table 4 (read from A and a review, README.md)"
        first, second = results(findings)
        assert copied in second.caption and "read from" not in first.caption
        (judged,) = claims(findings)
        assert f"The numbers of {copied} are not from the paper itself." in judged.caption

    def test_the_caption_names_the_degradation_and_the_border(self, other: Paper) -> None:
        _, second = results(found(*self.RUNS, of=other))
        assert "at x3 (BD, luma, border of as many pixels as the scale left out)" in second.caption
        table = replace_fields(other.tables[1], degradation="BI", border=2)
        changed = replace_fields(other, tables=(other.tables[0], table))
        _, second = results(found(*self.RUNS, of=changed))
        assert "(bicubic degradation, MATLAB imresize, luma, border of 2 px" in second.caption

    def test_one_grey_rule_leaves_the_border_of_exceptions(self, other: Paper) -> None:
        table = replace_fields(other.tables[0], exceptions={"VDSR": "imdn"})
        text = "Grey images: as-rgb, but as-rgb (border of imresize: symmetric) for VDSR"
        assert grey_note("as-rgb", table) == text
        table = replace_fields(other.tables[0], exceptions={"VDSR": "full-range"})
        assert grey_note("as-rgb", table) == "Grey images: as-rgb"


X2 = (("srcnn", "set5", [36.6]), ("vdsr", "set5", [37.0]))


class TestRunsOfNoPaper:
    RUNS = (
        record("srcnn", "set5", [30.4888], ssim=0.8628),
        record("srcnn", "mine", [25.0]),
        record("vdsr", "set5", [31.3486], ssim=0.8838),
        record("vdsr", "set5", [31.3494], ssim=0.8850, self_ensemble=True),
        record("drfn", "set5", [30.7], ssim=0.88384, tag="repro", protocol="BI-x4/rgb"),
    )

    @staticmethod
    def made(*records: RunRecord) -> Table:
        (table,) = results(Findings(frame(*records), None))
        return table

    def test_every_network_has_a_line_and_every_set_a_column(self) -> None:
        table = self.made(*self.RUNS)
        assert (table.name, list(table.headers)) == (
            "results",
            ["Method", "Scale", "Pipeline", "Set5", "mine"],
        )
        assert [list(row) for row in table.rows] == [
            ["drfn", "x4", "rgb", "30.700/0.8838†", "missing"],
            ["srcnn", "x4", "y", "30.489/0.8628", "25.000/0.8000"],
            ["vdsr", "x4", "y", "31.349/0.8838", "missing"],
            ["vdsr+", "x4", "y", "31.349/0.8850", "missing"],
        ]
        assert not {"printed", "difference"} & set(table.tidy)

    def test_the_two_best_of_each_column_stand_out_and_equal_ones_alike(self) -> None:
        table = self.made(*self.RUNS)
        text = table.render("md")
        assert "| <ins>30.700</ins>/<ins>0.8838</ins>†" in text
        assert "| 30.489/0.8628" in text  # the third
        assert "| **31.349**/<ins>0.8838</ins>" in text and "| **31.349**/**0.8850**" in text
        # A single number is not the best of any.
        assert "| 25.000/0.8000 |" in text
        tex, html = table.render("tex"), table.render("html")
        assert r"\textbf{31.349}/\underline{0.8838}" in tex
        assert "<td><b>31.349</b>/<u>0.8838</u></td>" in html
        assert r"\underline{30.700}/\underline{0.8838}\dag{}" in tex
        assert "**" not in table.render("csv") and "Bold" in table.caption
        plain = table.without_marks()
        assert not any(mark in plain.render("md") for mark in ("**", "<ins>", "Bold"))
        assert plain.rows == table.rows and plain.render("csv") == table.render("csv")

    def test_further_metrics_are_shown_and_missing_where_a_run_lacks_them(self) -> None:
        """The scale of such a metric is unknown: its smallest mean has four digits."""
        colour = {"lpips": {"file": "lpips.py", "on": "rgb"}}
        scored = with_metric(record("vdsr", "set5", [31.3]), "lpips", [0.0456789])
        scored = with_metric(replace(scored, plugins=colour), "mse", [1.2345678e-6])
        other = with_metric(record("drfn", "set5", [30.7], tag="repro"), "mse", [0.5])
        table = self.made(record("srcnn", "set5", [30.4]), scored, other)
        assert [list(row)[3] for row in table.rows] == [
            "30.700/0.8000/-/0.500000000†",
            "30.400/0.8000/-/-",
            "31.300/0.8000/0.04568/0.000001235",
        ]
        assert "PSNR in dB / SSIM / LPIPS / MSE at" in table.caption
        assert "On RGB instead of luma: LPIPS." in table.caption
        assert "<ins>30.700</ins>/**0.8000**/-/0.500000000†" in table.render("md")
        assert cell(table, "vdsr", "set5", "mse")["measured"] == 1.23457e-6
        lacking = cell(table, "srcnn", "set5", "lpips")
        assert (lacking["status"], lacking["run"]) == ("missing", "missing")
        assert cell(table, "srcnn", "set5")["status"] == "measured"

    def test_each_scale_has_its_own_best(self) -> None:
        runs = [
            at_x2(record(name, "set5", [psnr])) for name, psnr in (("srcnn", 36.6), ("vdsr", 37))
        ]
        table = self.made(*runs, *self.RUNS)
        assert list(table.headers[:3]) == ["Method", "Scale", "Pipeline"]
        best = {tuple(row[:2]): row[3] for row in table.rows}
        assert best["vdsr", "x2"].parts[0] == ("37.000", "best")
        assert best["srcnn", "x2"].parts[0] == ("36.600", "second")
        assert best["vdsr+", "x4"].parts[0] == ("31.349", "best")

    def test_reports_on_a_paper_have_nothing_to_say(self) -> None:
        findings = Findings(frame(*self.RUNS), None)
        assert [report(findings) for report in (rules, differences)] == [[], []]

    def test_a_paper_marks_none_of_its_numbers(self) -> None:
        assert "**" not in made(*self.RUNS).render("md")


def agreement(*records: RunRecord) -> dict[str, list[str]]:
    """The rules under which each metric of the one cell agrees."""
    (table,) = rules(found(*records))
    agreeing: dict[str, list[str]] = {}
    for _, _, _, metric, _, under, _, agrees in table.rows:
        agreeing.setdefault(metric, []).extend([under] if agrees == "yes" else [])
    return agreeing


def test_a_number_that_only_one_rule_gives_names_it() -> None:
    plain = record("lapsrn", psnr=(28.085, 28.085), ssim=0.7688)
    grey = record("lapsrn", psnr=(28.181, 28.181), ssim=0.7703, protocol="BI-x4/y+as-rgb")
    # The printed values are 28.19 and 0.7720.
    assert agreement(plain, grey) == {"PSNR": ["pipeline y, grey images as-rgb"], "SSIM": []}


def test_lr_images_that_are_not_rounded_are_a_rule_of_their_own() -> None:
    full = "BI-x4/rgb+full-range"
    rounded = record("srmdnf", psnr=(28.30, 28.30), ssim=0.7769, protocol=full)
    double = record("srmdnf", psnr=(28.36, 28.36), ssim=0.7773, protocol=f"{full}+float-lr")
    assert agreement(rounded, double)["PSNR"] == ["pipeline rgb, LR images not rounded"]


def test_every_rule_has_a_line_with_its_number() -> None:
    runs = record("lapsrn", psnr=(28.085, 28.085)), record("lapsrn", protocol="BI-x4/y+as-rgb")
    (table,) = rules(found(*runs))
    place = ["LapSRN", "x4", "Set14", "PSNR", "28.19"]
    assert [list(row) for row in table.rows[:2]] == [
        [*place, "pipeline y", "28.085", "no"],
        [*place, "pipeline y, grey images as-rgb", "27.500", "no"],
    ]
    assert "of 2 printed numbers that were measured, 0 agree" in table.caption


def test_without_a_measured_number_there_is_no_table() -> None:
    assert rules(found(record("mine"))) == []


@pytest.mark.parametrize("stranger", ["srcnn-rgb", "bicubic-rgb"])
def test_a_model_with_rgb_in_its_name_is_no_evidence_for_another(stranger: str) -> None:
    run = record(stranger, psnr=(27.50, 27.50), ssim=0.7513, protocol="BI-x4/rgb")
    assert rules(found(run)) == []
