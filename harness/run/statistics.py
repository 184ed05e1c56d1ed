"""Statistics of scores: differences between runs over images, and the spread over weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.errors import MismatchError, UsageError
from harness.models.find_weights import TrainingNotes, training_notes
from harness.models.weights import OWN_TAGS
from harness.protocol.rules import protocol
from harness.record import digest
from harness.run.provenance import foreign_origin, grey_images_of

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


def paired_scores(
    a: RunRecord, b: RunRecord, metric: str = "psnr"
) -> tuple[FloatArray, FloatArray]:
    """Return a score of two runs on the same images, in the same order, ``(n,)`` each.

    Images with an infinite score in either run are left out. Runs under two grey rules are compared
    on colour images only: on grey ones, the rules differ by more than networks do.

    Raises:
        MismatchError: the runs used different images; no image is left; they follow two grey rules
            on a set whose grey images are not known.
    """
    (first,), (second,) = _matrices([a], [b], metric)
    return first, second


def _matrices(
    a: Sequence[RunRecord], b: Sequence[RunRecord], metric: str
) -> tuple[FloatArray, FloatArray]:
    """Return the scores of some runs and of others, a row for each run; see `paired_scores`."""
    one, runs = a[0], [*a, *b]
    for other in runs:
        if one.identity.dataset_sha256 != other.identity.dataset_sha256:
            raise MismatchError(
                f"{one.identity.model} on {one.identity.dataset} and {other.identity.model} on "
                f"{other.identity.dataset} ran on different images: compare runs of one set."
            )
    left_out = frozenset[str]().union(*(_scored_by_two_rules(one, other) for other in runs))
    scores = [{i.image: i.scores[metric] for i in run.images} for run in runs]
    names = [
        name
        for name in scores[0]
        if name not in left_out and all(math.isfinite(each[name]) for each in scores)
    ]
    if not names:
        raise MismatchError(
            f"{one.identity.model} and {b[0].identity.model} cannot be compared on "
            f"{one.identity.dataset}: each image has an infinite {metric.upper()}, or is grey and "
            "the runs scored it under different rules."
        )
    table = np.array([[each[name] for name in names] for each in scores])
    return table[: len(a)], table[len(a) :]


def _scored_by_two_rules(a: RunRecord, b: RunRecord) -> frozenset[str]:
    """Return the grey images if the two runs follow different rules for them, else no images."""
    if protocol(a.identity.protocol).grey == protocol(b.identity.protocol).grey:
        return frozenset()
    grey = grey_images_of(a)
    if grey is None or not grey <= {one.image for one in a.images}:
        raise MismatchError(
            f"{a.identity.model} and {b.identity.model} ran on {a.identity.dataset} under two "
            "grey rules: run both with the same --grey."
        )
    return grey


def compare_runs(a: RunRecord, b: RunRecord) -> Interval:
    """Compute the PSNR difference (dB), first run minus second, over the images of their set."""
    return paired_bootstrap(*paired_scores(a, b))


class OverWeights(NamedTuple):
    """A mean score over the weights of several trainings.

    Attributes:
        mean: mean over the weights.
        sd: standard deviation over the weights, with n - 1; None for one.
        number: how many weights there are.
    """

    mean: float
    sd: float | None
    number: int


def over_weights(runs: Sequence[RunRecord], metric: str = "psnr") -> OverWeights:
    """Compute mean and standard deviation of a score over runs that differ in their weights."""
    return _over_weights([run.means[metric] for run in runs])


def _over_weights(means: Sequence[float] | FloatArray) -> OverWeights:
    sd = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return OverWeights(float(np.mean(means)), sd, len(means))


@dataclass(frozen=True)
class Comparison:
    """Two networks, each with one or several weights, by a score on the same images.

    Attributes:
        rules: the protocol of each; another one where they share none.
        images: the number of images that are compared.
        interval: of the difference, first minus second, over the images, of the mean over the
            weights; None for a single image.
    """

    scale: int
    dataset: str
    rules: tuple[str, str]
    metric: str
    images: int
    a: OverWeights
    b: OverWeights
    interval: Interval | None

    @property
    def difference(self) -> float:
        """The first mean minus the second."""
        return self.a.mean - self.b.mean

    @property
    def equal(self) -> bool:
        """Whether the two have the same score on every image."""
        if self.interval is None:
            return self.difference == 0
        return self.interval.low == self.interval.high == 0

    @property
    def sign(self) -> int:
        """1 if the first has more, -1 if the second has; 0 if no difference is shown.

        The interval must leave out 0. With several weights, the difference must also exceed twice
        its standard error over the weights.
        """
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return 0
        sides = [one for one in (self.a, self.b) if one.sd is not None]
        error = math.hypot(*(one.sd / math.sqrt(one.number) for one in sides if one.sd is not None))
        return int(np.sign(self.difference)) if abs(self.difference) > 2 * error else 0


RunsBySet = Mapping[str, Sequence["RunRecord"]]
"""The runs of one checkpoint, by set, those that speak first."""


def compare_weights(
    a: Sequence[RunsBySet], b: Sequence[RunsBySet]
) -> Iterator[Comparison | MismatchError]:
    """Compare two networks, each with one or several weights, on every set that both have.

    Yields a comparison for each protocol that both have on a set, and for each metric; or the
    error of runs that cannot be compared, see `paired_scores`. If the two have no protocol in
    common, such as a network on luma and one on RGB, each is compared under its plainest.
    """
    for dataset in dict.fromkeys(one for by_set in a for one in by_set):
        sides = [[by_set.get(dataset, ()) for by_set in side] for side in (a, b)]
        metrics = dict.fromkeys(
            name for runs in sides[0] for run in runs for name in run.identity.metrics
        )
        for rules, metric in product(_rules_of(*sides), metrics):
            first, second = (
                [run for runs in side if (run := _speaker(runs, way, metric))]
                for side, way in zip(sides, rules, strict=True)
            )
            if first and second:
                try:
                    yield _compare(dataset, rules, metric, first, second)
                except MismatchError as error:
                    yield error


def _rules_of(
    a: Sequence[Sequence[RunRecord]], b: Sequence[Sequence[RunRecord]]
) -> list[tuple[str, str]]:
    """List the protocols to compare under: those that both have, else the plainest of each.

    Two with the same rule for grey images come before others.
    """
    ours, theirs = (
        dict.fromkeys(run.identity.protocol for runs in side for run in runs) for side in (a, b)
    )
    shared = [(name, name) for name in ours if name in theirs]
    if shared or not (ours and theirs):
        return shared

    def oddity(rules: tuple[str, str]) -> tuple[bool, int]:
        greys = {protocol(name).grey for name in rules}
        return len(greys) > 1, len("".join(rules))

    return [min(product(ours, theirs), key=oddity)]


def _speaker(runs: Sequence[RunRecord], rules: str, metric: str) -> RunRecord | None:
    """Return the first finished run under a protocol that has a metric."""
    done = (run for run in runs if run.status == "finished" and run.identity.protocol == rules)
    return next((run for run in done if metric in run.means), None)


def _compare(
    dataset: str,
    rules: tuple[str, str],
    metric: str,
    a: Sequence[RunRecord],
    b: Sequence[RunRecord],
) -> Comparison:
    first, second = _matrices(a, b, metric)
    images = first.shape[1]
    return Comparison(
        scale=a[0].identity.scale,
        dataset=dataset,
        rules=rules,
        metric=metric,
        images=images,
        a=_over_weights(first.mean(axis=1)),
        b=_over_weights(second.mean(axis=1)),
        interval=paired_bootstrap(first.mean(axis=0), second.mean(axis=0)) if images > 1 else None,
    )


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
    are of the same kind and budget. Weights without training notes are left out.
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
            kind = record.tag if record.tag in OWN_TAGS else "file"
            key = (digest(bare), kind, budget.key)
            groups.setdefault(key, {})[record.weights.tensors_sha256] = record
    return tuple(_spread(list(group.values())) for group in groups.values() if len(group) > 1)


def _spread(records: Sequence[RunRecord]) -> Spread:
    mean, sd, number = over_weights(records)
    identity = replace(records[0].identity, weights_sha256=None)
    return Spread(identity, training_notes(records[0]), number, mean, sd or 0.0)
