from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from msgspec.structs import replace as replace_fields
from PIL import Image

from harness.paper.findings import Findings
from harness.paper.schema import Paper, Plot, Source, Table, paper
from harness.record import RunRecord
from harness.report import plot
from harness.report.plot import _DPI as DPI
from harness.report.plot import COUNTED, Figure, Point, _draw, short_count
from harness.run.store import ResultStore
from tests.records import frame, record

DRFN = paper("drfn2020")


def run(
    model: str, psnr: float, parameters: int, dataset: str = "set14", tag: str = "official"
) -> RunRecord:
    return replace(record(model, dataset, [psnr], tag=tag), parameters=parameters)


RUNS = frame(
    run("srcnn", 27.504, 57_281),
    run("vdsr", 28.02, 665_921),
    run("vdsr", 31.35, 665_921, "set5"),
    run("drfn", 28.1, 5_207_203, tag="repro"),
    run("mine", 28.3, 3_600),
    run("bicubic", 26.0, 0),
)


def points(runs: pd.DataFrame) -> list[Point]:
    return plot.points(Findings(runs, DRFN, None), DRFN.plots[0])


def figure5(runs: pd.DataFrame = RUNS) -> Figure:
    (figure,) = plot.plots(Findings(runs, DRFN, None))
    return figure


def test_printed_points_carry_the_numbers_of_the_text_and_of_table_2() -> None:
    found = [p for p in points(RUNS) if p.kind == "printed" and not p.remark]
    assert {p.model: (p.parameters, p.psnr) for p in found} == {
        "rdn": (22_000_000, 28.81),
        "drfn": (5_200_000, 28.62),
    }


def test_counts_that_are_not_printed_are_those_of_the_networks() -> None:
    counted = {p.model: p.parameters for p in points(RUNS) if p.remark == COUNTED}
    assert counted == {
        "srcnn": 57_281,
        "fsrcnn": 12_644,
        "vdsr": 665_921,
        "lapsrn": 814_242,
        "memnet": 693_640,
        "edsr": 43_089_923,
        "srmdnf": 1_552_048,
        "msrn": 6_078_019,
        "dcsr": 665_921,
    }


def test_measured_points_come_from_the_records_of_set14() -> None:
    measured = [p for p in points(RUNS) if p.run]
    assert {p.model: (p.parameters, p.psnr) for p in measured} == {
        "srcnn": (57_281, 27.504),
        "vdsr": (665_921, 28.02),
        "drfn": (5_207_203, 28.1),
        "mine": (3_600, 28.3),
    }
    assert {p.method: p.kind for p in measured} == {
        "SRCNN": "measured",
        "VDSR": "measured",
        "DRFN†": "measured",
        "mine": "measured",
    }
    assert {p.model for p in measured if p.own} == {"mine"}


def test_weights_that_were_trained_briefly_are_grey_and_say_how_long() -> None:
    brief = {p.name: p for p in points(REFERENCE) if p.kind == "trained"}
    assert brief.keys() == {"DRFN (trained 78 min)", "edsr-baseline (trained 16 min)"}
    assert "measured here, trained 78 min" in brief["DRFN (trained 78 min)"].text
    names_of = {text.get_text(): text for text in names(figure5(REFERENCE).draw().axes[0])}
    assert brief.keys() | {"DRFN"} <= names_of.keys()
    assert names_of["DRFN"].get_size() > names_of["DRFN (trained 78 min)"].get_size()


def test_a_network_of_one_s_own_is_no_stranger_s_and_stands_out() -> None:
    runs = frame(run("mine", 28.3, 3_600, tag="mine"), run("vdsr", 28.02, 665_921, tag="mine"))
    own, other = sorted((p for p in points(runs) if p.run), key=lambda p: p.method, reverse=True)
    assert (own.name, own.kind, other.name) == ("mine", "measured", "VDSR†")
    drawn = figure5(runs).draw()
    colours = {text.get_text(): text.get_color() for text in names(drawn.axes[0])}
    assert colours["mine"] != colours["VDSR†"] == colours["VDSR"]
    assert "† Not the authors' weights of this network." in note(drawn)


def test_another_checkpoint_of_a_printed_network_is_no_network_of_one_s_own() -> None:
    """Nor is a published one that the paper leaves out, such as edsr-baseline."""
    runs = frame(
        run("vdsr", 31.35, 665_921, "set5"),
        run("vdsr", 28.01, 665_921, tag="mine"),
        run("edsr-baseline", 28.58, 1_517_571, tag="mine"),
    )
    found = {p.name: p.own for p in points(runs) if p.run}
    assert found == {"VDSR:mine†": False, "edsr-baseline†": False}


def test_a_run_whose_record_says_no_parameters_has_no_place() -> None:
    runs = frame(record("vdsr"))
    assert runs["parameters"].tolist() == [None]
    assert not [p for p in points(runs) if p.run]


def test_counts_are_those_of_the_networks_at_the_scale_of_the_plot() -> None:
    table = Table(
        id="t",
        title="T",
        columns=("set5",),
        cells="x2 | Fast | 37.00/0.9500\nx2 | ? | 36.00/0.9000",
    )
    at_x2 = Plot(id="p", title="P", set="set5", scale=2)
    methods = {"Fast": "edsr-baseline", "?": ""}
    source = Source(id="small", title="Small", subject="Fast")
    small = Paper(source=source, methods=methods, tables=(table,), plots=(at_x2,))
    findings = Findings(frame(), small, None)
    (point,) = plot.points(findings, at_x2)
    assert (point.method, point.remark, point.parameters) == ("Fast", COUNTED, 1_369_859)
    (figure,) = plot.plots(findings)
    counted, _, absent = note(figure.draw()).partition(". ")
    assert counted == "Parameters counted on the networks"
    assert absent == "Not shown (no parameters known): ?."


def test_without_a_paper_there_is_none() -> None:
    assert plot.plots(Findings(RUNS, None, None)) == []


def test_numbers_that_cannot_be_measured_have_no_place() -> None:
    def changed(**values: object) -> Paper:
        (table, *others) = DRFN.tables
        other = replace_fields(table, id="other", **values)
        return replace_fields(DRFN, tables=(other, table, *others), doubts=())

    same = plot.points(Findings(RUNS, DRFN, None), DRFN.plots[0])
    cells = DRFN.tables[0].cells.replace("28.62", "27.62")
    assert "27.62" in cells
    blurred = changed(degradation="BD", cells=cells)
    assert plot.points(Findings(RUNS, blurred, None), DRFN.plots[0]) == same
    assert plot.points(Findings(RUNS, changed(cells=cells), None), DRFN.plots[0]) != same


def test_a_run_is_not_joined_to_a_method_without_network() -> None:
    unknown = replace_fields(DRFN, methods={**DRFN.methods, "VDSR": ""})
    found = plot.points(
        Findings(RUNS, unknown, None), replace_fields(DRFN.plots[0], parameters={"VDSR": 7e5})
    )
    assert {p.model for p in found if p.method.lower() == "vdsr"} == {"~vdsr", "vdsr"}


def test_what_has_no_place_is_named() -> None:
    assert note(figure5().draw()).endswith("Not shown (no parameters known): Bicubic.")


def test_the_notes_are_short() -> None:
    assert below(figure5(REFERENCE).draw()).get_text().count("\n") < 2


def note(canvas: matplotlib.figure.Figure) -> str:
    """The notes below, as one line."""
    return below(canvas).get_text().replace("\n", " ")


def below(canvas: matplotlib.figure.Figure) -> Text:
    """The notes below the plot and its legend."""
    (notes,) = canvas.findobj(Annotation)
    assert isinstance(notes, Text)
    return notes


def names(plane: Axes) -> list[Text]:
    """The names beside the points."""
    return [text for text in plane.texts if not isinstance(text, Annotation)]


SVG = "{http://www.w3.org/2000/svg}"
REFERENCE = ResultStore(Path(__file__).parents[2] / "results/reference").read().table()


def crowd(count: int, name: str = "network {}", dB: float = 0.05) -> pd.DataFrame:
    """The reference runs and many of a researcher's own."""
    own = [
        run(name.format(i), 27.2 + i * 7 % count * dB, 30_000 + int(5e6 * (i / count) ** 3))
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


CROWDS = {
    "the committed figure": REFERENCE,
    "twelve": crowd(12, "模型 {}", 1.6 / 12),
    "25 short names": crowd(25, dB=1.6 / 25),
    "25 long names": crowd(25, "network-" * 6 + "{}", 1.6 / 25),
    "sixty": crowd(60, "n{}", 1.6 / 60),
    "one at 13 dB": pd.concat([REFERENCE, frame(run("broken", 13.04, 300_000))]),
}


@pytest.mark.parametrize("dpi", [72, DPI])  # of the SVG and of the PNG
@pytest.mark.parametrize("runs", CROWDS.values(), ids=CROWDS)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_nothing_covers_anything(runs: pd.DataFrame, dpi: int) -> None:
    drawn = figure5(runs).draw()
    drawn.set_dpi(dpi)
    (plane,) = drawn.axes
    texts = [text.get_window_extent() for text in names(plane)]
    legend, notes = plane.get_legend().get_window_extent(), below(drawn).get_window_extent()
    assert not any(one.overlaps(other) for one, other in combinations(texts, 2))
    assert not any(one.overlaps(mark) for one in texts for mark in visible(plane))
    joined = [line.get_path().transformed(line.get_transform()) for line in plane.lines]
    assert not any(path.intersects_bbox(one) for path in joined for one in texts)
    inside = plane.get_window_extent()
    assert all(inside.fully_containsx(n.x0) and inside.fully_containsx(n.x1) for n in texts)
    assert all(inside.fully_containsy(n.y0) and inside.fully_containsy(n.y1) for n in texts)
    around = [plane.xaxis.get_tightbbox(), plane.yaxis.get_tightbbox(), legend, notes]
    assert not any(one.overlaps(other) for one, other in combinations(around, 2))
    assert legend.y0 > inside.y1
    assert all(one.x0 >= 0 and one.x1 <= drawn.bbox.width for one in around)


def test_of_twenty_five_networks_most_are_named_and_the_others_listed() -> None:
    runs = CROWDS["25 short names"]
    drawn = figure5(runs).draw()
    beside = {text.get_text() for text in names(drawn.axes[0])}
    expected = {point.name for point in points(runs)}
    missing = note(drawn).partition(". ")[0]
    assert beside <= expected and len(beside) > 0.7 * len(expected)
    assert missing.startswith("Not named: ")
    assert all(name in missing for name in expected - beside)
    assert not any(name in missing.replace(",", " ,").split() for name in beside)


def test_a_network_far_below_all_others_squashes_none() -> None:
    plain, runs = figure5(REFERENCE).draw(), CROWDS["one at 13 dB"]
    drawn = figure5(runs).draw()
    assert drawn.axes[0].get_ylim() == plain.axes[0].get_ylim()
    assert "broken, 13.04 dB" in [text.get_text() for text in names(drawn.axes[0])]
    (broken,) = (i for i, point in enumerate(points(runs)) if point.model == "broken")
    (mark,) = drawn.findobj(lambda one: one.get_gid() == f"point-{broken}")
    (_, at), *_ = mark.get_offsets()
    assert at == drawn.axes[0].get_ylim()[0]


def test_without_printed_points_all_are_on_the_axis() -> None:
    (plane,) = canvas(measured((5, 13), (5, 28))).axes
    low, high = plane.get_ylim()
    assert low < 13 and high > 28


@pytest.mark.parametrize("runs", [REFERENCE, CROWDS["25 long names"]])
def test_it_is_as_wide_as_a_column_of_a_paper(runs: pd.DataFrame) -> None:
    width = ElementTree.fromstring(figure5(runs).render("svg")).attrib["width"]
    assert 3.1 * 72 < float(width.removesuffix("pt")) <= 3.3 * 72


def test_each_name_stands_at_its_point() -> None:
    runs = crowd(25)
    drawn = {point.name: point for point in reversed(points(runs))}
    (plane,) = figure5(runs).draw().axes
    for text in names(plane):
        point, box = place(drawn[text.get_text()], plane), text.get_window_extent()
        assert box.padded(10 / 72 * DPI).contains(*point)


@pytest.mark.parametrize(
    ("logarithms", "labels"),
    [((4.7, 6.7), ["0.1", "1", "10"]), ((6, 6.2), ["1", "2"]), ((6.1, 6.1), ["1"])],
)
def test_the_axis_counts_in_millions(logarithms: Sequence[float], labels: list[str]) -> None:
    (plane,) = canvas(measured(*((one, 27.0) for one in logarithms))).axes
    low, high = plane.get_xlim()
    shown = [tick for tick in plane.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert [tick.label1.get_text() for tick in shown] == labels
    assert plane.get_xlabel() == "Parameters (M)"


def test_a_measured_point_is_joined_to_its_printed_one() -> None:
    (plane,) = figure5().draw().axes
    joined = [tuple(line.get_xdata()) for line in plane.lines if line.get_color() == "0.6"]
    assert sorted(joined) == [(57_281, 57_281), (665_921, 665_921), (5_200_000, 5_207_203)]


def test_one_that_was_trained_briefly_is_not_joined() -> None:
    (plane,) = figure5(REFERENCE).draw().axes
    assert max(line.get_xdata()[0] for line in plane.lines) < 5_000_000


@pytest.mark.parametrize("drawn", [[], [Point("a", "A", "measured", 1e5, 27)]])
def test_one_point_or_none_can_be_drawn(drawn: list[Point]) -> None:
    (plane,) = canvas(drawn).axes
    assert [text.get_text() for text in names(plane)] == [point.method for point in drawn]


def test_each_network_of_the_committed_figure_has_one_name_nearest_to_its_mark() -> None:
    (plane,) = figure5(REFERENCE).draw().axes
    drawn = points(REFERENCE)
    texts = {text.get_text(): text.get_window_extent() for text in names(plane)}
    assert len(texts) == len(names(plane)) and texts.keys() == {point.name for point in drawn}
    for name, box in texts.items():
        near = min(drawn, key=lambda point: gap(box, *place(point, plane)))
        assert near.model == next(point.model for point in drawn if point.name == name)


def gap(box: Bbox, x: float, y: float) -> float:
    """The distance of a point from a box."""
    across, up = max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1)
    return float(np.hypot(across, up))


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_it_is_the_same_bytes_whatever_the_user_has_set(form: str) -> None:
    before = figure5().render(form)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert figure5().render(form) == before
    assert matplotlib.rcParams["svg.hashsalt"] is None


def test_the_svg_has_a_title_and_its_text_is_text() -> None:
    root = ElementTree.fromstring(figure5().render("svg"))
    assert "parameters against PSNR on Set14" in str(root.findtext(f"{SVG}title"))
    texts = {text.text: text.get("style") for text in root.iter(f"{SVG}text")}
    assert {"SRCNN", "mine", "Parameters (M)"} <= texts.keys()
    assert all("sans-serif" in str(style) for style in texts.values())


def test_the_png_and_the_pdf_have_a_title() -> None:
    with Image.open(BytesIO(figure5().render("png"))) as image:
        assert "parameters against PSNR" in image.info["Title"]
    pdf = figure5().render("pdf")
    assert b"parameters against PSNR" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_the_title_of_a_stranger_is_text() -> None:
    svg = Figure("a b", matplotlib.figure.Figure, "<b>\x00&").render("svg")
    assert ElementTree.fromstring(svg).findtext(f"{SVG}title") == "<b>\\x00&"


def test_the_png_is_large_enough_to_print() -> None:
    with Image.open(BytesIO(figure5().render("png"))) as image:
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


def measured(*places: tuple[float, float]) -> list[Point]:
    """Networks by the logarithm of their parameters and their PSNR."""
    return [Point(str(i), f"name {i}", "measured", 10**x, y) for i, (x, y) in enumerate(places)]


CORNERS = ((4.0, 25.0), (7.0, 30.0))
"""They span the plot, about 55 points a decade and 24 a dB."""


def canvas(drawn: list[Point], *notes: str) -> matplotlib.figure.Figure:
    return _draw(drawn, "PSNR (dB)", notes)


def drawn_texts(drawn: list[Point]) -> list[Text]:
    (plane,) = canvas(drawn).axes
    return names(plane)


def place(drawn: Point, plane: Axes) -> tuple[float, float]:
    x, y = plane.transData.transform((drawn.parameters, drawn.psnr))
    return float(x), float(y)


def test_a_lonely_point_has_its_name_on_the_right() -> None:
    drawn = measured((5.5, 27.5), *CORNERS)
    name, *_ = drawn_texts(drawn)
    x, y = place(drawn[0], name.axes)
    near, box = 5 / 72 * DPI, name.get_window_extent()
    assert 0 < box.x0 - x < near and abs(box.y0 - y) < near


def test_at_the_right_edge_it_is_on_the_left() -> None:
    drawn = [*measured(*CORNERS), Point("wide", "a name of many letters", "measured", 1e7, 27)]
    *_, name = drawn_texts(drawn)
    assert name.get_window_extent().x1 < place(drawn[-1], name.axes)[0]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=12, unique=True))
def test_names_of_points_that_are_not_crowded_never_overlap(cells: list[tuple[int, int]]) -> None:
    drawn = measured(*((4 + 0.9 * x, 25 + 0.55 * y) for x, y in cells))
    texts = drawn_texts(drawn)
    assert [text.get_text() for text in texts] == [point.method for point in drawn]
    extents = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in combinations(extents, 2))


def test_two_points_that_touch_have_their_names_on_two_sides() -> None:
    one, other, *_ = drawn_texts(measured((5.5, 27.5), (5.53, 27.53), *CORNERS))
    assert not one.get_window_extent().overlaps(other.get_window_extent())


def test_a_name_crosses_no_line() -> None:
    ends = measured((5.7, 29), (5.7, 26), (5.6, 27.5), *CORNERS)
    drawn = [replace(ends[0], model="a"), replace(ends[1], model="a", method="name 0"), *ends[2:]]
    name = drawn_texts(drawn)[1]
    assert name.get_text() == "name 2"
    assert name.get_window_extent().x1 < place(drawn[2], name.axes)[0]


def test_names_that_have_no_room_are_listed_below() -> None:
    crowded = measured(*((5 + 0.1 * (i % 5), 27 + 0.2 * (i // 5)) for i in range(25)), *CORNERS)
    long = [replace(point, method=10 * f"{point.method} ") for point in crowded]
    drawn = canvas(long, "A note.")
    missing, note = below(drawn).get_text().replace("\n", " ").rsplit(". ", 1)
    beside = {text.get_text() for text in names(drawn.axes[0])}
    assert note == "A note." and missing.startswith("Not named: ") and len(beside) < 10
    assert all((point.method in missing) != (point.method in beside) for point in long)
    assert below(canvas(measured(*CORNERS))).get_text() == ""
