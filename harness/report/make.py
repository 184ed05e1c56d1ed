"""Making one report and its files' contents, and saying so where the report's own code fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import TYPE_CHECKING, Any, get_args

from harness.errors import HarnessError, sentence
from harness.paper.schema import paper
from harness.record import is_plain_name
from harness.registry import REPORTS
from harness.report.forms import Format, Report

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule
    from harness.report.pictures import Pictures


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
