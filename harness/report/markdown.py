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
    """,
    re.VERBOSE,
)
_BLOCK = re.compile(r"\A(\d*)(>|[#+).-](?=[\s#-]|\Z))")
"""What would make a heading, a quotation, a list or a rule of a paragraph."""


def escape_markdown(text: str) -> str:
    """Text for a cell or for a place within a paragraph, on one line; a reader sees it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", printable(text).strip())


def markdown_paragraph(text: str) -> str:
    """Text that is a paragraph, or begins one."""
    return _BLOCK.sub(r"\1\\\2", escape_markdown(text))


def markdown_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str] | None = None
) -> str:
    """A table of text; ``align`` says left or right for each column."""
    cells = [[escape_markdown(cell) for cell in row] for row in rows]
    titles = [escape_markdown(header) for header in headers]
    return tabulate(cells, titles, tablefmt="github", colalign=align, disable_numparse=True)
