from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.paper.schema import paper
from harness.registry import PAPERS, REPORTS
from harness.report.build import selected


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_each_report_is_written_in_all_its_formats_and_the_same_each_time(
    harness, photos: Path
) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("report", "--results", "results/local", "--out")
    shown = harness(*words, "one")
    assert shown.exit_code == 0, shown.output
    made = {name.split(".")[0] for name in names("one")}
    # No number that the paper prints was measured under any rules, and no SR image was saved.
    unnamed = {"results", "ablation", "plot", "rules", "crops"}
    assert made == set(REPORTS) - unnamed | {"table2", "table1", "figure5"}
    assert {name for name in names("one") if name.startswith(("figure5", "table2"))} == {
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
        "def mine(findings):\n"
        "    runs = [[str(len(findings.runs))]]\n"
        "    return Table('mine', 'All runs.', ['n'], runs, pd.DataFrame())\n"
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
def mine(findings):
    runs = findings.runs
    {body}

@register_report('fine')
def fine(findings):
    runs = findings.runs
    return table('fine')
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return runs['lpips']", "KeyError: 'lpips'."),
        ("sys.exit('no')", "SystemExit: no."),
        ("raise HarnessError('It needs lpips.')", "It needs lpips."),
        ("return None", "it returned NoneType, which lacks name, formats or render."),
        ("return Drawn()", "ZeroDivisionError: division by zero."),
        (
            "return Drawn(formats=('md',), render=lambda form: None)",
            "TypeError: cannot convert 'NoneType' object to bytes.",
        ),
    ],
)
def test_a_report_that_fails_is_named_and_the_others_are_written(
    harness, photos: Path, body: str, said: str
) -> None:
    Path("mine.py").write_text(FAILING.replace("{body}", body))
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--plugin", "mine.py", "--results", "results/local", "--out")
    shown = harness("report", "[fmt]*[ne2]", *words, "out")
    assert shown.exit_code == 1
    (error,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert said in error
    failed = f"mine of {Path('mine.py').absolute()} failed: "
    assert error.startswith(f"Error: The report {failed}")
    assert {name.split(".")[0] for name in names("out")} == {"fine", "table2"}
    assert "PSNR" in Path("out/table2.md").read_text()
    alone = harness("report", "mine", *words, "alone")
    assert alone.exit_code == 1 and alone.stdout == "" and said in alone.stderr
    assert list(Path().glob("alone/*")) == []


def test_two_reports_cannot_have_one_name(harness, photos: Path) -> None:
    Path("mine.py").write_text(FAILING.replace("{body}", "return table('table2')"))
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--plugin", "mine.py", "--results", "results/local", "--out", "out")
    shown = harness("report", "[mt]*[e2]", *words)
    assert shown.exit_code == 1
    assert "mine.py failed: another report is called table2." in shown.stderr
    assert "PSNR" in Path("out/table2.md").read_text()


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
    assert "nothing to report as table2 for this --paper and --format." in none.output


def test_a_report_may_be_several_files(harness, photos: Path) -> None:
    Path("mine.py").write_text(FAILING.replace("{body}", "return [table('a'), table('b')]"))
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--plugin", "mine.py", "--results", "results/local", "--format", "md", "--out", "out")
    assert harness("report", "mine", *words).exit_code == 0
    assert names("out") == ["a.md", "b.md"]


def test_a_word_selects_reports_by_their_names_and_by_the_paper_s() -> None:
    drfn = paper("drfn2020")
    assert selected("all", drfn) == selected("*", drfn) == list(REPORTS)
    assert selected("results", drfn) == selected("table2", drfn) == ["results"]
    assert (selected("table1", drfn), selected("figure5", drfn)) == (["ablation"], ["plot"])
    assert set(selected("table*", drfn)) == {"results", "ablation"}
    assert set(selected("*s", drfn)) == {
        *("results", "rules", "claims", "differences", "crops", "readings")
    }
    assert selected("results", None) == ["results"]
    with pytest.raises(UsageError, match=r"did you mean table2 or table1\? There are ablation, cl"):
        selected("table3", drfn)
    with pytest.raises(UsageError, match="'table2': there are ablation, claims"):
        selected("table2", None)


def test_the_paper_s_own_name_writes_that_part_alone(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    text = drfn_text().replace('id = "table2"', 'id = "main"') + SECOND
    Path("two.toml").write_text(text)
    words = ("--paper", "two.toml", "--results", "results/local", "--format", "md", "--out")
    for name, written in (
        ("main", ["main.md"]),
        ("second", ["second.md"]),
        ("results", ["main.md", "second.md"]),
        ("[ms]*", ["main.md", "second.md"]),
        ("table1", ["table1.md"]),
    ):
        out = f"reports of {name}"
        shown = harness("report", name, *words, out)
        assert shown.exit_code == 0, shown.output
        assert names(out) == written


def drfn_text() -> str:
    return PAPERS.get("drfn2020").read_text(encoding="utf-8")


SECOND = """
[[table]]
id = "second"
title = "A second table"
columns = ["set5"]
cells = "x2 | VDSR | 37.53/0.9587"
"""
PLAIN = """
[paper]
id = "plain"
title = "Plain"
subject = "VDSR"

[methods]
VDSR = "vdsr"

[[table]]
id = "main"
title = "The table"
columns = ["set5"]
cells = "x4 | VDSR | 31.35/0.8838"
"""


def test_what_a_paper_lacks_is_left_out_of_all_and_refused_by_name(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    Path("plain.toml").write_text(PLAIN)
    words = ("--paper", "plain.toml", "--results", "results/local")
    shown = harness("report", "all", *words)
    assert shown.exit_code == 0, shown.output
    made = {name.split(".")[0] for name in names("results/local/reports/plain")}
    assert {"main", "claims"} <= made and not made & {"table2", "table1", "figure5"}
    shown = harness("report", "ablation", *words)
    assert shown.exit_code == 2
    assert "There is nothing to report as ablation for this --paper" in shown.stderr


def test_an_id_in_a_paper_cannot_be_the_name_of_another_report(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    words = ("--paper", "plain.toml", "--results", "results/local")
    Path("plain.toml").write_text(PLAIN.replace('"main"', '"claims"'))
    shown = harness("report", "all", *words)
    assert shown.exit_code == 2 and "[[table]] claims: a report has this name" in shown.stderr
    Path("plain.toml").write_text(PLAIN.replace('"main"', '"results"'))
    assert harness("report", "results", *words).exit_code == 0, "it is its own report"


@pytest.mark.parametrize("name", ["imdn2019", "runs"])
def test_reports_are_not_written_over_those_of_another_paper(name, harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    Path("plain.toml").write_text(PLAIN.replace('"plain"', f'"{name}"'))
    words = ("report", "results", "--paper", "plain.toml", "--results", "results/local")
    shown = harness(*words)
    assert shown.exit_code == 2 and not Path("results/local/reports").exists()
    assert f"The folder reports/{name} is not this paper's: name one with --out." in shown.stderr
    assert harness(*words, "--out", "mine").exit_code == 0


def test_reports_of_two_papers_and_of_none_lie_apart(harness, photos: Path) -> None:
    harness("run", "--models", "bicubic", "--datasets", photos)
    Path("plain.toml").write_text(PLAIN)
    Path("mine.toml").write_text(drfn_text())
    words = ("report", "results", "--results", "results/local", "--format", "md", "--paper")
    for name in ("drfn2020", "plain.toml", "mine.toml", "none"):
        shown = harness(*words, name)
        assert shown.exit_code == 0, shown.output
    reports = Path("results/local/reports")
    found = sorted(str(path.relative_to(reports)) for path in reports.rglob("*.md"))
    assert found == ["drfn2020/table2.md", "plain/main.md", "runs/results.md", "table2.md"]
    assert harness("report", "claims", *words[2:], "none").exit_code == 2


def test_the_best_numbers_are_marked_unless_asked_otherwise(harness) -> None:
    words = ("report", "results", "--paper", "none", "--format", "md", "--out")
    assert harness(*words, "marked").exit_code == 0
    assert harness(*words, "plain", "--no-marks").exit_code == 0
    marked, plain = (Path(name, "results.md").read_text() for name in ("marked", "plain"))
    assert "**" in marked and "**" not in plain
    assert marked.count("Bold: the best") == 1 and "Bold" not in plain
