"""Markdown as GitHub reads it: text that stays text, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from harness.errors import printable

_SPECIAL = re.compile(
    r"""
    [|`*~$]                             # the end of a cell, code, emphasis, struck out, formulas
    | _(?![^\W_]) | (?<![^\W_])_        # emphasis; inside a word it is none
    | \](?=[(\[:])                      # the target of a link
    | <(?=[A-Za-z/!?]) | &(?=[A-Za-z#]) # HTML
    | \\(?=[!-/:-@\[-`{-~]|\Z)          # an escape
    | \A(?:[#>]|[+-](?=[\s-]))          # a heading, a quotation, a list, a rule
    | (?<=\A\d)[.)](?=\s)               # a numbered list
    """,
    re.VERBOSE,
)


def escape_markdown(text: str) -> str:
    """Text for a paragraph or a cell, on one line; a reader sees it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", printable(text).strip())


def markdown_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str] | None = None
) -> str:
    """A table of text; ``align`` says left or right for each column."""
    cells = [[escape_markdown(cell) for cell in row] for row in rows]
    titles = [escape_markdown(header) for header in headers]
    return tabulate(cells, titles, tablefmt="github", colalign=align, disable_numparse=True)
