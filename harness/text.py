"""Text for people: values and lists in words, escaped for terminal, CSV, Markdown, LaTeX, HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal
from unicodedata import normalize

from tabulate import tabulate

from harness.errors import printable


def readable(value: object) -> str:
    """Format a value for people: empty if missing, and numbers with their significant digits."""
    match value:
        case str():
            return value
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


_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""The first characters of formulas in Excel, LibreOffice and Google Sheets."""


def csv_text(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Write CSV with all digits of numbers, and text that spreadsheets do not read as formulas."""
    from pandas import DataFrame

    cells = [[_csv_cell(value) for value in row] for row in rows]
    frame = DataFrame(cells, columns=[_csv_cell(name) for name in columns], dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


def _csv_cell(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would read as a formula."""
    text = printable(value) if isinstance(value, str) else ""
    if not text.lstrip().startswith(_FORMULAS):
        return text or value
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def listed(words: Sequence[str]) -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def ordinal(rank: int) -> str:
    """Format a rank: ``1st``, ``2nd``, ``3rd``, ``4th``, up to ``20th``."""
    return f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank, 'th') }"


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], align: Sequence[str] | None = None
) -> str:
    """Format a table for a terminal, one line per row.

    Args:
        headers: of the columns.
        rows: cells of any type.
        align: left or right for each column; by default, columns of numbers are right-aligned.
    """
    cells = [[printable(readable(cell)) for cell in row] for row in rows]
    kinds = [{type(cell) for cell in column} - {type(None)} for column in zip(*rows, strict=True)]
    align = align or ["right" if kind and kind <= {int, float} else "left" for kind in kinds]
    return tabulate(cells, headers, tablefmt="simple", colalign=align, disable_numparse=True)


def json_text(value: object) -> str:
    """Write a value as ASCII JSON without control characters; infinity is the string ``inf``."""
    plain = json.loads(json.dumps(value), parse_constant=lambda word: str(float(word)))
    return json.dumps(plain, indent=1).replace("\x7f", "\\u007f")


class Marked(str):
    """A cell with parts that stand out, except in CSV and where it is used as plain text.

    Attributes:
        parts: texts with their marks: ``best`` (bold), ``second`` (underlined), or a class of the
            page's style sheet.
        run: the id of the record that the page links the cell to.
        more: text that HTML shows when a reader unfolds the cell.
    """

    parts: Sequence[tuple[str, str]]
    run: str
    more: str

    def __new__(cls, parts: Sequence[tuple[str, str]], run: str = "", more: str = "") -> Marked:
        """Join texts with their marks."""
        cell = super().__new__(cls, "".join(text for text, _ in parts))
        cell.parts, cell.run, cell.more = parts, run, more
        return cell

    def __html__(self) -> str:
        """Escape the cell for jinja2."""
        return escaped(self, "html")


def _escape_html(text: str) -> str:
    return escape(printable(text))


_SPECIAL = re.compile(
    r"""
    [|`*~$]                             # end of a cell, code, emphasis, strikethrough, formulas
    | _(?![^\W_]) | (?<![^\W_])_        # emphasis, except inside a word
    | \](?=[(\[:])                      # the target of a link
    | <(?=[A-Za-z/!?]) | &(?=[A-Za-z#]) # HTML
    | \\(?=[!-/:-@\[-`{-~]|\Z)          # an escape
    """,
    re.VERBOSE,
)
_BLOCK = re.compile(r"\A(\d*)(>|[#+).-](?=[\s#-]|\Z))")
"""Matches a beginning that would turn a paragraph into a heading, quotation, list or rule."""


def escape_markdown(text: str) -> str:
    """Escape text, on one line, for a cell or the inside of a paragraph."""
    return _SPECIAL.sub(r"\\\g<0>", printable(text).strip())


def markdown_paragraph(text: str) -> str:
    """Escape text that is a paragraph or the beginning of one."""
    return _BLOCK.sub(r"\1\\\2", escape_markdown(text))


def markdown_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str] | None = None
) -> str:
    """Write a Markdown table; ``align`` is left or right for each column."""
    cells = [[escaped(cell, "md") for cell in row] for row in rows]
    titles = [escape_markdown(header) for header in headers]
    return tabulate(cells, titles, tablefmt="github", colalign=align, disable_numparse=True)


_SYMBOLS: Mapping[str, str] = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"✓": "$\\surd$", "≈": "$\\approx$", "✗": "$\\times$", "≠": "$\\neq$", "○": "$\\circ$"},
    **{"†": "\\dag{}", "‡": "\\ddag{}", "–": "\\textendash{}", "—": "\\textemdash{}", "−": "$-$"},
}


def escape_latex(text: str) -> str:
    r"""Escape text for the body of a LaTeX document.

    A letter beyond the Latin ones, which LaTeX lacks without more packages, is written as its
    number, such as ``U+4E2D``.
    """
    safe = "".join(map(_letter, normalize("NFC", printable(text)).strip()))
    safe = re.sub("([-<>,'`])(?=\\1)", "\\1{}", safe)  # LaTeX would join two into a dash or quote
    # The row's end before it would read a star or a bracket as its argument.
    return "{}" + safe if safe.startswith(("[", "*")) else safe


def _letter(letter: str) -> str:
    if letter in _SYMBOLS or letter < "\u0180":
        return _SYMBOLS.get(letter, letter)
    return f"U+{ord(letter):04X}"


_FORMS: Mapping[str, tuple[Callable[[str], str], Mapping[str, str]]] = {
    # GitHub shows <ins> underlined, and drops <u>.
    "md": (escape_markdown, {"best": "**{}**", "second": "<ins>{}</ins>"}),
    "tex": (escape_latex, {"best": "\\textbf{{{}}}", "second": "\\underline{{{}}}"}),
    "html": (_escape_html, {"best": "<b>{}</b>", "second": "<u>{}</u>"}),
}
"""How text is escaped and marked."""


def escaped(cell: str, form: Literal["md", "tex", "html"]) -> str:
    """Escape a cell, and mark its parts if it has any."""
    plain, marks = _FORMS[form]
    if not isinstance(cell, Marked):
        return plain(cell)
    texts = []
    for text, mark in cell.parts:
        style = "{}"
        if mark and form == "html":
            style = f'<span class="{mark.replace(" ", "-")}" title="{mark}">{{}}</span>'
        space = " " if text.startswith(" ") else ""  # escaping may strip it
        texts.append(space + marks.get(mark, style).format(plain(text.lstrip())) if text else "")
    return "".join(texts)
