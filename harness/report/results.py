"""Reports on Table 2, printed and measured: the numbers, their verdicts, rules and differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from math import nan
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError, MismatchError
from harness.paper.schema import SCORES, Score, method_names, suspicious, title
from harness.paper.select import (
    Measurement,
    broken_runs,
    choose_runs,
    finished,
    measurements,
    speaks_for_the_authors,
)
from harness.paper.statistics import Interval, compare_runs, spread_over_weights
from harness.paper.tolerances import PRINTED, PRINTED_TEXT
from harness.paper.verdicts import Evidence, JudgedCell, judge_cells
from harness.protocol.rules import protocol
from harness.registry import DATASETS, MODELS, register_report
from harness.report.legend import (
    FAILED,
    MARKS,
    MISSING,
    TRAINED_HERE,
    dagger,
    dagger_note,
    grey_note,
    training,
)
from harness.report.table import Table, plain_table, readable

if TYPE_CHECKING:
    from harness.cards import DatasetCard, GreyRule
    from harness.record import RunRecord


@register_report("table2")
def results(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Report Table 2: printed value, measured value and difference for every cell.

    Raises:
        HarnessError: there are no runs.
    """
    if finished(runs).empty:
        raise HarnessError(
            "There are no finished runs to report: make some with harness run and name their "
            "folder with --results, or accept them with harness accept."
        )
    scale = paper["table2"]["scale"]
    columns = [card for card in map(DATASETS.get, DATASETS) if card.column]
    chosen, broken = choose_runs(runs, scale, grey), broken_runs(runs, scale, grey)
    printed = {row["model"]: row for row in paper["table2"]["rows"]}
    others = sorted({model for model, _ in [*chosen, *broken] if model not in printed})
    numbers: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for model in [*printed, *others]:
        row = printed.get(model, {})
        cells = [_cell(model, card, row, chosen, broken) for card in columns]
        numbers += cells
        pipeline = MODELS.get(model).pipeline if model in MODELS else _pipeline_of(cells)
        pairs = (_pair(cell["printed"], Score.as_printed) for cell in cells)
        rows += [
            [row.get("method", model), pipeline, "printed", *pairs],
            ["", "", "measured", *map(_measured, cells)],
            ["", "", "difference", *map(_gap, cells)],
        ]
    tidy = pd.DataFrame([number for cell in numbers for number in _tidy(cell)])
    headers = ["Method", "Pipeline", "", *(card.title for card in columns)]
    records = [cell["record"] for cell in numbers if cell["run"] is not None]
    return Table("table2", _caption(paper, scale, grey, tidy, records), headers, rows, tidy)


def _cell(
    model: str,
    card: DatasetCard,
    printed: Mapping[str, Any],
    chosen: Mapping[tuple[str, str], pd.Series[Any]],
    broken: Mapping[tuple[str, str], RunRecord],
) -> dict[str, Any]:
    """Collect the printed and measured values of a model on a set, or its failed run."""
    run = chosen.get((model, card.name))
    return {
        "model": model,
        "dataset": card.name,
        "printed": printed.get(card.name),
        "measured": None if run is None else [float(run[name]) for name in SCORES],
        "run": run,
        "record": broken.get((model, card.name)) if run is None else run["record"],
    }


def _measured(cell: Mapping[str, Any]) -> str:
    if cell["measured"] is None:
        return FAILED if cell["record"] else MISSING
    return _pair(cell["measured"], Score.as_measured) + dagger(cell["record"])


def _gap(cell: Mapping[str, Any]) -> str:
    if not (cell["printed"] and cell["measured"]):
        return ""
    gaps = zip(SCORES.values(), cell["measured"], cell["printed"], strict=True)
    return "/".join(f"{m - p:+.{score.measured}f}" for score, m, p in gaps)


def _pipeline_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """Read the pipeline of a model from its runs, when its plug-in is not loaded."""
    names = {cell["run"]["protocol"] for cell in cells if cell["run"] is not None}
    return "/".join(sorted(protocol(name).pipeline for name in names))


def _pair(values: Sequence[float] | None, write: Callable[[Score, float], str]) -> str:
    return "/".join(map(write, SCORES.values(), values)) if values else "-/-"


def _tidy(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make a row for each metric, with the facts needed to check the number."""
    run, record = cell["run"], cell["record"]
    facts: dict[str, Any] = dict.fromkeys(
        ("protocol", "weights", "training", "weights_file_sha256", "verified_images"), ""
    )
    if run is not None:
        facts |= {"protocol": run["protocol"], "weights": run["tag"], "training": training(record)}
        facts["weights_file_sha256"] = run["weights_file_sha256"]
        facts["verified_images"] = bool(run["verified"])
    unknown = (nan, nan)
    values = zip(SCORES, cell["printed"] or unknown, cell["measured"] or unknown, strict=True)
    return [
        {
            "model": cell["model"],
            "dataset": cell["dataset"],
            "metric": metric,
            "printed": printed,
            "measured": round(measured, 6),
            "difference": round(measured - printed, 6),
            "status": "measured" if run is not None else FAILED if record else MISSING,
            **facts,
            "run": record.identity.id if record else MISSING,
        }
        for metric, printed, measured in values
    ]


def _caption(
    paper: Mapping[str, Any],
    scale: int,
    grey: GreyRule | None,
    tidy: pd.DataFrame,
    records: Sequence[RunRecord],
) -> str:
    methods = method_names(paper)
    unverified = tidy.loc[tidy["verified_images"] == False, "dataset"].unique()  # noqa: E712
    text = (
        f'Table 2 of "{paper["source"]["title"]}": PSNR in dB / SSIM at x{scale} (bicubic '
        f"degradation, MATLAB imresize, luma, border of {scale} pixels left out), printed and "
        f"measured; {_share(tidy)}. Pipeline y: luma degraded in double, compared in uint8; "
        "pipeline rgb: colour degraded in uint8, float luma compared; rows of different pipelines "
        f"do not compare exactly. {grey_note(grey)} (--grey shows all rows under one rule)."
    )
    if note := dagger_note(records, methods):
        text += f" {note}"
    stand_ins = {card.name: card.stand_in for card in map(MODELS.get, MODELS) if card.stand_in}
    measured = set(tidy.loc[tidy["measured"].notna(), "model"])
    for model, smaller in stand_ins.items():
        if smaller in measured and model not in measured:
            text += f" {model} has no weights here; {smaller}, in a row of its own, is no "
            text += "measure of it."
    if len(unverified):
        text += f" Not verified against published pixels: {', '.join(sorted(unverified))}."
    return text


def _share(tidy: pd.DataFrame) -> str:
    """State how many printed cells are measured, and with which weights."""
    printed = tidy[(tidy["metric"] == "psnr") & tidy["printed"].notna()]
    measured = printed[printed["status"] == "measured"]
    retrained, failed = (measured["training"] != "").sum(), (printed["status"] == FAILED).sum()
    text = f"{len(measured)} of {len(printed)} printed cells are measured"
    if retrained:
        text += f", {retrained} of them with other weights than the authors' ({TRAINED_HERE})"
    return text + (f", the runs of {failed} failed" if failed else "")


def _infinite(record: RunRecord, metric: str) -> str:
    """State how many images a mean leaves out because their score is infinite."""
    count = record.infinite.get(metric)
    return f" ({count} infinite)" if count else ""


def summary(records: Sequence[RunRecord]) -> str:
    """Write the summary table of ``harness run``: one line per run."""
    rows = []
    computed = (name for record in records for name in record.identity.metrics)
    metrics = list(dict.fromkeys((*SCORES, *computed)))
    for record in records:
        identity, means = record.identity, record.means
        done = record.status == "finished"
        label = identity.model + ("+" if identity.self_ensemble else "")
        scores = [
            f"{readable(means.get(name))}{_infinite(record, name)}" if done else FAILED
            for name in metrics
        ]
        tag = record.weights.tag if record.weights else "-"
        rules = identity.protocol + ", given LR" * bool(identity.lr_sha256)
        rows.append([label, identity.dataset, len(record.images), *scores, rules, tag])
    titles = ["PSNR (dB)", *(name.upper() for name in metrics[1:])]
    headers = ["model", "dataset", "images", *titles, "protocol", "weights"]
    align = ("left", "left", *("right",) * (1 + len(metrics)), "left", "left")
    return plain_table(headers, rows, align)


@register_report("verdicts")
def verdicts(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Report every printed number of Table 2 with its verdict.

    The grey rule is ignored: a number counts as reproduced under any rule in use.
    """
    evidence = Evidence(runs, paper)
    cells = {(cell.model, cell.dataset, cell.metric): cell for cell in judge_cells(evidence)}
    rows = [
        [row["method"] if metric == "psnr" else "", metric.upper()]
        + [_verdict_text(cells.get((model, name, metric))) for name in evidence.sets]
        for model, row in evidence.table2.items()
        for metric in SCORES
    ]
    headers = ["Method", "", *map(title, evidence.sets)]
    remarks = {key: doubted["reason"] for key, doubted in suspicious(paper).items()}
    tidy = pd.DataFrame([_verdict_row(cell, remarks.get(key, "")) for key, cell in cells.items()])
    return Table("verdicts", _verdicts_caption(cells.values()), headers, rows, tidy)


def _verdict_text(cell: JudgedCell | None) -> str:
    """Write a number as printed, with its mark."""
    if cell is None:
        return "-"
    mark = dagger(cell.measured.run) if cell.measured else ""
    failed = f" {FAILED}" if cell.broken else ""
    return f"{SCORES[cell.metric].as_printed(cell.printed)} {MARKS[cell.standing]}{mark}{failed}"


def _verdict_row(cell: JudgedCell, remark: str) -> dict[str, Any]:
    one = cell.measured
    run = one.run if one else cell.broken
    return {
        "model": cell.model,
        "dataset": cell.dataset,
        "metric": cell.metric,
        "printed": cell.printed,
        "measured": round(one.value, 6) if one else None,
        "rules": one.rules_text if one else "",
        "training": training(one.run) if one else "",
        "verdict": cell.verdict,
        "remark": remark,
        "status": "measured" if one else FAILED if cell.broken else MISSING,
        "run": run.identity.id if run else MISSING,
    }


def _verdicts_caption(cells: Collection[JudgedCell]) -> str:
    count = Counter(cell.standing for cell in cells)
    legend = ", ".join(f"{mark} {standing} ({count[standing]})" for standing, mark in MARKS.items())
    failed = sum(bool(cell.broken) for cell in cells)
    return (
        f"Every number of Table 2 as printed, with its verdict: {legend}. Reproduced: measured "
        f"with the authors' weights within {PRINTED_TEXT}, or reached with others "
        f"({TRAINED_HERE}), which cannot refute a number; under the default rules, or under others "
        "in use, which the report rules names. Inconsistent in print: it contradicts other printed "
        f"numbers. Runs that failed: {failed or 'none'}."
    )


_CELL = ["model", "dataset", "metric"]
_RULES = [*_CELL, "printed", "rules", "measured", "agrees", "run"]


@register_report("rules")
def rules(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Report each printed number that was measured, with its value under every rule that ran.

    The grey rule is ignored: both rules are shown.
    """
    del grey
    evidence = Evidence(runs, paper)
    facts = [fact for cell in judge_cells(evidence) for fact in _rules_row(evidence, cell)]
    tidy = pd.DataFrame(facts, columns=_RULES)
    rows = [_rules_line(evidence, cell) for _, cell in tidy.groupby(_CELL, sort=False)]
    headers = ["Method", "Set", "", "Printed", "Measured", "Agrees under"]
    return Table("rules", _rules_caption(tidy), headers, rows, tidy)


def _rules_row(evidence: Evidence, cell: JudgedCell) -> list[dict[str, Any]]:
    # Bicubic has one name per pipeline; the paper does not say which pipeline it used.
    names = (cell.model, "bicubic-rgb") if cell.model == "bicubic" else (cell.model,)
    return [
        {
            "model": cell.model,
            "dataset": cell.dataset,
            "metric": cell.metric,
            "printed": cell.printed,
            "rules": _rules_text(one),
            "measured": round(one.value, 6),
            "agrees": abs(one.value - cell.printed) <= PRINTED.of(cell.metric),
            "run": one.run.identity.id,
        }
        for name in names
        for one in measurements(evidence.candidates, name, cell.dataset, cell.metric)
    ]


def _rules_text(one: Measurement) -> str:
    return ", ".join([f"pipeline {protocol(one.run.identity.protocol).pipeline}", *one.rules])


def _rules_line(evidence: Evidence, cell: pd.DataFrame) -> list[str]:
    first = cell.iloc[0]
    score = SCORES[first["metric"]]
    measured = [
        f"{score.as_measured(value)} ({rules})"
        for value, rules in zip(cell["measured"], cell["rules"], strict=True)
    ]
    agreeing = list(cell.loc[cell["agrees"], "rules"])
    return [
        evidence.table2[first["model"]]["method"],
        title(first["dataset"]),
        first["metric"].upper(),
        score.as_printed(first["printed"]),
        "; ".join(measured),
        "; ".join(agreeing) or "none",
    ]


def _rules_caption(tidy: pd.DataFrame) -> str:
    agreeing = tidy.groupby(_CELL)["agrees"].any()
    return (
        "Table 2 under the rules in use, with the authors' weights where they exist: each printed "
        f"number that was measured, and the rules under which it agrees within {PRINTED_TEXT}; "
        f"{agreeing.sum()} of {len(agreeing)} agree under one at least. "
        "Grey images as-rgb: scored on the luma of their RGB copy. LR images not rounded: made in "
        "double from RGB. Luma not rounded: that of the HR image and of the output is compared in "
        "double. SSIM of the whole image: edges continued, as MATLAB's ssim has it, "
        "instead of windows inside the image only."
    )


ARGUED = (("drfn", "msrn"), ("rdn", "drfn"))
"""Pairs that the paper compares in its text."""
_ANSWERS = {True: "yes", False: "no", None: ""}


@register_report("differences")
def differences(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None
) -> Table:
    """Report differences between rows of Table 2 with their intervals over the images."""
    evidence = Evidence(runs, paper)
    facts = [one for name in evidence.sets for one in _on_set(evidence, name, grey)]
    headers = [
        *("Set", "Methods", "Printed (dB)", "Measured (dB)", "95% interval"),
        *("Interval contains 0", "Printed inside interval", "Half-width (dB)"),
        "Printed / half-width",
    ]
    rows = [_difference_line(fact, evidence) for fact in facts]
    tidy = pd.DataFrame(facts).round(4)
    return Table("differences", _differences_caption(runs, grey), headers, rows, tidy)


def _on_set(evidence: Evidence, dataset: str, grey: GreyRule | None) -> list[dict[str, Any]]:
    """Compare neighbours by printed PSNR among the measured rows, then the pairs of `ARGUED`."""
    runs: dict[str, RunRecord] = {}
    for model, row in evidence.table2.items():
        run = evidence.run(model, dataset, grey)
        if run and dataset in row and speaks_for_the_authors(run):
            runs[model] = run
    ordered = sorted(runs, key=lambda model: -evidence.table2[model][dataset][0])
    pairs = [(pair, _interval(runs, *pair)) for pair in pairwise(ordered)]
    widths = [interval.half_width for _, interval in pairs if interval]
    typical = median(widths) if widths else None
    measured = [
        _difference(evidence, dataset, *pair, interval, interval.half_width if interval else None)
        for pair, interval in pairs
    ]
    return measured + [
        _difference(evidence, dataset, *pair, None, typical)
        for pair in ARGUED
        if not set(pair) <= runs.keys()
    ]


def _interval(runs: Mapping[str, RunRecord], better: str, worse: str) -> Interval | None:
    """Measure a difference; None where the two runs cannot be compared."""
    try:
        return compare_runs(runs[better], runs[worse])
    except MismatchError:
        return None


def _difference(
    evidence: Evidence,
    dataset: str,
    better: str,
    worse: str,
    interval: Interval | None,
    half_width: float | None,
) -> dict[str, Any]:
    """Collect what is known of the difference between two rows of Table 2 on one set, in dB.

    The interval is None where the two runs cannot be compared or one is missing. The half-width is
    the interval's, or the set's typical one; None where nothing was measured.
    """
    rows = evidence.table2
    printed = round(rows[better][dataset][0] - rows[worse][dataset][0], 2)
    return {
        "dataset": dataset,
        "better": better,
        "worse": worse,
        "printed": printed,
        "measured": interval and interval.difference,
        "low": interval and interval.low,
        "high": interval and interval.high,
        # The images cannot decide which of the two is better.
        "contains_zero": interval and interval.low <= 0 <= interval.high,
        "contains_printed": interval and interval.low <= printed <= interval.high,
        "half_width": half_width,
        # Up to 1, the choice of images may explain the printed difference.
        "share": abs(printed) / half_width if half_width else None,
    }


def _difference_line(fact: Mapping[str, Any], evidence: Evidence) -> list[str]:
    methods = [str(evidence.table2[fact[name]]["method"]) for name in ("better", "worse")]
    measured, half_width, share = fact["measured"], fact["half_width"], fact["share"]
    width = MISSING if half_width is None else f"{half_width:.3f}"
    return [
        title(fact["dataset"]),
        " over ".join(methods),
        f"{fact['printed']:+.2f}",
        MISSING if measured is None else f"{measured:+.3f}",
        "" if measured is None else f"{fact['low']:+.3f} to {fact['high']:+.3f}",
        _ANSWERS[fact["contains_zero"]],
        _ANSWERS[fact["contains_printed"]],
        width + (" (typical)" if measured is None and half_width is not None else ""),
        "" if share is None else f"{share:.2f}",
    ]


def _differences_caption(runs: pd.DataFrame, grey: GreyRule | None) -> str:
    spreads = [
        f"{one.identity.model} on {title(one.identity.dataset)} {one.mean:.3f} dB, sd "
        f"{one.sd:.3f} dB ({one.count} weights)"
        for one in spread_over_weights(runs)
    ]
    seeds = (
        f"Over trainings that differ in their seed: {'; '.join(spreads)}."
        if spreads
        else "No network was run with several weights: what the seed does is not known."
    )
    return (
        "Differences of PSNR between rows of Table 2, as printed and as measured with the authors' "
        "weights, with the 95% interval of a paired bootstrap over the images (10,000 resamples, "
        "seed 0): methods that are neighbours by printed PSNR among those measured, then the pairs "
        "that the paper argues from, beside the median half-width of the set. An interval that "
        "contains 0 leaves open which method is better; a printed difference below the half-width "
        "is within what the choice of images does. Of pairs that were not measured only their "
        "share of the median is known: methods that are more alike have narrower intervals. A "
        "bootstrap over as few images as the five of Set5 gives intervals that are too narrow. "
        "Rows that follow different grey rules are compared on colour images alone. "
        f"{seeds} {grey_note(grey)}."
    )
