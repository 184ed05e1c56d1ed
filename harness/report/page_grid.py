"""Table 2 for the page: a grid for each metric, coloured by the distance from the print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from harness.paper.schema import SCORES, Score, method_names, suspicious, title
from harness.paper.verdicts import Evidence, JudgedCell, judge_cells
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


DOUBT_KINDS: Mapping[str, str] = {
    "print": "doubtful",
    "measurement": "other rules",
    "unusual": "unusual",
}
"""The names of suspicious cells, by how they were found."""


def grids(table: Table, runs: pd.DataFrame, paper: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Convert Table 2 to one grid per metric.

    Args:
        table: the output of `harness.report.results.results`.
        runs: the runs that the table was made from.
        paper: the output of `harness.paper.schema.paper`.
    """
    cells = judge_cells(Evidence(runs, paper))
    judged = {(cell.model, cell.dataset, cell.metric): cell for cell in cells}
    doubted = doubts(paper)
    return [_grid(table, metric, judged, doubted) for metric in SCORES.values()]


def doubts(paper: Mapping[str, Any]) -> dict[Key, dict[str, str]]:
    """Collect the suspicious cells of Table 2 by model, set and metric."""
    methods = method_names(paper)
    cells = {}
    for (model, dataset, metric), cell in suspicious(paper).items():
        number = f"{metric.upper()} {SCORES[metric].as_printed(cell['printed'])}"
        cells[model, dataset, metric] = {
            "anchor": f"doubt-{model}-{dataset}-{metric}",
            "title": f"{methods[model]}, {title(dataset)}, {number}",
            "reason": cell["reason"],
            "kind": DOUBT_KINDS[cell["seen"]],
        }
    return cells


def _grid(
    table: Table,
    metric: Score,
    judged: Mapping[Key, JudgedCell],
    doubted: Mapping[Key, Mapping[str, str]],
) -> dict[str, Any]:
    tidy = table.tidy[table.tidy["metric"] == metric.name]
    lines = []
    # A model has three lines in the table; the first has its method and pipeline.
    groups = tidy.groupby("model", sort=False)
    for row, (model, numbers) in zip(table.rows[::3], groups, strict=True):
        cells = []
        for number in numbers.to_dict("records"):
            key = (str(model), str(number["dataset"]), metric.name)
            doubt = {"doubt": doubted.get(key)}
            cells.append(_cell(number, metric, judged.get(key)) | doubt)
        lines.append({"method": row[0], "model": model, "pipeline": row[1], "cells": cells})
    columns = [title(name) for name in tidy["dataset"].unique()]
    return {"metric": metric, "columns": columns, "lines": lines}


def _cell(number: Mapping[Any, Any], metric: Score, judged: JudgedCell | None) -> dict[str, Any]:
    """Write a number; its ``printed``, ``measured`` and ``difference`` are empty if missing."""
    known = {name: None if pd.isna(number[name]) else float(number[name]) for name in _WRITTEN}
    texts = {
        name: "" if value is None else _WRITTEN[name](metric, value)
        for name, value in known.items()
    }
    difference = known["difference"]
    return texts | {
        # For sorting.
        "numbers": {name: "" if value is None else value for name, value in known.items()},
        "level": None if difference is None else level(difference, metric),
        "run": "" if number["run"] == MISSING else number["run"],
        "status": number["status"],
        "dagger": TRAINED_HERE if number["training"] else "",
        "standing": judged.standing if judged else "",
        "elsewhere": _elsewhere(judged, metric),
    }


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


_WRITTEN: Mapping[str, Callable[[Score, float], str]] = {
    "printed": Score.as_printed,
    "measured": Score.as_measured,
    "difference": lambda metric, value: signed(value, metric.measured),
}


def measured_share(grid: Mapping[str, Any]) -> tuple[int, int, int]:
    """Count the printed cells: those measured, those with other weights than the authors', all."""
    printed = [cell for line in grid["lines"] for cell in line["cells"] if cell["printed"]]
    measured = [cell for cell in printed if cell["measured"]]
    return len(measured), sum(bool(cell["dagger"]) for cell in measured), len(printed)
