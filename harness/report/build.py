"""Building reports from run records and writing them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from harness.errors import HarnessError, UsageError
from harness.files import require_writable, write_atomically
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
from harness.report.forms import Format, Report, Table
from harness.report.make import ReportError, contents, make
from harness.run.store import ResultStore

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule
    from harness.report.pictures import Pictures


class Written(NamedTuple):
    """The files of a report, and what of it a terminal shows, if anything."""

    paths: list[Path]
    shown: str


def build(
    name: str,
    formats: Sequence[str],
    results: Path,
    out: Path,
    grey: GreyRule | None,
    pictures: Pictures,
) -> Iterator[Written | HarnessError]:
    """Build the reports of a name, a glob or ``all``, and write each in the formats asked for.

    Args:
        name: the reports.
        formats: those wanted, each for the reports that have it; none for all.
        results: the folder of the run records.
        out: where the files go.
        grey: the rule whose runs are shown; None for each row's own.
        pictures: handed to the reports that take it.

    Yields:
        each report that was written, or why one was not: its own code failed, or its files cannot
        be written.

    Raises:
        UsageError: no such report or format, or none of the reports has the format.
        HarnessError: a report needs runs and there are none, or the folder cannot be written.
    """
    known: tuple[Format, ...] = get_args(Format)
    unknown = next((word for word in formats if word not in known), None)
    if unknown:
        raise UsageError(f"No format is called {unknown!r}: there are {', '.join(known)}.")
    # All are made before the first is written: without runs nothing is left half done.
    reports, failed = _make_all(REPORTS.select(name), ResultStore(results).load(), grey, pictures)
    yield from failed
    offered = {form for report in reports.values() for form in report.formats}
    if reports and formats and not offered & set(formats):
        raise UsageError(f"{name} has other formats: {', '.join(sorted(offered))}.")
    if reports:
        require_writable(out, "reports'", "--out")
    for chosen, report in reports.items():
        try:
            yield _write(chosen, report, formats, out, grey)
        except HarnessError as error:
            yield error


def _make_all(
    names: Sequence[str], runs: pd.DataFrame, grey: GreyRule | None, pictures: Pictures
) -> tuple[dict[str, Report], list[ReportError]]:
    """The reports of some names, and why others could not be made."""
    reports: dict[str, Report] = {}
    failed: list[ReportError] = []
    holders: dict[str, str] = {}
    for name in names:
        try:
            report = make(name, runs, grey, pictures)
            holder = holders.setdefault(report.name, name)
            if holder == name and report.name in REPORTS:
                holder = report.name
            if holder != name:
                why = f"its files would be called {report.name}, as those of {holder} are"
                raise ReportError(name, why)
            reports[name] = report
        except ReportError as error:
            failed.append(error)
    return reports, failed


def _write(
    name: str, report: Report, formats: Sequence[str], out: Path, grey: GreyRule | None
) -> Written:
    """Write a report's files, none of them before all are rendered."""
    forms = [form for form in report.formats if form in formats or not formats]
    shown = contents(name, report, ["md"]) if isinstance(report, Table) and forms else {}
    files = {
        out / f"{report.name}{f'-{grey}' if grey else ''}.{form}": content
        for form, content in contents(name, report, forms).items()
    }
    for path, content in files.items():
        try:
            write_atomically(path, content)
        except OSError as error:
            raise HarnessError(f"The report {path} cannot be written ({error}).") from error
    return Written(list(files), "".join(text.decode() for text in shown.values()))
