import math
from dataclasses import replace
from io import BytesIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.figure
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from PIL import Image

from harness.paper.schema import paper
from harness.report.plot import (
    Figure,
    Label,
    LabelBox,
    Point,
    Texts,
    _draw,
    label_points,
    numbered,
    plot,
    points,
    short_count,
    unplaced,
)
from harness.run.store import ResultStore
from tests import records
from tests.report.test_results import frame, run

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


def test_a_run_whose_record_says_no_parameters_has_no_place() -> None:
    runs = records.frame(records.record("vdsr"))
    assert runs["parameters"].tolist() == [None]
    assert not [p for p in points(runs, paper(), None) if p.run]


def test_what_has_no_place_is_named() -> None:
    drawn = points(RUNS, paper(), None)
    assert "Bicubic" in unplaced(paper(), drawn)
    (note,) = plot(RUNS, paper()).draw().texts
    assert "no known count: Bicubic." in note.get_text()
    assert "† Not the authors' weights" in note.get_text() and "DRFN with" in note.get_text()


SVG = "{http://www.w3.org/2000/svg}"
REFERENCE = ResultStore(Path(__file__).parents[2] / "results/reference").read().table()


def crowd(count: int, name: str = "network {}", dB: float = 0.05) -> pd.DataFrame:
    """The reference runs and many of a researcher's own."""
    vdsr = REFERENCE[(REFERENCE["model"] == "vdsr") & (REFERENCE["protocol"] == "BI-x4/y")]
    (base,) = vdsr[vdsr["dataset"] == "set14"].to_dict("records")
    own = [
        base
        | {"id": f"{i:064}", "model": name.format(i), "psnr": 27.2 + i * 7 % count * dB}
        | {"parameters": 30_000 + int(5e6 * (i / count) ** 3)}
        for i in range(count)
    ]
    return pd.concat([REFERENCE, frame(*own)], ignore_index=True)


def visible(plane: Axes) -> list[Bbox]:
    """What the marks on the plane cover."""
    boxes = []
    for marks in plane.collections:
        for x, y in plane.transData.transform(marks.get_offsets()):
            half = marks.get_sizes()[0] ** 0.5 / 2 * plane.figure.dpi / 72
            boxes.append(Bbox([[x - half, y - half], [x + half, y + half]]))
    return boxes


@pytest.mark.parametrize(
    ("count", "name"), [(12, "模型 {}"), (25, "network-" * 12 + "{}"), (60, "n{}")]
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_many_networks_are_numbered_and_nothing_covers_anything(count: int, name: str) -> None:
    drawn = plot(crowd(count, name, 1.6 / count), paper()).draw()
    (plane,) = drawn.axes
    numbers = [text.get_window_extent() for text in plane.texts]
    assert not any(one.overlaps(other) for one, other in combinations(numbers, 2))
    assert not any(one.overlaps(mark) for one in numbers for mark in visible(plane))
    inside = plane.get_window_extent()
    assert all(inside.fully_containsx(n.x0) and inside.fully_containsy(n.y0) for n in numbers)
    below = [text.get_window_extent() for text in drawn.texts if text.get_text()]
    below.append(plane.get_legend().get_window_extent())
    assert not any(one.overlaps(other) for one, other in combinations(below, 2))
    assert all(one.x1 < drawn.bbox.x1 and one.y0 > 0 and one.y1 < inside.y0 for one in below)


def test_the_key_names_every_point_in_the_order_of_the_numbers() -> None:
    drawn = plot(crowd(25), paper()).draw()
    said = [text.get_text() for text in drawn.texts[:-1]]
    count = len(said) // 2
    assert said[count:] == [str(n) for n in range(1, count + 1)]
    assert {f"network {i}" for i in range(25)} | {"SRCNN", "DRFN†", "RDN"} <= set(said[:count])
    (plane,) = drawn.axes
    assert sorted(int(text.get_text()) for text in plane.texts) == list(range(1, count + 1))
    across = [text.xy[0] for text in plane.texts]
    assert across == sorted(across)


def test_networks_in_one_place_share_a_label() -> None:
    drawn = points(crowd(1), paper(), None)
    same = [replace(drawn[-1], model=str(i)) for i in range(9)]
    (group,) = [said for said in numbered([*drawn, *same]).values() if "–" in said]
    first, last = map(int, group.split("–"))
    assert last - first == 9


@pytest.mark.parametrize("drawn", [[], [Point("a", "A", "measured", 1e5, 27)]])
def test_one_point_or_none_can_be_drawn(drawn: list[Point]) -> None:
    (plane,) = _draw(drawn, []).axes
    assert [text.get_text() for text in plane.texts] == [point.method for point in drawn]


def test_a_network_that_gives_every_image_back_exactly_has_no_place() -> None:
    runs = frame(run("mine", "set14", math.inf, parameters=3_600))
    assert "mine" not in {point.model for point in points(runs, paper(), None)}


def test_names_do_not_overlap_and_a_point_on_its_printed_one_has_one_name() -> None:
    (plane,) = plot(RUNS, paper()).draw().axes
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
    before = plot(RUNS, paper()).render(form)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert plot(RUNS, paper()).render(form) == before
    assert matplotlib.rcParams["svg.hashsalt"] is None


def test_the_svg_says_what_it_shows_and_its_text_is_text() -> None:
    root = ElementTree.fromstring(plot(RUNS, paper()).render("svg"))
    title, desc, *_ = root
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
    assert "parameters against PSNR on Set14" in str(title.text)
    assert "SRCNN 57.3k, 27.50 dB" in str(desc.text) and "mine 3.6k, 28.30 dB" in str(desc.text)
    texts = {text.text: text.get("style") for text in root.iter(f"{SVG}text")}
    assert {"SRCNN", "DRFN†", "trainable parameters"} <= texts.keys()
    assert all("sans-serif" in str(style) for style in texts.values())


def test_the_png_and_the_pdf_have_a_title() -> None:
    with Image.open(BytesIO(plot(RUNS, paper()).render("png"))) as image:
        assert "parameters against PSNR" in image.info["Title"]
        assert "SRCNN 57.3k" in image.info["Description"]
    pdf = plot(RUNS, paper()).render("pdf")
    assert b"parameters against PSNR" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_the_title_of_a_stranger_is_text() -> None:
    canvas = matplotlib.figure.Figure
    svg = Figure("a b", canvas, title="<b>\x00", description='"&').render("svg")
    root = ElementTree.fromstring(svg)
    title, desc, *_ = root
    assert (title.text, desc.text) == ("<b>\\x00", '"&')
    assert str(root.get("aria-labelledby")).split() == [title.get("id"), desc.get("id")]


def test_the_png_is_large_enough_to_print() -> None:
    with Image.open(BytesIO(plot(RUNS, paper()).render("png"))) as image:
        assert image.width >= 1000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (10, "10"),
        (100, "100"),
        (57_281, "57.3k"),
        (100_000, "100k"),
        (999_700, "1M"),
        (5_207_203, "5.21M"),
        (22e6, "22M"),
        (1_500_000_000, "1500M"),
    ],
)
def test_counts_are_short(count: float, text: str) -> None:
    assert short_count(count) == text


PLANE = LabelBox(0, 0, 1000, 1000)


def texts(count: int, width: float = 60, said: str = "name") -> Texts:
    return Texts({i: said for i in range(count)}, lambda *_: (width, 12), gap=6, reach=60)


def place(points: list[tuple[float, float]], width: float = 60) -> list[Label]:
    return label_points(points, [texts(len(points), width)], PLANE)


def apart(one: LabelBox, other: LabelBox) -> bool:
    return (
        one.x + one.width <= other.x
        or other.x + other.width <= one.x
        or one.y + one.height <= other.y
        or other.y + other.height <= one.y
    )


def test_a_lonely_point_has_its_name_on_the_right() -> None:
    (label,) = place([(500, 500)])
    assert label == Label(0, "name", LabelBox(509, 494, 60, 12), None, 0)


def test_at_the_right_edge_it_is_on_the_left() -> None:
    (label,) = place([(980, 500)])
    assert label.box.x + label.box.width < 980


@given(st.lists(st.tuples(st.integers(2, 7), st.integers(2, 30)), max_size=20, unique=True))
def test_names_of_points_that_are_not_crowded_never_overlap(cells: list[tuple[int, int]]) -> None:
    labels = place([(120.0 * x, 30.0 * y) for x, y in cells], width=80)
    assert all(apart(one.box, other.box) for one, other in combinations(labels, 2))
    assert not any(label.covers or label.leader for label in labels)


def test_two_points_that_touch_have_their_names_on_two_sides() -> None:
    one, other = place([(500, 500), (505, 502)])
    assert apart(one.box, other.box)


def test_a_name_that_has_no_room_beside_its_point_has_a_line_to_it() -> None:
    around = [(500.0 + 24 * x, 500.0 + 24 * y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    (label,) = label_points(around, [Texts({4: "name"}, lambda *_: (60, 12), 6, 60)], PLANE)
    assert label.leader and not label.covers
    (x, y), end = label.leader
    assert label.box.x <= x <= label.box.x + label.box.width
    assert abs(end[0] - 500) <= 6 and abs(end[1] - 500) <= 6


def test_a_name_crosses_no_line() -> None:
    link = ((530.0, 400.0), (530.0, 600.0))
    (label,) = label_points([(500, 500)], [texts(1)], PLANE, [link])
    assert label.box.x + label.box.width < 500


def test_where_names_have_no_room_the_next_texts_are_taken() -> None:
    points = [(500.0 + 13 * (i % 5), 500.0 + 13 * (i // 5)) for i in range(25)]
    names, numbers = texts(25, width=200), texts(25, width=6, said="1")
    assert {label.text for label in label_points(points, [names, numbers], PLANE)} == {"1"}
    (label,) = label_points(points, [names._replace(by_point={24: "name"}), numbers], PLANE)
    assert label.text == "name"


def test_no_points_have_no_names() -> None:
    assert label_points([], [texts(0), texts(0)], PLANE) == []
