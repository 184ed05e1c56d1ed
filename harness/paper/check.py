"""Compares run records with the numbers that a paper prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.paper.select import of_another_network, speaks_for_the_authors
from harness.paper.verdicts import PRINTED
from harness.run.compare import (
    FROZEN,
    CheckRow,
    Excuse,
    compare_mean,
    distance,
    finished_or_failed,
    retrained,
)

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.verdicts import CellStatus, JudgedCell
    from harness.record import RunRecord


def against_paper(findings: Findings, reference: Findings) -> list[CheckRow]:
    """Compare every run of a printed number with it; a number without a run gets a row, too.

    Failed runs count where none is finished. A difference is excused where the verdict explains it
    and the authors' weights give the same number in the reference. Other weights have the tolerance
    of retrained ones and no excuse. A run with an image of infinite score decides nothing.

    Args:
        findings: those of the local runs.
        reference: those of the reference runs, about the same paper.
    """
    return [
        row
        for cell, known in zip(findings.cells, reference.cells, strict=True)
        for row in _rows(cell, known)
    ]


def _rows(cell: JudgedCell, known: JudgedCell) -> list[CheckRow]:
    table = f"{cell.row.table.id} x{cell.row.scale}"
    row = CheckRow(cell.model, cell.dataset, cell.metric, cell.printed, table)
    if cell.obstacle:
        return [replace(row, impossible=True, reason=cell.obstacle)]
    runs = finished_or_failed(cell.following)
    with_metric = [run for run in runs if cell.metric in run.identity.metrics]
    if runs and not with_metric:
        return [replace(row, reason=f"run it again with --metric {cell.metric}")]
    return [_compare(run, row, cell, known) for run in with_metric] or [row]


_EXCUSES: Mapping[CellStatus | None, Excuse] = {
    "inconsistent in print": "known misprint",
    "reproduced under other rules": "other rules",
    "undecided": "undecided",
}
"""Why the authors' weights may miss a printed number, by the verdict on it."""


def _compare(run: RunRecord, printed: CheckRow, cell: JudgedCell, known: JudgedCell) -> CheckRow:
    official, another = speaks_for_the_authors(run), of_another_network(run, cell.row.table)
    tier = PRINTED if official or another else retrained(run)
    row = compare_mean(run, printed, tier, cell.printed or 0.0)
    if row.measured is None or row.tolerance is None:
        return row
    if another:
        return replace(row, tolerance=0.0, known="undecided", reason=another)
    excuse = _excuse(row.measured, known) if official else ""
    tolerance = max(row.tolerance, cell.score.rounding)
    row = replace(row, tolerance=tolerance, known=excuse, reason=_reason(excuse, known))
    for image in run.images:
        apart = image.scores[row.metric]
        if not math.isfinite(apart):  # a printed mean includes all images: this one decides nothing
            return replace(row, image=image.image, apart=apart, known=excuse or "undecided")
    return row


def _excuse(measured: float, known: JudgedCell) -> Excuse:
    """Excuse a difference that the authors' weights have in the reference, too."""
    if known.value is None or known.shown is None or not speaks_for_the_authors(known.shown):
        return ""
    near = abs(distance(measured, known.value)) <= FROZEN.of(known.metric, known.value)
    return _EXCUSES.get(known.standing, "") if near else ""


def _reason(excuse: Excuse, known: JudgedCell) -> str:
    """Say what looks wrong with a printed number, or why the authors' weights may miss it."""
    if known.doubt:
        return known.doubt.reason
    if excuse == "other rules" and known.measured:
        return f"the authors' weights give it under {known.measured.rules_text}"
    return "; ".join(known.unsettled) if excuse == "undecided" else ""
