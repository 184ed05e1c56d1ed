"""Makes reports from run records and writes them to files."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from harness.errors import HarnessError, UsageError, sentence
from harness.files import require_writable, write_file
from harness.registry import REPORTS, near_names
from harness.report.table import Format, Report, Table

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper
    from harness.report.crops import Pictures


FIXED_RULES = ("ablation", "claims", "complexity", "literature", "readings", "rules")
"""Reports that are the same under every rule for grey images."""


class ReportError(HarnessError):
    """A report's code failed or did not return a report; the other reports continue."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The report {name} of {REPORTS.origin(name)} failed: {why.rstrip('.')}.")


def make(name: str, findings: Findings, pictures: Pictures) -> list[Report]:
    """Make the reports of one name.

    Raises:
        ReportError: the function raised an error, or did not return reports.
        HarnessError: a built-in report needs runs or a different request.
    """
    options = {"pictures": pictures} if takes_pictures(name) else {}
    with _errors_of(name):
        made = REPORTS.get(name)(findings, **options)
        reports = list(made) if isinstance(made, list | tuple) else [made]
        for report in reports:
            if not isinstance(report, Report):
                kind = type(report).__name__
                raise HarnessError(f"it returned {kind}, which lacks name, formats or render")
        return reports


def takes_pictures(name: str) -> bool:
    """Whether a report's function has a parameter ``pictures``."""
    return "pictures" in signature(REPORTS.get(name)).parameters


def _contents(name: str, report: Report, formats: Sequence[str]) -> dict[Format, bytes]:
    """Render a report in those of the formats that it has; without formats, in all it has."""
    forms = [form for form in report.formats if not formats or form in formats]
    with _errors_of(name):
        made = [report.render(form) for form in forms]
        content = [one.encode() if isinstance(one, str) else bytes(one) for one in made]
        return dict(zip(forms, content, strict=True))


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Name the report in its errors, except in a built-in report's own messages."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        if isinstance(error, HarnessError) and REPORTS.is_built_in(name):
            raise
        raise ReportError(name, sentence(error)) from error


def selected(word: str, paper: Paper | None) -> list[str]:
    """Return the reports that a name, a glob, ``all`` or the paper's own name of a part selects.

    Raises:
        UsageError: there is no such report, or a part of the paper has the name of one.
    """
    REPORTS.load_built_ins()
    makers = [(name, name) for name in REPORTS]
    if paper:
        makers += [(table.id, "results") for table in paper.tables]
        makers += [(ablation.id, "ablation") for ablation in paper.ablations]
        makers += [(plot.id, "plot") for plot in paper.plots]
    for name, maker in makers:
        if name in REPORTS and name != maker:
            raise UsageError(f"The paper's id {name} is the name of another report: change it.")
    pattern = "*" if word == "all" else word
    chosen = [maker for name, maker in makers if _fits(name, pattern)]
    if not chosen:
        names = [name for name, _ in makers]
        near = near_names(word, names)
        hint = f"did you mean {' or '.join(near)}? There are " if near else "there are "
        raise UsageError(f"No report is called {word!r}: {hint}{', '.join(sorted(names))}.")
    return [name for name in REPORTS if name in chosen]


def _fits(name: str, pattern: str) -> bool:
    """Whether a name, in any case, is what a word or glob asks for."""
    return fnmatch.fnmatchcase(name.lower(), pattern.lower())


class Written(NamedTuple):
    """The files of a report, and the text of its Markdown file, if any."""

    paths: list[Path]
    shown: str


def build(
    word: str,
    formats: Sequence[str],
    findings: Findings,
    out: Path,
    pictures: Pictures,
    *,
    with_marks: bool = True,
) -> Iterator[Written | ReportError]:
    """Build the reports that a word selects, and write them to the folder ``out``.

    The paper's own name of a part selects that part alone. Each report is written in those of the
    formats that it has; without formats, in all it has. With a rule for grey images, which the
    files' names then state, `FIXED_RULES` are left out. ``with_marks`` marks the best and second
    best numbers of tables.

    Yields:
        each written report, or the error of one whose code failed.

    Raises:
        UsageError: there is no such report or format, or nothing to report under the name.
        HarnessError: a report needs runs and there are none, or a file cannot be written.
    """
    _require_formats(formats)
    rendered: dict[str, dict[Format, bytes]] = {}
    failed: list[ReportError] = []
    # Render all reports before writing the first: without runs, no file is written.
    for name in selected(word, findings.paper):
        if findings.rules and name in FIXED_RULES:
            continue
        try:
            made = make(name, findings, pictures)
            asked = [
                one for one in made if word == "all" or _fits(name, word) or _fits(one.name, word)
            ]
            if taken := [one.name for one in asked if one.name in rendered]:
                raise ReportError(name, f"another report is called {taken[0]}")
            for report in asked:
                if isinstance(report, Table) and not with_marks:
                    report = report.without_marks()
                rendered[report.name] = _contents(name, report, formats)
        except ReportError as error:
            failed.append(error)
    yield from failed
    if not (failed or any(rendered.values())):
        raise UsageError(f"There is nothing to report as {word} for this --paper and --format.")
    require_writable(out, "reports'", "--out")
    suffix = _suffix(findings)
    for name, content in rendered.items():
        yield _write(f"{name}{suffix}", content, out)


def build_one(
    report: Report, formats: Sequence[str], findings: Findings, out: Path, *, with_marks: bool
) -> Written:
    """Write one report, made for a request of the user, as `build` writes those of a name.

    Raises:
        UsageError: there is no such format, or the report does not have it.
        HarnessError: a file cannot be written.
    """
    _require_formats(formats)
    if isinstance(report, Table) and not with_marks:
        report = report.without_marks()
    content = _contents(report.name, report, formats)
    if not content:
        raise UsageError(
            f"This report can be written as {', '.join(report.formats)}: correct --format."
        )
    require_writable(out, "reports'", "--out")
    return _write(f"{report.name}{_suffix(findings)}", content, out)


def _require_formats(formats: Sequence[str]) -> None:
    known = get_args(Format)
    if unknown := [form for form in formats if form not in known]:
        raise UsageError(f"No format is called {unknown[0]!r}: there are {', '.join(known)}.")


def _suffix(findings: Findings) -> str:
    """The end of the names of files that show one rule for grey images in all rows."""
    return f"-{findings.rules}" if findings.rules else ""


def _write(stem: str, content: Mapping[Format, bytes], out: Path) -> Written:
    files = {out / f"{stem}.{form}": text for form, text in content.items()}
    for path, text in files.items():
        write_file(path, text, "report")
    return Written([*files], content.get("md", b"").decode())
