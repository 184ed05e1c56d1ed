"""The workers of a dask cluster (extra ``cluster``): what they are sent, and how they score it."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import dask
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, Security, as_completed, rpc
from distributed.client import ClosedClientError
from distributed.comm.addressing import get_address_host

from harness.errors import HarnessError, UsageError, own_error, sentence
from harness.record import Execution, canonical_json
from harness.registry import MODELS, load_plugins
from harness.run.evaluate import compute, upscaler
from harness.run.job import Job, begin_runs
from harness.run.provenance import joint, packages, provenance, source_digest
from harness.run.spec import Run, WorkersError

if TYPE_CHECKING:
    from distributed import Future

    from harness.data.identify import SetImage
    from harness.models.upscaler import Upscaler
    from harness.models.weights import Weights
    from harness.record import ImageResult, RunRecord
    from harness.run.spec import Executor, Listener, Outcomes, RunContext

    Facts = Mapping[str, Any]
    """What processes must have in common to give the same numbers: software, device, threads."""


CONNECT_SECONDS = 10.0
"""How long a scheduler has to answer."""

_CONFIGURATION = {
    # Weights may be large.
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
    # Dask would set these variables, one thread each, in this process and leave them there.
    "distributed.nanny.pre-spawn-environ": {},
}


class Cluster:
    """Workers of one kind, connected to when they are first needed.

    Use it in a ``with`` statement. Whatever is asked of it raises `WorkersError` when the
    scheduler is gone.

    Args:
        scheduler: its address; None for workers on this machine, started and ended here.
        workers: how many of those; by default one for each GPU, or for each four cores.
        device: as the user named it; each worker picks its own.
        listener: is told when no worker has come yet.
    """

    def __init__(
        self, scheduler: str | None, workers: int | None, device: str, listener: Listener
    ) -> None:
        self._scheduler, self._workers = scheduler, workers
        self._device, self._listener = device, listener
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the scheduler; workers that were started here end."""
        self._stack.close()

    @cached_property
    def first_worker(self) -> tuple[Facts, Mapping[str, Any]]:
        """Facts and provenance of whichever worker answers first.

        Raises:
            ClusterError: its software is not that of this process.
            UsageError: it has no such device.
        """
        with self._reached() as client:
            future = client.submit(survey, self._device, pure=False)
            if not client.nthreads():
                self._listener.waiting("No worker has come yet")
            facts, origin = future.result()
        unlike = differences(facts, software())
        if unlike:
            raise WorkersError(
                f"A worker differs from this process ({unlike}): give both the same environment."
            )
        return facts, origin

    def count(self) -> int:
        """How many workers there are now, or 1 where there are none for the moment."""
        with self._reached() as client:
            return max(1, len(client.nthreads()))

    def keep(self, key: str, function: Callable[..., Any], value: Any) -> Future[Any]:
        """Have workers keep what a function makes of a value, under a key, for other tasks."""
        with self._reached() as client:
            return client.submit(function, value, key=key)

    def submit(self, rank: int, function: Callable[..., Any], *given: Any) -> Future[Any]:
        """Have a worker call a function; a lower rank goes first."""
        with self._reached() as client:
            future = client.submit(function, *given, pure=False, priority=-rank)
            self._arrivals.add(future)
            return future

    def next(self) -> Future[Any]:
        """Wait for whichever call ends next."""
        return next(self._arrivals)

    def result(self, future: Future[Any]) -> Any:
        """What a call gave.

        Raises:
            KilledWorker: several workers died over it.
        """
        with self._reached():
            return future.result()

    @cached_property
    def _client(self) -> Client:
        _silence()
        self._stack.enter_context(dask.config.set(_CONFIGURATION))
        if self._scheduler is None:
            try:
                cluster = self._stack.enter_context(_local_cluster(self._workers))
                return self._stack.enter_context(Client(cluster, set_as_default=False))
            except Exception as error:  # dask's own settings may hold anything
                raise WorkersError(f"Workers cannot be started ({sentence(error)}).") from error
        return self._stack.enter_context(_connected(self._scheduler))

    @cached_property
    def _arrivals(self) -> as_completed:
        return as_completed(loop=self._client.loop)

    @contextmanager
    def _reached(self) -> Iterator[Client]:
        """Say what fails in here for want of the scheduler or of a worker's code."""
        try:
            yield self._client
        except (HarnessError, KilledWorker):
            raise
        except (OSError, CancelledError, ClosedClientError) as error:
            raise WorkersError(
                "The dask scheduler is gone: finished images are kept, and the same command goes "
                "on from there."
            ) from error
        except Exception as error:
            raise WorkersError(f"A worker cannot do its work ({sentence(error)}).") from error


def _connected(address: str) -> Client:
    """A client of a scheduler.

    Raises:
        UsageError: the address is none.
        ClusterError: no scheduler answers there.
    """
    try:
        get_address_host(address)
    except ValueError as error:
        raise UsageError(f"--scheduler takes tcp://host:port ({error}).") from error
    try:
        # A client would wait without end for an answer, and for long at the exit of Python.
        kind = asyncio.run(_kind(address))
        if kind != "Scheduler":
            raise WorkersError(f"At {address} is a dask {kind.lower()}: name its scheduler.")
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except WorkersError:
        raise
    except OSError as error:
        raise WorkersError(
            f"No dask scheduler answers at {address}: start one, or mend the address."
        ) from error
    except Exception as error:  # something else may answer anything
        raise WorkersError(
            f"What is at {address} cannot be used as a dask scheduler ({sentence(error)}): mend "
            "the address."
        ) from error


async def _kind(address: str) -> str:
    """What answers at an address: ``Scheduler``, ``Worker`` or ``Nanny``.

    Raises:
        OSError: nothing does, in time.
    """
    arguments = Security().get_connection_args("client")
    async with asyncio.timeout(CONNECT_SECONDS), rpc(address, connection_args=arguments) as remote:
        return (await remote.identity())["type"]


def _local_cluster(workers: int | None) -> LocalCluster:
    """Workers on this machine that share its cores."""
    count = workers or _default_count()
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, CPU_COUNT // count))
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=logging.CRITICAL,
        env=dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        preload=["harness.run.workers"],
    )


def _default_count() -> int:
    import torch

    return torch.cuda.device_count() or max(1, CPU_COUNT // 4)


def _silence() -> None:
    """Keep dask's log off the screen: what matters of it is said in one sentence."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


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
    context: RunContext,
) -> Outcomes:
    with Cluster(scheduler, workers, context.options.device, context.listener) as cluster:
        sent = Dispatch(cluster, context, plugins, sum(len(run.image_set.images) for run in runs))
        later: list[Run] = []
        try:
            for some, put_off in ((runs, later), (later, None)):
                for begun in begin_runs(some, context, sent.execution, put_off):
                    yield from sent.out(begun) if isinstance(begun, Job) else [begun]
                    # While this process waits for another one, no result must wait for it.
                    while sent.full() or (put_off is None and sent.busy()):
                        yield from sent.collect()
                while sent.busy():
                    yield from sent.collect()
        except WorkersError as error:
            yield error
        finally:
            sent.close()


@dataclass(eq=False)
class _SentRun:
    """A run whose images are with workers.

    Attributes:
        parcel: what workers know of it.
        rank: how many runs began before it; workers take the images of those first.
        tensors: the values of its weights, which workers keep.
        shards: those that have not come back for good.
        error: why it broke, or empty.
        origins: the provenance of the workers.
    """

    work: Job
    parcel: Shard
    rank: int
    tensors: Future[Any] | None = None
    shards: int = 0
    error: str = ""
    origins: list[Mapping[str, Any]] = field(default_factory=list)

    def take(self, handed: ShardResult) -> None:
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
        context: where runs are carried out.
        plugins: files that the workers load.
        images: how many there are in all runs.
    """

    def __init__(
        self, cluster: Cluster, context: RunContext, plugins: tuple[Path, ...], images: int
    ) -> None:
        self._cluster, self._context, self._plugins = cluster, context, plugins
        self._left, self._begun = images, 0
        self._jobs: list[_SentRun] = []
        self._away: dict[Future[Any], tuple[_SentRun, Sequence[SetImage]]] = {}
        self._suspects: list[tuple[_SentRun, Sequence[SetImage]]] = []
        self._tried: Future[Any] | None = None

    def execution(self) -> Execution:
        """How runs are carried out here, as the first worker says."""
        facts, _ = self._cluster.first_worker
        return Execution(facts["device"], facts["threads"], "dask")

    def out(self, work: Job) -> Iterator[RunRecord | HarnessError]:
        """Send a run's images out; a run without any ends at once."""
        job = _SentRun(work, self._parcel(work.run), self._begun)
        self._jobs.append(job)
        job.tensors = self._tensors(work.run)
        size = math.ceil(self._left / (SHARDS_A_WORKER * self._cluster.count()))
        size = max(1, min(size, LARGEST_SHARD))
        shards = [work.todo[start : start + size] for start in range(0, len(work.todo), size)]
        job.shards = len(shards)
        for shard in shards:
            self._submit(job, shard)
        self._begun += 1
        self._left -= len(work.run.image_set.images)
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
        from harness.global_state import interrupts_held

        if not self._away:
            job, images = self._suspects.pop()
            if job.error:
                yield from self._back(job)
                return
            self._tried = self._submit(job, images)
        # Ctrl-C may come while dask is in a finaliser, where an exception would be lost.
        with interrupts_held(self._context.listener.waiting):
            back = self._arrival()
        if back is None:
            return
        job, rest = back
        if rest and not job.error:
            self._submit(job, rest)
        else:
            yield from self._back(job)

    def _arrival(self) -> tuple[_SentRun, Sequence[SetImage]] | None:
        """Keep what comes back next: its run, and which images of the shard are still to be done.

        None where the shard was with dead workers, and is to be tried again.
        """
        future = self._cluster.next()
        job, images = self._away.pop(future)
        try:
            handed: ShardResult = self._cluster.result(future)
        except KilledWorker:
            if future is not self._tried and not job.error:
                self._suspects.append((job, images))
                return None
            names = " to ".join(dict.fromkeys((images[0].name, images[-1].name)))
            said = f"Several workers died, one after the other, over {names}: is memory short?"
            handed = ShardResult((), said, self._cluster.first_worker[1])
        job.take(handed)
        known = {result.image for result, _ in handed.made}
        return job, [image for image in images if image.name not in known]

    def close(self) -> None:
        """Let other processes have the runs that did not end."""
        for job in self._jobs:
            job.work.close()

    def _submit(self, job: _SentRun, images: Sequence[SetImage]) -> Future[Any]:
        shard = [_absolute(image) for image in images]
        future = self._cluster.submit(job.rank, score_shard, job.parcel, job.tensors, shard)
        self._away[future] = job, images
        return future

    def _back(self, job: _SentRun) -> Iterator[RunRecord | HarnessError]:
        """Count a shard as done, and end its run with the last one."""
        job.shards -= 1
        if job.shards == 0:
            yield self._end(job)

    def _end(self, job: _SentRun) -> RunRecord | HarnessError:
        try:
            return job.work.end(job.error, joint(job.origins or [self._cluster.first_worker[1]]))
        except (Exception, SystemExit) as unwritten:
            return own_error(unwritten, job.work.run.title)
        finally:
            job.work.close()
            self._jobs.remove(job)

    def _parcel(self, run: Run) -> Shard:
        known = {one.name: getattr(run, one.name) for one in fields(Run)}
        card, weights = known.pop("card"), known.pop("weights")
        return Shard(
            run.identity.id,
            card.name,
            weights and replace(weights, tensors={}),
            known,
            self._plugins,
            self._context.options.device,
            self._cluster.first_worker[0],
            pictures=self._context.options.save_images is not None,
        )

    def _tensors(self, run: Run) -> Future[Any] | None:
        """The values of a run's weights, sent once for all shards that need them at a time."""
        if run.weights is None:
            return None
        key = f"weights-{run.weights.info.tensors_sha256}"
        return self._cluster.keep(key, keep_tensors, run.weights.tensors)


def _absolute(image: SetImage) -> SetImage:
    """An image whose files workers find, whatever folder they run in."""
    lr = image.lr and replace(image.lr, path=image.lr.path.absolute())
    return replace(image, path=image.path.absolute(), lr=lr)


HAND_BACK_SECONDS = 5.0
"""After so long a worker hands back what it has of a shard; a lost one loses no more than that."""

_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads still has one device."""

_networks: dict[str, Upscaler] = {}
"""The network of the last run, by the run's id."""

_sources: dict[tuple[str, ...], tuple[str | None, ...]] = {}
"""Hashes of the files of networks and metrics when they were first used here, by their names."""


@dataclass(frozen=True)
class Shard:
    """What a worker needs to know of a run; code is found by its name or path.

    Attributes:
        id: of the run's identity.
        model: the network's name.
        weights: where its values come from.
        fields: the other fields of the `Run`.
        plugins: files that are loaded first.
        device: as the user named it; ``auto`` is what the worker has.
        facts: what the worker must have in common with the others.
        pictures: SR images are wanted.
    """

    id: str
    model: str
    weights: Weights | None
    fields: Mapping[str, Any]
    plugins: tuple[Path, ...]
    device: str
    facts: Facts
    pictures: bool


@dataclass(frozen=True)
class ShardResult:
    """What a worker hands back of a shard.

    Attributes:
        made: the result of each of the first images, and its picture where one is wanted.
        error: why the worker broke off, or empty when the shard or the time was up.
        provenance: of the worker.
    """

    made: tuple[tuple[ImageResult, bytes | None], ...]
    error: str
    provenance: Mapping[str, Any]


def software() -> Facts:
    """Versions of what takes part in a number."""
    return {**packages(), "harness": source_digest()[:12]}


def differences(here: Facts, wanted: Facts) -> str:
    """What is not as wanted, such as ``torch 2.12.0, not 2.13.0``; empty if all is."""
    return "; ".join(f"{k} {here[k]}, not {wanted[k]}" for k in wanted if here[k] != wanted[k])


def keep_tensors(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values of weights, kept by a worker for other tasks."""
    return tensors


def dask_setup(worker: object) -> None:
    """Leave interruptions from the terminal, which reach every process, to the client."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def survey(device: str) -> tuple[Facts, Mapping[str, Any]]:
    """This worker's facts and provenance, as they were when it was first asked.

    Raises:
        UsageError: it has no such device.
    """
    import torch

    from harness.global_state import apply_settings
    from harness.models.network import pick_device

    apply_settings()
    facts = {"device": pick_device(device), "threads": torch.get_num_threads()}
    return {**facts, **software()}, provenance(own_device(device))


def own_device(wanted: str) -> str:
    """The device of this worker.

    Of several GPUs it takes the one that the number at the end of its name says, counted around:
    with four GPUs, workers 0 to 3 and ``node-4`` to ``node-7`` get one each.
    """
    import torch

    from harness.models.network import pick_device

    picked = pick_device(wanted)
    # A port at the end of an address, which is the name of a worker without one, says nothing.
    number = re.search(r"(?:^|[^:\d])(\d+)$", _name())
    if picked != "cuda" or not number:
        return picked
    return f"cuda:{int(number[1]) % torch.cuda.device_count()}"


def score_shard(
    parcel: Shard, tensors: Mapping[str, Any] | None, images: Sequence[SetImage]
) -> ShardResult:
    """Score images of a run, one at least, for `HAND_BACK_SECONDS` or until it breaks.

    Args:
        parcel: the run.
        tensors: the values of its weights.
        images: of its set.

    Raises:
        ClusterError: this worker would give other numbers than the others, or none.
    """
    facts, origin = survey(parcel.device)
    unlike = differences(facts, parcel.facts)
    if unlike:
        raise WorkersError(
            f"The worker {_here()} is unlike the first one ({unlike}): "
            "give all the same environment."
        )
    made: list[tuple[ImageResult, bytes | None]] = []
    error = ""
    with _ONE_AT_A_TIME:
        run = _unpack(parcel, tensors)
        _require_visible(images)
        try:
            network = _network(run, own_device(parcel.device))
            until = time.monotonic() + HAND_BACK_SECONDS
            made += compute(
                run,
                images,
                network,
                pictures=parcel.pictures,
                enough=lambda: time.monotonic() > until,
            )
        except Exception as broken:  # a plug-in may raise anything
            error = sentence(broken)
        changed = _networks[parcel.id].changed if parcel.id in _networks else set()
        origin = {**origin, **({"changed_settings": sorted(changed)} if changed else {})}
    return ShardResult(tuple(made), error, origin)


def _unpack(parcel: Shard, tensors: Mapping[str, Any] | None) -> Run:
    """The run, with the network as this worker knows it."""
    try:
        _load(parcel.plugins)
        card = MODELS.get(parcel.model)
    except HarnessError as error:
        raise WorkersError(f"The worker {_here()} lacks a plug-in: {error}") from error
    weights = parcel.weights and replace(parcel.weights, tensors=tensors or {})
    run = Run(card, weights, **parcel.fields)
    # A file that changed since it was imported is not what this process runs.
    identity = run.identity
    names = (run.card.name, str(identity.scale), canonical_json(identity.hyper), *run.metrics)
    files = (identity.source_sha256, identity.metrics_sha256)
    if identity.id != parcel.id or _sources.setdefault(names, files) != files:
        raise WorkersError(
            f"The worker {_here()} knows another {parcel.model}, or other rules: "
            "give it the files that the client has, and restart it."
        )
    return run


@cache
def _load(plugins: tuple[Path, ...]) -> None:
    load_plugins(plugins)


def _require_visible(images: Sequence[SetImage]) -> None:
    files = [image.path for image in images] + [image.lr.path for image in images if image.lr]
    for folder in {path.parent for path in files}:
        if not folder.exists():
            raise WorkersError(
                f"The worker {_here()} does not see {folder}: "
                "keep images in a folder that the client and all workers share."
            )


def _network(run: Run, device: str) -> Upscaler:
    """The run's network, kept until another run comes."""
    if run.identity.id not in _networks:
        _networks.clear()
        _networks[run.identity.id] = upscaler(run, device)
    return _networks[run.identity.id]


def _name() -> str:
    from distributed import get_worker

    return str(get_worker().name)


def _here() -> str:
    return f"{_name()} on {platform.node()}"
