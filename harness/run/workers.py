"""Runs on the workers of a dask cluster (extra ``cluster``)."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, Security, as_completed, rpc
from distributed.client import ClosedClientError
from distributed.comm.addressing import get_address_host

from harness.errors import HarnessError, UsageError, sentence
from harness.record import Execution, canonical_json, digest
from harness.registry import MODELS, load_plugins
from harness.run.evaluate import compute, images_at_once, largest_first, upscaler
from harness.run.job import Job, Serial, begin_runs
from harness.run.provenance import joint, packages, provenance, source_digest
from harness.run.spec import Run, WorkersError

if TYPE_CHECKING:
    from distributed import Future, Worker

    from harness.cards import ModelCard
    from harness.data.identify import SetImage
    from harness.models.upscaler import Upscaler
    from harness.models.weights import Weights
    from harness.record import ImageResult, RunRecord
    from harness.run.spec import Outcomes, RunContext

    Facts = Mapping[str, Any]
    """Software, device and threads: all workers need the same ones to get the same numbers."""


CONNECT_SECONDS = 10.0
"""Time limit for the scheduler to answer."""

AHEAD = 4
"""The next run begins only when fewer shards than this are left for each worker."""

_CONFIGURATION = {
    # Dask would warn about large weights.
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
    # Dask would set these variables to one thread in this process, and never restore them.
    "distributed.nanny.pre-spawn-environ": {},
}


@dataclass(eq=False)
class _SentRun:
    """A run whose images were sent to workers.

    Attributes:
        job: the run in this process.
        kept: its description and its weights, which workers keep.
        origins: the different provenances of the workers.
    """

    job: Job
    kept: tuple[Future[Parcel] | Parcel, Future[Weights] | Weights | None]
    origins: list[Mapping[str, Any]] = field(default_factory=list)


class _Shard(NamedTuple):
    """Images of a run that one worker computes at once; ``alone``: while no other shard is out."""

    sent: _SentRun
    images: Sequence[SetImage]
    alone: bool = False


class Workers(ExitStack):
    """An executor that uses the workers of a scheduler, connected at the first use.

    As a context manager it disconnects from the scheduler, and ends workers that it started.

    Args:
        context: what all runs share; each worker picks its own device.
        scheduler: the address of the scheduler; None to start workers on this machine.
        workers: the number of workers to start; None for one per GPU, or per four cores.
        plugins: plug-in files that the workers load.
    """

    def __init__(
        self,
        context: RunContext,
        scheduler: str | None,
        workers: int | None,
        plugins: Sequence[Path],
    ) -> None:
        super().__init__()
        self._context, self._scheduler, self._workers = context, scheduler, workers
        self._plugins = tuple(path.resolve() for path in plugins)
        self._sent: list[_SentRun] = []
        self._pending: dict[Future[ShardResult], _Shard] = {}
        self._suspects: list[_Shard] = []

    def execution(self) -> Execution:
        """The device and threads of the first worker."""
        facts, _ = self._first_worker
        return Execution(facts["device"], facts["threads"], "dask")

    def free_bytes(self) -> int | None:
        """The least free memory of a worker; workers on the CPU of one host share it."""
        on_cpu = self.execution().device == "cpu"
        with self._reached() as client:
            free = client.run(free_here, self._context.device)
        on_host = Counter(map(get_address_host, free))
        known = (
            size // (on_host[get_address_host(address)] if on_cpu else 1)
            for address, size in free.items()
            if size is not None
        )
        return min(known, default=None)

    def carry_out(self, runs: Sequence[Run]) -> Outcomes:
        """Carry out runs, see `Executor`; ends with the error if the workers cannot be used."""
        try:
            # Workers may lack the files of published images, and scoring them is little work.
            yield from Serial(self._context).carry_out([run for run in runs if run.published])
            networks = [run for run in runs if not run.published]
            for begun in begin_runs(networks, self._context, self.execution):
                if isinstance(begun, Job):
                    yield from self._send(begun)
                    with self._reached() as client:
                        workers = max(1, len(client.nthreads()))
                    yield from self._collect(AHEAD * workers)
                elif begun:
                    yield begun
                else:  # the next run has to wait for another process
                    yield from self._collect(1)
            yield from self._collect(1)
        except WorkersError as error:
            yield error
        finally:
            for sent in self._sent:
                sent.job.close()

    @cached_property
    def _first_worker(self) -> tuple[Facts, Mapping[str, Any]]:
        """Facts and provenance of the worker that answers first.

        Raises:
            WorkersError: its software differs from that of this process.
            UsageError: it does not have the device.
        """
        with self._reached() as client:
            future = client.submit(survey, self._context.device, pure=False)
            if not client.nthreads():
                self._context.listener.notify("No worker is connected yet: waiting")
            facts, origin = future.result()
        difference = differences(facts, software())
        if difference:
            raise WorkersError(
                f"A worker differs from this process ({difference}): "
                "give both the same environment."
            )
        return facts, origin

    @cached_property
    def _client(self) -> Client:
        for name in tuple(logging.root.manager.loggerDict):
            if name.split(".")[0] == "distributed":  # errors are reported in one sentence
                logging.getLogger(name).setLevel(logging.CRITICAL)
        self.enter_context(dask.config.set(_CONFIGURATION))
        if self._scheduler is None:
            try:
                cluster = self.enter_context(_local_cluster(self._workers))
                return self.enter_context(Client(cluster, set_as_default=False))
            except Exception as error:  # bad dask settings may raise anything
                raise WorkersError(f"Workers cannot be started ({sentence(error)}).") from error
        return self.enter_context(_connected(self._scheduler))

    @cached_property
    def _arrivals(self) -> as_completed:
        return as_completed(loop=self._client.loop)

    @contextmanager
    def _reached(self) -> Iterator[Client]:
        """Turn the errors of dask in this block into `WorkersError`."""
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

    def _send(self, job: Job) -> Iterator[RunRecord | HarnessError]:
        """Send the images of a run to workers; a run without images to compute ends at once."""
        run, weights = job.run, None
        with self._reached() as client:
            if run.weights:
                # The same key for all sets: workers get the weights once.
                content = [run.card.name, run.identity.hyper, run.identity.weights_sha256]
                weights = client.submit(keep, run.weights, key=f"weights-{digest(content)}")
            parcel = client.submit(keep, self._parcel(run), pure=False)
        sent = _SentRun(job, (parcel, weights))
        self._sent.append(sent)
        # Images that a worker computes side by side have about the same size.
        images, size = largest_first(job.todo), images_at_once(run, job.execution.threads)
        shards = [images[start : start + size] for start in range(0, len(images), size)]
        for shard in shards:
            self._submit(_Shard(sent, shard))
        if not shards:
            yield self._end(sent, "")

    def _parcel(self, run: Run) -> Parcel:
        sent = [one.name for one in fields(Run) if one.name not in ("card", "weights", "published")]
        return Parcel(
            run.identity.id,
            run.card.name,
            {name: getattr(run, name) for name in sent},
            self._plugins,
            self._context.device,
            self._first_worker[0],
            pictures=self._context.save_images is not None,
            card=run.card if run.card.checkpoint else None,
        )

    def _submit(self, shard: _Shard) -> None:
        sent, images = shard.sent, [_absolute(image) for image in shard.images]
        run, kept = sent.job.run, sent.kept
        if shard.alone:  # what workers keep may count as lost with those that died
            kept = self._parcel(run), run.weights
        with self._reached() as client:
            # Workers take what was submitted first, even in quick succession.
            future = client.submit(score_shard, *kept, images, pure=False, fifo_timeout=0)
            self._arrivals.add(future)
        self._pending[future] = shard

    def _collect(self, below: int) -> Iterator[RunRecord | HarnessError]:
        """Record results until fewer shards than that are out; yield the records of ended runs.

        A worker that dies takes its waiting shards along. A shard that was lost with several
        workers is tried again alone, to see whether it is the one that kills them.
        """
        from harness.global_state import interrupts_held

        while len(self._pending) >= below or (self._suspects and not self._pending):
            if not self._pending:
                self._submit(self._suspects.pop()._replace(alone=True))
            # During Ctrl-C dask may be in a finaliser, where an exception would be lost.
            with interrupts_held(self._context.listener.notify):
                future = next(self._arrivals)
                shard = self._pending.pop(future, None)
                ended = self._record(future, shard) if shard else None
            if ended:
                yield ended

    def _record(
        self, future: Future[ShardResult], shard: _Shard
    ) -> RunRecord | HarnessError | None:
        """Record the results of a shard; return the record of the run if this ends it."""
        try:
            with self._reached():
                returned = future.result()
        except KilledWorker:
            if not shard.alone:
                self._suspects.append(shard)
                return None
            names = ", ".join(image.name for image in shard.images)
            error = f"Several workers died, one after the other, over {names}: is memory short?"
            returned = ShardResult([], error, self._first_worker[1])
        sent, error = shard.sent, returned.error
        if returned.provenance not in sent.origins:
            sent.origins.append(returned.provenance)
        try:
            for result, picture in returned.results:
                sent.job.add(result, picture)
        except (HarnessError, OSError) as failure:
            error = error or sentence(failure)
        unfinished = [*self._pending.values(), *self._suspects]
        ended = error or all(other.sent is not sent for other in unfinished)
        return self._end(sent, error) if ended else None

    def _end(self, sent: _SentRun, error: str) -> RunRecord | HarnessError:
        """Write the record of a run, and forget its other shards if it failed."""
        rest = [future for future, shard in self._pending.items() if shard.sent is sent]
        with self._reached() as client:
            client.cancel(rest)
        for future in rest:
            del self._pending[future]
        self._suspects = [shard for shard in self._suspects if shard.sent is not sent]
        self._sent.remove(sent)
        return sent.job.end(error, joint(sent.origins or [self._first_worker[1]]))


def _connected(address: str) -> Client:
    """Connect a client to a scheduler.

    Raises:
        UsageError: the address is not valid.
        WorkersError: no scheduler answers there.
    """
    try:
        get_address_host(address)
    except ValueError as error:
        raise UsageError(f"--scheduler takes tcp://host:port ({error}).") from error
    try:
        # A client would wait forever for an answer, and delay the exit of Python.
        kind = asyncio.run(_kind(address))
        if kind == "Scheduler":
            return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except OSError as error:
        raise WorkersError(
            f"No dask scheduler answers at {address}: start one, or correct the address."
        ) from error
    except Exception as error:  # another kind of server may raise anything
        raise WorkersError(
            f"The server at {address} is not a usable dask scheduler ({sentence(error)}): correct "
            "the address."
        ) from error
    raise WorkersError(f"{address} is a dask {str(kind).lower()}: name its scheduler.")


async def _kind(address: str) -> str:
    """The kind of dask server at an address: ``Scheduler``, ``Worker`` or ``Nanny``.

    Raises:
        OSError: no server answers in time.
    """
    arguments = Security().get_connection_args("client")
    async with asyncio.timeout(CONNECT_SECONDS), rpc(address, connection_args=arguments) as remote:
        return (await remote.identity())["type"]


def _local_cluster(workers: int | None) -> LocalCluster:
    """Start workers on this machine, which share its cores."""
    import torch

    number = workers or torch.cuda.device_count() or max(1, CPU_COUNT // 4)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, CPU_COUNT // number))
    return LocalCluster(
        n_workers=number,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=logging.CRITICAL,
        env=dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        preload=["harness.run.workers"],
    )


def _absolute(image: SetImage) -> SetImage:
    """An image with absolute paths, which do not depend on the folder a worker runs in."""
    lr = image.lr and replace(image.lr, path=image.lr.path.absolute())
    return replace(image, path=image.path.absolute(), lr=lr)


_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads has only one device."""

_loaded: dict[str, tuple[Run, Upscaler]] = {}
"""The last run of this worker and its network, by the id of the run."""

_sources: dict[tuple[str, ...], tuple[str | None, ...]] = {}
"""Hashes of the files of networks and metrics at their first use here, by their names."""


@dataclass(frozen=True)
class Parcel:
    """The description of a run for a worker, which finds code by its name or path.

    Attributes:
        id: the id of the run's identity.
        model: the name of the network.
        fields: the fields of the `Run` besides the network and its weights.
        plugins: plug-in files to load first.
        device: the device option of the user; each worker picks its own device for ``auto``.
        facts: the software, device and threads that every worker must have.
        pictures: whether to return SR images.
        card: the network of a checkpoint, which the worker cannot find by its name.
    """

    id: str
    model: str
    fields: Mapping[str, Any]
    plugins: tuple[Path, ...]
    device: str
    facts: Facts
    pictures: bool
    card: ModelCard | None = None


class ShardResult(NamedTuple):
    """What a worker returns: the results and pictures of images, and its error or an empty text."""

    results: list[tuple[ImageResult, bytes | None]]
    error: str
    provenance: Mapping[str, Any]


def software() -> Facts:
    """Versions of the software that can change a score."""
    return {**packages(), "harness": source_digest()[:12]}


def differences(here: Facts, wanted: Facts) -> str:
    """Describe the differences, such as ``torch 2.12.0, not 2.13.0``; empty if there are none."""
    return "; ".join(f"{k} {here[k]}, not {wanted[k]}" for k in wanted if here[k] != wanted[k])


def keep(value: Any) -> Any:
    """Return the value: a task whose result the workers keep for other tasks."""
    return value


def dask_setup(worker: object) -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal: the client handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def survey(device: str) -> tuple[Facts, Mapping[str, Any]]:
    """This worker's facts and provenance at the first call.

    Raises:
        UsageError: the worker does not have the device.
    """
    import torch

    from harness.global_state import apply_settings
    from harness.models.resources import pick_device

    apply_settings()
    facts = {"device": pick_device(device), "threads": torch.get_num_threads()}
    return {**facts, **software()}, provenance(own_device(device, _name()))


def free_here(device: str, dask_worker: Worker) -> int | None:
    """The free memory of this worker's device in bytes; None if unknown."""
    from harness.models.resources import free_bytes

    return free_bytes(own_device(device, str(dask_worker.name)))


def own_device(device: str, name: str) -> str:
    """The device of a worker.

    The number at the end of the worker's name picks one of several GPUs, modulo their count:
    with four GPUs, workers 0 to 3 and ``node-4`` to ``node-7`` get one each.
    """
    import torch

    from harness.models.resources import pick_device

    picked = pick_device(device)
    # The name of an unnamed worker is its address, which ends with a port: ignore that number.
    number = re.search(r"(?:^|[^:\d])(\d+)$", name)
    if picked != "cuda" or not number:
        return picked
    return f"cuda:{int(number[1]) % torch.cuda.device_count()}"


def score_shard(parcel: Parcel, weights: Weights | None, images: Sequence[SetImage]) -> ShardResult:
    """Score images of a run until an error.

    Raises:
        WorkersError: this worker differs from the others, or cannot score the run.
    """
    facts, origin = survey(parcel.device)
    difference = differences(facts, parcel.facts)
    if difference:
        raise WorkersError(
            f"The worker {_this_worker()} differs from the first one ({difference}): "
            "give all workers the same environment."
        )
    for folder in {file.path.parent for image in images for file in (image, image.lr) if file}:
        if not folder.exists():
            raise WorkersError(
                f"The worker {_this_worker()} does not see {folder}: "
                "keep images in a folder that the client and all workers share."
            )
    results: list[tuple[ImageResult, bytes | None]] = []
    error, network = "", None
    with _ONE_AT_A_TIME:
        try:
            if parcel.id not in _loaded:
                _loaded.clear()
                run = _unpack(parcel, weights)
                _loaded[parcel.id] = run, upscaler(run, own_device(parcel.device, _name()))
            run, network = _loaded[parcel.id]
            results += compute(run, images, network, pictures=parcel.pictures)
        except WorkersError:
            raise
        except Exception as failure:  # a plug-in may raise anything
            error = sentence(failure)
        if network and network.changed:
            origin = {**origin, "changed_settings": sorted(network.changed)}
    return ShardResult(results, error, origin)


def _unpack(parcel: Parcel, weights: Weights | None) -> Run:
    """Rebuild the run, and check that this worker has the same files as the client."""
    try:
        _load(parcel.plugins)
        card = parcel.card or MODELS.get(parcel.model)
    except HarnessError as error:
        raise WorkersError(f"The worker {_this_worker()} lacks a plug-in: {error}") from error
    run = Run(card, weights, **parcel.fields)
    # If a file changed after its import, this process still runs the old code.
    identity = run.identity
    names = (run.card.name, str(identity.scale), canonical_json(identity.hyper), *run.metrics)
    files = (identity.source_sha256, identity.metrics_sha256)
    if identity.id != parcel.id or _sources.setdefault(names, files) != files:
        raise WorkersError(
            f"The worker {_this_worker()} has another version of {parcel.model} or of the rules: "
            "give it the same files as the client, and restart it."
        )
    return run


_load = cache(load_plugins)


def _name() -> str:
    from distributed import get_worker

    return str(get_worker().name)


def _this_worker() -> str:
    return f"{_name()} on {platform.node()}"
