"""One run in progress: its lock, its journal, what is left to do, and its record.

One process at a time carries out a run of a results folder, and alone writes its journal, record
and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError, own_error, sentence
from harness.files import TEXT, FileLock, regular, require_writable, write_atomically
from harness.models.source import plugins
from harness.protocol.protocols import RULES
from harness.record import Execution, Identity, ImageResult, RunRecord, digest
from harness.run.evaluate import compute, upscaler
from harness.run.provenance import packages, source_digest
from harness.run.spec import RunContext, WorkersError
from harness.run.store import ResultStore, picture_path

if TYPE_CHECKING:
    from harness.data.identify import SetImage
    from harness.models.cost import Complexity
    from harness.run.spec import Outcomes, Run


def require_folders(runs: Sequence[Run], context: RunContext) -> None:
    """Make the folders of records and SR images where there is something to write, and try them.

    Raises:
        HarnessError: one cannot be written.
    """
    if all(_is_finished(run, context) for run in runs):
        return
    require_writable(context.store.root, "results", "--results")
    if context.options.save_images:
        require_writable(context.options.save_images, "pictures'", "--save-images")


def begin_runs(
    runs: Sequence[Run],
    context: RunContext,
    execution: Callable[[], Execution],
    later: list[Run] | None,
) -> Iterator[RunRecord | HarnessError | Job]:
    """Begin runs, one each time the caller asks for the next.

    Args:
        runs: what is to be carried out.
        context: where.
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
            begun = _begin(run, context, execution, wait=later is None)
        except (UsageError, WorkersError):
            raise
        except Exception as error:  # what a run meets costs no other one
            begun = own_error(error, run.title)
        if begun is not None:
            yield begun
        elif later is not None:
            later.append(run)


def _begin(
    run: Run, context: RunContext, execution: Callable[[], Execution], *, wait: bool
) -> RunRecord | HarnessError | Job | None:
    """A run, or its record if nothing is left to do; None if another process is on it."""
    record = _finished(run, context)
    if record:
        _remove_leftovers(context.store, run.identity)
        return record
    lock = _lock_of(context.store, run.identity)
    if not lock.acquire(wait=False):
        if not wait:
            return None
        context.listener.waiting(f"Another process carries out {run.title}")
        lock.acquire(wait=True)
    with ExitStack() as stack:
        stack.callback(lock.release)
        # Whoever had the lock may have done the work.
        record = _finished(run, context)
        if record:
            return record
        work = Job(run, context, execution(), lock)
        stack.pop_all()
        return work


class Job:
    """A run that this process carries out.

    Images that a finished record or a journal knows are not computed again.

    Args:
        run: what is carried out.
        context: where.
        execution: how and on what.
        lock: the run's, held; given back at the end.

    Attributes:
        todo: the images without a result or, where pictures are wanted, without a picture.
    """

    def __init__(self, run: Run, context: RunContext, execution: Execution, lock: FileLock) -> None:
        self.run, self.execution, self._context, self._lock = run, execution, context, lock
        self._unsaved = False
        # Read now: the user may edit the plug-in's file while the run goes on.
        self._plugins = plugins(run.card.name, run.metrics)
        self._stored = context.store.finished(run.identity)
        self._kept = None if context.options.force else self._stored
        self._journal = journal_of(context.store, run.identity, execution)
        known: Iterable[ImageResult] = ()
        if not context.options.force:
            known = self._kept.images if self._kept else self._journal.read()
        self._results = {result.image: result for result in known}
        self.todo = _todo(run, self._results, context)
        total = len(run.image_set.images)
        context.listener.started(run, total, total - len(self.todo))
        self._journal.start(list(self._results.values()))

    def add(self, result: ImageResult, picture: bytes | None) -> None:
        """Keep an image's result, and its SR image where there is one.

        A picture that cannot be written costs the run nothing: it is told of at the end.

        Raises:
            HarnessError: the journal cannot be written.
        """
        folder = self._context.options.save_images
        if folder and picture:
            self._save(picture, picture_path(folder, self.run.identity, result.image))
        if result.image not in self._results:
            self._results[result.image] = result
            self._journal.append(result)
        self._context.listener.image(self.run, result)

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
                self._context.store.write(record)
        if not error or self._stored:
            self._journal.remove()
        self._context.listener.ended(self.run, record, len(self.todo))
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
                self._context.unsaved.append(f"The picture {path} cannot be written ({error}).")
            self._unsaved = True

    def _record(self, error: str, provenance: Mapping[str, Any]) -> RunRecord:
        run, size = self.run, None if error else _complexity(self.run)
        if run.asked_for:
            provenance = {**provenance, "in_place_of": run.asked_for}
        given = next((image.lr.path.parent for image in run.image_set.images if image.lr), None)
        if given:
            provenance = {**provenance, "lr_images": given.name}
        names = (image.name for image in run.image_set.images)
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
            verified=run.image_set.verified,
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


def _finished(run: Run, context: RunContext) -> RunRecord | None:
    """The record of a run with which nothing is left to do; it is told of."""
    record = _complete(run, context)
    if record:
        context.listener.started(run, len(record.images), len(record.images))
        context.listener.ended(run, record, 0)
    return record


def _complete(run: Run, context: RunContext) -> RunRecord | None:
    """The record of a run with which nothing is left to do."""
    record = None if context.options.force else context.store.finished(run.identity)
    if record is None or _todo(run, {image.image: image for image in record.images}, context):
        return None
    return record


def _is_finished(run: Run, context: RunContext) -> bool:
    try:
        return _complete(run, context) is not None
    except Exception:  # what is wrong with its record is told when its turn comes
        return False


def _todo(run: Run, results: Mapping[str, ImageResult], context: RunContext) -> list[SetImage]:
    def lacks_picture(name: str) -> bool:
        folder = context.options.save_images
        return bool(folder and not picture_path(folder, run.identity, name).is_file())

    return [i for i in run.image_set.images if i.name not in results or lacks_picture(i.name)]


def serial(runs: Sequence[Run], context: RunContext) -> Outcomes:
    """Carry runs out one after the other in this process.

    A run that breaks leaves a record with the error, and the others go on. Those that another
    process is on come last.

    Raises:
        UsageError: no such device.
    """

    def execution() -> Execution:
        import torch

        from harness.models.network import pick_device

        return Execution(pick_device(context.options.device), torch.get_num_threads())

    later: list[Run] = []
    everything = chain(
        begin_runs(runs, context, execution, later), begin_runs(later, context, execution, None)
    )
    for begun in everything:
        yield _one_by_one(begun, context) if isinstance(begun, Job) else begun


def _one_by_one(work: Job, context: RunContext) -> RunRecord | HarnessError:
    from harness.global_state import interrupts_held
    from harness.run.provenance import provenance

    error, changed = "", set[str]()
    with closing(work):
        device = work.execution.device
        try:
            network = upscaler(work.run, device)
            changed = network.changed
            pictures = context.options.save_images is not None
            with interrupts_held(context.listener.waiting) as stop:
                made = compute(work.run, work.todo, network, pictures=pictures, enough=stop.is_set)
                for result, picture in made:
                    work.add(result, picture)
        except Exception as broken:  # a plug-in may raise anything; the other runs go on
            error = sentence(broken)
        try:
            return work.end(error, provenance(device, changed))
        except (Exception, SystemExit) as unwritten:
            return own_error(unwritten, work.run.title)


class Journal:
    """Results of single images, appended as they come, so that a killed run can go on.

    A journal of another execution (device, threads) or software, be it the harness itself, is not
    continued: a record tells of one.
    """

    def __init__(self, path: Path, identity: Identity, execution: Execution) -> None:
        self.path = path
        self._metrics = set(identity.metrics)
        software = {"packages": packages(), "harness_sha256": source_digest()}
        numbers = {"rules": RULES, "inference": identity.inference}
        facts = {"execution": asdict(execution), **software, **numbers}
        self._header = {"id": identity.id, **facts}

    def read(self) -> list[ImageResult]:
        """The results so far, up to the first line that is not one (cut off by a kill, say)."""
        try:
            header, *lines = regular(self.path, TEXT).read_bytes().split(b"\n")[:-1]
            if json.loads(header) != self._header:
                return []
        except (OSError, ValueError, RecursionError):
            return []
        results = []
        for line in lines:
            try:
                result = _sealed_result(line)
            except Exception:  # what is no result fails in many ways
                break
            if set(result.scores) != self._metrics:
                break
            results.append(result)
        return results

    def start(self, results: list[ImageResult]) -> None:
        """Begin anew with the results that still hold.

        Raises:
            HarnessError: the folder cannot be written.
        """
        lines = [json.dumps(self._header) + "\n", *map(_sealed_line, results)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, "".join(lines))
        except OSError as error:
            raise HarnessError(f"The journal {self.path} cannot be written ({error}).") from error

    def append(self, result: ImageResult) -> None:
        """Add one result.

        Raises:
            HarnessError: it cannot be written, because the disk is full, say.
        """
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_sealed_line(result))
        except OSError as error:
            raise HarnessError(f"The journal {self.path} cannot be written ({error}).") from error

    def remove(self) -> None:
        """Forget the journal; the record stands."""
        self.path.unlink(missing_ok=True)


def _sealed_line(result: ImageResult) -> str:
    """A line of a journal: a result and the digest that tells whether it was damaged."""
    row = result.to_json()
    return json.dumps({"result": row, "sha256": digest(row)}) + "\n"


def _sealed_result(line: bytes) -> ImageResult:
    data = json.loads(line)
    if digest(data["result"]) != data["sha256"]:
        raise ValueError("not what its SHA-256 says")
    return ImageResult.from_json(data["result"])


def journal_of(store: ResultStore, identity: Identity, execution: Execution) -> Journal:
    """The journal of a run in progress, beside its record."""
    return Journal(store.path(identity).with_suffix(".journal"), identity, execution)


def _lock_of(store: ResultStore, identity: Identity) -> FileLock:
    """What a process holds while it carries out the run."""
    return FileLock(store.path(identity).with_suffix(".lock"))


def _remove_leftovers(store: ResultStore, identity: Identity) -> None:
    """Remove what a process has left that was killed just after it wrote the record.

    In a folder that cannot be written it stays.
    """
    lock = _lock_of(store, identity)
    try:
        if lock.path.exists() and lock.acquire(wait=False):
            store.path(identity).with_suffix(".journal").unlink(missing_ok=True)
    except (HarnessError, OSError):
        pass
    finally:
        lock.release()
