"""Makes reports from run records and writes them to files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from harness.errors import HarnessError, UsageError, sentence
from harness.files import require_writable, write_file
from harness.paper.schema import paper
from harness.record import is_plain_name
from harness.registry import REPORTS
from harness.report.table import Format, Report, Table

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule
    from harness.report.crops import Pictures


class ReportError(HarnessError):
    """A report's code failed or did not return a report; the other reports continue."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The report {name} of {REPORTS.origin(name)} failed: {why.rstrip('.')}.")


def make(name: str, runs: pd.DataFrame, grey: GreyRule | None, pictures: Pictures) -> Report:
    """Make one report; a plug-in's function gets copies, which it may change.

    Raises:
        ReportError: the function raised an error, or did not return a report.
        HarnessError: a built-in report needs runs or a different request.
    """
    options = {"pictures": pictures} if takes_pictures(name) else {}
    printed: Mapping[str, Any] = paper()
    if not REPORTS.is_built_in(name):
        runs, printed = runs.copy(), deepcopy(printed)
    with _errors_of(name):
        report: Report = REPORTS.get(name)(runs, printed, grey, **options)
        fault = _fault(report)
    if fault:
        raise ReportError(name, fault)
    return report


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


def build(
    name: str,
    formats: Sequence[str],
    runs: pd.DataFrame,
    out: Path,
    grey: GreyRule | None,
    pictures: Pictures,
) -> Iterator[Written | HarnessError]:
    """Build the reports that match a name, a glob or ``all``, and write the requested formats.

    Each report is written in those of the formats that it has; without formats, in all it has.

    Yields:
        each written report, or an error: a report's code failed, or its files cannot be written.

    Raises:
        UsageError: no such report or format, or none of the reports has the format.
        HarnessError: a report needs runs and there are none, or the folder cannot be written.
    """
    known: tuple[Format, ...] = get_args(Format)
    unknown = next((word for word in formats if word not in known), None)
    if unknown:
        raise UsageError(f"No format is called {unknown!r}: there are {', '.join(known)}.")
    # Make all reports before writing the first: without runs, no file is written.
    REPORTS.load_built_ins()
    reports, failed = _make_all(REPORTS.select(name), runs, grey, pictures)
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
    """Make the reports of these names, and collect the errors of those that fail."""
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
                why = f"the report {holder} already uses the file name {report.name}"
                raise ReportError(name, why)
            reports[name] = report
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
