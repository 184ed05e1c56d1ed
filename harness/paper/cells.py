"""A verdict for every number of Table 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from harness.paper.ablation import ablations
from harness.specs import GreyRule

if TYPE_CHECKING:
    from harness.paper.judgement import Evidence, Verdict
    from harness.specs import RunRecord

TOLERANCE = {"psnr": 0.02, "ssim": 0.001}
"""How far a number measured with the authors' weights may lie from the printed one (dB, 1)."""


@dataclass(frozen=True)
class Cell:
    """A printed number and what was measured.

    Attributes:
        model, dataset, metric: where it stands.
        printed: as printed.
        measured: the nearest measured value, over the grey rules that were run.
        grey: the rule it was measured under.
        run: the record it comes from.
        verdict: weights trained here can reproduce a number by reaching it, and cannot refute it.
    """

    model: str
    dataset: str
    metric: str
    printed: float
    measured: float | None
    grey: GreyRule | None
    run: RunRecord | None
    verdict: Verdict


def judge_cells(evidence: Evidence) -> tuple[Cell, ...]:
    """Every printed number of Table 2, row by row."""
    return tuple(
        _cell(evidence, model, dataset, metric, row[dataset][place])
        for model, row in evidence.table2.items()
        for dataset in evidence.sets
        if dataset in row
        for place, metric in enumerate(TOLERANCE)
    )


def speaks_for_the_authors(run: RunRecord) -> bool:
    """It used the authors' weights, or a method without any."""
    return run.weights is None or run.weights.tag == "official"


def _cell(evidence: Evidence, model: str, dataset: str, metric: str, printed: float) -> Cell:
    runs = _runs(evidence, model, dataset)
    measured = {grey: run.means[metric] for grey, run in runs.items()}
    doubtful = any(
        (cell["row"], cell["column"], cell["metric"], cell["seen"])
        == (model, dataset, metric, "print")
        for cell in evidence.paper["suspicious"]
    )
    fallback: Verdict = "inconsistent in print" if doubtful else "not measured"
    if not measured:
        return Cell(model, dataset, metric, printed, None, None, None, fallback)
    grey = min(measured, key=lambda rule: abs(measured[rule] - printed))
    off = measured[grey] - printed
    own = not speaks_for_the_authors(runs[grey])
    if abs(off) <= TOLERANCE[metric] or (own and off > 0 and not doubtful):
        verdict: Verdict = "reproduced"
    else:
        verdict = fallback if own or doubtful else "refuted"
    return Cell(model, dataset, metric, printed, measured[grey], grey, runs[grey], verdict)


def _runs(evidence: Evidence, model: str, dataset: str) -> dict[GreyRule, RunRecord]:
    """The runs that may speak, by grey rule: weights trained here under the default one only."""
    rules: tuple[GreyRule, ...] = get_args(GreyRule)
    found = {grey: evidence.run(model, dataset, grey) for grey in rules}
    return {
        grey: run
        for grey, run in found.items()
        if run and (grey == "full-range" or speaks_for_the_authors(run))
    }


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
    reached = {name for name, psnr in tried if psnr >= printed[name] - TOLERANCE["psnr"]}
    found: dict[str, Verdict] = {
        name: "reproduced" if name in reached else "not measured" for name in printed
    }
    return found | {"both": "inconsistent in print"}
