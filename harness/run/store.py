"""Runs on disk: their records, one JSON file a run, and the journal of one in progress.

Records lie at ``<root>/x<scale>/<dataset>/<model>-<id12>.json`` and are written whole, by rename.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.data.testsets import FIRST
from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import TEXT, FileLock, regular, write_file
from harness.models.source import metrics_digest
from harness.protocol.rules import RULES, protocol
from harness.record import Execution, Identity, ImageResult, RunRecord, digest
from harness.registry import METRICS
from harness.run.names import set_names, set_of
from harness.run.provenance import packages, source_digest

if TYPE_CHECKING:
    import pandas as pd


class Records(NamedTuple):
    """The records in the folders of a store, by path.

    Attributes:
        folders: the folders, for messages.
        sound: the valid records, in the order of the paths.
        bad: the errors of records that are damaged or altered, or contradict one of an earlier
            folder.
    """

    folders: str
    sound: dict[Path, RunRecord]
    bad: dict[Path, HarnessError]

    def finished(self, beginning: str = "") -> dict[Path, RunRecord]:
        """The valid records of finished runs whose id starts with a text."""
        return {
            path: record
            for path, record in self.sound.items()
            if record.status == "finished" and record.identity.id.startswith(beginning)
        }

    def table(self) -> pd.DataFrame:
        """One row per valid record, for reports; failed runs have no scores.

        Every registered metric and every metric of the records has a column. Scores that a run
        does not have are missing values.
        """
        import pandas as pd

        names = set_names(self.sound.values())
        rows = [_row(one) | {"dataset": names[set_of(one)]} for one in self.sound.values()]
        present = [name for row in rows for name in row]
        columns = dict.fromkeys([*present, "model", "dataset", *METRICS])
        return pd.DataFrame(rows, columns=list(columns))


class ResultStore:
    """The run records in a folder, or in several, which are joined.

    Two records of one id count once: a finished one before a failed one, else that of the first
    folder. A later one whose scores differ is a bad record.

    Args:
        root: the folder that is written to; created when the first record is written.
        others: folders, for example of other machines, whose records are read too.
    """

    def __init__(self, root: Path, *others: Path) -> None:
        self.root = root
        roots: dict[Path, Path] = {}
        for one in (root, *others):
            roots.setdefault(one.resolve(), one)
        self.roots = tuple(roots.values())

    def path(self, identity: Identity) -> Path:
        """The path of the record of a run."""
        name = f"{identity.model}-{identity.id[:12]}.json"
        return self.root / f"x{identity.scale}" / identity.dataset / name

    def finished(self, identity: Identity) -> RunRecord | None:
        """The record of a run if the run is finished, else None.

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

    def with_fewer_metrics(self, identity: Identity) -> list[RunRecord]:
        """The records of the same run, finished, with fewer metrics; that with the most first.

        Damaged records and those with other code of a metric are left out.
        """
        path, found = self.path(identity), []
        for other in sorted(path.parent.glob(f"{identity.model}-*.json")):
            with suppress(HarnessError):
                record = read_record(other)
                metrics, sha256 = record.identity.metrics, record.identity.metrics_sha256
                ours = replace(identity, metrics=metrics, metrics_sha256=sha256)
                fewer = ours == record.identity and set(metrics) < set(identity.metrics)
                if fewer and record.status == "finished" and metrics_digest(metrics) == sha256:
                    found.append(record)
        return sorted(found, key=lambda record: len(record.identity.metrics), reverse=True)

    def write(self, record: RunRecord) -> Path:
        """Write a record atomically.

        Raises:
            HarnessError: the folder cannot be written.
        """
        path = self.path(record.identity)
        text = json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n"
        write_file(path, text, "record")
        return path

    def paths(self) -> list[Path]:
        """The paths of all records, sorted within each folder."""
        return [path for root in self.roots for path in sorted(root.glob("x*/*/*.json"))]

    def read(self) -> Records:
        """Read all records."""
        records: dict[Path, RunRecord] = {}
        bad: dict[Path, HarnessError] = {}
        for root in self.roots:
            known = {record.identity.id: path for path, record in records.items()}
            for path in ResultStore(root).paths():
                try:
                    record = read_record(path)
                    first = known.get(record.identity.id)
                    if first:
                        _require_equal(first, records[first], path, record)
                except HarnessError as error:
                    bad[path] = error
                    continue
                if first and (record.status == "error" or records[first].status == "finished"):
                    continue
                if first:  # a failed run, which is finished here
                    del records[known.pop(record.identity.id)]
                records[path] = record
        return Records(" and ".join(map(str, self.roots)), records, bad)

    def records(self) -> list[RunRecord]:
        """The valid records, in the order of their paths."""
        return list(self.read().sound.values())


_ID = re.compile(r"[0-9a-f]{1,64}\Z")
"""The id of a run, or its first digits."""


def accept_records(ids: Sequence[str], local: ResultStore, reference: ResultStore) -> list[Path]:
    """Move finished records from one store to another.

    Args:
        ids: ids of runs, or their first digits; ``all`` for every finished run of whole sets.
        local: the source.
        reference: the target.

    Raises:
        UsageError: an id matches no finished run, or several.
    """
    if local.root.resolve() == reference.root.resolve():
        raise UsageError(f"The records in {local.root} are the reference already.")
    if others := [word for word in ids if word != "all" and not _ID.match(word)]:
        raise UsageError(
            f"{others[0]!r} is no id of a run: give ids, see harness list runs, or all."
        )
    if not local.paths():
        raise UsageError(f"There are no records in {local.root}: name their folder with --results.")
    with FileLock(local.root / "accept.lock").held():
        records = local.read()
        chosen: dict[Path, RunRecord] = {}
        for word in ids:
            chosen |= _of_whole_sets(records) if word == "all" else [find_run(word, [records])]
        earlier = next((record for record in chosen.values() if record.earlier), None)
        if earlier:
            raise UsageError(
                f"The run {earlier.identity.id[:12]} has the identity of an earlier version: "
                "repeat it with harness run."
            )
        if not chosen:
            raise UsageError(
                f"There are no finished runs in {local.root}, or only those of --limit, which are "
                "accepted by their ids: see harness list runs."
            )
        moved = []
        for path, record in chosen.items():
            moved.append(reference.write(record))
            path.unlink()
        return moved


def _of_whole_sets(records: Records) -> dict[Path, RunRecord]:
    finished = records.finished().items()
    return {path: record for path, record in finished if not is_of_first_images(record)}


def is_of_first_images(record: RunRecord) -> bool:
    """Whether a run is of the first images of a set, by the name of its set."""
    return bool(re.search(rf"{FIRST}\d+$", record.identity.dataset))


def find_run(beginning: str, places: Sequence[Records]) -> tuple[Path, RunRecord]:
    """The path and record of the finished run whose id starts with a text.

    Only the first place that has matching runs counts.

    Raises:
        UsageError: no run matches, or several.
        HarnessError: a record with that id in its file name is damaged, and no other has the id.
    """
    matches: dict[Path, RunRecord] = {}
    for records in places:
        for path, error in records.bad.items():
            digits = path.stem.rpartition("-")[2]
            named = digits.startswith(beginning) or beginning.startswith(digits)
            if beginning and digits and named and not records.finished(digits):
                raise error
        matches = records.finished(beginning)
        if matches:
            break
    if not re.fullmatch("[0-9a-f]+", beginning):
        raise UsageError(
            f"{beginning!r} is no id of a run: give the first digits of one, see harness list runs."
        )
    if len(matches) != 1:
        folders = " or ".join(records.folders for records in places)
        raise UsageError(
            f"{beginning!r} names {len(matches)} finished runs in {folders}: give the first digits "
            "of one id, see harness list runs."
        )
    return next(iter(matches.items()))


def picture_path(folder: Path, identity: Identity, image: str) -> Path:
    """The path of an SR image of a run, in the same layout as the records of a store."""
    return ResultStore(folder).path(identity).with_suffix("") / f"{image}.png"


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        HarnessError: the file is not a record, is damaged, or has another schema.
        MismatchError: its means are not those of its images, or its SHA-256 does not match.
    """
    try:
        data = json.loads(regular(path, TEXT).read_text(encoding="utf-8"))
        record = RunRecord.from_json(data)
        if protocol(record.identity.protocol).scale != record.identity.scale:
            raise ValueError("its protocol has another scale")
        stated = {name: float(value) for name, value in data["means"].items()}
        means = record.means
        content = {name: value for name, value in data.items() if name != "sha256"}
        sealed = digest(content) == data["sha256"]
    except OSError as error:
        raise HarnessError(f"The record {path} cannot be read ({error}).") from error
    except Exception as error:  # a damaged file can raise anything
        raise HarnessError(
            f"{path} is not a valid run record ({error}): move it away and run again."
        ) from error
    # The means of a record that sum() made on Python 3.12 may differ in the last digit.
    if stated.keys() != means.keys() or not all(
        math.isclose(stated[name], mean, rel_tol=1e-12) for name, mean in means.items()
    ):
        raise MismatchError(
            f"{path} states means of {stated}, but those of its images are {means}: "
            "it was altered; move it away and run again."
        )
    if not sealed:
        raise MismatchError(
            f"{path} does not match its SHA-256: it was altered or damaged; move it away and run "
            "again."
        )
    return record


def _require_equal(path: Path, record: RunRecord, other_path: Path, other: RunRecord) -> None:
    """Compare the scores of two records of one id, if both runs are finished.

    Raises:
        MismatchError: they differ by more than the kernels of two machines do.
    """
    if "error" in (record.status, other.status):
        return
    scores = {
        (metric, image.image): score
        for image in record.images
        for metric, score in image.scores.items()
    }
    apart = [
        (abs(score - scores.get((metric, image.image), math.nan)), metric, image.image)
        for image in other.images
        for metric, score in image.scores.items()
        if not _is_close(metric, score, scores.get((metric, image.image), math.nan))
    ]
    if apart:
        most, metric, image = max(apart)
        raise MismatchError(
            f"{path} and {other_path} are records of one run, {record.identity.id[:12]}, but "
            f"their scores differ, most the {metric} of {image}, by {most:g}: the first one is "
            "used; repeat the run on both machines with harness run --force."
        )


def _is_close(metric: str, one: float, other: float) -> bool:
    """Whether two scores are as near as those of one run on two machines; see docs/records.md."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-4 if metric == "psnr" else 0.0)


def _row(record: RunRecord) -> dict[str, Any]:
    identity = asdict(record.identity)
    weights = record.weights
    finished = record.status == "finished"
    scores = record.means if finished else dict.fromkeys(record.identity.metrics)
    facts = {
        "id": record.identity.id,
        "status": record.status,
        **{key: identity[key] for key in ("model", "dataset", "scale", "protocol")},
        **{key: identity[key] for key in ("self_ensemble", "tile", "hyper")},
        "tag": record.tag,
        "weights_file_sha256": weights.source_sha256 if weights else "",
        "verified": record.verified,
        "count": len(record.images),
        "parameters": record.parameters,
        "macs": record.macs,
        "seconds": sum(image.seconds for image in record.images),
        "time": record.provenance.get("utc", ""),
        "record": record,
    }
    return facts | scores | facts  # facts win over metrics of the same name


class Journal:
    """Results of single images, appended one by one, so that a killed run can be continued.

    The file lies beside the record of the run.

    A record describes one execution (device, threads) and one software environment. A journal
    written under another one, including another version of the harness, is not continued.
    """

    def __init__(self, store: ResultStore, identity: Identity, execution: Execution) -> None:
        self.path = store.path(identity).with_suffix(".journal")
        self._metrics = set(identity.metrics)
        software = {"packages": packages(), "harness_sha256": source_digest()}
        numbers = {"rules": RULES, "inference": identity.inference}
        facts = {"execution": asdict(execution), **software, **numbers}
        self._header = {"id": identity.id, **facts}

    def read(self) -> list[ImageResult]:
        """The results so far, up to the first bad line (for example, one cut off by a kill)."""
        try:
            header, *lines = regular(self.path, TEXT).read_bytes().split(b"\n")[:-1]
            if json.loads(header) != self._header:
                return []
        except (OSError, ValueError, RecursionError):
            return []
        results = []
        for line in lines:
            try:
                sealed = json.loads(line)
                result = ImageResult.from_json(sealed["result"])
                intact = digest(sealed["result"]) == sealed["sha256"]
            except Exception:  # a damaged line can raise anything
                break
            if not intact or set(result.scores) != self._metrics:
                break
            results.append(result)
        return results

    def start(self, results: list[ImageResult]) -> None:
        """Start a new journal with the results that are still valid.

        Raises:
            HarnessError: the folder cannot be written.
        """
        lines = [json.dumps(self._header) + "\n", *map(_sealed_line, results)]
        write_file(self.path, "".join(lines), "journal")

    def append(self, result: ImageResult) -> None:
        """Add one result.

        Raises:
            HarnessError: it cannot be written, for example because the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_sealed_line(result))
        except OSError as error:
            raise HarnessError(f"The journal {self.path} cannot be written ({error}).") from error

    def remove(self) -> None:
        """Delete the journal file; the record stays."""
        self.path.unlink(missing_ok=True)


def _sealed_line(result: ImageResult) -> str:
    """A line of a journal: a result and its digest, which reveals damage."""
    row = result.to_json()
    return json.dumps({"result": row, "sha256": digest(row)}) + "\n"
