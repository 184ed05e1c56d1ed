"""Selects the runs to compare with printed numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.models.find_weights import training_notes
from harness.models.published import publication
from harness.models.weights import authors_row
from harness.protocol.rules import USUAL_GREY, Protocol, protocol, rules_in_use
from harness.run.provenance import foreign_origin, grey_images_of

if TYPE_CHECKING:
    from harness.cards import Preset
    from harness.paper.schema import Table
    from harness.record import RunRecord


def is_comparable(record: RunRecord) -> bool:
    """Whether a run is of whole images, of LR images made here, and of the harness's own code."""
    identity = record.identity
    return identity.tile is None and not identity.lr_sha256 and not foreign_origin(record)


def rank(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Order runs, those that speak for a number first.

    The authors' weights come first, then images that they published, then weights trained by this
    project, then other weights, then images of unknown origin or another network. Among those of a
    kind, records of the current version come before those of earlier versions. Among weights
    trained by this project, those that saw more pixels in training come first; then later runs.
    """

    def priority(run: RunRecord) -> tuple[bool, bool, bool, bool, int, str, str]:
        authors, images = speaks_for_the_authors(run), bool(run.identity.sr_sha256)
        time, notes = run.provenance.get("utc", ""), training_notes(run)
        trained_here = notes.key != ""
        rest = not run.earlier, notes.pixels, time, run.identity.id
        return authors, not images, trained_here, *rest

    return sorted(records, key=priority, reverse=True)


GREY = "grey images"
"""What the words of a rule for grey images begin with."""

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
    official = [run for run in with_metric if is_by_the_authors(run)]
    by_rules: dict[tuple[str, ...], Measurement] = {}
    for run in official or [run for run in with_metric if follows(run, preset)]:
        rules = departures(run, preset)
        ways = {metric: rules} | ({"ssim-whole": (*rules, WHOLE)} if metric == "ssim" else {})
        for name, under in ways.items():
            if name in run.means:
                one = Measurement(run.means[name], under, run, name not in run.infinite)
                by_rules.setdefault(under, one)
    return sorted(by_rules.values(), key=lambda one: (len(one.rules), one.rules))


def is_by_the_authors(run: RunRecord) -> bool:
    """Whether the authors published a run's weights or images, or it needs none.

    They may be of another network than the paper's. The tag of weights is no evidence, see
    `harness.models.weights.authors_row`.
    """
    needs_none = run.identity.weights_sha256 is None and not run.identity.sr_sha256
    return needs_none or _pinned(run) is not None


def speaks_for_the_authors(run: RunRecord) -> bool:
    """Whether a run used the authors' weights or images of the paper's network, or needs none."""
    source = _pinned(run)
    return is_by_the_authors(run) and not (source and source["note"])


def _pinned(run: RunRecord) -> Mapping[str, str] | None:
    """Return the pinned row of the authors' weights or images that a run used, if it did.

    The row's ``note`` names the network, if it is not the one of the paper.
    """
    if run.identity.sr_sha256:
        return publication(run.identity)
    if run.weights is None or run.identity.weights_sha256 is None:
        return None
    # The identity's hash is part of the run's id.
    info = replace(run.weights, tensors_sha256=run.identity.weights_sha256)
    return authors_row(run.identity.model, run.identity.scale, info)


def of_another_network(run: RunRecord, table: Table) -> str:
    """Say whose a run's weights or images are, if of another network than a table's; empty else.

    Such a run is shown beside a printed number and says nothing of it. Numbers that were read from
    the repository that holds the weights or images are of their network.
    """
    source = _pinned(run)
    if source is None or any(one.startswith(f"{source['repository']},") for one in table.read_from):
        return ""
    kind = "images" if run.identity.sr_sha256 else "weights"
    return f"the {kind} are those of {source['note']}" if source["note"] else ""


def decides(run: RunRecord, table: Table) -> bool:
    """Whether a run speaks for the authors of a table's network: it can refute their numbers."""
    return is_by_the_authors(run) and not of_another_network(run, table)


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
    return grey_images_of(run) == frozenset()


def departures(run: RunRecord, preset: Preset) -> tuple[str, ...]:
    """List the rules of a run that differ from a preset, in words."""
    return _departures(protocol(run.identity.protocol), run, preset)


def _departures(rules: Protocol, run: RunRecord, preset: Preset) -> tuple[str, ...]:
    """List in words where a protocol differs from a preset, for the images of a run."""
    grey = preset.grey or USUAL_GREY[rules.pipeline]
    images = run.identity.sr_sha256  # whose LR images were not made here
    words = {
        f"{GREY} {rules.grey}": rules.grey != grey and not without_grey(run),
        f"{rules.border} border of imresize": rules.border != preset.border and not images,
        "LR images not rounded": rules.float_lr,
        "luma not rounded": rules.float_y,
    }
    return tuple(word for word, holds in words.items() if holds)


def rule_sets(run: RunRecord, metric: str, preset: Preset) -> list[tuple[str, ...]]:
    """List all sets of rules in use under which a printed number may have been measured.

    Each is what `measurements` calls it: the rules that differ from the preset, in words.

    Args:
        run: any run of the number.
        metric: its name.
        preset: the table's rules.
    """
    rules = protocol(run.identity.protocol)
    own = Protocol(rules.pipeline, rules.scale, preset.border, preset.grey)  # type: ignore[arg-type]
    # The authors made published images from their own LR images, so no rule for these is open.
    given = bool(run.identity.sr_sha256)
    used = rules_in_use(own, grey=not without_grey(run), lr_given=given)
    found = [_departures(one, run, preset) for one in used]
    # Every combination counts, since effects add up: on Set14 the grey rule is worth 0.0016 of
    # SSIM, rounding 0.0008 and the edges 0.0007, where the tolerance is 0.001.
    found += [(*words, WHOLE) for words in found] if metric == "ssim" else []
    return sorted(found, key=len)
