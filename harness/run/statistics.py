"""Statistics of PSNR: differences between runs over images, and the spread over weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.data.testsets import grey_images
from harness.errors import MismatchError, UsageError
from harness.models.find_weights import TrainingNotes, training_notes
from harness.protocol.rules import protocol
from harness.record import digest
from harness.run.provenance import foreign_origin

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import FloatArray
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
