"""What a report is: something with a name that renders itself; and the commonest, the table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from tabulate import tabulate

from harness.errors import printable
from harness.report.latex import latex
from harness.report.markdown import markdown_paragraph, markdown_table

if TYPE_CHECKING:
    import pandas as pd

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
        rows: cells as text.
        tidy: the same numbers, one a row, for machines.
    """

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    tidy: pd.DataFrame
    formats: ClassVar[tuple[Format, ...]] = ("md", "tex", "csv", "html")

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


def _html(table: Table) -> str:
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f"<title>{escape_html(table.name)}</title>",
        f"<p>{escape_html(table.caption)}</p>",
        _html_table(table),
    ]
    return "\n".join(lines) + "\n"


def _html_table(table: Table) -> str:
    """The table; tabulate escapes its text."""
    headers, *rows = [[printable(cell) for cell in row] for row in (table.headers, *table.rows)]
    return tabulate(rows, headers, tablefmt="html", disable_numparse=True)


_RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": _markdown,
    "tex": latex,
    "csv": _csv,
    "html": _html,
}
