"""Compares local run records with reference records, within tolerances."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.errors import HarnessError, MismatchError, UsageError
from harness.protocol.rules import Protocol, protocol
from harness.record import canonical_json, finite_mean
from harness.run.names import all_tags, checkpoint_of, checkpoints_called
from harness.run.provenance import foreign_origin
from harness.text import listed

if TYPE_CHECKING:
    from pathlib import Path

    from harness.record import RunRecord


@dataclass(frozen=True)
class Tier:
    """The tolerances of one kind of comparison.

    Attributes:
        name: what the two numbers have in common.
        psnr: tolerance in dB.
        ssim: tolerance, also for ``ssim-whole``.
    """

    name: str
    psnr: float
    ssim: float

    def of(self, metric: str, size: float = 0.0) -> float:
        """Return the tolerance of a metric.

        The scale of metrics other than PSNR and SSIM is unknown, so their tolerance is relative:
        the relative change of a mean squared error that corresponds to ``psnr``. That is 0.0023 %
        for models without parameters, 0.12 % for the same weights, and 1.2 to 4.7 % for retrained
        ones.

        Args:
            metric: its name.
            size: the mean absolute value of the metric.
        """
        known = {"psnr": self.psnr, "ssim": self.ssim, "ssim-whole": self.ssim}
        share = 10 ** (self.psnr / 10) - 1
        return known.get(metric, max(share * size, ZERO))


ZERO = 1e-12
"""The rounding error of a score of 0 in double; the least tolerance where the scale is unknown."""


EXACT = Tier("exact", 1e-4, 1e-6)
"""Models without parameters: only the metrics differ, in double, by the order of summation. This
detects every rule that changes a number: the smallest change, imresize's border, is 0.0007 dB."""

FROZEN = Tier("same weights", 0.005, 0.0005)
"""The same weights in the same network: fp32 kernels differ between machines and change a few
output pixels by one level. Lower precision (bf16: 0.04 dB) fails."""

RETRAINED = {
    "set5": Tier("retrained", 0.2, 0.003),
    "set14": Tier("retrained", 0.1, 0.0025),
    "b100": Tier("retrained", 0.05, 0.002),
}
"""Other weights of the same network, by set: a mean over few images varies more. The standard error
of the difference between two networks is 0.33, 0.12 and 0.03 dB on these sets. The SSIM
tolerance follows from the PSNR: among published networks, SSIM rises by 0.014, 0.025 and 0.039 per
dB."""

RETRAINED_ELSEWHERE = Tier("retrained", 0.2, 0.003)
"""The widest of these tolerances, for all other sets."""


Excuse = Literal["", "ok", "inconsistent in print", "reproduced under other rules", "undecided"]
CheckVerdict = Literal["FAIL", "not run", Excuse]


@dataclass(frozen=True)
class CheckRow:
    """A measured number and the expected one.

    Attributes:
        metric: its name, such as ``psnr`` (in dB); ``record`` for an unsound record, ``run`` for a
            failed run that the reference has no number of.
        expected: the number of the reference or the paper; None for these two.
        place: the id and scale of the table that prints the number; empty for a record.
        run: the protocol, unusual settings and the kind of weights; empty where a printed number
            has no run.
        record: the beginning of the run's id; empty without a run.
        reference: the beginning of the id of the reference run; empty for a printed number.
        measured: mean over the set; None where there is no finished run with this metric.
        tolerance: how far the two may differ; None where nothing is measured, and with
            ``other_weights``.
        tier: the name of the tolerance's tier; empty without a tolerance.
        known: why a difference from the printed number is excused: other weights than the authors'
            reach more (``ok``), the paper's other numbers contradict it, it holds under other
            rules, or what was measured cannot refute it.
        broken: the run failed, or its record is not sound.
        impossible: the harness cannot measure the number: it never fails.
        other_weights: the run has other weights or SR images than the reference, where only the
            same ones pass.
        optional: ``--require`` does not ask for the number: the reference has it under other rules
            or settings than those of a plain run.
        reason: a remark on the printed number, why it was not or cannot be measured, the fault of
            the run or its record, or how the record differs from its reference.
        image: the image whose score is farthest from the reference's, where both runs have the same
            weights and images; a mean can hide it. With other weights, one whose score is infinite
            in only one of the runs; for a printed number, one whose score is infinite.
        apart: how far that image's score is from the reference's.
    """

    model: str
    dataset: str
    metric: str
    expected: float | None = None
    place: str = ""
    run: str = ""
    record: str = ""
    reference: str = ""
    measured: float | None = None
    tolerance: float | None = None
    tier: str = ""
    known: Excuse = ""
    broken: bool = False
    impossible: bool = False
    other_weights: bool = False
    optional: bool = False
    reason: str = ""
    image: str = ""
    apart: float = 0.0

    @property
    def difference(self) -> float | None:
        """Measured minus expected; 0 where both are infinite."""
        if self.measured is None or self.expected is None:
            return None
        return distance(self.measured, self.expected)

    @property
    def verdict(self) -> CheckVerdict:
        """The result of the check; a number that decides nothing is not ok even if it agrees."""
        if self.broken or self.other_weights:
            return "FAIL"
        if self.difference is None or self.tolerance is None:
            return "not run"
        within = all(abs(off) <= self.tolerance for off in (self.difference, self.apart))
        if within and self.known not in ("inconsistent in print", "undecided"):
            return "ok"
        return self.known or "FAIL"

    def violates(self, require: bool) -> bool:
        """Whether this row fails the check; with ``require``, a row without a run also fails.

        A run that lacks a metric of its reference always fails.
        """
        lacking = bool(self.record) or (require and not (self.impossible or self.optional))
        return self.verdict == "FAIL" or (self.verdict == "not run" and lacking)


def distance(one: float, other: float) -> float:
    """Subtract one score from another; 0 where both are infinite."""
    return 0.0 if one == other else one - other


def restrict(
    rows: Sequence[CheckRow],
    models: Sequence[str],
    datasets: Sequence[str],
    against: str = "reference",
) -> list[CheckRow]:
    """Select the rows of some models and sets: names, globs or ``all``.

    Of a checkpoint such as ``mine:a``, the model counts: `of_checkpoints` selects the runs.

    Raises:
        MismatchError: a word matches nothing: without an error its check would silently pass.
    """
    wanted = [word.partition(":")[0] for word in models]
    for kind, words, of in (("model", wanted, "of"), ("dataset", datasets, "of these models on")):
        names = [getattr(row, kind) for row in rows]
        expected = [getattr(row, kind) for row in rows if row.expected is not None]
        try:
            selected = matching(f"The {against} has no numbers {of}", names, words, expected)
        except UsageError as error:
            raise MismatchError(f"Nothing was compared. {error}") from error
        rows = [row for row in rows if getattr(row, kind) in selected]
    return list(rows)


def of_checkpoints(
    records: Mapping[Path, RunRecord], models: Collection[str]
) -> dict[Path, RunRecord]:
    """Where words name checkpoints of a model, such as ``mine:a``, leave out its other runs.

    Raises:
        UsageError: as `checkpoints_called`.
    """
    named = [word for word in models if ":" in word]
    chosen = {run.identity.id for word in named for run in _runs_called(word, records.values())}

    def is_left_out(run: RunRecord) -> bool:
        def matches(word: str) -> bool:
            return bool(_matching(word.partition(":")[0], [run.identity.model]))

        whole = any(matches(word) for word in models if word not in named)
        return any(map(matches, named)) and not whole and run.identity.id not in chosen

    return {path: run for path, run in records.items() if not is_left_out(run)}


def _runs_called(checkpoint: str, records: Collection[RunRecord]) -> list[RunRecord]:
    """Select the runs of a checkpoint such as ``mine:a``, or of those that a glob matches."""
    checkpoints = checkpoints_called(checkpoint, all_tags(records))
    return [run for run in records if checkpoint_of(run) in checkpoints]


def uncompared(
    rows: Iterable[CheckRow],
    models: Iterable[str],
    datasets: Iterable[str],
    records: Collection[RunRecord],
) -> list[str]:
    """List those words of a request for which no number was compared; see `restrict`.

    The ``records`` are all local ones, which give checkpoints their names.
    """
    compared = [row for row in rows if row.measured is not None]
    of_models = [row.model for row in compared]
    of_sets = [row.dataset for row in compared]
    ids = {row.record for row in compared}

    def is_compared(model: str) -> bool:
        if ":" not in model:
            return bool(_matching(model, of_models))
        return any(run.identity.id[:12] in ids for run in _runs_called(model, records))

    return [
        *(word for word in models if not is_compared(word)),
        *(word for word in datasets if not _matching(word, of_sets)),
    ]


def matching(
    lacking: str, names: Sequence[str], words: Iterable[str], there: Iterable[str] | None = None
) -> set[str]:
    """Select names by some of them, globs or ``all``, in any case.

    Args:
        lacking: the beginning of the error, such as ``The reference has no numbers of``.
        names: the names to select from.
        words: the request.
        there: the names that the error lists.  [default: all]

    Raises:
        UsageError: a word matches nothing.
    """
    selected: set[str] = set()
    for word in words:
        matches = _matching(word, names)
        if not matches:
            has = listed([*dict.fromkeys(names if there is None else there)]) or "no others"
            raise UsageError(f"{lacking} {word}; it has {has}.")
        selected |= set(matches)
    return selected


def _matching(word: str, names: Sequence[str]) -> Sequence[str]:
    """Select names by one of them, a glob or ``all``, in any case."""
    pattern = "*" if word.lower() == "all" else word.lower()
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern)]


def with_tolerance(rows: Iterable[CheckRow], psnr: float) -> list[CheckRow]:
    """Set one PSNR tolerance (dB) for all tiers."""
    return [
        replace(row, tolerance=psnr) if row.metric == "psnr" and row.tier else row for row in rows
    ]


CellKey = tuple[str, ...]


def bad_rows(bad: Mapping[Path, HarnessError]) -> list[CheckRow]:
    """Make a failing row for each record that is damaged, altered or contradicts another."""
    return [
        CheckRow(
            path.stem.rpartition("-")[0],
            path.parent.name,
            "record",
            run=str(path),
            broken=True,
            reason=str(error),
        )
        for path, error in bad.items()
    ]


def against_reference(
    local: Iterable[RunRecord], reference: Iterable[RunRecord], *, retrained: bool = False
) -> list[CheckRow]:
    """Compare each metric of every local run with the reference run of its cell.

    A cell is a model on a set with the same protocol, self-ensemble, tile and arguments. A cell of
    the reference without a local run gets rows, too. Failed runs count where none with the same
    weights finished later. If the reference has several runs of a cell, a local run is compared
    with the same run, else with one with the same weights, else with one whose weights have the
    same tag, else with the latest: each metric with one that has it. A metric of that run fails if
    no local run of the cell has it; metrics of the local run alone are not compared. A run with
    other weights than the reference's fails; if ``retrained``, it has the tolerances of retrained
    ones. A failed run fails in a cell that the reference lacks, too.

    Raises:
        UsageError: there is no reference.
    """
    finished = (record for record in reference if record.status == "finished")
    ours, theirs = _by_cell(local), _by_cell(finished)
    if not theirs:
        raise UsageError(
            "There are no reference records to compare with: name their folder with --reference."
        )
    rows: list[CheckRow] = []
    for cell, candidates in theirs.items():
        records = ours.get(cell, ())
        computed = {metric for record in records for metric in record.identity.metrics}
        compared = [
            row
            for record in records
            for row in _compare_all(record, candidates, computed, retrained=retrained)
        ]
        absent = {
            metric: _expect(run, metric) for run in reversed(candidates) for metric in run.means
        }
        for row in compared:
            absent.pop(row.metric, None)
        rows += [*compared, *absent.values()]
    rest = (run for cell, runs in ours.items() if cell not in theirs for run in runs)
    return rows + [_failed(run) for run in rest if run.status != "finished"]


def _failed(record: RunRecord) -> CheckRow:
    """Make the row of a failed run that the reference has no number of."""
    row = CheckRow(record.identity.model, record.identity.dataset, "run")
    return compare_mean(record, row, EXACT, 0.0)


def _compare_all(
    record: RunRecord, candidates: Sequence[RunRecord], computed: Set[str], *, retrained: bool
) -> list[CheckRow]:
    """Compare a run's metrics with the reference runs of its cell.

    A metric that no local run of the cell has ``computed`` is compared, too, and fails.
    """

    def closest(runs: Iterable[RunRecord]) -> RunRecord:
        return max(runs, key=lambda other: _similarity(record, other))

    nearest, rows = closest(candidates), []
    for metric in dict.fromkeys(name for run in candidates for name in run.identity.metrics):
        with_metric = [run for run in candidates if metric in run.identity.metrics]
        if metric in record.identity.metrics:
            rows.append(_compare_metric(record, closest(with_metric), metric, retrained))
        elif nearest in with_metric and metric not in computed:
            rows.append(_compare_metric(record, nearest, metric, retrained))
    return rows


def _compare_metric(
    record: RunRecord, other: RunRecord, metric: str, may_be_retrained: bool
) -> CheckRow:
    """Compare a metric of a run with that of a reference run."""
    others = _made_by(record) != _made_by(other)
    tier = EXACT if record.identity.weights_sha256 is None else FROZEN
    if others and may_be_retrained:
        tier = retrained(record)
    expected = replace(_expect(other, metric), reason=_differences(record, other, metric))
    row = compare_mean(record, expected, tier, _size(other, metric))
    if row.measured is not None and others and not may_be_retrained:
        return replace(row, other_weights=True, tolerance=None, tier="")
    same_images = record.identity.dataset_sha256 == other.identity.dataset_sha256
    if row.measured is None or not same_images:
        return row
    return _with_worst_image(row, record, other, finite=tier in (EXACT, FROZEN))


def _size(record: RunRecord, metric: str) -> float:
    """Average a metric's absolute values over the images: its mean may be near 0."""
    sizes = [abs(image.scores[metric]) for image in record.images]
    return finite_mean(sizes) if any(map(math.isfinite, sizes)) else 0.0


def _by_cell(records: Iterable[RunRecord]) -> dict[CellKey, list[RunRecord]]:
    """Group the records that count by model, set and rules."""
    cells: dict[CellKey, list[RunRecord]] = {}
    for record in records:
        if not foreign_origin(record):
            cells.setdefault(cell_of(record), []).append(record)
    return {cell: _without_repeated(runs) for cell, runs in cells.items()}


def cell_of(record: RunRecord) -> CellKey:
    """The model, the set, and the rules and settings of a run."""
    return record.identity.model, record.identity.dataset, _how(record)


def _without_repeated(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Leave out the failed runs of a cell before the last finished one with the same weights."""
    done: dict[tuple[str | None, str | None], str] = {}
    for run in records:
        if run.status == "finished":
            done[_made_by(run)] = max(_time(run), done.get(_made_by(run), ""))
    return [
        run
        for run in records
        if run.status == "finished" or _made_by(run) not in done or _time(run) > done[_made_by(run)]
    ]


def _time(record: RunRecord) -> str:
    return str(record.provenance.get("utc", ""))


def _how(record: RunRecord) -> str:
    """Describe the protocol and any unusual way in which the network was built and applied."""
    identity = record.identity
    unusual = ["self-ensemble"] * identity.self_ensemble
    unusual += [f"tile {identity.tile}"] * bool(identity.tile)
    unusual += ["given LR images"] * bool(identity.lr_sha256)
    unusual += [canonical_json(identity.hyper)] * bool(identity.hyper)
    return ", ".join([identity.protocol, *unusual])


def _similarity(record: RunRecord, other: RunRecord) -> tuple[bool, bool, bool, bool, bool, str]:
    return (
        record.identity.id == other.identity.id,
        record.identity.dataset_sha256 == other.identity.dataset_sha256,
        _made_by(record) == _made_by(other),
        record.tag == other.tag,
        set(other.identity.metrics) <= set(record.identity.metrics),
        _time(other),
    )


_PARTS = {
    "source_sha256": "network source",
    "protocol_sha256": "rules",
    "dataset_sha256": "images",
    "inference": "way of running networks",
    "weights_sha256": "weights",
    "lr_sha256": "LR images",
    "sr_sha256": "SR images",
}


def _differences(record: RunRecord, other: RunRecord, metric: str) -> str:
    if record.earlier or other.earlier:
        return "an earlier version of the harness made one of the records"
    ours, theirs = asdict(record.identity), asdict(other.identity)
    parts = [part for name, part in _PARTS.items() if ours[name] != theirs[name]]
    plugins = [one.plugins.get(metric, {}).get("sha256") for one in (record, other)]
    parts += [f"plug-in of {metric}"] * (plugins[0] != plugins[1])
    return f"other {', '.join(parts)} than the reference's" if parts else ""


def _made_by(record: RunRecord) -> tuple[str | None, str | None]:
    """The hashes of a run's weights and of its published images."""
    return record.identity.weights_sha256, record.identity.sr_sha256


def retrained(record: RunRecord) -> Tier:
    """Return the tolerances of a run with other weights of the network."""
    return RETRAINED.get(record.identity.dataset, RETRAINED_ELSEWHERE)


def _expect(record: RunRecord, metric: str) -> CheckRow:
    """Make the row that a reference record expects."""
    identity = record.identity
    place = (identity.model, identity.dataset, metric)
    optional = not _is_plain(record) or metric == "ssim-whole"  # which is SSIM by another rule
    return CheckRow(
        *place,
        record.means[metric],
        run=_how(record),
        reference=identity.id[:12],
        optional=optional,
    )


def _is_plain(record: RunRecord) -> bool:
    """Whether a run has its pipeline's own rules, and none of the settings of `_how`."""
    rules = protocol(record.identity.protocol)
    return _how(record) == Protocol(rules.pipeline, rules.scale).name


def compare_mean(record: RunRecord, expected: CheckRow, tier: Tier, size: float) -> CheckRow:
    """Fill a row with the measured number, or with the reason why there is none.

    The ``size`` of the metric is that of `Tier.of`.
    """
    row = replace(expected, run=_settings(record), record=record.identity.id[:12])
    if record.status != "finished":
        return replace(row, broken=True, reason=f"the run failed: {record.error}")
    if row.metric not in record.identity.metrics:
        return replace(row, reason=f"run it again with --metric {row.metric}")
    tolerance = tier.of(row.metric, size)
    return replace(row, measured=record.means[row.metric], tolerance=tolerance, tier=tier.name)


def _with_worst_image(
    row: CheckRow, record: RunRecord, other: RunRecord, *, finite: bool
) -> CheckRow:
    """Add the image that is farthest from the reference's to the row.

    Without ``finite``, only an image with an infinite score in one of the runs counts: one mean
    leaves it out, so the two means are over different images.
    """
    theirs = {image.image: image.scores[row.metric] for image in other.images}
    distances = {
        image.image: distance(image.scores[row.metric], theirs[image.image])
        for image in record.images
    }
    worst = max(distances, key=lambda name: abs(distances[name]))
    if not finite and math.isfinite(distances[worst]):
        return row
    return replace(row, image=worst, apart=distances[worst])


def _settings(record: RunRecord) -> str:
    """Describe how a run was made, and with which weights."""
    weights = [f"weights {record.weights.tag}"] if record.weights else []
    weights += [record.tag] if record.identity.sr_sha256 else []
    others = [name for name in record.identity.metrics if name not in ("psnr", "ssim")]
    return ", ".join([_how(record), *weights, *others])
