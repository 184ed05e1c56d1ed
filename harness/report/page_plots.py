"""Where the marks of the page's drawings stand; the template turns them into SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.registry import DATASETS
from harness.report.figure5_points import (
    KINDS,
    SUBJECT,
    Point,
    is_named,
    key_order,
    links,
    named,
    numbered,
    room_for,
    short_count,
)
from harness.report.labels import Box, Line, Texts, label_points
from harness.report.marks import dagger

if TYPE_CHECKING:
    import pandas as pd

    from harness.record import RunRecord

WIDTH = 960
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 18, 14, 48
_PLANE = 480
_ROW, _LABEL = 34, 116
_LETTER, _LINE = 8.2, 15
"""About the width and height of a letter of the size the names are written in."""


class Tick(NamedTuple):
    """A line of the grid and what stands at its end."""

    at: float
    text: str


class Mark(NamedTuple):
    """A point of the scatter plot.

    Attributes:
        name: or its number in the key, which stands at ``name_x, name_y``; or empty.
        leader: the ends of the line from the name to the point, where it is not beside it.
    """

    x: float
    y: float
    point: Point
    tip: str
    name: str = ""
    name_x: float = 0.0
    name_y: float = 0.0
    leader: Line | None = None
    subject: bool = False


class Scatter(NamedTuple):
    """Parameters against PSNR.

    Attributes:
        key: the points by their numbers from 1 on, where names have no room; else empty.
    """

    width: int
    height: int
    marks: tuple[Mark, ...]
    key: tuple[Point, ...]
    links: tuple[tuple[float, float, float, float], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


class Dot(NamedTuple):
    """One image's score."""

    x: float
    y: float
    tip: str


class Strip(NamedTuple):
    """One model's scores on a set: a dot an image, quartiles, and the mean that tables show."""

    label: str
    run: str
    y: float
    dots: tuple[Dot, ...]
    quartiles: tuple[float, float, float]
    mean: float
    said: str


class Distribution(NamedTuple):
    """The scores of all models on a set."""

    title: str
    width: int
    height: int
    strips: tuple[Strip, ...]
    across: tuple[Tick, ...]


class _Axis(NamedTuple):
    """A straight line from values to places."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _axis(values: Sequence[float], start: float, end: float, margin: float) -> _Axis:
    low, high = min(values, default=0.0), max(values, default=0.0)
    space = margin * (high - low) or 1.0
    return _Axis(low - space, high + space, start, end)


def _ticks(axis: _Axis, wanted: int) -> tuple[Tick, ...]:
    """Round numbers, about as many as wanted."""
    rough = (axis.high - axis.low) / wanted
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    decimals = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return tuple(
        Tick(axis.at(i * step), f"{i * step:.{decimals}f}") for i in range(first, last + 1)
    )


def scatter(drawn: Sequence[Point]) -> Scatter:
    """Place the points of Figure 5, the logarithm of the parameters across."""
    across = _axis([math.log10(p.parameters) for p in drawn], _LEFT, WIDTH - _RIGHT, 0.1)
    height = round(_PLANE * room_for(len(named(drawn))))
    up = _axis([p.psnr for p in drawn], height - _BOTTOM, _TOP, 0.1)
    spots = [(across.at(math.log10(p.parameters)), up.at(p.psnr)) for p in drawn]
    joined = [(spots[start], spots[end]) for start, end in links(drawn)]
    within = Box(_LEFT, _TOP, WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM)
    choices = [Texts(named(drawn), _size, 11, 72), Texts(numbered(drawn), _size, 9, 100)]
    labels = label_points(spots, choices, within, joined)
    by_point = {label.point: label for label in labels}
    marks = []
    for index, (point, (x, y)) in enumerate(zip(drawn, spots, strict=True)):
        mark = Mark(x, y, point, _tip(point), subject=point.model == SUBJECT)
        if label := by_point.get(index):
            where = (round(label.box.x, 1), round(label.box.y + 0.8 * _LINE, 1))
            mark = mark._replace(name=label.text, name_x=where[0], name_y=where[1])
            mark = mark._replace(leader=label.leader)
        marks.append(mark)
    key = () if is_named(labels, drawn) else tuple(drawn[i] for i in key_order(drawn))
    decades = range(math.ceil(across.low), math.floor(across.high) + 1)
    counts = tuple(Tick(across.at(power), short_count(10**power)) for power in decades)
    lines = tuple((*start, *end) for start, end in joined)
    return Scatter(WIDTH, height, tuple(marks), key, lines, counts, _ticks(up, 6))


def _size(_: int, text: str) -> tuple[float, float]:
    return _LETTER * len(text), _LINE


def _tip(point: Point) -> str:
    size = short_count(point.parameters)
    return f"{point.method}: {size} parameters, {point.psnr:.2f} dB ({KINDS[point.kind]})"


def distributions(
    chosen: Mapping[tuple[str, str], pd.Series[Any]], methods: Mapping[str, str]
) -> list[Distribution]:
    """Per-image PSNR of every run that stands in a table, set by set.

    Args:
        chosen: what `choose_runs` gives.
        methods: what the paper calls models, in its order.
    """
    names = [*methods, *sorted({model for model, _ in chosen} - methods.keys())]
    known = [name for name in DATASETS if any(name == where for _, where in chosen)]
    sets = [*known, *sorted({where for _, where in chosen} - set(known))]
    found = []
    for dataset in sets:
        shown = {
            name: chosen[name, dataset]["record"] for name in names if (name, dataset) in chosen
        }
        records = [(methods.get(name, name) + dagger(one), one) for name, one in shown.items()]
        title = DATASETS.get(dataset).title if dataset in DATASETS else dataset
        found.append(_distribution(title, records))
    return found


def _distribution(title: str, records: Sequence[tuple[str, RunRecord]]) -> Distribution:
    values = [value for _, record in records for value in _finite(record)]
    axis = _axis(values, _LABEL, WIDTH - _RIGHT, 0.03)
    strips = [
        _strip(label, record, axis, _TOP + (row + 0.5) * _ROW)
        for row, (label, record) in enumerate(records)
        if _finite(record)
    ]
    height = _TOP + _ROW * len(records) + _BOTTOM
    return Distribution(title, WIDTH, height, tuple(strips), _ticks(axis, 8))


def _finite(record: RunRecord) -> list[float]:
    return [i.scores["psnr"] for i in record.images if math.isfinite(i.scores["psnr"])]


def _strip(label: str, record: RunRecord, axis: _Axis, y: float) -> Strip:
    dots = tuple(
        Dot(
            axis.at(one.scores["psnr"]),
            # Dots are moved up and down by the golden ratio, so that few cover each other.
            round(y + (index * 0.618034 % 1 - 0.5) * 0.5 * _ROW, 1),
            f"{one.image}: {one.scores['psnr']:.2f} dB / {one.scores['ssim']:.4f}",
        )
        for index, one in enumerate(record.images)
        if math.isfinite(one.scores["psnr"])
    )
    low, middle, high = np.percentile(_finite(record), (25, 50, 75))
    mean = float(np.mean(_finite(record)))
    said = (
        f"{label}: mean {mean:.2f} dB, half of the {len(dots)} images between {low:.2f} "
        f"and {high:.2f} dB"
    )
    quartiles = (axis.at(low), axis.at(middle), axis.at(high))
    return Strip(label, record.identity.id, y, dots, quartiles, axis.at(mean), said)
