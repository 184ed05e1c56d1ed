from dataclasses import replace
from typing import Any

import pytest

from harness.paper.findings import Findings
from harness.paper.schema import SCORES, Paper, Source, Table, paper, score
from harness.record import RunRecord
from harness.report.literature import elsewhere_text
from harness.report.page import LEVELS, grids, level, shown
from harness.report.results import measured_share
from tests.records import frame, record

PSNR, SSIM = SCORES.values()
DRFN = paper("drfn2020")


def found(*runs: RunRecord) -> Findings:
    return Findings(frame(*runs), DRFN, None)


def numbers(findings: Findings, metric: str, dataset: str) -> dict[str, dict[str, Any]]:
    """What the grid of a metric shows of a set, by network."""
    (grid,) = (one for one in grids(findings, DRFN.tables[0]) if one.metric == metric)
    cells = [cell for row in grid.rows for cell in row.of(metric) if cell.dataset == dataset]
    return {cell.model: shown(cell) for cell in cells}


@pytest.mark.parametrize(
    ("difference", "mark"),
    [
        (0.0, "="),
        (0.0104, "="),
        (-0.01, "="),
        (0.011, "▲"),
        (-0.05, "▼"),
        (0.051, "▲▲"),
        (-0.2, "▼▼"),
        (0.201, "▲▲▲"),
        (-3, "▼▼▼"),
    ],
)
def test_levels_of_psnr(difference: float, mark: str) -> None:
    assert level(difference, PSNR).mark == mark


def test_levels_of_ssim_are_finer() -> None:
    differences = (0.0001, 0.0003, -0.001, 0.6)
    assert [level(value, SSIM).mark for value in differences] == ["=", "▲", "▼▼", "▲▲▲"]


def test_levels_follow_the_digits_that_a_paper_prints() -> None:
    assert [level(0.003, score("ssim", digits)).mark for digits in (4, 3, 2)] == ["▲▲▲", "▲", "="]


def test_the_legend_names_every_level_once_from_below_to_above() -> None:
    assert [one.name for one in LEVELS] == [
        "under3",
        "under2",
        "under1",
        "same",
        "over1",
        "over2",
        "over3",
    ]
    assert [LEVELS[place].said for place in (0, 1, 3)] == [
        "below by more than 20",
        "below by up to 20",
        "as printed: within 1",
    ]
    assert len({one.mark for one in LEVELS}) == 7


@pytest.mark.parametrize(
    ("measured", "text"),
    [(31.6, "+0.250"), (31.1, "−0.250"), (31.3504, "+0.000"), (31.3496, "+0.000")],
)
def test_a_difference_has_a_sign(measured: float, text: str) -> None:
    cells = numbers(found(record("vdsr", "set5", [measured])), "psnr", "set5")
    assert cells["vdsr"]["difference"] == text


def test_a_grid_holds_what_table_2_holds() -> None:
    mine = record("mine", "set5", [31.0])
    findings = found(record("vdsr", "b100", [27.283], ssim=0.7251), mine)
    psnr, ssim = grids(findings, DRFN.tables[0])
    assert (psnr.caption, ssim.caption) == ("PSNR in dB", "SSIM")
    assert psnr.columns == ["Set5", "Set14", "B100", "Urban100", "Manga109"]
    assert [line.row.method for line in psnr.rows][-2:] == ["DRFN", "mine"]
    cell = numbers(findings, "ssim", "b100")["vdsr"]
    assert (cell["printed"], cell["measured"], cell["difference"]) == (
        "0.0726",
        "0.7251",
        "+0.6525",
    )
    assert (cell["level"].name, cell["doubt"]) == ("over3", "doubtful")
    own = numbers(findings, "psnr", "set5")["mine"]
    assert (own["printed"], own["measured"], own["level"]) == ("", "31.000", None)
    assert own["run"].identity.id == mine.identity.id
    assert measured_share(findings.cells) == (1, 0, 58)


def test_what_looks_wrong_is_explained_in_its_cell() -> None:
    cells = [cell for cell in found().cells if cell.doubt]
    assert {cell.doubt for cell in cells} == set(DRFN.doubts)
    for cell in cells:
        text = shown(cell)
        assert cell.doubt and cell.doubt.reason in text["explained"] and text["doubt"]


def test_a_number_that_only_other_rules_give_names_them() -> None:
    grey = record("lapsrn", "set14", [28.181], protocol="BI-x4/y+as-rgb")
    cell = numbers(found(record("lapsrn", "set14", [28.085]), grey), "psnr", "set14")["lapsrn"]
    assert (cell["measured"], cell["doubt"]) == ("28.085", "other rules")
    assert cell["explained"].startswith("Measured under grey images as-rgb: 28.181.")


def test_every_number_that_other_documents_print_says_so() -> None:
    cells = found().cells
    elsewhere = [cell for cell in cells if elsewhere_text(cell)]
    assert 50 < len(elsewhere) < len(cells)
    assert all(elsewhere_text(cell) in shown(cell)["explained"] for cell in elsewhere)
    plain = [cell for cell in cells if not (cell.doubt or elsewhere_text(cell))]
    assert plain and not any(shown(cell)["explained"] for cell in plain)


def test_runs_that_broke_and_numbers_without_a_run_are_told_apart() -> None:
    broken = replace(record("vdsr", "set14"), status="error", images=())
    findings = found(record("drfn", "set14", [27.5], tag="repro"), broken)
    cells = numbers(findings, "psnr", "set14")
    assert cells["vdsr"]["run"].identity.id == broken.identity.id
    assert (cells["vdsr"]["measured"], cells["srcnn"]["run"]) == ("", None)
    assert measured_share(findings.cells) == (1, 1, 58)


def test_a_table_of_several_scales_and_a_metric_that_no_run_has() -> None:
    cells = "x2 | A | 37.5/0.0312\nx4 | A | 31.3/0.1"
    table = Table(id="t", title="T", columns=("set5",), scores={"psnr": 1, "lpips": 4}, cells=cells)
    source = Source(id="small", title="Small", subject="A")
    small = Paper(source=source, methods={"A": "vdsr"}, tables=(table,))
    made = list(grids(Findings(frame(record("vdsr", "set5", [31.5])), small, None), table))
    captions = [grid.caption for grid in made]
    assert captions == ["PSNR in dB, x2", "LPIPS, x2", "PSNR in dB, x4", "LPIPS, x4"]
    texts = [shown(grid.rows[0].of(grid.metric)[0]) for grid in made]
    assert [text["printed"] for text in texts] == ["37.5", "0.0312", "31.3", "0.1000"]
    assert [text["measured"] for text in texts] == ["", "", "31.500", ""]
    assert [bool(text["run"]) for text in texts] == [False, False, True, False]
    assert texts[2]["level"].said == "above by up to 5"


def test_runs_do_not_stand_in_a_table_of_another_degradation() -> None:
    table = Table(id="t", title="T", columns=("set5",), degradation="BD", cells="x4 | A | 31.3/0.9")
    source = Source(id="small", title="Small", subject="A")
    small = Paper(source=source, methods={"A": "vdsr"}, tables=(table,))
    runs = frame(record("vdsr", "set5", [31.3]), record("mine", "set5", [31.5]))
    (psnr, _) = grids(Findings(runs, small, None), table)
    assert [(line.row.method, line.cells[0].shown) for line in psnr.rows] == [("A", None)]
