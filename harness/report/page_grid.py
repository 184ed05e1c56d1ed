"""Table 2 for the page: one grid a metric, its cells coloured by their distance from the print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from harness.paper.findings import Evidence
from harness.paper.schema import SCORES, Score
from harness.paper.verdicts import JudgedCell, judge_cells
from harness.registry import DATASETS
from harness.report.legend import MISSING, TRAINED_HERE

if TYPE_CHECKING:
    from harness.report.table import Table


Key = tuple[str, str, str]
"""Where a number of Table 2 stands: model, set and metric."""


STEPS: Mapping[str, tuple[float, float, float]] = {
    "psnr": (0.01, 0.05, 0.2),
    "ssim": (0.0001, 0.0005, 0.002),
}
"""Which distances from the print count as how far.

The first is one unit of the last printed digit; the others suit retrained networks.
"""


class Level(NamedTuple):
    """How far a measured number lies from the printed one.

    Attributes:
        name: of the style sheet's class.
        mark: says the same as the colour.
        said: in words, for the legend.
    """

    name: str
    mark: str
    said: str


def level(difference: float, score: Score) -> Level:
    """The level of a difference, measured less printed, as it is shown."""
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
    found = {0: Level("same", "=", f"as printed: {words[0]}")}
    for far in (1, 2, 3):
        found[far] = Level(f"over{far}", "▲" * far, f"above by {words[far]}")
        found[-far] = Level(f"under{far}", "▼" * far, f"below by {words[far]}")
    return found


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
"""What a suspicious cell is called, by how it was found."""


@dataclass(frozen=True)
class GridCell:
    """One number: as printed, as measured, and how they differ.

    Attributes:
        printed, measured, difference: as text, or empty.
        values: the same as numbers, for sorting; empty text where there is none.
        level: how far they are apart, where both exist.
        run: the id of the record, or empty.
        status: ``measured``, ``failed`` or ``missing``.
        dagger: a mark where other weights than the authors' were used.
        standing: what has become of the printed number, or empty where none is printed.
        elsewhere: what other rules give, where only they give the printed number.
        doubt: why the printed number looks wrong, if so.
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
    """Table 2 as one grid a metric.

    Args:
        table: what `harness.report.results.results` gives.
        runs: what it was made of.
        paper: what `harness.paper.schema.paper` gives.
    """
    cells = judge_cells(Evidence(runs, paper))
    judged = {(cell.model, cell.dataset, cell.metric): cell for cell in cells}
    found = doubts(paper)
    return [_grid(table, metric, judged, found) for metric in SCORES.values()]


def doubts(paper: Mapping[str, Any]) -> dict[Key, Doubt]:
    """The suspicious cells of Table 2 by model, set and metric."""
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    found = {}
    for cell in paper["suspicious"]:
        if cell["table"] == "table2":
            key = (cell["row"], cell["column"], cell["metric"])
            number = f"{key[2].upper()} {SCORES[key[2]].as_printed(cell['printed'])}"
            title = f"{methods[key[0]]}, {DATASETS.get(key[1]).title}, {number}"
            kind = DOUBT_KINDS[cell["seen"]]
            found[key] = Doubt("-".join(("doubt", *key)), title, cell["reason"], kind)
    return found


def _grid(
    table: Table, metric: Score, judged: Mapping[Key, JudgedCell], found: Mapping[Key, Doubt]
) -> Grid:
    some = table.tidy[table.tidy["metric"] == metric.name]
    columns = tuple(DATASETS.get(name).title for name in some["dataset"].unique())
    lines = []
    # A model has three lines in the table; the first says its method and pipeline.
    groups = some.groupby("model", sort=False)
    for row, (model, numbers) in zip(table.rows[::3], groups, strict=True):
        cells = []
        for number in numbers.to_dict("records"):
            key = (str(model), str(number["dataset"]), metric.name)
            cells.append(_cell(number, metric, judged.get(key), found.get(key)))
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
    """Such as ``28.181 under grey images as-rgb``, where only other rules give what is printed."""
    if judged is None or judged.measured is None or judged.standing == judged.verdict:
        return ""
    return f"{metric.as_measured(judged.measured.value)} under {judged.measured.rules_text}"


def signed(value: float, decimals: int) -> str:
    """A difference with its sign: a real minus, and ``±`` for what rounds to nothing."""
    if not round(value, decimals):
        return f"±{0:.{decimals}f}"
    return f"{value:+.{decimals}f}".replace("-", "−")


class Share(NamedTuple):
    """How many cells are printed, measured, and measured with other weights than the authors'."""

    measured: int
    trained: int
    printed: int


def measured_share(grid: Grid) -> Share:
    """The share of the printed cells that are measured."""
    printed = [cell for line in grid.lines for cell in line.cells if cell.printed]
    measured = [cell for cell in printed if cell.measured]
    return Share(len(measured), sum(bool(cell.dagger) for cell in measured), len(printed))


def plain_tables(tables: Sequence[Table]) -> list[tuple[Table, bool]]:
    """Other tables, each with whether its rows stand alone and may be sorted."""
    return [(table, all(row and row[0] for row in table.rows)) for table in tables]
