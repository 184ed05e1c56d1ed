"""The ablations of a paper: the runs of their variants, trained alike, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.cards import PRESETS
from harness.models.find_weights import TrainingNotes, training_notes
from harness.paper.schema import Row, Table
from harness.paper.select import follows, is_comparable, rank
from harness.paper.verdicts import JudgedCell
from harness.registry import MODELS
from harness.run.statistics import Interval, paired_bootstrap

if TYPE_CHECKING:
    from harness.paper.schema import Ablation, Paper
    from harness.paper.verdicts import Verdict
    from harness.record import RunRecord


@dataclass(frozen=True)
class MeasuredAblation:
    """Variants of one network with the same training budget, run on the set of a printed ablation.

    Attributes:
        runs: by variant, one record for each set of weights.
    """

    runs: Mapping[str, Sequence[RunRecord]]

    @property
    def budget(self) -> TrainingNotes:
        """The training budget; that of the first training if their times differ."""
        return training_notes(next(iter(self.runs.values()))[0])

    def means(self, variant: str) -> pd.Series:
        """Return the mean PSNR (dB) with each of the weights; empty for a variant not run."""
        means = [run.means["psnr"] for run in self.runs.get(variant, ())]
        return pd.Series(means, dtype=float)

    def gain(self, variant: str, over: str) -> Interval:
        """Compute the PSNR gain (dB) of one variant over another, over the images."""
        first, second = (
            np.mean([[image.scores["psnr"] for image in run.images] for run in self.runs[one]], 0)
            for one in (variant, over)
        )
        return paired_bootstrap(first, second)


def _by_budget(finished: Mapping[str, Sequence[RunRecord]]) -> list[MeasuredAblation]:
    """Group the variants that ran on the same images by training budget."""
    groups: dict[tuple[str, str], dict[str, dict[str | None, RunRecord]]] = {}
    for variant, runs in finished.items():
        for run in runs:
            group = groups.setdefault((run.identity.dataset_sha256, training_notes(run).key), {})
            group.setdefault(variant, {}).setdefault(run.identity.weights_sha256, run)
    measured = [
        MeasuredAblation({variant: tuple(runs.values()) for variant, runs in group.items()})
        for group in groups.values()
    ]
    return sorted(measured, key=lambda one: (-len(one.runs), -one.budget.steps))


def _runs_of_variants(runs: pd.DataFrame, ablation: Ablation) -> dict[str, list[RunRecord]]:
    """List the runs of each variant under an ablation's rules, those that speak first."""
    place = (ablation.model, ablation.scale, ablation.set, False)
    found = [
        run
        for run, dataset in zip(runs.get("record", ()), runs.get("dataset", ()), strict=True)
        if (run.identity.model, run.identity.scale, dataset, run.identity.self_ensemble) == place
        and is_comparable(run)
        and follows(run, PRESETS[ablation.rules])
    ]
    whole = ablation.variants[ablation.whole]
    return {
        variant: rank(run for run in found if {**whole, **run.identity.hyper} == arguments)
        for variant, arguments in ablation.variants.items()
    }


@dataclass(frozen=True)
class JudgedAblation:
    """A printed ablation with its measurements.

    Attributes:
        measured: by training budget, the most complete first.
        verdicts: by variant.
        failed: the variants whose runs all failed.
        contradicting: the rows of tables that print another PSNR for the whole network.
        floor: the best PSNR (dB) that is printed on the set without weights, such as bicubic's; 0
            if there is none.
    """

    ablation: Ablation
    measured: Sequence[MeasuredAblation]
    verdicts: Mapping[str, Verdict]
    failed: Set[str]
    contradicting: Sequence[Row]
    floor: float

    def below_floor(self, measured: MeasuredAblation) -> dict[str, float]:
        """Return the mean PSNR (dB) of the variants that fall short of the `floor`.

        If there is one, the training was too short to decide anything between the variants.
        """
        means = {variant: measured.means(variant).mean() for variant in self.ablation.columns}
        return {variant: mean for variant, mean in means.items() if mean < self.floor}


def judge_ablation(runs: pd.DataFrame, paper: Paper, ablation: Ablation) -> JudgedAblation:
    """Judge each variant of an ablation: weights trained here may reach its number.

    That of the whole network may contradict the paper's own tables.
    """
    by_variant = _runs_of_variants(runs, ablation)
    verdicts = {
        variant: _judge_variant(ablation, variant, found) for variant, found in by_variant.items()
    }
    contradicting = _contradicting(paper, ablation)
    if contradicting:
        verdicts[ablation.whole] = "inconsistent in print"
    finished = {
        variant: [run for run in found if run.status == "finished"]
        for variant, found in by_variant.items()
    }
    failed = {variant for variant, found in by_variant.items() if found and not finished[variant]}
    floor = _floor(paper, ablation)
    return JudgedAblation(ablation, _by_budget(finished), verdicts, failed, contradicting, floor)


def _judge_variant(ablation: Ablation, variant: str, runs: Sequence[RunRecord]) -> Verdict:
    """Judge a variant's number as that of a table with one set."""
    table = Table(
        id=ablation.id,
        title=ablation.title,
        columns=(ablation.set,),
        cells="",
        scores={"psnr": ablation.decimals},
        rules=ablation.rules,
    )
    printed = {(ablation.set, "psnr"): ablation.printed[variant]}
    row = Row(table, ablation.scale, variant, ablation.model, False, printed)
    return JudgedCell(row, ablation.set, "psnr", runs=runs).verdict or "not measured"


def _contradicting(paper: Paper, ablation: Ablation) -> list[Row]:
    printed = ablation.printed[ablation.whole]
    return [
        row
        for row in paper.rows
        if (row.model, row.scale, row.self_ensemble) == (ablation.model, ablation.scale, False)
        and not row.table.obstacle(row.scale)
        # The rules for grey images alone change the mean of Set14 by 0.09 dB.
        and abs(row.printed.get((ablation.set, "psnr"), printed) - printed) > 0.1
    ]


def _floor(paper: Paper, ablation: Ablation) -> float:
    printed = [
        row.printed.get((ablation.set, "psnr"), 0.0)
        for row in paper.rows
        if row.scale == ablation.scale and not row.table.obstacle(row.scale)
        if is_without_weights(row.model)
    ]
    return max(printed, default=0.0)


def is_without_weights(model: str) -> bool:
    """Whether a registered model has no parameters, as bicubic interpolation."""
    return model in MODELS and MODELS.get(model).params == 0
