"""Makes reports from run records and writes them to files."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from harness.errors import HarnessError, UsageError, sentence
from harness.files import require_writable, write_file
from harness.record import is_plain_name
from harness.registry import REPORTS
from harness.report.table import Format, Report, Table

if TYPE_CHECKING:
    from harness.cards import GreyRule
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper
    from harness.report.crops import Pictures


class ReportError(HarnessError):
    """A report's code failed or did not return a report; the other reports continue."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The report {name} of {REPORTS.origin(name)} failed: {why.rstrip('.')}.")


def make(name: str, findings: Findings, pictures: Pictures) -> list[Report]:
    """Make the reports of one name; a plug-in's function gets a copy of the runs.

    Raises:
        ReportError: the function raised an error, or did not return reports.
        HarnessError: a built-in report needs runs or a different request.
    """
    options = {"pictures": pictures} if takes_pictures(name) else {}
    if not REPORTS.is_built_in(name):
        findings = replace(findings, runs=findings.runs.copy())
    with _errors_of(name):
        made = REPORTS.get(name)(findings, **options)
        return _reports(made if isinstance(made, list | tuple) else [made])


def takes_pictures(name: str) -> bool:
    """Whether a report's function has a parameter ``pictures``."""
    return "pictures" in signature(REPORTS.get(name)).parameters


def contents(name: str, report: Report, forms: Sequence[Format]) -> dict[Format, bytes]:
    """Render the content of a report's files.

    Raises:
        ReportError: the report cannot be rendered.
        HarnessError: a built-in report failed: for example, it cannot read an image.
    """
    with _errors_of(name):
        return {form: _render(report, form) for form in forms}


def _render(report: Report, form: Format) -> bytes:
    content: object = report.render(form)
    if isinstance(content, str | bytes):
        return content.encode() if isinstance(content, str) else content
    raise TypeError(f"render({form!r}) returned {type(content).__name__}, not str or bytes")


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Name the report in its errors, except in a built-in report's own messages."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may raise anything
        if isinstance(error, HarnessError) and REPORTS.is_built_in(name):
            raise
        raise ReportError(name, sentence(error)) from error


def _reports(made: Sequence[object]) -> list[Report]:
    """Return what a report's function made.

    Raises:
        HarnessError: it is no report, or cannot be written.
    """
    reports: dict[str, Report] = {}
    for report in made:
        if not isinstance(report, Report):
            kind = type(report).__name__
            raise HarnessError(f"it returned {kind}, which lacks name, formats or render")
        if not is_plain_name(report.name):
            raise HarnessError(f"its files cannot be called {report.name!r}")
        if report.name in reports:
            raise HarnessError(f"it returned several reports called {report.name}")
        _require_formats(report.formats)
        reports[report.name] = report
    return list(reports.values())


def _require_formats(formats: Sequence[str]) -> None:
    known = get_args(Format)
    if unknown := [form for form in formats if form not in known]:
        raise UsageError(f"No format is called {unknown[0]!r}: there are {', '.join(known)}.")


class Written(NamedTuple):
    """The files of a report, and its text for the terminal, if any."""

    paths: list[Path]
    shown: str


def aliases(paper: Paper | None) -> dict[str, str]:
    """Map the paper's own name of each table, ablation and plot to the report that makes it.

    Raises:
        UsageError: one has the name of another report.
    """
    if paper is None:
        return {}
    tables = {table.id: "results" for table in paper.tables}
    ablations = {ablation.id: "ablation" for ablation in paper.ablations}
    own = tables | ablations | {plot.id: "plot" for plot in paper.plots}
    for name, maker in own.items():
        if name in REPORTS and name != maker:
            raise UsageError(
                f"The id {name} in the paper {paper.source.id} is the name of a report: change it."
            )
    return own


def selected(word: str, paper: Paper | None) -> list[str]:
    """Return the reports that a name, a glob, ``all`` or the paper's own name selects.

    Raises:
        UsageError: there is no such report.
    """
    REPORTS.load_built_ins()
    own = aliases(paper)
    chosen = {own[name] for name in fnmatch.filter(own, word)}
    chosen.update(fnmatch.filter(REPORTS, "*" if word == "all" else word))
    try:
        return [name for name in REPORTS if name in chosen] or REPORTS.select(word)
    except UsageError as error:
        names = f" In the paper's file there are {', '.join(own)}." if own else ""
        raise UsageError(f"{error}{names}") from None


def build(
    word: str,
    formats: Sequence[str],
    findings: Findings,
    out: Path,
    pictures: Pictures,
    *,
    with_marks: bool = True,
) -> Iterator[Written | HarnessError]:
    """Build the reports that a word selects, and write the requested formats.

    Each report is written in those of the formats that it has; without formats, in all it has.

    Args:
        word: see `selected`.
        formats: names of formats.
        findings: what is reported.
        out: the folder to write to.
        pictures: the images to show.
        with_marks: mark the best and second best numbers of tables.

    Yields:
        each written report, or an error: a report's code failed, or its files cannot be written.

    Raises:
        UsageError: no such report or format, none of the reports has the format, or the paper has
            nothing to report under the name.
        HarnessError: a report needs runs and there are none, or the folder cannot be written.
    """
    _require_formats(formats)
    # Make all reports before writing the first: without runs, no file is written.
    reports, failed = _make_all(word, findings, pictures)
    yield from failed
    if not (reports or failed):
        paper = findings.paper
        whose = f"the paper {paper.source.id}" if paper else "runs without a paper"
        raise UsageError(f"There is nothing to report as {word} for {whose}.")
    offered = {form for _, report in reports for form in report.formats}
    if reports and formats and not offered & set(formats):
        raise UsageError(f"{word} has other formats: {', '.join(sorted(offered))}.")
    if reports:
        require_writable(out, "reports'", "--out")
    for name, report in reports:
        shown = report.without_marks() if isinstance(report, Table) and not with_marks else report
        try:
            yield _write(name, shown, formats, out, findings.rules)
        except HarnessError as error:
            yield error


def _make_all(
    word: str, findings: Findings, pictures: Pictures
) -> tuple[list[tuple[str, Report]], list[ReportError]]:
    """Make the reports that a word selects, and collect the errors of those that fail.

    A report may not use the file name of another, whether that one is selected or not.
    """
    reports: list[tuple[str, Report]] = []
    failed: list[ReportError] = []
    owners = {name: name for name in REPORTS} | aliases(findings.paper)
    for name in selected(word, findings.paper):
        asked = word == "all" or fnmatch.fnmatch(name, word)
        try:
            for report in make(name, findings, pictures):
                owner = owners.setdefault(report.name, name)
                if owner != name:
                    why = f"the report {owner} already uses the file name {report.name}"
                    raise ReportError(name, why)
                if asked or fnmatch.fnmatch(report.name, word):
                    reports.append((name, report))
        except ReportError as error:
            failed.append(error)
    return reports, failed


def _write(
    name: str, report: Report, formats: Sequence[str], out: Path, grey: GreyRule | None
) -> Written:
    """Render all files of a report, then write them."""
    forms = [form for form in report.formats if form in formats or not formats]
    preview = contents(name, report, ["md"]) if isinstance(report, Table) and forms else {}
    files = {
        out / f"{report.name}{f'-{grey}' if grey else ''}.{form}": content
        for form, content in contents(name, report, forms).items()
    }
    for path, content in files.items():
        write_file(path, content, "report")
    return Written(list(files), "".join(text.decode() for text in preview.values()))
