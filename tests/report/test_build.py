from pathlib import Path

import pytest

from harness.registry import REPORTS


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_each_report_is_written_in_all_its_formats_and_the_same_each_time(
    harness, photos: Path
) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("report", "--results", "results/local", "--out")
    shown = harness(*words, "one")
    assert shown.exit_code == 0, shown.output
    assert {name.split(".")[0] for name in names("one")} == set(REPORTS)
    assert {name for name in names("one") if name.startswith(("crops", "figure5", "table2"))} == {
        "crops.png",
        "figure5.pdf",
        "figure5.png",
        "figure5.svg",
        "table2.csv",
        "table2.html",
        "table2.md",
        "table2.tex",
    }
    harness(*words, "two")
    for path in Path("one").iterdir():
        assert path.read_bytes() == (Path("two") / path.name).read_bytes(), path


def test_the_formats_and_the_grey_rule_are_chosen(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("report", "[ft]*[25]", "--results", "results/local", "--grey", "as-rgb", "--out")
    assert harness(*words, "md", "--format", "md").exit_code == 0
    assert names("md") == ["table2-as-rgb.md"]
    assert harness(*words, "both", "--format", "md,svg").exit_code == 0
    assert names("both") == ["figure5-as-rgb.svg", "table2-as-rgb.md"]


def test_only_tables_are_printed(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--results", "results/local", "--out", "one")
    assert harness("report", "table2", *words).stdout.count("| Bicubic") == 1
    assert harness("report", "figure5", *words).stdout == ""


def test_a_report_of_a_plug_in_needs_no_more_than_a_table(harness, photos: Path) -> None:
    Path("mine.py").write_text(
        "import pandas as pd\n"
        "from harness.registry import register_report\n"
        "from harness.report.table import Table\n"
        "@register_report('mine')\n"
        "def mine(runs, paper, grey):\n"
        "    return Table('mine', 'All runs.', ['n'], [[str(len(runs))]], pd.DataFrame())\n"
    )
    harness("run", "--models", "bicubic", "--datasets", photos)
    shown = harness("report", "mine", "--plugin", "mine.py", "--results", "results/local")
    assert shown.exit_code == 0, shown.output
    assert names("results/local/reports") == ["mine.csv", "mine.html", "mine.md", "mine.tex"]


FAILING = """
import sys
import pandas as pd
from harness.errors import HarnessError
from harness.registry import register_report
from harness.report.table import Table

def table(name):
    return Table(name, 'Mine.', ['n'], [['1']], pd.DataFrame())

class Drawn:
    def __init__(self, **given):
        self.__dict__ = {'name': 'drawn', 'formats': ('md', 'tex'), **given}

    def render(self, form):
        return 'text' if form == 'md' else 1 / 0

@register_report('mine')
def mine(runs, paper, grey):
    {body}

@register_report('fine')
def fine(runs, paper, grey):
    return table('fine')
"""


def test_a_report_that_changes_what_it_is_given_changes_no_other(harness, photos: Path) -> None:
    body = "del runs['psnr']; paper.clear(); return table('mine')"
    whole = "assert 'psnr' in runs and 'table2' in paper; return table('fine')"
    changed = FAILING.replace("{body}", body).replace("return table('fine')", whole)
    Path("mine.py").write_text(changed)
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--plugin", "mine.py", "--results", "results/local", "--format", "md", "--out", "out")
    shown = harness("report", "*ine", *words)
    assert shown.exit_code == 0, shown.output
    assert names("out") == ["fine.md", "mine.md"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return runs['lpips']", "KeyError: 'lpips'."),
        ("sys.exit('no')", "SystemExit: no."),
        ("raise HarnessError('It needs lpips.')", "It needs lpips."),
        ("return None", "it returned NoneType, which lacks name, formats or render."),
        ("return table('../x')", "its files cannot be called '../x'."),
        ("return table('table2')", "the report table2 already uses the file name table2."),
        ("return Drawn()", "ZeroDivisionError: division by zero."),
        ("return Drawn(formats=('docx',))", "'docx' is not a format: there are md, tex, "),
        (
            "return Drawn(formats=('md',), render=lambda form: None)",
            "TypeError: render('md') returned NoneType, not str or bytes.",
        ),
        ("return table('x' * 300)", "File name too long"),
    ],
)
def test_a_report_that_fails_is_named_and_the_others_are_written(
    harness, photos: Path, body: str, said: str
) -> None:
    Path("mine.py").write_text(FAILING.replace("{body}", body))
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--plugin", "mine.py", "--results", "results/local", "--out")
    shown = harness("report", "[fmt]*[e2]", *words, "out")
    assert shown.exit_code == 1
    (error,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert said in error
    failed = f"mine of {Path('mine.py').absolute()} failed: "
    named = "out/xxx" if "too long" in said else failed
    assert error.startswith(f"Error: The report {named}")
    assert {name.split(".")[0] for name in names("out")} == {"fine", "table2"}
    assert "PSNR" in Path("out/table2.md").read_text() and not Path("x.md").exists()
    alone = harness("report", "mine", *words, "alone")
    assert alone.exit_code == 1 and alone.stdout == "" and said in alone.stderr
    assert list(Path().glob("alone/*")) == []


def test_the_page_says_which_table_of_a_plug_in_failed(harness, photos: Path) -> None:
    Path("mine.py").write_text(FAILING.replace("{body}", "return runs['lpips']"))
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--plugin", "mine.py", "--results", "results/local", "--out", "out")
    assert harness("report", "page", *words).exit_code == 0
    page = Path("out/page.html").read_text(encoding="utf-8")
    assert "mine.py failed: KeyError: &#39;lpips&#39;." in page
    assert 'aria-label="fine"' in page


def test_without_runs_nothing_is_written(harness) -> None:
    Path("empty").mkdir()
    shown = harness("report", "all", "--results", "empty", "--out", "out")
    assert shown.exit_code == 1 and "no finished runs" in shown.output
    Path("mine.py").write_text(FAILING.replace("{body}", "return runs['lpips']"))
    shown = harness("report", "--plugin", "mine.py", "--results", "empty", "--out", "out")
    assert shown.exit_code == 1 and "no finished runs" in shown.output
    assert not Path("out").exists()


def test_the_help_names_every_report(harness) -> None:
    words = harness("report", "--help").output.replace(",", " ").split()
    assert set(REPORTS) <= set(words)


def test_what_cannot_be_reported_is_said(harness, photos: Path) -> None:
    Path("empty").mkdir()
    empty = harness("report", "table2", "--results", "empty")
    assert empty.exit_code == 1 and "records read from empty: 0" in empty.output
    assert "no finished runs" in empty.output
    assert harness("report", "table3").exit_code == 2
    shown = harness("report", "--format", "docx")
    said = "Error: No format is called 'docx': there are md, tex, csv, html, png, svg, pdf.\n"
    assert shown.exit_code == 2 and shown.output.endswith(said)
    harness("run", "--models", "bicubic", "--datasets", photos)
    Path("taken").touch()
    taken = harness("report", "--results", "results/local", "--out", "taken")
    assert taken.exit_code == 1 and "cannot be written" in taken.output
    none = harness("report", "table2", "--results", "results/local", "--format", "png")
    assert none.exit_code == 2
    assert "table2 has other formats: csv, html, md, tex." in none.output
