"""Reports on printed tables and their runs: results, verdicts, rules and differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError
from harness.paper.schema import listed, title
from harness.paper.schema import score as score_of
from harness.paper.verdicts import PRINTED_TEXT
from harness.protocol.rules import protocol
from harness.registry import MODELS, register_report
from harness.report.legend import (
    FAILED,
    MARKS,
    MISSING,
    TRAINED_HERE,
    dagger,
    dagger_note,
    grey_note,
    table_name,
    training,
)
from harness.report.table import BEST, Mark, Marked, Table
from harness.run.statistics import spread_over_weights

if TYPE_CHECKING:
    from harness.paper import schema
    from harness.paper.findings import Difference, Findings
    from harness.paper.verdicts import JudgedCell, JudgedRow


@register_report("results")
def results(findings: Findings) -> list[Table]:
    """Report each table of the paper: printed value, measured value and difference for every cell.

    Without a paper, it is one table of all networks and sets that have runs.

    Raises:
        HarnessError: there are no runs.
    """
    if not any(record.status == "finished" for record in findings.runs.get("record", ())):
        raise HarnessError(
            "There are no finished runs to report: make some with harness run and name their "
            "folder with --results, or accept them with harness accept."
        )
    shown = [(table, rows_of(findings, table)) for table in findings.tables]
    return [_without_one_scale(_results(findings, *one)) for one in shown if one[1]]


def each_table(
    findings: Findings, name: str, make: Callable[[Findings, schema.Table], Table]
) -> list[Table]:
    """Make a report of each table of the paper, unless it has no rows.

    Args:
        findings: the paper and its runs.
        name: the reports' name, which the table's id follows if the paper has several tables.
        make: makes one. If it has a column Scale, that is left out where all rows have the same.
    """
    tables = findings.paper.tables if findings.paper else ()
    made = [(table.id, _without_one_scale(make(findings, table))) for table in tables]
    several = len(tables) > 1
    return [replace(one, name=f"{name}-{id}" if several else name) for id, one in made if one.rows]


def _without_one_scale(table: Table) -> Table:
    """Leave out the columns of scales if there is only one scale."""
    if len(set(table.tidy.get("scale", ()))) > 1 or "Scale" not in table.headers:
        return table
    place = list(table.headers).index("Scale")
    headers, *rows = ([*row[:place], *row[place + 1 :]] for row in (table.headers, *table.rows))
    tidy = table.tidy.drop(columns="scale", errors="ignore")
    return replace(table, headers=headers, rows=rows, tidy=tidy)


def rows_of(findings: Findings, table: schema.Table) -> list[JudgedRow]:
    """Return the rows of a table that print a number or have a run to show."""
    return [
        row
        for row in findings.rows
        if row.row.table is table
        and (row.row.printed or any(cell.shown or cell.failed for cell in row.cells))
    ]


def _results(findings: Findings, table: schema.Table, judged: Sequence[JudgedRow]) -> Table:
    headers = ["Method", "Scale", "Pipeline", "", *map(title, table.columns)]
    tidy = pd.DataFrame([_facts(cell) for row in judged for cell in row.cells])
    marks = {} if findings.paper else _marks(judged)
    lines: list[list[str]] = []
    for row in judged:
        names = [row.row.method, f"x{row.row.scale}", pipeline(row)]
        sets = [list(cells) for _, cells in groupby(row.cells, lambda cell: cell.dataset)]
        if findings.paper:
            lines += [
                [*names, "printed", *map(_printed, sets)],
                ["", "", "", "measured", *(_measured(cells, marks) for cells in sets)],
                ["", "", "", "difference", *map(_difference, sets)],
            ]
        else:
            lines.append([*names, *(_measured(cells, marks) for cells in sets)])
    if not findings.paper:
        headers.remove("")
        tidy = tidy.drop(columns=["printed", "difference"])
    return Table(table.id, _caption(findings, table, judged), headers, lines, tidy)


def pipeline(row: JudgedRow) -> str:
    """Name the pipeline of a row's network; that of its runs if its plug-in is not loaded."""
    if row.row.model in MODELS:
        return MODELS.get(row.row.model).pipeline
    names = {cell.shown.identity.protocol for cell in row.cells if cell.shown}
    return "/".join(sorted(protocol(name).pipeline for name in names))


def _printed(cells: Sequence[JudgedCell]) -> str:
    texts = ["-" if c.printed is None else c.score.as_printed(c.printed) for c in cells]
    return "/".join(texts)


Shown = tuple[int, str, str, str]
"""A number as it is shown: scale, set, metric and text."""


def _shown(cell: JudgedCell) -> Shown:
    text = "-" if cell.value is None else cell.score.as_measured(cell.value)
    return cell.row.scale, cell.dataset, cell.metric, text


def _marks(rows: Sequence[JudgedRow]) -> dict[Shown, Mark]:
    """Mark the two best numbers of each scale, set and metric that several rows have.

    They are PSNR and SSIM, of which more is better: a table of runs alone has no other scores.
    """
    columns: dict[tuple[int, str, str], list[Shown]] = {}
    for row in rows:
        for cell in row.cells:
            if cell.value is not None:
                columns.setdefault(_shown(cell)[:3], []).append(_shown(cell))
    marks: tuple[Mark, Mark] = ("best", "second")
    return {
        number: mark
        for numbers in columns.values()
        if len(numbers) > 1
        for number, mark in zip(sorted(set(numbers), key=_by_value), marks, strict=False)
    }


def _by_value(number: Shown) -> float:
    return -float(number[-1])


def _measured(cells: Sequence[JudgedCell], marks: Mapping[Shown, Mark]) -> str:
    run = cells[0].shown
    if run is None:
        return FAILED if cells[0].failed else MISSING
    parts: list[tuple[str, Mark]] = []
    for number in map(_shown, cells):
        parts += [("/", ""), (number[-1], marks.get(number, ""))]
    return Marked([*parts[1:], (max(dagger(cell.shown or run) for cell in cells), "")])


def _difference(cells: Sequence[JudgedCell]) -> str:
    gaps = [(cell.difference, cell.score.measured) for cell in cells]
    texts = ["-" if gap is None else f"{gap:+.{decimals}f}" for gap, decimals in gaps]
    return "/".join(texts) if any(text != "-" for text in texts) else ""


def _place(cell: JudgedCell) -> dict[str, Any]:
    """Collect the columns that every CSV begins with."""
    place = {"model": cell.model, "scale": cell.row.scale, "dataset": cell.dataset}
    return place | {"metric": cell.metric, "printed": cell.printed}


def _facts(cell: JudgedCell) -> dict[str, Any]:
    """Collect a number and the facts needed to check it."""
    run, value, gap = cell.shown, cell.value, cell.difference
    weights, either = run and run.weights, run or cell.failed
    return _place(cell) | {
        "measured": None if value is None else round(value, 6),
        "difference": None if gap is None else round(gap, 6),
        "status": "measured" if run else FAILED if either else cell.obstacle or MISSING,
        "protocol": run.identity.protocol if run else "",
        "weights": weights.tag if weights else "",
        "training": training(run) if run else "",
        "weights_file_sha256": weights.source_sha256 if weights else "",
        "verified_images": run.verified if run else "",
        "run": either.identity.id if either else MISSING,
    }


def _caption(findings: Findings, table: schema.Table, rows: Sequence[JudgedRow]) -> str:
    paper = findings.paper
    cells = [cell for row in rows for cell in row.cells]
    runs = [cell.shown for cell in cells if cell.shown]
    scales = sorted({row.row.scale for row in rows})
    border = table.border if table.border is not None or len(scales) > 1 else scales[0]
    width = "as many pixels as the scale" if border is None else f"{border} pixels"
    is_bicubic = table.degradation == "BI"
    made = "bicubic degradation, MATLAB imresize" if is_bicubic else table.degradation
    scores = [score_of(metric, digits).title for metric, digits in table.scores.items()]
    what = (
        f"{' / '.join(scores)} at {listed([f'x{scale}' for scale in scales])} ({made}, "
        f"luma, border of {width} left out)"
    )
    if paper:
        about = f'{table_name(table)} of "{paper.source.title}": {what}, printed and measured; '
        about += f"{_share(cells)}.{_obstacles(cells)}"
    else:
        about = f"{what} of every network that ran. {BEST}"
    text = (
        f"{about} Pipeline y: luma degraded in double, compared in uint8; pipeline rgb: colour "
        "degraded in uint8, float luma compared; rows of different pipelines do not compare "
        f"exactly. {grey_note(findings.rules, table)}."
    )
    if note := dagger_note(runs, paper.names if paper else {}):
        text += f" {note}"
    unverified = sorted({run.identity.dataset for run in runs if not run.verified})
    if unverified:
        text += f" Not verified against published pixels: {', '.join(unverified)}."
    return text


def measured_share(cells: Iterable[JudgedCell]) -> tuple[int, int, int]:
    """Count the printed cells: those measured, those with other weights than the authors', all."""
    leading = [cell for cell in cells if cell.metric == next(iter(cell.row.table.scores))]
    printed = [cell for cell in leading if cell.printed is not None]
    runs = [cell.shown for cell in printed if cell.shown]
    return len(runs), sum(bool(dagger(run)) for run in runs), len(printed)


def _share(cells: Sequence[JudgedCell]) -> str:
    """State how many printed cells are measured, and with which weights."""
    measured, retrained, printed = measured_share(cells)
    text = f"{measured} of {printed} printed cells are measured"
    if retrained:
        text += f", {retrained} of them with other weights than the authors' ({TRAINED_HERE})"
    failed = {cell.failed.identity.id for cell in cells if cell.failed and cell.printed is not None}
    return text + (f", the runs of {len(failed)} failed" if failed else "")


def _obstacles(cells: Iterable[JudgedCell]) -> str:
    """Say why some printed numbers cannot be measured, as a sentence after another."""
    reasons = dict.fromkeys(cell.obstacle for cell in cells if cell.obstacle)
    return f" What cannot be measured: {'; '.join(reasons)}." if reasons else ""


@register_report("verdicts")
def verdicts(findings: Findings) -> list[Table]:
    """Report every printed number of each table with its verdict.

    The grey rule is ignored: a number counts as reproduced under any rule in use.
    """
    return each_table(findings, "verdicts", _verdicts)


def _verdicts(findings: Findings, table: schema.Table) -> Table:
    lines = []
    for row in findings.rows:
        if row.row.table is table and row.row.printed:
            names = [row.row.method, f"x{row.row.scale}"]
            for metric in table.scores:
                lines.append([*names, metric.upper(), *map(_verdict, row.of(metric))])
                names = ["", ""]
    cells = [cell for cell in findings.cells if cell.row.table is table]
    count = Counter(cell.standing for cell in cells)
    legend = ", ".join(f"{mark} {standing} ({count[standing]})" for standing, mark in MARKS.items())
    failed = sum(bool(cell.broken) for cell in cells)
    caption = (
        f"Every number of {table_name(table)} as printed, with its verdict: {legend}. Reproduced: "
        f"measured with the authors' weights within {PRINTED_TEXT}, or reached with others "
        f"({TRAINED_HERE}), which cannot refute a number; the report rules names the other rules. "
        "Inconsistent in print: it contradicts other printed numbers. Undecided: measured and not "
        "reproduced, but with other weights, or not under every rule in use. Runs that failed: "
        f"{failed or 'none'}.{_obstacles(cells)}"
    )
    headers = ["Method", "Scale", "", *map(title, table.columns)]
    return Table("verdicts", caption, headers, lines, pd.DataFrame(map(_verdict_facts, cells)))


def _verdict(cell: JudgedCell) -> str:
    """Write a number as printed, with its mark."""
    if cell.printed is None or cell.standing is None:
        return "-"
    mark = dagger(cell.measured.run) if cell.measured else ""
    failed = f" {FAILED}" if cell.broken else ""
    return f"{cell.score.as_printed(cell.printed)} {MARKS[cell.standing]}{mark}{failed}"


def _verdict_facts(cell: JudgedCell) -> dict[str, Any]:
    one = cell.measured
    run = one.run if one else cell.broken
    return _place(cell) | {
        "measured": round(one.value, 6) if one else None,
        "rules": one.rules_text if one else "",
        "training": training(one.run) if one else "",
        "verdict": cell.verdict,
        "remark": cell.doubt.reason if cell.doubt else "",
        "status": "measured" if one else FAILED if run else cell.obstacle or MISSING,
        "run": run.identity.id if run else MISSING,
    }


@register_report("rules")
def rules(findings: Findings) -> list[Table]:
    """Report each printed number that was measured, with its value under every rule that ran.

    The grey rule is ignored: all rules are shown.
    """
    return each_table(findings, "rules", _rules)


def _rules(findings: Findings, table: schema.Table) -> Table:
    cells = [cell for cell in findings.cells if cell.row.table is table and cell.options]
    lines, facts = [], []
    for cell in cells:
        names = [cell.row.method, f"x{cell.row.scale}", title(cell.dataset), cell.metric.upper()]
        for one in cell.options:
            pipeline = f"pipeline {protocol(one.run.identity.protocol).pipeline}"
            fact = {
                "rules": ", ".join([pipeline, *one.rules]),
                "measured": round(one.value, 6),
                "agrees": cell.agrees(one),
                "run": one.run.identity.id,
            }
            value = cell.score.as_measured(one.value)
            lines.append([*names, _printed([cell]), fact["rules"], value, fact["agrees"]])
            facts.append(_place(cell) | fact)
    agreeing = sum(any(map(cell.agrees, cell.options)) for cell in cells)
    caption = (
        f"{table_name(table)} under the rules in use, with the authors' weights where they exist: "
        f"of {len(cells)} printed numbers that were measured, {agreeing} agree within "
        f"{PRINTED_TEXT} under one at least. "
        "Grey images as-rgb: scored on the luma of their RGB copy. LR images not rounded: made in "
        "double from RGB. Luma not rounded: that of the HR image and of the output is compared in "
        "double. SSIM of the whole image: edges continued, as MATLAB's ssim has it, "
        "instead of windows inside the image only."
    )
    headers = ["Method", "Scale", "Set", "", "Printed", "Rules", "Measured", "Agrees"]
    return Table("rules", caption, headers, lines, pd.DataFrame(facts))


@register_report("differences")
def differences(findings: Findings) -> list[Table]:
    """Report differences between rows of each table with their intervals over the images."""
    return each_table(findings, "differences", _differences)


def _differences(findings: Findings, table: schema.Table) -> Table:
    models = {row.row.method: row.row.key for row in findings.rows}
    pairs = findings.differences(table)
    facts = [_difference_facts(pair, models) for pair in pairs]
    headers = [
        *("Set", "Scale", "Methods", "Printed (dB)", "Measured (dB)", "95% interval"),
        *("Interval contains 0", "Printed inside interval", "Half-width (dB)"),
        "Printed / half-width",
    ]
    lines = list(map(_difference_line, pairs, facts))
    caption = _differences_caption(findings, table)
    return Table("differences", caption, headers, lines, pd.DataFrame(facts).round(4))


def _difference_facts(pair: Difference, models: Mapping[str, str]) -> dict[str, Any]:
    one, width = pair.interval, pair.half_width
    return {
        "dataset": pair.dataset,
        "scale": pair.scale,
        "better": models[pair.better],
        "worse": models[pair.worse],
        "printed": pair.printed,
        "measured": one and one.difference,
        "low": one and one.low,
        "high": one and one.high,
        # The images cannot decide which of the two is better.
        "contains_zero": one and one.low <= 0 <= one.high,
        "contains_printed": one and one.low <= pair.printed <= one.high,
        "half_width": width,
        # Up to 1, the choice of images may explain the printed difference.
        "share": abs(pair.printed) / width if width else None,
    }


def _difference_line(pair: Difference, facts: Mapping[str, Any]) -> list[Any]:
    one, width, share = pair.interval, pair.half_width, facts["share"]
    typical = "" if one else " (typical)"
    return [
        *(title(pair.dataset), f"x{pair.scale}", f"{pair.better} over {pair.worse}"),
        f"{pair.printed:+.2f}",
        f"{one.difference:+.3f}" if one else MISSING,
        f"{one.low:+.3f} to {one.high:+.3f}" if one else "",
        facts["contains_zero"],
        facts["contains_printed"],
        MISSING if width is None else f"{width:.3f}{typical}",
        "" if share is None else f"{share:.2f}",
    ]


def _differences_caption(findings: Findings, table: schema.Table) -> str:
    spreads = [
        f"{one.identity.model} on {title(one.identity.dataset)} {one.mean:.3f} dB, sd "
        f"{one.sd:.3f} dB ({one.count} weights)"
        for one in spread_over_weights(findings.runs)
    ]
    seeds = (
        f"Over trainings that differ in their seed: {'; '.join(spreads)}."
        if spreads
        else "No network was run with weights that differ in their seed alone."
    )
    return (
        f"Differences of PSNR between rows of {table_name(table)}, as printed and as measured with "
        "the authors' weights, with the 95% interval of a paired bootstrap over the images (10,000 "
        "resamples, seed 0), which is too narrow for sets of as few as five images: methods that "
        "are neighbours by printed PSNR among those measured, then the pairs that the paper argues "
        "from. Those that were not measured stand beside the median half-width of the set, which "
        "is narrower for methods that are alike. An interval that contains 0 leaves open which "
        "method is better; a printed difference below the half-width is within what the choice of "
        "images does. Rows that follow different grey rules are compared on colour images alone. "
        f"{seeds} {grey_note(findings.rules, table)}."
    )
