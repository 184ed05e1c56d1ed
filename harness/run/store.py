"""Run records on disk: one JSON file a run.

Records lie at ``<root>/x<scale>/<dataset>/<model>-<id12>.json`` and are written whole, by rename.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import TEXT, FileLock, regular, write_atomically
from harness.protocol.protocols import protocol
from harness.record import Identity, RunRecord, digest
from harness.registry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd


def ignored(path: Path, error: HarnessError) -> None:
    """Say nothing of a bad record."""


class ResultStore:
    """The run records below one folder.

    Args:
        root: the folder; made when the first record is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, identity: Identity) -> Path:
        """Where the record of a run lies."""
        name = f"{identity.model}-{identity.id[:12]}.json"
        return self.root / f"x{identity.scale}" / identity.dataset / name

    def finished(self, identity: Identity) -> RunRecord | None:
        """The record of a run if it is finished.

        Raises:
            HarnessError: the record cannot be read.
        """
        path = self.path(identity)
        try:
            if not path.exists():
                return None
        except OSError as error:
            raise HarnessError(f"The record {path} cannot be read ({error}).") from error
        record = read_record(path)
        return record if record.status == "finished" and record.identity == identity else None

    def write(self, record: RunRecord) -> Path:
        """Write a record by rename.

        Raises:
            HarnessError: the folder cannot be written.
        """
        path = self.path(record.identity)
        text = json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
        except OSError as error:
            raise HarnessError(f"The record {path} cannot be written ({error}).") from error
        return path

    def paths(self) -> list[Path]:
        """The files of all records, in order."""
        return sorted(self.root.glob("x*/*/*.json"))

    def sound(self, bad: Callable[[Path, HarnessError], object] = ignored) -> dict[Path, RunRecord]:
        """The records that can be read, by path, in the order of the paths.

        Args:
            bad: called with the path of each record that is damaged or was altered, and with what
                is wrong with it.
        """
        found = {}
        for path in self.paths():
            try:
                found[path] = read_record(path)
            except HarnessError as error:
                bad(path, error)
        return found

    def named(
        self, beginning: str, bad: Callable[[Path, HarnessError], object] = ignored
    ) -> dict[Path, RunRecord]:
        """The sound records of finished runs whose id begins so, by path; see `sound` for bad."""
        found = self.sound(bad).items()
        done = ((path, record) for path, record in found if record.status == "finished")
        return {p: record for p, record in done if record.identity.id.startswith(beginning)}

    def records(self) -> list[RunRecord]:
        """The sound records, in the order of their paths."""
        return list(self.sound().values())

    def load(self) -> pd.DataFrame:
        """One row a sound record, for reports: finished runs, and broken ones without scores.

        Every registered metric, and every one of the records, has a column; a score that a run
        does not have is missing.
        """
        import pandas as pd

        records = self.records()
        names = set_names(records)
        rows = [_row(record) | {"dataset": names[set_of(record)]} for record in records]
        held = [name for row in rows for name in row]
        columns = dict.fromkeys([*held, "model", "dataset", *METRICS])
        return pd.DataFrame(rows, columns=list(columns))


def accept_records(ids: Sequence[str], local: ResultStore, reference: ResultStore) -> list[Path]:
    """Move finished records from one store to another.

    Args:
        ids: of runs, or their beginnings; ``all`` for every finished run.
        local: where they are.
        reference: where they go.

    Raises:
        UsageError: an id fits no run, several, or one that broke.
    """
    if local.root.resolve() == reference.root.resolve():
        raise UsageError(f"The records in {local.root} are the reference already.")
    if not local.paths():
        raise UsageError(f"There are no records in {local.root}: name their folder with --results.")
    with FileLock(local.root / "accept.lock").held():
        return _accept(ids, local, reference)


def _accept(ids: Sequence[str], local: ResultStore, reference: ResultStore) -> list[Path]:
    chosen: dict[Path, RunRecord] = {}
    for wanted in ids:
        if wanted == "all":
            chosen |= local.named("")
        else:
            path, record = find_run(wanted, [local])
            chosen[path] = record
    earlier = next((record for record in chosen.values() if record.earlier), None)
    if earlier:
        raise UsageError(
            f"The run {earlier.identity.id[:12]} has the identity of an earlier version: make it "
            "again with harness run."
        )
    if not chosen:
        raise UsageError(f"There are no finished runs in {local.root}: see harness list runs.")
    moved = []
    for path, record in chosen.items():
        moved.append(reference.write(record))
        path.unlink()
    return moved


def find_run(beginning: str, stores: Sequence[ResultStore]) -> tuple[Path, RunRecord]:
    """The finished run whose id begins so, and its path; the first store that has some decides.

    Raises:
        UsageError: none fits, or several.
        HarnessError: the record whose name fits cannot be read.
    """

    def bad(path: Path, error: HarnessError) -> None:
        """A record that cannot be read is not passed over if it is the one that was asked for."""
        digits = path.stem.rpartition("-")[2]
        if beginning and digits and (digits.startswith(beginning) or beginning.startswith(digits)):
            raise error

    fits = next(filter(None, (store.named(beginning, bad) for store in stores)), {})
    if len(fits) != 1 or not beginning:
        places = " or ".join(str(store.root) for store in stores)
        raise UsageError(
            f"{beginning!r} names {len(fits)} finished runs in {places}, and must name one: "
            "see harness list runs."
        )
    return next(iter(fits.items()))


def picture_path(folder: Path, identity: Identity, image: str) -> Path:
    """Where the SR image of a run is saved: below a folder, as its record lies below the store."""
    return ResultStore(folder).path(identity).with_suffix("") / f"{image}.png"


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        HarnessError: it is no record, damaged, or of another schema.
        MismatchError: its means are not those of its images, or its content is not what its
            SHA-256 says.
    """
    try:
        data = json.loads(regular(path, TEXT).read_text(encoding="utf-8"))
        record = RunRecord.from_json(data)
        if protocol(record.identity.protocol).scale != record.identity.scale:
            raise ValueError("its protocol is of another scale")
        stated = {name: float(value) for name, value in data["means"].items()}
        means = record.means
        content = {name: value for name, value in data.items() if name != "sha256"}
        sealed = digest(content) == data["sha256"]
    except OSError as error:
        raise HarnessError(f"The record {path} cannot be read ({error}).") from error
    except Exception as error:  # what is no record fails in many ways
        raise HarnessError(
            f"{path} is not a sound run record ({error}): move it away and run again."
        ) from error
    if stated != means:
        raise MismatchError(
            f"{path} states means of {stated}, and those of its images are {means}: "
            "it was altered; move it away and run again."
        )
    if not sealed:
        raise MismatchError(
            f"{path} is not what its SHA-256 says: it was altered or damaged; move it away and run "
            "again."
        )
    return record


def set_names(records: Iterable[RunRecord]) -> dict[tuple[int, str, str], str]:
    """What to call each set, given by scale, name and hash: sets of one name get digits of it.

    The set whose pixels are the published ones keeps its name.
    """
    records = list(records)
    known = {set_of(record): record.verified for record in records}
    held = [(scale, name) for scale, name, _ in known]
    return {
        (scale, name, sha256): (
            name if published or held.count((scale, name)) == 1 else f"{name}-{sha256[:8]}"
        )
        for (scale, name, sha256), published in known.items()
    }


def set_of(record: RunRecord) -> tuple[int, str, str]:
    """The scale, name and hash of a run's set."""
    one = record.identity
    return one.scale, one.dataset, one.dataset_sha256


def _row(record: RunRecord) -> dict[str, Any]:
    identity = asdict(record.identity)
    weights = record.weights
    done = record.status == "finished"
    scores = record.means if done else dict.fromkeys(record.identity.metrics)
    facts = {
        "id": record.identity.id,
        "status": record.status,
        **{key: identity[key] for key in ("model", "dataset", "scale", "protocol")},
        **{key: identity[key] for key in ("self_ensemble", "tile", "hyper")},
        "tag": weights.tag if weights else "",
        "weights_file_sha256": weights.source_sha256 if weights else "",
        "verified": record.verified,
        "count": len(record.images),
        "parameters": record.parameters,
        "macs": record.macs,
        "seconds": sum(image.seconds for image in record.images),
        "time": record.provenance.get("utc", ""),
        "record": record,
    }
    return facts | scores | facts  # whatever a stranger's record calls its scores
