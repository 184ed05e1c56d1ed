"""Naming points so that the names cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from harness.cards import FloatArray

Spot = tuple[float, float]
"""An x and a y."""
Line = tuple[Spot, Spot]
"""The two ends of a line."""


class Box(NamedTuple):
    """A rectangle: its lowest x and y, width and height, in any one unit."""

    x: float
    y: float
    width: float
    height: float


class Texts(NamedTuple):
    """What may be written at the points.

    Attributes:
        by_point: texts by the index of their point.
        size: gives the width and height of a point's text.
        gap: half a point's size; a text stands one and a half gaps from the middle of its point.
        reach: how far from it a text may stand where it is not beside it.
    """

    by_point: Mapping[int, str]
    size: Callable[[int, str], tuple[float, float]]
    gap: float
    reach: float


class Label(NamedTuple):
    """A text and its place.

    Attributes:
        point: index of the point that it names.
        text: the name, or its number in a key.
        box: where the text stands.
        leader: the line from the text to its point; None where the text is beside it.
        covers: the area that it shares with points, lines, other texts and what lies outside.
    """

    point: int
    text: str
    box: Box
    leader: Line | None
    covers: float = 0.0


_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_BETWEEN = ((1, 0.5), (-1, 0.5), (1, -0.5), (-1, -0.5), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1))
"""Where a text may stand, favourite first: right, left, above, below, the corners; then between."""


def label_points(
    points: Sequence[Spot], choices: Sequence[Texts], within: Box, lines: Sequence[Line] = ()
) -> list[Label]:
    """Find places for the first of several choices of texts that covers nothing, or for the last.

    Texts are placed one after another. A text takes the nearest place around its point where it
    covers neither points, lines, earlier texts, nor what lies outside; where it covers something
    everywhere, it takes the place where it covers least.

    Args:
        points: all of them, named or not.
        choices: such as names, and then numbers.
        within: where texts should stay.
        lines: which texts should not cover.
    """
    for texts in choices[:-1]:
        labels = []
        for label in _place(points, texts, within, lines):
            if label.covers:
                break
            labels.append(label)
        else:
            return labels
    return list(_place(points, choices[-1], within, lines))


def _place(
    points: Sequence[Spot], texts: Texts, within: Box, lines: Sequence[Line]
) -> Iterator[Label]:
    gap, spots = texts.gap, np.array(points).reshape(-1, 2)
    taken = [box for line in lines for box in _along(line, gap / 2)]
    for index in texts.by_point:
        others = spots[np.abs(spots - spots[index]).max(axis=1) > gap / 2]
        label = _least(_around(index, points[index], texts), others, taken, within, gap)
        yield label
        taken += [label.box, *_along(label.leader, gap / 2)]


def _around(index: int, point: Spot, texts: Texts) -> Iterator[Label]:
    """Places for a point's text, the nearest first."""
    text, size = texts.by_point[index], texts.size(index, texts.by_point[index])
    near = 1.5 * texts.gap
    for distance in np.arange(near, texts.reach, near).tolist():
        for side in (*_SIDES, *_BETWEEN):
            box = _beside(point, side, size, distance)
            leader = _leader(box, point, texts.gap) if distance > near else None
            yield Label(index, text, box, leader)


def _beside(
    point: Spot, side: tuple[float, float], size: tuple[float, float], distance: float
) -> Box:
    x, y = (
        start + way * distance + (way - 1) / 2 * length
        for start, way, length in zip(point, side, size, strict=True)
    )
    return Box(x, y, *size)


def _leader(box: Box, point: Spot, gap: float) -> Line:
    """The line from a box to the edge of a point."""
    x = min(max(point[0], box.x), box.x + box.width)
    y = min(max(point[1], box.y), box.y + box.height)
    share = gap / float(np.hypot(x - point[0], y - point[1]))
    return (x, y), (point[0] + share * (x - point[0]), point[1] + share * (y - point[1]))


def _along(line: Line | None, side: float) -> list[Box]:
    """Small squares along a line."""
    if not line:
        return []
    count = 1 + int(np.hypot(*np.subtract(*line)) / side)
    return [_square(spot, side / 2) for spot in np.linspace(*line, count).tolist()]


def _square(middle: Sequence[float], half: float) -> Box:
    return Box(middle[0] - half, middle[1] - half, 2 * half, 2 * half)


def _least(
    around: Iterator[Label],
    others: FloatArray,
    taken: Sequence[Box],
    within: Box,
    gap: float,
) -> Label:
    """The first label that covers nothing, or else the one that covers least."""
    obstacles = _array([*(_square(spot, gap) for spot in others.tolist()), *taken])
    tried: list[Label] = []
    for label in around:
        x, y, width, height = label.box
        # Numbers side by side must not read as one.
        box = Box(x - gap / 2, y, width + gap, height)
        covers = width * height - _shared([label.box], _array([within]))
        covers = round(covers + _shared([box], obstacles), 6)
        if not covers:
            # Where nothing is free, a line that crosses something is the smaller fault.
            covers = round(_shared(_along(label.leader, gap / 2), obstacles) / 1000, 6)
        tried.append(label._replace(covers=covers))
        if not covers:
            break
    return min(tried, key=lambda label: label.covers)


def _array(boxes: Sequence[Box]) -> FloatArray:
    return np.array(boxes, float).reshape(-1, 4)


def _shared(some: Sequence[Box], others: FloatArray) -> float:
    """The area that boxes have in common with others."""
    x, y, width, height = _array(some).T[:, :, None]
    left, low, wide, high = others.T
    across = np.minimum(x + width, left + wide) - np.maximum(x, left)
    up = np.minimum(y + height, low + high) - np.maximum(y, low)
    return float((across.clip(0) * up.clip(0)).sum())
