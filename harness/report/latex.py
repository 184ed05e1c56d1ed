"""Tables in LaTeX: long text wraps, long tables go over several floats, wide ones shrink."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING
from unicodedata import normalize

from harness.errors import printable

if TYPE_CHECKING:
    from harness.report.forms import Table

PREAMBLE = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}."
LINE = 82
"""Letters of ``\\footnotesize`` on a line of an article on letter paper, about."""
_LINES = 40
"""Of a float, beside its caption."""
_SPACE = 2
"""Letters that fit into the space between two columns."""
_LONG, _NARROW = 26, 24
"""A cell from which on its column wraps, and the least width of such a column, in letters."""
_SLACK = 1.01
_LABEL = re.compile(r"[^A-Za-z0-9_.-]")
"""What has no place in a label."""
_SYMBOLS: Mapping[str, str] = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"✓": "$\\surd$", "≈": "$\\approx$", "✗": "$\\times$", "≠": "$\\neq$", "○": "$\\circ$"},
    "†": "\\dag{}",
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    # Without a font encoding these three print as other characters.
    **{"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"},
    **{"–": "\\textendash{}", "—": "\\textemdash{}", "×": "$\\times$", "±": "$\\pm$", "−": "$-$"},
    **{"ß": "\\ss{}", "æ": "\\ae{}", "œ": "\\oe{}", "ø": "\\o{}", "ł": "\\l{}"},
    **{"Æ": "\\AE{}", "Œ": "\\OE{}", "Ø": "\\O{}", "Ł": "\\L{}"},
}
_ACCENTS: Mapping[str, str] = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u"},
    **{"\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c"},
}
"""The LaTeX command of each combining accent."""


def escape_latex(text: str) -> str:
    r"""Text for the body of a LaTeX document, in ASCII.

    A character that pdfLaTeX cannot set without more packages is shown as ``\u4e2d`` is.
    """
    plain = normalize("NFC", printable(text)).strip()
    # Two hyphens would become a dash.
    safe = re.sub("-(?=-)", "-{}", "".join(map(_letter, plain)))
    # The end of a row before it would take a star or a bracket as its own.
    return "{}" + safe if safe.startswith(("[", "*")) else safe


def _letter(letter: str) -> str:
    """One printable character in LaTeX."""
    if letter in _SYMBOLS or letter.isascii():
        return _SYMBOLS.get(letter, letter)
    parts = normalize("NFD", letter)
    if parts[0].isascii() and parts[1:] in _ACCENTS:
        return f"\\{_ACCENTS[parts[1:]]}{{{parts[0]}}}"
    return _SYMBOLS["\\"] + letter.encode("unicode_escape").decode()[1:]


def latex(table: Table) -> str:
    """A table as one or several ``table*``, no wider than the text."""
    longest = [
        max([*map(len, column), *map(len, header.split())], default=0)
        for header, *column in zip(table.headers, *table.rows, strict=True)
    ]
    widths = _widths(longest)
    needed = sum(width or size for width, size in zip(widths, longest, strict=True))
    shrink = max(1.0, (needed + _SPACE * len(longest)) / LINE)
    sizes = (max(size, 1) for size in longest)
    headers = ["\n".join(wrap(text, size)) for text, size in zip(table.headers, sizes, strict=True)]
    floats = [
        _float(table, _tabular(headers, part, widths), shrink > _SLACK, first=not place)
        for place, part in enumerate(_parts(table.rows, widths, _LINES * shrink))
    ]
    return "\n\n".join([PREAMBLE, *floats]) + "\n"


def _widths(longest: Sequence[int]) -> list[float | None]:
    """The width of each column in letters; None where it is that of its longest cell."""
    taken = sum(size for size in longest if size < _LONG) + _SPACE * len(longest)
    long = {place: size**0.5 for place, size in enumerate(longest) if size >= _LONG}
    left = max(LINE - taken, _NARROW * len(long))
    return [
        min(left * long[place] / sum(long.values()), size) if place in long else None
        for place, size in enumerate(longest)
    ]


def _parts(
    rows: Sequence[Sequence[str]], widths: Sequence[float | None], most: float
) -> Iterator[Sequence[Sequence[str]]]:
    """The rows in pieces of at most so many lines; one empty piece where there are none."""
    part: list[Sequence[str]] = []
    filled = 0
    for row in rows:
        # Words leave about a sixth of a narrow column empty.
        sizes = zip(row, widths, strict=True)
        lines = max(ceil(1.2 * len(text) / width) if width else 1 for text, width in sizes)
        if part and filled + lines > most:
            yield part
            part, filled = [], 0
        part.append(row)
        filled += lines
    yield part


def _float(table: Table, tabular: str, wide: bool, *, first: bool) -> str:
    """One float; those after the first keep its number."""
    caption = escape_latex(table.caption) if first else "Continued."
    if wide:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}"
    lines = [
        "\\begin{table*}",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        *([] if first else ["\\addtocounter{table}{-1}"]),
        f"\\caption{{{caption}}}",
        *([f"\\label{{tab:{_LABEL.sub('-', table.name)}}}"] if first else []),
        tabular,
        "\\end{table*}",
    ]
    return "\n".join(lines)


def _tabular(
    headers: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float | None]
) -> str:
    columns = "".join(f"p{{{width / LINE:.2f}\\textwidth}}" if width else "l" for width in widths)
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _header(headers),
            "\\midrule",
            *(_row(row, widths) for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _header(headers: Sequence[str]) -> str:
    """The headers, those of several lines stacked."""
    shown = []
    for header in headers:
        lines = [escape_latex(line) for line in header.split("\n")]
        stacked = "\\\\".join(lines)
        shown.append(f"\\shortstack[l]{{{stacked}}}" if len(lines) > 1 else stacked)
    return " & ".join(shown) + " \\tabularnewline"


def _row(cells: Sequence[str], widths: Sequence[float | None]) -> str:
    ragged = ["\\raggedright " if width else "" for width in widths]
    shown = [lead + escape_latex(text) for lead, text in zip(ragged, cells, strict=True)]
    return " & ".join(shown) + " \\tabularnewline"
