"""Table 2 for the page: a grid for each metric, coloured by the distance from the print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from harness.paper.schema import SCORES, Score
from harness.paper.verdicts import Evidence, JudgedCell, judge_cells
from harness.registry import DATASETS
from harness.report.legend import MISSING, TRAINED_HERE

if TYPE_CHECKING:
    from harness.report.table import Table


Key = tuple[str, str, str]
"""The place of a number in Table 2: model, set and metric."""


STEPS: Mapping[str, tuple[float, float, float]] = {
    "psnr": (0.01, 0.05, 0.2),
    "ssim": (0.0001, 0.0005, 0.002),
}
"""The limits between levels of distance from the print.

The first is one unit of the last printed digit; the others suit retrained networks.
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


def level(difference: float, score: Score) -> Level:
    """Return the level of a difference, measured minus printed, after rounding as displayed."""
    far = sum(round(abs(difference), score.measured) > step for step in STEPS[score.name])
    return _LEVELS[far if difference > 0 else -far]


def _levels() -> dict[int, Level]:
    psnr, ssim = STEPS.values()
    words = [
        f"within {psnr[0]} dB / {ssim[0]}",
        f"up to {psnr[1]} dB / {ssim[1]}",
        f"up to {psnr[2]} dB / {ssim[2]}",
        f"more than {psnr[2]} dB / {ssim[2]}",
    ]
    levels = {0: Level("same", "=", f"as printed: {words[0]}")}
    for far in (1, 2, 3):
        levels[far] = Level(f"over{far}", "▲" * far, f"above by {words[far]}")
        levels[-far] = Level(f"under{far}", "▼" * far, f"below by {words[far]}")
    return levels


_LEVELS = _levels()
LEGEND = tuple(_LEVELS[far] for far in (-3, -2, -1, 0, 1, 2, 3))


class Doubt(NamedTuple):
    """A printed number that looks wrong, and why.

    Attributes:
        kind: one of the values of `DOUBT_KINDS`.
    """

    anchor: str
    title: str
    reason: str
    kind: str


DOUBT_KINDS: Mapping[str, str] = {
    "print": "doubtful",
    "measurement": "other rules",
    "unusual": "unusual",
}
"""The names of suspicious cells, by how they were found."""


@dataclass(frozen=True)
class GridCell:
    """A number as printed and as measured, and their difference.

    Attributes:
        printed, measured, difference: as text, or empty.
        values: the same as numbers, for sorting; empty text where there is none.
        level: the level of the difference, where both exist.
        run: the id of the record, or empty.
        status: ``measured``, ``failed`` or ``missing``.
        dagger: a mark for other weights than the authors'.
        standing: the verdict on the printed number; empty where none is printed.
        elsewhere: the number under other rules, where only they give the printed one.
        doubt: why the printed number looks wrong, if it does.
    """

    printed: str
    measured: str
    difference: str
    values: tuple[object, ...]
    level: Level | None
    run: str
    status: str
    dagger: str
    standing: str
    elsewhere: str
    doubt: Doubt | None


class Line(NamedTuple):
    """One method's cells."""

    method: str
    model: str
    pipeline: str
    cells: tuple[GridCell, ...]


class Grid(NamedTuple):
    """Table 2 in one metric."""

    metric: Score
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def grids(table: Table, runs: pd.DataFrame, paper: Mapping[str, Any]) -> list[Grid]:
    """Convert Table 2 to one grid per metric.

    Args:
        table: the output of `harness.report.results.results`.
        runs: the runs that the table was made from.
        paper: the output of `harness.paper.schema.paper`.
    """
    cells = judge_cells(Evidence(runs, paper))
    judged = {(cell.model, cell.dataset, cell.metric): cell for cell in cells}
    suspicious = doubts(paper)
    return [_grid(table, metric, judged, suspicious) for metric in SCORES.values()]


def doubts(paper: Mapping[str, Any]) -> dict[Key, Doubt]:
    """Collect the suspicious cells of Table 2 by model, set and metric."""
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    cells = {}
    for cell in paper["suspicious"]:
        if cell["table"] == "table2":
            key = (cell["row"], cell["column"], cell["metric"])
            number = f"{key[2].upper()} {SCORES[key[2]].as_printed(cell['printed'])}"
            title = f"{methods[key[0]]}, {DATASETS.get(key[1]).title}, {number}"
            kind = DOUBT_KINDS[cell["seen"]]
            cells[key] = Doubt("-".join(("doubt", *key)), title, cell["reason"], kind)
    return cells


def _grid(
    table: Table, metric: Score, judged: Mapping[Key, JudgedCell], suspicious: Mapping[Key, Doubt]
) -> Grid:
    tidy = table.tidy[table.tidy["metric"] == metric.name]
    columns = tuple(DATASETS.get(name).title for name in tidy["dataset"].unique())
    lines = []
    # A model has three lines in the table; the first has its method and pipeline.
    groups = tidy.groupby("model", sort=False)
    for row, (model, numbers) in zip(table.rows[::3], groups, strict=True):
        cells = []
        for number in numbers.to_dict("records"):
            key = (str(model), str(number["dataset"]), metric.name)
            cells.append(_cell(number, metric, judged.get(key), suspicious.get(key)))
        lines.append(Line(row[0], str(model), row[1], tuple(cells)))
    return Grid(metric, columns, tuple(lines))


def _cell(
    number: Mapping[Any, Any], metric: Score, judged: JudgedCell | None, doubt: Doubt | None
) -> GridCell:
    names = ("printed", "measured", "difference")
    values = [None if pd.isna(number[name]) else float(number[name]) for name in names]
    printed, measured, difference = values
    return GridCell(
        "" if printed is None else metric.as_printed(printed),
        "" if measured is None else metric.as_measured(measured),
        "" if difference is None else signed(difference, metric.measured),
        tuple("" if value is None else value for value in values),
        None if difference is None else level(difference, metric),
        "" if number["run"] == MISSING else number["run"],
        number["status"],
        TRAINED_HERE if number["training"] else "",
        judged.standing if judged else "",
        _elsewhere(judged, metric),
        doubt,
    )


def _elsewhere(judged: JudgedCell | None, metric: Score) -> str:
    """Write, say, ``28.181 under grey images as-rgb``, where only other rules give the print."""
    if judged is None or judged.measured is None or judged.standing == judged.verdict:
        return ""
    return f"{metric.as_measured(judged.measured.value)} under {judged.measured.rules_text}"


def signed(value: float, decimals: int) -> str:
    """Write a signed difference, with a real minus sign, and ``±`` if it rounds to zero."""
    if not round(value, decimals):
        return f"±{0:.{decimals}f}"
    return f"{value:+.{decimals}f}".replace("-", "−")


class Share(NamedTuple):
    """The number of cells measured, measured with other weights than the authors', and printed."""

    measured: int
    trained: int
    printed: int


def measured_share(grid: Grid) -> Share:
    """Count the printed cells that are measured."""
    printed = [cell for line in grid.lines for cell in line.cells if cell.printed]
    measured = [cell for cell in printed if cell.measured]
    return Share(len(measured), sum(bool(cell.dagger) for cell in measured), len(printed))


def plain_tables(tables: Sequence[Table]) -> list[tuple[Table, bool]]:
    """Pair each table with whether its rows are independent and can be sorted."""
    return [(table, all(row and row[0] for row in table.rows)) for table in tables]
