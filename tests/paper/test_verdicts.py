"""One number, one verdict: reports and the check do not contradict each other."""

from pathlib import Path

from harness.paper.check import against_paper
from harness.paper.schema import paper
from harness.paper.verdicts import Evidence, JudgedCell, judge_cells
from harness.run.store import ResultStore

STORE = ResultStore(Path(__file__).parents[2] / "results" / "reference")
CELLS = {
    (cell.model, cell.dataset, cell.metric): cell
    for cell in judge_cells(Evidence(STORE.read().table(), paper()))
}
SUSPICIOUS = [((one["row"], one["column"], one["metric"]), one) for one in paper()["suspicious"]]


def seen(kind: str) -> list[JudgedCell]:
    return [CELLS[key] for key, one in SUSPICIOUS if one["seen"] == kind]


def test_what_contradicts_other_printed_numbers_is_inconsistent() -> None:
    assert {cell.verdict for cell in seen("print")} == {"inconsistent in print"}


def test_what_is_only_odd_is_not_measured() -> None:
    assert {(cell.model, cell.verdict) for cell in seen("unusual")} == {
        ("edsr", "not measured"),
        ("msrn", "not measured"),
    }


def test_what_other_rules_give_is_reproduced_under_them_and_not_under_the_default() -> None:
    cells = seen("measurement")
    assert cells and {cell.verdict for cell in cells} == {"reproduced"}
    assert all(cell.measured and cell.measured.rules for cell in cells)
    elsewhere = {key for key, cell in CELLS.items() if cell.measured and cell.measured.rules}
    assert elsewhere == {key for key, one in SUSPICIOUS if one["seen"] == "measurement"}


def test_the_check_says_of_each_number_what_the_verdicts_say() -> None:
    said = {"ok": "reproduced", "other rules": "reproduced"}
    said["known misprint"] = "inconsistent in print"
    rows = [row for row in against_paper(STORE.records(), paper()) if row.tier == "as printed"]
    assert {row.verdict for row in rows} == said.keys()
    for row in rows:
        assert CELLS[row.model, row.dataset, row.metric].verdict == said[row.verdict]
