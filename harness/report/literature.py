"""The report on numbers that other public documents print as well as the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.literature import as_printed, documents, elsewhere, measured, measured_as
from harness.paper.schema import listed, title
from harness.registry import register_report
from harness.report.legend import table_name
from harness.report.table import Table, each_table

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Table as PrintedTable
    from harness.paper.verdicts import JudgedCell


@register_report("literature")
def literature(findings: Findings) -> list[Table]:
    """Report the numbers of each table of the paper that other documents print, too.

    A table without a number that was measured, or is printed otherwise elsewhere, has no report.
    """
    return each_table(findings, "literature", _table)


def _table(findings: Findings, printed: PrintedTable) -> Table:
    cells = [cell for cell in findings.cells if cell.row.table is printed]
    known = [cell for cell in cells if elsewhere(cell)]
    rows = [
        _line(cell)
        for cell in known
        if measured(cell) or not all(as_printed(cell, one) for one in elsewhere(cell))
    ]
    headers = ["Method", "Scale", "Set", "", "Printed", "Printed elsewhere", "Measured"]
    tidy = pd.DataFrame([fact for cell in known for fact in _facts(cell)])
    caption = _caption(printed, cells, known)
    return Table("literature", caption, [*headers, "Rounds to"], rows, tidy)


def _values(cell: JudgedCell) -> list[str]:
    """Write each value that other documents print, with their names."""
    names: dict[str, list[str]] = {}
    for one in elsewhere(cell):
        names.setdefault(str(one), []).append(one.source.name)
    return [f"{value} ({listed(who)})" for value, who in names.items()]


def _line(cell: JudgedCell) -> list[str]:
    return [
        cell.row.method,
        f"x{cell.row.scale}",
        title(cell.dataset),
        cell.metric.upper(),
        cell.score.as_printed(cell.printed or 0.0),
        "; ".join(_values(cell)),
        _measured_text(cell),
        "; ".join(_reached(cell)) or ("none" if measured(cell) else ""),
    ]


def _measured_text(cell: JudgedCell) -> str:
    """Write what is measured under the table's rules, or under the nearest ones that ran."""
    if not (found := measured(cell)):
        return ""
    rules = f" ({found[0].rules_text})" if found[0].rules else ""
    return cell.score.as_measured(found[0].value) + rules


def _reached(cell: JudgedCell) -> list[str]:
    """List the values in print that a measurement rounds to, those under the table's rules first.

    Other rules follow in brackets.
    """
    values = {cell.score.as_printed(cell.printed or 0.0): cell.score.printed}
    values |= {str(one): one.decimals for one in elsewhere(cell)}
    found = ((text, measured_as(cell, float(text), values[text])) for text in values)
    reached = sorted((len(one.rules), text, one) for text, one in found if one)
    return [f"{text} ({one.rules_text})" if one.rules else text for _, text, one in reached]


def _facts(cell: JudgedCell) -> list[dict[str, Any]]:
    """Make a row for each document that prints a number."""
    facts = []
    for one in elsewhere(cell):
        reached = measured_as(cell, one.value, one.decimals)
        shown = reached or next(iter(measured(cell)), None)
        facts.append(
            {
                "model": cell.model,
                "scale": cell.row.scale,
                "dataset": cell.dataset,
                "metric": cell.metric,
                "printed": cell.printed,
                "elsewhere": one.value,
                "document": one.source.where,
                "authors_of": one.source.authors_of,
                "same": as_printed(cell, one),
                "measured": round(shown.value, 6) if shown else None,
                "rules": shown.rules_text if shown else "",
                "rounds_to_elsewhere": bool(reached) if shown else "",
                "run": shown.run.identity.id if shown else "",
            }
        )
    return facts


def _caption(table: PrintedTable, cells: Sequence[JudgedCell], known: Sequence[JudgedCell]) -> str:
    same = sum(any(as_printed(cell, one) for one in elsewhere(cell)) for cell in known)
    text = (
        f"{len(known)} of the {len(cells)} numbers of {table_name(table)} stand in other public "
        f"documents as well, {same} of them in the same digits in at least one. Documents other "
        "than of a method's authors copy from papers. Shown are the numbers that some document "
        "prints otherwise, or that were measured; the CSV has all."
    )
    again = [cell for cell in known if measured(cell)]
    own = [cell for cell in again if measured_as(cell, cell.printed or 0.0, cell.score.printed)]
    others = [cell for cell in again if cell not in own and _reached(cell)]
    if again:
        text += (
            f" {len(again)} were measured with the authors' weights or a method without any: "
            f"{len(own)} round to the paper's digits, and {len(others)} more to those of another "
            "document only, under some rules in use, which are named if not the table's own."
        )
    used = {one.source.name for cell in known for one in elsewhere(cell)}
    sources = [f"{one.name} ({one.where})" for one in documents() if one.name in used]
    return f"{text} Documents: {'; '.join(sources)}."


def elsewhere_text(cell: JudgedCell) -> str:
    """Say where else a number is printed, and to which of the values a measurement rounds.

    For example: ``Also printed as 28.09 (A) and 28.19 (B). Measured values round to 28.09 and
    28.19 (grey images as-rgb).`` Empty for a number that no other document prints.
    """
    if not (values := _values(cell)):
        return ""
    text = f"Also printed as {listed(values)}."
    if reached := _reached(cell):
        text += f" Measured values round to {listed(reached)}."
    elif measured(cell):
        text += f" The measured {_measured_text(cell)} rounds to none of the printed values."
    return text
