import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from harness.paper.claims import Judgement
from harness.paper.schema import paper
from harness.paper.select import choose_runs
from harness.report import page as page_module
from harness.report.crops import Pictures
from harness.report.page import _draw, anchor, command, distributions, page, record_card, scatter
from harness.report.plot import points
from harness.report.results import results
from harness.run.store import ResultStore
from tests.records import frame, record
from tests.report.test_plot import RUNS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference"


def render(pictures: Path = REFERENCE) -> str:
    runs = ResultStore(REFERENCE).read().table()
    return page(runs, paper(), None, Pictures(pictures)).render("html")


@pytest.fixture
def html() -> str:
    return _html()


@cache
def _html() -> str:
    return render()


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


def test_every_printed_number_of_table_2_is_on_it(html: str) -> None:
    for row in paper()["table2"]["rows"]:
        for name, pair in row.items():
            if name not in ("method", "model"):
                assert f"printed {pair[0]:.2f}" in html and f"printed {pair[1]:.4f}" in html


def test_every_missing_cell_is_visibly_missing(html: str) -> None:
    tidy = results(ResultStore(REFERENCE).read().table(), paper()).tidy
    missing = tidy["printed"].notna() & tidy["measured"].isna()
    assert html.count('<span class="nothing">missing</span>') == missing.sum()


def test_every_measured_number_leads_to_its_record(html: str) -> None:
    cells = re.findall(r'data-measured="([\d.]+)"[^>]*>\s*<a href="#run-(\w{12})"', html)
    tidy = results(ResultStore(REFERENCE).read().table(), paper()).tidy.dropna(subset="measured")
    expected = {(str(row.measured), row.run[:12]) for row in tidy.itertuples()}
    assert set(cells) == expected
    assert f'id="run-{cells[0][1]}"' in html


def test_every_run_is_there_with_its_command(html: str) -> None:
    runs = ResultStore(REFERENCE).read().table()
    assert html.count('<div class="record-body"') == len(runs)
    assert "harness run --models vdsr:official --datasets set14" in html


def test_every_doubtful_cell_has_its_reason(html: str) -> None:
    for cell in paper()["suspicious"]:
        if cell["table"] == "table2":
            anchor = f"doubt-{cell['row']}-{cell['column']}-{cell['metric']}"
            assert f'href="#{anchor}"' in html and f'id="{anchor}"' in html


def test_verdicts_are_counted(html: str) -> None:
    judged = page_module.judge(ResultStore(REFERENCE).read().table(), paper())
    counts = [int(n) for n in re.findall(r'<li class="count[^>]*><b>(\d+)</b>', html)]
    assert sum(counts) == len(judged) == html.count('<details class="claim ')


def test_text_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = Judgement("x", "<script>alert(1)</script>", "<b>", "refuted", 'a < b & "c"')
    monkeypatch.setattr(page_module, "judge", lambda runs, paper: (nasty,))
    text = render()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "a &lt; b &amp; &#34;c&#34;" in text
    assert "<script>alert" not in text


def test_without_images_it_says_how_to_get_them(tmp_path: Path) -> None:
    text = render(tmp_path)
    assert "data:image" not in text
    assert "harness report page --images DIR" in text


def test_its_images_are_photographs_that_may_be_handed_on(html: str) -> None:
    assert re.findall(r"<figcaption>(demo \w+),.* photograph by ([\w ]+), CC0<", html) == [
        ("demo chelsea", "Stefan van der Walt"),
        ("demo camera", "Lav Varshney"),
    ]


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


RECORDS = Path(__file__).parents[2] / "results/reference"


SVG = "{http://www.w3.org/2000/svg}"


def figure_5(runs: pd.DataFrame) -> ElementTree.Element:
    return ElementTree.fromstring(scatter(runs, paper(), None))


def test_a_point_says_what_it_is_and_a_measured_one_leads_to_its_record() -> None:
    root = figure_5(RUNS)
    drawn = points(RUNS, paper(), None)
    marks = {
        str(mark.findtext(f"{SVG}title")): mark
        for mark in root.iter()
        if str(mark.get("class")).startswith("point")
    }
    assert len(marks) == len(drawn)
    said = "DRFN: 5.2M parameters, 28.62 dB (printed: both numbers are in the paper)"
    assert marks[said].tag == f"{SVG}g" and marks[said].get("aria-label") == said
    links = {mark.get("href") for mark in marks.values()} - {None}
    assert links == {f"#{anchor(point.run)}" for point in drawn if point.run}
    psnr = {str(point.method): f", {point.psnr:.2f} dB (measured" for point in drawn if point.run}
    measured = {name.partition(":")[0]: name for name in marks if "(measured" in name}
    assert len(measured) == len(psnr) == 4
    assert all(text in measured[method] for method, text in psnr.items())


def test_figure_5_has_only_colours_of_the_page() -> None:
    styles = " ".join(str(part.get("style")) for part in figure_5(RUNS).iter())
    assert "var(--ink)" in styles and "#" not in styles.replace("url(#", "")


def titles(svg: str, tag: str) -> list[str]:
    """The names of the parts of one kind."""
    parts = ElementTree.fromstring(svg).iter(f"{SVG}{tag}")
    return [name for part in parts if (name := part.findtext(f"{SVG}title"))]


def test_every_image_has_a_dot_and_the_mean_is_that_of_the_table() -> None:
    runs = ResultStore(RECORDS).read().table()
    chosen = choose_runs(runs, 4, None)
    found = dict(distributions(chosen, {"vdsr": "VDSR"}))
    assert list(found) == ["Set5", "Set14", "B100", "demo"]
    name, *_ = titles(found["Set14"], "a")
    assert name.startswith("VDSR: mean 28.02 dB, half of the 14 images between")
    dots = titles(found["Set14"], "use")
    images = chosen["vdsr", "set14"]["record"].images
    assert len(dots) == 14 * len(titles(found["Set14"], "a"))
    assert dots[:14] == [
        f"{one.image}: {one.scores['psnr']:.2f} dB / {one.scores['ssim']:.4f}" for one in images
    ]


def test_two_sets_of_one_name_have_a_drawing_each() -> None:
    runs = frame(record("vdsr", "set5"), record("vdsr", "Set5"))
    drawings = distributions(choose_runs(runs, 4, None), {})
    assert [name for name, _ in drawings] == ["Set5", "Set5"]
    assert drawings[0][1] != drawings[1][1]


def test_dots_stand_at_their_numbers() -> None:
    scores = [[30.0, 20.0], [25.0]]
    (plane,) = _draw(["one", "two"], scores).axes
    dots = plane.collections[0].get_offsets()
    assert [x for x, _ in dots] == [30, 20, 25]
    assert [round(y) for _, y in dots] == [0, 0, 1]
    means = [line.get_xdata()[0] for line in plane.lines if line.get_marker() == "D"]
    assert means == [25, 25]


def test_an_infinite_score_is_left_out() -> None:
    runs = ResultStore(RECORDS).read().table()
    runs = runs[
        (runs["model"] == "vdsr") & (runs["dataset"] == "set5") & (runs["protocol"] == "BI-x4/y")
    ].copy()
    record = runs["record"].iloc[0]
    scores = {"psnr": math.inf, "ssim": 1.0}
    images = (replace(record.images[0], scores=scores), *record.images[1:])
    runs["record"] = [replace(record, images=images)]
    ((_, svg),) = distributions(choose_runs(runs, 4, None), {})
    assert len(titles(svg, "use")) == 4 and "inf" not in svg


def test_a_run_without_a_finite_score_is_named_without_numbers() -> None:
    made = record("vdsr", "set5")
    images = tuple(replace(one, scores={"psnr": math.inf, "ssim": 1.0}) for one in made.images)
    runs = frame(replace(made, images=images))
    ((_, svg),) = distributions(choose_runs(runs, 4, None), {})
    assert titles(svg, "a") == ["vdsr: no image has a finite PSNR"] and not titles(svg, "use")


TOP = Path(__file__).parents[2]


def test_the_command_of_a_record_makes_it_again(harness, photos: Path) -> None:
    words = ("--datasets", "photos", "--grey", "as-rgb", "--border", "symmetric", "--tile", "16")
    harness("run", "--models", "bicubic", *words, "--self-ensemble", "--scale", "3")
    (record,) = ResultStore(Path("results/local")).records()
    program, *again = command(record).split()
    shown = harness(*again, "--json", "--results", "other")
    assert program == "harness" and shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)[0]["id"] == record.identity.id


def test_it_names_the_weights() -> None:
    made = record("srcnn", "set5", tag="repro")
    assert command(made) == "harness run --models srcnn:repro --datasets set5"
    given = record("srcnn", "set5", tag="file")
    assert command(given).endswith("--models srcnn --datasets set5 --weights srcnn=w.mat")


def test_a_card_holds_the_record_but_for_its_images() -> None:
    records = list(ResultStore(TOP / "results/reference").records())
    cards = [record_card(record, {"vdsr": "VDSR"}) for record in records]
    assert [card["id"] for card in cards] == [record.identity.id for record in records]
    card = next(card for card in cards if card["title"] == "VDSR on Set5, BI-x4/y")
    shown = json.loads(card["text"])
    assert shown["id"] == card["id"] and shown["identity"]["model"] == "vdsr"
    assert "images" not in shown
    facts = card["facts"]
    assert facts["test set's SHA-256"] == shown["identity"]["dataset_sha256"]
    assert (TOP / "results/reference" / facts["file"]).exists()
