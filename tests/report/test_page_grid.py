from dataclasses import replace

import pytest

from harness.paper.schema import SCORES, paper
from harness.report.page_grid import LEGEND, grids, level, measured_share, signed
from harness.report.results import results
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
    assert [one.name for one in LEGEND] == [
        "under3",
        "under2",
        "under1",
        "same",
        "over1",
        "over2",
        "over3",
    ]
    assert LEGEND[1].said == "below by up to 0.2 dB / 0.002"
    assert len({one.mark for one in LEGEND}) == 7


def test_a_difference_has_a_sign_unless_it_rounds_to_nothing() -> None:
    assert [signed(value, 3) for value in (0.25, -0.25, 0.0004, -0.0004)] == [
        "+0.250",
        "−0.250",
        "±0.000",
        "±0.000",
    ]


def test_a_grid_holds_what_table_2_holds() -> None:
    mine = record("mine", "set5", [31.0])
    runs = frame(record("vdsr", "b100", [27.283], ssim=0.7251), mine)
    psnr, ssim = grids(results(runs, paper()), runs, paper())
    assert psnr["columns"] == ["Set5", "Set14", "B100", "Urban100", "Manga109"]
    assert [line["method"] for line in psnr["lines"]][-2:] == ["DRFN", "mine"]
    cell = next(line for line in ssim["lines"] if line["model"] == "vdsr")["cells"][2]
    assert (cell["printed"], cell["measured"], cell["difference"]) == (
        "0.0726",
        "0.7251",
        "+0.6525",
    )
    assert cell["level"] and cell["level"].name == "over3"
    assert cell["standing"] == "inconsistent in print"
    assert cell["doubt"] and cell["doubt"]["title"] == "VDSR, B100, SSIM 0.0726"
    own = psnr["lines"][-1]["cells"][0]
    assert (own["printed"], own["measured"], own["run"]) == ("", "31.000", mine.identity.id)
    assert own["level"] is None and own["standing"] == ""
    assert measured_share(psnr) == (1, 0, 58)


def test_a_number_that_only_other_rules_give_names_them() -> None:
    grey = record("lapsrn", "set14", [28.181], protocol="BI-x4/y+as-rgb")
    runs = frame(record("lapsrn", "set14", [28.085]), grey)
    psnr, _ = grids(results(runs, paper()), runs, paper())
    cell = next(line for line in psnr["lines"] if line["model"] == "lapsrn")["cells"][1]
    assert (cell["measured"], cell["standing"]) == ("28.085", "reproduced under other rules")
    assert cell["elsewhere"] == "28.181 under grey images as-rgb"
    assert cell["doubt"] and cell["doubt"]["kind"] == "other rules"


def test_weights_trained_here_and_runs_that_broke_are_told_apart() -> None:
    broken = replace(record("vdsr", "set14"), status="error", images=())
    runs = frame(record("drfn", "set14", [27.5], tag="repro"), broken)
    psnr, _ = grids(results(runs, paper()), runs, paper())
    cells = {line["model"]: line["cells"][1] for line in psnr["lines"]}
    assert (cells["drfn"]["dagger"], cells["vdsr"]["dagger"]) == ("†", "")
    assert (cells["vdsr"]["status"], cells["srcnn"]["status"]) == ("failed", "missing")
    assert cells["vdsr"]["run"] == broken.identity.id
    assert measured_share(psnr) == (1, 1, 58)
