"""The rows of Table 2 as claims: do they hold when they are measured again?"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from harness.data.pinned import pinned_rows
from harness.paper.budgets import budget_of
from harness.paper.cells import judge_cells
from harness.paper.judgement import Finding, Judgement, listed, title
from harness.paper.measured import measurements, speaks_for_the_authors, under
from harness.paper.scores import SCORES, Score
from harness.paper.tolerances import PRINTED
from harness.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.paper.cells import Cell
    from harness.paper.judgement import Evidence, Verdict
    from harness.record import RunRecord


def judge_rows(evidence: Evidence) -> tuple[Judgement, ...]:
    """One judgement for each row of Table 2."""
    rows = groupby(judge_cells(evidence), key=lambda cell: cell.model)
    return tuple(_row(evidence, model, list(cells)) for model, cells in rows)


def row_verdict(evidence: Evidence, model: str) -> Verdict:
    """What has become of one row of Table 2."""
    return next(one.verdict for one in judge_rows(evidence) if one.claim == _claim(model))


def _claim(model: str) -> str:
    return f"table2-{model}"


def _row(evidence: Evidence, model: str, cells: Sequence[Cell]) -> Judgement:
    row = evidence.table2[model]
    numbers = ", ".join(
        f"{title(name)} {'/'.join(map(Score.as_printed, SCORES.values(), row[name]))}"
        for name in evidence.sets
        if name in row
    )
    found = [cell.measured for cell in cells if cell.measured]
    runs = {one.run.identity.id: one.run for one in found}
    if not runs:
        finding = _not_run(model, cells)
    elif all(map(speaks_for_the_authors, runs.values())):
        finding = _measured_again(cells, _one_set_of_rules(evidence, cells))
    else:
        finding = _trained_here(cells, list(runs.values()))
    return Judgement(
        _claim(model),
        f"{row['method']}: {numbers}",
        "Table 2",
        finding.verdict,
        finding.evidence,
        finding.runs or tuple(runs),
    )


def _not_run(model: str, cells: Sequence[Cell]) -> Finding:
    broken = {cell.dataset: cell.broken for cell in cells if cell.broken}
    if not broken:
        return Finding("not measured", _how_to_measure(model))
    reasons = [f"on {title(name)} ({run.error.rstrip('.')})" for name, run in broken.items()]
    ids = tuple(run.identity.id for run in broken.values())
    return Finding("not measured", f"Its run failed {listed(reasons)}.", ids)


def _how_to_measure(model: str) -> str:
    if model not in MODELS:
        return "The harness has no network of this name: add one as a plug-in."
    if any(row["model"] == model for row in pinned_rows("weights")):
        return (
            f"Put the authors' weights under a root of HARNESS_WEIGHTS and run harness run "
            f"--models {model}."
        )
    return (
        f"No authors' weights of it are known to the harness: train it (harness train {model}) or "
        f"name a file (harness run --weights {model}=FILE)."
    )


def _one_set_of_rules(evidence: Evidence, cells: Sequence[Cell]) -> str:
    """The rules under which more of a row agrees than under the default ones; empty if none are.

    Where each number may have rules of its own, some would agree by chance.
    """
    found = [measurements(evidence, cell.model, cell.dataset, cell.metric) for cell in cells]

    def gaps(rules: tuple[str, ...]) -> list[tuple[str, float]]:
        pairs = [(cell, under(many, rules)) for cell, many in zip(cells, found, strict=True)]
        far = [(cell.metric, abs(one.value - cell.printed)) for cell, one in pairs if one]
        return [(metric, gap) for metric, gap in far if gap <= PRINTED.of(metric)]

    def fit(rules: tuple[str, ...]) -> tuple[int, float]:
        return len(gaps(rules)), -sum(gap / PRINTED.of(metric) for metric, gap in gaps(rules))

    best = max(sorted({one.rules for many in found for one in many}), key=fit)
    if len(gaps(best)) == len(gaps(())):
        return ""
    most: dict[str, float] = {}
    for metric, gap in sorted(gaps(best), key=lambda entry: entry[1]):
        most[metric] = gap
    within = [
        f"{name.upper()} {SCORES[name].as_measured(most[name])}" for name in SCORES if name in most
    ]
    return (
        f"under one set of rules ({', '.join(best)}) {len(gaps(best))} do, the farthest "
        f"{listed(within)} off"
    )


def _measured_again(cells: Sequence[Cell], together: str) -> Finding:
    """With the authors' weights, or without any.

    Args:
        cells: of the row.
        together: what one set of rules gives, if it is more than the default rules do.
    """
    measured = [cell for cell in cells if cell.measured is not None]
    agree = [cell for cell in measured if cell.verdict == "reproduced"]
    off = [cell for cell in measured if cell.verdict != "reproduced"]
    weights = any(cell.measured and cell.measured.run.weights for cell in measured)
    how = "With the authors' weights" if weights else "Computed again"
    said = (
        f"{how}, {len(agree)} of "
        f"{len(measured)} numbers on {_sets(measured)} agree within {PRINTED.psnr:g} dB / "
        f"{PRINTED.ssim:g}"
    )
    elsewhere: dict[str, list[str]] = {}
    for cell in agree:
        if cell.measured and cell.measured.rules:
            elsewhere.setdefault(cell.measured.said, []).append(_name(cell))
    if elsewhere:
        rules = [f"{listed(names)} under {rule}" for rule, names in elsewhere.items()]
        said += f" ({'; '.join(rules)})"
    said += f"; {together}" if together else ""
    if off:
        said += f"; outside: {listed([_gap(cell) for cell in off])}"
    for word, some in (
        ("Not measured", [cell for cell in cells if not (cell.measured or cell.broken)]),
        ("Failed", [cell for cell in cells if cell.broken]),
    ):
        said += f". {word}: {_sets(some)}" if some else ""
    refuted = any(cell.verdict == "refuted" for cell in off)
    return Finding("refuted" if refuted else "reproduced", f"{said}.")


def _trained_here(cells: Sequence[Cell], runs: Sequence[RunRecord]) -> Finding:
    """With weights that were trained by someone else."""
    measured = [cell for cell in cells if cell.measured is not None and cell.metric == "psnr"]
    scores = [
        f"{cell.measured.value:.2f} of {cell.printed:.2f} dB on {title(cell.dataset)}"
        for cell in measured
        if cell.measured
    ]
    budgets = listed(sorted({str(budget_of(run)) for run in runs}))
    said = f"With weights trained here ({budgets}) it gives {listed(scores)}"
    if all(cell.verdict == "reproduced" for cell in measured):
        return Finding("reproduced", f"{said}.")
    return Finding("not measured", f"{said}; weights trained with less cannot refute the row.")


def _sets(cells: Sequence[Cell]) -> str:
    return listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))


def _name(cell: Cell) -> str:
    return f"{cell.metric.upper()} of {title(cell.dataset)}"


def _gap(cell: Cell) -> str:
    one, score = cell.measured, SCORES[cell.metric]
    rules = f" ({one.said})" if one and one.rules else ""
    value = score.as_measured(one.value) if one else ""
    return f"{_name(cell)} {value} for {score.as_printed(cell.printed)}{rules}"
