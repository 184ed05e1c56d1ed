"""The paper's tables for the page: grids of numbers, coloured by the distance from the print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.paper.schema import score, title
from harness.report.results import rows_of

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Doubt, Score, Table
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


def levels(scores: Sequence[Score]) -> tuple[Level, ...]:
    """Return all levels from far below to far above, with their limits in each of the scores."""
    near, far, farthest = (
        " / ".join(f"{step / 10**one.printed:g}{' dB' * (one.name == 'psnr')}" for one in scores)
        for step in STEPS
    )
    words = (f"up to {far}", f"up to {farthest}", f"more than {farthest}")
    under, over = (
        [Level(f"{name}{i}", mark * i, f"{side} by {text}") for i, text in enumerate(words, 1)]
        for name, mark, side in (("under", "▼", "below"), ("over", "▲", "above"))
    )
    return (*reversed(under), Level("same", "=", f"as printed: within {near}"), *over)


def level(difference: float, score: Score) -> Level:
    """Return the level of a difference, measured minus printed, after rounding as displayed."""
    apart = round(abs(difference), score.measured)
    far = sum(apart > step / 10**score.printed for step in STEPS)
    return levels([score])[len(STEPS) + (far if difference > 0 else -far)]


def signed(value: float, decimals: int) -> str:
    """Write a signed difference, with a real minus sign, and ``±`` if it rounds to zero."""
    if not round(value, decimals):
        return f"±{0:.{decimals}f}"
    return f"{value:+.{decimals}f}".replace("-", "−")


DOUBTS: Mapping[str, str] = {
    "print": "doubtful",
    "measurement": "other rules",
    "unusual": "unusual",
}
"""The names of numbers that look wrong, by how they were found."""


def scores(table: Table) -> tuple[Score, ...]:
    """Return how a table writes its metrics."""
    return tuple(score(metric, decimals) for metric, decimals in table.scores.items())


class Grid(NamedTuple):
    """The rows of a table at one scale, with the cells of one metric."""

    caption: str
    score: Score
    columns: list[str]
    rows: Sequence[JudgedRow]


def grids(findings: Findings, table: Table) -> Iterator[Grid]:
    """Yield a table's grids, one for each scale and metric."""
    of_table = rows_of(findings, table)
    scales = dict.fromkeys(one.row.scale for one in of_table)
    columns = [title(name) for name in table.columns]
    for scale in scales:
        rows = [one for one in of_table if one.row.scale == scale]
        for how in scores(table):
            caption = f"{how.title}, x{scale}" if len(scales) > 1 else how.title
            yield Grid(caption, how, columns, rows)


def shown(cell: JudgedCell) -> dict[str, Any]:
    """Write what a grid shows of a number; texts are empty if it is not known."""
    how, value, difference = cell.score, cell.value, cell.difference
    known = {"printed": cell.printed, "measured": value, "difference": difference}
    other = cell.measured if cell.standing != cell.verdict else None
    return {
        "run": cell.failed if value is None else cell.shown,
        "level": None if difference is None else level(difference, how),
        "numbers": {name: round(one, 6) for name, one in known.items() if one is not None},
        "printed": "" if cell.printed is None else how.as_printed(cell.printed),
        "measured": "" if value is None else how.as_measured(value),
        "difference": "" if difference is None else signed(difference, how.measured),
        # For example: 28.181 under grey images as-rgb.
        "elsewhere": f"{how.as_measured(other.value)} under {other.rules_text}" if other else "",
        "doubt": cell.doubt and DOUBTS[cell.doubt.seen],
    }


def doubted(findings: Findings, table: Table) -> list[JudgedCell]:
    """List a table's numbers that look wrong, in the paper's order."""
    order: list[Doubt | None] = list(findings.doubts.values())
    cells = [cell for cell in findings.cells if cell.doubt and cell.row.table is table]
    return sorted(cells, key=lambda cell: order.index(cell.doubt))


def doubt_id(cell: JudgedCell) -> str:
    """Return the id of the element that says what looks wrong with a number."""
    row = cell.row
    return "-".join(["doubt", row.table.id, f"x{row.scale}", row.key, cell.dataset, cell.metric])
