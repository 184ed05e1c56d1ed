"""The reports on a paper's claims: claims, ablation, differences."""

import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from harness.models.find_weights import TrainingNotes
from harness.paper.findings import Findings
from harness.paper.schema import Paper, paper, read_paper
from harness.record import RunRecord
from harness.registry import REPORTS
from harness.report.ablation import ablation
from harness.report.claims import claims
from harness.report.results import differences
from harness.report.table import Table
from tests.records import frame, record

NAMES = ("claims", "ablation", "differences")
DRFN = paper("drfn2020")
ROOT = Path(__file__).parents[2]


def found(*records: RunRecord, of: Paper = DRFN) -> Findings:
    return Findings(frame(*records), of)


def only(tables: list[Table]) -> Table:
    (table,) = tables
    return table


def row(table: Table, start: str) -> list[str]:
    (found,) = [list(one) for one in table.rows if one[0] == start]
    return found


def test_they_are_registered_and_written_like_any_other(harness) -> None:
    assert set(NAMES) <= set(REPORTS)
    Path("none").mkdir()
    for name in NAMES:
        shown = harness("report", name, "--results", "none", "--out", "out")
        assert shown.exit_code == 0, shown.output
    written = {path.name for path in Path("out").iterdir()}
    names = {*NAMES, "table1"} - {"ablation"}  # its file has the paper's own name
    assert written == {f"{name}.{form}" for name in names for form in ("md", "tex", "csv", "html")}


class TestClaims:
    def test_words_verdict_and_evidence_stand_together(self) -> None:
        text = only(claims(found())).render("md")
        (one,) = (one for one in found().claims if one.claim == "parameters")
        assert "| parameters" in text and one.verdict == "reproduced"
        quoted = f"> {one.statement} ({one.where})"
        assert f"### parameters: reproduced\n\n{quoted}\n\n{one.evidence}" in text

    def test_runs_are_named_where_there_are_any(self) -> None:
        run = record("vdsr", "b100", ssim=0.7251)
        text = only(claims(found(run))).render("md")
        assert f"Runs: {run.identity.id[:12]}\n" in text

    def test_the_caption_counts_every_verdict(self) -> None:
        count = Counter(one.verdict for one in found().claims)
        caption = only(claims(found())).caption
        assert all(f"{number} {verdict}" in caption for verdict, number in count.items())

    def test_the_command_prints_them_as_text_json_and_csv(self, harness) -> None:
        expected = [one.claim for one in found().claims]
        Path("none").mkdir()
        text = harness("claims", "--results", "none", "-v")
        assert text.exit_code == 0 and "### depth: undecided" in text.output
        whole = harness("claims", "--results", "none", "--format", "md").stdout
        assert whole == only(claims(found())).render("md")
        listed = json.loads(harness("claims", "--results", "none", "--format", "json").stdout)
        assert [one["claim"] for one in listed] == expected
        assert set(listed[0]) == {"claim", "statement", "where", "verdict", "evidence", "runs"}
        table = harness("claims", "--results", "none", "--format", "csv").stdout
        assert [one["claim"] for one in csv.DictReader(io.StringIO(table))] == expected

    def test_one_claim_is_found_by_its_name_or_a_part_of_it(self, harness) -> None:
        reference = ROOT / "results/reference"
        for word in ("superior", "super", "Superiour"):
            shown = harness("claims", word, "--results", reference).stdout
            assert shown.startswith("### superior: undecided\n") and shown.count("###") == 1
        assert "| 4d2991dc8555 | drfn    | Set5     | BI-x4/rgb | repro     | 30.7262" in shown
        words = ("--results", reference, "--format")
        (one,) = json.loads(harness("claims", "superior", *words, "json").stdout)
        assert one["claim"] == "superior"
        table = harness("claims", "superior", *words, "csv").stdout
        assert [one["claim"] for one in csv.DictReader(io.StringIO(table))] == ["superior"]

    def test_a_word_that_is_in_several_names_or_in_none_is_refused(self, harness) -> None:
        Path("none").mkdir()
        shown = harness("claims", "table1", "--results", "none")
        assert shown.exit_code == 0 and "### table1-table2: " in shown.stdout
        shown = harness("claims", "param", "--results", "none")
        assert shown.exit_code == 2
        assert "did you mean fewer-parameters or parameters or rdn-parameters?" in shown.stderr
        shown = harness("claims", "zzz", "--results", "none")
        assert shown.exit_code == 2 and "'zzz': there are table2-drfn, " in shown.stderr

    def test_the_command_prints_a_line_for_each_claim_then_the_counts(
        self, harness, monkeypatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        shown = harness("claims", "--results", ROOT / "results/reference").stdout
        *lines, empty, end = shown.splitlines()
        committed = (ROOT / "reports/claims.csv").read_text()
        rows = csv.DictReader(io.StringIO(committed))
        assert [tuple(re.split("  +|: ", line, maxsplit=2)[:2]) for line in lines] == [
            (row["verdict"], row["claim"]) for row in rows
        ]
        assert lines[0].endswith(": DRFN: Set5 32.16/0.8936, Set14 ...")
        assert 70 < max(map(len, lines)) <= 80 and not empty
        counts = re.findall("tables: (.*?)\\. ", (ROOT / "reports/claims.md").read_text())
        assert [end] == [f"Of {len(lines)} claims: {count}." for count in counts]

    def test_without_claims_the_csv_has_its_header(self) -> None:
        nothing = changed(DRFN, claims=(), tables=(), plots=(), doubts=())
        table = only(claims(found(of=nothing))).render("csv")
        assert table == "claim,statement,where,verdict,evidence,runs\n"


SMALL = """
[paper]
id = "small"
title = "Small"
subject = "VDSR-20"
[methods]
VDSR-20 = "vdsr"
[[ablation]]
id = "table-7"
title = "Table 7"
model = "vdsr"
set = "set5"
scale = 4
whole = "full"
psnr = [31.10, 31.35]
note = "Depth counts."
titles = { shallow = "10 layers" }
variants = { shallow = { depth = 10 }, full = { depth = 20 } }
"""


class TestAblation:
    @staticmethod
    def trained(variant: str, psnr: float, weights: str = "w") -> RunRecord:
        hyper = DRFN.ablations[0].arguments(variant)
        return record(
            "drfn", psnr=(psnr, psnr), hyper=hyper, weights=weights, tag="repro", ssim=0.7
        )

    def test_without_runs_the_cells_are_missing(self) -> None:
        table = only(ablation(found()))
        assert table.name == "table1"
        assert row(table, "printed")[1:] == ["27.56", "27.76", "27.70", "27.79"]
        assert row(table, "measured")[1:] == ["missing"] * 4
        assert row(table, "verdict")[1:] == ["not measured"] * 3 + ["inconsistent in print"]
        assert all(f"{one} dB" in table.caption for one in ("27.79", "28.62"))

    def test_variants_stand_in_their_columns(self) -> None:
        table = only(ablation(found(self.trained("none", 27.4), self.trained("lsc", 27.75))))
        line = row(table, "measured (a training of which nothing is known)")
        assert line[1:] == ["27.400", "missing", "27.750", "missing"]
        assert row(table, "verdict")[1:4] == ["undecided", "not measured", "reproduced"]

    def test_a_variant_whose_run_broke_has_failed(self) -> None:
        broken = replace(self.trained("ff", 27.0), status="error", images=())
        table = only(ablation(found(broken, self.trained("none", 27.4))))
        assert table.rows[2][1:] == ["27.400", "failed", "missing", "missing"]
        assert list(table.tidy["verdict"])[1:] == ["not measured"] * 2 + ["inconsistent in print"]
        assert row(only(ablation(found(broken))), "measured")[2] == "failed"

    def test_several_trainings_are_a_mean_and_a_deviation(self) -> None:
        runs = [self.trained("ff", 27.5 + 0.1 * i, weights=str(i)) for i in range(3)]
        table = only(ablation(found(*runs)))
        assert table.rows[2][2] == "27.600 (sd 0.100, 3 trainings)"

    def test_a_training_that_does_not_reach_bicubic_is_undecided(self) -> None:
        runs = [self.trained("none", 13.685), self.trained("both", 26.52)]
        table = only(ablation(found(*runs)))
        assert table.rows[2][1:] == [
            *("undecided (13.685)", "missing", "missing", "undecided (26.520)")
        ]
        assert "26.00 dB printed for a method without weights" in table.caption
        assert list(table.tidy["decides"]) == [False, None, None, False]
        assert list(table.tidy["measured"].dropna()) == [13.685, 26.52]
        above = only(ablation(found(self.trained("none", 26.01), runs[1])))
        assert above.rows[2][1:] == ["26.010", "missing", "missing", "26.520"]
        assert "budget decides nothing" not in above.caption

    def test_other_networks_and_the_other_grey_rule_are_no_variants(self) -> None:
        runs = [
            record("drfn", hyper={"groups": 4}),
            record("drfn-2conv"),
            record("drfn", "set5"),
            record("drfn", protocol="BI-x4/rgb"),
        ]
        assert row(only(ablation(found(*runs))), "measured")[1:] == ["missing"] * 4

    def test_the_words_of_any_paper_come_from_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "small.toml").write_text(SMALL)
        small = read_paper(tmp_path / "small.toml")
        table = only(ablation(found(record("vdsr", "set5"), of=small)))
        assert (table.name, list(table.headers)) == ("table-7", ["", "10 layers", "full"])
        assert [list(line) for line in table.rows] == [
            ["printed", "31.10", "31.35"],
            ["verdict", "not measured", "undecided"],
            ["measured (a training of which nothing is known)", "missing", "27.500"],
        ]
        assert "Set5 at x4 of VDSR-20. Depth counts." in table.caption
        assert "as-rgb in pipeline rgb" in table.caption
        assert "for the network of the" not in table.caption, "no table contradicts it"


class TestDifferences:
    RUNS = (
        record("bicubic", psnr=(25.0, 26.0, 27.0), weights=None),
        record("srcnn", psnr=(26.0, 27.6, 28.9)),
        record("vdsr", psnr=(26.4, 28.2, 29.4)),
    )

    def on_set14(self) -> list[list[str]]:
        rows = only(differences(found(*self.RUNS))).rows
        return [list(line) for line in rows if line[0] == "Set14"]

    def test_neighbours_by_printed_psnr_are_compared(self) -> None:
        lines = self.on_set14()
        assert [line[2:4] for line in lines[:2]] == [
            ["VDSR over SRCNN", "+0.52"],
            ["SRCNN over Bicubic", "+1.50"],
        ]
        assert [line[4][:8] for line in lines[:2]] == ["+0.500 [", "+1.500 ["]
        assert float(lines[0][-1]) < 0.52

    def test_pairs_that_were_not_measured_stand_beside_the_median_half_width(self) -> None:
        table = only(differences(found(*self.RUNS)))
        facts = table.tidy[table.tidy["dataset"] == "set14"].to_dict("records")
        widths = [line["half_width"] for line in facts]
        argued = next(line for line in self.on_set14() if line[2] == "DRFN over MSRN")
        assert argued[3:5] == ["+0.02", "missing"]
        assert widths[2:] == pytest.approx([sum(widths[:2]) / 2] * 3, abs=1e-4)
        assert argued[-1] == f"{widths[2]:.3f} (typical)"

    def test_rows_under_two_grey_rules_are_not_compared_where_grey_images_are_unknown(self) -> None:
        runs = [record("srcnn", "manga109"), record("srmdnf", "manga109", protocol="BI-x4/rgb")]
        rows = only(differences(found(*runs))).rows
        (line,) = (one for one in rows if one[2] == "SRMDNF over SRCNN")
        assert line[0] == "Manga109" and line[4] == "missing"

    def test_a_set_of_one_image_has_no_interval(self) -> None:
        runs = record("srcnn", psnr=[27.5]), record("vdsr", psnr=[28.0])
        (line,) = (one for one in only(differences(found(*runs))).rows if "VDSR over" in one[2])
        assert line[2:5] == ["VDSR over SRCNN", "+0.52", "missing"]

    def test_sets_without_a_run_are_missing_and_not_left_out(self) -> None:
        lines = only(differences(found(*self.RUNS))).rows
        assert [line[:5] for line in lines[-2:]] == [
            ["Manga109", "x4", "RDN over DRFN", "+0.74", "missing"],
            ["Manga109", "x4", "DRFN over MSRN", "+0.09", "missing"],
        ]
        assert lines[-1][-1] == "missing"
        assert {line[0] for line in lines} == {"Set5", "Set14", "B100", "Urban100", "Manga109"}

    def test_few_images_are_said_to_give_too_narrow_intervals(self) -> None:
        assert "too narrow" in only(differences(found())).caption

    def test_weights_trained_here_do_not_stand_for_a_row(self) -> None:
        runs = *self.RUNS[:2], record("drfn", psnr=(25, 26, 27), tag="repro")
        lines = only(differences(found(*runs))).rows
        assert "DRFN over SRCNN" not in [line[2] for line in lines]

    def test_what_the_seed_does_is_said_where_it_is_known(self, monkeypatch) -> None:
        budget = TrainingNotes("a recipe", 600)
        monkeypatch.setattr("harness.run.statistics.training_notes", lambda one: budget)
        runs = [record("drfn", psnr=(p, p), tag="repro", weights=str(p)) for p in (27.0, 27.2)]
        caption = only(differences(found(*runs))).caption
        assert "drfn on Set14 27.100 dB, sd 0.141 dB (2 weights)" in caption
        assert "seed:" not in only(differences(found())).caption
