"""The runs that ``harness list runs`` prints: for people, as JSON, and as one tidy table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.paper.select import foreign_origin
from harness.protocol.protocols import protocol
from harness.report.listings import Row, flat
from harness.report.table import csv_text
from harness.run.store import set_names, set_of

if TYPE_CHECKING:
    from harness.record import RunRecord
    from harness.run.store import ResultStore


class Run(NamedTuple):
    """The facts of a run, in the order in which the CSV has them; see docs/records.md."""

    id: str
    model: str
    hyper: Mapping[str, Any]
    dataset: str
    dataset_sha256: str
    scale: int
    protocol: str
    pipeline: str
    weights: str | None
    weights_file_sha256: str | None
    self_ensemble: bool
    tile: int | None
    lr_sha256: str | None
    earlier: bool
    foreign: str | None
    status: str
    error: str | None
    verified: bool
    images: int
    parameters: int | None
    macs: int | None
    seconds: float
    device: str
    utc: str | None


def runs(store: ResultStore) -> list[Row]:
    """Run records with the means of their metrics; damaged ones are named."""
    sound = store.sound()
    names = set_names(sound.values())
    rows: list[Row] = []
    for path in store.paths():
        if path in sound:
            facts = _run(sound[path], names)._asdict()
            rows.append(facts | _means(sound[path]) | facts)  # whatever its scores are called
        else:
            rows.append({"status": "damaged", "error": str(path)})
    return rows


def brief(rows: Sequence[Row]) -> list[Row]:
    """Those columns of `runs` that a terminal has room for."""
    metrics = dict.fromkeys(name for row in rows for name in row if name not in Run._fields)
    first = ("id", "model", "dataset", "protocol", "weights", "how", "status")
    names = (*first, *metrics, "utc", "error")
    return [{name: row.get(name) for name in names} | {"how": _how(row)} for row in rows]


def tidy_csv(store: ResultStore, *, images: bool) -> str:
    """One row a run and metric; with ``images`` one a run, image and metric."""
    records = store.records()
    names = set_names(records)
    lines = _image_lines if images else _mean_lines
    score = ("image", "metric", "value") if images else ("metric", "value", "infinite")
    rows = (line for record in records for line in lines(_run(record, names), record))
    return csv_text((*Run._fields, *score), (map(flat, row) for row in rows))


def _run(record: RunRecord, names: Mapping[tuple[int, str, str], str]) -> Run:
    identity, weights = record.identity, record.weights
    return Run(
        id=identity.id,
        model=identity.model,
        hyper=identity.hyper,
        dataset=names[set_of(record)],
        dataset_sha256=identity.dataset_sha256,
        scale=identity.scale,
        protocol=identity.protocol,
        pipeline=protocol(identity.protocol).pipeline,
        weights=weights.tag if weights else None,
        weights_file_sha256=weights.source_sha256 if weights else None,
        self_ensemble=identity.self_ensemble,
        tile=identity.tile,
        lr_sha256=identity.lr_sha256,
        earlier=record.earlier,
        foreign=foreign_origin(record) or None,
        status=record.status,
        error=record.error or None,
        verified=record.verified,
        images=len(record.images),
        parameters=record.parameters,
        macs=record.macs,
        seconds=sum(image.seconds for image in record.images),
        device=record.execution.device,
        utc=record.provenance.get("utc"),
    )


def _means(record: RunRecord) -> dict[str, float | None]:
    """The mean of each metric; none of a run that broke, whatever images it finished."""
    done = record.status == "finished"
    return {name: record.means[name] if done else None for name in record.identity.metrics}


def _how(row: Row) -> list[str]:
    """What is unusual about a run, in words."""
    how = ["self-ensemble"] * bool(row.get("self_ensemble"))
    how += [f"tile {row['tile']}"] if row.get("tile") else []
    how += ["given LR images"] * bool(row.get("lr_sha256"))
    how += ["identity of an earlier version"] * bool(row.get("earlier"))
    return how + ([f"code of {row['foreign']}"] if row.get("foreign") else [])


def _mean_lines(run: Run, record: RunRecord) -> Iterator[tuple[object, ...]]:
    for metric, value in _means(record).items():
        left_out = 0 if value is None else record.infinite.get(metric, 0)
        yield (*run, metric, value, left_out)


def _image_lines(run: Run, record: RunRecord) -> Iterator[tuple[object, ...]]:
    """A run that broke has one line a metric, without an image."""
    if record.status != "finished":
        yield from ((*run, None, metric, None) for metric in record.identity.metrics)
        return
    for image in record.images:
        own = run._replace(seconds=image.seconds)
        for metric, value in image.scores.items():
            yield (*own, f"{run.dataset}/{image.image}", metric, value)
