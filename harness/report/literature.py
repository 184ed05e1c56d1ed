"""The report on numbers that other public documents print as well as the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.literature import Elsewhere, elsewhere, measured_as, official
from harness.paper.schema import listed
from harness.registry import register_report
from harness.report.legend import PLACE, place, place_facts, table_name
from harness.report.table import Table, each_table

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Table as PrintedTable
    from harness.paper.select import Measurement
    from harness.paper.verdicts import JudgedCell


@register_report("literature")
def literature(findings: Findings) -> list[Table]:
    """Report the numbers of each table of the paper that other documents print, too."""
    return each_table(findings, "literature", _table)


def _table(findings: Findings, printed: PrintedTable) -> Table:
    cells = [cell for cell in findings.cells if cell.row.table is printed]
    known = [(cell, found) for cell in cells if (found := elsewhere(cell))]
    same = sum(any(one.same for one in found) for _, found in known)
    again = sum(bool(official(cell)) for cell, _ in known)
    reached = sum(bool(_reached(cell, found)) for cell, found in known)
    own = sum(_own(cell) is not None for cell, _ in known)
    documents = {f"{one.source.name} ({one.source.where})" for _, found in known for one in found}
    caption = (
        f"{len(known)} of the {len(cells)} numbers of {table_name(printed)} stand in other public "
        f"documents as well, {same} of them in the same digits in at least one. Documents other "
        f"than of a method's authors copy from papers. {again} were measured with the authors' "
        f"weights or without any: {reached} round to a value in print, {own} to the paper's, under "
        "some rules in use, which are named if not the table's own. "
        f"Documents: {'; '.join(sorted(documents))}."
    )
    headers = [*PLACE, "Printed elsewhere", "Measured", "Rounds to"]
    facts = [_facts(cell, one) for cell, found in known for one in found]
    rows = [_row(cell, found) for cell, found in known]
    return Table("literature", caption, headers, rows, pd.DataFrame(facts))


def _row(cell: JudgedCell, found: Sequence[Elsewhere]) -> list[str]:
    first = next(iter(official(cell)), None)
    return [
        *place(cell),
        "; ".join(map(str, found)),
        _with_rules(cell.score.as_measured(first.value), first) if first else "",
        "; ".join(_reached(cell, found)),
    ]


def _own(cell: JudgedCell) -> Measurement | None:
    return measured_as(cell, cell.printed or 0.0, cell.score)


def _reached(cell: JudgedCell, found: Sequence[Elsewhere]) -> list[str]:
    """List the values in print that a measurement rounds to, the paper's first."""
    values = {cell.printed_text: _own(cell)} | {one.text: one.reached for one in found}
    return [_with_rules(text, one) for text, one in values.items() if one]


def _with_rules(text: str, one: Measurement) -> str:
    """Add the rules of a measurement that differ from the table's, in brackets."""
    return f"{text} ({one.rules_text})" if one.rules else text


def _facts(cell: JudgedCell, one: Elsewhere) -> dict[str, Any]:
    shown = one.reached or next(iter(official(cell)), None)
    return place_facts(cell) | {
        "elsewhere": one.text,
        "document": one.source.where,
        "authors_of": one.source.authors_of,
        "same": one.same,
        "measured": shown and round(shown.value, 6),
        "rules": shown and shown.rules_text,
        "rounds_to_elsewhere": shown and shown is one.reached,
        "run": shown and shown.run.identity.id,
    }


def elsewhere_text(cell: JudgedCell) -> str:
    """Say where else a number is printed, and to which of the values a measurement rounds.

    Empty for a number that no other document prints.
    """
    if not (found := elsewhere(cell)):
        return ""
    text = f"Also printed as {listed([*map(str, found)])}."
    if official(cell):
        text += f" Measured values round to {listed(_reached(cell, found)) or 'none of these'}."
    return text
