"""What stands behind and beside numbers in the reports: one legend for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.paper.schema import listed, paper, title
from harness.paper.select import speaks_for_the_authors, training_notes
from harness.protocol.protocols import USUAL_GREY

if TYPE_CHECKING:
    from harness.cards import GreyRule
    from harness.paper.verdicts import CellStatus
    from harness.record import RunRecord


MISSING, FAILED = "missing", "failed"
"""What stands in the place of a number: nobody ran it, or its run broke."""

MARKS: Mapping[CellStatus, str] = {
    "reproduced": "✓",
    "reproduced under other rules": "≈",
    "refuted": "✗",
    "inconsistent in print": "≠",
    "not measured": "○",
}
"""What stands behind a printed number, in the order of the legend."""

TRAINED_HERE = "†"
"""What stands behind a number that other weights than the authors' gave."""


def dagger(record: RunRecord) -> str:
    """`TRAINED_HERE` where a run used other weights than the authors'."""
    return "" if speaks_for_the_authors(record) else TRAINED_HERE


def grey_note(grey: GreyRule | None) -> str:
    """The grey rule of what is shown, as the beginning of a sentence.

    Args:
        grey: the rule of all rows; None for each row's own.
    """
    if grey:
        return f"Grey images: {grey}"
    usual = listed([f"{rule} in pipeline {pipeline}" for pipeline, rule in USUAL_GREY.items()])
    own = [
        f"{rule} for {model} on {title(dataset)}"
        for model, cells in paper()["grey"].items()
        for dataset, rule in cells.items()
    ]
    printed = f", but {listed(own)}, whose printed PSNR follows it" if own else ""
    return f"Grey images: {usual}{printed}"


def training(record: RunRecord) -> str:
    """How other weights than the authors' were trained; empty for the authors'."""
    return "" if speaks_for_the_authors(record) else str(training_notes(record))


def dagger_note(records: Iterable[RunRecord], methods: Mapping[str, str]) -> str:
    """What the dagger means, with the training of each network; empty where nothing has one.

    Args:
        records: those that are shown.
        methods: what the paper calls models.
    """
    budgets: dict[str, list[str]] = {}
    for record in records:
        if said := training(record):
            names = budgets.setdefault(said, [])
            name = methods.get(record.identity.model, record.identity.model)
            names += [name] * (name not in names)
    if not budgets:
        return ""
    trained = "; ".join(f"{listed(names)} with {said}" for said, names in budgets.items())
    return (
        f"{TRAINED_HERE} Not the authors' weights, which may reach a printed number and cannot "
        f"refute one: {trained}."
    )
