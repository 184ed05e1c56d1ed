"""The runs of a printed ablation: its variants, trained alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.models.find_weights import TrainingNotes, training_notes
from harness.paper.select import follows, is_comparable, rank
from harness.protocol.rules import PRESETS
from harness.run.statistics import Interval, paired_bootstrap

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import FloatArray, GreyRule
    from harness.paper.schema import Ablation
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

    def scores(self, variant: str) -> FloatArray:
        """Compute the PSNR (dB) of each image, averaged over the weights, ``(images,)``."""
        rows = [[image.scores["psnr"] for image in run.images] for run in self.runs[variant]]
        return np.mean(rows, axis=0)

    def psnr(self, variant: str) -> float:
        """Compute the mean PSNR (dB) over images and weights."""
        return float(self.scores(variant).mean())

    def sd(self, variant: str) -> float | None:
        """Compute the standard deviation (dB, n - 1) over the weights; None for a single one."""
        means = [run.means["psnr"] for run in self.runs[variant]]
        return float(np.std(means, ddof=1)) if len(means) > 1 else None

    def gain(self, variant: str, over: str) -> Interval:
        """Compute the PSNR gain of one variant over another, over the images."""
        return paired_bootstrap(self.scores(variant), self.scores(over))

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all records."""
        return tuple(run.identity.id for runs in self.runs.values() for run in runs)


def measured_ablations(
    runs: pd.DataFrame, ablation: Ablation, grey: GreyRule | None = None
) -> tuple[MeasuredAblation, ...]:
    """Group the variants that ran by training budget, the most complete group first."""
    by_budget: dict[tuple[str, str], dict[str, dict[str | None, RunRecord]]] = {}
    for variant, run in _under_rules(runs, ablation, grey):
        if run.status == "finished":
            key = (run.identity.dataset_sha256, training_notes(run).key)
            by_weights = by_budget.setdefault(key, {}).setdefault(variant, {})
            by_weights.setdefault(run.identity.weights_sha256, run)
    groups = [
        MeasuredAblation(
            {name: tuple(found[name].values()) for name in ablation.variants if name in found}
        )
        for found in by_budget.values()
    ]
    return tuple(sorted(groups, key=lambda group: (-len(group.runs), -group.budget.steps)))


def broken_variants(
    runs: pd.DataFrame, ablation: Ablation, grey: GreyRule | None = None
) -> frozenset[str]:
    """Find the variants whose runs all failed."""
    tried = _under_rules(runs, ablation, grey)
    done = {variant for variant, run in tried if run.status == "finished"}
    return frozenset(variant for variant, _ in tried) - done


def _under_rules(
    runs: pd.DataFrame, ablation: Ablation, grey: GreyRule | None
) -> list[tuple[str, RunRecord]]:
    """List the runs that follow an ablation's rules, or one rule for grey images, by variant."""
    preset = PRESETS[ablation.rules]
    preset = replace(preset, grey=grey or preset.grey)
    by_variant = runs_of_variants(runs, ablation)
    return [(name, run) for name, of in by_variant.items() for run in of if follows(run, preset)]


def runs_of_variants(runs: pd.DataFrame, ablation: Ablation) -> dict[str, list[RunRecord]]:
    """List the runs of each variant on an ablation's set, those that speak first."""
    place = (ablation.model, ablation.scale, ablation.set, False)
    found = [
        run
        for run, dataset in zip(runs.get("record", ()), runs.get("dataset", ()), strict=True)
        if (run.identity.model, run.identity.scale, dataset, run.identity.self_ensemble) == place
        and is_comparable(run)
    ]
    by_variant: dict[str, list[RunRecord]] = {}
    for run in rank(found):
        if variant := _variant(run.identity.hyper, ablation):
            by_variant.setdefault(variant, []).append(run)
    return by_variant


def _variant(hyper: Mapping[str, Any], ablation: Ablation) -> str | None:
    """Name the variant that the network's arguments build; None for other arguments."""
    whole = ablation.variants[ablation.whole]
    if hyper.keys() - whole.keys():
        return None
    arguments = {**whole, **hyper}
    return next((name for name, flags in ablation.variants.items() if flags == arguments), None)
