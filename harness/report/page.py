"""Builds the HTML page of a paper: verdicts, tables, plots, images, records and commands."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args
from xml.etree import ElementTree

import pandas as pd
from msgspec import structs

from harness.errors import printable
from harness.models.published import described
from harness.paper.literature import beside_log, by_logs
from harness.paper.schema import title
from harness.paper.verdicts import Judgement, Verdict, judge_row, made_with
from harness.paper.vocabulary import Beats, Pareto, Rank, Within
from harness.registry import REPORTS, register_report
from harness.report.build import ReportError, make, takes_pictures
from harness.report.crops import Pictures, crops
from harness.report.legend import FAILED, MARKS, MISSING, dagger
from harness.report.plot import Figure, plots, points
from harness.report.results import measured_share, results
from harness.report.table import Format, Table, templates
from harness.run.provenance import command, foreign_origin, requirements
from harness.run.store import ResultStore
from harness.text import Marked, listed, readable

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper, Plot
    from harness.paper.verdicts import JudgedCell
    from harness.record import RunRecord


FIRST_CLAIMS = 8
"""The number of claims that are visible at once; the page folds the others."""


def record_card(record: RunRecord, methods: Mapping[str, str]) -> dict[str, str]:
    """Collect what the page shows of a record; ``methods`` has the paper's names of models."""
    identity = record.identity
    origin = foreign_origin(record)
    method = f"{identity.model} of {origin}" if origin else methods.get(identity.model)
    ensemble = "+" if identity.self_ensemble else ""
    method = f"{method or identity.model}{ensemble}"
    name = f"{method} on {title(identity.dataset)}"
    weights = [f"{record.weights.tag} weights"] if record.weights else []
    if identity.sr_sha256:
        folder = record.provenance.get("sr_images", "")
        weights = [f"{described(identity)} in a folder {folder}"]
    arguments = [f"{name}={value}" for name, value in identity.hyper.items()]
    means = [
        f"{name} {readable(mean)}" + " (infinite scores left out)" * (name in record.infinite)
        for name, mean in record.means.items()
    ]
    content = {key: value for key, value in record.to_json().items() if key != "images"}
    return {
        "id": identity.id,
        "method": method,
        "title": ", ".join([name, identity.protocol, *weights, *arguments]),
        "scores": ", ".join(means) if record.status == "finished" else f"failed: {record.error}",
        "file": str(ResultStore(Path()).path(identity)),
        "command": command(record),
        "requirements": requirements(record),
        "images": "\n".join(
            " ".join([image.image, *map(readable, image.scores.values())])
            for image in record.images
        ),
        "log": beside_log(record),
        "text": json.dumps(content, indent=1, ensure_ascii=False),
    }


_SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", _SVG[1:-1])
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
_COLOURS: Mapping[str, str] = {
    "#ffffff": "var(--card)",
    "#000000": "var(--ink)",
    "#e6e6e6": "var(--line)",
    "#999999": "var(--soft)",
    "#595959": "var(--soft)",
    "#9a4a00": "var(--printed)",
    "#0b62a4": "var(--measured)",
}
"""The page's colours, which suit light and dark, for those of the plots."""


def scatter(findings: Findings, plot: Plot, drawn: Figure) -> str:
    """Turn a plot into an SVG element whose points have names and lead to their records."""
    root = ElementTree.fromstring(drawn.render("svg"))
    parts = {part.get("id"): part for part in root.iter()}
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "plot", "role": "group"}
    for part in root.iter():
        for key, value in part.attrib.items():
            value = re.sub("|".join(_COLOURS), lambda colour: _COLOURS[colour[0]], value)
            # Several plots stand on the page, and ids must differ.
            part.set(key, re.sub(r"^#|url\(#", rf"\g<0>{drawn.name}-", value))
        if "id" in part.attrib:
            part.set("id", f"{drawn.name}-{part.get('id')}")
    for index, point in enumerate(points(findings, plot)):
        part = parts[f"point-{index}"]
        ElementTree.SubElement(part, f"{_SVG}title").text = printable(point.text)
        part.attrib = {"class": "point", "role": "img"}
        if point.run:
            part.tag = f"{_SVG}a"
            part.attrib = {"class": "point record-link", "href": f"#run-{point.run[:12]}"}
    return ElementTree.tostring(root, "unicode")


@dataclass(frozen=True)
class Page:
    """One self-contained HTML file, made from a template and its variables."""

    context: Mapping[str, Any]
    name: str = "page"
    formats: ClassVar[tuple[Format, ...]] = ("html",)

    def render(self, form: Format) -> str:
        """Render the page, with all text escaped."""
        return templates().get_template("page.html.j2").render(self.context)


@register_report("page")
def page(findings: Findings, pictures: Pictures) -> list[Page]:
    """Show a paper's verdicts, tables and plots, images and run records in one file.

    Raises:
        HarnessError: there are no finished runs, or an image cannot be read.
    """
    paper = findings.paper
    if paper is None:
        return []
    tables = results(findings)  # refuses findings without runs
    count = Counter(judgement.verdict for judgement in findings.claims)
    cards = [record_card(record, findings.names) for record in findings.runs["record"]]
    names = {table.id: table.title for table in paper.tables}
    photographs = crops(findings, replace(pictures, region=None))
    context = {
        "source": paper.source,
        "own": _own_row(findings, paper),
        "argued": _argued(findings, paper),
        "judged": findings.claims,
        "first_claims": FIRST_CLAIMS,
        "quoted": [claim.key for claim in paper.claims],
        "verdicts": {verdict: count[verdict] for verdict in get_args(Verdict)},
        "marks": MARKS,
        "titles": {card["id"]: card["title"] for card in cards},
        "share": measured_share(findings.cells, f" of {listed([*names.values()])}"),
        "tables": [(names[table.name], table) for table in tables],
        "others": _other_tables(findings, pictures),
        "plots": [
            (plot, title(plot.set), scatter(findings, plot, drawn))
            for plot, drawn in zip(paper.plots, plots(findings), strict=True)
        ],
        "photographs": [(one.title, b64encode(one.render("png")).decode()) for one in photographs],
        "records": _by_method(cards, [*findings.names.values()]),
    }
    return [Page(context)]


class OwnRow(NamedTuple):
    """The printed row of the method that the paper proposes.

    Attributes:
        where: the name of its table, with the scale.
        judgement: the verdict on the row.
        made: whose weights or images were measured; empty if nothing was.
        table: the numbers of the table's first metric, printed and measured.
    """

    where: str
    judgement: Judgement
    made: str
    table: Table


def _own_row(findings: Findings, paper: Paper) -> OwnRow | None:
    """Find the paper's own row: a measured one if there is one, at the largest scale."""
    rows = [one for one in findings.rows if one.row.method == paper.subject and one.row.printed]
    if not rows:
        return None
    judged = max(rows, key=lambda one: (any(cell.shown for cell in one.cells), one.row.scale))
    row, (metric, *_) = judged.row, judged.row.table.scores
    cells = [one for one in judged.cells if one.metric == metric and one.printed is not None]
    made = dict.fromkeys(made_with(cell.shown, row.table) for cell in cells if cell.shown)
    where = f"{row.table.title}, x{row.scale}"
    judgement = judge_row(judged, paper.row_name(row))
    return OwnRow(where, judgement, listed([*made]), _own_table(cells))


def _own_table(cells: list[JudgedCell]) -> Table:
    lines: list[list[str]] = [["printed"], ["measured"], ["difference"]]
    for cell in cells:
        mark = [(f" {MARKS[cell.standing]}", cell.standing)] if cell.standing else []
        lines[0].append(Marked([(cell.printed_text, ""), *mark]))
        lines[1].append(_measured(cell))
        gap = "" if cell.difference is None else f"{cell.difference:+.{cell.score.measured}f}"
        lines[2].append(gap)
    lines = lines if any(lines[2][1:]) else lines[:2]
    headers = ["", *(title(cell.dataset) for cell in cells)]
    caption = cells[0].score.title if cells else ""
    return Table("own row", caption, headers, lines, pd.DataFrame())


def _measured(cell: JudgedCell) -> str:
    if cell.shown is None or cell.value is None:
        return FAILED if cell.failed else MISSING
    text = cell.score.as_measured(cell.value) + dagger(cell.shown, cell.row)
    return Marked([(text, "")], cell.shown.identity.id)


def _argued(findings: Findings, paper: Paper) -> tuple[Judgement, str] | None:
    """Find the claim that the paper's own method is better than others, and what is known of it.

    Without one, it is the claim that the method is as good with fewer parameters, say. What is
    known are the logs that authors of other methods had published; without any, the evidence.
    """
    found = []
    for judgement in findings.claims:
        test = paper.tests.get(judgement.claim)
        if isinstance(test, Beats | Rank | Within | Pareto) and test.method in ("", paper.subject):
            of_scores = not isinstance(test, Rank) or test.by == "scores"
            found += [(judgement, test)] if of_scores else []
    if not found:
        return None
    judgement, test = min(found, key=lambda pair: not isinstance(pair[1], Beats | Rank))
    compared = paper.compared(structs.replace(test, metrics=test.metrics[:1]))
    told, _ = by_logs(compared, test.others or compared.others, findings)
    return judgement, told.strip() or judgement.evidence


def _by_method(
    cards: list[dict[str, str]], names: list[str]
) -> list[tuple[str, list[dict[str, str]]]]:
    """Group cards of records by method: those of the paper in its order, then others."""
    groups: dict[str, list[dict[str, str]]] = {name: [] for name in names}
    for card in cards:
        groups.setdefault(card["method"], []).append(card)
    return [(name, group) for name, group in groups.items() if group]


def _other_tables(findings: Findings, pictures: Pictures) -> list[Table]:
    """Make every registered table without a section of its own.

    If a plug-in's code fails, a table with the error takes the place of its table.
    """
    own_sections = ("claims", "results")
    others = [name for name in REPORTS if name not in own_sections and not takes_pictures(name)]
    tables: list[Table] = []

    def place(name: str) -> tuple[bool, bool, str]:
        return name != "differences", not REPORTS.is_built_in(name), name

    for name in sorted(others, key=place):
        try:
            made = make(name, findings, pictures)
            tables += [report for report in made if isinstance(report, Table)]
        except ReportError as error:
            failed = [[name, "failed"]]
            tables.append(Table(name, str(error), ["Report", ""], failed, pd.DataFrame()))
    return tables
