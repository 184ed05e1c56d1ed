"""Figure 5 of the paper: parameters against PSNR on Set14, printed and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from harness.paper.judgement import listed
from harness.paper.selection import choose_runs
from harness.registry import register_report
from harness.report.figures import Figure
from harness.report.labels import Box, place_labels
from harness.report.marks import TRAINED_HERE, dagger, dagger_note

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import axes, figure

    from harness.specs import GreyRule

Kind = Literal["printed", "declared", "reading", "measured", "trained"]
KINDS: Mapping[Kind, str] = {
    "printed": "printed: both numbers are in the paper",
    "declared": "PSNR printed; parameters not: those of the network as published",
    "reading": "PSNR printed; parameters not: those of the network as it is read here",
    "measured": "measured here",
    "trained": f"measured here, not with the authors' weights ({TRAINED_HERE})",
}
MEASURED: frozenset[Kind] = frozenset({"measured", "trained"})
SUBJECT = "drfn"
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


@dataclass(frozen=True)
class Point:
    """One network on the plane.

    Attributes:
        method: as the paper writes it, with a dagger where other weights than the authors' ran.
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


def points(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None) -> list[Point]:
    """Printed points, then measured ones.

    Where the paper prints no parameter count, that of the network as published is taken.
    """
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    found = []
    for point in paper["figure5"]["points"]:
        model, counted = point["model"], point["parameters"]
        kind: Kind = "printed" if point["parameters_printed"] else "declared"
        kind = "reading" if point.get("reading") else kind
        found.append(Point(model, methods[model], kind, counted, point["psnr"]))
    for model, run in _measured(runs, paper, grey).items():
        own = dagger(run["record"])
        kind = "trained" if own else "measured"
        method, count = methods.get(model, model) + own, int(run["parameters"])
        found.append(Point(model, method, kind, count, float(run["psnr"]), run["id"]))
    return found


def _measured(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None
) -> dict[str, pd.Series[Any]]:
    """The run on the figure's set of each model that has parameters."""
    chosen = choose_runs(runs, paper["figure5"]["scale"], grey).items()
    return {
        model: run
        for (model, dataset), run in chosen
        if dataset == paper["figure5"]["set"] and run["parameters"] > 0
    }


def footnotes(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, drawn: Sequence[Point]
) -> list[str]:
    """What has no place in the figure, and what its dagger means."""
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    absent = unplaced(paper, drawn)
    said = [f"Not placed, having no parameters or no known count: {listed(absent)}."]
    records = [run["record"] for run in _measured(runs, paper, grey).values()]
    return [*(said if absent else []), *filter(None, [dagger_note(records, methods)])]


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
def figure5(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Figure:
    """Parameters (log axis) against PSNR on Set14: printed points hollow, measured ones filled.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.paper` gives.
        grey: the rule whose runs are shown; None for each row's own.
    """
    drawn = points(runs, paper, grey)
    return Figure("figure5", lambda: _draw(drawn, footnotes(runs, paper, grey, drawn)))


def _draw(drawn: Sequence[Point], notes: Sequence[str]) -> figure.Figure:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, NullLocator

    canvas = Canvas(figsize=(7.2, 6), dpi=_DPI)
    plane = canvas.add_axes((0.09, 0.33, 0.89, 0.65))
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
    below = plane.legend(loc="upper left", edgecolor="none", fontsize=8, labelspacing=0.7)
    below.set_bbox_to_anchor((-0.02, -0.12), plane.transAxes)
    _write_names(plane, drawn)
    text = "\n".join(line for note in notes for line in wrap(note, 125))
    canvas.text(0.09, 0.02, text, fontsize=7, color="0.35")
    return canvas


def _connect(plane: axes.Axes, drawn: Sequence[Point]) -> None:
    """A thin line from what is printed of a network to what was measured of it."""
    printed = {point.model: point for point in drawn if point.kind not in MEASURED}
    for point in drawn:
        if point.kind in MEASURED and (start := printed.get(point.model)):
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
