"""One number, one verdict: it follows from print and runs, and the check says the same."""

from collections import Counter
from itertools import product
from pathlib import Path

from harness.paper.check import against_paper
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.paper.verdicts import JudgedCell, decide
from harness.run.store import ResultStore

STORE = ResultStore(Path(__file__).parents[2] / "results" / "reference")
PAPER = paper("drfn2020")
FINDINGS = Findings(STORE.read().table(), PAPER)
CELLS = {(cell.model, cell.dataset, cell.metric): cell for cell in FINDINGS.cells}


def seen(kind: str) -> list[JudgedCell]:
    return [cell for cell in CELLS.values() if cell.doubt and cell.doubt.seen == kind]


class TestRule:
    def test_what_print_contradicts_is_inconsistent_whatever_was_measured(self) -> None:
        for measured, can_refute in product((None, True, False), (True, False)):
            assert decide(False, measured, can_refute) == "inconsistent in print"

    def test_what_was_not_measured_is_not_measured(self) -> None:
        assert decide(True, None, True) == decide(True, None, False) == "not measured"

    def test_what_holds_is_reproduced(self) -> None:
        assert decide(True, True, True) == decide(True, True, False) == "reproduced"

    def test_what_does_not_hold_is_refuted_by_what_can_refute_it(self) -> None:
        assert decide(True, False, True) == "refuted"
        assert decide(True, False, False) == "undecided"


def test_every_printed_number_has_one_verdict() -> None:
    assert len(FINDINGS.cells) == len(CELLS) == 2 * 58
    assert Counter(cell.verdict for cell in CELLS.values()) == {
        "reproduced": 35,
        "inconsistent in print": 3,
        "undecided": 6,
        "not measured": 72,
    }
    assert {cell.model for cell in CELLS.values() if cell.verdict == "undecided"} == {"drfn"}
    for cell in CELLS.values():
        assert (cell.measured is None) == (not cell.options)
        assert cell.measured is None or cell.measured in cell.options
        assert cell.verdict != "not measured" or cell.measured is None


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
    assert {cell.standing for cell in cells} == {"reproduced under other rules"}
    assert all(cell.measured and cell.measured.rules for cell in cells)
    elsewhere = [cell for cell in CELLS.values() if cell.measured and cell.measured.rules]
    assert elsewhere == cells


def test_the_check_says_of_each_number_what_the_verdicts_say() -> None:
    said = {"ok": "reproduced", "other rules": "reproduced"}
    said["known misprint"] = "inconsistent in print"
    rows = [row for row in against_paper(FINDINGS, FINDINGS) if row.tier == "as printed"]
    assert {row.verdict for row in rows} == said.keys()
    for row in rows:
        assert CELLS[row.model, row.dataset, row.metric].verdict == said[row.verdict]
