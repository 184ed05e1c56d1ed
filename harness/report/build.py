"""Makes reports from run records and writes them to files."""

from __future__ import annotations

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
        reports: list[Report] = list(made) if isinstance(made, list | tuple) else [made]
        fault = next(filter(None, map(_fault, reports)), "")
    if fault:
        raise ReportError(name, fault)
    return reports


def takes_pictures(name: str) -> bool:
    """Whether a report's function has a parameter ``pictures``."""
    try:
        return "pictures" in signature(REPORTS.get(name)).parameters
    except (TypeError, ValueError):  # the call itself will fail
        return False


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
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
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


def _fault(report: object) -> str:
    """Describe what is wrong with a report; empty if nothing is."""
    stem, formats = getattr(report, "name", None), getattr(report, "formats", None)
    if stem is None or formats is None or not callable(getattr(report, "render", None)):
        return f"it returned {type(report).__name__}, which lacks name, formats or render"
    if not is_plain_name(stem):
        return f"its files cannot be called {stem!r}"
    known = get_args(Format)
    unknown = next((form for form in formats if form not in known), None)
    return "" if unknown is None else f"{unknown!r} is not a format: there are {', '.join(known)}"


class Written(NamedTuple):
    """The files of a report, and its text for the terminal, if any."""

    paths: list[Path]
    shown: str


def aliases(paper: Paper | None) -> dict[str, str]:
    """Map the paper's own name of each table, ablation and plot to the report that makes it."""
    if paper is None:
        return {}
    kinds = {"results": paper.tables, "ablation": paper.ablations, "plot": paper.plots}
    return {part.id: kind for kind, parts in kinds.items() for part in parts}


def selected(name: str, paper: Paper | None) -> list[str]:
    """Return the reports that a name, a glob, ``all`` or the paper's own name selects.

    Raises:
        UsageError: there is no such report.
    """
    REPORTS.load_built_ins()
    own = aliases(paper)
    return [own[name]] if name in own else REPORTS.select(name)


def build(
    name: str, formats: Sequence[str], findings: Findings, out: Path, pictures: Pictures
) -> Iterator[Written | HarnessError]:
    """Build the reports that a name selects, and write the requested formats.

    Each report is written in those of the formats that it has; without formats, in all it has.

    Args:
        name: see `selected`.
        formats: names of formats.
        findings: what is reported.
        out: the folder to write to.
        pictures: the images to show.

    Yields:
        each written report, or an error: a report's code failed, or its files cannot be written.

    Raises:
        UsageError: no such report or format, none of the reports has the format, or the paper has
            nothing to report under the name.
        HarnessError: a report needs runs and there are none, or the folder cannot be written.
    """
    known: tuple[Format, ...] = get_args(Format)
    unknown = next((word for word in formats if word not in known), None)
    if unknown:
        raise UsageError(f"No format is called {unknown!r}: there are {', '.join(known)}.")
    # Make all reports before writing the first: without runs, no file is written.
    reports, failed = _make_all(selected(name, findings.paper), findings, pictures)
    if name in aliases(findings.paper):
        reports = [one for one in reports if one[1].name == name]
    yield from failed
    if not (reports or failed):
        whose = (
            f"the paper {findings.paper.source.id}" if findings.paper else "runs without a paper"
        )
        raise UsageError(f"There is nothing to report as {name} for {whose}.")
    offered = {form for _, report in reports for form in report.formats}
    if reports and formats and not offered & set(formats):
        raise UsageError(f"{name} has other formats: {', '.join(sorted(offered))}.")
    if reports:
        require_writable(out, "reports'", "--out")
    for chosen, report in reports:
        try:
            yield _write(chosen, report, formats, out, findings.rules)
        except HarnessError as error:
            yield error


def _make_all(
    names: Sequence[str], findings: Findings, pictures: Pictures
) -> tuple[list[tuple[str, Report]], list[ReportError]]:
    """Make the reports of these names, and collect the errors of those that fail."""
    reports: list[tuple[str, Report]] = []
    failed: list[ReportError] = []
    holders: dict[str, str] = {}
    for name in names:
        try:
            for report in make(name, findings, pictures):
                holder = holders.setdefault(report.name, name)
                if holder == name and report.name in REPORTS:
                    holder = report.name
                if holder != name:
                    why = f"the report {holder} already uses the file name {report.name}"
                    raise ReportError(name, why)
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
