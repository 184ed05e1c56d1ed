"""Holds local records against the reference records, or against the paper's Table 2."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError, UsageError
from harness.paper.schema import SCORES
from harness.paper.select import foreign_origin, plain_protocols, speaks_for_the_authors
from harness.paper.tolerances import EXACT, FROZEN, PRINTED, RETRAINED, RETRAINED_ELSEWHERE, Tier
from harness.record import canonical_json, finite_mean

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cards import GreyRule
    from harness.record import RunRecord
    from harness.run.store import ResultStore


Excuse = Literal["", "known misprint", "other rules"]
CheckVerdict = Literal["ok", "FAIL", "not run", "known misprint", "other rules"]


@dataclass(frozen=True)
class CheckRow:
    """One number beside the one that is expected.

    Attributes:
        model: its name.
        dataset: the set.
        metric: its name, such as ``psnr`` (in dB); ``record`` for a local record that is not sound.
        expected: what the reference or the paper says; None for a record that is not sound.
        run: how the number was made: the protocol, what was unusual, the kind of weights; empty
            where the paper's cell has no run.
        record: the beginning of the run's id; empty without a run.
        measured: mean over the set; None where there is no finished run with this metric.
        tolerance: how far the two may differ; None where nothing is measured.
        tier: the name of the tolerance's tier.
        known: what excuses a number that is not as printed: a misprint, by the paper's other
            numbers, or other rules, under which the authors' weights give what is printed.
        broken: the run broke, or its record is not sound.
        reason: what is known of a printed number, what is wrong with the run or its record, or what
            the record does not share with its reference.
        image: the image whose score is farthest from the reference's, where both runs have the same
            weights and images; a mean can hide it. With other weights, one whose score is infinite
            in one of the runs only; beside a printed number, one whose score is infinite.
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
        """What came of it; a number that agrees with what looks wrong is ok."""
        if self.broken:
            return "FAIL"
        if self.difference is None or self.tolerance is None:
            return "not run"
        if all(abs(off) <= self.tolerance for off in (self.difference, self.apart)):
            return "ok"
        return self.known or "FAIL"

    def violates(self, require: bool) -> bool:
        """Whether the check fails for it; with ``require``, also where there is no run.

        A run without a metric that its reference has fails in any case.
        """
        return self.verdict == "FAIL" or (self.verdict == "not run" and (require or self.lacking))

    @property
    def lacking(self) -> bool:
        """There is a finished run, and it lacks the metric."""
        return bool(self.record) and self.measured is None and not self.broken


def distance(one: float, other: float) -> float:
    """One score minus another; 0 where both are infinite."""
    return 0.0 if one == other else one - other


def restrict(
    rows: Sequence[CheckRow], models: Sequence[str], datasets: Sequence[str]
) -> list[CheckRow]:
    """The rows of some models and sets: names, globs or ``all``.

    Raises:
        UsageError: a word fits none, so that a check of it would pass unseen.
    """
    for kind, words in (("model", models), ("dataset", datasets)):
        names = list(dict.fromkeys(getattr(row, kind) for row in rows))
        kept: set[str] = set()
        for word in words:
            found = names if word == "all" else fnmatch.filter(names, word)
            if not found:
                there = ", ".join(names) or "nothing"
                raise UsageError(f"No {kind} {word!r} is among what is expected: {there}.")
            kept |= set(found)
        rows = [row for row in rows if getattr(row, kind) in kept]
    return list(rows)


def with_tolerance(rows: Iterable[CheckRow], psnr: float) -> list[CheckRow]:
    """The rows with one PSNR tolerance (dB) in the place of every tier's."""
    return [
        replace(row, tolerance=psnr) if row.metric == "psnr" and row.tier else row for row in rows
    ]


CellKey = tuple[str, ...]


def read_records(store: ResultStore) -> tuple[list[RunRecord], list[CheckRow]]:
    """The sound records, and a failing row for each that is damaged or was altered."""
    rows: list[CheckRow] = []

    def bad(path: Path, error: HarnessError) -> None:
        model = path.stem.rpartition("-")[0]
        row = CheckRow(model, path.parent.name, "record", run=path.stem, broken=True)
        rows.append(replace(row, reason=str(error)))

    return list(store.sound(bad).values()), rows


def against_reference(local: Iterable[RunRecord], reference: Iterable[RunRecord]) -> list[CheckRow]:
    """A row for each metric of every local run of a cell that the reference has, or its absence.

    A cell is a model on a set with the same protocol, self-ensemble, tile, arguments and kind of
    weights. Runs that broke count where none is finished. Where the reference has several runs of a
    cell, a local run is held against its own, else against one with the same weights, else against
    the latest: each metric against one that has it. A metric of the run that it is held against
    fails where no local run of the cell has it; metrics of the local run alone are not compared.

    Raises:
        UsageError: there is no reference.
    """
    done = (record for record in reference if record.status == "finished")
    ours, theirs = _by_cell(local), _by_cell(done)
    if not theirs:
        raise UsageError(
            "There are no reference records to compare with: name their folder with --reference."
        )
    rows: list[CheckRow] = []
    for cell, candidates in theirs.items():
        mine = ours.get(cell, ())
        ran = {metric for record in mine for metric in record.identity.metrics}
        held = [row for record in mine for row in _held_all(record, candidates, ran)]
        absent = {row.metric: row for one in reversed(candidates) for row in _expected(one)}
        for row in held:
            absent.pop(row.metric, None)
        rows += [*held, *absent.values()]
    return rows


def _held_all(record: RunRecord, candidates: Sequence[RunRecord], ran: Set[str]) -> list[CheckRow]:
    """A run's metrics, and those that it should have, against the reference runs of its cell.

    Args:
        record: of the run.
        candidates: the reference runs of its cell.
        ran: the metrics that a local run of the cell has.
    """

    def closest(some: Iterable[RunRecord]) -> RunRecord:
        return max(some, key=lambda other: _similarity(record, other))

    own, rows = closest(candidates), []
    for metric in dict.fromkeys(name for one in candidates for name in one.identity.metrics):
        having = [one for one in candidates if metric in one.identity.metrics]
        if metric in record.identity.metrics:
            rows.append(_held_against(record, closest(having), metric))
        elif own in having and metric not in ran:
            rows.append(_held_against(record, own, metric))
    return rows


def _held_against(record: RunRecord, other: RunRecord, metric: str) -> CheckRow:
    """A metric of a run beside that of a reference run."""
    tier = _shared_tier(record, other)
    row = replace(_expect(other, metric), reason=_differences(record, other, metric))
    held = _held(record, row, tier, _size(other, metric))
    alike = record.identity.dataset_sha256 == other.identity.dataset_sha256
    if held.measured is None or not alike:
        return held
    return _with_worst_image(held, record, other, finite=tier in (EXACT, FROZEN))


def _size(record: RunRecord, metric: str) -> float:
    """The mean of a metric's absolute values over the images: its own mean may be near 0."""
    sizes = [abs(image.scores[metric]) for image in record.images]
    return finite_mean(sizes) if any(map(math.isfinite, sizes)) else 0.0


def against_paper(
    local: Iterable[RunRecord], paper: Mapping[str, Any], grey: GreyRule | None = None
) -> list[CheckRow]:
    """Two rows for every local run of a printed cell of Table 2, or for its absence.

    Runs that broke count where none is finished.

    Args:
        local: records; those with self-ensemble, tiles, arguments or other rules do not count.
        paper: what `harness.paper.schema.paper` gives.
        grey: the rule whose runs count; None for each row's own.
    """
    scale = paper["table2"]["scale"]
    runs: dict[CellKey, list[RunRecord]] = {}
    for (*cell, how, _), some in _by_cell(local).items():
        if how in plain_protocols(scale, grey, *cell):
            runs.setdefault(tuple(cell), []).extend(some)
    rows: list[CheckRow] = []
    for line in paper["table2"]["rows"]:
        for dataset in (name for name, values in line.items() if isinstance(values, list)):
            some = _counting(runs.get((line["model"], dataset), ()))
            rows += [row for record in some for row in _held_printed(record, line, paper)]
            rows += [] if some else _printed(line, dataset)
    return rows


def _by_cell(records: Iterable[RunRecord]) -> dict[CellKey, list[RunRecord]]:
    """The records that count, by model, set, rules and kind of weights."""
    cells: dict[CellKey, list[RunRecord]] = {}
    for record in records:
        if foreign_origin(record):
            continue
        tag = record.weights.tag if record.weights else ""
        cell = (record.identity.model, record.identity.dataset, _how(record), tag)
        cells.setdefault(cell, []).append(record)
    return {cell: _counting(some) for cell, some in cells.items()}


def _counting(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The finished ones; all that broke where there are none."""
    return [one for one in records if one.status == "finished"] or list(records)


def _how(record: RunRecord) -> str:
    """The protocol, with its scale, and how the network was built and applied where unusual."""
    one = record.identity
    unusual = ["self-ensemble"] * one.self_ensemble + [f"tile {one.tile}"] * bool(one.tile)
    unusual += ["given LR images"] * bool(one.lr_sha256)
    return ", ".join([one.protocol, *unusual, *([canonical_json(one.hyper)] * bool(one.hyper))])


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
        return "an identity of an earlier version of the harness"
    ours, theirs = asdict(record.identity), asdict(other.identity)
    parts = [said for name, said in _PARTS.items() if ours[name] != theirs[name]]
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


def _expected(record: RunRecord) -> list[CheckRow]:
    """What a reference record leads one to expect."""
    return [_expect(record, metric) for metric in record.means]


def _expect(record: RunRecord, metric: str) -> CheckRow:
    one = record.identity
    return CheckRow(one.model, one.dataset, metric, record.means[metric], _how(record))


def _printed(line: Mapping[str, Any], dataset: str) -> list[CheckRow]:
    """What a row of Table 2 leads one to expect on a set."""
    values = zip(SCORES, line[dataset], strict=True)
    return [CheckRow(line["model"], dataset, name, value) for name, value in values]


def _held_printed(
    record: RunRecord, line: Mapping[str, Any], paper: Mapping[str, Any]
) -> list[CheckRow]:
    """A run in a printed cell, with what excuses its numbers."""
    official = speaks_for_the_authors(record)
    tier = PRINTED if official else _retrained(record)
    rows = []
    for row in _printed(line, record.identity.dataset):
        held = _held(record, row, tier)
        if held.tolerance is not None:
            held = _doubted(_with_infinite_image(held, record), paper, official)
        rows.append(held)
    return rows


def _with_infinite_image(row: CheckRow, record: RunRecord) -> CheckRow:
    """The row with an image whose score is infinite, if any: no printed mean is without it."""
    scores = {image.image: image.scores[row.metric] for image in record.images}
    name = next((name for name, score in scores.items() if not math.isfinite(score)), None)
    return replace(row, image=name, apart=scores[name]) if name else row


_EXCUSES: Mapping[str, Excuse] = {"print": "known misprint", "measurement": "other rules"}


def _doubted(row: CheckRow, paper: Mapping[str, Any], official: bool) -> CheckRow:
    """The row with what is known of its printed number.

    Only what the authors' weights are known to give instead is excused.
    """
    for entry in paper.get("suspicious", ()):
        place = (entry["table"], entry["row"], entry["column"], entry["metric"])
        if place == ("table2", row.model, row.dataset, row.metric):
            known = official and _meets(row, entry.get("measured"))
            excuse = _EXCUSES.get(entry["seen"], "") if known else ""
            return replace(row, known=excuse, reason=entry["reason"])
    return row


def _meets(row: CheckRow, measured: float | None) -> bool:
    """Whether a number is the one that was measured before."""
    if measured is None or row.measured is None:
        return False
    return abs(row.measured - measured) <= FROZEN.of(row.metric)


def _held(record: RunRecord, row: CheckRow, tier: Tier, size: float = 0.0) -> CheckRow:
    """A row with what was measured in it, or why there is nothing.

    Args:
        record: of the run.
        row: what is expected.
        tier: what the two have in common.
        size: of the metric's numbers, see `Tier.of`.
    """
    made = replace(row, run=_made(record), record=record.identity.id[:12])
    if record.status != "finished":
        return replace(made, broken=True, reason=f"the run broke: {record.error}")
    if row.metric not in record.identity.metrics:
        lacks = f"make the run again with --metric {row.metric}"
        return replace(made, reason=lacks)
    return replace(
        made,
        measured=record.means[row.metric],
        tolerance=tier.of(row.metric, size),
        tier=tier.name,
    )


def _with_worst_image(
    row: CheckRow, record: RunRecord, other: RunRecord, *, finite: bool
) -> CheckRow:
    """The row with the image that is farthest from the reference's.

    Without ``finite``, only an image counts whose score is infinite in one of the runs: the means
    leave it out, so they are of different images.
    """
    theirs = {image.image: image.scores[row.metric] for image in other.images}
    apart = {
        image.image: distance(image.scores[row.metric], theirs[image.image])
        for image in record.images
    }
    worst = max(apart, key=lambda name: abs(apart[name]))
    if not finite and math.isfinite(apart[worst]):
        return row
    return replace(row, image=worst, apart=apart[worst])


def _made(record: RunRecord) -> str:
    """How a run was made, and with which weights."""
    weights = [f"{record.weights.tag} weights"] if record.weights else []
    return ", ".join([_how(record), *weights, *record.identity.metrics[len(SCORES) :]])
