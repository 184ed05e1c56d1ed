"""Reports on printed tables and their runs: results, rules, literature and differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError
from harness.models.find_weights import training_notes
from harness.models.published import weights_label
from harness.paper.literature import Elsewhere, elsewhere, logged, measured_as, official
from harness.paper.schema import SCORES, score, title
from harness.paper.verdicts import tolerance_text
from harness.protocol.rules import protocol
from harness.registry import MODELS, register_report
from harness.report.legend import (
    FAILED,
    MARKS,
    MISSING,
    PLACE,
    PUBLISHED,
    TRAINED_HERE,
    Shown,
    dagger,
    dagger_note,
    grey_note,
    place,
    place_facts,
    table_name,
)
from harness.report.table import BEST, Lines, Note, Table, each_table
from harness.run.statistics import spread_over_weights
from harness.text import Marked, listed

if TYPE_CHECKING:
    from harness.paper import schema
    from harness.paper.findings import Findings
    from harness.paper.select import Measurement
    from harness.paper.verdicts import JudgedCell, JudgedRow


@register_report("results")
def results(findings: Findings) -> list[Table]:
    """Report each table of the paper: printed number with its verdict, measured one, difference.

    Without a paper, it is one table of all networks and sets that have runs.

    Raises:
        HarnessError: there are no runs.
    """
    if not any(record.status == "finished" for record in findings.runs.get("record", ())):
        raise HarnessError(
            "There are no finished runs to report: make some with harness run and name their "
            "folder with --results, or accept them with harness accept."
        )
    made = []
    for table in findings.tables:
        rows = [row for row in findings.rows if row.row.table is table and _has_numbers(row)]
        made += [_results(findings, table, rows)] if rows else []
    return made


def _has_numbers(row: JudgedRow) -> bool:
    return bool(row.row.printed) or any(cell.following for cell in row.cells)


def _results(findings: Findings, table: schema.Table, judged: Sequence[JudgedRow]) -> Table:
    headers = ["Method", "Scale", "Pipeline", "", *map(title, table.columns)]
    cells = [cell for row in judged for cell in row.cells]
    tidy = pd.DataFrame(map(_facts, cells))
    if findings.paper:
        rows = [[*_names(row), *_lines(row)] for row in judged]
        logs = dict.fromkeys(found.log for cell in cells if (found := logged(cell)))
        notes = [Note(log.name, log.note, [f"From {log.source}."]) for log in logs]
    else:
        numbers = (_number(cell) for cell in cells if cell.value is not None)
        best = best_two(numbers)
        rows = [[*_names(row), *(_measured(of, best) for of in _by_set(row))] for row in judged]
        headers.remove("")
        tidy = tidy.drop(columns=["printed", "difference", "verdict", "remark", "log", "log_of"])
        notes = []
    caption = _caption(findings, table, cells)
    return Table(table.id, caption, headers, rows, tidy, notes, title=table.title)


def _lines(row: JudgedRow) -> Iterator[Lines]:
    """Yield the names of a row's lines, then the lines of each set; few rows have a log."""
    has_log = any(map(logged, row.cells))
    yield Lines(["printed", "measured", "difference"] + ["authors' log"] * has_log)
    for cells in _by_set(row):
        logs = [_logged(cells)] * has_log
        yield Lines([_printed(cells), _measured(cells, {}), _difference(cells), *logs])


def _names(row: JudgedRow) -> list[str]:
    return [row.row.method, f"x{row.row.scale}", pipeline_of(row)]


def _by_set(row: JudgedRow) -> Iterator[list[JudgedCell]]:
    """Yield the cells of each set."""
    return (list(cells) for _, cells in groupby(row.cells, lambda cell: cell.dataset))


def pipeline_of(row: JudgedRow) -> str:
    """Name the pipeline of a row's network; that of its runs if its plug-in is not loaded."""
    if row.row.model in MODELS:
        return MODELS.get(row.row.model).pipeline
    names = {cell.shown.identity.protocol for cell in row.cells if cell.shown}
    return "/".join(sorted({protocol(name).pipeline for name in names}))


def _printed(cells: Sequence[JudgedCell]) -> Marked:
    """Write the printed numbers of a set with the marks of their verdicts."""
    parts = []
    for cell in cells:
        parts += [("/", ""), (cell.printed_text, "")]
        parts += [(f" {MARKS[cell.standing]}", cell.standing)] if cell.standing else []
    more = " ".join(dict.fromkeys(filter(None, map(explained, cells))))
    return Marked(parts[1:], more=more)


def explained(cell: JudgedCell) -> str:
    """Say under which other rules a number holds, what looks wrong, and where else it is printed.

    Empty if there is nothing to say.
    """
    other = cell.measured if cell.standing != cell.verdict else None
    # For example: Measured under grey images as-rgb: 28.181.
    value = cell.score.as_measured(other.value) if other else ""
    rules = f"Measured under {other.rules_text}: {value}." if other else ""
    reason = cell.doubt.reason if cell.doubt else ""
    text = " ".join(filter(None, [rules, reason, elsewhere_text(cell)]))
    return f"{cell.metric.upper()}: {text}" if text else ""


Number = tuple[int, str, str, str]
"""A number as it is shown: scale, set, metric and text."""


def _number(cell: JudgedCell) -> Number:
    text = "-" if cell.value is None else cell.score.as_measured(cell.value)
    return cell.row.scale, cell.dataset, cell.metric, text


def best_two(numbers: Iterable[Number]) -> dict[Number, str]:
    """Mark the two best numbers of each scale, set and metric that has several.

    Of other metrics than PSNR and SSIM it is not known whether more is better.
    """
    marks: dict[Number, str] = {}
    of_scores = sorted(number for number in numbers if number[2] in SCORES)
    for _, column in groupby(of_scores, lambda number: number[:3]):
        known = list(column)
        ordered = sorted(set(known), key=lambda number: float(number[-1]), reverse=True)
        marks |= zip(ordered, ("best", "second"), strict=False) if len(known) > 1 else ()
    return marks


def _measured(cells: Sequence[JudgedCell], marks: Mapping[Number, str]) -> str:
    """Write the measured numbers of a set."""
    if failed := cells[0].failed:
        return Marked([(FAILED, "")], failed.identity.id)
    runs = [cell.shown for cell in cells if cell.shown]
    if not runs:
        return MISSING
    parts = []
    for number in map(_number, cells):
        parts += [("/", ""), (number[-1], marks.get(number, ""))]
    mark = max(dagger(run, cells[0].row) for run in runs)
    return Marked([*parts[1:], (mark, "")], runs[0].identity.id)


def _logged(cells: Sequence[JudgedCell]) -> str:
    """Write the means of the authors' log on a set; HTML unfolds the scores of its images."""
    if not (found := logged(cells[0])):
        return ""

    def written(scores: Mapping[str, float]) -> str:
        texts = [(cell.score.as_measured, scores.get(cell.metric)) for cell in cells]
        return "/".join("-" if value is None else write(value) for write, value in texts)

    images = ", ".join(f"{image.called} {written(image.scores)}" for image in found.images)
    more = f"{found.log}: {images}. {found.log.note}"
    return Marked([(f"{written(found.means)} log", "")], more=more)


def _difference(cells: Sequence[JudgedCell]) -> str:
    gaps = [(cell.difference, cell.score.measured) for cell in cells]
    texts = ["-" if gap is None else f"{gap:+.{decimals}f}" for gap, decimals in gaps]
    return "/".join(texts) if any(text != "-" for text in texts) else ""


def _facts(cell: JudgedCell) -> dict[str, Any]:
    """Collect a number and the facts needed to check it."""
    value, gap = cell.value, cell.difference
    run = None if value is None else cell.shown  # the run that is shown may lack this metric
    weights, either = run and run.weights, run or cell.failed
    mark = dagger(run, cell.row) if run else ""
    log = logged(cell)
    digits = max(6, cell.score.measured + 2)
    return place_facts(cell) | {
        "measured": None if value is None else round(value, digits),
        "difference": None if gap is None else round(gap, digits),
        "verdict": cell.standing or "",
        "remark": cell.doubt.reason if cell.doubt else "",
        "status": "measured" if run else FAILED if either else cell.obstacle or MISSING,
        "protocol": run.identity.protocol if run else "",
        "weights": weights_label(run) if run else "",
        "training": str(training_notes(run)) if run and mark == TRAINED_HERE else "",
        "weights_file_sha256": weights.source_sha256 if weights else "",
        "verified_images": run.verified if run else "",
        "run": either.identity.id if either else MISSING,
        "log": log and log.means.get(cell.metric),
        "log_of": str(log.log) if log else "",
    }


def _caption(findings: Findings, table: schema.Table, cells: Sequence[JudgedCell]) -> str:
    shown = [Shown(cell.row.method, cell.row, cell.shown) for cell in cells if cell.shown]
    scores = " / ".join(score(metric, digits).title for metric, digits in table.scores.items())
    scales = [f"x{scale}" for scale in sorted({cell.row.scale for cell in cells})]
    names = {"BI": "bicubic degradation, MATLAB imresize"}
    made = names.get(table.degradation, table.degradation)
    width = "as many pixels as the scale" if table.border is None else f"{table.border} px"
    text = f"{scores} at {listed(scales)} ({made}, luma, border of {width} left out)"
    if findings.paper:
        name = f'{table_name(table)} of "{findings.paper.source.title}"'
        text = f"{name}: {text}, printed and measured; {measured_share(cells)}."
        if reasons := dict.fromkeys(cell.obstacle for cell in cells if cell.obstacle):
            text += f" What cannot be measured: {'; '.join(reasons)}."
        text += f" {_legend(cells)}"
        if any(map(logged, cells)):
            text += " Log: the mean of what the authors published image by image; no verdict."
    else:
        text += f" of every network that ran. {BEST[len(scales) > 1]}"
    text += (
        " Pipeline y: luma, degraded in double and compared in uint8; rgb: colour, degraded in "
        f"uint8 and compared in float luma. {grey_note(findings.rules, table)}."
    )
    if note := dagger_note(shown):
        text += f" {note}"
    if colour := sorted({cell.metric.upper() for cell in cells if _is_on_rgb(cell)}):
        text += f" On RGB instead of luma: {', '.join(colour)}."
    if unverified := sorted({one.run.identity.dataset for one in shown if not one.run.verified}):
        text += f" Not verified against published pixels: {', '.join(unverified)}."
    return text


def _is_on_rgb(cell: JudgedCell) -> bool:
    return bool(cell.shown and cell.shown.plugins.get(cell.metric, {}).get("on") == "rgb")


def _legend(cells: Iterable[JudgedCell]) -> str:
    """Explain the marks of verdicts, and count them."""
    cells = list(cells)
    count = Counter(cell.standing for cell in cells)
    marks = ", ".join(f"{mark} {standing} ({count[standing]})" for standing, mark in MARKS.items())
    return (
        f"Verdicts: {marks}. Reproduced: within {tolerance_text(cells)} with the authors' weights "
        "or images, or reached with others, under the table's rules or others in use (each number "
        "by itself: a few may agree by chance). Inconsistent in print: it contradicts other "
        "printed numbers. Undecided: measured, but not with the authors' weights or images under "
        "every combination of the rules in use."
    )


def measured_share(cells: Iterable[JudgedCell], of: str = "") -> str:
    """State how many printed cells (``of`` which tables) are measured, and with which weights."""
    leading = [cell for cell in cells if cell.metric == next(iter(cell.row.table.scores))]
    printed = [cell for cell in leading if cell.printed is not None]
    marks = Counter(dagger(cell.shown, cell.row) for cell in printed if cell.shown)
    text = f"{marks.total()} of {len(printed)} printed cells{of} are measured"
    if retrained := marks[TRAINED_HERE]:
        text += f", {retrained} of them with other weights than the authors' ({TRAINED_HERE})"
    if published := marks[PUBLISHED]:
        text += f", {published} of them on published SR images ({PUBLISHED})"
    return text


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
        for one in cell.options:
            pipeline = f"pipeline {protocol(one.run.identity.protocol).pipeline}"
            fact = {
                "rules": ", ".join([pipeline, *one.rules]),
                "measured": round(one.value, 6),
                "agrees": cell.agrees(one),
                "run": one.run.identity.id,
            }
            value = cell.score.as_measured(one.value)
            lines.append([*place(cell), fact["rules"], value, fact["agrees"]])
            facts.append(place_facts(cell) | fact)
    agreeing = sum(any(map(cell.agrees, cell.options)) for cell in cells)
    caption = (
        f"{table_name(table)} under the rules in use, with the authors' weights or images where "
        "they exist: "
        f"of {len(cells)} printed numbers that were measured, {agreeing} agree within "
        f"{tolerance_text(cells)} under one at least. "
        "Grey images as-rgb: scored on the luma of their RGB copy. LR images not rounded: made in "
        "double from RGB. Luma not rounded: that of the HR image and of the output is compared in "
        "double. SSIM of the whole image: edges continued, as MATLAB's ssim has it, "
        "instead of windows inside the image only."
    )
    headers = [*PLACE, "Rules", "Measured", "Agrees"]
    heading = "Which rules give each number"
    return Table("rules", caption, headers, lines, pd.DataFrame(facts), title=heading)


@register_report("literature")
def literature(findings: Findings) -> list[Table]:
    """Report the numbers of each table of the paper that other documents print, too."""
    return each_table(findings, "literature", _literature)


def _literature(findings: Findings, printed: schema.Table) -> Table:
    cells = [cell for cell in findings.cells if cell.row.table is printed]
    known = [(cell, found) for cell in cells if (found := elsewhere(cell))]
    same = sum(any(one.same for one in found) for _, found in known)
    again = sum(bool(official(cell)) for cell, _ in known)
    reached = sum(bool(_reached(cell, found)) for cell, found in known)
    own = sum(_own(cell) is not None for cell, _ in known)
    documents = {f"{one.source.name} ({one.source.where})" for _, found in known for one in found}
    caption = (
        f"{len(known)} of the {len(cells)} numbers of {table_name(printed)} stand in other public "
        f"documents as well, {same} of them in the same digits in at least one. Documents other "
        f"than of a method's authors copy from papers. {again} were measured with the authors' "
        f"weights or images, or without any: {reached} round to a value in print, {own} to the "
        "paper's, under some rules in use, which are named if not the table's own. "
        f"Documents: {'; '.join(sorted(documents))}."
    )
    headers = [*PLACE, "Printed elsewhere", "Measured", "Rounds to"]
    facts = [_literature_facts(cell, one) for cell, found in known for one in found]
    rows = [_literature_row(cell, found) for cell, found in known]
    heading = "The same numbers in other documents"
    return Table("literature", caption, headers, rows, pd.DataFrame(facts), title=heading)


def _literature_row(cell: JudgedCell, found: Sequence[Elsewhere]) -> list[str]:
    first = next(iter(official(cell)), None)
    return [
        *place(cell),
        "; ".join(map(str, found)),
        _with_rules(cell.score.as_measured(first.value), first) if first else "",
        "; ".join(_reached(cell, found)),
    ]


def _own(cell: JudgedCell) -> Measurement | None:
    return measured_as(cell, cell.printed or 0.0, cell.score)


def _reached(cell: JudgedCell, found: Sequence[Elsewhere]) -> list[str]:
    """List the values in print that a measurement rounds to, the paper's first."""
    values = {cell.printed_text: _own(cell)} | {one.text: one.reached for one in found}
    return [_with_rules(text, one) for text, one in values.items() if one]


def _with_rules(text: str, one: Measurement) -> str:
    """Add the rules of a measurement that differ from the table's, in brackets."""
    return f"{text} ({one.rules_text})" if one.rules else text


def _literature_facts(cell: JudgedCell, one: Elsewhere) -> dict[str, Any]:
    shown = one.reached or next(iter(official(cell)), None)
    return place_facts(cell) | {
        "elsewhere": one.text,
        "document": one.source.where,
        "authors_of": one.source.authors_of,
        "same": one.same,
        "measured": shown and round(shown.value, 6),
        "rules": shown and shown.rules_text,
        "rounds_to_elsewhere": shown and shown is one.reached,
        "run": shown and shown.run.identity.id,
    }


def elsewhere_text(cell: JudgedCell) -> str:
    """Say where else a number is printed, and to which of the values a measurement rounds.

    Empty for a number that no other document prints.
    """
    if not (found := elsewhere(cell)):
        return ""
    text = f"Also printed as {listed([*map(str, found)])}."
    if official(cell):
        text += f" Measured values round to {listed(_reached(cell, found)) or 'none of these'}."
    return text


@register_report("differences")
def differences(findings: Findings) -> list[Table]:
    """Report differences between rows of each table with their intervals over the images."""
    return each_table(findings, "differences", _differences)


def _differences(findings: Findings, table: schema.Table) -> Table:
    keys = {row.row.method: row.row.key for row in findings.rows}
    lines, facts = [], []
    for pair in findings.differences(table):
        one, width = pair.interval, pair.half_width
        names = [title(pair.dataset), f"x{pair.scale}", f"{pair.better} over {pair.worse}"]
        half = MISSING if width is None else f"{width:.3f}" + " (typical)" * (one is None)
        lines.append([*names, f"{pair.printed:+.2f}", str(one or MISSING), half])
        fact = asdict(pair) | {"better": keys[pair.better], "worse": keys[pair.worse]}
        measured = fact.pop("interval") or {}
        facts.append(fact | measured)
    caption = _differences_caption(findings, table)
    headers = ["Set", "Scale", "Methods", "Printed (dB)", "Measured (dB)", "Half-width (dB)"]
    tidy = pd.DataFrame(facts).rename(columns={"difference": "measured"})
    heading = "Differences and their intervals"
    return Table("differences", caption, headers, lines, tidy.round(4), title=heading)


def _differences_caption(findings: Findings, table: schema.Table) -> str:
    spreads = [
        f"{one.identity.model} on {title(one.identity.dataset)} {one.mean:.3f} dB, sd "
        f"{one.sd:.3f} dB ({one.count} weights)"
        for one in spread_over_weights(findings.runs)
    ]
    seeds = f" Over trainings that differ in their seed: {'; '.join(spreads)}." if spreads else ""
    return (
        f"Differences of PSNR (dB) between rows of {table_name(table)}, as printed and as measured "
        "with the authors' weights or images, with the 95% interval of a paired bootstrap over the "
        "images (10,000 resamples, seed 0), which is too narrow for sets of as few as five images: "
        "neighbours by printed PSNR among those measured, then the pairs that the paper argues "
        "from. Beside those that were not measured stands the median half-width of the set. An "
        "interval that contains 0 leaves open which method is better; a printed difference below "
        "the half-width is within what the choice of images does. Rows that follow different grey "
        "rules are compared on colour images alone."
        f"{seeds} {grey_note(findings.rules, table)}."
    )
