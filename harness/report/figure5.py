"""Figure 5 of the paper: parameters against PSNR on Set14, printed and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from harness.registry import register_report
from harness.report.figure5_points import (
    KINDS,
    SUBJECT,
    Kind,
    Point,
    described,
    footnotes,
    is_named,
    key_order,
    links,
    named,
    numbered,
    points,
    room_for,
    short_count,
)
from harness.report.figures import Figure
from harness.report.labels import Box, Label, Texts, label_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import axes, figure, text

    from harness.cards import GreyRule

_HOLLOW = {"facecolor": "none", "zorder": 4}
_STYLES: Mapping[Kind, Mapping[str, Any]] = {
    "printed": {**_HOLLOW, "marker": "o", "s": 75, "edgecolor": "#9a4a00", "linewidth": 1.6},
    "declared": {**_HOLLOW, "marker": "D", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "reading": {**_HOLLOW, "marker": "s", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "measured": {"s": 26, "marker": "o", "color": "#0b62a4", "zorder": 3},
    "trained": {"s": 38, "marker": "^", "color": "#0b62a4", "zorder": 3},
}
"""Hollow marks are larger than filled ones, so that neither hides the other."""
_DPI = 100
_WIDTH, _LEFT, _PLANE, _BELOW, _ABOVE, _LEGEND = 7.2, 0.648, (6.408, 3.9), 1.98, 0.12, 0.468
"""In inches: the figure, the plane's left edge, the plane, and what is below and above it; how far
below it the legend is."""
_KEY_TOP, _LINE, _NUMBER = 0.53, 0.145, 0.5
"""In inches: how far the key is from the bottom, the height of its lines, room for a number."""
_NOTE_LINE, _NOTE_LINES = 0.12, 3
"""The height of a line of the notes, in inches, and for how many lines there is room."""
_KEY_WIDTH = 48
"""Letters on a line of the key; longer names go on below."""


@register_report("figure5")
def figure5(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Figure:
    """Parameters (log axis) against PSNR on Set14: printed points hollow, measured ones filled.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.schema.paper` gives.
        grey: the rule whose runs are shown; None for each row's own.
    """
    drawn = points(runs, paper, grey)
    notes = footnotes(runs, paper, grey, drawn)
    title = f'Figure 5 of "{paper["source"]["title"]}": parameters against PSNR on Set14'
    said = " ".join([described(drawn), *notes])
    return Figure("figure5", lambda: _draw(drawn, notes), title=title, description=said)


def _draw(drawn: Sequence[Point], notes: Sequence[str]) -> figure.Figure:
    """Draw the points with their names, a legend, and notes below."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    canvas = Canvas(dpi=_DPI)
    plane = canvas.add_axes((0, 0, 1, 1))
    high = _PLANE[1] * room_for(len(named(drawn)))
    _lay_out(canvas, plane, high, _BELOW)
    plane.set(
        xscale="log", xlabel="trainable parameters", ylabel="PSNR on Set14, x4 (dB)", axisbelow=True
    )
    plane.spines[["top", "right"]].set_visible(False)
    plane.grid(color="0.9", linewidth=0.8)
    for ends in links(drawn):
        across, up = [drawn[i].parameters for i in ends], [drawn[i].psnr for i in ends]
        plane.plot(across, up, color="0.6", linewidth=1, zorder=2)
    for kind, label in KINDS.items():
        some = [point for point in drawn if point.kind == kind]
        plane.scatter(
            [p.parameters for p in some],
            [p.psnr for p in some],
            label=label,
            **_STYLES[kind],
        )
    plane.margins(0.12, 0.1)
    plane.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    plane.xaxis.set_minor_locator(NullLocator())
    plane.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    legend = plane.legend(loc="upper left", edgecolor="none", fontsize=8, labelspacing=0.7)
    legend.set_bbox_to_anchor((-0.02, -_LEGEND / high), plane.transAxes)
    plane.autoscale_view()
    labels = _write_labels(plane, drawn)
    key = [] if is_named(labels, drawn) else [drawn[index] for index in key_order(drawn)]
    below = _write_below(
        canvas, key, [line for note in notes for line in wrap(note, 115, break_on_hyphens=False)]
    )
    _lay_out(canvas, plane, high, below)
    return canvas


def _lay_out(canvas: figure.Figure, plane: axes.Axes, high: float, below: float) -> None:
    """Give the figure its size and the plane its place, with some inches below it."""
    height = below + high + _ABOVE
    canvas.set_size_inches(_WIDTH, height)
    plane.set_position((_LEFT / _WIDTH, below / height, _PLANE[0] / _WIDTH, high / height))


def _write_labels(plane: axes.Axes, drawn: Sequence[Point]) -> list[Label]:
    """Write names beside the points, or numbers, in places measured in the canvas's pixels."""
    spots = [tuple(plane.transData.transform((p.parameters, p.psnr))) for p in drawn]
    inside = plane.get_window_extent().padded(-3)
    within = Box(inside.x0, inside.y0, inside.width, inside.height)

    def write(index: int, said: str) -> text.Annotation:
        point = (drawn[index].parameters, drawn[index].psnr)
        is_name = said == drawn[index].method
        look: dict[str, Any] = {"va": "bottom", "fontweight": _weight(drawn[index])}
        look["fontsize"] = 8.5 if is_name else 7.5
        return plane.annotate(said, point, (0, 0), textcoords="offset points", **look)

    def size(index: int, said: str) -> tuple[float, float]:
        written = write(index, said)
        extent = written.get_window_extent()
        written.remove()
        return extent.width, extent.height

    joined = [(spots[start], spots[end]) for start, end in links(drawn)]
    choices = [Texts(named(drawn), size, 9, 80), Texts(numbered(drawn), size, 6, 80)]
    labels = label_points(spots, choices, within, joined)
    for label in labels:
        _move(write(label.point, label.text), label, spots[label.point])
        _draw_leader(plane, label)
    return labels


def _weight(point: Point) -> str:
    return "bold" if point.model == SUBJECT else "normal"


def _move(written: text.Annotation, label: Label, spot: tuple[float, float]) -> None:
    """Put a text in its place, held where it is nearest to its point: fonts differ in width."""
    x, y, width, _ = label.box
    side: Literal["left", "center", "right"] = "center"
    if x > spot[0]:
        side = "left"
    elif x + width < spot[0]:
        side = "right"
    sides = {"left": x, "center": x + width / 2, "right": x + width}
    written.set_horizontalalignment(side)
    written.set_position(((sides[side] - spot[0]) * 72 / _DPI, (y - spot[1]) * 72 / _DPI))


def _draw_leader(plane: axes.Axes, label: Label) -> None:
    from matplotlib.lines import Line2D

    if label.leader:
        across, up = zip(*plane.transData.inverted().transform(label.leader), strict=True)
        plane.add_artist(Line2D(across, up, color="0.45", linewidth=0.6, zorder=2))


def _write_below(canvas: figure.Figure, key: Sequence[Point], notes: Sequence[str]) -> float:
    """Write a key and notes at the bottom; give how many inches are needed below the plane."""
    inches = canvas.dpi_scale_trans
    look: dict[str, Any] = {"va": "top", "fontsize": 7.5, "transform": inches}
    texts = ["\n".join(wrap(point.method, _KEY_WIDTH)) for point in key]
    names = [
        canvas.text(0, 0, said, fontweight=_weight(point), **look)
        for said, point in zip(texts, key, strict=True)
    ]
    widest = max((name.get_window_extent().width for name in names), default=0) / _DPI + _NUMBER
    lines = [said.count("\n") + 1 for said in texts]
    places, tall = _columns(lines, columns=max(1, int(_PLANE[0] / widest)))
    bottom = max(0, len(notes) - _NOTE_LINES) * _NOTE_LINE
    for number, (name, (column, row)) in enumerate(zip(names, places, strict=True), start=1):
        x = _LEFT + _NUMBER / 2 + column * widest
        y = _KEY_TOP + bottom + (tall - row) * _LINE
        name.set_position((x, y))
        canvas.text(x - 0.06, y, str(number), ha="right", color="0.35", **look)
    canvas.text(_LEFT, 0.12, "\n".join(notes), fontsize=7, color="0.35", transform=inches)
    return _BELOW + bottom + (tall + 1) * _LINE * bool(key)


def _columns(lines: Sequence[int], columns: int) -> tuple[list[tuple[int, int]], int]:
    """Column and first line of each entry of a key, given its lines; and how high the key is."""
    height = -(-sum(lines) // columns)
    places, column, row, tall = [], 0, 0, 0
    for count in lines:
        if row >= height:
            column, row = column + 1, 0
        places.append((column, row))
        row += count
        tall = max(tall, row)
    return places, tall
