"""Compares local records with the reference records, or with the paper's Table 2."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError, UsageError
from harness.paper.schema import SCORES, suspicious
from harness.paper.select import foreign_origin, plain_protocols, speaks_for_the_authors
from harness.paper.tolerances import EXACT, FROZEN, PRINTED, RETRAINED, RETRAINED_ELSEWHERE, Tier
from harness.record import canonical_json, finite_mean

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cards import GreyRule
    from harness.record import RunRecord


Excuse = Literal["", "known misprint", "other rules"]
CheckVerdict = Literal["ok", "FAIL", "not run", "known misprint", "other rules"]


@dataclass(frozen=True)
class CheckRow:
    """A measured number and the expected one.

    Attributes:
        metric: its name, such as ``psnr`` (in dB); ``record`` for an unsound local record.
        expected: the number of the reference or the paper; None for an unsound record.
        run: the protocol, unusual settings and the kind of weights; empty where the paper's cell
            has no run.
        record: the beginning of the run's id; empty without a run.
        measured: mean over the set; None where there is no finished run with this metric.
        tolerance: how far the two may differ; None where nothing is measured.
        tier: the name of the tolerance's tier.
        known: why a difference from the printed number is excused: the paper's other numbers
            contradict it, or the authors' weights give it under other rules.
        broken: the run failed, or its record is not sound.
        reason: a remark on the printed number, the fault of the run or its record, or how the
            record differs from its reference.
        image: the image whose score is farthest from the reference's, where both runs have the same
            weights and images; a mean can hide it. With other weights, one whose score is infinite
            in only one of the runs; for a printed number, one whose score is infinite.
        apart: how far that image's score is from the reference's.
    """

    model: str
    dataset: str
    metric: str
    expected: float | None = None
    run: str = ""
    record: str = ""
    measured: float | None = None
    tolerance: float | None = None
    tier: str = ""
    known: Excuse = ""
    broken: bool = False
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
        """The result of the check; a number that agrees with a suspicious one is ok."""
        if self.broken:
            return "FAIL"
        if self.difference is None or self.tolerance is None:
            return "not run"
        if all(abs(off) <= self.tolerance for off in (self.difference, self.apart)):
            return "ok"
        return self.known or "FAIL"

    def violates(self, require: bool) -> bool:
        """Whether this row fails the check; with ``require``, a row without a run also fails.

        A run that lacks a metric of its reference always fails.
        """
        lacking = bool(self.record)
        return self.verdict == "FAIL" or (self.verdict == "not run" and (require or lacking))


def distance(one: float, other: float) -> float:
    """Subtract one score from another; 0 where both are infinite."""
    return 0.0 if one == other else one - other


def restrict(
    rows: Sequence[CheckRow], models: Sequence[str], datasets: Sequence[str]
) -> list[CheckRow]:
    """Select the rows of some models and sets: names, globs or ``all``.

    Raises:
        UsageError: a word matches nothing: without an error its check would silently pass.
    """
    for kind, words in (("model", models), ("dataset", datasets)):
        names = list(dict.fromkeys(getattr(row, kind) for row in rows))
        selected: set[str] = set()
        for word in words:
            matches = names if word == "all" else fnmatch.filter(names, word)
            if not matches:
                available = ", ".join(names) or "nothing"
                raise UsageError(f"No expected {kind} matches {word!r}: there are {available}.")
            selected |= set(matches)
        rows = [row for row in rows if getattr(row, kind) in selected]
    return list(rows)


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
            run=path.stem,
            broken=True,
            reason=str(error),
        )
        for path, error in bad.items()
    ]


def against_reference(local: Iterable[RunRecord], reference: Iterable[RunRecord]) -> list[CheckRow]:
    """Compare each metric of every local run with the reference run of its cell.

    A cell is a model on a set with the same protocol, self-ensemble, tile, arguments and kind of
    weights. A cell of the reference without a local run gets rows, too. Failed runs count where
    none is finished. If the reference has several runs of a cell, a local run is compared with the
    same run, else with one with the same weights, else with the latest: each metric with one that
    has it. A metric of that run fails if no local run of the cell has it; metrics of the local run
    alone are not compared.

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
        compared = [row for record in records for row in _compare_all(record, candidates, computed)]
        absent = {
            metric: _expect(run, metric) for run in reversed(candidates) for metric in run.means
        }
        for row in compared:
            absent.pop(row.metric, None)
        rows += [*compared, *absent.values()]
    return rows


def _compare_all(
    record: RunRecord, candidates: Sequence[RunRecord], computed: Set[str]
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
            rows.append(_compare_metric(record, closest(with_metric), metric))
        elif nearest in with_metric and metric not in computed:
            rows.append(_compare_metric(record, nearest, metric))
    return rows


def _compare_metric(record: RunRecord, other: RunRecord, metric: str) -> CheckRow:
    """Compare a metric of a run with that of a reference run."""
    tier = _shared_tier(record, other)
    expected = replace(_expect(other, metric), reason=_differences(record, other, metric))
    row = _compare(record, expected, tier, _size(other, metric))
    same_images = record.identity.dataset_sha256 == other.identity.dataset_sha256
    if row.measured is None or not same_images:
        return row
    return _with_worst_image(row, record, other, finite=tier in (EXACT, FROZEN))


def _size(record: RunRecord, metric: str) -> float:
    """Average a metric's absolute values over the images: its mean may be near 0."""
    sizes = [abs(image.scores[metric]) for image in record.images]
    return finite_mean(sizes) if any(map(math.isfinite, sizes)) else 0.0


def against_paper(
    local: Iterable[RunRecord], paper: Mapping[str, Any], grey: GreyRule | None = None
) -> list[CheckRow]:
    """Make two rows for every local run of a printed cell of Table 2, or for a cell without runs.

    Failed runs count where none is finished.

    Args:
        local: records; those with self-ensemble, tiles, arguments or other rules do not count.
        paper: the output of `harness.paper.schema.paper`.
        grey: the grey rule of the runs that count; None for each row's own.
    """
    scale = paper["table2"]["scale"]
    runs: dict[CellKey, list[RunRecord]] = {}
    for (*cell, how, _), records in _by_cell(local).items():
        if how in plain_protocols(scale, grey, *cell):
            runs.setdefault(tuple(cell), []).extend(records)
    rows: list[CheckRow] = []
    for line in paper["table2"]["rows"]:
        for dataset in (name for name, values in line.items() if isinstance(values, list)):
            records = _finished_or_failed(runs.get((line["model"], dataset), ()))
            rows += [row for record in records for row in _compare_printed(record, line, paper)]
            rows += [] if records else _printed(line, dataset)
    return rows


def _by_cell(records: Iterable[RunRecord]) -> dict[CellKey, list[RunRecord]]:
    """Group the records that count by model, set, rules and kind of weights."""
    cells: dict[CellKey, list[RunRecord]] = {}
    for record in records:
        if foreign_origin(record):
            continue
        tag = record.weights.tag if record.weights else ""
        cell = (record.identity.model, record.identity.dataset, _how(record), tag)
        cells.setdefault(cell, []).append(record)
    return {cell: _finished_or_failed(runs) for cell, runs in cells.items()}


def _finished_or_failed(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the finished runs, or all failed ones if none is finished."""
    return [run for run in records if run.status == "finished"] or list(records)


def _how(record: RunRecord) -> str:
    """Describe the protocol and any unusual way in which the network was built and applied."""
    identity = record.identity
    unusual = ["self-ensemble"] * identity.self_ensemble
    unusual += [f"tile {identity.tile}"] * bool(identity.tile)
    unusual += ["given LR images"] * bool(identity.lr_sha256)
    unusual += [canonical_json(identity.hyper)] * bool(identity.hyper)
    return ", ".join([identity.protocol, *unusual])


def _similarity(record: RunRecord, other: RunRecord) -> tuple[bool, bool, bool, bool, str]:
    return (
        record.identity.id == other.identity.id,
        record.identity.dataset_sha256 == other.identity.dataset_sha256,
        record.identity.weights_sha256 == other.identity.weights_sha256,
        set(other.identity.metrics) <= set(record.identity.metrics),
        other.provenance.get("utc", ""),
    )


_PARTS = {
    "source_sha256": "network source",
    "protocol_sha256": "rules",
    "dataset_sha256": "images",
    "inference": "way of running networks",
    "weights_sha256": "weights",
    "lr_sha256": "LR images",
}


def _differences(record: RunRecord, other: RunRecord, metric: str) -> str:
    if record.earlier or other.earlier:
        return "an earlier version of the harness made one of the records"
    ours, theirs = asdict(record.identity), asdict(other.identity)
    parts = [part for name, part in _PARTS.items() if ours[name] != theirs[name]]
    plugins = [one.plugins.get(metric, {}).get("sha256") for one in (record, other)]
    parts += [f"plug-in of {metric}"] * (plugins[0] != plugins[1])
    return f"other {', '.join(parts)} than the reference's" if parts else ""


def _shared_tier(record: RunRecord, other: RunRecord) -> Tier:
    ours, theirs = record.identity.weights_sha256, other.identity.weights_sha256
    if ours != theirs:
        return _retrained(record)
    return EXACT if ours is None else FROZEN


def _retrained(record: RunRecord) -> Tier:
    return RETRAINED.get(record.identity.dataset, RETRAINED_ELSEWHERE)


def _expect(record: RunRecord, metric: str) -> CheckRow:
    """Make the row that a reference record expects."""
    identity = record.identity
    return CheckRow(identity.model, identity.dataset, metric, record.means[metric], _how(record))


def _printed(line: Mapping[str, Any], dataset: str) -> list[CheckRow]:
    """List the rows that a row of Table 2 expects on a set."""
    values = zip(SCORES, line[dataset], strict=True)
    return [CheckRow(line["model"], dataset, name, value) for name, value in values]


def _compare_printed(
    record: RunRecord, line: Mapping[str, Any], paper: Mapping[str, Any]
) -> list[CheckRow]:
    """Compare a run with the printed numbers of its cell, excuses included."""
    official = speaks_for_the_authors(record)
    tier = PRINTED if official else _retrained(record)
    rows = []
    for expected in _printed(line, record.identity.dataset):
        row = _compare(record, expected, tier)
        if row.tolerance is not None:
            row = _with_remark(_with_infinite_image(row, record), paper, official)
        rows.append(row)
    return rows


def _with_infinite_image(row: CheckRow, record: RunRecord) -> CheckRow:
    """Add an image with an infinite score to the row, if any: printed means include all images."""
    scores = {image.image: image.scores[row.metric] for image in record.images}
    name = next((name for name, score in scores.items() if not math.isfinite(score)), None)
    return replace(row, image=name, apart=scores[name]) if name else row


_EXCUSES: Mapping[str, Excuse] = {"print": "known misprint", "measurement": "other rules"}


def _with_remark(row: CheckRow, paper: Mapping[str, Any], official: bool) -> CheckRow:
    """Add the remark on a suspicious printed number to its row.

    Only the value that the authors' weights are known to give is excused.
    """
    entry = suspicious(paper).get((row.model, row.dataset, row.metric))
    if entry is None:
        return row
    off = replace(row, expected=entry.get("measured")).difference
    is_known = official and off is not None and abs(off) <= FROZEN.of(row.metric)
    excuse = _EXCUSES.get(entry["seen"], "") if is_known else ""
    return replace(row, known=excuse, reason=entry["reason"])


def _compare(record: RunRecord, expected: CheckRow, tier: Tier, size: float = 0.0) -> CheckRow:
    """Fill a row with the measured number, or with the reason why there is none."""
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
    weights = [f"{record.weights.tag} weights"] if record.weights else []
    return ", ".join([_how(record), *weights, *record.identity.metrics[len(SCORES) :]])
