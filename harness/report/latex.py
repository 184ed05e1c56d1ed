"""Tables in LaTeX: long text wraps, long tables go over several floats, wide ones shrink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.forms import Table

PREAMBLE = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}."
LINE = 82
"""Letters of ``\\footnotesize`` on a line of an article on letter paper, about."""
_LINES = 40
"""Of a float, beside its caption."""
_SPACE = 2
"""Letters that fit into the space between two columns."""
_LONG, _NARROW = 26, 18
"""A cell from which on its column wraps, and the least width of such a column, in letters."""
_SYMBOLS: Mapping[str, str] = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"✓": "$\\surd$", "≈": "$\\approx$", "✗": "$\\times$", "≠": "$\\neq$", "○": "$\\circ$"},
    "†": "\\dag{}",
}


def escape_latex(text: str) -> str:
    """Text for the body of a LaTeX document; no backslashes, tildes or carets."""
    return "".join(_SYMBOLS.get(letter, letter) for letter in text)


def latex(table: Table) -> str:
    """A table as one or several ``table*``, no wider than the text."""
    widths = _widths([table.headers, *table.rows])
    parts = list(_parts(table.rows, widths))
    floats = [_float(table, widths, part, first=part is parts[0]) for part in parts]
    return "\n\n".join([PREAMBLE, *floats]) + "\n"


def _widths(rows: Sequence[Sequence[str]]) -> list[float | None]:
    """The width of each column in letters; None where it is that of its longest cell."""
    longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    taken = sum(size for size in longest if size < _LONG) + _SPACE * len(longest)
    long = {place: size**0.5 for place, size in enumerate(longest) if size >= _LONG}
    left = max(LINE - taken, _NARROW * len(long))
    return [
        min(left * long[place] / sum(long.values()), size) if place in long else None
        for place, size in enumerate(longest)
    ]


def _parts(
    rows: Sequence[Sequence[str]], widths: Sequence[float | None]
) -> Iterator[Sequence[Sequence[str]]]:
    """The rows in pieces that fit on a page each; one empty piece where there are none."""
    part: list[Sequence[str]] = []
    filled = 0
    for row in rows:
        # Words leave about a sixth of a narrow column empty.
        sizes = zip(row, widths, strict=True)
        lines = max(ceil(1.2 * len(text) / width) if width else 1 for text, width in sizes)
        if part and filled + lines > _LINES:
            yield part
            part, filled = [], 0
        part.append(row)
        filled += lines
    yield part


def _float(
    table: Table, widths: Sequence[float | None], rows: Sequence[Sequence[str]], *, first: bool
) -> str:
    caption = table.caption if first else f"Table \\ref{{tab:{table.name}}}, continued."
    lines = [
        "\\begin{table*}",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        f"\\caption{{{escape_latex(caption) if first else caption}}}",
        *([f"\\label{{tab:{table.name}}}"] if first else []),
        *_fitted(_tabular(table.headers, rows, widths), [table.headers, *table.rows], widths),
        "\\end{table*}",
    ]
    return "\n".join(lines)


def _fitted(
    tabular: str, rows: Sequence[Sequence[str]], widths: Sequence[float | None]
) -> list[str]:
    """A tabular, shrunk to the width of the text where it is wider."""
    columns = zip(zip(*rows, strict=True), widths, strict=True)
    needed = sum((width or max(map(len, column))) + _SPACE for column, width in columns)
    if needed <= LINE + 0.5:
        return [tabular]
    return ["\\resizebox{\\textwidth}{!}{%", f"{tabular}}}"]


def _tabular(
    headers: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float | None]
) -> str:
    columns = "".join(f"p{{{width / LINE:.2f}\\textwidth}}" if width else "l" for width in widths)
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _row(headers, widths),
            "\\midrule",
            *(_row(row, widths) for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _row(cells: Sequence[str], widths: Sequence[float | None]) -> str:
    ragged = ["\\raggedright " if width else "" for width in widths]
    shown = [lead + escape_latex(text) for lead, text in zip(ragged, cells, strict=True)]
    return " & ".join(shown) + " \\tabularnewline"
