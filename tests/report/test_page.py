import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.paper.claims import Judgement
from harness.paper.schema import paper
from harness.report import page as page_module
from harness.report.page import page
from harness.report.pictures import Pictures
from harness.report.tables import table2
from harness.run.store import ResultStore

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference"


def render(pictures: Path = REFERENCE) -> str:
    runs = ResultStore(REFERENCE).load()
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
            if name in ("href", "src", "srcset", "action", "poster"):
                self.targets.append(str(value))


def test_it_is_one_file_that_needs_nothing_else(html: str) -> None:
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in Links(html).targets)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|<link|https?://", html)
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
    tidy = table2(ResultStore(REFERENCE).load(), paper()).tidy
    missing = tidy["printed"].notna() & tidy["measured"].isna()
    assert html.count('<span class="nothing">missing</span>') == missing.sum()


def test_every_measured_number_leads_to_its_record(html: str) -> None:
    cells = re.findall(r'data-measured="([\d.]+)"[^>]*>\s*<a href="#run-(\w{12})"', html)
    tidy = table2(ResultStore(REFERENCE).load(), paper()).tidy.dropna(subset="measured")
    expected = {(str(row.measured), row.run[:12]) for row in tidy.itertuples()}
    assert set(cells) == expected
    assert f'id="run-{cells[0][1]}"' in html


def test_every_run_is_there_with_its_command(html: str) -> None:
    runs = ResultStore(REFERENCE).load()
    assert html.count('<div class="record-body"') == len(runs)
    assert "harness run --models vdsr:official --datasets set14" in html


def test_every_doubtful_cell_has_its_reason(html: str) -> None:
    for cell in paper()["suspicious"]:
        if cell["table"] == "table2":
            anchor = f"doubt-{cell['row']}-{cell['column']}-{cell['metric']}"
            assert f'href="#{anchor}"' in html and f'id="{anchor}"' in html


def test_verdicts_are_counted(html: str) -> None:
    judged = page_module.judge(ResultStore(REFERENCE).load(), paper())
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
