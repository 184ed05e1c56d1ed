"""What the command line makes of records that strangers wrote, whatever their words are."""

import csv
import json
import re
from dataclasses import replace
from functools import partial
from html import escape
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace as changed
from rich.console import Console

import harness
from harness.cli.progress import RunProgress, bars, echo, notify
from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.record import RunRecord
from harness.report import page as page_module
from harness.report.crops import Pictures
from harness.report.plot import plots
from harness.run.plan import plan
from harness.run.request import Request
from harness.run.store import ResultStore
from tests.records import frame, record

CASES = Path(__file__).parents[1] / "cases/records"
HTML = "<img src=x onerror=alert(1)>"
NAMES = ["=cmd|' calc'!A0", "^^5cinput{x}", "a|b", "$x$ $^$", HTML, "模型"]
WORDS = "\x1b]0;title\x07 \x9b2J \u202egnp\n</script><b> \udcff"
DRFN = paper("drfn2020")
SHOWN = r"\x1b]0;title\x07 \x9b2J \u202egnp </script><b> \udcff"


def named(model: str, dataset: str = "set14") -> RunRecord:
    """A sound record with words of strangers wherever one may stand."""
    run = record(model, dataset, tag=WORDS)
    weights = replace(run.weights, licence=WORDS, file=WORDS)
    images = tuple(replace(image, note=WORDS) for image in run.images)
    origin = {model: {"file": WORDS, "sha256": "0"}}
    return replace(run, weights=weights, images=images, plugins=origin, parameters=10**6)


def broken(model: str, dataset: str = "set14") -> RunRecord:
    """A run that broke with an error that a stranger worded."""
    return replace(record(model, dataset), status="error", images=(), error=WORDS)


@pytest.fixture
def strangers() -> Path:
    """A folder of such records."""
    store = ResultStore(Path("strangers"))
    for run in [*map(named, NAMES), broken("fsrcnn"), broken("vdsr", "set5")]:
        store.write(run)
    return store.root


def is_plain(text: str) -> bool:
    """Whether a terminal shows all of a text."""
    return all(line.isprintable() for line in text.split("\n"))


def test_runs_are_listed_a_line_each(harness, strangers: Path) -> None:
    shown = harness("list", "runs", "--results", strangers)
    assert shown.exit_code == 0 and is_plain(shown.output)
    assert shown.stdout.count("\n") == 2 + len(NAMES) + 2
    assert all(name in shown.output for name in NAMES) and SHOWN in shown.output
    rows = json.loads(harness("list", "runs", "--results", strangers, "--json").stdout)
    assert {(row["status"], row["error"]) for row in rows} == {("finished", None), ("error", WORDS)}


def test_reports_of_strangers_are_what_they_should_be(harness, strangers: Path) -> None:
    words = ("report", "[tf]*[25]", "--results", strangers, "--out", "out")
    shown = harness(*words)
    assert shown.exit_code == 0 and is_plain(shown.output), shown.output
    with Path("out/table2.csv").open(newline="", encoding="utf-8") as stream:
        models = {row["model"] for row in csv.DictReader(stream)}
    assert {"'" + NAMES[0], *NAMES[1:]} <= models
    ElementTree.parse("out/figure5.svg")
    source = Path("out/table2.tex").read_text(encoding="utf-8")
    assert source.isascii() and "^^" not in source and r"\input" not in source
    rows = [line.split(" & ") for line in source.splitlines() if "tabularnewline" in line]
    assert {len(row) for row in rows} == {9}
    assert "<img" not in Path("out/table2.html").read_text(encoding="utf-8")


def test_the_page_shows_what_strangers_wrote_and_runs_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_module, "_other_tables", lambda *words: [])  # they take long
    findings = Findings(frame(*map(named, NAMES), broken("vdsr")), changed(DRFN, claims=()))
    (page,) = page_module.page(findings, Pictures(Path("none")))
    text = page.render("html")
    assert is_plain(text) and text.encode()
    assert "<img src" not in text and text.count("</script>") == 1
    assert escape(HTML) in text and f"failed: {escape(SHOWN)}" in text.replace("\n", " ")


def test_a_dollar_sign_in_a_figure_is_a_dollar_sign() -> None:
    """As a formula it would not even parse, in any format."""
    (drawn,) = plots(Findings(frame(*map(named, NAMES)), DRFN))
    assert b">$x$ $^$<" in drawn.render("svg")
    assert drawn.render("png").startswith(b"\x89PNG") and drawn.render("pdf").startswith(b"%PDF")


def test_junit_has_no_character_that_xml_lacks(harness, strangers: Path) -> None:
    reference = ResultStore(Path("reference"))
    for run in (record("vdsr", "set5"), record("fsrcnn"), record(HTML, weights="other")):
        reference.write(run)
    words = ("check", "--results", strangers, "--reference", reference.root, "--junit", "j.xml")
    shown = harness(*words)
    assert shown.exit_code == 3 and is_plain(shown.output)
    suite = ElementTree.parse("j.xml").getroot()
    assert suite.get("failures") == "6"
    messages = [str(one.get("message")) for one in suite.iterfind("testcase/failure")]
    assert any(f"the run failed: {SHOWN}" in message for message in messages)
    assert "the run failed: " + SHOWN.replace("</", r"\</").replace("<b", r"\<b") in shown.output
    assert any(HTML in str(case.get("name")) for case in suite)


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_a_folder_of_a_stranger_does_no_harm(case: str, harness) -> None:
    results = ("--results", CASES / case)
    listed = harness("list", "runs", *results)
    made = harness("report", "table2", *results, "--out", "out")
    checked = harness("check", *results, "--reference", CASES / case, "--junit", "j.xml")
    for shown in (listed, made, checked):
        assert "(unexpected" not in shown.output and is_plain(shown.output)
    assert (listed.exit_code, made.exit_code) == (0, 0)
    ElementTree.parse("j.xml")
    assert not re.search(r"\^\^|\\input", Path("out/table2.tex").read_text())
    assert not re.search(r"^[=@]", Path("out/table2.csv").read_text(), re.MULTILINE)


def test_whatever_is_said_is_one_line(photos: Path, capsys) -> None:
    (run,) = plan(Request(["bicubic"], [str(photos)])).runs
    image = replace(named("bicubic").images[0], note=WORDS)
    with bars() as shown:
        progress = RunProgress(shown)
        progress.started(run, 3, 0)
        capsys.readouterr()
        for say in (
            partial(echo, WORDS, err=True),
            partial(notify, WORDS),
            partial(progress.image, run, image),
            partial(progress.ended, run, broken("bicubic")),
        ):
            say()
            said = capsys.readouterr().err
            assert said.endswith("\n") and said[:-1].isprintable() and SHOWN in said


def test_a_bar_shows_brackets_and_colons_as_they_are(photos: Path) -> None:
    folder = photos.rename("[red]x[blue] :smile:")
    (run,) = plan(Request(["bicubic"], [f"./{folder}"])).runs
    with bars() as shown:
        RunProgress(shown).started(run, 3, 0)
        seen = StringIO()
        Console(file=seen, width=200).print(shown.get_renderable())
    assert "[red]x[blue] :smile:" in seen.getvalue()


def test_text_is_printed_and_escaped_in_one_place_a_form() -> None:
    root = Path(str(harness.__file__)).parent
    places = {
        r"click\.echo\(|\bprint\(": {"cli/progress.py"},
        r"\btabulate\(": {"text.py"},
        r"\bhtml import|\bto_csv\(": {"text.py"},
    }
    for call, wanted in places.items():
        found = {
            str(path.relative_to(root))
            for path in root.rglob("*.py")
            if re.search(call, path.read_text(encoding="utf-8"))
        }
        assert found == wanted
