"""What a report is: something with a name that renders itself; and the commonest, the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from tabulate import tabulate

from harness.report.latex import latex

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["md", "tex", "csv", "html", "png", "svg", "pdf"]


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


def _body(table: Table, style: str) -> str:
    return tabulate(table.rows, table.headers, tablefmt=style, disable_numparse=True)


def _markdown(table: Table) -> str:
    return f"{table.caption}\n\n{_body(table, 'github')}\n"


def _csv(table: Table) -> str:
    return table.tidy.to_csv(index=False, lineterminator="\n")


def _html(table: Table) -> str:
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f"<title>{escape(table.name)}</title>",
        f"<p>{escape(table.caption)}</p>",
        _body(table, "html"),
    ]
    return "\n".join(lines) + "\n"


_RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": _markdown,
    "tex": latex,
    "csv": _csv,
    "html": _html,
}
