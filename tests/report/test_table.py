import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from harness.errors import HarnessError
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.registry import REPORTS
from harness.report.build import make
from harness.report.crops import Pictures
from harness.report.legend import MARKS
from harness.report.table import BEST, Lines, Note, Table
from harness.run.store import ResultStore
from harness.text import Marked, json_text, plain_table, readable

ROOT = Path(__file__).parents[2]
TABLE = Table(
    "t", "100 % of a_b & c < d", ["Method", "Set5"], [["x_1", "<30>"]], pd.DataFrame({"n": [1.5]})
)


def test_markdown() -> None:
    text = TABLE.render("md")
    assert text.startswith("100 % of a_b & c < d\n\n| Method")
    assert "| x_1      | <30>   |" in text


@pytest.mark.parametrize("row", [["x_1"], ["x_1", 30.5, "0.87"]])
def test_a_row_that_does_not_fit_the_headers_is_named(row: list[str]) -> None:
    with pytest.raises(HarnessError, match="table t has 2 headers, but a row with . cells: .*x_1"):
        Table("t", "", ["Method", "Set5"], [["x_0", "30"], row], pd.DataFrame())


def test_latex_is_escaped() -> None:
    text = TABLE.render("tex")
    assert r"\caption{100 \% of a\_b \& c < d}" in text
    assert r"x\_1" in text and r"\toprule" in text


def test_latex_says_what_it_needs_and_has_the_marks_of_the_legend() -> None:
    text = Table("t", " ".join(MARKS.values()), ["n†"], [["x"]], pd.DataFrame()).render("tex")
    needs = "% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs,"
    assert text.startswith(f"{needs}graphicx}}.\n") and "resizebox" in text
    long = Table("t", "", ["n"], [["x"]] * 90, pd.DataFrame()).render("tex")
    assert long.startswith(f"{needs}longtable}}.\n") and "resizebox" not in long
    assert r"\caption{$\surd$ $\approx$ $\times$ $\neq$ ? $\circ$}" in text and r"n\dag{}" in text
    assert text.isascii()


def test_long_text_wraps_and_a_wide_table_shrinks_in_latex() -> None:
    long = Table("t", "c", ["a", "b"], [["x", "word " * 60]], pd.DataFrame()).render("tex")
    assert r"\begin{tabular}{lp{0." in long
    wide = Table("t", "c", ["a"] * 9, [["0123456789abcdef"] * 9], pd.DataFrame()).render("tex")
    assert r"\begin{tabular}{lllllllll}" in wide
    fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    assert fit in long and fit in wide


def test_a_path_in_a_note_breaks_in_two_columns(tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("no LaTeX engine is installed")
    runs = ResultStore(ROOT / "results/reference").read().table()
    (table,) = make("results", Findings(runs, paper("drfn2020")), Pictures(tmp_path))
    assert isinstance(table, Table) and len(table.notes) == 2
    (tmp_path / "two.tex").write_text(
        "\\documentclass[twocolumn]{article}\\usepackage[T1]{fontenc}"
        "\\usepackage{booktabs,graphicx}\\begin{document}" + table.render("tex") + "\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "two.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in (tmp_path / "two.log").read_text(errors="replace")


def test_prose_has_the_quotation_marks_of_print_and_cells_have_their_own_text() -> None:
    caption = 'Of "A Network", 5" wide.'
    text = Table("t", caption, ['"a"'], [['"b"']], pd.DataFrame()).render("tex")
    assert "\\caption{Of ``A Network'', 5\" wide.}" in text
    assert '\n"a" \\tab' in text and '\n"b" \\tab' in text


def test_a_long_table_goes_over_several_pages_in_latex() -> None:
    rows = [[str(number)] for number in range(110)]
    text = Table("t", "c", ["n"], rows, pd.DataFrame()).render("tex")
    assert text.count(r"\begin{longtable}") == 1 and r"\endhead" in text
    assert sum(f"\n{number} " in text for number in range(110)) == 110


def test_each_line_of_a_cell_is_a_row_of_markdown_and_latex_and_one_cell_of_html() -> None:
    lines = Lines([Marked([("31.35", ""), ("✓", "reproduced")], more="Fine."), "missing"])
    table = Table("t", "c", ["m", "n"], [["VDSR", lines]], pd.DataFrame({"n": [31.35]}))
    assert "| VDSR | 31.35✓  |\n|      | missing |" in table.render("md")
    assert "VDSR & 31.35$\\surd$ \\tabularnewline\n & missing \\tab" in table.render("tex")
    mark = '<span class="reproduced" title="reproduced">✓</span>'
    assert (
        f'<tr><th scope="row">VDSR</th><td><details><summary>31.35{mark}</summary>Fine.</details>'
        '<div class="missing">missing</div></td></tr>'
    ) in table.render("html")


def test_cells_may_be_numbers() -> None:
    table = Table("t", "c", ["n", "x", "y"], [[3, 0.5, None]], pd.DataFrame())
    assert "| 3   | 0.5000 |" in table.render("md") and "<td>0.5000</td>" in table.render("html")


@pytest.mark.parametrize("best", BEST)
def test_the_best_numbers_stand_out_in_every_form_that_can_show_it(best: str) -> None:
    cell = Marked([("30.5", "best"), ("/", ""), ("0.91", "second"), ("†", "")])
    table = Table("t", f"c. {best} d.", ["m", "n"], [["a", cell]], pd.DataFrame({"n": [30.5]}))
    assert cell == "30.5/0.91†" and readable(cell) is cell
    assert "| a   | **30.5**/<ins>0.91</ins>† |" in table.render("md")
    assert r"a & \textbf{30.5}/\underline{0.91}\dag{} \tabularnewline" in table.render("tex")
    assert "<td><b>30.5</b>/<u>0.91</u>†</td>" in table.render("html")
    assert table.render("csv") == "n\n30.5\n"
    plain = table.without_marks()
    assert plain.caption == "c. d." and "| a   | 30.5/0.91† |" in plain.render("md")


def test_notes_follow_the_table_in_every_form_but_csv() -> None:
    notes = [Note("a_b: fine", "so <it> says", ["It is 100 %.", "- Runs: x"]), Note("c", "d", [])]
    table = Table("t", "cap", ["m"], [["x"]], pd.DataFrame({"n": [1.5]}), notes)
    text = "\n\n### a_b: fine\n\n> so \\<it> says\n\nIt is 100 %.\n\n\\- Runs: x\n\n### c\n\n> d\n"
    assert table.render("md").endswith(text)
    tex = table.render("tex")
    assert r"\item[{a\_b: fine}] \emph{so <it> says} It is 100 \%. - Runs" in tex
    assert tex.endswith("\\item[{c}] \\emph{d} \n\\end{description}\n")
    html = table.render("html")
    assert (
        "<blockquote>so &lt;it&gt; says</blockquote>\n<p>It is 100 %.</p>\n<p>- Runs: x</p>" in html
    )
    assert table.render("csv") == "n\n1.5\n"


def test_csv() -> None:
    assert TABLE.render("csv") == "n\n1.5\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (28.4, "28.4000"),
        (0.0, "0.0000"),
        (-0.00123456, "-0.0012"),
        (0.00012345678, "0.000123457"),
        (1.23456e-06, "1.23456e-06"),
        (12345678.9, "1.23457e+07"),
        (float("inf"), "inf"),
        (57281, "57,281"),
        (None, ""),
        (True, "yes"),
        ([2, 3], "2, 3"),
    ],
)
def test_a_person_reads_the_digits_that_tell(value: object, text: str) -> None:
    assert readable(value) == text


def test_numbers_stand_at_the_right_of_a_plain_table() -> None:
    lines = plain_table(["a", "b"], [["x", 1000], ["y", None], ["z", 7]]).splitlines()
    assert lines[2:] == ["x    1,000", "y", "z        7"]


def test_json_has_all_digits_and_infinity_as_a_word() -> None:
    value = {"n": 1.23456e-06, "inf": (float("inf"), [-float("inf")]), "none": None, "yes": True}
    text = json_text(value)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "n": 1.23456e-06,
        "inf": ["inf", ["-inf"]],
        "none": None,
        "yes": True,
    }


def test_html_is_escaped() -> None:
    text = TABLE.render("html")
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert "a_b &amp; c &lt; d" in text and "&lt;30&gt;" in text
    assert text.count("<tr>") == 2


def test_html_tells_a_screen_reader_what_each_number_belongs_to() -> None:
    rows = [["SRCNN", "y", "printed", "30.48"], ["VDSR", "y", "", "31"]]
    table = Table("t", "c", ["Method", "Pipeline", "", "Set5"], rows, pd.DataFrame())
    text = table.render("html")
    assert "<caption><div>c</div></caption>" in text and '<html lang="en">' in text
    assert '<th scope="col">Method</th><th scope="col">Pipeline</th><td></td>' in text
    assert (
        '<tr><th scope="row">SRCNN</th><td>y</td><td>printed</td><td>30.48</td></tr>\n'
        '<tr><th scope="row">VDSR</th><td>y</td><td></td><td>31</td></tr>\n'
    ) in text


def test_a_table_without_rows_is_written_in_every_form() -> None:
    table = Table("t", "c", ["n"], [], pd.DataFrame())
    assert table.cells == []
    assert all("c" in table.render(form) for form in ("md", "tex", "html"))


def test_every_row_of_every_report_has_a_header() -> None:
    paths = sorted((ROOT / "reports").glob("*.html"))
    rows = {path: re.findall(r"<tr>(.*)</tr>", path.read_text(encoding="utf-8")) for path in paths}
    assert rows and all(rows.values())
    for path in paths:
        assert [row for row in rows[path] if '<th scope="' not in row] == [], path


def test_every_table_compiles_as_it_is(tmp_path: Path) -> None:
    engine = next((e for e in ("pdflatex", "lualatex", "tectonic") if shutil.which(e)), None)
    if engine is None:
        pytest.skip("no LaTeX engine is installed")
    runs = ResultStore(ROOT / "results/reference").read().table()
    reports = [
        report
        for findings in (Findings(runs, paper("drfn2020")), Findings(runs, None))
        for name in REPORTS
        for report in make(name, findings, Pictures(tmp_path))
    ]
    tables = [TABLE, *(report for report in reports if isinstance(report, Table))]
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx,longtable}\\begin{document}"
        + "".join(table.render("tex") for table in tables)
        + "\\end{document}"
    )
    command = [
        engine,
        *(["-interaction=nonstopmode", "-halt-on-error"] if "latex" in engine else []),
    ]
    done = subprocess.run([*command, "all.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    for fault in ("Missing character", "Overfull \\hbox", "Float too large"):
        assert fault not in log, log[log.index(fault) :][:300]
