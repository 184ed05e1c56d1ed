"""Figure 5 of the paper: parameters against PSNR on Set14, printed and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.paper.selection import choose_runs
from harness.registry import register_report
from harness.report.figures import Figure
from harness.report.labels import Box, place_labels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import axes, figure

    from harness.specs import GreyRule

Kind = Literal["printed", "declared", "measured"]
KINDS: Mapping[Kind, str] = {
    "printed": "printed: both numbers are in the paper",
    "declared": "PSNR printed; parameters not: those of the network as published",
    "measured": "measured here",
}
SUBJECT = "drfn"
_HOLLOW = {"facecolor": "none", "zorder": 4}
_STYLES: Mapping[Kind, Mapping[str, Any]] = {
    "printed": {**_HOLLOW, "marker": "o", "s": 75, "edgecolor": "#9a4a00", "linewidth": 1.6},
    "declared": {**_HOLLOW, "marker": "D", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "measured": {"s": 26, "marker": "o", "color": "#0b62a4", "zorder": 3},
}
"""Hollow marks are larger than filled ones, so that neither hides the other."""
_DPI = 100


@dataclass(frozen=True)
class Point:
    """One network on the plane.

    Attributes:
        method: as the paper writes it.
        parameters: trainable values.
        psnr: on Set14, in dB.
        run: the id of the run that measured it, or empty.
    """

    model: str
    method: str
    kind: Kind
    parameters: float
    psnr: float
    run: str = ""


def points(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule) -> list[Point]:
    """Printed points, then measured ones.

    Where the paper prints no parameter count, that of the network as published is taken.
    """
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    found = []
    for point in paper["figure5"]["points"]:
        model = point["model"]
        kind: Kind = "printed" if point["parameters_printed"] else "declared"
        found.append(Point(model, methods[model], kind, point["parameters"], point["psnr"]))
    for (model, dataset), run in choose_runs(runs, paper["figure5"]["scale"], grey).items():
        if dataset == paper["figure5"]["set"] and run["parameters"] > 0:
            method, count = methods.get(model, model), int(run["parameters"])
            found.append(Point(model, method, "measured", count, float(run["psnr"]), run["id"]))
    return found


def unplaced(paper: Mapping[str, Any], drawn: Sequence[Point]) -> list[str]:
    """Methods of Table 2 that have no place: no parameters, or no count that is known."""
    models = {point.model for point in drawn}
    return [row["method"] for row in paper["table2"]["rows"] if row["model"] not in models]


def named(drawn: Sequence[Point]) -> list[int]:
    """Which points get a name: all but those that a named one of their network all but covers."""
    chosen: list[int] = []
    for index, point in enumerate(drawn):
        twins = (drawn[i] for i in chosen if drawn[i].model == point.model)
        if not any(_close(point, twin) for twin in twins):
            chosen.append(index)
    return chosen


def _close(one: Point, other: Point) -> bool:
    return abs(one.psnr - other.psnr) < 0.1 and 0.8 < one.parameters / other.parameters < 1.25


@register_report("figure5")
def figure5(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule = "full-range") -> Figure:
    """Parameters (log axis) against PSNR on Set14: printed points hollow, measured ones filled.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.paper` gives.
        grey: the rule whose runs are shown.
    """
    drawn = points(runs, paper, grey)
    return Figure("figure5", lambda: _draw(drawn, unplaced(paper, drawn)))


def _draw(drawn: Sequence[Point], absent: Sequence[str]) -> figure.Figure:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, NullLocator

    canvas = Canvas(figsize=(7.2, 4.8), dpi=_DPI)
    plane = canvas.add_axes((0.09, 0.17, 0.89, 0.8))
    plane.set(
        xscale="log", xlabel="trainable parameters", ylabel="PSNR on Set14, x4 (dB)", axisbelow=True
    )
    plane.spines[["top", "right"]].set_visible(False)
    plane.grid(color="0.9", linewidth=0.8)
    _connect(plane, drawn)
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
    plane.legend(loc="upper left", edgecolor="none", framealpha=1, fontsize=8, labelspacing=0.9)
    _write_names(plane, drawn)
    if absent:
        text = f"Not placed, having no parameters or no known count: {', '.join(absent)}."
        canvas.text(0.09, 0.02, text, fontsize=7, color="0.35")
    return canvas


def _connect(plane: axes.Axes, drawn: Sequence[Point]) -> None:
    """A thin line from what is printed of a network to what was measured of it."""
    printed = {point.model: point for point in drawn if point.kind != "measured"}
    for point in drawn:
        if point.kind == "measured" and (start := printed.get(point.model)):
            across = [start.parameters, point.parameters]
            plane.plot(across, [start.psnr, point.psnr], color="0.6", linewidth=1, zorder=2)


def short_count(value: float) -> str:
    """A count in thousands or millions: ``57.3k``, ``5.21M``."""
    size, letter = (1e6, "M") if value >= 1e6 else (1e3, "k")
    return f"{value / size:.3g}{letter}"


def _write_names(plane: axes.Axes, drawn: Sequence[Point]) -> None:
    """Write names beside the points, in places measured in the canvas's pixels."""
    spots = [tuple(plane.transData.transform((p.parameters, p.psnr))) for p in drawn]
    texts = [
        plane.annotate(
            drawn[index].method,
            (drawn[index].parameters, drawn[index].psnr),
            (0, 0),
            textcoords="offset points",
            va="bottom",
            fontsize=8.5,
            fontweight="bold" if drawn[index].model == SUBJECT else "normal",
        )
        for index in named(drawn)
    ]
    extents = [text.get_window_extent() for text in texts]
    labels = [(i, e.width, e.height) for i, e in zip(named(drawn), extents, strict=True)]
    inside = plane.get_window_extent()
    within = Box(inside.x0, inside.y0, inside.width, inside.height)
    places = place_labels(spots, labels, within, gap=9)
    for text, (index, *_), place in zip(texts, labels, places, strict=True):
        away = (place.x - spots[index][0], place.y - spots[index][1])
        text.set_position((away[0] * 72 / _DPI, away[1] * 72 / _DPI))
