import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
from markupsafe import escape

from harness.errors import HarnessError
from harness.paper.findings import Findings
from harness.paper.schema import Paper, paper
from harness.paper.verdicts import Judgement, Verdict
from harness.report import page as page_module
from harness.report.crops import CREDITS, Pictures
from harness.report.page import FIRST_CLAIMS, page, record_card, scatter
from harness.report.plot import plots, points
from harness.report.results import results
from harness.run.store import ResultStore
from tests.paper.test_literature import msrn
from tests.records import frame
from tests.report.test_plot import RUNS

REFERENCE = Path(__file__).parents[2] / "results/reference"
DRFN = paper("drfn2020")


def found(of: Paper = DRFN) -> Findings:
    return Findings(ResultStore(REFERENCE).read().table(), of, None)


def render(pictures: Path = REFERENCE, of: Paper = DRFN) -> str:
    (made,) = page(found(of), Pictures(pictures))
    return made.render("html")


@pytest.fixture
def html() -> str:
    return _html()


@cache
def _html() -> str:
    return render()


def test_without_runs_there_is_none() -> None:
    with pytest.raises(HarnessError, match="There are no finished runs to report"):
        page(Findings(frame(), DRFN), Pictures(REFERENCE))


class Links(HTMLParser):
    """Which ids a page has, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "xlink:href", "src", "srcset", "action", "poster"):
                self.targets.append(str(value))


def test_it_is_one_file_that_needs_nothing_else(html: str) -> None:
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in Links(html).targets)
    text = re.sub(r' xmlns(:\w+)?="[^"]+"', "", html)  # names of XML, not addresses
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|<link|https?://", text)
    assert len(html.encode()) < 3_000_000


def test_it_is_the_same_bytes_each_time(html: str) -> None:
    assert render() == html


def test_every_link_leads_somewhere_and_no_id_is_given_twice(html: str) -> None:
    links = Links(html)
    assert len(links.ids) == len(set(links.ids))
    assert {target[1:] for target in links.targets if target[0] == "#"} <= set(links.ids)


def section_of(text: str, name: str) -> str:
    (found,) = re.findall(f'<section id="{name}".*?</section>', text, re.DOTALL)
    return str(found)


def test_it_begins_with_the_row_of_the_paper_s_own_method(html: str) -> None:
    row = next(one for one in found().rows if one.row.method == "DRFN")
    own = section_of(html, "own")
    assert own.index("78 minutes") < own.index("printed") and "undecided" in own
    for cell in row.cells:
        if cell.metric == "psnr":
            assert f"<td>{cell.printed_text} <span" in own
    links = re.findall(r'href="#run-(\w{12})">(.*?)</a>', own)
    shown = [one for one in row.cells if one.shown and one.metric == "psnr"]
    assert links == [(one.shown.identity.id[:12], f"{one.value:.3f}†") for one in shown]
    assert len(links) == 4 and links[0][1] == "30.726†"


def test_its_claim_to_be_better_stands_beside_the_log_published_before_it(html: str) -> None:
    own = section_of(html, "own")
    assert 'href="#claim-superior"' in own and "superior to most current methods" in own
    assert "MSRN's authors' log" in unescape(own) and "2018-12" in own and "0.30 dB" in own


@pytest.mark.parametrize("name", ["imdn2019", "msrn2018", "rdn2018"])
def test_every_included_paper_has_a_page(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(page_module, "_other_tables", lambda *words: [])  # they take long
    of = paper(name)
    text = render(of=of)
    links = Links(text)
    assert len(links.ids) == len(set(links.ids))
    assert {target[1:] for target in links.targets if target[0] == "#"} <= set(links.ids)
    own = section_of(text, "own")
    assert f"<h2>{of.subject} in " in own
    # RDN's authors published SR images; the other two rows were not measured.
    assert ("difference" in own) == (name == "rdn2018")


def test_table_2_of_the_page_is_the_report(html: str) -> None:
    (table,) = results(found())
    section = html[html.index('<section id="paper-table2"') : html.index('<section id="others"')]
    text = unescape(re.sub("<.*?>", "", section))
    assert all(line in text for row in table.cells for cell in row for line in cell)


def test_every_measured_number_leads_to_its_record(html: str) -> None:
    links = re.findall(r'<td>.*?<a class="record-link" href="#run-(\w{12})">([\d.]+)/', html)
    cells = [cell for row in found().rows for cell in row.cells]
    shown = [cell for cell in cells if cell.shown and cell.metric == "psnr"]
    expected = {(one.shown.identity.id[:12], one.score.as_measured(one.value)) for one in shown}
    assert set(links) == expected and len(links) < len(shown) + 1


def test_every_run_is_there_with_its_command_and_the_scores_of_its_images(html: str) -> None:
    runs = ResultStore(REFERENCE).read().table()
    assert html.count('<div id="run-') == len(runs)
    assert "harness run --models vdsr:official --datasets set14" in html
    for record in runs["record"]:
        one = record.images[-1]
        assert f"{one.image} {one.scores['psnr']:.4f} {one.scores['ssim']:.4f}" in html


def test_further_tables_have_titles(html: str) -> None:
    titles = re.findall(r"<summary>(.*?) <span", section_of(html, "others"))
    assert titles == [
        "Differences and their intervals",
        "Table 1",
        "Parameters and operations",
        "The same numbers in other documents",
        "What the text leaves open",
        "Which rules give each number",
    ]


def test_a_log_unfolds_into_the_scores_of_its_images(html: str) -> None:
    (unfolded,) = re.findall(r"<summary>26\.217/0\.7911 log</summary>(.*?)</details>", html)
    assert "img001 27.941/0.7759" in unfolded and "img100 " in unfolded


def test_an_empty_line_keeps_the_lines_below_it_in_place(html: str) -> None:
    """Else a log would stand beside the word difference."""
    (cell,) = re.findall(r"<td>((?:(?!<td>).)*<summary>26\.217/0\.7911 log.*?)</td>", html)
    assert ">missing</div><div>&nbsp;</div><details><summary>26" in cell


def test_the_record_of_a_run_has_the_log_beside_it() -> None:
    card = record_card(msrn(), {})
    assert "bird       35.1773  35.1773  0.9465  0.9465" in card["log"]


def test_every_doubtful_cell_has_its_reason(html: str) -> None:
    unfolded = re.findall(r"<details><summary>.*?</summary>(.*?)</details>", html)
    assert all(any(escape(doubt.reason) in text for text in unfolded) for doubt in DRFN.doubts)


def test_verdicts_are_counted(html: str) -> None:
    counts = dict(re.findall(r'value="([\w ]+)" checked><b>(\d+)</b>', html))
    judged = Counter(one.verdict for one in found().claims)
    assert set(counts) == set(get_args(Verdict)) >= {"undecided"}
    assert {verdict: int(count) for verdict, count in counts.items() if count != "0"} == judged
    assert html.count('<details class="claim ') == judged.total()
    first, folded = section_of(html, "verdicts").split('<details class="rest">')
    assert first.count('<details class="claim ') == FIRST_CLAIMS
    assert f"{judged.total() - FIRST_CLAIMS} more" in folded


def test_records_are_grouped_by_method_in_the_order_of_the_paper(html: str) -> None:
    groups = re.findall(r'<summary>(.*?) <span class="soft">(\d+) runs?</span>', html)
    runs = ResultStore(REFERENCE).read().table()
    assert sum(int(count) for _, count in groups) == len(runs)
    methods = [name for name, _ in groups]
    printed = [name for name in DRFN.methods if name in methods]
    assert methods[: len(printed)] == printed and {"Bicubic", "DRFN"} <= set(printed)


def test_text_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = Judgement("x", "<script>alert(1)</script>", "<b>", "refuted", 'a < b & "c"')
    monkeypatch.setattr(Findings, "claims", (nasty,))
    text = render()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "a &lt; b &amp; &#34;c&#34;" in text
    assert "<script>alert" not in text


def test_without_images_it_says_how_to_get_them(tmp_path: Path) -> None:
    text = render(tmp_path)
    assert "data:image" not in text
    assert "harness report page --images DIR" in text


def test_its_images_are_photographs_that_may_be_handed_on(html: str) -> None:
    assert html.count('<img src="data:image/png;base64,') == 1
    assert {region.dataset for region in CREDITS} == {"demo"}


def test_with_kept_counts_it_has_the_same_bytes_and_needs_no_torch(
    html: str, kept_counts: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept_counts))
    code = (
        "import sys; from harness.cli import main\n"
        f"main(['report', 'page', '--results', {str(REFERENCE)!r}, '--out', '.'],"
        " standalone_mode=False)\nprint('torch' in sys.modules, file=sys.stderr)"
    )
    for _ in range(2):  # other tests may have kept their counts elsewhere
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert Path("page.html").read_text() == html
    assert done.stderr.split()[-1] == "False"


SMALL = '''
[paper]
id = "small"
title = "Fast & small"
subject = "Fast"

[methods]
VDSR = "vdsr"
Fast = ""

[[table]]
id = "records"
title = "Table 1"
columns = ["set5"]
cells = """
x2 | VDSR | 37.53/0.9587
x2 | Fast | 37.90/0.9600
x4 | VDSR | 31.35/0.8838
x4 | Fast | 32.00/0.8900
"""

[[table]]
id = "t3"
title = "Table 3"
scores = { psnr = 1 }
columns = ["b100"]
cells = "x4 | VDSR | 27.3"

[[plot]]
id = "f1"
title = "Fig. 1"
set = "set5"
scale = 4

[[plot]]
id = "f2"
title = "Fig. 2"
set = "b100"
scale = 4

[[doubt]]
cell = "x2 | VDSR | set5"
seen = "unusual"
reason = "Both numbers are odd."
'''


def small(text: str) -> Paper:
    Path("small.toml").write_text(text)
    return paper("small.toml")


def test_another_paper_has_its_own_tables_scales_and_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_other_tables", lambda *words: [])  # they take long
    text = render(of=small(SMALL))
    links = Links(text)
    assert len(links.ids) == len(set(links.ids))
    assert {target[1:] for target in links.targets if target[0] == "#"} <= set(links.ids)
    # A table may be called what a section of the page is called.
    assert {"paper-records", "records", "paper-t3", "paper-f1", "paper-f2"} <= set(links.ids)
    names = re.findall(r'<div class="scroll" .*?aria-label="(.*?)"', text)
    assert names == ["own row", "Plot", "Plot", "Table 1", "Table 3", "Photographs"]
    assert (
        text.count("PSNR: Both numbers are odd. ") == text.count("SSIM: Both numbers are odd") == 1
    )
    assert "“Fast &amp; small”" in text and "doi:" not in text
    assert "2 of 5 printed cells of Table 1 and Table 3 are measured." in text
    own = section_of(text, "own")
    assert "Fast in Table 1, x4" in own and "32.0" in own and "37.9" not in own
    assert "The paper says" not in own  # it has no claims


def test_a_paper_without_tables_plots_and_claims_has_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_module, "_other_tables", lambda *words: [])
    text = render(of=small(SMALL[: SMALL.index("[[table]]")]))
    assert re.findall(r'<section id="(\w+)"', text) == ["look", "records"]
    header = text[text.index("<body>") : text.index("<main>")]
    assert "printed cells" not in header


def test_without_a_paper_there_is_no_page() -> None:
    assert page(replace(found(), paper=None), Pictures(REFERENCE)) == []


SVG = "{http://www.w3.org/2000/svg}"


def figure_5() -> ElementTree.Element:
    findings = Findings(RUNS, DRFN, None)
    return ElementTree.fromstring(scatter(findings, DRFN.plots[0], *plots(findings)))


def test_a_point_says_what_it_is_and_a_measured_one_leads_to_its_record() -> None:
    root = figure_5()
    drawn = points(Findings(RUNS, DRFN, None), DRFN.plots[0])
    marks = {
        str(mark.findtext(f"{SVG}title")): mark
        for mark in root.iter()
        if str(mark.get("class")).startswith("point")
    }
    assert len(marks) == len(drawn)
    said = "DRFN: 5.2M parameters, 28.62 dB (printed)"
    assert marks[said].tag == f"{SVG}g" and marks[said].get("role") == "img"
    links = {mark.get("href") for mark in marks.values()} - {None}
    assert links == {f"#run-{point.run[:12]}" for point in drawn if point.run}
    psnr = {str(point.method): f", {point.psnr:.2f} dB (measured" for point in drawn if point.run}
    measured = {name.partition(":")[0]: name for name in marks if "(measured" in name}
    assert len(measured) == len(psnr) == 4
    assert all(text in measured[method] for method, text in psnr.items())


def test_figure_5_has_only_colours_of_the_page() -> None:
    styles = " ".join(str(part.get("style")) for part in figure_5().iter())
    assert "var(--ink)" in styles and "#" not in styles.replace("url(#", "")


def test_a_card_holds_the_record_and_a_line_for_each_image() -> None:
    records = list(ResultStore(REFERENCE).records())
    cards = [record_card(record, {"vdsr": "VDSR"}) for record in records]
    assert [card["id"] for card in cards] == [record.identity.id for record in records]
    title = "VDSR on Set5, BI-x4/y, official weights"
    card = next(card for card in cards if card["title"] == title)
    shown = json.loads(card["text"])
    assert shown["id"] == card["id"] and shown["identity"]["model"] == "vdsr"
    assert "images" not in shown and card["images"].startswith("img_001 33.4094 0.8882\n")
    assert (REFERENCE / card["file"]).exists()
