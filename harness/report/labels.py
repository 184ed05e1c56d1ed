"""Putting names beside points so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle: its lowest x and y, width and height, in any one unit."""

    x: float
    y: float
    width: float
    height: float


_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Where a name may stand, favourite first: right, left, above, below, then the corners."""


def place_labels(
    points: Sequence[tuple[float, float]],
    labels: Sequence[tuple[int, float, float]],
    within: Box,
    gap: float,
) -> list[Box]:
    """Find a place for each name, one after another.

    A name takes the first of the places around its point where it covers least of other points, of
    names placed before, and of what lies outside.

    Args:
        points: x and y of every point, named or not.
        labels: for each name the index of its point, its width and its height.
        within: where names should stay.
        gap: half a point's size, and the distance kept from it.
    """
    marks = [Box(x - gap, y - gap, 2 * gap, 2 * gap) for x, y in points]
    placed: list[Box] = []
    for index, width, height in labels:
        around = [_beside(points[index], side, width, height, gap) for side in _SIDES]
        taken = [*marks[:index], *marks[index + 1 :], *placed]
        placed.append(min(around, key=lambda box: _cost(box, taken, within)))
    return placed


def _beside(
    point: tuple[float, float], side: tuple[int, int], width: float, height: float, gap: float
) -> Box:
    across, up = side
    x = point[0] + across * 1.5 * gap + (across - 1) / 2 * width
    y = point[1] + up * 1.5 * gap + (up - 1) / 2 * height
    return Box(x, y, width, height)


def _cost(box: Box, taken: Sequence[Box], within: Box) -> float:
    outside = box.width * box.height - _shared(box, within)
    return round(outside + sum(_shared(box, other) for other in taken), 6)


def _shared(one: Box, other: Box) -> float:
    """The area two boxes have in common."""
    wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(wide, 0.0) * max(high, 0.0)
