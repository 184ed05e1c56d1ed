"""The variants of Table 1 as measured: who was trained alike, and what that gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.paper.budgets import Budget, budget_of
from harness.paper.selection import finished, plain_runs, rank_runs
from harness.paper.statistics import Interval, paired_bootstrap

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import FloatArray, GreyRule
    from harness.record import RunRecord


@dataclass(frozen=True)
class Ablation:
    """Variants of one network, trained alike and run on the set of Table 1.

    Attributes:
        budget: of the training; of the first one, where several took a different time.
        runs: by variant, one record for each set of weights.
    """

    budget: Budget
    runs: Mapping[str, Sequence[RunRecord]]

    def scores(self, variant: str) -> FloatArray:
        """PSNR (dB) of each image, ``(images,)``: the mean over the weights."""
        rows = [[image.scores["psnr"] for image in run.images] for run in self.runs[variant]]
        return np.mean(rows, axis=0)

    def psnr(self, variant: str) -> float:
        """Mean PSNR (dB) over images and weights."""
        return float(self.scores(variant).mean())

    def sd(self, variant: str) -> float | None:
        """Standard deviation (dB, n - 1) over the weights, where there are several."""
        means = [run.means["psnr"] for run in self.runs[variant]]
        return float(np.std(means, ddof=1)) if len(means) > 1 else None

    def gain(self, variant: str, over: str) -> Interval:
        """How much better a variant is than another, over the images."""
        return paired_bootstrap(self.scores(variant), self.scores(over))

    def ids(self) -> tuple[str, ...]:
        """Of all records."""
        return tuple(run.identity.id for runs in self.runs.values() for run in runs)


def ablations(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None
) -> tuple[Ablation, ...]:
    """The variants that were run, one entry for each budget, the most complete first."""
    table = paper["table1"]
    ranked = rank_runs(runs, table["scale"], grey or table["grey"])
    found: dict[tuple[str, str], dict[str, dict[str | None, RunRecord]]] = {}
    for record in ranked.get("record", ()):
        identity = record.identity
        variant = _variant(identity.hyper, table["variants"])
        if variant and (identity.model, identity.dataset) == ("drfn", table["set"]):
            alike = found.setdefault((identity.dataset_sha256, budget_of(record).key), {})
            alike.setdefault(variant, {}).setdefault(identity.weights_sha256, record)
    made = [_ablation(by_variant, list(table["variants"])) for by_variant in found.values()]
    return tuple(sorted(made, key=lambda one: (-len(one.runs), -one.budget.steps)))


def broken_variants(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None
) -> set[str]:
    """The variants whose every run broke."""
    table = paper["table1"]
    if runs.empty:
        return set()
    plain = plain_runs(runs, table["scale"], grey or table["grey"], self_ensemble=False)
    own = plain[(plain["model"] == "drfn") & (plain["dataset"] == table["set"])]
    tried, done = (
        {_variant(record.identity.hyper, table["variants"]) for record in some["record"]}
        for some in (own, finished(own))
    )
    return {name for name in tried - done if name}


def _ablation(
    by_variant: Mapping[str, Mapping[str | None, RunRecord]], order: Sequence[str]
) -> Ablation:
    runs = {name: tuple(by_variant[name].values()) for name in order if name in by_variant}
    return Ablation(budget_of(next(iter(runs.values()))[0]), runs)


def _variant(hyper: Mapping[str, Any], variants: Mapping[str, Mapping[str, bool]]) -> str | None:
    """The variant that the arguments of ``drfn`` make; None for other networks."""
    whole = variants["both"]
    if hyper.keys() - whole.keys():
        return None
    return next((name for name, flags in variants.items() if flags == {**whole, **hyper}), None)
