"""A verdict for every number of Table 2, for its rows, and for the variants of Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.data.pinned import pinned_rows
from harness.paper.findings import Evidence
from harness.paper.schema import SCORES, Score, listed, title
from harness.paper.select import (
    Measurement,
    measurements,
    speaks_for_the_authors,
    training_notes,
    under,
)
from harness.paper.statistics import ablations
from harness.paper.tolerances import PRINTED
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.record import RunRecord


Verdict = Literal["reproduced", "refuted", "inconsistent in print", "not measured"]
"""``reproduced``: the evidence agrees; ``refuted``: it does not; ``inconsistent in print``: printed
numbers contradict each other; ``not measured``: evidence is missing, or cannot decide."""


@dataclass(frozen=True)
class Judgement:
    """A claim of the paper and what has become of it.

    Attributes:
        claim: short key, such as ``parameters``.
        statement: the paper's words or numbers.
        where: section or table.
        verdict: see `Verdict`.
        evidence: one to three sentences with the figures.
        runs: ids of the run records that the evidence rests on.
    """

    claim: str
    statement: str
    where: str
    verdict: Verdict
    evidence: str
    runs: tuple[str, ...] = ()


class Finding(NamedTuple):
    """A verdict before it is put beside the claim."""

    verdict: Verdict
    evidence: str
    runs: tuple[str, ...] = ()


CellStatus = Literal[
    "reproduced",
    "reproduced under other rules",
    "refuted",
    "inconsistent in print",
    "not measured",
]
"""What has become of a printed number."""


@dataclass(frozen=True)
class JudgedCell:
    """A printed number and what was measured.

    Attributes:
        model, dataset, metric: where it stands.
        printed: as printed.
        measured: the measurement that speaks for it: of those that agree the one with the fewest
            departures from the default rules; where none agrees, the nearest.
        verdict: weights trained here can reproduce a number by reaching it, and cannot refute it.
        broken: the run that broke, where none is finished.
    """

    model: str
    dataset: str
    metric: str
    printed: float
    measured: Measurement | None
    verdict: Verdict
    broken: RunRecord | None = None

    @property
    def standing(self) -> CellStatus:
        """The verdict, and whether it rests on other rules than the default."""
        elsewhere = self.verdict == "reproduced" and self.measured and self.measured.rules
        return "reproduced under other rules" if elsewhere else self.verdict


def judge_cells(evidence: Evidence) -> tuple[JudgedCell, ...]:
    """Every printed number of Table 2, row by row."""
    return tuple(
        _cell(evidence, model, dataset, metric, row[dataset][place])
        for model, row in evidence.table2.items()
        for dataset in evidence.sets
        if dataset in row
        for place, metric in enumerate(SCORES)
    )


def _cell(evidence: Evidence, model: str, dataset: str, metric: str, printed: float) -> JudgedCell:
    doubtful = (model, dataset, metric) in evidence.misprints
    fallback: Verdict = "inconsistent in print" if doubtful else "not measured"
    found = measurements(evidence.candidates, model, dataset, metric)
    if not found:
        broken = evidence.broken.get((model, dataset))
        return JudgedCell(model, dataset, metric, printed, None, fallback, broken)

    def agrees(one: Measurement) -> bool:
        return abs(one.value - printed) <= PRINTED.of(metric)

    nearest = min(found, key=lambda one: abs(one.value - printed))
    best = next(filter(agrees, found), nearest)
    own = not speaks_for_the_authors(best.run)
    if agrees(best) or (own and best.value > printed and not doubtful):
        verdict: Verdict = "reproduced"
    else:
        verdict = fallback if own or doubtful else "refuted"
    return JudgedCell(model, dataset, metric, printed, best, verdict)


def judge_table1(evidence: Evidence) -> dict[str, Verdict]:
    """The verdict for each variant of Table 1.

    The whole network contradicts Table 2; the others are reached by weights trained here, or not.
    """
    table = evidence.paper["table1"]
    printed = dict(zip(table["readings"][0]["variants"], table["psnr"], strict=True))
    tried = [
        (variant, measured.psnr(variant))
        for measured in ablations(evidence.runs, evidence.paper)
        for variant in measured.runs
    ]
    reached = {name for name, psnr in tried if psnr >= printed[name] - PRINTED.psnr}
    found: dict[str, Verdict] = {
        name: "reproduced" if name in reached else "not measured" for name in printed
    }
    return found | {"both": "inconsistent in print"}


def judge_rows(evidence: Evidence) -> tuple[Judgement, ...]:
    """One judgement for each row of Table 2."""
    rows = groupby(judge_cells(evidence), key=lambda cell: cell.model)
    return tuple(_row(evidence, model, list(cells)) for model, cells in rows)


def row_verdict(evidence: Evidence, model: str) -> Verdict:
    """What has become of one row of Table 2."""
    return next(one.verdict for one in judge_rows(evidence) if one.claim == _claim(model))


def _claim(model: str) -> str:
    return f"table2-{model}"


def _row(evidence: Evidence, model: str, cells: Sequence[JudgedCell]) -> Judgement:
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


def _not_run(model: str, cells: Sequence[JudgedCell]) -> Finding:
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


def _one_set_of_rules(evidence: Evidence, cells: Sequence[JudgedCell]) -> str:
    """The rules under which more of a row agrees than under the default ones; empty if none are.

    Where each number may have rules of its own, some would agree by chance.
    """
    found = [
        measurements(evidence.candidates, cell.model, cell.dataset, cell.metric) for cell in cells
    ]

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


def _measured_again(cells: Sequence[JudgedCell], together: str) -> Finding:
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


def _trained_here(cells: Sequence[JudgedCell], runs: Sequence[RunRecord]) -> Finding:
    """With weights that were trained by someone else."""
    measured = [cell for cell in cells if cell.measured is not None and cell.metric == "psnr"]
    scores = [
        f"{cell.measured.value:.2f} of {cell.printed:.2f} dB on {title(cell.dataset)}"
        for cell in measured
        if cell.measured
    ]
    budgets = listed(sorted({str(training_notes(run)) for run in runs}))
    said = f"With weights trained here ({budgets}) it gives {listed(scores)}"
    if all(cell.verdict == "reproduced" for cell in measured):
        return Finding("reproduced", f"{said}.")
    return Finding("not measured", f"{said}; weights trained with less cannot refute the row.")


def _sets(cells: Sequence[JudgedCell]) -> str:
    return listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))


def _name(cell: JudgedCell) -> str:
    return f"{cell.metric.upper()} of {title(cell.dataset)}"


def _gap(cell: JudgedCell) -> str:
    one, score = cell.measured, SCORES[cell.metric]
    rules = f" ({one.said})" if one and one.rules else ""
    value = score.as_measured(one.value) if one else ""
    return f"{_name(cell)} {value} for {score.as_printed(cell.printed)}{rules}"
