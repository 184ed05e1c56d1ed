"""The paper's tables for the page: grids of numbers, coloured by the distance from the print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.paper.schema import score, title
from harness.report.literature import elsewhere_text
from harness.report.results import rows_of

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Score, Table
    from harness.paper.verdicts import JudgedCell, JudgedRow


STEPS = (1, 5, 20)
"""The limits between levels of distance from the print, in units of the last printed digit.

All but the first suit retrained networks.
"""


class Level(NamedTuple):
    """A level of distance between a measured and a printed number.

    Attributes:
        name: the class in the style sheet.
        mark: a character with the same meaning as the colour.
        said: the level in words, for the legend.
    """

    name: str
    mark: str
    said: str


LEVELS = (
    Level("under3", "▼▼▼", f"below by more than {STEPS[2]}"),
    Level("under2", "▼▼", f"below by up to {STEPS[2]}"),
    Level("under1", "▼", f"below by up to {STEPS[1]}"),
    Level("same", "=", f"as printed: within {STEPS[0]}"),
    Level("over1", "▲", f"above by up to {STEPS[1]}"),
    Level("over2", "▲▲", f"above by up to {STEPS[2]}"),
    Level("over3", "▲▲▲", f"above by more than {STEPS[2]}"),
)


def level(difference: float, score: Score) -> Level:
    """Return the level of a difference, measured minus printed, after rounding as displayed."""
    apart = round(abs(difference), score.measured)
    far = sum(apart > step / 10**score.printed for step in STEPS)
    return LEVELS[len(STEPS) + (far if difference > 0 else -far)]


DOUBTS: Mapping[str, str] = {
    "print": "doubtful",
    "measurement": "other rules",
    "unusual": "unusual",
}
"""The names of numbers that look wrong, by how they were found."""


class Grid(NamedTuple):
    """The rows of a table at one scale, with the cells of one metric."""

    caption: str
    metric: str
    columns: list[str]
    rows: Sequence[JudgedRow]


def grids(findings: Findings, table: Table) -> Iterator[Grid]:
    """Yield a table's grids, one for each scale and metric."""
    of_table = rows_of(findings, table)
    scales = dict.fromkeys(one.row.scale for one in of_table)
    columns = [title(name) for name in table.columns]
    for scale in scales:
        rows = [one for one in of_table if one.row.scale == scale]
        for metric, decimals in table.scores.items():
            caption = score(metric, decimals).title + f", x{scale}" * (len(scales) > 1)
            yield Grid(caption, metric, columns, rows)


def shown(cell: JudgedCell) -> dict[str, Any]:
    """Write what a grid shows of a number; texts are empty if it is not known."""
    how, value, difference = cell.score, cell.value, cell.difference
    signed = "" if difference is None else f"{difference:+z.{how.measured}f}"
    return {
        "run": cell.failed if value is None else cell.shown,
        "level": None if difference is None else level(difference, how),
        "printed": "" if cell.printed is None else how.as_printed(cell.printed),
        "measured": "" if value is None else how.as_measured(value),
        "difference": signed.replace("-", "−"),
        "doubt": DOUBTS[cell.doubt.seen] if cell.doubt else "",
        "explained": explained(cell),
    }


def explained(cell: JudgedCell) -> str:
    """Say under which other rules a number holds, what looks wrong, and where else it is printed.

    Empty if there is nothing to say.
    """
    reason = cell.doubt.reason if cell.doubt else ""
    other = cell.measured if cell.standing != cell.verdict else None
    # For example: Measured under grey images as-rgb: 28.181.
    value = cell.score.as_measured(other.value) if other else ""
    rules = f"Measured under {other.rules_text}: {value}." if other else ""
    return " ".join(text for text in (rules, reason, elsewhere_text(cell)) if text)
