"""A verdict for every number of Table 2, as a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from harness.paper.cells import Cell, judge_cells
from harness.paper.judgement import Evidence, Verdict, title
from harness.paper.scores import SCORES
from harness.paper.tolerances import PRINTED_SAID
from harness.registry import register_report
from harness.report.forms import Table

if TYPE_CHECKING:
    from harness.specs import GreyRule

MARKS: Mapping[Verdict, str] = {
    "reproduced": "+",
    "refuted": "x",
    "inconsistent in print": "!",
    "not measured": "?",
}
"""What stands behind a number."""


@register_report("verdicts")
def verdicts(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule = "full-range") -> Table:
    """Every printed number of Table 2 with its verdict.

    Args:
        runs: what `ResultStore.load` gives; may be empty.
        paper: what `harness.paper.paper` gives.
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
    tidy = pd.DataFrame([_tidy(cell) for cell in cells.values()])
    return Table("verdicts", _caption(tidy), headers, rows, tidy)


def _text(cell: Cell | None) -> str:
    """A number as printed, and its mark."""
    if cell is None:
        return "-"
    return f"{SCORES[cell.metric].as_printed(cell.printed)} {MARKS[cell.verdict]}"


def _tidy(cell: Cell) -> dict[str, Any]:
    one = cell.measured
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "metric": cell.metric,
        "printed": cell.printed,
        "measured": round(one.value, 6) if one else None,
        "rules": one.said if one else "",
        "verdict": cell.verdict,
        "run": one.run.identity.id if one else "missing",
    }


def _caption(tidy: pd.DataFrame) -> str:
    count = Counter(tidy["verdict"])
    legend = ", ".join(f"{MARKS[one]} {one} ({count[one]})" for one in get_args(Verdict))
    return (
        f"Every number of Table 2 as printed, with its verdict: {legend}. Reproduced: measured "
        f"with the authors' weights within {PRINTED_SAID} under the default rules or others in use "
        "(see the report rules), or reached with weights trained here, which cannot refute a "
        "number. Inconsistent in print: it contradicts other printed numbers."
    )
