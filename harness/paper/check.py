"""Holds local records against the reference records, or against the paper's Table 2."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError, UsageError
from harness.paper.tolerances import EXACT, FROZEN, PRINTED, RETRAINED, RETRAINED_ELSEWHERE, Tier
from harness.run.store import read_record
from harness.specs import canonical_json

if TYPE_CHECKING:
    from harness.run.store import ResultStore
    from harness.specs import GreyRule, RunRecord

Known = Literal["", "known misprint", "known difference"]
Verdict = Literal["ok", "FAIL", "not run", "known misprint", "known difference"]


@dataclass(frozen=True)
class Row:
    """One number beside the one that is expected.

    Attributes:
        model: its name.
        dataset: the set.
        metric: ``psnr`` in dB, or ``ssim``; ``record`` for a local record that is not sound.
        expected: what the reference or the paper says; None for a record that is not sound.
        run: how the number was made: the protocol, and what was unusual; empty where the paper's
            cell has no run.
        measured: mean over the set; None where there is no run.
        tolerance: how far the two may differ; None where there is no run.
        tier: the name of the tolerance's tier.
        known: what is known of a printed number that looks wrong: a misprint, by the paper's other
            numbers, or a difference that was measured before.
        reason: why it looks wrong, what is wrong with the record, or what the record does not
            share with its reference.
    """

    model: str
    dataset: str
    metric: str
    expected: float | None = None
    run: str = ""
    measured: float | None = None
    tolerance: float | None = None
    tier: str = ""
    known: Known = ""
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus expected; 0 where both are infinite."""
        if self.measured is None or self.expected is None:
            return None
        return 0.0 if self.measured == self.expected else self.measured - self.expected

    @property
    def verdict(self) -> Verdict:
        """What came of it; a number that agrees with what looks wrong is ok."""
        if self.expected is None:
            return "FAIL"
        if self.difference is None or self.tolerance is None:
            return "not run"
        if abs(self.difference) <= self.tolerance:
            return "ok"
        return self.known or "FAIL"

    def violates(self, require: bool) -> bool:
        """Whether the check fails for it; with ``require``, also for want of a run."""
        return self.verdict == "FAIL" or (require and self.verdict == "not run")


def read_local(store: ResultStore) -> tuple[list[RunRecord], list[Row]]:
    """The local records, and a failing row for each that is damaged or was altered."""
    records: list[RunRecord] = []
    rows: list[Row] = []
    for path in store.paths():
        try:
            records.append(read_record(path))
        except HarnessError as error:
            model = path.stem.rpartition("-")[0]
            rows.append(Row(model, path.parent.name, "record", run=path.stem, reason=str(error)))
    return records, rows


def against_reference(local: Iterable[RunRecord], reference: Iterable[RunRecord]) -> list[Row]:
    """Two rows for every finished local run of a cell that the reference has, or for its absence.

    A cell is a model on a set with the same protocol, self-ensemble, tile, arguments and kind of
    weights. Where the reference has several runs of one, a local run is held against its own, else
    against one with the same weights, else against the latest.

    Raises:
        UsageError: there is no reference.
    """
    ours, theirs = _by_cell(local), _by_cell(reference)
    if not theirs:
        raise UsageError("There are no reference records: name their folder with --reference.")
    rows: list[Row] = []
    for cell, candidates in theirs.items():
        for record in ours.get(cell, ()):
            kin = max(candidates, key=lambda other: _kinship(record, other))  # noqa: B023
            expected = [replace(row, reason=_differences(record, kin)) for row in _expected(kin)]
            rows += _held(record, expected, _shared_tier(record, kin))
        if cell not in ours:
            rows += _expected(candidates[0])
    return rows


def against_paper(
    local: Iterable[RunRecord], paper: Mapping[str, Any], grey: GreyRule = "full-range"
) -> list[Row]:
    """Two rows for every finished local run of a printed cell of Table 2, or for its absence.

    Args:
        local: records; those with self-ensemble, tiles, arguments or other rules do not count.
        paper: what `harness.paper.paper` gives.
        grey: the rule whose runs count.
    """
    suffix = "" if grey == "full-range" else f"+{grey}"
    plain = [f"BI-x{paper['table2']['scale']}/{pipeline}{suffix}" for pipeline in ("y", "rgb")]
    ours: dict[tuple[str, str], list[RunRecord]] = {}
    for record in local:
        if record.status == "finished" and _how(record) in plain:
            ours.setdefault((record.identity.model, record.identity.dataset), []).append(record)
    rows: list[Row] = []
    for cell, printed in _printed(paper).items():
        for record in ours.get(cell, ()):
            rows += _held(record, printed, _printed_tier(record))
        if cell not in ours:
            rows += printed
    return rows


def restrict(rows: Sequence[Row], models: Sequence[str], datasets: Sequence[str]) -> list[Row]:
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


def with_tolerance(rows: Iterable[Row], psnr: float) -> list[Row]:
    """The rows with one PSNR tolerance (dB) in the place of every tier's."""
    return [
        replace(row, tolerance=psnr) if row.metric == "psnr" and row.tier else row for row in rows
    ]


def _by_cell(records: Iterable[RunRecord]) -> dict[tuple[str, ...], list[RunRecord]]:
    cells: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        if record.status == "finished":
            tag = record.weights.tag if record.weights else ""
            cell = (record.identity.model, record.identity.dataset, _how(record), tag)
            cells.setdefault(cell, []).append(record)
    return cells


def _how(record: RunRecord) -> str:
    """The protocol, with its scale, and how the network was built and applied where unusual."""
    one = record.identity
    unusual = ["self-ensemble"] * one.self_ensemble + [f"tile {one.tile}"] * bool(one.tile)
    return ", ".join([one.protocol, *unusual, *([canonical_json(one.hyper)] * bool(one.hyper))])


def _kinship(record: RunRecord, other: RunRecord) -> tuple[bool, bool, str]:
    return (
        record.identity.id == other.identity.id,
        record.identity.weights_sha256 == other.identity.weights_sha256,
        other.provenance.get("utc", ""),
    )


_PARTS = {
    "source_sha256": "network source",
    "protocol_sha256": "rules",
    "dataset_sha256": "images",
    "weights_sha256": "weights",
}


def _differences(record: RunRecord, other: RunRecord) -> str:
    ours, theirs = asdict(record.identity), asdict(other.identity)
    parts = [said for name, said in _PARTS.items() if ours[name] != theirs[name]]
    return f"other {', '.join(parts)} than the reference's" if parts else ""


def _shared_tier(record: RunRecord, other: RunRecord) -> Tier:
    ours, theirs = record.identity.weights_sha256, other.identity.weights_sha256
    if ours != theirs:
        return _retrained(record)
    return EXACT if ours is None else FROZEN


def _printed_tier(record: RunRecord) -> Tier:
    unchanged = record.weights is None or record.weights.tag == "official"
    return PRINTED if unchanged else _retrained(record)


def _retrained(record: RunRecord) -> Tier:
    return RETRAINED.get(record.identity.dataset, RETRAINED_ELSEWHERE)


def _expected(record: RunRecord) -> list[Row]:
    """What a reference record leads one to expect."""
    one = record.identity
    return [
        Row(one.model, one.dataset, metric, record.means[metric], _how(record))
        for metric in ("psnr", "ssim")
    ]


def _printed(paper: Mapping[str, Any]) -> dict[tuple[str, str], list[Row]]:
    """What Table 2 leads one to expect, by model and set."""
    suspicious = {
        (entry["row"], entry["column"], entry["metric"]): entry
        for entry in paper.get("suspicious", ())
        if entry["table"] == "table2"
    }
    cells: dict[tuple[str, str], list[Row]] = {}
    for line in paper["table2"]["rows"]:
        for dataset, values in line.items():
            if isinstance(values, list):
                cells[line["model"], dataset] = [
                    _doubted(Row(line["model"], dataset, metric, value), suspicious)
                    for metric, value in zip(("psnr", "ssim"), values, strict=True)
                ]
    return cells


def _doubted(row: Row, suspicious: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Row:
    """The row with what is known of its printed number."""
    entry = suspicious.get((row.model, row.dataset, row.metric))
    if not entry:
        return row
    measured = entry.get("seen") == "measurement"
    known: Known = "known difference" if measured else "known misprint"
    return replace(row, known=known, reason=entry["reason"])


def _held(record: RunRecord, rows: Sequence[Row], tier: Tier) -> list[Row]:
    """The rows with what was measured in them."""
    return [
        replace(
            row,
            run=_how(record),
            measured=record.means[row.metric],
            tolerance=tier.psnr if row.metric == "psnr" else tier.ssim,
            tier=tier.name,
        )
        for row in rows
    ]
