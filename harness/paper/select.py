"""Selects the runs to compare with printed numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.data.testsets import grey_images
from harness.models.find_weights import TAG_ORDER, training_notes
from harness.protocol.rules import USUAL_GREY, Preset, protocol
from harness.run.provenance import foreign_origin

if TYPE_CHECKING:
    import pandas as pd

    from harness.record import RunRecord


def is_comparable(record: RunRecord) -> bool:
    """Whether a run is of whole images, of LR images made here, and of the harness's own code."""
    identity = record.identity
    return identity.tile is None and not identity.lr_sha256 and not foreign_origin(record)


def rank(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Order runs, those that speak for a number first.

    The authors' weights come before retrained ones, and those before files of unknown origin. Then
    records of the current version come before those of earlier versions. Among retrained weights,
    those that saw more pixels in training come first; then later runs.
    """
    by_id = sorted(records, key=lambda record: record.identity.id)
    by_time = sorted(by_id, key=lambda record: record.provenance.get("utc", ""), reverse=True)
    return sorted(
        by_time, key=lambda one: (weights_rank(one), one.earlier, -training_notes(one).pixels)
    )


def weights_rank(record: RunRecord) -> int:
    """Rank the kind of a run's weights: 0 for the authors', 1 for retrained ones, 2 for others."""
    return TAG_ORDER.get(record.weights.tag, 2) if record.weights else 0


CellKey = tuple[str, str, int, bool]
"""Model, set, scale and whether it ran with self-ensemble."""


def runs_by_cell(runs: pd.DataFrame) -> dict[CellKey, list[RunRecord]]:
    """Group the comparable runs of networks with default arguments, in the order of `rank`.

    Args:
        runs: the output of `Records.table`; its sets have names that differ.
    """
    cells: dict[CellKey, list[RunRecord]] = {}
    for record, dataset in zip(runs.get("record", ()), runs.get("dataset", ()), strict=True):
        identity = record.identity
        if is_comparable(record) and not identity.hyper:
            key = (identity.model, dataset, identity.scale, identity.self_ensemble)
            cells.setdefault(key, []).append(record)
    return {key: rank(records) for key, records in cells.items()}


WHOLE = "SSIM of the whole image"
"""The rule of the metric ``ssim-whole``, MATLAB's ``ssim``."""


@dataclass(frozen=True)
class Measurement:
    """A measured mean.

    Attributes:
        value: PSNR in dB, SSIM, or another score.
        rules: the rules that differ from the table's, in words; empty for these.
        run: the record that holds it.
        finite: every image has a finite score. A mean that is infinite or leaves images out is not
            what is printed: it agrees with nothing, and refutes nothing.
    """

    value: float
    rules: tuple[str, ...]
    run: RunRecord
    finite: bool

    @property
    def rules_text(self) -> str:
        """The rules in words."""
        return ", ".join(self.rules) or "default rules"


def measurements(runs: Sequence[RunRecord], metric: str, preset: Preset) -> list[Measurement]:
    """List the measurements of a printed number, one for each set of rules, fewest rules first.

    Of the finished runs that have the metric, those with the best kind of weights count; other
    weights than the authors' count under the preset only.
    """
    with_rules = [(run, departures(run, preset)) for run in runs if metric in run.means]
    counting = [one for one in with_rules if not one[1] or speaks_for_the_authors(one[0])]
    kind = min((weights_rank(run) for run, _ in counting), default=0)
    by_rules: dict[tuple[str, ...], Measurement] = {}

    def add(run: RunRecord, name: str, rules: tuple[str, ...]) -> None:
        one = Measurement(run.means[name], rules, run, name not in run.infinite)
        by_rules.setdefault(rules, one)

    for run, rules in counting:
        if weights_rank(run) == kind:
            add(run, metric, rules)
            if metric == "ssim" and "ssim-whole" in run.means:
                add(run, "ssim-whole", (*rules, WHOLE))
    return sorted(by_rules.values(), key=lambda one: (len(one.rules), one.rules))


def measured_under(measured: Sequence[Measurement], rules: Sequence[str]) -> Measurement | None:
    """Return a cell's measurement under some rules; those that none of its runs used are ignored.

    For example, no run of a set without grey images uses a grey rule.
    """
    known = {word for one in measured for word in one.rules}
    return next((one for one in measured if set(one.rules) == known & set(rules)), None)


def speaks_for_the_authors(run: RunRecord) -> bool:
    """Whether a run used the authors' weights, or a method without weights."""
    return run.weights is None or run.weights.tag == "official"


def follows(run: RunRecord, preset: Preset) -> bool:
    """Whether a run follows a preset and otherwise the rules of its pipeline."""
    return departures(run, preset) == ()


def of_published_images(run: RunRecord) -> bool:
    """Whether a run's images are the published ones, where the harness knows these."""
    return run.verified or run.identity.dataset not in grey_images()


def without_grey(run: RunRecord) -> bool:
    """Whether a run's images are known to include no grey one: the grey rule changes nothing."""
    return run.verified and grey_images().get(run.identity.dataset) == frozenset()


def departures(run: RunRecord, preset: Preset) -> tuple[str, ...]:
    """List the rules of a run that differ from a preset, in words."""
    rules = protocol(run.identity.protocol)
    grey = preset.grey or USUAL_GREY[rules.pipeline]
    words = {
        f"grey images {rules.grey}": rules.grey != grey and not without_grey(run),
        f"{rules.border} border of imresize": rules.border != preset.border,
        "LR images not rounded": rules.float_lr,
        "luma not rounded": rules.float_y,
    }
    return tuple(word for word, holds in words.items() if holds)
