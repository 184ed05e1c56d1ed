"""A run while it is carried out: what is known of it, and what is left to do.

One process at a time carries out a run of a results folder, and alone writes its journal, record
and pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError, own_error
from harness.files import require_writable, write_atomically
from harness.models.source import plugins
from harness.record import Execution, ImageResult, RunRecord, digest
from harness.run.store import ResultStore, picture_path

if TYPE_CHECKING:
    from harness.data.identify import SetImage
    from harness.files import FileLock
    from harness.models.cost import Complexity
    from harness.run.evaluate import Listener, Options, Run


class ClusterError(HarnessError):
    """The workers cannot be reached, or cannot be used: no run can go on."""


@dataclass(frozen=True)
class Desk:
    """What all runs of a command share: where records go, who is told, and how runs are made.

    Attributes:
        unsaved: of each run whose SR images could not all be saved, why.
    """

    store: ResultStore
    listener: Listener
    options: Options
    unsaved: list[str] = field(default_factory=list)


def require_folders(runs: Sequence[Run], desk: Desk) -> None:
    """Make the folders of records and SR images where there is something to write, and try them.

    Raises:
        HarnessError: one cannot be written.
    """
    if all(_is_finished(run, desk) for run in runs):
        return
    require_writable(desk.store.root, "results", "--results")
    if desk.options.save_images:
        require_writable(desk.options.save_images, "pictures'", "--save-images")


def turns(
    runs: Sequence[Run], desk: Desk, execution: Callable[[], Execution], later: list[Run] | None
) -> Iterator[RunRecord | HarnessError | UnderWay]:
    """Begin runs, one each time the caller asks for the next.

    Args:
        runs: what is to be carried out.
        desk: where.
        execution: tells how and on what it will be; asked only when there is something to do.
        later: gets the runs that another process is on; where it is None, they are waited for.

    Yields:
        a run; its record if nothing is left to do; why its record or journal is of no use.

    Raises:
        UsageError: no such device.
        ClusterError: there are no workers.
    """
    for run in runs:
        try:
            begun = _begin(run, desk, execution, wait=later is None)
        except (UsageError, ClusterError):
            raise
        except Exception as error:  # what a run meets costs no other one
            begun = own_error(error, run.title)
        if begun is not None:
            yield begun
        elif later is not None:
            later.append(run)


def _begin(
    run: Run, desk: Desk, execution: Callable[[], Execution], *, wait: bool
) -> RunRecord | HarnessError | UnderWay | None:
    """A run, or its record if nothing is left to do; None if another process is on it."""
    record = _finished(run, desk)
    if record:
        desk.store.tidy(run.identity)
        return record
    lock = desk.store.lock(run.identity)
    if not lock.acquire(wait=False):
        if not wait:
            return None
        desk.listener.waiting(f"Another process carries out {run.title}")
        lock.acquire(wait=True)
    with ExitStack() as stack:
        stack.callback(lock.release)
        # Whoever had the lock may have done the work.
        record = _finished(run, desk)
        if record:
            return record
        work = UnderWay(run, desk, execution(), lock)
        stack.pop_all()
        return work


class UnderWay:
    """A run that this process carries out.

    Images that a finished record or a journal knows are not computed again.

    Args:
        run: what is carried out.
        desk: where.
        execution: how and on what.
        lock: the run's, held; given back at the end.

    Attributes:
        todo: the images without a result or, where pictures are wanted, without a picture.
    """

    def __init__(self, run: Run, desk: Desk, execution: Execution, lock: FileLock) -> None:
        self.run, self.execution, self._desk, self._lock = run, execution, desk, lock
        self._unsaved = False
        # Read now: the user may edit the plug-in's file while the run goes on.
        self._plugins = plugins(run.card.name, run.metrics)
        self._stored = desk.store.finished(run.identity)
        self._kept = None if desk.options.force else self._stored
        self._journal = desk.store.journal(run.identity, execution)
        known: Iterable[ImageResult] = ()
        if not desk.options.force:
            known = self._kept.images if self._kept else self._journal.read()
        self._results = {result.image: result for result in known}
        self.todo = _todo(run, self._results, desk)
        total = len(run.benchmark.images)
        desk.listener.started(run, total, total - len(self.todo))
        self._journal.start(list(self._results.values()))

    def add(self, result: ImageResult, picture: bytes | None) -> None:
        """Keep an image's result, and its SR image where there is one.

        A picture that cannot be written costs the run nothing: it is told of at the end.

        Raises:
            HarnessError: the journal cannot be written.
        """
        folder = self._desk.options.save_images
        if folder and picture:
            self._save(picture, picture_path(folder, self.run.identity, result.image))
        if result.image not in self._results:
            self._results[result.image] = result
            self._journal.append(result)
        self._desk.listener.image(self.run, result)

    def end(self, error: str, provenance: Mapping[str, Any]) -> RunRecord:
        """Write the record; one with an error never replaces a finished one.

        Args:
            error: why the run broke, or empty.
            provenance: the machine and software it was carried out with.

        Raises:
            HarnessError: the record cannot be written.
        """
        if self._kept:
            status = "error" if error else self._kept.status
            record = replace(self._kept, status=status, error=error)
        else:
            record = self._record(error, provenance)
            if not (error and self._stored):
                self._desk.store.write(record)
        if not error or self._stored:
            self._journal.remove()
        self._desk.listener.ended(self.run, record, len(self.todo))
        return record

    def close(self) -> None:
        """Let other processes have the run."""
        self._lock.release()

    def _save(self, picture: bytes, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, picture)
        except OSError as error:
            if not self._unsaved:
                self._desk.unsaved.append(f"The picture {path} cannot be written ({error}).")
            self._unsaved = True

    def _record(self, error: str, provenance: Mapping[str, Any]) -> RunRecord:
        run, size = self.run, None if error else _complexity(self.run)
        if run.asked_for:
            provenance = {**provenance, "in_place_of": run.asked_for}
        given = next((image.lr.path.parent for image in run.benchmark.images if image.lr), None)
        if given:
            provenance = {**provenance, "lr_images": given.name}
        names = (image.name for image in run.benchmark.images)
        return RunRecord(
            identity=run.identity,
            status="error" if error else "finished",
            images=tuple(self._results[name] for name in names if name in self._results),
            execution=self.execution,
            provenance=provenance,
            weights=run.weights.info if run.weights else None,
            parameters=size.parameters if size else None,
            macs=size.macs if size else None,
            macs_input_size=size.input_size if size else None,
            verified=run.benchmark.verified,
            error=error,
            plugins=self._plugins,
        )


_counted: dict[str, Complexity] = {}


def _complexity(run: Run) -> Complexity:
    """What the network consists of; counting takes up to seconds, so once for all sets."""
    from harness.models.cost import measure_complexity

    identity = run.identity
    key = digest([identity.model, identity.source_sha256, identity.scale, identity.hyper])
    if key not in _counted:
        _counted[key] = measure_complexity(
            run.card, identity.scale, identity.hyper, source_sha256=identity.source_sha256
        )
    return _counted[key]


def _finished(run: Run, desk: Desk) -> RunRecord | None:
    """The record of a run with which nothing is left to do; it is told of."""
    record = _complete(run, desk)
    if record:
        desk.listener.started(run, len(record.images), len(record.images))
        desk.listener.ended(run, record, 0)
    return record


def _complete(run: Run, desk: Desk) -> RunRecord | None:
    """The record of a run with which nothing is left to do."""
    record = None if desk.options.force else desk.store.finished(run.identity)
    if record is None or _todo(run, {image.image: image for image in record.images}, desk):
        return None
    return record


def _is_finished(run: Run, desk: Desk) -> bool:
    try:
        return _complete(run, desk) is not None
    except Exception:  # what is wrong with its record is told when its turn comes
        return False


def _todo(run: Run, results: Mapping[str, ImageResult], desk: Desk) -> list[SetImage]:
    def lacks_picture(name: str) -> bool:
        folder = desk.options.save_images
        return bool(folder and not picture_path(folder, run.identity, name).is_file())

    return [i for i in run.benchmark.images if i.name not in results or lacks_picture(i.name)]
