from io import BytesIO
from itertools import combinations

import matplotlib
import pytest
from PIL import Image

from harness.paper import paper
from harness.report.figure5 import figure5, points, short_count, unplaced
from tests.report.test_tables import frame, run

RUNS = frame(
    run("srcnn", "set14", 27.504, parameters=57_281),
    run("vdsr", "set14", 28.02, parameters=665_921),
    run("vdsr", "set5", 31.35, parameters=665_921),
    run("drfn", "set14", 28.1, parameters=5_207_203, tag="repro"),
    run("mine", "set14", 28.3, parameters=3_600),
    run("bicubic", "set14", 26.0, parameters=0),
)


def test_printed_points_carry_the_numbers_of_the_text_and_of_table_2() -> None:
    found = [p for p in points(RUNS, paper(), None) if p.kind == "printed"]
    assert {p.model: (p.parameters, p.psnr) for p in found} == {
        "rdn": (22_000_000, 28.81),
        "drfn": (5_200_000, 28.62),
    }


def test_counts_that_are_not_printed_are_told_apart() -> None:
    declared = {p.model for p in points(RUNS, paper(), None) if p.kind == "declared"}
    assert {"srcnn", "vdsr", "edsr"} <= declared
    assert not declared & {"drfn", "rdn", "bicubic", "dcsr"}
    readings = {p.model: p.parameters for p in points(RUNS, paper(), None) if p.kind == "reading"}
    assert readings == {"dcsr": 665_921}


def test_measured_points_come_from_the_records_of_set14() -> None:
    measured = [p for p in points(RUNS, paper(), None) if p.run]
    assert {p.model: (p.parameters, p.psnr) for p in measured} == {
        "srcnn": (57_281, 27.504),
        "vdsr": (665_921, 28.02),
        "drfn": (5_207_203, 28.1),
        "mine": (3_600, 28.3),
    }
    assert {p.method: p.kind for p in measured} == {
        "SRCNN": "measured",
        "VDSR": "measured",
        "DRFN†": "trained",
        "mine": "measured",
    }


def test_what_has_no_place_is_named() -> None:
    drawn = points(RUNS, paper(), None)
    assert "Bicubic" in unplaced(paper(), drawn)
    (note,) = figure5(RUNS, paper()).draw().texts
    assert "no known count: Bicubic." in note.get_text()
    assert "† Not the authors' weights" in note.get_text() and "DRFN with" in note.get_text()


def test_names_do_not_overlap_and_a_point_on_its_printed_one_has_one_name() -> None:
    (plane,) = figure5(RUNS, paper()).draw().axes
    names = [text.get_text() for text in plane.texts]
    assert (
        names.count("VDSR") == 1
        and names.count("DRFN") == names.count("DRFN†") == 1
        and names.count("mine") == 1
    )
    extents = [text.get_window_extent() for text in plane.texts]
    assert not any(one.overlaps(other) for one, other in combinations(extents, 2))
    legend = plane.get_legend().get_window_extent()
    assert not any(legend.overlaps(one) for one in [*extents, plane.get_window_extent()])


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_it_is_the_same_bytes_whatever_the_user_has_set(form: str) -> None:
    before = figure5(RUNS, paper()).render(form)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert figure5(RUNS, paper()).render(form) == before
    assert matplotlib.rcParams["svg.hashsalt"] is None


def test_the_png_is_large_enough_to_print() -> None:
    with Image.open(BytesIO(figure5(RUNS, paper()).render("png"))) as image:
        assert image.width >= 1000


@pytest.mark.parametrize(
    ("count", "text"), [(57_281, "57.3k"), (5_207_203, "5.21M"), (22e6, "22M"), (100_000, "100k")]
)
def test_counts_are_short(count: float, text: str) -> None:
    assert short_count(count) == text
