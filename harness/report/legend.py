"""The marks and notes that all reports share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.paper.schema import listed, paper, title
from harness.paper.select import speaks_for_the_authors, training_notes
from harness.protocol.rules import USUAL_GREY

if TYPE_CHECKING:
    from harness.cards import GreyRule
    from harness.paper.verdicts import CellStatus
    from harness.record import RunRecord


MISSING, FAILED = "missing", "failed"
"""Shown in place of a number that was not run, or whose run failed."""

MARKS: Mapping[CellStatus, str] = {
    "reproduced": "✓",
    "reproduced under other rules": "≈",
    "refuted": "✗",
    "inconsistent in print": "≠",
    "not measured": "○",
}
"""The marks after printed numbers, in the order of the legend."""

TRAINED_HERE = "†"
"""The mark after a number from other weights than the authors'."""


def dagger(record: RunRecord) -> str:
    """Return `TRAINED_HERE` for a run with other weights than the authors', else nothing."""
    return "" if speaks_for_the_authors(record) else TRAINED_HERE


def grey_note(grey: GreyRule | None) -> str:
    """Write the grey rule of the runs shown, as the beginning of a sentence.

    Args:
        grey: the rule of all rows; None for each row's own.
    """
    if grey:
        return f"Grey images: {grey}"
    usual = listed([f"{rule} in pipeline {pipeline}" for pipeline, rule in USUAL_GREY.items()])
    exceptions = [
        f"{rule} for {model} on {title(dataset)}"
        for model, cells in paper()["grey"].items()
        for dataset, rule in cells.items()
    ]
    printed = f", but {listed(exceptions)}, whose printed PSNR follows it" if exceptions else ""
    return f"Grey images: {usual}{printed}"


def training(record: RunRecord) -> str:
    """Describe how weights other than the authors' were trained; empty for the authors'."""
    return "" if speaks_for_the_authors(record) else str(training_notes(record))


def dagger_note(records: Iterable[RunRecord], methods: Mapping[str, str]) -> str:
    """Explain the dagger, with the training of each network; empty if no record has one.

    Args:
        records: the records shown.
        methods: the paper's names of the models.
    """
    budgets: dict[str, list[str]] = {}
    for record in records:
        if budget := training(record):
            names = budgets.setdefault(budget, [])
            name = methods.get(record.identity.model, record.identity.model)
            names += [name] * (name not in names)
    if not budgets:
        return ""
    trained = "; ".join(f"{listed(names)} with {budget}" for budget, names in budgets.items())
    return (
        f"{TRAINED_HERE} Not the authors' weights, which may reach a printed number and cannot "
        f"refute one: {trained}."
    )
