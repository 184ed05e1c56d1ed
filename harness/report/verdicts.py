"""A verdict for every number of Table 2, as a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.findings import Evidence
from harness.paper.schema import SCORES, title
from harness.paper.tolerances import PRINTED_SAID
from harness.paper.verdicts import JudgedCell, judge_cells
from harness.registry import register_report
from harness.report.forms import Table
from harness.report.marks import FAILED, MARKS, MISSING, TRAINED_HERE, dagger, training

if TYPE_CHECKING:
    from harness.cards import GreyRule


@register_report("verdicts")
def verdicts(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Every printed number of Table 2 with its verdict.

    Args:
        runs: what `ResultStore.load` gives; may be empty.
        paper: what `harness.paper.schema.paper` gives.
        grey: without influence; a number counts as reproduced under any rule in use.
    """
    evidence = Evidence(runs, paper)
    cells = {(cell.model, cell.dataset, cell.metric): cell for cell in judge_cells(evidence)}
    rows = [
        [row["method"] if metric == "psnr" else "", metric.upper()]
        + [_text(cells.get((model, name, metric))) for name in evidence.sets]
        for model, row in evidence.table2.items()
        for metric in SCORES
    ]
    headers = ["Method", "", *map(title, evidence.sets)]
    remarks = {
        (one["row"], one["column"], one["metric"]): one["reason"] for one in paper["suspicious"]
    }
    tidy = pd.DataFrame([_tidy(cell, remarks.get(key, "")) for key, cell in cells.items()])
    return Table("verdicts", _caption(cells.values()), headers, rows, tidy)


def _text(cell: JudgedCell | None) -> str:
    """A number as printed, and its mark."""
    if cell is None:
        return "-"
    own = dagger(cell.measured.run) if cell.measured else ""
    failed = f" {FAILED}" if cell.broken else ""
    return f"{SCORES[cell.metric].as_printed(cell.printed)} {MARKS[cell.standing]}{own}{failed}"


def _tidy(cell: JudgedCell, remark: str) -> dict[str, Any]:
    one = cell.measured
    run = one.run if one else cell.broken
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "metric": cell.metric,
        "printed": cell.printed,
        "measured": round(one.value, 6) if one else None,
        "rules": one.said if one else "",
        "training": training(one.run) if one else "",
        "verdict": cell.verdict,
        "remark": remark,
        "status": "measured" if one else FAILED if cell.broken else MISSING,
        "run": run.identity.id if run else MISSING,
    }


def _caption(cells: Collection[JudgedCell]) -> str:
    count = Counter(cell.standing for cell in cells)
    legend = ", ".join(f"{mark} {standing} ({count[standing]})" for standing, mark in MARKS.items())
    failed = sum(bool(cell.broken) for cell in cells)
    return (
        f"Every number of Table 2 as printed, with its verdict: {legend}. Reproduced: measured "
        f"with the authors' weights within {PRINTED_SAID}, or reached with others "
        f"({TRAINED_HERE}), which cannot refute a number; under the default rules, or under others "
        "in use, which the report rules names. Inconsistent in print: it contradicts other printed "
        f"numbers. Runs that failed: {failed or 'none'}."
    )
