"""What a difference is worth: between runs, over weights, between variants trained alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.testsets import grey_images
from harness.errors import MismatchError, UsageError
from harness.paper.select import (
    TrainingNotes,
    finished,
    foreign_origin,
    plain_runs,
    rank_runs,
    training_notes,
)
from harness.protocol.protocols import protocol
from harness.record import digest

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import FloatArray, GreyRule
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
    """Mean of ``a - b`` with its 95 % percentile interval over resampled images.

    Args:
        a: ``(n,)``, one score an image.
        b: ``(n,)``, of the same images.
        resamples: how often n images are drawn with replacement.
        seed: the same seed gives the same interval.

    Raises:
        UsageError: fewer than two images, arrays of other shapes, or a score that is not finite.
    """
    if np.shape(a) != np.shape(b) or np.ndim(a) != 1 or len(a) < 2:
        raise UsageError("A paired bootstrap needs two scores of each of at least two images.")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise UsageError("A paired bootstrap needs finite scores: an image equals its original.")
    from scipy.stats import bootstrap

    interval = bootstrap(
        (differences,), np.mean, n_resamples=resamples, method="percentile", rng=seed
    ).confidence_interval
    return Interval(float(differences.mean()), float(interval.low), float(interval.high))


def paired_scores(a: RunRecord, b: RunRecord) -> tuple[FloatArray, FloatArray]:
    """The PSNR (dB) of two runs on the same images, in the same order, ``(n,)`` each.

    Images with an infinite PSNR in either run are left out. Runs under two grey rules are compared
    on the colour images alone: on a grey one the rules differ by more than networks do.

    Raises:
        MismatchError: they are of different images; no image is left; they follow two grey rules
            on a set of which it is not known which images are grey.
    """
    if a.identity.dataset_sha256 != b.identity.dataset_sha256:
        raise MismatchError(
            f"{a.identity.model} on {a.identity.dataset} and {b.identity.model} on "
            f"{b.identity.dataset} were run on different images: compare runs of one set."
        )
    incomparable = _scored_by_two_rules(a, b)
    first, second = (
        {one.image: one.scores["psnr"] for one in run.images if one.image not in incomparable}
        for run in (a, b)
    )
    names = [name for name in first if math.isfinite(first[name] + second[name])]
    if not names:
        raise MismatchError(
            f"{a.identity.model} and {b.identity.model} cannot be compared on "
            f"{a.identity.dataset}: each image has an infinite PSNR, or is grey and was scored "
            "under another rule."
        )
    return np.array([first[name] for name in names]), np.array([second[name] for name in names])


def _scored_by_two_rules(a: RunRecord, b: RunRecord) -> frozenset[str]:
    """The grey images, where two runs follow different rules for them."""
    if protocol(a.identity.protocol).grey == protocol(b.identity.protocol).grey:
        return frozenset()
    grey = grey_images().get(a.identity.dataset)
    # Images that were recognised by their sizes alone have the names of their files.
    if grey is None or not grey <= {one.image for one in a.images}:
        raise MismatchError(
            f"{a.identity.model} and {b.identity.model} were run on {a.identity.dataset} under two "
            "grey rules: run both with the same --grey."
        )
    return grey


def compare_runs(a: RunRecord, b: RunRecord) -> Interval:
    """How much higher the PSNR (dB) of the first run is, over the images of their set."""
    return paired_bootstrap(*paired_scores(a, b))


@dataclass(frozen=True)
class Spread:
    """PSNR (dB) of one network, run with several weights that were trained alike.

    Attributes:
        identity: of the runs, without their weights.
        budget: of each training.
        count: how many weights.
        mean: over the weights.
        sd: standard deviation, n - 1.
    """

    identity: Identity
    budget: TrainingNotes
    count: int
    mean: float
    sd: float


def spread_over_weights(runs: pd.DataFrame) -> tuple[Spread, ...]:
    """Mean and standard deviation where a network was run with several weights.

    The runs of a group are alike in everything but the weights, which have the same tag and were
    trained with the same budget: what is left is the seed. Weights of whose training nothing is
    known are left out.
    """
    groups: dict[tuple[str, str, str], dict[str, RunRecord]] = {}
    for record in finished(runs).get("record", ()):
        budget = training_notes(record)
        if record.weights and budget.key and not foreign_origin(record):
            bare = record.identity.to_json() | {"weights_sha256": None}
            alike = (digest(bare), record.weights.tag, budget.key)
            groups.setdefault(alike, {})[record.weights.tensors_sha256] = record
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
class Ablation:
    """Variants of one network, trained alike and run on the set of Table 1.

    Attributes:
        budget: of the training; of the first one, where several took a different time.
        runs: by variant, one record for each set of weights.
    """

    budget: TrainingNotes
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
        variant = _variant(identity.hyper, table)
        if variant and (identity.model, identity.dataset) == (table["model"], table["set"]):
            alike = found.setdefault((identity.dataset_sha256, training_notes(record).key), {})
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
    own = plain[(plain["model"] == table["model"]) & (plain["dataset"] == table["set"])]
    tried, done = (
        {_variant(record.identity.hyper, table) for record in some["record"]}
        for some in (own, finished(own))
    )
    return {name for name in tried - done if name}


def _ablation(
    by_variant: Mapping[str, Mapping[str | None, RunRecord]], order: Sequence[str]
) -> Ablation:
    runs = {name: tuple(by_variant[name].values()) for name in order if name in by_variant}
    return Ablation(training_notes(next(iter(runs.values()))[0]), runs)


def _variant(hyper: Mapping[str, Any], table: Mapping[str, Any]) -> str | None:
    """The variant that arguments of the ablation's network make; None for other arguments."""
    variants = table["variants"]
    whole = variants[table["whole"]]
    if hyper.keys() - whole.keys():
        return None
    return next((name for name, flags in variants.items() if flags == {**whole, **hyper}), None)
