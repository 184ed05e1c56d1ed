"""A verdict for every number of Table 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.paper.ablation import ablations
from harness.paper.measured import Measurement, measurements, speaks_for_the_authors
from harness.paper.scores import SCORES
from harness.paper.tolerances import PRINTED

if TYPE_CHECKING:
    from harness.paper.judgement import Evidence, Verdict
    from harness.record import RunRecord


Standing = Literal[
    "reproduced",
    "reproduced under other rules",
    "refuted",
    "inconsistent in print",
    "not measured",
]
"""What has become of a printed number."""


@dataclass(frozen=True)
class Cell:
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
    def standing(self) -> Standing:
        """The verdict, and whether it rests on other rules than the default."""
        elsewhere = self.verdict == "reproduced" and self.measured and self.measured.rules
        return "reproduced under other rules" if elsewhere else self.verdict


def judge_cells(evidence: Evidence) -> tuple[Cell, ...]:
    """Every printed number of Table 2, row by row."""
    return tuple(
        _cell(evidence, model, dataset, metric, row[dataset][place])
        for model, row in evidence.table2.items()
        for dataset in evidence.sets
        if dataset in row
        for place, metric in enumerate(SCORES)
    )


def _cell(evidence: Evidence, model: str, dataset: str, metric: str, printed: float) -> Cell:
    doubtful = (model, dataset, metric) in evidence.misprints
    fallback: Verdict = "inconsistent in print" if doubtful else "not measured"
    found = measurements(evidence, model, dataset, metric)
    if not found:
        broken = evidence.broken.get((model, dataset))
        return Cell(model, dataset, metric, printed, None, fallback, broken)

    def agrees(one: Measurement) -> bool:
        return abs(one.value - printed) <= PRINTED.of(metric)

    nearest = min(found, key=lambda one: abs(one.value - printed))
    best = next(filter(agrees, found), nearest)
    own = not speaks_for_the_authors(best.run)
    if agrees(best) or (own and best.value > printed and not doubtful):
        verdict: Verdict = "reproduced"
    else:
        verdict = fallback if own or doubtful else "refuted"
    return Cell(model, dataset, metric, printed, best, verdict)


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
