"""Figures: parameters against PSNR of each network, with labels that do not overlap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import isfinite
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import printable
from harness.models.cost import measure_complexity
from harness.paper.schema import title
from harness.registry import MODELS, register_report
from harness.report.legend import TRAINED_HERE, dagger, dagger_note
from harness.report.table import Format
from harness.text import listed

if TYPE_CHECKING:
    from matplotlib import axes, figure
    from matplotlib.collections import PathCollection

    from harness.paper.findings import Findings
    from harness.paper.schema import Plot, Row
    from harness.paper.verdicts import JudgedCell


_STYLE: dict[str, Any] = {
    "svg.hashsalt": "drfn-harness",
    # Keep text as text, so that it can be searched, edited and read aloud.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a name is just a character
    "pdf.compression": 0,  # builds of zlib compress differently
    "savefig.dpi": 150,
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
    """

    name: str
    draw: Callable[[], figure.Figure]
    title: str
    formats: tuple[Format, ...] = ("png", "svg", "pdf")

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
            drawn.savefig(stream, format=form, metadata=metadata)
        return stream.getvalue()


Kind = Literal["printed", "declared", "measured", "trained"]
POINT_KINDS: Mapping[Kind, str] = {
    "printed": "printed: both numbers are in the paper",
    "declared": "PSNR printed; parameters not: counted on the network",
    "measured": "measured here",
    "trained": f"measured here, not with the authors' weights ({TRAINED_HERE})",
}


@dataclass(frozen=True)
class Point:
    """A network in the figure.

    Attributes:
        method: as the paper writes it, with a dagger unless it is with the authors' weights.
        parameters: number of trainable values.
        psnr: on the figure's set, in dB.
        run: the id of the run that measured it, or empty.
    """

    model: str
    method: str
    kind: Kind
    parameters: float
    psnr: float
    run: str = ""

    @property
    def text(self) -> str:
        """The point in words."""
        count = f"{short_count(self.parameters)} parameters"
        return f"{self.method}: {count}, {self.psnr:.2f} dB ({POINT_KINDS[self.kind]})"


def points(findings: Findings, plot: Plot) -> list[Point]:
    """List the printed points, then the measured ones.

    Where the paper prints no parameter count, that of the registered network is used.
    """
    printed: dict[str, Point] = {}
    measured: dict[str, Point] = {}
    for cell in _cells(findings, plot):
        model, method = cell.model, cell.row.method
        if cell.printed is not None and (count := _count(plot, cell.row)):
            kind: Kind = "printed" if method in plot.parameters else "declared"
            printed.setdefault(model, Point(model, method, kind, count, cell.printed))
        # Published images and old records lack parameters; an image may have an infinite PSNR.
        if (run := cell.shown) and run.parameters and isfinite(run.means["psnr"]):
            kind = "trained" if dagger(run) else "measured"
            numbers = run.parameters, run.means["psnr"], run.identity.id
            measured.setdefault(model, Point(model, method + dagger(run), kind, *numbers))
    return [*printed.values(), *measured.values()]


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


_STYLES: Mapping[Kind, Mapping[str, Any]] = {
    "printed": {"s": 75, "marker": "o", "facecolor": "none", "edgecolor": "#9a4a00", "zorder": 3},
    "declared": {"s": 60, "marker": "D", "facecolor": "none", "edgecolor": "#c98b55", "zorder": 3},
    "measured": {"s": 26, "marker": "o", "color": "#0b62a4", "zorder": 4},
    "trained": {"s": 38, "marker": "^", "color": "#0b62a4", "zorder": 4},
}
"""Hollow marks are larger and lie below filled ones, so that both can be seen and clicked."""


@register_report("plot")
def plots(findings: Findings) -> list[Figure]:
    """Make the paper's plots."""
    return [_figure(findings, plot) for plot in (findings.paper.plots if findings.paper else ())]


def _figure(findings: Findings, plot: Plot) -> Figure:
    drawn, cells = points(findings, plot), _cells(findings, plot)
    placed = {point.model for point in drawn}
    printed = {cell.model: cell.row.method for cell in cells if cell.printed is not None}
    absent = listed([method for model, method in printed.items() if model not in placed])
    notes = [f"Not placed, having no parameters or no known count: {absent}."] if absent else []
    notes.append(dagger_note([cell.shown for cell in cells if cell.shown], findings.names))
    label = f"PSNR on {title(plot.set)}, x{plot.scale} (dB)"
    draw = partial(_draw, drawn, label, notes)
    return Figure(plot.id, draw, f"{plot.title}: parameters against {label}")


def _draw(drawn: Sequence[Point], label: str, notes: Sequence[str]) -> figure.Figure:
    """Draw the points with their names, a legend, and notes below; point i has the id point-i.

    The first point of a network is named; a line leads to its second.
    """
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import EngFormatter

    canvas = Canvas((6.4, 3.9), dpi=100)
    plane = canvas.add_axes((0, 0, 1, 1))
    plane.set(xscale="log", xlabel="trainable parameters", ylabel=label, axisbelow=True)
    plane.spines[["top", "right"]].set_visible(False)
    plane.grid(color="0.9", linewidth=0.8)
    plane.margins(0.12, 0.1)
    plane.xaxis.set_major_formatter(EngFormatter(sep=""))
    plane.minorticks_off()
    named: dict[str, Point] = {}
    marks: dict[Kind, PathCollection] = {}
    for index, point in enumerate(drawn):
        mark = plane.scatter(point.parameters, point.psnr, **_STYLES[point.kind])
        mark.set(gid=f"point-{index}", label=POINT_KINDS[point.kind])
        marks[point.kind] = mark
        first = named.setdefault(point.model, point)
        if first is not point:
            ends = [first.parameters, point.parameters], [first.psnr, point.psnr]
            plane.plot(*ends, color="0.6", linewidth=1, zorder=2)
    unnamed = _write_names(plane, drawn, [*named.values()])
    handles = [marks[kind] for kind in POINT_KINDS if kind in marks]
    legend = plane.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.12), frameon=False, fontsize=8
    )
    missing = f"Not named: {listed(unnamed)}." if unnamed else ""
    # Matplotlib's own wrapping reads dollar signs as formulas.
    text = "\n".join(fill(note, 115, break_on_hyphens=False) for note in (missing, *notes) if note)
    plane.annotate(text, (0, 0), (6, -2), legend, "offset points", va="top", size=7, color="0.35")
    return canvas


def _write_names(plane: axes.Axes, drawn: Sequence[Point], named: Sequence[Point]) -> list[str]:
    """Write names beside their points, and return those that have no free place."""
    import textalloc

    half_mark = 7  # pixels from the middle of the largest mark to its edge
    with redirect_stdout(None):  # textalloc prints a line if no text has a place
        *_, written, _ = textalloc.allocate(
            plane,
            [point.parameters for point in named],
            [point.psnr for point in named],
            [point.method for point in named],
            x_scatter=[point.parameters for point in drawn],
            y_scatter=[point.psnr for point in drawn],
            scatter_sizes=[half_mark] * len(drawn),
            text_scatter_sizes=[half_mark] * len(named),
            x_lines=[line.get_xdata() for line in plane.lines],
            y_lines=[line.get_ydata() for line in plane.lines],
            textsize=8.5,
            margin=0.004,
            min_distance=0.004,
            max_distance=0.03,
            draw_lines=False,
            draw_all=False,
        )
    return [point.method for point, text in zip(named, written, strict=True) if text is None]
