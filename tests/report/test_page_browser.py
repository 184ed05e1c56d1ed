"""The page in a real browser: Debian's Chromium without a window, driven by playwright."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.paper.findings import Findings
from harness.paper.schema import paper
from harness.report.crops import Pictures
from harness.report.page import page
from harness.run.store import ResultStore

REFERENCE = Path(__file__).parents[2] / "results/reference"
DRFN = paper("drfn2020")
SECTIONS = ["own", "paper-figure5", "paper-table2", "others", "look", "verdicts", "records"]
TABLE = "#paper-table2 table"

CONTRASTS = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (part) => {
    const own = getComputedStyle(part).backgroundColor;
    return own === "rgba(0, 0, 0, 0)" ? back(part.parentElement) : own;
  };
  return [...document.querySelectorAll("td, .count, .verdict, .soft, p, a")].map((part) => {
    const pair = [light(getComputedStyle(part).color), light(back(part))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  });
}"""
"""WCAG's contrast of text and background, of verdicts, cells of tables and text."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[test]'"
    )
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "page.html"


@pytest.fixture
def open_page(chromium: Any, file: Path) -> Iterator[Any]:
    """Open the page of the committed records; whatever it complains of fails the test."""
    if not file.exists():
        runs = ResultStore(REFERENCE).read().table()
        (made,) = page(Findings(runs, DRFN, None), Pictures(REFERENCE))
        file.write_text(made.render("html"), encoding="utf-8")
    contexts, complaints, requests = [], [], []

    def call(**options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri())
        return tab

    yield call
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]


def methods(tab: Any, table: str = TABLE) -> list[str]:
    """The methods whose rows are shown, from top to bottom."""
    rows = tab.locator(f"{table} tbody tr th").filter(visible=True)
    return [text.strip() for text in rows.all_inner_texts()]


def test_a_click_on_a_set_sorts_by_its_printed_numbers(open_page) -> None:
    tab = open_page()
    printed = {row.method: row.printed.get(("manga109", "psnr")) for row in DRFN.rows}
    header = tab.locator(f"{TABLE} th", has_text="Manga109")
    header.get_by_role("button").click()
    values = [printed.get(method) for method in methods(tab)]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=True) and len(known) == 10
    assert values[10:] == [None] * 4
    assert header.get_attribute("aria-sort") == "descending"
    header.get_by_role("button").click()
    values = [printed.get(method) for method in methods(tab)]
    assert values[:10] == sorted(known) and values[10:] == [None] * 4
    assert header.get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize(
    ("order", "best"),
    [("measured", ["SRMDNF", "LapSRN", "VDSR"]), ("difference", ["SRMDNF", "SRCNN", "Bicubic"])],
)
def test_it_sorts_by_measured_numbers_and_differences_as_well(
    open_page, order: str, best: list[str]
) -> None:
    tab = open_page()
    tab.get_by_label("Sort columns by").select_option(order)
    tab.locator(f"{TABLE} th", has_text="Set14").get_by_role("button").click()
    assert methods(tab)[:3] == best


def test_names_sort_by_the_alphabet(open_page) -> None:
    tab = open_page()
    button = tab.locator(f"{TABLE} th", has_text="Method").get_by_role("button")
    button.click()
    assert methods(tab)[:3] == ["Bicubic", "bicubic-rgb", "DCSR"]
    button.click()
    assert methods(tab)[-3:] == ["DCSR", "bicubic-rgb", "Bicubic"]


def test_the_other_tables_sort_as_well(open_page) -> None:
    tab = open_page()
    table = tab.locator("#others table", has_text="FSRCNN over SRCNN")
    tab.locator("#others summary", has_text="differences").click()
    table.get_by_role("button", name="Printed (dB)").click()
    column = table.locator("tbody td:nth-child(4)").all_inner_texts()
    values = [float(text) for text in column]
    assert values == sorted(values, reverse=True) and values[0] == 2.06


def test_filters_leave_the_rows_that_fit(open_page) -> None:
    tab = open_page()
    tab.get_by_label("Method or pipeline").fill("sr")
    fitting = "SRCNN FSRCNN VDSR LapSRN EDSR SRMDNF DCSR MSRN edsr-baseline"
    assert methods(tab) == fitting.split()
    tab.get_by_label("only measured rows").check()
    measured = ["SRCNN", "FSRCNN", "VDSR", "LapSRN", "SRMDNF", "MSRN", "edsr-baseline"]
    assert methods(tab) == measured
    tab.get_by_label("Method or pipeline").fill("rgb")
    assert methods(tab) == ["SRMDNF", "RDN", "MSRN", "DRFN", "bicubic-rgb", "edsr-baseline"]


@pytest.mark.parametrize("scripts", [True, False])
def test_a_number_opens_its_record(open_page, scripts: bool) -> None:
    tab = open_page(java_script_enabled=scripts)
    run = next(
        r
        for r in ResultStore(REFERENCE).records()
        if r.identity.model == "vdsr" and r.identity.protocol == "BI-x4/y"
    )
    place = f"#run-{run.identity.id[:12]}"
    link = tab.locator(f"{TABLE} a[href='{place}']")
    assert not tab.locator(place).is_visible()
    link.focus()
    tab.keyboard.press("Enter")
    tab.locator(place).wait_for(state="visible")
    text = tab.locator(place).inner_text()
    assert run.identity.id in text and run.identity.dataset_sha256 in text
    assert run.weights and run.weights.source_sha256 in text
    assert "harness run --models vdsr:official --datasets b100" in text
    assert '"schema_version": 3' in text
    title = tab.locator("details.fold", has=tab.locator(place)).last.locator("summary")
    bar = tab.get_by_role("navigation").bounding_box()
    assert title.bounding_box()["y"] >= bar["y"] + bar["height"]
    tab.go_back()
    assert link.bounding_box()["y"] < 900


def test_a_printed_number_unfolds_what_else_is_known_of_it(open_page) -> None:
    tab = open_page()
    cells = tab.locator(f"{TABLE} tr", has=tab.get_by_text("LapSRN", exact=True)).locator("td")
    cell = cells.nth(4)
    summary = cell.locator("summary")
    assert "28.19 ≈/0.7720" in summary.inner_text() and "Also printed" not in cell.inner_text()
    summary.focus()
    tab.keyboard.press("Enter")
    assert "Measured under grey images as-rgb: 28.181." in cell.inner_text()
    assert "Also printed as 28.09" in cell.inner_text()


def test_points_tell_their_names(open_page) -> None:
    tab = open_page()
    names = [
        tab.locator(f"{part} > title").first.text_content()
        for part in ("#paper-figure5 g.point", "#paper-figure5 a.point")
    ]
    assert re.fullmatch(r".+: [\d.]+[kM] parameters, [\d.]+ dB \(.+\)", names[0])
    assert re.fullmatch(r".+: [\d.]+[kM] parameters, [\d.]+ dB \(measured here.*\)", names[1])
    link = tab.locator("#paper-figure5 a.point").first
    assert tab.get_by_role("link", name=names[1], exact=True).count() == 1
    link.click()
    tab.locator(link.get_attribute("href")).wait_for(state="visible")


def test_the_counts_show_and_hide_their_claims(open_page) -> None:
    tab = open_page()
    tab.locator(".rest > summary").click()
    everything = tab.locator(".claim:visible").count()
    undecided = tab.locator(".claim.undecided").count()
    assert 0 < undecided < everything
    box = tab.get_by_role("checkbox", name=re.compile("undecided"))
    tab.locator(".count", has_text="undecided").click()
    assert tab.locator(".claim:visible").count() == everything - undecided
    assert not box.is_checked()
    box.focus()
    tab.keyboard.press("Space")
    assert tab.locator(".claim:visible").count() == everything


def test_a_verdict_that_is_hidden_or_shown_concerns_the_folded_claims_too(open_page) -> None:
    tab = open_page()
    folded = tab.locator(".rest .claim").first
    assert not folded.is_visible()
    tab.locator(".count", has_text="refuted").click()
    assert folded.is_visible()


def test_a_link_shows_the_evidence_of_a_claim_whose_verdict_is_hidden(open_page) -> None:
    tab = open_page()
    link = tab.locator("#own a[href^='#claim-']")
    evidence = tab.locator(link.get_attribute("href"))
    tab.locator(".count", has_text="undecided").click()
    tab.locator(".rest > summary").click()
    assert not evidence.is_visible()
    link.click()
    evidence.wait_for(state="visible")
    assert 0 < evidence.bounding_box()["y"] < 900


@pytest.mark.parametrize(("width", "height"), [(1280, 6_000), (390, 12_000)])
def test_it_is_short_until_something_is_unfolded(open_page, width: int, height: int) -> None:
    tab = open_page(viewport={"width": width, "height": 844})
    assert tab.evaluate("document.documentElement.scrollHeight") <= height


def test_the_first_screen_has_the_own_row_and_the_plot(open_page) -> None:
    tab = open_page()
    for part in ("#own", "#paper-figure5 .plot"):
        box = tab.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 900


def test_headings_are_in_order(open_page) -> None:
    tab = open_page()
    levels = tab.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => one.tagName)")
    assert levels[0] == "H1" and set(levels[1:]) == {"H2"}


def test_on_a_phone_the_method_stays_while_its_numbers_scroll(open_page) -> None:
    tab = open_page(viewport={"width": 390, "height": 844})
    tab.locator("#paper-table2 .scroll").evaluate("one => { one.scrollLeft = 1e4; }")
    name = tab.locator(f"{TABLE} tbody th").first.bounding_box()
    number = tab.locator(f"{TABLE} tbody tr").first.locator("td").last.bounding_box()
    assert 0 <= name["x"] < name["x"] + name["width"] < number["x"] < 390


def test_what_has_the_focus_is_outlined(open_page) -> None:
    tab = open_page()
    tab.keyboard.press("Tab")
    outline = tab.locator(":focus").evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"


def test_a_phone_shows_it_without_scrolling_sideways(open_page) -> None:
    tab = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    wide = tab.evaluate(
        "[...document.querySelectorAll('table, .plot, img')].filter(e => e.offsetWidth > 390"
        " && !e.closest('.scroll')).length"
    )
    assert wide == 0
    tab.locator(TABLE).get_by_role("link").first.click()
    record = tab.locator("#records pre").filter(visible=True)
    record.first.wait_for()
    assert all(one.bounding_box()["width"] <= 390 for one in record.all())
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_on_paper_no_table_is_cut(open_page) -> None:
    tab = open_page(viewport={"width": 980, "height": 700})  # letter in landscape
    tab.emulate_media(media="print")
    cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.evaluate(f"{cut}.map(e => e.ariaLabel)") == []


def test_on_paper_claims_are_unfolded_and_controls_are_gone(open_page) -> None:
    tab = open_page(java_script_enabled=False)
    tab.emulate_media(media="print")
    for section in SECTIONS:
        assert tab.locator(f"#{section}").is_visible()
    evidence = tab.locator(".evidence")
    assert all(one.bounding_box()["height"] > 10 for one in (evidence.first, evidence.last))
    assert not tab.locator("nav, .controls").filter(visible=True).count()


def test_on_paper_of_records_and_more_tables_only_the_unfolded_are_there(open_page) -> None:
    tab = open_page()
    tab.emulate_media(media="print")
    assert not tab.locator(".fold :is(pre, table)").filter(visible=True).count()
    tab.emulate_media(media="screen")
    tab.locator("#others summary").first.click()
    tab.emulate_media(media="print")
    assert tab.locator(".fold :is(pre, table)").filter(visible=True).count() == 1


def test_on_paper_figure_5_stands_below_its_heading(open_page) -> None:
    tab = open_page()
    tab.emulate_media(media="print")
    rule = "getComputedStyle(document.getElementById('paper-figure5')).breakInside"
    assert tab.evaluate(rule) == "avoid"


def test_at_1280_pixels_no_table_is_cut(open_page) -> None:
    tab = open_page()
    cut = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.evaluate(f"{cut}.map(e => e.ariaLabel)") == []


def test_it_can_be_read_without_scripts(open_page) -> None:
    tab = open_page(java_script_enabled=False)
    for section in SECTIONS:
        assert tab.locator(f"#{section}").is_visible()
    assert len(methods(tab)) == 14
    assert not tab.locator(".controls").filter(visible=True).count()
    assert tab.locator("#look img").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_verdict_has_its_colour(open_page, scheme: str) -> None:
    tab = open_page(color_scheme=scheme)
    tones = "[...document.querySelectorAll('.count .mark')].map(e => getComputedStyle(e).color)"
    assert len(set(tab.evaluate(tones))) == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_every_cell(open_page, scheme: str) -> None:
    tab = open_page(color_scheme=scheme)
    ratios = tab.evaluate(CONTRASTS)
    assert len(ratios) > 500 and min(ratios) >= 4.5
