"""Reports, which have a name and render themselves, and their most common kind, tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from harness.errors import HarnessError, printable
from harness.text import (
    Marked,
    csv_text,
    escape_latex,
    escape_markdown,
    escaped,
    markdown_paragraph,
    markdown_table,
    readable,
)

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

    from harness.paper.findings import Findings
    from harness.paper.schema import Table as PrintedTable

Format = Literal["md", "tex", "csv", "html", "png", "svg", "pdf"]


@runtime_checkable
class Report(Protocol):
    """The return type of functions registered with `harness.registry.register_report`.

    Rendering is deterministic: it gives the same bytes every time.
    """

    @property
    def name(self) -> str:
        """The stem of its file names."""

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats it can be rendered in."""

    def render(self, form: Format) -> str | bytes:
        """Return the content of the file in that format."""


BEST = (
    "Bold: the best of its column; underlined: the second best.",
    "Bold: the best of its column and scale; underlined: the second best.",
)
"""What the marks ``best`` and ``second`` say, for the caption of one scale, and of several."""


class Lines(tuple[str, ...]):
    """A cell of several lines: Markdown and LaTeX have a row for each."""


class Note(NamedTuple):
    """Text below a table: a heading, a quotation and paragraphs."""

    heading: str
    quote: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table that can be written in several formats.

    Attributes:
        name: the stem of its files, and the end of its LaTeX label.
        caption: describes the numbers and their rules.
        headers: of the columns.
        rows: cells of any type; `readable` turns them into text.
        tidy: the same numbers in long form, one per row.
        notes: text that follows in every format but CSV.
        label: the LaTeX label, if it is not ``tab:`` and the name.
        remarks: sentences for the author of a paper that shows the table, not for its readers: they
            stand below it, in LaTeX in comments above it.
        for_a_paper: in LaTeX, the table takes one column of two, if it is narrow enough.
        title: its heading on the page and in HTML; the name if empty.

    Raises:
        HarnessError: a row has more or fewer cells than there are headers.
    """

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    tidy: pd.DataFrame
    notes: Sequence[Note] = ()
    label: str = ""
    remarks: Sequence[str] = ()
    for_a_paper: bool = False
    title: str = ""
    formats: ClassVar[tuple[Format, ...]] = ("md", "tex", "csv", "html")

    def __post_init__(self) -> None:
        uneven = next((row for row in self.rows if len(row) != len(self.headers)), None)
        if uneven is not None:
            raise HarnessError(
                f"the table {self.name} has {len(self.headers)} headers, but a row with "
                f"{len(uneven)} cells: {list(map(readable, uneven))}"
            )
        rows = [[c if isinstance(c, Lines) else readable(c) for c in row] for row in self.rows]
        object.__setattr__(self, "rows", rows)

    @property
    def heading(self) -> str:
        """The title, or else the name."""
        return self.title or self.name

    @property
    def cells(self) -> list[list[Lines]]:
        """The rows with the lines of each cell."""
        return [
            [cell if isinstance(cell, Lines) else Lines([cell]) for cell in row]
            for row in self.rows
        ]

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The rows as text, a row for each line."""
        return [line for row in self.cells for line in zip_longest(*row, fillvalue="")]

    def render(self, form: Format) -> str:
        """Render as Markdown, LaTeX or HTML, or the numbers as CSV."""
        match form:
            case "md":
                body = markdown_table(self.headers, self.lines)
                remarks = [markdown_paragraph(" ".join(self.remarks))] * bool(self.remarks)
                parts = [markdown_paragraph(self.caption), body, *remarks]
                return "\n\n".join([*parts, *map(markdown_note, self.notes)]) + "\n"
            case "tex":
                return latex(self)
            case "csv":
                return csv_text(self.tidy.columns, self.tidy.itertuples(index=False))
            case "html":
                return templates().get_template("table_file.html.j2").render(table=self)
        raise ValueError(f"a table cannot be rendered as {form}")

    def without_marks(self) -> Table:
        """Return the table with no number bold or underlined."""
        rows = [[_plain(cell) for cell in row] for row in self.rows]
        caption = self.caption
        for best in BEST:
            caption = caption.replace(f" {best}", "")
        return replace(self, rows=rows, caption=caption)


def _plain(cell: Any) -> Any:
    if isinstance(cell, Lines):
        return Lines(map(_plain, cell))
    if not isinstance(cell, Marked):
        return cell
    parts = [(text, "" if mark in ("best", "second") else mark) for text, mark in cell.parts]
    return Marked(parts, cell.run, cell.more)


def each_table(
    findings: Findings, name: str, make: Callable[[Findings, PrintedTable], Table]
) -> list[Table]:
    """Make a report of each table of the paper, unless it has no rows.

    Args:
        findings: the paper and its runs.
        name: the reports' name, which the table's id follows if the paper has several tables.
        make: makes one.
    """
    tables = findings.paper.tables if findings.paper else ()
    made = [(table, make(findings, table)) for table in tables]
    if len(tables) > 1:
        made = [
            (of, replace(one, name=f"{name}-{of.id}", title=f"{one.title}: {of.title}"))
            for of, one in made
        ]
    return [one for _, one in made if one.rows]


def templates() -> Environment:
    """Load the templates of HTML files, which escape their output."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _finalize(value: object) -> object:
    """Make text printable before a template prints it, unless it is already escaped."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value)) if is_text else value


def markdown_note(note: Note) -> str:
    """Write a note as Markdown."""
    quote, *paragraphs = map(markdown_paragraph, [note.quote, *note.paragraphs])
    return "\n\n".join([f"### {escape_markdown(note.heading)}", f"> {quote}", *paragraphs])


_PAGE = 45
"""The most rows of a ``table*``; a longer table is a ``longtable``, which has several pages."""
_LONG = 26
"""A column with a cell of more letters wraps."""
_NARROW = 57
"""The letters in a line of one of two columns; the space between columns of a table takes 1.5."""
_FIT = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
"""Shrinks a table that is wider than the text."""


def latex(table: Table) -> str:
    """Write a table as a float no wider than the text, or a ``longtable``, then its notes.

    The float is a ``table*``, or a ``table`` if the table is for a paper and narrow.
    """
    wraps = [
        max(map(len, column), default=0) > _LONG
        for column in zip(*(table.lines or [tuple(table.headers)]), strict=True)
    ]
    is_long = len(table.lines) > _PAGE
    # Columns that wrap share a part of the line; a ``longtable`` cannot shrink, so that it needs
    # what the other columns leave: a letter is 0.0125 of the line, the space between columns 0.02.
    lengths = (max(map(len, column), default=0) for column in zip(*table.lines, strict=True))
    others = sum(0.0125 * n + 0.02 for n, one in zip(lengths, wraps, strict=False) if not one)
    width = (max(0.26, 0.8 - others) if is_long else 0.6) / max(sum(wraps), 1)
    kinds = "".join(f"p{{{width:.2f}\\linewidth}}" if one else "l" for one in wraps)
    label = table.label or "tab:" + re.sub(r"[^A-Za-z0-9_.-]", "-", table.name)
    title = f"\\caption{{{_prose(table.caption)}}}\\label{{{label}}}"
    head = ["\\toprule", _row(map(escape_latex, table.headers)), "\\midrule"]
    body = [_row(map(_latex_cell, line, wraps)) for line in table.lines]
    small = "\\footnotesize\\setlength{\\tabcolsep}{3pt}"
    if is_long:
        begin = [f"{{{small}", f"\\begin{{longtable}}{{{kinds}}}", f"{title} \\\\"]
        lines = [*begin, *head, "\\endhead", *body, "\\bottomrule", "\\end{longtable}}"]
    else:
        kind = "table" if table.for_a_paper and _is_narrow(table) else "table*"
        # Article leaves space above a caption, and none between it and the first rule.
        title = f"\\setlength{{\\abovecaptionskip}}{{0pt}}{title}\\vspace{{4pt}}"
        begin = [f"\\begin{{{kind}}}", f"\\centering{small}", title, _FIT]
        tabular = [f"\\begin{{tabular}}{{{kinds}}}", *head, *body, "\\bottomrule"]
        lines = [*begin, *tabular, "\\end{tabular}}", f"\\end{{{kind}}}"]
    packages = "booktabs,longtable" if is_long else "booktabs,graphicx"
    needs = f"% Needs \\usepackage[T1]{{fontenc}} and \\usepackage{{{packages}}}."
    remarks = [f"% {line}" for one in table.remarks for line in wrap(printable(one), 98)]
    return "\n".join([needs, *remarks, *lines, *_latex_notes(table.notes)]) + "\n"


def _is_narrow(table: Table) -> bool:
    """Whether a table fits into one of two columns."""
    columns = zip(table.headers, *table.lines, strict=True)
    return sum(max(map(len, column)) + 1.5 for column in columns) <= _NARROW


def _prose(text: str) -> str:
    """Escape sentences for LaTeX, with the quotation marks of print."""
    # Beside another quotation mark they would be read as one with it.
    return re.sub('"([^"`][^"]*[^"\'])"', r"``\1''", escape_latex(text))


_INSIDE_NAMES = re.compile(r"(?<=[A-Za-z0-9])(\\_|=)(?=[A-Za-z0-9])")


def _latex_cell(cell: str, wraps: bool) -> str:
    if not wraps:
        return escaped(cell, "tex")
    # Names of arguments, such as ``long_name=False``, may break.
    return "\\raggedright " + _INSIDE_NAMES.sub(r"\1\\allowbreak{}", escaped(cell, "tex"))


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\tabularnewline"


def _latex_notes(notes: Sequence[Note]) -> list[str]:
    """Write notes as a list of descriptions; none without notes."""
    items = []
    for note in notes:
        heading, quote, *paragraphs = map(_prose, [*note[:2], *note.paragraphs])
        # Paths, such as owner/repository/folder_of_logs, may break.
        paragraphs = [re.sub(r"(\\_|/)(?=\S)", r"\1\\allowbreak{}", one) for one in paragraphs]
        items.append(f"\\item[{{{heading}}}] \\emph{{{quote}}} {' '.join(paragraphs)}")
    return ["", "\\begin{description}\\sloppy", *items, "\\end{description}"] if items else []
