"""Draws Figure 5, parameters against PSNR on Set14, and places its labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import takewhile
from math import isfinite
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from harness.errors import printable
from harness.paper.schema import listed
from harness.paper.select import choose_runs
from harness.registry import register_report
from harness.report.legend import TRAINED_HERE, dagger, dagger_note
from harness.report.table import Format, escape_html

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import axes, figure, text

    from harness.cards import FloatArray, GreyRule


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
}
_METADATA: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Figure:
    """A figure that can be written in several formats.

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
        return self._titled(stream.getvalue()) if form == "svg" else stream.getvalue()

    def _metadata(self, form: Format) -> Mapping[str, Any]:
        words = {"Title": self.title or self.name, "Description": self.description}
        names = {"png": ("Title", "Description"), "pdf": ("Title",)}.get(form, ())
        return {
            **_METADATA[form],
            **{name: printable(words[name]) for name in names if words[name]},
        }

    def _titled(self, svg: bytes) -> bytes:
        """Add title and description to an SVG file, for browsers and screen readers."""
        start, opening, rest = svg.decode().partition("<svg ")
        attributes, _, content = rest.partition(">")
        words = {"title": self.title or self.name, "desc": self.description}
        stem = self.name.replace(" ", "-")  # spaces separate ids in a list
        elements_by_id = {f"{stem}-{tag}": (tag, words[tag]) for tag in words if words[tag]}
        elements = "".join(
            f'\n <{tag} id="{escape_html(key)}">{escape_html(text)}</{tag}>'
            for key, (tag, text) in elements_by_id.items()
        )
        role = f'role="img" aria-labelledby="{escape_html(" ".join(elements_by_id))}"'
        return f"{start}{opening}{role} {attributes}>{elements}{content}".encode()


Spot = tuple[float, float]
"""An x and a y."""
Line = tuple[Spot, Spot]
"""The two ends of a line."""


class LabelBox(NamedTuple):
    """A rectangle: its lowest x and y, width and height, all in the same unit."""

    x: float
    y: float
    width: float
    height: float


class Texts(NamedTuple):
    """Texts to write at the points.

    Attributes:
        by_point: texts by the index of their point.
        size: returns the width and height of a point's text.
        gap: half a point's size; a text is placed 1.5 gaps from the middle of its point.
        reach: the largest distance of a text from its point.
    """

    by_point: Mapping[int, str]
    size: Callable[[int, str], tuple[float, float]]
    gap: float
    reach: float


class Label(NamedTuple):
    """A text and its place.

    Attributes:
        point: index of the point.
        text: its name, or its number in a key.
        box: the place of the text.
        leader: the line from the text to its point; None where the text is next to it.
        covers: the area that it shares with points, lines, other texts and the outside.
    """

    point: int
    text: str
    box: LabelBox
    leader: Line | None
    covers: float = 0.0


_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_BETWEEN = ((1, 0.5), (-1, 0.5), (1, -0.5), (-1, -0.5), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1))
"""Directions from a point to its text, best first: right, left, above, below, corners, between."""


def label_points(
    points: Sequence[Spot], choices: Sequence[Texts], within: LabelBox, lines: Sequence[Line] = ()
) -> list[Label]:
    """Place the first of several choices of texts whose labels cover nothing, else the last.

    Texts are placed one after another. A text takes the nearest place around its point where it
    covers no points, lines, earlier texts or the outside; if there is none, it takes the place
    where it covers least.

    Args:
        points: all points, with or without a label.
        choices: for example, names and then numbers.
        within: the area in which texts should stay.
        lines: lines that texts should not cover.
    """
    for texts in choices[:-1]:
        labels = list(
            takewhile(lambda label: not label.covers, _place(points, texts, within, lines))
        )
        if len(labels) == len(texts.by_point):
            return labels
    return list(_place(points, choices[-1], within, lines))


def _place(
    points: Sequence[Spot], texts: Texts, within: LabelBox, lines: Sequence[Line]
) -> Iterator[Label]:
    gap, spots = texts.gap, np.array(points).reshape(-1, 2)
    taken = [box for line in lines for box in _along(line, gap / 2)]
    for index in texts.by_point:
        others = spots[np.abs(spots - spots[index]).max(axis=1) > gap / 2]
        label = _best_label(_around(index, points[index], texts), others, taken, within, gap)
        yield label
        taken += [label.box, *_along(label.leader, gap / 2)]


def _around(index: int, point: Spot, texts: Texts) -> Iterator[Label]:
    """Yield places for a point's text, the nearest first."""
    text, size = texts.by_point[index], texts.size(index, texts.by_point[index])
    near = 1.5 * texts.gap
    for distance in np.arange(near, texts.reach, near).tolist():
        for side in (*_SIDES, *_BETWEEN):
            box = _beside(point, side, size, distance)
            leader = _leader(box, point, texts.gap) if distance > near else None
            yield Label(index, text, box, leader)


def _beside(
    point: Spot, side: tuple[float, float], size: tuple[float, float], distance: float
) -> LabelBox:
    x, y = (
        start + way * distance + (way - 1) / 2 * length
        for start, way, length in zip(point, side, size, strict=True)
    )
    return LabelBox(x, y, *size)


def _leader(box: LabelBox, point: Spot, gap: float) -> Line:
    """Compute the line from a box to the edge of a point."""
    x = min(max(point[0], box.x), box.x + box.width)
    y = min(max(point[1], box.y), box.y + box.height)
    share = gap / float(np.hypot(x - point[0], y - point[1]))
    return (x, y), (point[0] + share * (x - point[0]), point[1] + share * (y - point[1]))


def _along(line: Line | None, side: float) -> list[LabelBox]:
    """Cover a line with small squares."""
    if not line:
        return []
    count = 1 + int(np.hypot(*np.subtract(*line)) / side)
    return [_square(spot, side / 2) for spot in np.linspace(*line, count).tolist()]


def _square(middle: Sequence[float], half: float) -> LabelBox:
    return LabelBox(middle[0] - half, middle[1] - half, 2 * half, 2 * half)


def _best_label(
    candidates: Iterator[Label],
    others: FloatArray,
    taken: Sequence[LabelBox],
    within: LabelBox,
    gap: float,
) -> Label:
    """Return the first label that covers nothing, or else the one that covers least."""
    obstacles = _array([*(_square(spot, gap) for spot in others.tolist()), *taken])
    tried: list[Label] = []
    for label in candidates:
        x, y, width, height = label.box
        # Two adjacent numbers must not read as one.
        box = LabelBox(x - gap / 2, y, width + gap, height)
        covers = width * height - _shared([label.box], _array([within]))
        covers = round(covers + _shared([box], obstacles), 6)
        if not covers:
            # If no place is free, a crossing line is better than a covered text.
            covers = round(_shared(_along(label.leader, gap / 2), obstacles) / 1000, 6)
        tried.append(label._replace(covers=covers))
        if not covers:
            break
    return min(tried, key=lambda label: label.covers)


def _array(boxes: Sequence[LabelBox]) -> FloatArray:
    return np.array(boxes, float).reshape(-1, 4)


def _shared(boxes: Sequence[LabelBox], others: FloatArray) -> float:
    """Compute the area that boxes share with others."""
    x, y, width, height = _array(boxes).T[:, :, None]
    left, low, wide, high = others.T
    across = np.minimum(x + width, left + wide) - np.maximum(x, left)
    up = np.minimum(y + height, low + high) - np.maximum(y, low)
    return float((across.clip(0) * up.clip(0)).sum())


Kind = Literal["printed", "declared", "reading", "measured", "trained"]
POINT_KINDS: Mapping[Kind, str] = {
    "printed": "printed: both numbers are in the paper",
    "declared": "PSNR printed; parameters not: those of the network as published",
    "reading": "PSNR printed; parameters not: those of the network as it is read here",
    "measured": "measured here",
    "trained": f"measured here, not with the authors' weights ({TRAINED_HERE})",
}
MEASURED: frozenset[Kind] = frozenset({"measured", "trained"})
SUBJECT = "drfn"


@dataclass(frozen=True)
class Point:
    """A network in the figure.

    Attributes:
        method: as the paper writes it, with a dagger for other weights than the authors'.
        parameters: number of trainable values.
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
    """List the printed points, then the measured ones.

    Where the paper prints no parameter count, the published network's is used.
    """
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    drawn = []
    for point in paper["figure5"]["points"]:
        model, counted = point["model"], point["parameters"]
        kind: Kind = "printed" if point["parameters_printed"] else "declared"
        kind = "reading" if point.get("reading") else kind
        drawn.append(Point(model, methods[model], kind, counted, point["psnr"]))
    for model, run in _measured(runs, paper, grey).items():
        mark = dagger(run["record"])
        kind = "trained" if mark else "measured"
        method, count = methods.get(model, model) + mark, int(run["parameters"])
        drawn.append(Point(model, method, kind, count, float(run["psnr"]), run["id"]))
    return drawn


def _measured(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None
) -> dict[str, pd.Series[Any]]:
    """Choose the run on the figure's set for each model with parameters and a finite mean."""
    chosen = choose_runs(runs, paper["figure5"]["scale"], grey).items()
    return {
        model: run
        for (model, dataset), run in chosen
        if dataset == paper["figure5"]["set"]
        and (run["parameters"] or 0) > 0  # a record of other code may lack it
        and isfinite(run["psnr"])
    }


def footnotes(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, drawn: Sequence[Point]
) -> list[str]:
    """List the methods that the figure leaves out, and explain its dagger."""
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    absent = unplaced(paper, drawn)
    missing = [f"Not placed, having no parameters or no known count: {listed(absent)}."]
    records = [run["record"] for run in _measured(runs, paper, grey).values()]
    return [*(missing if absent else []), *filter(None, [dagger_note(records, methods)])]


def unplaced(paper: Mapping[str, Any], drawn: Sequence[Point]) -> list[str]:
    """List the methods of Table 2 without parameters or without a known count."""
    models = {point.model for point in drawn}
    return [row["method"] for row in paper["table2"]["rows"] if row["model"] not in models]


def described(drawn: Sequence[Point]) -> str:
    """Describe the figure in words."""
    sentences = ["Trainable parameters, on a logarithmic axis, against PSNR on Set14 at x4."]
    for kind, label in POINT_KINDS.items():
        entries = [
            f"{point.method} {short_count(point.parameters)}, {point.psnr:.2f} dB"
            for point in drawn
            if point.kind == kind
        ]
        sentences += [f"{label[0].upper()}{label[1:]}: {'; '.join(entries)}."] if entries else []
    return " ".join(sentences)


def named(drawn: Sequence[Point]) -> dict[int, str]:
    """Name the points, except those that nearly coincide with a named point of their network."""
    names: dict[int, str] = {}
    for index, point in enumerate(drawn):
        twins = (drawn[i] for i in names if drawn[i].model == point.model)
        if not any(_close(point, twin, 0.1, 1.25) for twin in twins):
            names[index] = point.method
    return names


def key_order(drawn: Sequence[Point]) -> list[int]:
    """Order the points that get a name as in a numbered key: from left to right."""
    return sorted(named(drawn), key=lambda index: (drawn[index].parameters, -drawn[index].psnr))


def numbered(drawn: Sequence[Point]) -> dict[int, str]:
    """Number the points as in the key: 7, say, or 7–9 for the first of three in one place."""
    order, numbers, first = key_order(drawn), {}, 0
    for place, index in enumerate(order):
        if not _close(drawn[index], drawn[order[first]], 0.01, 1.01):
            first = place
        numbers[order[first]] = "–".join(dict.fromkeys([str(first + 1), str(place + 1)]))
    return numbers


def room_for(count: int) -> float:
    """Compute the plot's height for a number of names, relative to its usual height."""
    return min(max(1.0, count / 50), 2.5)


def links(drawn: Sequence[Point]) -> list[tuple[int, int]]:
    """Pair each measured point with the printed one of its network."""
    printed = {point.model: i for i, point in enumerate(drawn) if point.kind not in MEASURED}
    return [
        (printed[point.model], i)
        for i, point in enumerate(drawn)
        if point.kind in MEASURED and point.model in printed
    ]


def _close(one: Point, other: Point, psnr: float, ratio: float) -> bool:
    larger, smaller = sorted((one.parameters, other.parameters), reverse=True)
    return abs(one.psnr - other.psnr) < psnr and larger < ratio * smaller


def is_named(labels: Sequence[Label], drawn: Sequence[Point]) -> bool:
    """Whether labels are names rather than numbers."""
    return all(label.text == named(drawn)[label.point] for label in labels)


def short_count(value: float) -> str:
    """Write a count in three digits, with k or M for more: ``57.3k``, ``5.21M``."""
    rounded = float(f"{value:.3g}")
    size, letter = next((s for s in ((1e6, "M"), (1e3, "k")) if rounded >= s[0]), (1, ""))
    return f"{rounded / size:g}{letter}"


_HOLLOW = {"facecolor": "none", "zorder": 4}
_STYLES: Mapping[Kind, Mapping[str, Any]] = {
    "printed": {**_HOLLOW, "marker": "o", "s": 75, "edgecolor": "#9a4a00", "linewidth": 1.6},
    "declared": {**_HOLLOW, "marker": "D", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "reading": {**_HOLLOW, "marker": "s", "s": 60, "edgecolor": "#c98b55", "linewidth": 1.2},
    "measured": {"s": 26, "marker": "o", "color": "#0b62a4", "zorder": 3},
    "trained": {"s": 38, "marker": "^", "color": "#0b62a4", "zorder": 3},
}
"""Hollow marks are larger than filled ones, so that both stay visible."""
_DPI = 100
_WIDTH, _LEFT, _PLANE, _BELOW, _ABOVE, _LEGEND = 7.2, 0.648, (6.408, 3.9), 1.98, 0.12, 0.468
"""In inches: the figure's width, the plot's left edge and size, the space below and above it, and
the legend's distance below it."""
_KEY_TOP, _LINE, _NUMBER = 0.53, 0.145, 0.5
"""In inches: the key's distance from the bottom, its line height, and the width of a number."""
_NOTE_LINE, _NOTE_LINES = 0.12, 3
"""The line height of the notes, in inches, and how many lines fit."""
_KEY_WIDTH = 48
"""Letters on a line of the key; longer names wrap."""


@register_report("figure5")
def plot(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Figure:
    """Plot parameters (log axis) against PSNR on Set14: print hollow, measurements filled."""
    drawn = points(runs, paper, grey)
    notes = footnotes(runs, paper, grey, drawn)
    title = f'Figure 5 of "{paper["source"]["title"]}": parameters against PSNR on Set14'
    description = " ".join([described(drawn), *notes])
    return Figure("figure5", lambda: _draw(drawn, notes), title=title, description=description)


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
    for kind, label in POINT_KINDS.items():
        of_kind = [point for point in drawn if point.kind == kind]
        plane.scatter(
            [p.parameters for p in of_kind], [p.psnr for p in of_kind], label=label, **_STYLES[kind]
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
    """Set the size of the figure and the place of the plot, ``below`` inches above the bottom."""
    height = below + high + _ABOVE
    canvas.set_size_inches(_WIDTH, height)
    plane.set_position((_LEFT / _WIDTH, below / height, _PLANE[0] / _WIDTH, high / height))


def _write_labels(plane: axes.Axes, drawn: Sequence[Point]) -> list[Label]:
    """Write names or numbers next to the points; places are in pixels of the canvas."""
    from matplotlib.lines import Line2D

    spots = [tuple(plane.transData.transform((p.parameters, p.psnr))) for p in drawn]
    inside = plane.get_window_extent().padded(-3)
    within = LabelBox(inside.x0, inside.y0, inside.width, inside.height)

    def write(index: int, label_text: str) -> text.Annotation:
        point = (drawn[index].parameters, drawn[index].psnr)
        is_name = label_text == drawn[index].method
        look: dict[str, Any] = {"va": "bottom", "fontweight": _weight(drawn[index])}
        look["fontsize"] = 8.5 if is_name else 7.5
        return plane.annotate(label_text, point, (0, 0), textcoords="offset points", **look)

    def size(index: int, label_text: str) -> tuple[float, float]:
        written = write(index, label_text)
        extent = written.get_window_extent()
        written.remove()
        return extent.width, extent.height

    joined = [(spots[start], spots[end]) for start, end in links(drawn)]
    choices = [Texts(named(drawn), size, 9, 80), Texts(numbered(drawn), size, 6, 80)]
    labels = label_points(spots, choices, within, joined)
    for label in labels:
        _move(write(label.point, label.text), label, spots[label.point])
        if label.leader:
            across, up = zip(*plane.transData.inverted().transform(label.leader), strict=True)
            plane.add_artist(Line2D(across, up, color="0.45", linewidth=0.6, zorder=2))
    return labels


def _weight(point: Point) -> str:
    return "bold" if point.model == SUBJECT else "normal"


def _move(written: text.Annotation, label: Label, spot: tuple[float, float]) -> None:
    """Move a text to its place, aligned to the side next to its point, since font widths differ."""
    x, y, width, _ = label.box
    if x > spot[0]:
        side, across = "left", x
    elif x + width < spot[0]:
        side, across = "right", x + width
    else:
        side, across = "center", x + width / 2
    place = ((across - spot[0]) * 72 / _DPI, (y - spot[1]) * 72 / _DPI)
    written.set(horizontalalignment=side, position=place)


def _write_below(canvas: figure.Figure, key: Sequence[Point], notes: Sequence[str]) -> float:
    """Write a key and notes at the bottom; return the height below the plot in inches."""
    inches = canvas.dpi_scale_trans
    look: dict[str, Any] = {"va": "top", "fontsize": 7.5, "transform": inches}
    texts = ["\n".join(wrap(point.method, _KEY_WIDTH)) for point in key]
    names = [
        canvas.text(0, 0, entry, fontweight=_weight(point), **look)
        for entry, point in zip(texts, key, strict=True)
    ]
    widest = max((name.get_window_extent().width for name in names), default=0) / _DPI + _NUMBER
    lines = [entry.count("\n") + 1 for entry in texts]
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
    """Compute the column and first line of each entry of a key, and the key's height in lines."""
    height = -(-sum(lines) // columns)
    places, column, row, tall = [], 0, 0, 0
    for count in lines:
        if row >= height:
            column, row = column + 1, 0
        places.append((column, row))
        row += count
        tall = max(tall, row)
    return places, tall
