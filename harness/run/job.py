"""One run in progress: what is left to do, and its record.

One process at a time carries out a run of a results folder, and alone writes its journal, record
and pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from harness.data.testsets import data_root_of
from harness.errors import HarnessError, UsageError, own_error, sentence
from harness.files import FileLock, recorded_path, require_writable, write_file
from harness.record import Execution, ImageResult, RunRecord
from harness.run.evaluate import compute, score_saved, upscaler
from harness.run.provenance import provenance, same_origin
from harness.run.spec import RunContext, WorkersError
from harness.run.store import Journal, picture_path

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data.identify import SetImage
    from harness.run.spec import Outcomes, Run


def require_folders(runs: Sequence[Run], context: RunContext) -> None:
    """Create the folders of records and SR images if any run is unfinished, and check them.

    Raises:
        HarnessError: one of the folders cannot be written.
    """
    with suppress(Exception):  # `begin_runs` reports a bad record
        if all(_finished(run, context) for run in runs):
            return
    require_writable(context.store.root, "results", "--results")
    if context.save_images:
        require_writable(context.save_images, "pictures'", "--save-images")


def begin_runs(
    runs: Sequence[Run], context: RunContext, execution: Callable[[], Execution]
) -> Iterator[RunRecord | HarnessError | Job | None]:
    """Begin runs one by one, each when the caller asks for the next.

    Args:
        runs: the runs to carry out.
        context: what all runs share.
        execution: returns the device and threads; called only if a run has images to compute.

    Yields:
        a job; the record if the run is finished; the error that stopped the run from beginning; or
        None before waiting for another process that is carrying out the next run.

    Raises:
        UsageError: the device does not exist.
        WorkersError: there are no workers.
    """

    def begin(run: Run, *, wait: bool) -> RunRecord | HarnessError | Job | None:
        try:
            return _begin(run, context, execution, wait=wait)
        except (UsageError, WorkersError):
            raise
        except Exception as error:  # the other runs go on
            return own_error(error, run.title)

    busy = []
    for run in runs:
        begun = begin(run, wait=False)
        if begun:
            yield begun
        else:
            busy.append(run)
    for run in busy:
        yield None
        yield begin(run, wait=True)


def _begin(
    run: Run, context: RunContext, execution: Callable[[], Execution], *, wait: bool
) -> RunRecord | HarnessError | Job | None:
    """Begin a run; return its record if it is finished, None if another process has its lock."""
    path = context.store.path(run.identity)
    lock = FileLock(path.with_suffix(".lock"))
    with ExitStack() as stack:
        stack.callback(lock.release)
        record = _finished(run, context)
        if record:
            # A process may have been killed just after it wrote the record. In a read-only folder
            # what it left stays.
            with suppress(HarnessError, OSError):
                if lock.path.exists() and lock.acquire(wait=False):
                    path.with_suffix(".journal").unlink(missing_ok=True)
            return record
        if not lock.acquire(wait=False):
            if not wait:
                return None
            context.listener.notify(f"Another process carries out {run.title}: waiting")
            lock.acquire(wait=True)
        # The process that held the lock may have finished the run.
        record = _finished(run, context) or _from_saved_images(run, context)
        if record:
            return record
        job = Job(run, context, execution(), lock)
        stack.pop_all()
        return job


class Job:
    """A run that this process carries out.

    An image with a result in a finished record or in the journal is not computed again, nor is a
    colour image that the same run has computed under the other rule for grey images.

    Args:
        lock: the lock of the run, already held; `close` releases it.

    Attributes:
        todo: the images that lack a result or, if pictures are to be saved, a picture.
    """

    def __init__(self, run: Run, context: RunContext, execution: Execution, lock: FileLock) -> None:
        self.run, self._context, self._lock = run, context, lock
        # Published images are scored on the CPU, where every image is.
        self.execution = replace(execution, device="cpu") if run.published else execution
        # Read now: the user may edit the plug-in's file during the run.
        self._plugins = run.plugins()
        self._stored = context.store.finished(run.identity)
        self._reused = None if context.force else self._stored
        self._journal = Journal(context.store, run.identity, self.execution)
        previous: Iterable[ImageResult] = ()
        self._shared = ""
        if self._reused:
            previous = self._reused.images
        elif not context.force:
            self._shared, colour = _colour_results(run, context, self.execution)
            previous = (*colour, *self._journal.read())
        self._results = {result.image: result for result in previous}
        self.todo = _todo(run, self._results, context)
        total = len(run.image_set.images)
        context.listener.started(run, total, total - len(self.todo))
        self._journal.start(list(self._results.values()))

    def add(self, result: ImageResult, picture: bytes | None) -> None:
        """Record the result of an image, and save its SR image if there is one.

        The run goes on if a picture cannot be written; the command reports it at the end.

        Raises:
            HarnessError: the journal cannot be written.
        """
        if picture:
            _save_picture(self.run, self._context, result.image, picture)
        if result.image not in self._results:
            self._results[result.image] = result
            self._journal.append(result)
        self._context.listener.image(self.run, result)

    def end(self, error: str, provenance: Mapping[str, Any]) -> RunRecord | HarnessError:
        """Write the record, and release the lock.

        A record with an error never replaces a finished one.

        Args:
            error: why the run failed, or empty.
            provenance: the machine and software used.

        Returns:
            the record, or the error if it cannot be written.
        """
        try:
            if self._reused:
                status = "error" if error else self._reused.status
                record = replace(self._reused, status=status, error=error)
            else:
                record = self._record(error, provenance)
                if not (error and self._stored):
                    self._context.store.write(record)
            if not error or self._stored:
                self._journal.remove()
            return record
        except (Exception, SystemExit) as failure:  # counting runs the code of a plug-in
            return own_error(failure, self.run.title)
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock, so that other processes can carry out the run."""
        self._lock.release()

    def _record(self, error: str, provenance: Mapping[str, Any]) -> RunRecord:
        run = self.run
        cost = None if error or run.published else run.complexity()
        lr_folder = next((image.lr.path.parent for image in run.image_set.images if image.lr), None)
        file, key = run.weights.given if run.weights else ("", "")
        requested = {
            "in_place_of": run.asked_for,
            "weights_file": file,
            "weights_key": key,
            "data_root": data_root_of(run.image_set),
            "lr_images": recorded_path(lr_folder) if lr_folder and not run.published else "",
            "sr_images": run.published.folder if run.published else "",
            "colour_images_of": self._shared,
        }
        provenance = {**provenance, **{name: text for name, text in requested.items() if text}}
        if run.card.checkpoint:
            provenance["checkpoint"] = run.card.checkpoint
        if not error:
            provenance["grey_images"] = sorted(run.image_set.grey)
        names = (image.name for image in run.image_set.images)
        return RunRecord(
            identity=run.identity,
            status="error" if error else "finished",
            images=tuple(self._results[name] for name in names if name in self._results),
            execution=self.execution,
            provenance=provenance,
            weights=run.weights.info if run.weights else None,
            parameters=cost.parameters if cost else None,
            macs=cost.macs if cost else None,
            macs_input_size=cost.input_size if cost else None,
            verified=run.image_set.verified,
            error=error,
            plugins=self._plugins,
        )


def _finished(run: Run, context: RunContext) -> RunRecord | None:
    """The record of a run whose results and pictures are all there; None if work is left."""
    record = None if context.force else context.store.finished(run.identity)
    if record is None or _todo(run, {image.image: image for image in record.images}, context):
        return None
    return record


def _from_saved_images(run: Run, context: RunContext) -> RunRecord | None:
    """Finish a run from a record with fewer metrics and its SR images, without the network.

    Returns:
        the record, which is also written; None if the network has to run.
    """
    if context.force or run.published or context.store.finished(run.identity):
        return None
    if run.rules.pipeline != "rgb":  # luma is not saved as it is scored
        return None
    names = [image.name for image in run.image_set.images]
    folders = [folder for folder in (context.save_images, context.store.root) if folder]
    for earlier, folder in product(context.store.with_fewer_metrics(run.identity), folders):
        saved = {name: picture_path(folder, earlier.identity, name) for name in names}
        results = _score_saved(run, context, earlier, saved)
        if results:
            for name in names if context.save_images else ():
                _save_picture(run, context, name, saved[name].read_bytes())
            record = _with_metrics(earlier, run, results)
            path = context.store.write(record)
            path.with_suffix(".journal").unlink(missing_ok=True)
            return record
    return None


def _score_saved(
    run: Run, context: RunContext, earlier: RunRecord, saved: Mapping[str, Path]
) -> list[ImageResult]:
    """Compute the metrics that a record lacks; nothing if its SR images are not all there."""
    if not all(path.is_file() for path in saved.values()):
        return []
    known = {result.image: result for result in earlier.images}
    images = f"the SR images that run {earlier.identity.id[:12]} saved"
    results = []
    try:
        for image in run.image_set.images:
            results.append(score_saved(run, image, known[image.name], saved[image.name]))
    except HarnessError as error:
        context.listener.notify(f"{run.title} does not use {images}: {error}")
        return []
    context.listener.notify(f"{run.title} takes further metrics from {images}")
    return results


def _with_metrics(earlier: RunRecord, run: Run, results: Sequence[ImageResult]) -> RunRecord:
    """Make the record of a run from one with fewer metrics, which says what made the SR images."""
    scored = {"run": earlier.identity.id, **provenance("cpu")}
    return replace(
        earlier,
        identity=run.identity,
        images=tuple(results),
        provenance={**earlier.provenance, "further_metrics": scored},
        plugins=run.plugins(),
    )


def _save_picture(run: Run, context: RunContext, image: str, picture: bytes) -> None:
    """Save an SR image if the user wants it; an error does not stop the run."""
    if context.save_images:
        try:
            write_file(picture_path(context.save_images, run.identity, image), picture, "picture")
        except HarnessError as error:
            context.unsaved.setdefault(run.identity.id, str(error))


def _todo(run: Run, results: Mapping[str, ImageResult], context: RunContext) -> list[SetImage]:
    def lacks_picture(name: str) -> bool:
        folder = context.save_images
        return bool(folder and not picture_path(folder, run.identity, name).is_file())

    return [i for i in run.image_set.images if i.name not in results or lacks_picture(i.name)]


def _colour_results(
    run: Run, context: RunContext, execution: Execution
) -> tuple[str, list[ImageResult]]:
    """Take the results of colour images, and their pictures, from a run with the other grey rule.

    Colour images have the same scores under both rules. As for a journal, only the record of a run
    that this process could have made is used: of the same execution, software and machine. With the
    workers of a cluster that is not known, and without a network there is little to save.

    Returns:
        the id of the other run, or an empty text, and the results.
    """
    rules = run.rules.with_other_grey
    other = replace(run.identity, protocol=rules.name, protocol_sha256=rules.sha256)
    record = None
    if not run.published and execution.executor == "serial":
        with suppress(HarnessError):  # a damaged record; its own run reports it
            record = context.store.finished(other)
    if not record or record.execution != execution or not same_origin(record, execution.device):
        return "", []
    grey = run.image_set.grey
    results = [result for result in record.images if result.image not in grey]
    if context.save_images:
        for name in (result.image for result in results):
            picture = picture_path(context.save_images, other, name)
            if picture.is_file():
                _save_picture(run, context, name, picture.read_bytes())
    return other.id if results else "", results


class Serial:
    """An executor that uses this process, for one run after the other."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    def execution(self) -> Execution:
        """The device and threads of this process."""
        import torch

        from harness.models.resources import pick_device

        return Execution(pick_device(self._context.device), torch.get_num_threads())

    def free_bytes(self) -> int | None:
        """The free memory of the device."""
        from harness.models.resources import free_bytes

        return free_bytes(self.execution().device)

    def carry_out(self, runs: Sequence[Run]) -> Outcomes:
        """Carry out runs, see `Executor`."""
        for begun in begin_runs(runs, self._context, self.execution):
            if begun:
                yield _carry_out(begun, self._context) if isinstance(begun, Job) else begun


def _carry_out(job: Job, context: RunContext) -> RunRecord | HarnessError:
    from harness.global_state import interrupts_held

    error, changed = "", set[str]()
    with closing(job):
        device = job.execution.device
        try:
            network = None if job.run.published else upscaler(job.run, device)
            changed = network.changed if network else changed
            pictures = context.save_images is not None
            with interrupts_held(context.listener.notify) as stop:
                results = compute(job.run, job.todo, network, pictures=pictures, stop=stop.is_set)
                for result, picture in results:
                    job.add(result, picture)
        except Exception as failure:  # a plug-in may raise anything; the other runs go on
            error = sentence(failure)
        return job.end(error, provenance(device, changed))
