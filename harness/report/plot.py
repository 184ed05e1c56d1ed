"""Figures: parameters against PSNR of each network, as wide as a column of a paper."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import isfinite, log10
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import printable
from harness.models.cost import measure_complexity
from harness.models.find_weights import training_notes
from harness.paper.schema import title
from harness.registry import MODELS, register_report
from harness.report.legend import TRAINED_HERE, dagger, is_own
from harness.report.table import Format
from harness.text import listed

if TYPE_CHECKING:
    from matplotlib import axes, figure

    from harness.paper.findings import Findings
    from harness.paper.schema import Plot, Row
    from harness.paper.verdicts import JudgedCell
    from harness.record import RunRecord


_STYLE: dict[str, Any] = {
    "svg.hashsalt": "drfn-harness",
    # Keep text as text, so that it can be searched, edited and read aloud.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a name is just a character
    "pdf.compression": 0,  # builds of zlib compress differently
    "savefig.bbox": "tight",
}
_CHANGING: Mapping[str, Sequence[str]] = {
    "png": ["Software"],
    "svg": ["Creator", "Date"],
    "pdf": ["Creator", "Producer", "CreationDate"],
}
"""Metadata that differ between machines and days."""


@dataclass(frozen=True)
class Figure:
    """A figure that can be written in several formats, as large as what is drawn on it.

    Attributes:
        name: the stem of its files.
        draw: makes the matplotlib figure, with the style of this module.
        title: a title for screen readers.
        formats: the suitable ones of ``png``, ``svg`` and ``pdf``.
        dpi: dots per inch of the PNG.
        margin: around what is drawn, in inches.
    """

    name: str
    draw: Callable[[], figure.Figure]
    title: str
    formats: tuple[Format, ...] = ("png", "svg", "pdf")
    dpi: int = 150
    margin: float = 0.1

    def render(self, form: Format) -> bytes:
        """Render a PNG, SVG or PDF file."""
        from matplotlib import style
        from matplotlib.text import Text

        stream = BytesIO()
        metadata = {"Title": printable(self.title)} | dict.fromkeys(_CHANGING[form])
        # The user's matplotlibrc is ignored.
        with style.context(["default", _STYLE]), warnings.catch_warnings():
            # Matplotlib draws a box for a letter that the font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            drawn = self.draw()
            for text in drawn.findobj(Text):
                text.set_text(printable(text.get_text(), keep="\n"))
            drawn.savefig(
                stream, format=form, metadata=metadata, dpi=self.dpi, pad_inches=self.margin
            )
        return stream.getvalue()


Kind = Literal["printed", "measured", "trained"]

BRIEF = 10
"""With fewer passes over the training images a network is small and grey.

EDSR's 300,000 steps of 16 patches of 48x48 are about 80 passes over the 800 pictures of DIV2K.
"""


@dataclass(frozen=True)
class Point:
    """A network in the figure.

    Attributes:
        method: as the paper writes it, with a dagger if its weights are not those of the authors.
        kind: ``printed``, ``measured``, or ``trained``: measured with weights of a brief training.
        parameters: number of trainable values.
        psnr: on the figure's set, in dB.
        remark: a printed point's parameters were counted on the network; or the time of a brief
            training.
        run: the id of the run that measured it, or empty.
        own: the user's own network.
    """

    model: str
    method: str
    kind: Kind
    parameters: float
    psnr: float
    remark: str = ""
    run: str = ""
    own: bool = False

    @property
    def name(self) -> str:
        """The text beside the point."""
        return f"{self.method} ({self.remark})" if self.kind == "trained" else self.method

    @property
    def text(self) -> str:
        """The point in words."""
        count = f"{short_count(self.parameters)} parameters"
        source = "printed" if self.kind == "printed" else "measured here"
        how = ", ".join(filter(None, [source, self.remark]))
        return f"{self.method}: {count}, {self.psnr:.2f} dB ({how})"


def points(findings: Findings, plot: Plot) -> list[Point]:
    """List the printed points, then the measured ones.

    Where the paper prints no parameter count, that of the registered network is used.
    """
    printed: dict[str, Point] = {}
    measured: dict[str, Point] = {}
    for cell in _cells(findings, plot):
        model, method = cell.model, cell.row.method
        if cell.printed is not None and (count := _count(plot, cell.row)):
            remark = "" if method in plot.parameters else COUNTED
            printed.setdefault(model, Point(model, method, "printed", count, cell.printed, remark))
        # Published images and old records lack parameters; an image may have an infinite PSNR.
        if (run := cell.shown) and run.parameters and isfinite(run.means["psnr"]):
            measured.setdefault(model, _measured(cell, run, run.parameters))
    return [*printed.values(), *measured.values()]


COUNTED = "parameters counted on the network"
"""The remark on a point whose parameters the paper does not print."""


def _measured(cell: JudgedCell, run: RunRecord, parameters: int) -> Point:
    mark, notes = dagger(run, cell.row), training_notes(run)
    brief = mark == TRAINED_HERE and notes.passes is not None and notes.passes < BRIEF
    return Point(
        cell.model,
        cell.row.method + mark * (not brief),
        "trained" if brief else "measured",
        parameters,
        run.means["psnr"],
        f"trained {notes.duration}" if brief else "",
        run.identity.id,
        is_own(cell.row),
    )


def _cells(findings: Findings, plot: Plot) -> list[JudgedCell]:
    """List the cells that have a plot's PSNRs; self-ensemble makes no other network."""
    return [
        cell
        for one in findings.rows
        for cell in one.cells
        if (cell.dataset, one.row.scale, cell.metric) == (plot.set, plot.scale, "psnr")
        # Other LR images, or another border, give other PSNRs.
        if not one.row.self_ensemble and not one.row.table.obstacle(plot.scale)
    ]


def _count(plot: Plot, row: Row) -> float | None:
    """Return a network's number of parameters, as printed if it is; None if unknown."""
    card = MODELS.get(row.model) if row.model in MODELS else None
    if row.method in plot.parameters or card is None or row.scale not in card.scales:
        return plot.parameters.get(row.method)
    return measure_complexity(card, row.scale, {}).parameters


def short_count(value: float) -> str:
    """Write a count in three digits, with k or M for more: ``57.3k``, ``5.21M``."""
    rounded = float(f"{value:.3g}")
    if rounded < 1e3:
        return f"{rounded:g}"
    return f"{rounded / 1e3:g}k" if rounded < 1e6 else f"{rounded / 1e6:g}M"


_WIDTH, _DPI = 3.3, 400
"""Of the figure: in inches, a column of most journals; and dots per inch of the PNG."""

_PRINTED, _MEASURED, _TRAINED = "#9a4a00", "#0b62a4", "0.6"
_STYLES: Mapping[Kind, Mapping[str, Any]] = {
    "printed": {"s": 24, "facecolor": "none", "edgecolor": _PRINTED, "lw": 0.9, "zorder": 3},
    "measured": {"s": 8, "color": _MEASURED, "lw": 0, "zorder": 4},
    "trained": {"s": 6, "color": _TRAINED, "lw": 0, "zorder": 4},
}
"""Hollow marks are larger and lie below filled ones, so that both can be seen and clicked."""

_HALF_MARK = 2.9
"""From the middle of the largest mark to its edge, in points (1/72 inch)."""


@register_report("plot")
def plots(findings: Findings) -> list[Figure]:
    """Make the paper's plots."""
    return [_figure(findings, plot) for plot in (findings.paper.plots if findings.paper else ())]


def _figure(findings: Findings, plot: Plot) -> Figure:
    drawn = points(findings, plot)
    label = f"PSNR on {title(plot.set)}, x{plot.scale} (dB)"
    draw = partial(_draw, drawn, label, _notes(findings, plot, drawn))
    described = f"{plot.title}: parameters against {label}"
    return Figure(plot.id, draw, described, dpi=_DPI, margin=0.02)


def _notes(findings: Findings, plot: Plot, drawn: Sequence[Point]) -> list[str]:
    """Say what the marks do not: whose counts and weights they are, and which have no place."""
    notes = []
    if any(point.remark == COUNTED for point in drawn):
        given = [one.method for one in drawn if one.kind == "printed" and not one.remark]
        besides = f" except for {listed(given)}" if given else ""
        notes.append(f"Parameters counted on the networks{besides}.")
    if any(TRAINED_HERE in point.name for point in drawn):
        notes.append(f"{TRAINED_HERE} Not the authors' weights of this network.")
    placed = {point.model for point in drawn}
    cells = _cells(findings, plot)
    printed = {cell.model: cell.row.method for cell in cells if cell.printed is not None}
    if absent := listed([method for model, method in printed.items() if model not in placed]):
        notes.append(f"Not shown (no parameters known): {absent}.")
    return notes


def _draw(drawn: Sequence[Point], label: str, notes: Sequence[str]) -> figure.Figure:
    """Draw the points with their names, a legend above and notes below; point i has id point-i."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas((_WIDTH, 2.7), dpi=_DPI)
    plane = canvas.add_axes((0.14, 0.14, 0.845, 0.78))
    _set_axes(plane, drawn, label)
    low, high = plane.get_ylim()
    first: dict[str, Point] = {}
    for index, point in enumerate(drawn):
        style = dict(_STYLES[point.kind])
        if (end := min(max(point.psnr, low), high)) != point.psnr:
            style["marker"] = 6 if point.psnr > high else 7  # an arrow whose tip is at the edge
            style |= {"s": 24, "clip_on": False}
        plane.scatter(point.parameters, end, **style).set_gid(f"point-{index}")
        other = first.setdefault(point.model, point)
        if other is not point and point.kind == "measured":
            ends = [other.parameters, point.parameters], [other.psnr, end]
            plane.plot(*ends, color="0.6", linewidth=0.7, zorder=2)
    unnamed = _write_names(plane, drawn)
    _write_legend(plane, drawn)
    missing = f"Not named: {listed(unnamed)}." if unnamed else ""
    # Matplotlib's own wrapping reads dollar signs as formulas.
    text = fill(" ".join(filter(None, [missing, *notes])), 78, break_on_hyphens=False)
    place = (0, 0), (-31, -25), plane.transAxes, "offset points"
    plane.annotate(text, *place, va="top", size=5, color="0.35")
    return canvas


def _set_axes(plane: axes.Axes, drawn: Sequence[Point], label: str) -> None:
    """Set the limits, with room for names around the points, and the ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    counts = [point.parameters for point in drawn] or [1e6]
    decades = log10(max(counts) / min(counts))
    room = 10 ** (0.15 + 0.12 * decades)
    plane.set(xscale="log", xlim=(min(counts) / room, max(counts) * room), ylim=_limits(drawn))
    steps = (1.0,) if decades > 1.5 else (1.0, 2.0, 5.0)
    plane.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    plane.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count / 1e6:g}"))
    plane.xaxis.set_minor_formatter(NullFormatter())
    plane.set_axisbelow(True)
    plane.set_xlabel("Parameters (M)", size=7, labelpad=1.5)
    plane.set_ylabel(label, size=7, labelpad=2)
    plane.tick_params(labelsize=6.5, width=0.6, length=2.5, pad=2)
    plane.tick_params(which="minor", width=0.4, length=1.5)
    plane.spines[["top", "right"]].set_visible(False)
    plane.spines[["left", "bottom"]].set_linewidth(0.6)
    plane.grid(color="0.9", linewidth=0.5)


def _limits(drawn: Sequence[Point]) -> tuple[float, float]:
    """Return the lowest and the highest PSNR of the axis (dB).

    A point that lies further from the printed ones than these from each other, and than 1 dB, has
    its place at the edge: a network at 13 dB would squash all others.
    """
    printed = [point.psnr for point in drawn if point.kind == "printed"]
    known = printed or [point.psnr for point in drawn] or [0.0]
    span = max(max(known) - min(known), 1.0)
    inside = [p.psnr for p in drawn if min(known) - span <= p.psnr <= max(known) + span]
    low, high = min(inside, default=0.0), max(inside, default=0.0)
    room = max(0.1 * (high - low), 0.1)
    return low - room, high + room


def _write_legend(plane: axes.Axes, drawn: Sequence[Point]) -> None:
    texts: Mapping[Kind, str] = {"printed": "printed in the paper", "measured": "measured"}
    kinds = [kind for kind in texts if any(point.kind == kind for point in drawn)]
    for kind in kinds:
        plane.scatter([], [], label=texts[kind], **_STYLES[kind])
    if kinds:
        plane.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1),
            borderaxespad=0.2,
            borderpad=0,
            handletextpad=0,
            columnspacing=1,
            ncols=2,
            frameon=False,
            fontsize=6.5,
        )


def _write_names(plane: axes.Axes, drawn: Sequence[Point]) -> list[str]:
    """Write names beside their points, and return those that have no free place.

    A measured point of a printed network needs no second name.
    """
    import textalloc

    low, high = plane.get_ylim()
    ends = [min(max(point.psnr, low), high) for point in drawn]
    named = {point.name: place for place, point in reversed([*enumerate(drawn)])}
    places = sorted(named.values())
    texts = [drawn[place].name + _beyond(drawn[place], low, high) for place in places]
    half_mark = _HALF_MARK / 72 * _DPI
    with redirect_stdout(None):  # textalloc prints a line if no text has a place
        *_, written, _ = textalloc.allocate(
            plane,
            [drawn[place].parameters for place in places],
            [ends[place] for place in places],
            texts,
            x_scatter=[point.parameters for point in drawn],
            y_scatter=ends,
            scatter_sizes=[half_mark] * len(drawn),
            text_scatter_sizes=[half_mark] * len(places),
            x_lines=[line.get_xdata() for line in plane.lines],
            y_lines=[line.get_ydata() for line in plane.lines],
            textsize=[5.5 if drawn[place].kind == "trained" else 6 for place in places],
            textcolor=[_colour(drawn[place]) for place in places],
            margin=0.006,
            min_distance=0.006,
            max_distance=0.07,
            draw_lines=False,
            draw_all=False,
        )
    return [text for text, shown in zip(texts, written, strict=True) if shown is None]


def _beyond(point: Point, low: float, high: float) -> str:
    """Write the PSNR of a point beyond the axis after its name."""
    return "" if low <= point.psnr <= high else f", {point.psnr:.2f} dB"


def _colour(point: Point) -> str:
    """Return the colour of a name: the user's own network stands out."""
    if point.kind == "trained":
        return "0.35"
    return _MEASURED if point.own else "black"
