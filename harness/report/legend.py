"""The marks and notes that all reports share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.cards import PRESETS, Preset
from harness.models.find_weights import training_notes
from harness.models.published import described
from harness.paper.schema import title
from harness.paper.select import decides, of_another_network
from harness.protocol.rules import USUAL_GREY
from harness.registry import MODELS
from harness.text import listed

if TYPE_CHECKING:
    from harness.cards import GreyRule
    from harness.paper.schema import Row, Table
    from harness.paper.verdicts import CellStatus, JudgedCell
    from harness.record import RunRecord


MISSING, FAILED = "missing", "failed"
"""Shown in place of a number that was not run, or whose run failed."""

MARKS: Mapping[CellStatus, str] = {
    "reproduced": "✓",
    "reproduced under other rules": "≈",
    "refuted": "✗",
    "inconsistent in print": "≠",
    "undecided": "?",
    "not measured": "○",
}
"""The marks after printed numbers, in the order of the legend."""

TRAINED_HERE = "†"
"""The mark after a number of a published network with other weights than the authors'."""

PUBLISHED = "‡"
"""The mark after a number from published SR images."""


def is_own(row: Row) -> bool:
    """Whether a row's network is the user's own: it is not in the paper, and its card names none.

    The user is its author.
    """
    return not row.in_paper and not (row.model in MODELS and MODELS.get(row.model).paper)


def dagger(record: RunRecord, row: Row) -> str:
    """Return the mark of a row's run with SR images, or with other weights than the authors'."""
    if record.identity.sr_sha256:
        return PUBLISHED
    return "" if is_own(row) or decides(record, row.table) else TRAINED_HERE


class Shown(NamedTuple):
    """A run in a report, with its row and the name that the report gives to it."""

    name: str
    row: Row
    run: RunRecord


def table_name(table: Table) -> str:
    """Name a printed table, and the documents that its numbers were read from, if not the paper."""
    return table.title + (f" (read from {listed(table.read_from)})" if table.read_from else "")


PLACE = ["Method", "Scale", "Set", "", "Printed"]
"""The headers of `place`."""


def place(cell: JudgedCell) -> list[str]:
    """Write a printed number and where it stands, as the beginning of a table's row."""
    names = [cell.row.method, f"x{cell.row.scale}", title(cell.dataset), cell.metric.upper()]
    return [*names, cell.printed_text]


def place_facts(cell: JudgedCell) -> dict[str, Any]:
    """Collect the columns that the CSV of every report on numbers begins with."""
    where = {"model": cell.model, "scale": cell.row.scale, "dataset": cell.dataset}
    return where | {"metric": cell.metric, "printed": cell.printed}


def grey_note(grey: GreyRule | None, table: Table) -> str:
    """Write the rule for grey images of the runs shown, as the beginning of a sentence.

    ``grey`` is the rule of all rows; None for each row's own, a preset of the table.
    """
    usual = grey_rules(grey, PRESETS[table.rules])
    exceptions = [
        f"{rules} for {' on '.join(map(title, cell.split(' | ')))}"
        for cell, name in table.exceptions.items()
        if (rules := grey_rules(grey, PRESETS[name])) != usual
    ]
    return ", but ".join([f"Grey images: {usual}", *exceptions])


def grey_rules(grey: GreyRule | None, preset: Preset) -> str:
    """Write the rule for grey images, the preset's if None, and an unusual border of imresize."""
    usual = [f"{rule} in pipeline {pipeline}" for pipeline, rule in USUAL_GREY.items()]
    border = "" if preset.border == Preset.border else f" (border of imresize: {preset.border})"
    return (grey or preset.grey or listed(usual)) + border


def dagger_note(runs: Iterable[Shown]) -> str:
    """Explain the daggers: the training of each row's network, and where images are from.

    Empty if no run has one.
    """
    trained: dict[str, None] = {}
    others: dict[str, None] = {}
    published: dict[str, None] = {}
    for name, row, run in runs:
        if run.identity.sr_sha256:
            published[f"{name}: {described(run.identity)}"] = None
        elif dagger(run, row) and (another := of_another_network(run, row.table)):
            others[f"{name}: {another}"] = None
        elif dagger(run, row):
            trained[f"{name} with {training_notes(run)}"] = None
    notes = []
    if trained:
        notes.append(
            f"{TRAINED_HERE} Not the authors' weights, which may reach a printed number and cannot "
            f"refute one: {'; '.join(trained)}."
        )
    if others:
        notes.append(f"{TRAINED_HERE} Of another network: {'; '.join(others)}.")
    if published:
        notes.append(f"{PUBLISHED} Scored here and made elsewhere: {'; '.join(published)}.")
    return " ".join(notes)
