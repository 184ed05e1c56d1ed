"""Making reports from run records, and writing them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from harness.errors import HarnessError, UsageError, sentence
from harness.files import require_writable, write_atomically
from harness.paper.schema import paper
from harness.record import is_plain_name
from harness.registry import REPORTS
from harness.report.table import Format, Report, Table
from harness.run.store import ResultStore

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule
    from harness.report.crops import Pictures


class ReportError(HarnessError):
    """A report's own code failed, or what it makes is no report: the others go on."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The report {name} of {REPORTS.origin(name)} failed: {why.rstrip('.')}.")


def make(name: str, runs: pd.DataFrame, grey: GreyRule | None, pictures: Pictures) -> Report:
    """Make one report; its function is handed ``pictures`` where it has such a parameter.

    Raises:
        HarnessError: see `call`.
    """
    shown = {"pictures": pictures} if takes_pictures(name) else {}
    return call(name, runs, paper(), grey, **shown)


def takes_pictures(name: str) -> bool:
    """Whether a report's function has a parameter ``pictures``."""
    try:
        return "pictures" in signature(REPORTS.get(name)).parameters
    except (TypeError, ValueError):  # calling it will tell
        return False


def call(
    name: str, runs: pd.DataFrame, printed: Mapping[str, Any], grey: GreyRule | None, **shown: Any
) -> Report:
    """What the function of a report returns; one of a plug-in gets copies, which it may change.

    Raises:
        ReportError: it raised anything, or it returned no report.
        HarnessError: it is the harness's own, and needs runs or another request.
    """
    if not REPORTS.is_built_in(name):
        runs, printed = runs.copy(), deepcopy(printed)
    with _named(name):
        report: Report = REPORTS.get(name)(runs, printed, grey, **shown)
        fault = _fault(report)
    if fault:
        raise ReportError(name, fault)
    return report


def contents(name: str, report: Report, forms: Sequence[Format]) -> dict[Format, bytes]:
    """What goes into the files of a report.

    Raises:
        ReportError: it cannot be rendered.
        HarnessError: it is the harness's own, and an image cannot be read, say.
    """
    with _named(name):
        return {form: _rendered(report, form) for form in forms}


def _rendered(report: Report, form: Format) -> bytes:
    made: object = report.render(form)
    if isinstance(made, str):
        return made.encode()
    if isinstance(made, bytes | bytearray | memoryview):
        return bytes(made)
    raise TypeError(f"render({form!r}) returned {type(made).__name__}, not str or bytes")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the report whose code fails, unless the harness's own says what is wrong."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an outsider's code may raise anything
        if isinstance(error, HarnessError) and REPORTS.is_built_in(name):
            raise
        raise ReportError(name, sentence(error)) from error


def _fault(report: object) -> str:
    """What a report lacks; empty if nothing."""
    stem, formats = getattr(report, "name", None), getattr(report, "formats", None)
    if stem is None or formats is None or not callable(getattr(report, "render", None)):
        return f"it returned {type(report).__name__}, without the name, formats and render it needs"
    if not is_plain_name(stem):
        return f"its files cannot be called {stem!r}"
    known = get_args(Format)
    unknown = next((form for form in formats if form not in known), None)
    return "" if unknown is None else f"{unknown!r} is no format: there are {', '.join(known)}"


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
    REPORTS.load_built_ins()
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
