import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.paper.schema import paper
from harness.paper.select import choose_runs
from harness.report.figure5_points import Point, points
from harness.report.page_plots import distributions, scatter
from harness.run.store import ResultStore
from tests.report.test_figure5 import RUNS, crowd

REFERENCE = Path(__file__).parents[2] / "results/reference"


def test_points_stand_in_the_order_of_their_numbers() -> None:
    drawn = points(RUNS, paper(), None)
    marks = scatter(drawn).marks
    across = sorted(marks, key=lambda mark: mark.point.parameters)
    assert [mark.x for mark in across] == sorted(mark.x for mark in marks)
    up = sorted(marks, key=lambda mark: -mark.point.psnr)
    assert [mark.y for mark in up] == sorted(mark.y for mark in marks)


def test_counts_grow_tenfold_from_line_to_line() -> None:
    plot = scatter([Point("a", "A", "printed", 5e4, 27), Point("b", "B", "printed", 5e6, 28)])
    assert [tick.text for tick in plot.across] == ["100k", "1M"]
    assert 0 < plot.across[0].at < plot.across[1].at < plot.width


def test_a_measured_point_is_joined_to_its_printed_one() -> None:
    plot = scatter(points(RUNS, paper(), None))
    measured = {m.point.model for m in plot.marks if m.point.run} - {"mine"}
    assert len(plot.links) == len(measured) == 3


def test_a_point_says_what_it_is() -> None:
    tips = [mark.tip for mark in scatter(points(RUNS, paper(), None)).marks]
    assert "DRFN: 5.2M parameters, 28.62 dB (printed: both numbers are in the paper)" in tips


def test_every_image_has_a_dot_and_the_mean_is_that_of_the_table() -> None:
    runs = ResultStore(REFERENCE).load()
    found = distributions(choose_runs(runs, 4, None), {"vdsr": "VDSR"})
    assert [one.title for one in found] == ["Set5", "Set14", "B100", "demo"]
    strip = found[1].strips[0]
    assert (strip.label, len(strip.dots)) == ("VDSR", 14)
    assert strip.said.startswith("VDSR: mean 28.02 dB, half of the 14 images between")
    assert strip.quartiles == tuple(sorted(strip.quartiles))
    assert min(dot.x for dot in strip.dots) < strip.mean < max(dot.x for dot in strip.dots)


def test_many_networks_are_numbered_from_left_to_right() -> None:
    plot = scatter(points(crowd(40), paper(), None))
    numbers = [(mark.x, int(mark.name)) for mark in plot.marks if mark.name]
    assert [number for _, number in sorted(numbers)] == list(range(1, len(plot.key) + 1))
    assert {point.method for point in plot.key} > {"SRCNN", "DRFN†", "network 39"}
    assert scatter(points(RUNS, paper(), None)).key == ()


@pytest.mark.parametrize("drawn", [[], [Point("a", "A", "measured", 1e5, 27)]])
def test_one_point_or_none_can_be_placed(drawn: list[Point]) -> None:
    assert [mark.name for mark in scatter(drawn).marks] == [point.method for point in drawn]


def test_an_infinite_score_is_left_out() -> None:
    runs = ResultStore(REFERENCE).load()
    runs = runs[
        (runs["model"] == "vdsr") & (runs["dataset"] == "set5") & (runs["protocol"] == "BI-x4/y")
    ].copy()
    record = runs["record"].iloc[0]
    scores = {"psnr": math.inf, "ssim": 1.0}
    images = (replace(record.images[0], scores=scores), *record.images[1:])
    runs["record"] = [replace(record, images=images)]
    (one,) = distributions(choose_runs(runs, 4, None), {})
    assert len(one.strips[0].dots) == 4
    assert all(math.isfinite(dot.x) for dot in one.strips[0].dots)


@pytest.mark.parametrize("low", [20.0, 27.93])
def test_lines_of_the_grid_are_round_numbers(low: float) -> None:
    drawn = [Point("a", "A", "printed", 1e5, low), Point("b", "B", "printed", 1e6, low + 0.9)]
    values = [float(tick.text) for tick in scatter(drawn).up]
    assert low - 0.1 <= values[0] and values[-1] <= low + 1.0
    assert values == pytest.approx([values[0] + 0.2 * place for place in range(len(values))])
    assert values[0] * 5 == pytest.approx(round(values[0] * 5))
