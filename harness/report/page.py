"""The page: everything the reports say, in one HTML file for people who would rather look."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

import pandas as pd
from PIL import Image

from harness.paper.claims import judge
from harness.paper.select import choose_runs
from harness.paper.verdicts import Verdict
from harness.registry import REPORTS, register_report
from harness.report.crops import CREDITS
from harness.report.figure5_points import KINDS, described, footnotes, points
from harness.report.forms import Format, Table, html_rows, templates
from harness.report.make import ReportError, call, contents, takes_pictures
from harness.report.marks import MARKS, TRAINED_HERE
from harness.report.page_grid import LEGEND, doubts, grids, measured_share, plain_tables
from harness.report.page_plots import distributions, scatter
from harness.report.page_records import RecordCard, anchor, record_cards
from harness.report.pictures import Box, Comparison, Panel, Pictures, compare, regions
from harness.report.tables import table2

if TYPE_CHECKING:
    from harness.cards import ByteArray, GreyRule
    from harness.paper.verdicts import Judgement

VERDICTS: Mapping[Verdict, str] = {verdict: MARKS[verdict] for verdict in get_args(Verdict)}
"""Verdicts in the order in which they are counted, with the mark that goes with the colour."""
_DRAWN = ("claims", "table2", "verdicts")
_SIDE = 256
"""Side of the piece of an image that the slider shows, in HR pixels."""


@dataclass(frozen=True)
class Page:
    """One self-contained HTML file.

    Attributes:
        context: what the template is filled with.
    """

    context: Mapping[str, Any]
    name: str = "page"
    formats: ClassVar[tuple[Format, ...]] = ("html",)

    def render(self, form: Format) -> str:
        """The page; all text is escaped."""
        environment = templates()
        environment.filters["anchor"] = anchor
        return environment.get_template("page.html.j2").render(self.context)


class Picture(NamedTuple):
    """An image inside the page."""

    label: str
    scores: str
    uri: str


class Look(NamedTuple):
    """Images of one photograph to be compared by eye."""

    title: str
    credit: str
    pictures: tuple[Picture, ...]


@register_report("page")
def page(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, pictures: Pictures
) -> Page:
    """Verdicts, tables, figures, images and run records in one file.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.schema.paper` gives.
        grey: the rule whose runs are shown; None for each row's own.
        pictures: where the images of the slider are.

    Raises:
        HarnessError: there are no runs, or an image cannot be read.
    """
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    printed = table2(runs, paper, grey)
    drawn = points(runs, paper, grey)
    cards = record_cards(runs["record"], methods)
    metrics = grids(printed, runs, paper)
    context = {
        "source": paper["source"],
        "verdicts": VERDICTS,
        "standings": MARKS,
        "trained_here": TRAINED_HERE,
        "claims": claims(judge(runs, paper), cards),
        "share": measured_share(metrics[0]),
        "caption": printed.caption,
        "grids": metrics,
        "legend": LEGEND,
        "doubts": list(doubts(paper).values()),
        "tables": plain_tables(_other_tables(runs, paper, grey)),
        "html_rows": html_rows,
        "scatter": scatter(drawn),
        "described": described(drawn),
        "kinds": KINDS,
        "footnotes": footnotes(runs, paper, grey, drawn),
        "distributions": distributions(choose_runs(runs, paper["table2"]["scale"], grey), methods),
        "looks": _looks(runs, paper, grey, pictures),
        "records": cards,
    }
    return Page(context)


class Claims(NamedTuple):
    """The judged claims, how many got each verdict, and what to call the runs they rest on."""

    judged: tuple[Judgement, ...]
    counts: Mapping[Verdict, int]
    runs: Mapping[str, str]


def claims(judged: Sequence[Judgement], cards: Sequence[RecordCard]) -> Claims:
    """What the verdict summary shows."""
    counted = Counter(one.verdict for one in judged)
    counts = {verdict: counted[verdict] for verdict in VERDICTS}
    return Claims(tuple(judged), counts, {card.id: card.title for card in cards})


def _other_tables(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None
) -> list[Table]:
    """Every registered table but those whose numbers the page draws itself.

    Where the code of a plug-in's fails, its place says so.
    """
    names = [name for name in REPORTS if name not in _DRAWN and not takes_pictures(name)]
    return [table for table in (_other_table(name, runs, paper, grey) for name in names) if table]


def _other_table(
    name: str, runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None
) -> Table | None:
    try:
        report = call(name, runs, paper, grey)
        if not isinstance(report, Table):
            return None
        contents(name, report, ["html"])
    except ReportError as error:
        return Table(name, str(error), ["Report", ""], [[name, "failed"]], pd.DataFrame())
    return report


def _looks(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, pictures: Pictures
) -> list[Look]:
    """The photographs that may be handed on and have pictures."""
    all_models = replace(pictures, region=None, models=())
    found = []
    for region in regions(runs, paper, grey, all_models):
        if credit := CREDITS.get((region.dataset, region.image)):
            shown = compare(region, runs, paper, grey, all_models)
            if any(panel.pixels is not None for panel in shown.panels[1:]):
                found.append(_look(shown, credit))
    return found


def _look(shown: Comparison, credit: str) -> Look:
    box = _around(shown.box, shown.hr)
    pictures = [
        Picture(panel.label, _scores(panel), _uri(box.cut(panel.pixels)))
        for panel in shown.panels
        if panel.pixels is not None
    ]
    return Look(shown.title, credit, tuple(pictures))


def _around(box: Box, hr: ByteArray) -> Box:
    """A square about the middle of a box, moved into the image."""
    height, width = hr.shape[:2]
    wide, high = min(_SIDE, width), min(_SIDE, height)
    x = min(max(box.x + (box.width - wide) // 2, 0), width - wide)
    y = min(max(box.y + (box.height - high) // 2, 0), height - high)
    return Box(x, y, wide, high)


def _scores(panel: Panel) -> str:
    return "" if panel.psnr is None else f"{panel.psnr:.2f} dB / {panel.ssim:.4f}"


def _uri(pixels: ByteArray) -> str:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(stream.getvalue()).decode()}"
