"""Selects the runs to compare with printed numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.cards import Preset
from harness.data.testsets import grey_images
from harness.models.find_weights import pinned_row, training_notes
from harness.models.published import publication
from harness.models.weights import TAG_ORDER
from harness.protocol.rules import USUAL_GREY, protocol
from harness.run.provenance import foreign_origin

if TYPE_CHECKING:
    from harness.paper.schema import Table
    from harness.record import RunRecord


def is_comparable(record: RunRecord) -> bool:
    """Whether a run is of whole images, of LR images made here, and of the harness's own code."""
    identity = record.identity
    return identity.tile is None and not identity.lr_sha256 and not foreign_origin(record)


def rank(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Order runs, those that speak for a number first.

    The authors' weights come first, then images that they published, then retrained weights, then
    files and images of unknown origin or another network. Among those of a kind,
    records of the current version come before those of earlier versions. Among retrained weights,
    those that saw more pixels in training come first; then later runs.
    """

    def priority(run: RunRecord) -> tuple[bool, bool, int, bool, int, str, str]:
        authors, images = speaks_for_the_authors(run), bool(run.identity.sr_sha256)
        kind = TAG_ORDER.get(run.weights.tag, len(TAG_ORDER)) if run.weights else len(TAG_ORDER)
        time, pixels = run.provenance.get("utc", ""), training_notes(run).pixels
        return authors, not images, -kind, not run.earlier, pixels, time, run.identity.id

    return sorted(records, key=priority, reverse=True)


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
        return ", ".join(self.rules) or "the table's own rules"


def measurements(runs: Sequence[RunRecord], metric: str, preset: Preset) -> list[Measurement]:
    """List the measurements of a printed number, one for each set of rules, fewest rules first.

    Those with the authors' weights or images count; without any, others under the preset.
    The runs are in the order of `rank`; failed ones do not count.
    """
    with_metric = [run for run in runs if run.status == "finished" and metric in run.means]
    official = [run for run in with_metric if speaks_for_the_authors(run)]
    by_rules: dict[tuple[str, ...], Measurement] = {}
    for run in official or [run for run in with_metric if follows(run, preset)]:
        rules = departures(run, preset)
        ways = {metric: rules} | ({"ssim-whole": (*rules, WHOLE)} if metric == "ssim" else {})
        for name, under in ways.items():
            if name in run.means:
                one = Measurement(run.means[name], under, run, name not in run.infinite)
                by_rules.setdefault(under, one)
    return sorted(by_rules.values(), key=lambda one: (len(one.rules), one.rules))


def speaks_for_the_authors(run: RunRecord) -> bool:
    """Whether a run used the authors' weights or images of the paper's network, or needs none."""
    if run.identity.sr_sha256:
        known = publication(run.identity)
        return known is not None and not known["note"]
    return run.weights is None or run.weights.tag == "official"


def of_another_network(run: RunRecord, table: Table) -> str:
    """Say whose a run's weights or images are, if of another network than a table's; empty else.

    Such a run is shown beside a printed number and says nothing of it. Numbers that were read from
    the repository that holds the weights or images are of their network.
    """
    source = publication(run.identity) or (pinned_row(run.weights) if run.weights else None)
    if source is None or any(one.startswith(f"{source['repository']},") for one in table.read_from):
        return ""
    kind = "images" if run.identity.sr_sha256 else "weights"
    return f"the {kind} are those of {source['note']}" if source["note"] else ""


def decides(run: RunRecord, table: Table) -> bool:
    """Whether a run speaks for the authors of a table's network: it can refute their numbers."""
    return speaks_for_the_authors(run) and not of_another_network(run, table)


def same_network(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs have the same weights, or images that were published together."""
    if one.identity.sr_sha256 or other.identity.sr_sha256:
        first, second = publication(one.identity), publication(other.identity)
        return bool(first and second and first["commit"] == second["commit"])
    return one.identity.weights_sha256 == other.identity.weights_sha256


def follows(run: RunRecord, preset: Preset) -> bool:
    """Whether a run follows a preset and otherwise the rules of its pipeline."""
    return not departures(run, preset)


def without_grey(run: RunRecord) -> bool:
    """Whether a run's images are known to include no grey one: the grey rule changes nothing."""
    return run.verified and grey_images().get(run.identity.dataset) == frozenset()


def departures(run: RunRecord, preset: Preset) -> tuple[str, ...]:
    """List the rules of a run that differ from a preset, in words."""
    rules = protocol(run.identity.protocol)
    grey = preset.grey or USUAL_GREY[rules.pipeline]
    images = run.identity.sr_sha256  # whose LR images were not made here
    words = {
        f"grey images {rules.grey}": rules.grey != grey and not without_grey(run),
        f"{rules.border} border of imresize": rules.border != preset.border and not images,
        "LR images not rounded": rules.float_lr,
        "luma not rounded": rules.float_y,
    }
    return tuple(word for word, holds in words.items() if holds)
