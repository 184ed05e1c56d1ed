"""What a difference between two runs is worth: intervals over images, spread over weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.data.testsets import grey_images
from harness.errors import MismatchError, UsageError
from harness.paper.budgets import Budget, budget_of
from harness.paper.selection import finished, foreign_origin
from harness.protocol.protocols import protocol
from harness.record import digest

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
    budget: Budget
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
        budget = budget_of(record)
        if record.weights and budget.key and not foreign_origin(record):
            bare = record.identity.to_json() | {"weights_sha256": None}
            alike = (digest(bare), record.weights.tag, budget.key)
            groups.setdefault(alike, {})[record.weights.tensors_sha256] = record
    return tuple(_spread(list(group.values())) for group in groups.values() if len(group) > 1)


def _spread(records: Sequence[RunRecord]) -> Spread:
    scores = [record.means["psnr"] for record in records]
    return Spread(
        replace(records[0].identity, weights_sha256=None),
        budget_of(records[0]),
        len(scores),
        float(np.mean(scores)),
        float(np.std(scores, ddof=1)),
    )
