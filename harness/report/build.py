"""Building reports from run records and writing them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness.data.partial import write_atomically
from harness.errors import HarnessError, UsageError
from harness.paper import paper
from harness.registry import REPORTS
from harness.report import (  # noqa: F401 - they register themselves
    claims,
    complexity,
    crops,
    differences,
    figure5,
    page,
    rules,
    table1,
    tables,
    verdicts,
)
from harness.report.forms import Format, Report
from harness.run.store import ResultStore

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.pictures import Pictures
    from harness.specs import GreyRule


def build(
    name: str,
    formats: Sequence[str],
    results: Path,
    out: Path,
    grey: GreyRule | None,
    pictures: Pictures,
) -> Iterator[tuple[Report, list[Path]]]:
    """Build the reports of a name, a glob or ``all``, and write each in the formats asked for.

    Args:
        name: the reports.
        formats: those wanted, each for the reports that have it; none for all.
        results: the folder of the run records.
        out: where the files go.
        grey: the rule whose runs are shown; None for each row's own.
        pictures: handed to the reports that take it.

    Raises:
        UsageError: no such report or format, or none of the reports has the format.
        HarnessError: a report needs runs and there are none, or the folder cannot be written.
    """
    known: tuple[Format, ...] = get_args(Format)
    unknown = next((word for word in formats if word not in known), None)
    if unknown:
        raise UsageError(f"No format is called {unknown!r}: there are {', '.join(known)}.")
    names = REPORTS.select(name)
    runs = ResultStore(results).load()
    offered: set[str] = set()
    # All are made before the first is written: without runs nothing is left half done.
    for report in [make(chosen, runs, grey, pictures) for chosen in names]:
        forms = [form for form in report.formats if form in formats or not formats]
        yield report, [_write(report, form, out, grey) for form in forms]
        offered.update(report.formats)
    if formats and not offered & set(formats):
        raise UsageError(f"{name} has other formats: {', '.join(sorted(offered))}.")


def make(name: str, runs: pd.DataFrame, grey: GreyRule | None, pictures: Pictures) -> Report:
    """Make one report; its function is handed ``pictures`` where it has such a parameter."""
    function = REPORTS.get(name)
    shown = {"pictures": pictures} if "pictures" in signature(function).parameters else {}
    return function(runs, paper(), grey, **shown)


def _write(report: Report, form: Format, out: Path, grey: GreyRule | None) -> Path:
    suffix = f"-{grey}" if grey else ""
    path = out / f"{report.name}{suffix}.{form}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, report.render(form))
    except OSError as error:
        raise HarnessError(f"The report {path} cannot be written ({error}).") from error
    return path
