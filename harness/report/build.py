"""Building reports from run records and writing them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness.errors import HarnessError, UsageError
from harness.paper import paper
from harness.registry import REPORTS
from harness.report import (  # noqa: F401
    claims,
    complexity,
    differences,
    rules,
    table1,
    tables,
    verdicts,
)
from harness.run.store import ResultStore, write_atomically

if TYPE_CHECKING:
    from harness.specs import GreyRule


def build(
    name: str, formats: Sequence[str], results: Path, out: Path, grey: GreyRule
) -> Iterator[tuple[tables.Table, list[Path]]]:
    """Build the reports of a name, a glob or ``all``, and write each in the formats asked for.

    Raises:
        UsageError: no such report or format.
        HarnessError: there are no runs, or the folder cannot be written.
    """
    known: tuple[tables.Format, ...] = get_args(tables.Format)
    unknown = next((word for word in formats if word not in known), None)
    if unknown:
        raise UsageError(f"No format is called {unknown!r}: there are {', '.join(known)}.")
    forms = [form for form in known if form in formats]
    names = REPORTS.select(name)
    runs = ResultStore(results).load()
    for chosen in names:
        table = REPORTS.get(chosen)(runs, paper(), grey)
        yield table, [_write(table, form, out, grey) for form in forms]


def _write(table: tables.Table, form: tables.Format, out: Path, grey: GreyRule) -> Path:
    suffix = "" if grey == "full-range" else f"-{grey}"
    path = out / f"{table.name}{suffix}.{form}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, table.render(form))
    except OSError as error:
        raise HarnessError(f"The report {path} cannot be written ({error}).") from error
    return path
