"""Figures: parameters against PSNR of each network, with labels that do not overlap."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import isfinite
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import printable
from harness.paper.schema import Plot, listed, title
from harness.registry import MODELS, register_report
from harness.report.legend import TRAINED_HERE, dagger, dagger_note
from harness.report.table import Format

if TYPE_CHECKING:
    from matplotlib import axes, figure

    from harness.paper.findings import Findings
    from harness.paper.schema import Row
    from harness.paper.verdicts import JudgedCell
    from harness.record import RunRecord


_STYLE: Mapping[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "svg.hashsalt": "drfn-harness",
    # Keep text as text, so that it can be searched, edited and read aloud.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a name is just a character
    # Builds of zlib compress differently.
    "pdf.compression": 0,
    "savefig.dpi": 150,
    "savefig.bbox": "tight",
}


@dataclass(frozen=True)
class Figure:
    """A figure that can be written in several formats, as large as what is drawn on it.

    Attributes:
        name: the stem of its files.
        draw: makes the matplotlib figure, with the style of this module.
        formats: the suitable ones of ``png``, ``svg`` and ``pdf``.
        title: a title for screen readers; by default the name.
        description: a description for screen readers.
    """

    name: str
    draw: Callable[[], figure.Figure]
    formats: tuple[Format, ...] = ("png", "svg", "pdf")
    title: str = ""
    description: str = ""

    def render(self, form: Format) -> bytes:
        """Render a PNG, SVG or PDF file, with title and description."""
        import matplotlib
        from matplotlib.text import Text

        with matplotlib.rc_context(), warnings.catch_warnings():
            # Matplotlib draws a box for a letter that the font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            matplotlib.rcdefaults()  # ignore the user's matplotlibrc
            matplotlib.rcParams.update(_STYLE)
            stream, drawn = BytesIO(), self.draw()
            for text in drawn.findobj(Text):
                text.set_text(printable(text.get_text(), keep="\n"))
            drawn.savefig(stream, format=form, metadata=self._metadata(form))
        return stream.getvalue()

    def _metadata(self, form: Format) -> Mapping[str, Any]:
        """Name the figure, and leave out what differs between machines and days."""
        heading, text = printable(self.title or self.name), printable(self.description)
        match form:
            case "png":
                return {"Software": None, "Title": heading, "Description": text or None}
            case "svg":
                return {"Creator": None, "Date": None, "Title": heading, "Description": text}
        return {"CreationDate": None, "Creator": None, "Producer": None, "Title": heading}


Kind = Literal["printed", "declared", "reading", "measured", "trained"]
POINT_KINDS: Mapping[Kind, str] = {
    "printed": "printed: both numbers are in the paper",
    "declared": "PSNR printed; parameters not: those of the network as published",
    "reading": "PSNR printed; parameters not: those of the network as it is read here",
    "measured": "measured here",
    "trained": f"measured here, not with the authors' weights ({TRAINED_HERE})",
}
MEASURED: frozenset[Kind] = frozenset({"measured", "trained"})


@dataclass(frozen=True)
class Point:
    """A network in the figure.

    Attributes:
        method: as the paper writes it, with a dagger for other weights than the authors'.
        parameters: number of trainable values.
        psnr: on the figure's set, in dB.
        run: the id of the run that measured it, or empty.
        bold: it is the paper's subject.
    """

    model: str
    method: str
    kind: Kind
    parameters: float
    psnr: float
    run: str = ""
    bold: bool = False

    @property
    def text(self) -> str:
        """The point in words."""
        count = f"{short_count(self.parameters)} parameters"
        return f"{self.method}: {count}, {self.psnr:.2f} dB ({POINT_KINDS[self.kind]})"


def points(findings: Findings, plot: Plot) -> list[Point]:
    """List the printed points, then the measured ones.

    Where the paper prints no parameter count, the published network's is used.
    """
    printed: dict[str, Point] = {}
    measured: dict[str, Point] = {}
    subject = findings.paper.subject if findings.paper else ""
    for cell in _cells(findings, plot):
        model, method = cell.model, cell.row.method
        bold = method == subject
        if cell.printed is not None and (count := _count(findings, plot, cell.row)):
            printed.setdefault(model, Point(model, method, *count, cell.printed, "", bold))
        if run := _placed(cell):
            kind: Kind = "trained" if dagger(run) else "measured"
            numbers = (run.parameters or 0, run.means["psnr"], run.identity.id)
            measured.setdefault(model, Point(model, method + dagger(run), kind, *numbers, bold))
    return [*printed.values(), *measured.values()]


def _cells(findings: Findings, plot: Plot | None = None) -> list[JudgedCell]:
    """List the cells with a plot's PSNRs, or all; self-ensemble makes no other network."""
    rows = [one for one in findings.rows if not one.row.self_ensemble]
    # Other LR images, or another border, give other PSNRs.
    rows = [one for one in rows if not one.row.table.obstacle(one.row.scale)]
    cells = [cell for one in rows for cell in one.of("psnr")]
    return [cell for cell in cells if plot is None or _place(cell) == (plot.set, plot.scale)]


def _place(cell: JudgedCell) -> tuple[str, int]:
    return cell.dataset, cell.row.scale


def _count(findings: Findings, plot: Plot, row: Row) -> tuple[Kind, float] | None:
    """Return a network's number of parameters, and whether it is printed; None if unknown."""
    if row.method in plot.parameters:
        return "printed", plot.parameters[row.method]
    card = MODELS.get(row.model) if row.model in MODELS else None
    count = card.params if card and row.scale in card.scales else None
    if card and count and row.scale < max(card.scales):  # cards count at the largest scale
        count = findings.complexity(row.model, row.scale).parameters
    return ("reading" if row.method in plot.readings else "declared", count) if count else None


def _placed(cell: JudgedCell) -> RunRecord | None:
    """Return a cell's run if it has parameters, which a record may lack, and a finite mean."""
    run = cell.shown
    return run if run and (run.parameters or 0) > 0 and isfinite(run.means["psnr"]) else None


def footnotes(findings: Findings, plot: Plot, drawn: Sequence[Point]) -> list[str]:
    """List the methods that the figure leaves out, and explain its dagger."""
    cells, placed = _cells(findings, plot), {point.model for point in drawn}
    printed = {cell.model: cell.row.method for cell in cells if cell.printed is not None}
    absent = listed([method for model, method in printed.items() if model not in placed])
    missing = f"Not placed, having no parameters or no known count: {absent}." if absent else ""
    note = dagger_note(filter(None, map(_placed, cells)), findings.names)
    return [text for text in (missing, note) if text]


def named(drawn: Sequence[Point]) -> list[Point]:
    """Choose the points that get a name: not a measured one that nearly covers its printed one."""
    printed = {point.model: point for point in drawn if point.kind not in MEASURED}

    def is_on_print(point: Point) -> bool:
        own = printed.get(point.model, point)
        ratio = point.parameters / own.parameters
        return point is not own and abs(point.psnr - own.psnr) < 0.1 and 0.8 < ratio < 1.25

    return [point for point in drawn if not is_on_print(point)]


def short_count(value: float) -> str:
    """Write a count in three digits, with k or M for more: ``57.3k``, ``5.21M``."""
    rounded = float(f"{value:.3g}")
    size, letter = next((s for s in ((1e6, "M"), (1e3, "k")) if rounded >= s[0]), (1, ""))
    return f"{rounded / size:g}{letter}"


_HOLLOW = {"facecolor": "none", "zorder": 3}
_STYLES: Mapping[Kind, Mapping[str, Any]] = {
    "printed": {**_HOLLOW, "marker": "o", "s": 75, "edgecolor": "#9a4a00", "linewidth": 1.6},
    "declared": {**_HOLLOW, "marker": "D", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "reading": {**_HOLLOW, "marker": "s", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "measured": {"s": 26, "marker": "o", "color": "#0b62a4", "zorder": 4},
    "trained": {"s": 38, "marker": "^", "color": "#0b62a4", "zorder": 4},
}
"""Hollow marks are larger and lie below filled ones, so that both can be seen and clicked."""
_HALF_MARK = 7
"""Pixels from the middle of the largest mark to its edge, at 100 dots per inch."""
_SIZE = (6.4, 3.9)
"""The size of the plot in inches; legend and notes stand below it."""
_LINE = 115
"""Letters on a line of the notes; matplotlib's own wrapping reads dollar signs as formulas."""


@register_report("plot")
def plots(findings: Findings) -> list[Figure]:
    """Plot parameters (log axis) against PSNR: print hollow, measurements filled.

    The figures are the paper's plots; without a paper, one of the set and scale with most networks.
    """
    if findings.paper:
        return [_figure(findings, plot) for plot in findings.paper.plots]
    places = Counter(_place(cell) for cell in _cells(findings) if _placed(cell)).most_common(1)
    plots = [Plot(id="plot", title="", set=name, scale=scale) for (name, scale), _ in places]
    return [_figure(findings, plot) for plot in plots]


def _figure(findings: Findings, plot: Plot) -> Figure:
    drawn = points(findings, plot)
    notes = footnotes(findings, plot, drawn)
    heading = f"parameters against PSNR on {title(plot.set)}"
    if findings.paper:
        heading = f'{plot.title} of "{findings.paper.source.title}": {heading}'
    label = f"PSNR on {title(plot.set)}, x{plot.scale} (dB)"
    description = " ".join(["; ".join(point.text for point in drawn) + ".", *notes])
    draw = partial(_draw, drawn, notes, label)
    return Figure(plot.id, draw, title=heading, description=description)


def _draw(
    drawn: Sequence[Point], notes: Sequence[str] = (), label: str = "PSNR (dB)"
) -> figure.Figure:
    """Draw the points with their names, a legend, and notes below; point i has the id point-i."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    canvas = Canvas(_SIZE, dpi=100)
    plane = canvas.add_axes((0, 0, 1, 1))
    plane.set(xscale="log", xlabel="trainable parameters", ylabel=label, axisbelow=True)
    plane.spines[["top", "right"]].set_visible(False)
    plane.grid(color="0.9", linewidth=0.8)
    printed = {point.model: point for point in drawn if point.kind not in MEASURED}
    pairs = [(printed.get(point.model), point) for point in drawn if point.kind in MEASURED]
    joined = [[(p.parameters, p.psnr), (m.parameters, m.psnr)] for p, m in pairs if p]
    for ends in joined:
        plane.plot(*zip(*ends, strict=True), color="0.6", linewidth=1, zorder=2)
    for index, point in enumerate(drawn):
        mark = plane.scatter(point.parameters, point.psnr, **_STYLES[point.kind])
        mark.set_gid(f"point-{index}")
    plane.margins(0.12, 0.1)
    plane.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    plane.xaxis.set_minor_locator(NullLocator())
    plane.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    plane.autoscale_view()
    plane.autoscale(False)
    unnamed = _write_names(plane, drawn, joined)
    kinds = [
        plane.scatter([], [], label=text, **_STYLES[kind]) for kind, text in POINT_KINDS.items()
    ]
    legend = plane.legend(
        handles=kinds, loc="upper left", bbox_to_anchor=(-0.02, -0.12), frameon=False, fontsize=8
    )
    missing = [f"Not named: {listed(unnamed)}."] * bool(unnamed)
    text = "\n".join(fill(note, _LINE, break_on_hyphens=False) for note in (*missing, *notes))
    words = plane.annotate(text, (0, 0), (6, -2), legend, "offset points", va="top")
    words.set(fontsize=7, color="0.35")
    return canvas


def _write_names(
    plane: axes.Axes, drawn: Sequence[Point], joined: Sequence[Sequence[tuple[float, float]]]
) -> list[str]:
    """Write names beside their points, and return those that have no free place."""
    import textalloc

    chosen = named(drawn)
    if not chosen:
        return []
    with redirect_stdout(None):  # textalloc prints a line if no text has a place
        *_, written, leaders = textalloc.allocate(
            plane,
            [point.parameters for point in chosen],
            [point.psnr for point in chosen],
            [point.method for point in chosen],
            x_scatter=[point.parameters for point in drawn],
            y_scatter=[point.psnr for point in drawn],
            scatter_sizes=[_HALF_MARK] * len(drawn),
            text_scatter_sizes=[_HALF_MARK] * len(chosen),
            x_lines=[[x for x, _ in ends] for ends in joined],
            y_lines=[[y for _, y in ends] for ends in joined],
            textsize=8.5,
            fontweight=["bold" if point.bold else "normal" for point in chosen],
            margin=0.004,
            min_distance=0.004,
            linecolor="0.45",
            linewidth=0.6,
            draw_all=False,
            avoid_label_lines_overlap=True,
            avoid_crossing_label_lines=True,
        )
    for leader in filter(None, leaders):
        start, end = leader.get_transform().transform(leader.get_xydata())
        if np.hypot(*(end - start)) < 2 * _HALF_MARK:  # the name is near its point
            leader.remove()
    return [point.method for point, text in zip(chosen, written, strict=True) if text is None]
