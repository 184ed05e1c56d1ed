"""Reports, which have a name and render themselves, and their most common kind, tables.

Tables are written as text, Markdown, LaTeX, HTML and CSV. In LaTeX, long text wraps, long tables
are split into several floats, and wide tables shrink.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable
from unicodedata import normalize

from tabulate import tabulate

from harness.errors import HarnessError, printable

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment


Format = Literal["md", "tex", "csv", "html", "png", "svg", "pdf"]

_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""The first characters of formulas in Excel, LibreOffice and Google Sheets."""


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


Mark = Literal["", "best", "second"]
BEST = "Bold: the best of its column and scale; underlined: the second best."
"""What marks say, for a caption."""


class Marked(str):
    """A cell with parts that stand out, except in CSV and where it is used as plain text.

    Attributes:
        parts: texts with their marks. Markdown shows a mark beside spaces and punctuation only.
    """

    parts: Sequence[tuple[str, Mark]]

    def __new__(cls, parts: Sequence[tuple[str, Mark]]) -> Marked:
        """Join texts with their marks."""
        cell = super().__new__(cls, "".join(text for text, _ in parts))
        cell.parts = parts
        return cell

    def __html__(self) -> str:
        """Escape the cell for jinja2."""
        return _escaped(self, "html")


class Note(NamedTuple):
    """Text below a table: a heading, a quotation and paragraphs."""

    heading: str
    quote: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table that can be written in several formats.

    Attributes:
        name: the stem of its files and its LaTeX label.
        caption: describes the numbers and their rules.
        headers: of the columns.
        rows: cells of any type; `readable` turns them into text. In HTML, empty cells at the
            beginning of a row belong to the row above.
        tidy: the same numbers in long form, one per row.
        notes: text that follows in every format but CSV.

    Raises:
        HarnessError: a row has more or fewer cells than there are headers.
    """

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    tidy: pd.DataFrame
    notes: Sequence[Note] = ()
    formats: ClassVar[tuple[Format, ...]] = ("md", "tex", "csv", "html")

    def __post_init__(self) -> None:
        rows = [[readable(cell) for cell in row] for row in self.rows]
        uneven = next((row for row in rows if len(row) != len(self.headers)), None)
        if uneven is not None:
            raise HarnessError(
                f"the table {self.name} has {len(self.headers)} headers, but a row with "
                f"{len(uneven)} cells: {uneven}"
            )
        object.__setattr__(self, "rows", rows)

    def render(self, form: Format) -> str:
        """Render as Markdown, LaTeX (booktabs and graphicx) or HTML, or the numbers as CSV."""
        match form:
            case "md":
                body = markdown_table(self.headers, self.rows)
                notes = map(_markdown_note, self.notes)
                return "\n\n".join([markdown_paragraph(self.caption), body, *notes]) + "\n"
            case "tex":
                return latex(self)
            case "csv":
                return csv_text(self.tidy.columns, self.tidy.itertuples(index=False))
            case "html":
                template = templates().get_template("table_file.html.j2")
                return template.render(table=self, rows=html_rows(self))
        raise ValueError(f"a table cannot be rendered as {form}")

    def without_marks(self) -> Table:
        """Return the table with no number bold or underlined."""
        rows = [[str(cell) for cell in row] for row in self.rows]
        return replace(self, rows=rows, caption=self.caption.replace(f" {BEST}", ""))


def plain_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], align: Sequence[str] | None = None
) -> str:
    """Format a table for a terminal, one line per row; `readable` formats the values.

    Args:
        headers: of the columns.
        rows: cells of any type.
        align: left or right for each column; by default, columns of numbers are right-aligned.
    """
    cells = [[printable(readable(cell)) for cell in row] for row in rows]
    kinds = [{type(cell) for cell in column} - {type(None)} for column in zip(*rows, strict=True)]
    align = align or ["right" if kind and kind <= {int, float} else "left" for kind in kinds]
    return tabulate(cells, headers, tablefmt="simple", colalign=align, disable_numparse=True)


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


def json_text(value: object) -> str:
    """Write a value as ASCII JSON without control characters; infinity is the string ``inf``."""
    plain = json.loads(json.dumps(value), parse_constant=lambda word: str(float(word)))
    return json.dumps(plain, indent=1).replace("\x7f", "\\u007f")


def escape_html(text: str) -> str:
    """Escape text for the body of an HTML file or a quoted attribute."""
    return escape(printable(text))


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


class HtmlCell(NamedTuple):
    """A cell of an HTML table, which may be a row header and span several rows."""

    text: str
    is_header: bool
    rows: int


def html_rows(table: Table) -> list[list[HtmlCell]]:
    """Lay out the rows of an HTML table, row headers included.

    Empty cells at the beginning of a row belong to the cell above. Row headers are the cells of the
    first column, and of the first column that no row leaves to the row above.
    """
    starts = [next((i for i, cell in enumerate(row) if cell), 0) for row in table.rows]
    starts[:1] = [0] * bool(starts)  # the first row has no row above it
    header_columns = {0, max(starts, default=0)}

    def cell(place: int, column: int) -> HtmlCell:
        text = table.rows[place][column]
        below = starts[place + 1 :]
        spans = next((i for i, start in enumerate(below, 1) if start <= column), len(below) + 1)
        text = text if isinstance(text, Marked) else printable(text)
        return HtmlCell(text, column in header_columns and bool(text.strip()), spans)

    columns = range(len(table.headers))
    return [
        [cell(place, column) for column in columns[start:]] for place, start in enumerate(starts)
    ]


def templates() -> Environment:
    """Load the templates of HTML files, which escape their output."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["printable"] = printable
    return environment


def _finalize(value: object) -> object:
    """Make text printable before a template prints it, unless it is already escaped."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value), keep="\n") if is_text else value


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
    cells = [[_escaped(cell, "md") for cell in row] for row in rows]
    titles = [escape_markdown(header) for header in headers]
    return tabulate(cells, titles, tablefmt="github", colalign=align, disable_numparse=True)


def _markdown_note(note: Note) -> str:
    quote, *paragraphs = map(markdown_paragraph, [note.quote, *note.paragraphs])
    return "\n\n".join([f"### {escape_markdown(note.heading)}", f"> {quote}", *paragraphs])


PREAMBLE = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}."
_BEGIN = ("\\begin{table*}", "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}")
_FIT = "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%"
"""Shrinks a table that is wider than the text."""
_LINES, _LETTERS = 52, 82
"""Lines of a float and letters of a line in ``\\footnotesize``, in an article on letter paper."""
_LONG = 26
"""A column with a cell of more letters wraps."""
_LABEL = re.compile(r"[^A-Za-z0-9_.-]")
"""Characters that a label must not contain."""
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
    r"""Escape text for the body of a LaTeX document, in ASCII.

    A character that pdfLaTeX cannot typeset without more packages is written like ``\u4e2d``.
    """
    plain = normalize("NFC", printable(text)).strip()
    # LaTeX would turn two hyphens into a dash.
    safe = re.sub("-(?=-)", "-{}", "".join(map(_letter, plain)))
    # The row's end before it would read a star or a bracket as its argument.
    return "{}" + safe if safe.startswith(("[", "*")) else safe


def _letter(letter: str) -> str:
    """Write one printable character in LaTeX."""
    if letter in _SYMBOLS or letter.isascii():
        return _SYMBOLS.get(letter, letter)
    parts = normalize("NFD", letter)
    if parts[0].isascii() and parts[1:] in _ACCENTS:
        return f"\\{_ACCENTS[parts[1:]]}{{{parts[0]}}}"
    return _SYMBOLS["\\"] + letter.encode("unicode_escape").decode()[1:]


def latex(table: Table) -> str:
    """Write a table as one or several ``table*`` floats, no wider than the text, then its notes.

    The first has the caption and a label that ends in the table's name.
    """
    columns = zip(table.headers, *table.rows, strict=True)
    longest = [max(map(len, [*header.split(), *cells]), default=0) for header, *cells in columns]
    wraps = [size > _LONG for size in longest]
    # Columns that wrap share the larger part of the line.
    width = max(0.6 / max(sum(wraps), 1), 0.25)
    letters = width * _LETTERS
    kinds = "".join(f"p{{{width:.2f}\\textwidth}}" if one else "l" for one in wraps)
    needed = sum(letters if one else size for one, size in zip(wraps, longest, strict=True))
    shrunk = max(1.0, (needed + 2 * len(longest)) / _LETTERS)
    label = f"\\label{{tab:{_LABEL.sub('-', table.name)}}}"
    top = [f"\\caption{{{escape_latex(table.caption)}}}", label]
    floats = []
    for part in _parts(table, letters, shrunk):
        tabular = [
            f"\\begin{{tabular}}{{{kinds}}}",
            "\\toprule",
            _row(map(_header, table.headers, longest)),
            "\\midrule",
            *(_row(map(_cell, row, wraps)) for row in part),
            "\\bottomrule",
            "\\end{tabular}}",
        ]
        floats.append("\n".join([*_BEGIN, *top, _FIT, *tabular, "\\end{table*}"]))
        # Floats after the first keep its number.
        top = ["\\addtocounter{table}{-1}", "\\caption{Continued.}"]
    return "\n\n".join([PREAMBLE, *floats, *_latex_notes(table.notes)]) + "\n"


def _parts(table: Table, letters: float, shrunk: float) -> Iterator[Sequence[Sequence[str]]]:
    """Split a table's rows into parts that fit on a page; one empty part without rows.

    Args:
        table: its caption takes lines of the first part.
        letters: that fit on a line of a column that wraps.
        shrunk: the factor by which the table is too wide.
    """
    part: list[Sequence[str]] = []
    # The caption has larger letters than the table.
    left = (_LINES - len(table.caption) / 55) * shrunk
    for row in table.rows:
        # Words leave about a sixth of a narrow column empty.
        lines = max(ceil(1.2 * len(cell) / letters) if len(cell) > _LONG else 1 for cell in row)
        if part and lines > left:
            yield part
            part, left = [], _LINES * shrunk
        part.append(row)
        left -= lines
    yield part


def _header(header: str, size: int) -> str:
    """Write a header, wrapped to a number of letters."""
    lines = [escape_latex(line) for line in wrap(header, max(size, 1))]
    stacked = "\\\\".join(lines)
    return f"\\shortstack[l]{{{stacked}}}" if len(lines) > 1 else stacked


def _cell(cell: str, wraps: bool) -> str:
    return "\\raggedright " * wraps + _escaped(cell, "tex")


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\tabularnewline"


def _latex_notes(notes: Sequence[Note]) -> list[str]:
    """Write notes as a list of descriptions; none without notes."""
    items = []
    for note in notes:
        heading, quote, *paragraphs = map(escape_latex, [*note[:2], *note.paragraphs])
        items.append(f"\\item[{{{heading}}}] \\emph{{{quote}}} {' '.join(paragraphs)}")
    lines = ["\\begin{description}\\sloppy", *items, "\\end{description}"]
    return ["\n".join(lines)] if items else []


_FORMS: Mapping[Format, tuple[Callable[[str], str], Mapping[Mark, str]]] = {
    # GitHub shows <ins> underlined, and drops <u>.
    "md": (escape_markdown, {"best": "**{}**", "second": "<ins>{}</ins>"}),
    "tex": (escape_latex, {"best": "\\textbf{{{}}}", "second": "\\underline{{{}}}"}),
    "html": (escape_html, {"best": "<b>{}</b>", "second": "<u>{}</u>"}),
}
"""How text is escaped and marked."""


def _escaped(cell: str, form: Format) -> str:
    """Escape a cell, and mark its parts if it has any."""
    escape, marks = _FORMS[form]
    if not isinstance(cell, Marked):
        return escape(cell)
    parts = ((escape(text), mark) for text, mark in cell.parts)
    return "".join(marks.get(mark, "{}").format(text) for text, mark in parts if text)
