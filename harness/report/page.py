"""Builds the HTML page: verdicts, tables, figures, images, and run records with their commands."""

from __future__ import annotations

import json
import math
import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

import numpy as np
import pandas as pd
from PIL import Image

from harness.paper.claims import judge
from harness.paper.schema import title
from harness.paper.select import choose_runs, foreign_origin
from harness.paper.verdicts import Verdict
from harness.protocol.rules import USUAL_GREY, protocol
from harness.registry import DATASETS, REPORTS, register_report
from harness.report.build import ReportError, contents, make, takes_pictures
from harness.report.crops import CREDITS, Box, Comparison, Pictures, compare, regions
from harness.report.legend import MARKS, TRAINED_HERE, dagger
from harness.report.page_grid import LEGEND, doubts, grids, measured_share
from harness.report.plot import (
    POINT_KINDS,
    SUBJECT,
    LabelBox,
    Point,
    Texts,
    described,
    footnotes,
    is_named,
    key_order,
    label_points,
    links,
    named,
    numbered,
    points,
    room_for,
    short_count,
)
from harness.report.results import results
from harness.report.table import Format, Table, html_rows, templates

if TYPE_CHECKING:
    from harness.cards import ByteArray, GreyRule
    from harness.record import ImageResult, RunRecord


def record_cards(records: Iterable[RunRecord], methods: Mapping[str, str]) -> list[dict[str, Any]]:
    """Collect what the page shows of each record; ``methods`` has the paper's names of models."""
    return [_card(record, methods) for record in records]


def anchor(run: str) -> str:
    """Return the id of the element that shows a record."""
    return f"run-{run[:12]}"


def _card(record: RunRecord, methods: Mapping[str, str]) -> dict[str, Any]:
    identity = record.identity
    ensemble = "+" if identity.self_ensemble else ""
    origin = foreign_origin(record)
    method = f"{identity.model} of {origin}" if origin else methods.get(identity.model)
    name = f"{method or identity.model}{ensemble} on {title(identity.dataset)}"
    content = {key: value for key, value in record.to_json().items() if key != "images"}
    done = record.status == "finished"
    return {
        "id": identity.id,
        "title": f"{name}, {identity.protocol}",
        "scores": _means(record) if done else f"failed: {record.error}",
        "command": command(record),
        "facts": _facts(record),
        # The page draws the scores of the images.
        "text": json.dumps(content, indent=1, ensure_ascii=False),
    }


def _facts(record: RunRecord) -> dict[str, str]:
    identity, weights, provenance = record.identity, record.weights, record.provenance
    pixels = "as published" if record.verified else "not verified against published pixels"
    return {
        "run": identity.id,
        "file": f"x{identity.scale}/{identity.dataset}/{identity.model}-{identity.id[:12]}.json",
        "weights": f"{weights.tag}, {weights.file}" if weights else "none",
        "weights' SHA-256": weights.source_sha256 if weights else "–",
        "test set": f"{identity.dataset}, {len(record.images)} images, {pixels}",
        "test set's SHA-256": identity.dataset_sha256,
        "protocol": identity.protocol,
        "protocol's SHA-256": identity.protocol_sha256,
        "network's SHA-256": identity.source_sha256,
        "made": f"{provenance.get('utc', 'unknown')}, on {record.execution.device}",
    }


def command(record: RunRecord) -> str:
    """Write the ``harness run`` command that repeats a run.

    Raises:
        UsageError: the record names a protocol that this harness does not know.
    """
    identity, weights = record.identity, record.weights
    rules = protocol(identity.protocol)
    from_file = weights is not None and weights.tag == "file"
    model = f"{identity.model}:{weights.tag}" if weights and not from_file else identity.model
    words = ["harness", "run", "--models", model, "--datasets", identity.dataset]
    if weights and from_file:
        words += ["--weights", f"{identity.model}={weights.file}"]
    options = {
        "--scale": (rules.scale, 4),
        "--grey": (rules.grey, USUAL_GREY[rules.pipeline]),
        "--border": (rules.border, "replicate"),
        "--tile": (identity.tile, None),
    }
    for option, (value, default) in options.items():
        if value != default:
            words += [option, str(value)]
    words += ["--self-ensemble"] * identity.self_ensemble + ["--float-lr"] * rules.float_lr
    words += ["--float-y"] * rules.float_y
    if identity.lr_sha256:
        words += ["--lr-images", record.provenance.get("lr_images", "DIR")]
    for metric in identity.metrics[2:]:
        words += ["--metric", metric]
    return shlex.join(words)


def _means(record: RunRecord) -> str:
    means, infinite = record.means, record.infinite.get("psnr")
    left_out = f" ({infinite} infinite left out)" if infinite else ""
    return f"{means['psnr']:.4f} dB{left_out} / {means['ssim']:.6f}"


WIDTH = 960
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 18, 14, 48
_PLANE = 480
_ROW, _LABEL = 34, 116
_LETTER, _LINE = 8.2, 15
"""The approximate width and height of a letter of the names."""


class _Axis(NamedTuple):
    """A linear map from values to positions."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _axis(values: Sequence[float], start: float, end: float, margin: float) -> _Axis:
    low, high = min(values, default=0.0), max(values, default=0.0)
    space = margin * (high - low) or 1.0
    return _Axis(low - space, high + space, start, end)


def _ticks(axis: _Axis, wanted: int) -> list[tuple[float, str]]:
    """Place about ``wanted`` round numbers."""
    rough = (axis.high - axis.low) / wanted
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    decimals = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [(axis.at(i * step), f"{i * step:.{decimals}f}") for i in range(first, last + 1)]


def scatter(drawn: Sequence[Point]) -> dict[str, Any]:
    """Place the points of Figure 5, with the logarithm of the parameters on the x axis."""
    across = _axis([math.log10(p.parameters) for p in drawn], _LEFT, WIDTH - _RIGHT, 0.1)
    height = round(_PLANE * room_for(len(named(drawn))))
    up = _axis([p.psnr for p in drawn], height - _BOTTOM, _TOP, 0.1)
    spots = [(across.at(math.log10(p.parameters)), up.at(p.psnr)) for p in drawn]
    joined = [(spots[start], spots[end]) for start, end in links(drawn)]
    within = LabelBox(_LEFT, _TOP, WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM)
    choices = [Texts(named(drawn), _size, 11, 72), Texts(numbered(drawn), _size, 9, 100)]
    labels = label_points(spots, choices, within, joined)
    by_point = {label.point: label for label in labels}
    decades = range(math.ceil(across.low), math.floor(across.high) + 1)
    return {
        "width": WIDTH,
        "height": height,
        "marks": [
            {"x": x, "y": y, "point": point, "tip": _tip(point), "label": by_point.get(index)}
            for index, (point, (x, y)) in enumerate(zip(drawn, spots, strict=True))
        ],
        "key": [] if is_named(labels, drawn) else [drawn[i].method for i in key_order(drawn)],
        "links": joined,
        "across": [(across.at(power), short_count(10**power)) for power in decades],
        "up": _ticks(up, 6),
    }


def _size(_: int, text: str) -> tuple[float, float]:
    return _LETTER * len(text), _LINE


def _tip(point: Point) -> str:
    size = short_count(point.parameters)
    return f"{point.method}: {size} parameters, {point.psnr:.2f} dB ({POINT_KINDS[point.kind]})"


def distributions(
    chosen: Mapping[tuple[str, str], pd.Series[Any]], methods: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Place the per-image PSNR of every run in a table, set by set.

    Args:
        chosen: the output of `choose_runs`.
        methods: the paper's names of the models, in its order.
    """
    names = [*methods, *sorted({model for model, _ in chosen} - methods.keys())]
    registered = [name for name in DATASETS if any(name == run_set for _, run_set in chosen)]
    sets = [*registered, *sorted({run_set for _, run_set in chosen} - set(registered))]
    return [
        _distribution(
            title(dataset),
            [
                (methods.get(name, name) + dagger(run["record"]), run["record"])
                for name in names
                if (run := chosen.get((name, dataset))) is not None
            ],
        )
        for dataset in sets
    ]


def _distribution(dataset: str, records: Sequence[tuple[str, RunRecord]]) -> dict[str, Any]:
    finite = [
        [one for one in record.images if math.isfinite(one.scores["psnr"])] for _, record in records
    ]
    axis = _axis([one.scores["psnr"] for one in chain(*finite)], _LABEL, WIDTH - _RIGHT, 0.03)
    return {
        "title": dataset,
        "width": WIDTH,
        "height": _TOP + _ROW * len(records) + _BOTTOM,
        "strips": [
            {"run": record.identity.id} | _strip(label, images, axis, _TOP + (row + 0.5) * _ROW)
            for row, ((label, record), images) in enumerate(zip(records, finite, strict=True))
            if images
        ],
        "across": _ticks(axis, 8),
    }


def _strip(label: str, images: Sequence[ImageResult], axis: _Axis, y: float) -> dict[str, Any]:
    """Place a dot for each image, the quartiles, and the mean of the tables."""
    scores = [one.scores["psnr"] for one in images]
    low, middle, high = np.percentile(scores, (25, 50, 75))
    mean = float(np.mean(scores))
    return {
        "label": label,
        "y": y,
        "dots": [
            (
                axis.at(one.scores["psnr"]),
                # Move dots up and down by the golden ratio, so that few cover each other.
                round(y + (index * 0.618034 % 1 - 0.5) * 0.5 * _ROW, 1),
                f"{one.image}: {one.scores['psnr']:.2f} dB / {one.scores['ssim']:.4f}",
            )
            for index, one in enumerate(images)
        ],
        "quartiles": (axis.at(low), axis.at(middle), axis.at(high)),
        "mean": axis.at(mean),
        "said": f"{label}: mean {mean:.2f} dB, half of the {len(images)} images between {low:.2f} "
        f"and {high:.2f} dB",
    }


_DRAWN = ("claims", "table2", "verdicts")
_SIDE = 256
"""Side of the square of an image that the slider shows, in HR pixels."""


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
def page(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, pictures: Pictures
) -> Page:
    """Show verdicts, tables, figures, images and run records in one file.

    Raises:
        HarnessError: there are no runs, or an image cannot be read.
    """
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    printed = results(runs, paper, grey)
    drawn = points(runs, paper, grey)
    judged = judge(runs, paper)
    count = Counter(judgement.verdict for judgement in judged)
    cards = record_cards(runs["record"], methods)
    metrics = grids(printed, runs, paper)
    tables = _other_tables(runs, grey, pictures)
    context = {
        "source": paper["source"],
        "judged": judged,
        "verdicts": {verdict: count[verdict] for verdict in get_args(Verdict)},
        "titles": {card["id"]: card["title"] for card in cards},
        "standings": MARKS,
        "trained_here": TRAINED_HERE,
        "share": measured_share(metrics[0]),
        "caption": printed.caption,
        "grids": metrics,
        "legend": LEGEND,
        "doubts": list(doubts(paper).values()),
        # Rows that each name what they are about can be sorted.
        "tables": [(table, all(row and row[0] for row in table.rows)) for table in tables],
        "html_rows": html_rows,
        "scatter": scatter(drawn),
        "subject": SUBJECT,
        "described": described(drawn),
        "kinds": POINT_KINDS,
        "footnotes": footnotes(runs, paper, grey, drawn),
        "distributions": distributions(choose_runs(runs, paper["table2"]["scale"], grey), methods),
        "looks": _looks(runs, paper, grey, pictures),
        "records": cards,
    }
    return Page(context)


def _other_tables(runs: pd.DataFrame, grey: GreyRule | None, pictures: Pictures) -> list[Table]:
    """Make every registered table except those whose numbers the page draws itself.

    If a plug-in's code fails, a table with the error takes the place of its table.
    """
    names = sorted(REPORTS, key=lambda name: (not REPORTS.is_built_in(name), name))
    tables = []
    for name in names:
        if name in _DRAWN or takes_pictures(name):
            continue
        try:
            report = make(name, runs, grey, pictures)
            if isinstance(report, Table):
                contents(name, report, ["html"])
                tables.append(report)
        except ReportError as error:
            failed = [[name, "failed"]]
            tables.append(Table(name, str(error), ["Report", ""], failed, pd.DataFrame()))
    return tables


def _looks(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, pictures: Pictures
) -> list[dict[str, Any]]:
    """Collect the photographs that may be redistributed and have SR images."""
    all_models = replace(pictures, region=None, models=())
    looks = []
    for region in regions(runs, paper, grey, all_models):
        if credit := CREDITS.get((region.dataset, region.image)):
            comparison = compare(region, runs, paper, grey, all_models)
            if any(panel.pixels is not None for panel in comparison.panels[1:]):
                looks.append(_look(comparison, credit))
    return looks


def _look(comparison: Comparison, credit: str) -> dict[str, Any]:
    box = _around(comparison.box, comparison.hr)
    pictures = [
        (panel.label, panel.scores, _uri(box.cut(panel.pixels)))
        for panel in comparison.panels
        if panel.pixels is not None
    ]
    return {"title": comparison.title, "credit": credit, "pictures": pictures}


def _around(box: Box, hr: ByteArray) -> Box:
    """Take a square around the middle of a box, moved into the image."""
    height, width = hr.shape[:2]
    wide, high = min(_SIDE, width), min(_SIDE, height)
    x = min(max(box.x + (box.width - wide) // 2, 0), width - wide)
    y = min(max(box.y + (box.height - high) // 2, 0), height - high)
    return Box(x, y, wide, high)


def _uri(pixels: ByteArray) -> str:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(stream.getvalue()).decode()}"
