"""Text of strangers in each form of a report: read back, it is what it was."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable
from functools import reduce
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.errors import printable
from harness.report.table import Table
from harness.text import (
    _SYMBOLS,
    Marked,
    escape_latex,
    escape_markdown,
    json_text,
    markdown_paragraph,
    plain_table,
)

STRANGE = [
    "=cmd|' /C calc'!A0",
    "^^5cinput{^^2fetc^^2fpasswd}",
    r"\input{/etc/passwd} ~ $x$ % # & _ { }",
    "<script>alert(1)</script> &lt; <https://a.b> & co",
    r"a|b \| \\| c\ ``code`` *bold* _slanted_ __init__ ~~gone~~ [a](b) [c][d] [e]: f $x$",
    "# heading",
    "- item",
    "1. item",
    "12) item",
    "> quoted",
    "[4pt] length",
    "* star",
    "--grey ---",
    "\x1b[2J\x1b]0;title\x07 \x9b2J \u202egnp.exe \x00 \x7f \ufeff \udcff \uffff",
    "two\nlines\r\n\r\nand\ta tab\u2028",
    "Müller, Łukasz, naïve, 模型, Ж, e\u0301, ấ, – — × ± −",
    "-",
    "",
]
texts = st.text(st.one_of(st.characters(), st.sampled_from("|\\`*_[]()<>&$#~^%{}=+-@.! \n\x1b")))
strange = pytest.mark.parametrize("text", STRANGE)


def any_text(test: Callable[[str], None]) -> Callable[[], None]:
    """Run a test on each of the strange texts, and on whatever hypothesis makes of their kind."""
    return given(texts)(reduce(lambda made, text: example(text)(made), STRANGE, test))


def table(*cells: str) -> Table:
    """A table with text of strangers in every place."""
    return Table("t", cells[0], list(cells), [list(cells)], pd.DataFrame({cells[0]: cells}))


_TEX = re.compile(
    r"""
    \\(?P<escaped>[&%$#_{}])
    | (?P<command>\\[A-Za-z]+\{\} | \$[^$]*\$)
    | (?P<kern>\{\})
    | (?P<plain>[ -~\xa0-\u017f])
    """,
    re.VERBOSE,
)


def typeset(source: str) -> str:
    """What TeX sets, reading character by character; nothing may act that is not meant to."""
    read, shown = 0, ""
    while read < len(source):
        token = _TEX.match(source, read)
        assert token, f"TeX does not set {source[read:]!r}"
        read = token.end()
        if token["plain"]:
            assert token["plain"] not in "\\{}$&#^_~%", f"{token['plain']} acts in {source!r}"
            pair = source[token.start() : token.start() + 2]
            assert pair not in {"--", "<<", ">>", ",,", "''", "``"}, f"{pair} is one sign"
        commands = {command: letter for letter, command in _SYMBOLS.items()}
        shown += token["plain"] or token["escaped"] or commands.get(token["command"], "")
    return shown


def in_tex(text: str) -> str:
    """The text with what LaTeX has no letter for as its number."""
    plain = unicodedata.normalize("NFC", printable(text)).strip()
    return "".join(
        letter if letter < "\u0180" or letter in _SYMBOLS else f"U+{ord(letter):04X}"
        for letter in plain
    )


@any_text
def test_latex_sets_the_text_and_obeys_none_of_it(text: str) -> None:
    source = escape_latex(text)
    assert source.isprintable()
    assert typeset(source) == in_tex(text)


@strange
def test_no_row_of_latex_gives_an_argument_to_the_end_of_the_row_before(text: str) -> None:
    source = table(text).render("tex")
    assert not re.search(r"(?:\\tabularnewline|\\\\|rule)\s*[\[*]", source)
    assert source.count("\\begin{") == source.count("\\end{") == 2


def test_a_label_of_latex_is_a_plain_word() -> None:
    assert r"\label{tab:a-b-c_1}" in Table("a}b#c_1", "", [], [], pd.DataFrame()).render("tex")


def test_latex_sets_names_with_their_accents() -> None:
    assert escape_latex("Müller, Łukasz, Ångström") == "Müller, Łukasz, Ångström"
    assert escape_latex("模型 Ж") == "U+6A21U+578B U+0416"


def read_markdown(source: str) -> list[str]:
    """The texts of a document's paragraphs and cells, in which nothing is anything but text."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(source)
    blocks = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
    assert blocks <= {"inline", "paragraph", "table", "thead", "tbody", "tr", "th", "td"}, blocks
    inline = [token.children or [] for token in tokens if token.type == "inline"]
    assert {child.type for part in inline for child in part} <= {"text"}, source
    return ["".join(child.content for child in part) for part in inline]


@any_text
def test_markdown_shows_the_text_in_its_cell(text: str) -> None:
    seen = read_markdown(table(text, "next").render("md"))
    said = printable(text).strip()
    assert seen == [*([said] if said else []), said, "next", said, "next"]


@any_text
def test_a_paragraph_of_markdown_begins_no_other_block(text: str) -> None:
    said = printable(text).strip()
    assert read_markdown(f"{markdown_paragraph(text)}\n\nnext") == [
        *([said] if said else []),
        "next",
    ]


@pytest.mark.parametrize("mark", ["best", "second", ""])
@strange
def test_a_marked_cell_shows_the_text_of_a_stranger_and_nothing_else(text: str, mark: str) -> None:
    cell = Marked([(text, mark), ("/", "")])
    marked = Table("t", "", ["n"], [[cell]], pd.DataFrame({"n": []}))
    said = printable(text).strip()
    (_, *inside) = MarkdownIt("commonmark").enable(["table"]).parse(marked.render("md"))
    children = [child for token in inside for child in token.children or []]
    assert "".join(child.content for child in children if child.type == "text") == f"n{said}/"
    allowed = {"best": {"strong_open", "strong_close"}, "second": {"html_inline"}}.get(mark, set())
    assert {child.type for child in children} <= {"text", *allowed}
    html = Cells(marked.render("html"))
    assert html.tags <= TAGS | {"b", "u"}
    assert html.texts[3:] == [
        "n",
        *([said, "/"] if mark and said else [f"{printable(text)}/".strip()]),
    ]
    tex = marked.render("tex")
    command = {"best": r"\textbf{", "second": r"\underline{", "": ""}[mark]
    assert f"{command}{escape_latex(text)}{'}' * bool(mark)}/ " in tex or not said


def test_words_and_numbers_stay_as_they_are_in_markdown() -> None:
    for text in ("img_002", "-0.15", "+0.002", "a < b & c", "[16] 100 %", "30.48/0.8628 ✓†", "-"):
        assert escape_markdown(text) == text


class Cells(HTMLParser):
    """The elements and texts of an HTML file."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


TAGS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "div"}
TAGS |= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@strange
def test_html_shows_the_text(text: str) -> None:
    seen = Cells(table(text, "next").render("html"))
    assert seen.tags <= TAGS
    said = [printable(text).strip()] if text else []
    assert seen.texts[2:] == ["t", *said, *said, "next", *said, "next"]


@any_text
def test_csv_has_no_formula_and_a_line_a_row(text: str) -> None:
    source = table(text, "-0.15").render("csv")
    assert source.count("\n") == 3
    for (cell,) in csv.reader(io.StringIO(source)):
        if cell.lstrip()[:1] in tuple("=+-@"):
            float(cell)  # a number, and no formula
        assert cell.removeprefix("'") in (printable(text).removeprefix("'"), "-0.15")


@pytest.mark.parametrize("text", ["=1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_a_formula_is_text_in_csv(text: str) -> None:
    assert table(text).render("csv") == f"'{printable(text)}\n" * 2


def test_numbers_stay_numbers_in_csv() -> None:
    tidy = pd.DataFrame(
        {"n": [-0.15, 3.0], "s": ["-0.15", "+1e-05"], "o": [-1, None], "i": [-2, 1]}
    )
    assert Table("t", "", [], [], tidy).render("csv") == (
        "n,s,o,i\n-0.15,-0.15,-1.0,-2\n3.0,+1e-05,,1\n"
    )


@strange
def test_a_row_of_a_plain_table_is_one_line_that_a_terminal_cannot_obey(text: str) -> None:
    lines = plain_table(["name", "next"], [[text, "next"]]).split("\n")
    assert len(lines) == 3 and all(line.isprintable() for line in lines)
    assert lines[2].endswith("next") and printable(text).strip() in lines[2]


@strange
def test_json_is_in_ascii_without_control_characters(text: str) -> None:
    source = json_text([text])
    assert source.isascii() and source.replace("\n", "").isprintable()
    assert json.loads(source) == [text]
