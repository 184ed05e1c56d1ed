"""Runs cut into shards of images that the workers of a cluster take on (extra ``cluster``).

The client, which is the process that was asked for the runs, alone writes what comes back. A
shard whose worker is lost goes to another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

from harness.errors import HarnessError, own_error, sentence
from harness.interrupts import interrupts_held
from harness.record import Execution
from harness.run.cluster import Cluster
from harness.run.evaluate import Run
from harness.run.provenance import joint
from harness.run.underway import ClusterError, UnderWay, turns
from harness.run.worker import Handed, Parcel, hold, work_off

if TYPE_CHECKING:
    from distributed import Future

    from harness.data.identify import SetImage
    from harness.record import RunRecord
    from harness.run.executors import Ended, Executor
    from harness.run.underway import Desk

LARGEST_SHARD = 25
"""Images that are handed to a worker at once, at most."""

SHARDS_A_WORKER = 4
"""Towards the end shards get so small that there are this many for each worker."""

AHEAD = 2
"""Shards for each worker that are under way or lie ready; runs begin no faster."""


def dispatcher(scheduler: str | None, workers: int | None, plugins: Sequence[Path]) -> Executor:
    """Carry runs out on the workers of a scheduler, or on some that are started here.

    Args:
        scheduler: its address; None for workers on this machine.
        workers: how many of those; None for as many as fit.
        plugins: files that the workers load.
    """
    return partial(_carry_out, scheduler, workers, tuple(path.resolve() for path in plugins))


def _carry_out(
    scheduler: str | None,
    workers: int | None,
    plugins: tuple[Path, ...],
    runs: Sequence[Run],
    desk: Desk,
) -> Ended:
    with Cluster(scheduler, workers, desk.options.device, desk.listener) as cluster:
        sent = Dispatch(cluster, desk, plugins, sum(len(run.benchmark.images) for run in runs))
        later: list[Run] = []
        try:
            for some, put_off in ((runs, later), (later, None)):
                for begun in turns(some, desk, sent.execution, put_off):
                    yield from sent.out(begun) if isinstance(begun, UnderWay) else [begun]
                    # While this process waits for another one, no result must wait for it.
                    while sent.full() or (put_off is None and sent.busy()):
                        yield from sent.collect()
                while sent.busy():
                    yield from sent.collect()
        except ClusterError as error:
            yield error
        finally:
            sent.close()


@dataclass(eq=False)
class _Job:
    """A run whose images are with workers.

    Attributes:
        parcel: what workers know of it.
        rank: how many runs began before it; workers take the images of those first.
        tensors: the values of its weights, which workers keep.
        shards: those that have not come back for good.
        error: why it broke, or empty.
        origins: the provenance of the workers.
    """

    work: UnderWay
    parcel: Parcel
    rank: int
    tensors: Future[Any] | None = None
    shards: int = 0
    error: str = ""
    origins: list[Mapping[str, Any]] = field(default_factory=list)

    def take(self, handed: Handed) -> None:
        """Keep what a worker handed back."""
        self.origins.append(handed.provenance)
        try:
            for result, picture in handed.made:
                self.work.add(result, picture)
        except (HarnessError, OSError) as unwritten:
            self.error = self.error or sentence(unwritten)
        self.error = self.error or handed.error


class Dispatch:
    """What is with the workers of a cluster, and what came back.

    Args:
        cluster: the workers.
        desk: where runs are carried out.
        plugins: files that the workers load.
        images: how many there are in all runs.
    """

    def __init__(
        self, cluster: Cluster, desk: Desk, plugins: tuple[Path, ...], images: int
    ) -> None:
        self._cluster, self._desk, self._plugins = cluster, desk, plugins
        self._left, self._begun = images, 0
        self._jobs: list[_Job] = []
        self._away: dict[Future[Any], tuple[_Job, Sequence[SetImage]]] = {}
        self._suspects: list[tuple[_Job, Sequence[SetImage]]] = []
        self._tried: Future[Any] | None = None

    def execution(self) -> Execution:
        """How runs are carried out here, as the first worker says."""
        facts, _ = self._cluster.first_worker
        return Execution(facts["device"], facts["threads"], "dask")

    def out(self, work: UnderWay) -> Iterator[RunRecord | HarnessError]:
        """Send a run's images out; a run without any ends at once."""
        job = _Job(work, self._parcel(work.run), self._begun)
        self._jobs.append(job)
        job.tensors = self._tensors(work.run)
        size = math.ceil(self._left / (SHARDS_A_WORKER * self._cluster.count()))
        size = max(1, min(size, LARGEST_SHARD))
        shards = [work.todo[start : start + size] for start in range(0, len(work.todo), size)]
        job.shards = len(shards)
        for shard in shards:
            self._submit(job, shard)
        self._begun += 1
        self._left -= len(work.run.benchmark.images)
        if not shards:
            yield self._end(job)

    def busy(self) -> bool:
        """Whether any run that began has not ended."""
        return bool(self._jobs)

    def full(self) -> bool:
        """Whether the workers have enough to do."""
        return bool(self._away) and len(self._away) >= AHEAD * self._cluster.count()

    def collect(self) -> Iterator[RunRecord | HarnessError]:
        """Wait for what comes back next, and keep it; gives the record of a run that ends.

        Workers that die take what lies ready for them along. What was with several dead ones is
        tried again when nothing else is away, to know whether it is what kills them.
        """
        if not self._away:
            job, images = self._suspects.pop()
            if job.error:
                yield from self._back(job)
                return
            self._tried = self._submit(job, images)
        # Ctrl-C may come while dask is in a finaliser, where an exception would be lost.
        with interrupts_held(self._desk.listener.waiting):
            back = self._arrival()
        if back is None:
            return
        job, rest = back
        if rest and not job.error:
            self._submit(job, rest)
        else:
            yield from self._back(job)

    def _arrival(self) -> tuple[_Job, Sequence[SetImage]] | None:
        """Keep what comes back next: its run, and which images of the shard are still to be done.

        None where the shard was with dead workers, and is to be tried again.
        """
        future = self._cluster.next()
        job, images = self._away.pop(future)
        try:
            handed: Handed = self._cluster.result(future)
        except KilledWorker:
            if future is not self._tried and not job.error:
                self._suspects.append((job, images))
                return None
            names = " to ".join(dict.fromkeys((images[0].name, images[-1].name)))
            said = f"Several workers died, one after the other, over {names}: is memory short?"
            handed = Handed((), said, self._cluster.first_worker[1])
        job.take(handed)
        known = {result.image for result, _ in handed.made}
        return job, [image for image in images if image.name not in known]

    def close(self) -> None:
        """Let other processes have the runs that did not end."""
        for job in self._jobs:
            job.work.close()

    def _submit(self, job: _Job, images: Sequence[SetImage]) -> Future[Any]:
        shard = [_absolute(image) for image in images]
        future = self._cluster.submit(job.rank, work_off, job.parcel, job.tensors, shard)
        self._away[future] = job, images
        return future

    def _back(self, job: _Job) -> Iterator[RunRecord | HarnessError]:
        """Count a shard as done, and end its run with the last one."""
        job.shards -= 1
        if job.shards == 0:
            yield self._end(job)

    def _end(self, job: _Job) -> RunRecord | HarnessError:
        try:
            return job.work.end(job.error, joint(job.origins or [self._cluster.first_worker[1]]))
        except (Exception, SystemExit) as unwritten:
            return own_error(unwritten, job.work.run.title)
        finally:
            job.work.close()
            self._jobs.remove(job)

    def _parcel(self, run: Run) -> Parcel:
        known = {one.name: getattr(run, one.name) for one in fields(Run)}
        card, weights = known.pop("card"), known.pop("weights")
        return Parcel(
            run.identity.id,
            card.name,
            weights and replace(weights, tensors={}),
            known,
            self._plugins,
            self._desk.options.device,
            self._cluster.first_worker[0],
            pictures=self._desk.options.save_images is not None,
        )

    def _tensors(self, run: Run) -> Future[Any] | None:
        """The values of a run's weights, sent once for all shards that need them at a time."""
        if run.weights is None:
            return None
        key = f"weights-{run.weights.info.tensors_sha256}"
        return self._cluster.keep(key, hold, run.weights.tensors)


def _absolute(image: SetImage) -> SetImage:
    """An image whose files workers find, whatever folder they run in."""
    lr = image.lr and replace(image.lr, path=image.lr.path.absolute())
    return replace(image, path=image.path.absolute(), lr=lr)
