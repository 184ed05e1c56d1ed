from dataclasses import replace

import pytest

from harness.paper.findings import Findings
from harness.paper.schema import SCORES, paper
from harness.paper.verdicts import JudgedCell
from harness.record import RunRecord
from harness.report.page_grid import (
    DOUBTS,
    Grid,
    doubt_id,
    doubted,
    grids,
    level,
    levels,
    measured_share,
    shown,
    signed,
)
from tests.records import frame, record

PSNR, SSIM = SCORES.values()


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


def test_the_legend_names_every_level_once_from_below_to_above() -> None:
    legend = levels([PSNR, SSIM])
    assert [one.name for one in legend] == [
        "under3",
        "under2",
        "under1",
        "same",
        "over1",
        "over2",
        "over3",
    ]
    assert legend[1].said == "below by up to 0.2 dB / 0.002"
    assert len({one.mark for one in legend}) == 7


def test_a_difference_has_a_sign_unless_it_rounds_to_nothing() -> None:
    assert [signed(value, 3) for value in (0.25, -0.25, 0.0004, -0.0004)] == [
        "+0.250",
        "−0.250",
        "±0.000",
        "±0.000",
    ]


def made(*records: RunRecord) -> tuple[Findings, Grid, Grid]:
    """The findings of these runs on the only table of a paper, and its grids."""
    findings = Findings(frame(*records), paper("drfn2020"))
    psnr, ssim = grids(findings, findings.tables[0])
    return findings, psnr, ssim


def cells(grid: Grid, model: str) -> list[JudgedCell]:
    (row,) = (one for one in grid.rows if one.row.key == model)
    return row.of(grid.score.name)


def test_a_grid_holds_what_the_table_holds() -> None:
    mine = record("mine", "set5", [31.0])
    findings, psnr, ssim = made(record("vdsr", "b100", [27.283], ssim=0.7251), mine)
    assert psnr.columns == ["Set5", "Set14", "B100", "Urban100", "Manga109"]
    assert [one.row.method for one in psnr.rows][-2:] == ["DRFN", "mine"]
    cell = cells(ssim, "vdsr")[2]
    text = shown(cell)
    assert (text["printed"], text["measured"], text["difference"]) == (
        "0.0726",
        "0.7251",
        "+0.6525",
    )
    assert text["level"].name == "over3"
    assert cell.standing == "inconsistent in print" and text["doubt"] == "doubtful"
    own = cells(psnr, "mine")[0]
    text = shown(own)
    assert (text["printed"], text["measured"], text["run"]) == ("", "31.000", mine)
    assert text["level"] is None and own.standing is None
    assert measured_share(findings) == (1, 0, 58)


def test_numbers_that_look_wrong_stand_in_the_order_of_the_paper() -> None:
    findings, *_ = made()
    found = doubted(findings, findings.tables[0])
    assert len(found) == len(findings.doubts) == len({doubt_id(cell) for cell in found})
    assert [(cell.row.method, cell.metric) for cell in found[:2]] == [
        ("VDSR", "ssim"),
        ("DCSR", "psnr"),
    ]
    assert {cell.doubt.seen for cell in found} == set(DOUBTS)


def test_a_number_that_only_other_rules_give_names_them() -> None:
    grey = record("lapsrn", "set14", [28.181], protocol="BI-x4/y+as-rgb")
    _, psnr, _ = made(record("lapsrn", "set14", [28.085]), grey)
    cell = cells(psnr, "lapsrn")[1]
    text = shown(cell)
    assert (text["measured"], cell.standing) == ("28.085", "reproduced under other rules")
    assert text["elsewhere"] == "28.181 under grey images as-rgb"
    assert text["doubt"] == "other rules"


def test_weights_trained_here_and_runs_that_broke_are_told_apart() -> None:
    broken = replace(record("vdsr", "set14"), status="error", images=())
    findings, psnr, _ = made(record("drfn", "set14", [27.5], tag="repro"), broken)
    own, failed, missing = (cells(psnr, name)[1] for name in ("drfn", "vdsr", "srcnn"))
    assert (own.standing, failed.standing) == ("undecided", "not measured")
    assert (failed.failed, missing.failed) == (broken, None)
    assert [shown(cell)["run"] for cell in (own, failed, missing)] == [own.shown, broken, None]
    assert measured_share(findings) == (1, 1, 58)
