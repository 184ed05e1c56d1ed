"""Table 2 under every rule in use: which of them gives the printed number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.findings import Evidence
from harness.paper.schema import SCORES, title
from harness.paper.select import Measurement, measurements
from harness.paper.tolerances import PRINTED, PRINTED_SAID
from harness.registry import register_report
from harness.report.forms import Table

if TYPE_CHECKING:
    from harness.cards import GreyRule

_COLUMNS = ["cell", "model", "dataset", "metric", "printed", "rules", "measured", "agrees", "run"]


@register_report("rules")
def rules(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Each printed number that was measured, with its value under every rule that was run.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.schema.paper` gives.
        grey: without influence; both rules are shown.
    """
    del grey
    evidence = Evidence(runs, paper)
    facts = [
        fact
        for model, row in evidence.table2.items()
        for dataset in evidence.sets
        if dataset in row
        for place, metric in enumerate(SCORES)
        for fact in _facts(evidence, model, dataset, metric, row[dataset][place])
    ]
    tidy = pd.DataFrame(facts, columns=_COLUMNS)
    rows = [_line(evidence, cell) for _, cell in tidy.groupby(["cell"], sort=False)]
    headers = ["Method", "Set", "", "Printed", "Measured", "Agrees under"]
    return Table("rules", _caption(tidy), headers, rows, tidy.drop(columns="cell"))


def _facts(
    evidence: Evidence, model: str, dataset: str, metric: str, printed: float
) -> list[dict[str, Any]]:
    found = measurements(evidence.candidates, model, dataset, metric)
    # Bicubic has a name in each pipeline; which of them the paper used is not said.
    twin = "bicubic-rgb" if model == "bicubic" else ""
    other = measurements(evidence.candidates, twin, dataset, metric)
    tolerance = PRINTED.of(metric)
    return [
        {
            "cell": f"{model}/{dataset}/{metric}",
            "model": model,
            "dataset": dataset,
            "metric": metric,
            "printed": printed,
            "rules": _said(one),
            "measured": round(one.value, 6),
            "agrees": abs(one.value - printed) <= tolerance,
            "run": one.run.identity.id,
        }
        for one in [*found, *other]
    ]


def _said(one: Measurement) -> str:
    pipeline = one.run.identity.protocol.split("/")[1].split("+")[0]
    return ", ".join([f"pipeline {pipeline}", *one.rules])


def _line(evidence: Evidence, cell: pd.DataFrame) -> list[str]:
    first = cell.iloc[0]
    score = SCORES[first["metric"]]
    measured = [
        f"{score.as_measured(value)} ({said})"
        for value, said in zip(cell["measured"], cell["rules"], strict=True)
    ]
    agreeing = list(cell.loc[cell["agrees"], "rules"])
    return [
        evidence.table2[first["model"]]["method"],
        title(first["dataset"]),
        first["metric"].upper(),
        score.as_printed(first["printed"]),
        "; ".join(measured),
        "; ".join(agreeing) or "none",
    ]


def _caption(tidy: pd.DataFrame) -> str:
    agreeing = tidy.groupby("cell")["agrees"].any()
    return (
        "Table 2 under the rules in use, with the authors' weights where they exist: each printed "
        f"number that was measured, and the rules under which it agrees within {PRINTED_SAID}; "
        f"{agreeing.sum()} of {len(agreeing)} agree under one at least. "
        "Grey images as-rgb: scored on the luma of their RGB copy. LR images not rounded: made in "
        "double from RGB. Luma not rounded: that of the HR image and of the output is compared in "
        "double. SSIM of the whole image: edges continued, as MATLAB's ssim has it, "
        "instead of windows inside the image only."
    )
