"""Builds the HTML page of a paper: verdicts, tables, plots, images, records and commands."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from harness.errors import printable
from harness.paper.schema import listed, score, title
from harness.paper.verdicts import Verdict
from harness.registry import DATASETS, REPORTS, register_report
from harness.report.build import ReportError, contents, make, takes_pictures
from harness.report.crops import Pictures, redistributable
from harness.report.legend import MARKS, TRAINED_HERE, dagger
from harness.report.literature import elsewhere_text
from harness.report.plot import Figure, plots, points
from harness.report.results import measured_share, pipeline, results, rows_of
from harness.report.table import Format, Table, html_rows, templates
from harness.run.provenance import command, foreign_origin
from harness.run.store import ResultStore

if TYPE_CHECKING:
    from matplotlib import figure

    from harness.paper.findings import Findings
    from harness.paper.schema import Plot, Score
    from harness.paper.schema import Table as PrintedTable
    from harness.paper.verdicts import JudgedCell, JudgedRow
    from harness.record import RunRecord


def anchor(run: str) -> str:
    """Return the id of the element that shows a record."""
    return f"run-{run[:12]}"


def record_card(record: RunRecord, methods: Mapping[str, str]) -> dict[str, str]:
    """Collect what the page shows of a record; ``methods`` has the paper's names of models."""
    identity = record.identity
    ensemble = "+" if identity.self_ensemble else ""
    origin = foreign_origin(record)
    method = f"{identity.model} of {origin}" if origin else methods.get(identity.model)
    name = f"{method or identity.model}{ensemble} on {title(identity.dataset)}"
    weights = [f"{record.weights.tag} weights"] if record.weights else []
    arguments = [f"{name}={value}" for name, value in identity.hyper.items()]
    # The page draws the scores of the images.
    content = {key: value for key, value in record.to_json().items() if key != "images"}
    return {
        "id": identity.id,
        "title": ", ".join([name, identity.protocol, *weights, *arguments]),
        "scores": _means(record) if record.status == "finished" else f"failed: {record.error}",
        "file": str(ResultStore(Path()).path(identity)),
        "command": command(record),
        "text": json.dumps(content, indent=1, ensure_ascii=False),
    }


def _means(record: RunRecord) -> str:
    means, infinite = record.means, record.infinite.get("psnr")
    left_out = f" ({infinite} infinite left out)" if infinite else ""
    return f"{means['psnr']:.4f} dB{left_out} / {means['ssim']:.6f}"


_SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", _SVG[1:-1])
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
_COLOURS: Mapping[str, str] = {
    "#ffffff": "var(--card)",
    "#000000": "var(--ink)",
    "#e6e6e6": "var(--line)",
    "#999999": "var(--soft)",
    "#737373": "var(--soft)",
    "#595959": "var(--soft)",
    "#9a4a00": "var(--printed)",
    "#c98b55": "var(--declared)",
    "#0b62a4": "var(--measured)",
}
"""The page's colours, which suit light and dark, for those of the figures."""


def _svg(figure: Figure) -> tuple[ElementTree.Element, Mapping[str | None, ElementTree.Element]]:
    """Convert a figure to an SVG element in the page's colours, and list its parts by their ids."""
    root = ElementTree.fromstring(figure.render("svg"))
    parts = {part.get("id"): part for part in root.iter()}
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "plot", "role": "group"}
    for part in root.iter():
        for key, value in part.attrib.items():
            value = re.sub("|".join(_COLOURS), lambda colour: _COLOURS[colour[0]], value)
            # Several figures stand on the page, and ids must differ.
            part.set(key, re.sub(r"^#|url\(#", rf"\g<0>{figure.name}-", value))
        if "id" in part.attrib:
            part.set("id", f"{figure.name}-{part.get('id')}")
    return root, parts


def _name(part: ElementTree.Element, text: str, run: str = "") -> None:
    """Name a part for mouse and screen reader, and link it to the record of its run."""
    ElementTree.SubElement(part, f"{_SVG}title").text = printable(text)
    part.attrib = {"class": "point", "role": "img"}
    if run:
        part.tag = f"{_SVG}a"
        part.attrib = {"class": "point record-link", "href": f"#{anchor(run)}"}


def scatter(findings: Findings, plot: Plot, drawn: Figure) -> str:
    """Turn a plot into an SVG element whose points have names and lead to their records."""
    root, parts = _svg(drawn)
    for index, point in enumerate(points(findings, plot)):
        _name(parts[f"point-{index}"], point.text, point.run)
    return ElementTree.tostring(root, "unicode")


def distributions(findings: Findings) -> list[tuple[str, str]]:
    """Draw the PSNR of every image: the title and an SVG element of each set and scale."""
    scales = sorted({one.row.scale for one in findings.rows})
    drawings: list[tuple[str, str]] = []
    for scale in scales:
        runs = findings.shown(scale)
        models = dict.fromkeys([*findings.names, *sorted(model for model, _ in runs)])
        for dataset in dict.fromkeys([*DATASETS, *sorted(dataset for _, dataset in runs)]):
            records = [runs[model, dataset] for model in models if (model, dataset) in runs]
            labels = [
                findings.names.get(one.identity.model, one.identity.model) + dagger(one)
                for one in records
            ]
            name = f"{title(dataset)}, x{scale}" if len(scales) > 1 else title(dataset)
            if records:
                svg = _distribution(f"images-{len(drawings)}", name, labels, records)
                drawings.append((name, svg))
    return drawings


def _distribution(
    name: str, dataset: str, labels: Sequence[str], records: Sequence[RunRecord]
) -> str:
    finite = [
        [one for one in record.images if math.isfinite(one.scores["psnr"])] for record in records
    ]
    scores = [[one.scores["psnr"] for one in images] for images in finite]
    heading = f"PSNR of every image of {dataset}"
    root, parts = _svg(Figure(name, lambda: _draw(labels, scores), title=heading))
    for row, (record, label, found) in enumerate(zip(records, labels, scores, strict=True)):
        mean = f"mean {np.mean(found):.2f} dB" if found else "no image has a finite PSNR"
        _name(parts[f"run-{row}"], f"{label}: {mean}", record.identity.id)
    dots = parts["dots"].iter(f"{_SVG}use")
    for dot, one in zip(dots, chain(*finite), strict=True):
        text = f"{one.image}: {one.scores['psnr']:.2f} dB / {one.scores['ssim']:.4f}"
        ElementTree.SubElement(dot, f"{_SVG}title").text = printable(text)
    return ElementTree.tostring(root, "unicode")


def _draw(labels: Sequence[str], scores: Sequence[Sequence[float]]) -> figure.Figure:
    """Draw a dot for each image and the mean: a row for each label."""
    from matplotlib.figure import Figure as Canvas

    canvas, rows = Canvas((8.4, 0.3 * len(scores) + 0.3)), range(len(scores))
    plane = canvas.add_axes((0, 0, 1, 1), axisbelow=True, frame_on=False)
    # Move dots up and down by the golden ratio, so that few cover each other.
    heights = [row + (i * 0.618034 % 1 - 0.5) / 2 for row in rows for i in range(len(scores[row]))]
    plane.scatter([*chain(*scores)], heights, s=16, alpha=0.4, color="#0b62a4", gid="dots")
    means = [float(np.mean(found)) if found else math.nan for found in scores]
    plane.scatter(means, rows, s=36, marker="D", color="#9a4a00", gid="means")
    plane.set(xlabel="PSNR (dB)", yticks=rows, yticklabels=labels)
    for row, label in enumerate(plane.get_yticklabels()):
        label.set_gid(f"run-{row}")
    plane.invert_yaxis()
    plane.tick_params(length=0)
    plane.grid(axis="x", color="0.9")
    return canvas


STEPS = (1, 5, 20)
"""The limits between levels of distance from the print, in units of the last printed digit.

All but the first suit retrained networks.
"""


class Level(NamedTuple):
    """A level of distance between a measured and a printed number.

    Attributes:
        name: the class in the style sheet.
        mark: a character with the same meaning as the colour.
        said: the level in words, for the legend.
    """

    name: str
    mark: str
    said: str


LEVELS = (
    Level("under3", "▼▼▼", f"below by more than {STEPS[2]}"),
    Level("under2", "▼▼", f"below by up to {STEPS[2]}"),
    Level("under1", "▼", f"below by up to {STEPS[1]}"),
    Level("same", "=", f"as printed: within {STEPS[0]}"),
    Level("over1", "▲", f"above by up to {STEPS[1]}"),
    Level("over2", "▲▲", f"above by up to {STEPS[2]}"),
    Level("over3", "▲▲▲", f"above by more than {STEPS[2]}"),
)


def level(difference: float, score: Score) -> Level:
    """Return the level of a difference, measured minus printed, after rounding as displayed."""
    apart = round(abs(difference), score.measured)
    far = sum(apart > step / 10**score.printed for step in STEPS)
    return LEVELS[len(STEPS) + (far if difference > 0 else -far)]


DOUBTS: Mapping[str, str] = {
    "print": "doubtful",
    "measurement": "other rules",
    "unusual": "unusual",
}
"""The names of numbers that look wrong, by how they were found."""


class Grid(NamedTuple):
    """The rows of a table at one scale, with the cells of one metric."""

    caption: str
    metric: str
    columns: list[str]
    rows: Sequence[JudgedRow]


def grids(findings: Findings, table: PrintedTable) -> Iterator[Grid]:
    """Yield a table's grids, one for each scale and metric."""
    of_table = rows_of(findings, table)
    scales = dict.fromkeys(one.row.scale for one in of_table)
    columns = [title(name) for name in table.columns]
    for scale in scales:
        rows = [one for one in of_table if one.row.scale == scale]
        for metric, decimals in table.scores.items():
            caption = score(metric, decimals).title + f", x{scale}" * (len(scales) > 1)
            yield Grid(caption, metric, columns, rows)


def shown(cell: JudgedCell) -> dict[str, Any]:
    """Write what a grid shows of a number; texts are empty if it is not known."""
    how, value, difference = cell.score, cell.value, cell.difference
    signed = "" if difference is None else f"{difference:+z.{how.measured}f}"
    return {
        "run": cell.failed if value is None else cell.shown,
        "level": None if difference is None else level(difference, how),
        "printed": "" if cell.printed is None else how.as_printed(cell.printed),
        "measured": "" if value is None else how.as_measured(value),
        "difference": signed.replace("-", "−"),
        "doubt": DOUBTS[cell.doubt.seen] if cell.doubt else "",
        "explained": explained(cell),
    }


def explained(cell: JudgedCell) -> str:
    """Say under which other rules a number holds, what looks wrong, and where else it is printed.

    Empty if there is nothing to say.
    """
    reason = cell.doubt.reason if cell.doubt else ""
    other = cell.measured if cell.standing != cell.verdict else None
    # For example: Measured under grey images as-rgb: 28.181.
    value = cell.score.as_measured(other.value) if other else ""
    rules = f"Measured under {other.rules_text}: {value}." if other else ""
    return " ".join(text for text in (rules, reason, elsewhere_text(cell)) if text)


_DRAWN = ("claims", "results", "verdicts")
"""The reports whose numbers the page shows in a form of its own."""


@dataclass(frozen=True)
class Page:
    """One self-contained HTML file, made from a template and its variables."""

    context: Mapping[str, Any]
    name: str = "page"
    formats: ClassVar[tuple[Format, ...]] = ("html",)

    def render(self, form: Format) -> str:
        """Render the page, with all text escaped."""
        environment = templates()
        environment.filters["anchor"] = anchor
        return environment.get_template("page.html.j2").render(self.context)


@register_report("page")
def page(findings: Findings, pictures: Pictures) -> list[Page]:
    """Show a paper's verdicts, tables and plots, images and run records in one file.

    Raises:
        HarnessError: there are no runs, or an image cannot be read.
    """
    paper = findings.paper
    if paper is None:
        return []
    count = Counter(judgement.verdict for judgement in findings.claims)
    cards = [record_card(record, findings.names) for record in findings.runs["record"]]
    captions = {table.name: table.caption for table in results(findings)}
    tables = [table for table in paper.tables if table.id in captions]
    others = _other_tables(findings, pictures)
    context = {
        "source": paper.source,
        "judged": findings.claims,
        "quoted": [claim.key for claim in paper.claims],
        "verdicts": {verdict: count[verdict] for verdict in get_args(Verdict)},
        "titles": {card["id"]: card["title"] for card in cards},
        "standings": MARKS,
        "trained_here": TRAINED_HERE,
        "share": measured_share(findings.cells),
        "share_of": listed([table.title for table in tables]),
        "printed": [(table, captions[table.id], list(grids(findings, table))) for table in tables],
        "shown": shown,
        "levels": LEVELS,
        "orders": ["printed", "measured", "difference"],
        "dagger": dagger,
        "pipeline": pipeline,
        # Rows that each name what they are about can be sorted.
        "tables": [(table, all(row and row[0] for row in table.rows)) for table in others],
        "html_rows": html_rows,
        "plots": [
            (plot, title(plot.set), scatter(findings, plot, drawn))
            for plot, drawn in zip(paper.plots, plots(findings), strict=True)
        ],
        "distributions": distributions(findings),
        "crops": _crops(findings, pictures),
        "records": cards,
    }
    return [Page(context)]


def _other_tables(findings: Findings, pictures: Pictures) -> list[Table]:
    """Make every registered table except those whose numbers the page draws itself.

    If a plug-in's code fails, a table with the error takes the place of its table.
    """
    others = [name for name in REPORTS if name not in _DRAWN and not takes_pictures(name)]
    tables = []
    for name in sorted(others, key=lambda name: (not REPORTS.is_built_in(name), name)):
        try:
            for report in make(name, findings, pictures):
                if isinstance(report, Table):
                    contents(name, report, ["html"])
                    tables.append(report)
        except ReportError as error:
            failed = [[name, "failed"]]
            tables.append(Table(name, str(error), ["Report", ""], failed, pd.DataFrame()))
    return tables


def _crops(findings: Findings, pictures: Pictures) -> str:
    """Draw the photographs that may be redistributed as a data URI; empty without SR images."""
    figure = redistributable(findings, pictures)
    png = figure.render("png") if figure else b""
    return f"data:image/png;base64,{b64encode(png).decode()}" if png else ""
