"""What a report is: something with a name that renders itself; and the commonest, the table.

Tables are written as text, Markdown, LaTeX, HTML and CSV. In LaTeX long text wraps, long tables go
over several floats, and wide ones shrink.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol
from unicodedata import normalize

from tabulate import tabulate

from harness.errors import HarnessError, printable

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


def latex(name: str, caption: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as one or several ``table*``, no wider than the text.

    Args:
        name: ends the label.
        caption: of the first float.
        headers: of the columns.
        rows: as text.
    """
    longest = [
        max([*map(len, column), *map(len, header.split())], default=0)
        for header, *column in zip(headers, *rows, strict=True)
    ]
    widths = _widths(longest)
    needed = sum(width or size for width, size in zip(widths, longest, strict=True))
    shrink = max(1.0, (needed + _SPACE * len(longest)) / LINE)
    sizes = (max(size, 1) for size in longest)
    wrapped = ["\n".join(wrap(text, size)) for text, size in zip(headers, sizes, strict=True)]
    floats = [
        _float(name, caption, _tabular(wrapped, part, widths), shrink > _SLACK, first=not place)
        for place, part in enumerate(_parts(rows, widths, _LINES * shrink))
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


def _float(name: str, caption: str, tabular: str, wide: bool, *, first: bool) -> str:
    """One float; those after the first keep its number."""
    caption = escape_latex(caption) if first else "Continued."
    if wide:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}"
    lines = [
        "\\begin{table*}",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        *([] if first else ["\\addtocounter{table}{-1}"]),
        f"\\caption{{{caption}}}",
        *([f"\\label{{tab:{_LABEL.sub('-', name)}}}"] if first else []),
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


_RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": _markdown,
    "tex": lambda table: latex(table.name, table.caption, table.headers, table.rows),
    "csv": _csv,
    "html": html_file,
}
