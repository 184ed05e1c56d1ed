"""Compares run records with the numbers that a paper prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.paper.select import decides, is_by_the_authors, same_network
from harness.paper.verdicts import PRINTED, made_with
from harness.run.compare import FROZEN, CheckRow, Excuse, compare_mean

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.verdicts import CellStatus, JudgedCell
    from harness.record import RunRecord


def against_paper(findings: Findings, reference: Findings) -> list[CheckRow]:
    """Compare each printed number with the run that is shown beside it, by the number's verdict.

    A number fails if it is refuted, if the authors' weights or images miss both the print and what
    the reference has them give, or if its run failed. What is undecided does not fail.

    Args:
        findings: those of the local runs.
        reference: those of the reference runs, about the same paper.

    Returns:
        one row for each printed number.
    """
    known = {_place(cell): cell for cell in reference.cells}
    return [_row(cell, known.get(_place(cell))) for cell in findings.cells]


def _place(cell: JudgedCell) -> tuple[str, int, str, str, str]:
    row = cell.row
    return row.table.id, row.scale, row.method, cell.dataset, cell.metric


def _row(cell: JudgedCell, known: JudgedCell | None) -> CheckRow:
    table = f"{cell.row.table.id} x{cell.row.scale}"
    row = CheckRow(cell.model, cell.dataset, cell.metric, cell.printed, table)
    if cell.obstacle:
        return replace(row, impossible=True, reason=cell.obstacle)
    run = cell.shown or cell.failed
    if run is None and cell.measured and not cell.grey:
        run = cell.measured.run  # under other rules than the table's
    if run is None:
        only = cell.measured.rules_text if cell.measured else ""
        return replace(row, reason=only and f"it was run under {only} only")
    if cell.metric not in run.identity.metrics:
        return replace(row, reason=f"run it again with --metric {cell.metric}")
    return _compare(run, row, cell, known)


_EXCUSES: Mapping[CellStatus | None, Excuse] = {
    "reproduced under other rules": "reproduced under other rules",
    "inconsistent in print": "inconsistent in print",
    "undecided": "undecided",
    "not measured": "undecided",  # shown under another grey rule than the table's
}
"""Why a number that differs from the print does not fail, by its verdict."""


def _compare(
    run: RunRecord, printed: CheckRow, cell: JudgedCell, known: JudgedCell | None
) -> CheckRow:
    """Compare a run with a printed number; the verdict on the number excuses a difference."""
    row = compare_mean(run, printed, PRINTED, cell.printed or 0.0)
    if row.measured is None or row.tolerance is None:
        return row
    excuse = _EXCUSES.get(cell.standing, "")
    apart = abs(row.difference or 0.0) > cell.tolerance
    if apart and cell.standing == "reproduced":
        # Other weights reach more than is printed, or other rules are shown than the table's.
        excuse = "reproduced under other rules" if decides(run, cell.row.table) else "ok"
    row = replace(row, tolerance=cell.tolerance, known=excuse, reason=_reason(cell))
    for image in run.images:
        score = image.scores[row.metric]
        if not math.isfinite(score):  # a printed mean includes all images: this one decides nothing
            return replace(row, image=image.image, apart=score, known=excuse or "undecided")
    return _against_reference(row, run, known) if apart else row


def _against_reference(row: CheckRow, run: RunRecord, known: JudgedCell | None) -> CheckRow:
    """Excuse nothing if the authors' weights or images have another number in the reference."""
    other = _in_reference(run, row.metric, known)
    if known is None or other is None or row.measured is None:
        return row
    theirs = other.means[row.metric]
    if abs(row.measured - theirs) <= FROZEN.of(row.metric, theirs):
        return row
    given, how = known.score.as_measured(theirs), made_with(other, known.row.table)
    return replace(row, known="", reason=f"it is {given} in the reference, measured {how}")


def _reason(cell: JudgedCell) -> str:
    """Say why a number has its verdict, and what looks wrong with it in print."""
    reasons = []
    if cell.verdict == "undecided":
        reasons += cell.unsettled
    elif cell.verdict == "refuted":
        reasons.append(f"refuted: {cell.tried}")
    elif cell.standing == "reproduced under other rules" and cell.measured:
        how = made_with(cell.measured.run, cell.row.table)
        reasons.append(f"measured {how}, it holds under {cell.measured.rules_text}")
    return "; ".join([*reasons, *([cell.doubt.reason] if cell.doubt else [])])


def _in_reference(run: RunRecord, metric: str, known: JudgedCell | None) -> RunRecord | None:
    """Return the reference run with the weights or images of a run, if they are the authors'."""
    if known is None or not is_by_the_authors(run):
        return None
    ours = run.identity
    for other in known.runs:
        theirs = other.identity
        same = (theirs.protocol, theirs.dataset_sha256) == (ours.protocol, ours.dataset_sha256)
        if same and metric in other.means and same_network(run, other):
            return other
    return None
