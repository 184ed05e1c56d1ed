"""A verdict for each number and row of Table 2 and each variant of Table 1, and its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from harness.cards import GreyRule, ModelCard
from harness.data.pinned import pinned_rows
from harness.models.cost import (
    Complexity,
    Depth,
    convolution_shapes,
    measure_complexity,
    measure_depth,
    receptive_radius,
)
from harness.paper.schema import SCORES, Score, listed, suspicious, title
from harness.paper.select import (
    Measurement,
    broken_runs,
    candidates,
    choose_runs,
    measured_under,
    measurements,
    speaks_for_the_authors,
    training_notes,
)
from harness.paper.statistics import ablations
from harness.paper.tolerances import PRINTED
from harness.registry import MODELS

if TYPE_CHECKING:
    import pandas as pd

    from harness.record import RunRecord


@dataclass(frozen=True)
class Evidence:
    """The evidence for judging claims: the printed numbers, the runs, the networks.

    Attributes:
        runs: the output of `Records.table`.
        paper: the output of `harness.paper.schema.paper`.

    The methods that count on a network raise `UsageError` if none is registered under the name.
    """

    runs: pd.DataFrame
    paper: Mapping[str, Any]

    @property
    def scale(self) -> int:
        """The factor of the paper's tables."""
        return int(self.paper["table2"]["scale"])

    @cached_property
    def table2(self) -> dict[str, Mapping[str, Any]]:
        """The rows of Table 2 by model."""
        return {row["model"]: row for row in self.paper["table2"]["rows"]}

    @property
    def sets(self) -> list[str]:
        """The columns of Table 2."""
        return [name for name in self.table2["bicubic"] if name not in ("method", "model")]

    @cached_property
    def misprints(self) -> frozenset[tuple[str, str, str]]:
        """Cells of Table 2 that contradict other printed numbers: model, set and metric."""
        cells = suspicious(self.paper).items()
        return frozenset(key for key, cell in cells if cell["seen"] == "print")

    def number(self, key: str) -> float:
        """Return a number from the paper's running text."""
        return float(self.paper["numbers"][key]["value"])

    @cached_property
    def _chosen(self) -> dict[tuple[bool, GreyRule | None], dict[tuple[str, str], pd.Series[Any]]]:
        rules = (None, *get_args(GreyRule))
        return {
            (ensemble, grey): choose_runs(self.runs, self.scale, grey, self_ensemble=ensemble)
            for ensemble in (False, True)
            for grey in rules
        }

    def run(
        self, model: str, dataset: str, grey: GreyRule | None = None, *, self_ensemble: bool = False
    ) -> RunRecord | None:
        """Return the best run of a model on a set, or None; see `Rules` for ``grey``."""
        row = self._chosen[self_ensemble, grey].get((model, dataset))
        return None if row is None else row["record"]

    @cached_property
    def candidates(self) -> dict[tuple[str, str], list[RunRecord]]:
        """See `harness.paper.select.candidates`."""
        return candidates(self.runs, self.scale)

    @cached_property
    def broken(self) -> dict[tuple[str, str], RunRecord]:
        """Failed runs, by model and set, where none is finished under any rule."""
        return broken_runs(self.runs, self.scale, "every")

    def complexity(self, model: str) -> Complexity:
        """Count the size and work of a network."""
        return _once(measure_complexity, MODELS.get(model), self.scale)

    def depth(self, model: str) -> Depth:
        """Count the layers of a network."""
        return _once(measure_depth, MODELS.get(model), self.scale)

    def receptive_radius(self, model: str) -> int:
        """Count the LR pixels to each side that convolutions can carry to an output pixel."""
        card = MODELS.get(model)
        pixels = _once(receptive_radius, card, self.scale)
        return -(-pixels * card.input_scale(self.scale) // self.scale)

    def convolutions(self, model: str) -> Counter[tuple[int, int, int]]:
        """Count the convolutions of a network by input width, output width and kernel side."""
        return Counter(_once(convolution_shapes, MODELS.get(model), self.scale))


@cache
def _once(count: Callable[..., Any], card: ModelCard, scale: int) -> Any:
    """Count once per process: counting takes half a second if the cache on disk has no result."""
    return count(card, scale, {})


Verdict = Literal["reproduced", "refuted", "inconsistent in print", "not measured"]
"""``reproduced``: the evidence agrees; ``refuted``: it does not; ``inconsistent in print``: printed
numbers contradict each other; ``not measured``: evidence is missing or not conclusive."""


@dataclass(frozen=True)
class Judgement:
    """A claim of the paper and its verdict.

    Attributes:
        claim: short key, such as ``parameters``.
        statement: the paper's words or numbers.
        where: section or table.
        verdict: see `Verdict`.
        evidence: one to three sentences with the figures.
        runs: ids of the run records used as evidence.
    """

    claim: str
    statement: str
    where: str
    verdict: Verdict
    evidence: str
    runs: tuple[str, ...] = ()


class Finding(NamedTuple):
    """A verdict with its evidence, not yet joined with its claim."""

    verdict: Verdict
    evidence: str
    runs: tuple[str, ...] = ()


CellStatus = Literal[
    "reproduced", "reproduced under other rules", "refuted", "inconsistent in print", "not measured"
]
"""The verdict on a printed number; see `JudgedCell.standing`."""


@dataclass(frozen=True)
class JudgedCell:
    """A printed number and its measurement.

    Attributes:
        model, dataset, metric: its place in Table 2.
        printed: as printed.
        measured: among the measurements that agree, the one whose rules differ least from the
            default ones; the nearest if none agrees.
        verdict: weights trained here can reproduce a number by reaching it, but cannot refute it.
        broken: the failed run, where none is finished.
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
        """The verdict, and whether it depends on other rules than the default ones."""
        other_rules = self.verdict == "reproduced" and self.measured and self.measured.rules
        return "reproduced under other rules" if other_rules else self.verdict


def judge_cells(evidence: Evidence) -> tuple[JudgedCell, ...]:
    """Judge every printed number of Table 2, row by row."""
    return tuple(
        _cell(evidence, model, dataset, metric, row[dataset][place])
        for model, row in evidence.table2.items()
        for dataset in evidence.sets
        if dataset in row
        for place, metric in enumerate(SCORES)
    )


def _cell(evidence: Evidence, model: str, dataset: str, metric: str, printed: float) -> JudgedCell:
    misprint = (model, dataset, metric) in evidence.misprints
    fallback: Verdict = "inconsistent in print" if misprint else "not measured"
    options = measurements(evidence.candidates, model, dataset, metric)
    if not options:
        broken = evidence.broken.get((model, dataset))
        return JudgedCell(model, dataset, metric, printed, None, fallback, broken)

    def agrees(one: Measurement) -> bool:
        return abs(one.value - printed) <= PRINTED.of(metric)

    nearest = min(options, key=lambda one: abs(one.value - printed))
    best = next(filter(agrees, options), nearest)
    retrained = not speaks_for_the_authors(best.run)
    if agrees(best) or (retrained and best.value > printed and not misprint):
        verdict: Verdict = "reproduced"
    else:
        verdict = fallback if retrained or misprint else "refuted"
    return JudgedCell(model, dataset, metric, printed, best, verdict)


def judge_table1(evidence: Evidence) -> dict[str, Verdict]:
    """Judge each variant of Table 1.

    The whole network's number contradicts Table 2. Weights trained here may reach the others.
    """
    table = evidence.paper["table1"]
    printed = dict(zip(table["readings"][0]["variants"], table["psnr"], strict=True))
    tried = [
        (variant, measured.psnr(variant))
        for measured in ablations(evidence.runs, evidence.paper)
        for variant in measured.runs
    ]
    reached = {name for name, psnr in tried if psnr >= printed[name] - PRINTED.psnr}
    verdicts: dict[str, Verdict] = {
        name: "reproduced" if name in reached else "not measured" for name in printed
    }
    return verdicts | {"both": "inconsistent in print"}


def judge_rows(evidence: Evidence) -> tuple[Judgement, ...]:
    """Judge each row of Table 2."""
    rows = groupby(judge_cells(evidence), key=lambda cell: cell.model)
    return tuple(_row(evidence, model, list(cells)) for model, cells in rows)


def row_verdict(evidence: Evidence, model: str) -> Verdict:
    """Return the verdict of one row of Table 2."""
    return next(row.verdict for row in judge_rows(evidence) if row.claim == _claim(model))


def _claim(model: str) -> str:
    return f"table2-{model}"


def _row(evidence: Evidence, model: str, cells: Sequence[JudgedCell]) -> Judgement:
    row = evidence.table2[model]
    numbers = ", ".join(
        f"{title(name)} {'/'.join(map(Score.as_printed, SCORES.values(), row[name]))}"
        for name in evidence.sets
        if name in row
    )
    measured = [cell.measured for cell in cells if cell.measured]
    runs = {one.run.identity.id: one.run for one in measured}
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
    """Describe the one set of rules under which more of a row agrees than under the default ones.

    Empty if there is none. With separate rules for each number, some would agree by chance.
    """
    measured = [
        measurements(evidence.candidates, cell.model, cell.dataset, cell.metric) for cell in cells
    ]

    def gaps(rules: tuple[str, ...]) -> list[tuple[str, float]]:
        chosen = [measured_under(options, rules) for options in measured]
        pairs = zip(cells, chosen, strict=True)
        all_gaps = [(cell.metric, abs(one.value - cell.printed)) for cell, one in pairs if one]
        return [(metric, gap) for metric, gap in all_gaps if gap <= PRINTED.of(metric)]

    def fit(rules: tuple[str, ...]) -> tuple[int, float]:
        return len(gaps(rules)), -sum(gap / PRINTED.of(metric) for metric, gap in gaps(rules))

    best = max(sorted({one.rules for options in measured for one in options}), key=fit)
    if len(gaps(best)) == len(gaps(())):
        return ""
    largest: dict[str, float] = {}
    for metric, gap in sorted(gaps(best), key=lambda entry: entry[1]):
        largest[metric] = gap
    within = [
        f"{name.upper()} {score.as_measured(largest[name])}"
        for name, score in SCORES.items()
        if name in largest
    ]
    return (
        f"under one set of rules ({', '.join(best)}) {len(gaps(best))} do, the farthest "
        f"{listed(within)} off"
    )


def _measured_again(cells: Sequence[JudgedCell], together: str) -> Finding:
    """Judge a row measured with the authors' weights, or with a method without weights."""
    measured = [cell for cell in cells if cell.measured is not None]
    agree = [cell for cell in measured if cell.verdict == "reproduced"]
    disagree = [cell for cell in measured if cell.verdict != "reproduced"]
    weights = any(cell.measured and cell.measured.run.weights for cell in measured)
    how = "With the authors' weights" if weights else "Computed again"
    text = (
        f"{how}, {len(agree)} of "
        f"{len(measured)} numbers on {_sets(measured)} agree within {PRINTED.psnr:g} dB / "
        f"{PRINTED.ssim:g}"
    )
    by_rules: dict[str, list[str]] = {}
    for cell in agree:
        if cell.measured and cell.measured.rules:
            by_rules.setdefault(cell.measured.rules_text, []).append(_name(cell))
    if by_rules:
        rules = [f"{listed(names)} under {rule}" for rule, names in by_rules.items()]
        text += f" ({'; '.join(rules)})"
    text += f"; {together}" if together else ""
    if disagree:
        text += f"; outside: {listed([_gap(cell) for cell in disagree])}"
    for word, missing in (
        ("Not measured", [cell for cell in cells if not (cell.measured or cell.broken)]),
        ("Failed", [cell for cell in cells if cell.broken]),
    ):
        text += f". {word}: {_sets(missing)}" if missing else ""
    refuted = any(cell.verdict == "refuted" for cell in disagree)
    return Finding("refuted" if refuted else "reproduced", f"{text}.")


def _trained_here(cells: Sequence[JudgedCell], runs: Sequence[RunRecord]) -> Finding:
    """Judge a row measured with other weights than the authors'."""
    measured = [cell for cell in cells if cell.measured is not None and cell.metric == "psnr"]
    scores = [
        f"{cell.measured.value:.2f} of {cell.printed:.2f} dB on {title(cell.dataset)}"
        for cell in measured
        if cell.measured
    ]
    budgets = listed(sorted({str(training_notes(run)) for run in runs}))
    text = f"With weights trained here ({budgets}) it gives {listed(scores)}"
    if all(cell.verdict == "reproduced" for cell in measured):
        return Finding("reproduced", f"{text}.")
    return Finding("not measured", f"{text}; weights trained with less cannot refute the row.")


def _sets(cells: Sequence[JudgedCell]) -> str:
    return listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))


def _name(cell: JudgedCell) -> str:
    return f"{cell.metric.upper()} of {title(cell.dataset)}"


def _gap(cell: JudgedCell) -> str:
    one, score = cell.measured, SCORES[cell.metric]
    rules = f" ({one.rules_text})" if one and one.rules else ""
    value = score.as_measured(one.value) if one else ""
    return f"{_name(cell)} {value} for {score.as_printed(cell.printed)}{rules}"
