"""Selects the runs to compare with printed numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.data.testsets import sets_without_grey
from harness.models.find_weights import training_notes
from harness.protocol.rules import USUAL_GREY, Preset, protocol
from harness.run.provenance import foreign_origin

if TYPE_CHECKING:
    import pandas as pd

    from harness.record import RunRecord


_TAG_ORDER = {"": 0, "official": 0, "repro": 1}


def is_comparable(record: RunRecord) -> bool:
    """Whether a run is of whole images, of LR images made here, and of the harness's own code."""
    identity = record.identity
    return identity.tile is None and not identity.lr_sha256 and not foreign_origin(record)


def rank(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Order runs, those that speak for a number first.

    Records of the current version come before those of earlier versions. Then the authors' weights
    come before retrained ones, and those before files of unknown origin. Among retrained weights,
    those that saw more pixels in training come first; then later runs.
    """
    by_id = sorted(records, key=lambda record: record.identity.id)
    by_time = sorted(by_id, key=lambda record: record.provenance.get("utc", ""), reverse=True)
    return sorted(
        by_time, key=lambda one: (one.earlier, weights_rank(one), -training_notes(one).pixels)
    )


def weights_rank(record: RunRecord) -> int:
    """Rank the kind of a run's weights: 0 for the authors', 1 for retrained ones, 2 for others."""
    return _TAG_ORDER.get(record.weights.tag if record.weights else "", 2)


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
    """

    value: float
    rules: tuple[str, ...]
    run: RunRecord

    @property
    def rules_text(self) -> str:
        """The rules in words."""
        return ", ".join(self.rules) or "default rules"


def measurements(runs: Sequence[RunRecord], metric: str, preset: Preset) -> list[Measurement]:
    """List the measurements of a printed number, one for each set of rules, fewest rules first.

    Of the finished runs those with the best kind of weights count; other weights than the authors'
    count under the preset only.
    """
    kind = min(map(weights_rank, runs), default=0)
    by_rules: dict[tuple[str, ...], Measurement] = {}
    for run in runs:
        rules = departures(run, preset)
        if weights_rank(run) != kind or rules is None or metric not in run.means:
            continue
        if rules and not speaks_for_the_authors(run):
            continue
        by_rules.setdefault(rules, Measurement(run.means[metric], rules, run))
        if metric == "ssim" and "ssim-whole" in run.means:
            whole = (*rules, WHOLE)
            by_rules.setdefault(whole, Measurement(run.means["ssim-whole"], whole, run))
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


def departures(run: RunRecord, preset: Preset) -> tuple[str, ...] | None:
    """List the rules of a run that differ from a preset, in words; None for another border.

    The rule for grey images makes no difference on a set without any.
    """
    rules = protocol(run.identity.protocol)
    if rules.border != preset.border:
        return None
    grey = preset.grey or USUAL_GREY[rules.pipeline]
    words = {
        f"grey images {rules.grey}": rules.grey != grey
        and run.identity.dataset not in sets_without_grey(),
        "LR images not rounded": rules.float_lr,
        "luma not rounded": rules.float_y,
    }
    return tuple(word for word, holds in words.items() if holds)
