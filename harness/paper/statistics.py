"""Statistics of PSNR differences: between runs, over weights, between variants of an ablation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.testsets import grey_images
from harness.errors import MismatchError, UsageError
from harness.models.find_weights import TrainingNotes, training_notes
from harness.paper.select import follows, is_comparable, rank
from harness.protocol.rules import PRESETS, Preset, protocol
from harness.record import digest
from harness.run.provenance import foreign_origin

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import FloatArray, GreyRule
    from harness.paper.schema import Ablation
    from harness.record import Identity, RunRecord


@dataclass(frozen=True)
class Interval:
    """A mean difference and its 95 % interval, in the unit of the scores."""

    difference: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's length: a smaller difference may come from the choice of images."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_bootstrap(
    a: FloatArray, b: FloatArray, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Compute the mean of ``a - b`` and its 95 % percentile interval over resampled images.

    Args:
        a: ``(n,)``, one score per image.
        b: ``(n,)``, of the same images.
        resamples: how often n images are drawn with replacement.
        seed: the same seed gives the same interval.

    Raises:
        UsageError: fewer than two images, arrays of other shapes, or a score that is not finite.
    """
    if np.shape(a) != np.shape(b) or np.ndim(a) != 1 or len(a) < 2:
        raise UsageError("A paired bootstrap needs two scores per image and at least two images.")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise UsageError("A paired bootstrap needs finite scores: an image equals its original.")
    from scipy.stats import bootstrap

    interval = bootstrap(
        (differences,), np.mean, n_resamples=resamples, method="percentile", rng=seed
    ).confidence_interval
    return Interval(float(differences.mean()), float(interval.low), float(interval.high))


def paired_scores(a: RunRecord, b: RunRecord) -> tuple[FloatArray, FloatArray]:
    """Return the PSNR (dB) of two runs on the same images, in the same order, ``(n,)`` each.

    Images with an infinite PSNR in either run are left out. Runs under two grey rules are compared
    on colour images only: on grey ones, the rules differ by more than networks do.

    Raises:
        MismatchError: the runs used different images; no image is left; they follow two grey rules
            on a set whose grey images are not known.
    """
    if a.identity.dataset_sha256 != b.identity.dataset_sha256:
        raise MismatchError(
            f"{a.identity.model} on {a.identity.dataset} and {b.identity.model} on "
            f"{b.identity.dataset} ran on different images: compare runs of one set."
        )
    incomparable = _scored_by_two_rules(a, b)
    first, second = (
        {i.image: i.scores["psnr"] for i in run.images if i.image not in incomparable}
        for run in (a, b)
    )
    names = [name for name in first if math.isfinite(first[name] + second[name])]
    if not names:
        raise MismatchError(
            f"{a.identity.model} and {b.identity.model} cannot be compared on "
            f"{a.identity.dataset}: each image has an infinite PSNR, or is grey and the runs "
            "scored it under different rules."
        )
    return np.array([first[name] for name in names]), np.array([second[name] for name in names])


def _scored_by_two_rules(a: RunRecord, b: RunRecord) -> frozenset[str]:
    """Return the grey images if the two runs follow different rules for them, else no images."""
    if protocol(a.identity.protocol).grey == protocol(b.identity.protocol).grey:
        return frozenset()
    grey = grey_images().get(a.identity.dataset)
    # Images that were identified by size alone keep their file names.
    if grey is None or not grey <= {one.image for one in a.images}:
        raise MismatchError(
            f"{a.identity.model} and {b.identity.model} ran on {a.identity.dataset} under two "
            "grey rules: run both with the same --grey."
        )
    return grey


def compare_runs(a: RunRecord, b: RunRecord) -> Interval:
    """Compute the PSNR difference (dB), first run minus second, over the images of their set."""
    return paired_bootstrap(*paired_scores(a, b))


@dataclass(frozen=True)
class Spread:
    """PSNR (dB) of one network over several weights with the same training budget.

    Attributes:
        identity: the identity of the runs, without their weights.
        budget: the budget of each training.
        count: the number of weights.
        mean: mean over the weights.
        sd: standard deviation over the weights, with n - 1.
    """

    identity: Identity
    budget: TrainingNotes
    count: int
    mean: float
    sd: float


def spread_over_weights(runs: pd.DataFrame) -> tuple[Spread, ...]:
    """Compute mean and standard deviation for networks that ran with several weights.

    The runs of a group differ only in their weights, and these only in the training's seed: they
    have the same tag and budget. Weights without training notes are left out.
    """
    groups: dict[tuple[str, str, str], dict[str, RunRecord]] = {}
    for record in runs.get("record", ()):
        budget = training_notes(record)
        if (
            record.status == "finished"
            and record.weights
            and budget.key
            and not foreign_origin(record)
        ):
            bare = record.identity.to_json() | {"weights_sha256": None}
            key = (digest(bare), record.weights.tag, budget.key)
            groups.setdefault(key, {})[record.weights.tensors_sha256] = record
    return tuple(_spread(list(group.values())) for group in groups.values() if len(group) > 1)


def _spread(records: Sequence[RunRecord]) -> Spread:
    scores = [record.means["psnr"] for record in records]
    return Spread(
        replace(records[0].identity, weights_sha256=None),
        training_notes(records[0]),
        len(scores),
        float(np.mean(scores)),
        float(np.std(scores, ddof=1)),
    )


@dataclass(frozen=True)
class MeasuredAblation:
    """Variants of one network with the same training budget, run on the set of a printed ablation.

    Attributes:
        budget: the training budget; that of the first training if their times differ.
        runs: by variant, one record for each set of weights.
    """

    budget: TrainingNotes
    runs: Mapping[str, Sequence[RunRecord]]

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
    done = [run for run in _of_ablation(runs, ablation, grey) if run.status == "finished"]
    for record in rank(done):
        identity = record.identity
        variant = _variant(identity.hyper, ablation)
        if variant:
            key = (identity.dataset_sha256, training_notes(record).key)
            of_budget = by_budget.setdefault(key, {})
            of_budget.setdefault(variant, {}).setdefault(identity.weights_sha256, record)
    groups = []
    for by_variant in by_budget.values():
        order = [name for name in ablation.variants if name in by_variant]
        records = {name: tuple(by_variant[name].values()) for name in order}
        groups.append(MeasuredAblation(training_notes(records[order[0]][0]), records))
    return tuple(sorted(groups, key=lambda group: (-len(group.runs), -group.budget.steps)))


def broken_variants(
    runs: pd.DataFrame, ablation: Ablation, grey: GreyRule | None = None
) -> frozenset[str]:
    """Find the variants whose runs all failed."""
    tried = _of_ablation(runs, ablation, grey)
    done = {_variant(run.identity.hyper, ablation) for run in tried if run.status == "finished"}
    names = {_variant(run.identity.hyper, ablation) for run in tried} - done
    return frozenset(name for name in names if name)


def _of_ablation(runs: pd.DataFrame, ablation: Ablation, grey: GreyRule | None) -> list[RunRecord]:
    """Select the runs of an ablation's network on its set, under its rules or one grey rule."""
    preset = PRESETS[ablation.rules]
    preset = Preset(grey or preset.grey, preset.border)
    place = (ablation.model, ablation.scale, ablation.set, False)
    return [
        record
        for record, dataset in zip(runs.get("record", ()), runs.get("dataset", ()), strict=True)
        if is_comparable(record)
        and follows(record, preset)
        and (record.identity.model, record.identity.scale, dataset, record.identity.self_ensemble)
        == place
    ]


def _variant(hyper: Mapping[str, Any], ablation: Ablation) -> str | None:
    """Name the variant that the network's arguments build; None for other arguments."""
    whole = ablation.variants[ablation.whole]
    if hyper.keys() - whole.keys():
        return None
    arguments = {**whole, **hyper}
    return next((name for name, flags in ablation.variants.items() if flags == arguments), None)
