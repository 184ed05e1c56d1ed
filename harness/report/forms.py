"""What a report is: something with a name that renders itself; and the commonest, the table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from tabulate import tabulate

from harness.errors import HarnessError, printable
from harness.report.latex import latex
from harness.report.markdown import markdown_paragraph, markdown_table

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

Format = Literal["md", "tex", "csv", "html", "png", "svg", "pdf"]

_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a formula begins with, to Excel, LibreOffice and Google Sheets."""


class Report(Protocol):
    """What a function registered with `harness.registry.register_report` returns.

    Rendering is a pure function: the same bytes every time.
    """

    @property
    def name(self) -> str:
        """The stem of its files' names."""

    @property
    def formats(self) -> tuple[Format, ...]:
        """The forms it can be rendered in."""

    def render(self, form: Format) -> str | bytes:
        """What goes into the file of that form."""


@dataclass(frozen=True)
class Table:
    """A table to be written in several formats.

    Attributes:
        name: its file's stem and LaTeX label.
        caption: what the numbers are, and by which rules.
        headers: of the columns.
        rows: cells of any type; see `readable` for how they become text. In HTML, those that are
            empty at the beginning of a row belong to the row above.
        tidy: the same numbers, one a row, for machines.

    Raises:
        HarnessError: a row has other cells than text, or more or fewer than there are headers.
    """

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    tidy: pd.DataFrame
    formats: ClassVar[tuple[Format, ...]] = ("md", "tex", "csv", "html")

    def __post_init__(self) -> None:
        rows = [[readable(cell) for cell in row] for row in self.rows]
        uneven = next((row for row in rows if len(row) != len(self.headers)), None)
        if uneven is not None:
            raise HarnessError(
                f"a row of the table {self.name} has {len(uneven)} cells and its headers are "
                f"{len(self.headers)}: {uneven}"
            )
        object.__setattr__(self, "rows", rows)

    def render(self, form: Format) -> str:
        """The table as Markdown, LaTeX (booktabs and graphicx) or HTML, or its numbers as CSV."""
        return _RENDERERS[form](self)


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], align: Sequence[str] | None = None
) -> str:
    """A table for a terminal, each row on one line; see `readable` for how it writes a value.

    Args:
        headers: of the columns.
        rows: cells of any type.
        align: left or right for each column; by default columns of numbers go to the right.
    """
    cells = [[printable(readable(cell)) for cell in row] for row in rows]
    align = align or ["right" if _are_numbers(c) else "left" for c in zip(*rows, strict=True)]
    return tabulate(cells, headers, tablefmt="simple", colalign=align, disable_numparse=True)


def readable(value: object) -> str:
    """A value as a person reads it: nothing where it is missing, and a number's telling digits."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.6g}"
        case list() | tuple():
            return ", ".join(map(readable, value))
    return str(value)


def _are_numbers(values: Iterable[object]) -> bool:
    """Whether there are numbers and nothing else, but for what is missing."""
    kinds = {type(value) for value in values} - {type(None)}
    return bool(kinds) and kinds <= {int, float}


def json_text(value: object) -> str:
    """A value as JSON in ASCII without control characters; infinity becomes the string ``inf``."""
    return json.dumps(_finite(value), indent=1, allow_nan=False).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    """A value whose numbers JSON can write: those that are not finite are words."""
    match value:
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {name: _finite(one) for name, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
    return value


def escape_html(text: str) -> str:
    """Text for the body of an HTML file or an attribute in quotes."""
    return escape(printable(text))


def _markdown(table: Table) -> str:
    body = markdown_table(table.headers, table.rows)
    return f"{markdown_paragraph(table.caption)}\n\n{body}\n"


def csv_text(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """CSV with all digits of its numbers; no spreadsheet takes its text for a formula."""
    from pandas import DataFrame

    cells = [[_csv_cell(value) for value in row] for row in rows]
    frame = DataFrame(cells, columns=[_csv_cell(name) for name in columns], dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


def _csv(table: Table) -> str:
    return csv_text(table.tidy.columns, table.tidy.itertuples(index=False))


def _csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: an apostrophe makes it text."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULAS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class HtmlCell(NamedTuple):
    """A cell of a table in HTML.

    Attributes:
        is_header: whether it names its row.
        rows: how many rows it spans.
    """

    text: str
    is_header: bool
    rows: int


def html_rows(table: Table) -> list[list[HtmlCell]]:
    """The rows of a table with their headers.

    What is empty at the beginning of a row belongs to the cell above; the first cell of a row names
    it, and so does the first cell in a column where no row is empty at its beginning.
    """
    empty = [next((i for i, cell in enumerate(row) if cell), 0) for row in table.rows]
    empty[:1] = [0]  # above the first row there is nothing
    names = {0, max(empty, default=0)}
    found = []
    for place, row in enumerate(table.rows):
        cells = []
        for column in range(empty[place], len(row)):
            text, below = printable(row[column]), empty[place + 1 :]
            spans = next((i for i, count in enumerate(below, 1) if count <= column), len(below) + 1)
            cells.append(HtmlCell(text, column in names and bool(text.strip()), spans))
        found.append(cells)
    return found


def templates() -> Environment:
    """The templates of HTML files; what they print is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["printable"] = printable
    return environment


def _shown(value: object) -> object:
    """What a template prints; text that it has escaped already stays as it is."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value), keep="\n") if is_text else value


def html_file(table: Table, after: str = "") -> str:
    """A table as an HTML file.

    Args:
        table: what it shows.
        after: HTML to follow the table.
    """
    template = templates().get_template("table_file.html.j2")
    return template.render(table=table, rows=html_rows(table), after=after)


_RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": _markdown,
    "tex": latex,
    "csv": _csv,
    "html": html_file,
}
