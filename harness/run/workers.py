"""Runs on the workers of a dask cluster (extra ``cluster``)."""

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
    """Software, device and threads: all workers need the same ones to get the same numbers."""


CONNECT_SECONDS = 10.0
"""Time limit for the scheduler to answer."""

_CONFIGURATION = {
    # Dask would warn about large weights.
    "distributed.admin.large-graph-warning-threshold": "1 TiB",
    # Dask would set these variables to one thread in this process, and never restore them.
    "distributed.nanny.pre-spawn-environ": {},
}


class Cluster:
    """A connection to the workers of a scheduler, opened at the first use.

    Use it in a ``with`` statement. All methods raise `WorkersError` when the scheduler is gone.

    Args:
        scheduler: the address of the scheduler; None to start workers on this machine.
        workers: the number of workers to start; by default one per GPU, or per four cores.
        device: the device option of the user; each worker picks its own device.
        listener: notified while no worker is connected yet.
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
        """Disconnect from the scheduler, and end the workers that were started here."""
        self._stack.close()

    @cached_property
    def first_worker(self) -> tuple[Facts, Mapping[str, Any]]:
        """Facts and provenance of the worker that answers first.

        Raises:
            WorkersError: its software differs from that of this process.
            UsageError: it does not have the device.
        """
        with self._reached() as client:
            future = client.submit(survey, self._device, pure=False)
            if not client.nthreads():
                self._listener.notify("No worker is connected yet: waiting")
            facts, origin = future.result()
        difference = differences(facts, software())
        if difference:
            raise WorkersError(
                f"A worker differs from this process ({difference}): "
                "give both the same environment."
            )
        return facts, origin

    def count(self) -> int:
        """The number of workers that are connected now, at least 1."""
        with self._reached() as client:
            return max(1, len(client.nthreads()))

    def keep(self, key: str, function: Callable[..., Any], value: Any) -> Future[Any]:
        """Call a function with a value on a worker, and keep the result there for other tasks."""
        with self._reached() as client:
            return client.submit(function, value, key=key)

    def submit(self, rank: int, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call a function on a worker; calls of a lower rank go first."""
        with self._reached() as client:
            future = client.submit(function, *args, pure=False, priority=-rank)
            self._arrivals.add(future)
            return future

    def next(self) -> Future[Any]:
        """Wait until a call ends, and return its future."""
        return next(self._arrivals)

    def result(self, future: Future[Any]) -> Any:
        """The result of a call.

        Raises:
            KilledWorker: several workers died during the call.
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
            except Exception as error:  # bad dask settings may raise anything
                raise WorkersError(f"Workers cannot be started ({sentence(error)}).") from error
        return self._stack.enter_context(_connected(self._scheduler))

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
        if kind != "Scheduler":
            raise WorkersError(f"{address} is a dask {kind.lower()}: name its scheduler.")
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except WorkersError:
        raise
    except OSError as error:
        raise WorkersError(
            f"No dask scheduler answers at {address}: start one, or correct the address."
        ) from error
    except Exception as error:  # another kind of server may raise anything
        raise WorkersError(
            f"The server at {address} is not a usable dask scheduler ({sentence(error)}): correct "
            "the address."
        ) from error


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
    """Hide the log of dask; the harness reports errors in one sentence."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


LARGEST_SHARD = 25
"""Largest number of images in a shard."""

SHARDS_A_WORKER = 4
"""Shards get smaller towards the end, so that about this many are left per worker."""

AHEAD = 2
"""Shards in progress or waiting per worker; the next run begins only below this number."""


def dispatcher(scheduler: str | None, workers: int | None, plugins: Sequence[Path]) -> Executor:
    """Make an executor for the workers of a scheduler, or for workers on this machine.

    Args:
        scheduler: the address of the scheduler; None to start workers on this machine.
        workers: the number of workers to start; None for one per GPU, or per four cores.
        plugins: plug-in files that the workers load.
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
        images = sum(len(run.image_set.images) for run in runs)
        dispatch = Dispatch(cluster, context, plugins, images)
        busy: list[Run] = []
        try:
            for batch, postponed in ((runs, busy), (busy, None)):
                for begun in begin_runs(batch, context, dispatch.execution, postponed):
                    yield from dispatch.send(begun) if isinstance(begun, Job) else [begun]
                    # The next run may have to wait for another process: collect all results first.
                    while dispatch.full() or (postponed is None and dispatch.busy()):
                        yield from dispatch.collect()
                while dispatch.busy():
                    yield from dispatch.collect()
        except WorkersError as error:
            yield error
        finally:
            dispatch.close()


@dataclass(eq=False)
class _SentRun:
    """A run whose images were sent to workers.

    Attributes:
        job: the run in this process.
        spec: the description of the run that is sent to workers.
        rank: the number of runs that began before it; workers take the images of those first.
        tensors: the values of its weights, which workers keep.
        shards: the number of unfinished shards.
        error: why it failed, or empty.
        origins: the provenance of the workers.
    """

    job: Job
    spec: Shard
    rank: int
    tensors: Future[Any] | None = None
    shards: int = 0
    error: str = ""
    origins: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, returned: ShardResult) -> None:
        """Record the results that a worker returned."""
        self.origins.append(returned.provenance)
        try:
            for result, picture in returned.results:
                self.job.add(result, picture)
        except (HarnessError, OSError) as failure:
            self.error = self.error or sentence(failure)
        self.error = self.error or returned.error


class Dispatch:
    """Sends runs to the workers of a cluster in shards, and collects their results.

    Args:
        cluster: the workers.
        context: the store, the listener and the options.
        plugins: plug-in files that the workers load.
        images: the number of images in all runs.
    """

    def __init__(
        self, cluster: Cluster, context: RunContext, plugins: tuple[Path, ...], images: int
    ) -> None:
        self._cluster, self._context, self._plugins = cluster, context, plugins
        self._left, self._begun = images, 0
        self._sent: list[_SentRun] = []
        self._pending: dict[Future[Any], tuple[_SentRun, Sequence[SetImage]]] = {}
        self._suspects: list[tuple[_SentRun, Sequence[SetImage]]] = []
        self._retried: Future[Any] | None = None

    def execution(self) -> Execution:
        """The device and threads of the first worker."""
        facts, _ = self._cluster.first_worker
        return Execution(facts["device"], facts["threads"], "dask")

    def send(self, job: Job) -> Iterator[RunRecord | HarnessError]:
        """Send the images of a run to workers; a run without images to compute ends at once."""
        sent = _SentRun(job, self._spec(job.run), self._begun)
        self._sent.append(sent)
        sent.tensors = self._tensors(job.run)
        size = math.ceil(self._left / (SHARDS_A_WORKER * self._cluster.count()))
        size = max(1, min(size, LARGEST_SHARD))
        shards = [job.todo[start : start + size] for start in range(0, len(job.todo), size)]
        sent.shards = len(shards)
        for shard in shards:
            self._submit(sent, shard)
        self._begun += 1
        self._left -= len(job.run.image_set.images)
        if not shards:
            yield self._end(sent)

    def busy(self) -> bool:
        """Whether any run that began has not ended."""
        return bool(self._sent)

    def full(self) -> bool:
        """Whether the workers have enough to do."""
        return bool(self._pending) and len(self._pending) >= AHEAD * self._cluster.count()

    def collect(self) -> Iterator[RunRecord | HarnessError]:
        """Wait for the next shard, and record its results; yields the record of a run that ends.

        A worker that dies takes its waiting shards along. A shard that was lost with several
        workers is tried again alone at the end, to see whether it is the one that kills them.
        """
        from harness.global_state import interrupts_held

        if not self._pending:
            sent, images = self._suspects.pop()
            if sent.error:
                yield from self._finish_shard(sent)
                return
            self._retried = self._submit(sent, images)
        # During Ctrl-C dask may be in a finaliser, where an exception would be lost.
        with interrupts_held(self._context.listener.notify):
            arrival = self._arrival()
        if arrival is None:
            return
        sent, rest = arrival
        if rest and not sent.error:
            self._submit(sent, rest)
        else:
            yield from self._finish_shard(sent)

    def _arrival(self) -> tuple[_SentRun, Sequence[SetImage]] | None:
        """Record the results of the next shard; return its run and the images still to compute.

        Returns None if the workers of the shard died and it must be tried again.
        """
        future = self._cluster.next()
        sent, images = self._pending.pop(future)
        try:
            returned: ShardResult = self._cluster.result(future)
        except KilledWorker:
            if future is not self._retried and not sent.error:
                self._suspects.append((sent, images))
                return None
            names = " to ".join(dict.fromkeys((images[0].name, images[-1].name)))
            message = f"Several workers died, one after the other, over {names}: is memory short?"
            returned = ShardResult((), message, self._cluster.first_worker[1])
        sent.add(returned)
        computed = {result.image for result, _ in returned.results}
        return sent, [image for image in images if image.name not in computed]

    def close(self) -> None:
        """Release the locks of the runs that did not end."""
        for sent in self._sent:
            sent.job.close()

    def _submit(self, sent: _SentRun, images: Sequence[SetImage]) -> Future[Any]:
        shard = [_absolute(image) for image in images]
        future = self._cluster.submit(sent.rank, score_shard, sent.spec, sent.tensors, shard)
        self._pending[future] = sent, images
        return future

    def _finish_shard(self, sent: _SentRun) -> Iterator[RunRecord | HarnessError]:
        """Count a shard as done; the last shard ends the run."""
        sent.shards -= 1
        if sent.shards == 0:
            yield self._end(sent)

    def _end(self, sent: _SentRun) -> RunRecord | HarnessError:
        try:
            return sent.job.end(sent.error, joint(sent.origins or [self._cluster.first_worker[1]]))
        except (Exception, SystemExit) as failure:
            return own_error(failure, sent.job.run.title)
        finally:
            sent.job.close()
            self._sent.remove(sent)

    def _spec(self, run: Run) -> Shard:
        values = {field.name: getattr(run, field.name) for field in fields(Run)}
        card, weights = values.pop("card"), values.pop("weights")
        return Shard(
            run.identity.id,
            card.name,
            weights and replace(weights, tensors={}),
            values,
            self._plugins,
            self._context.options.device,
            self._cluster.first_worker[0],
            pictures=self._context.options.save_images is not None,
        )

    def _tensors(self, run: Run) -> Future[Any] | None:
        """Send the values of a run's weights once; its shards share them."""
        if run.weights is None:
            return None
        key = f"weights-{run.weights.info.tensors_sha256}"
        return self._cluster.keep(key, keep_tensors, run.weights.tensors)


def _absolute(image: SetImage) -> SetImage:
    """An image with absolute paths, which do not depend on the folder a worker runs in."""
    lr = image.lr and replace(image.lr, path=image.lr.path.absolute())
    return replace(image, path=image.path.absolute(), lr=lr)


RETURN_SECONDS = 5.0
"""A worker returns its results at least this often, so that its death loses no more."""

_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads has only one device."""

_networks: dict[str, Upscaler] = {}
"""The network of the last run, by run id."""

_sources: dict[tuple[str, ...], tuple[str | None, ...]] = {}
"""Hashes of the files of networks and metrics at their first use here, by their names."""


@dataclass(frozen=True)
class Shard:
    """The description of a run for a worker, which finds code by its name or path.

    Attributes:
        id: the id of the run's identity.
        model: the name of the network.
        weights: the weights without their values.
        fields: the other fields of the `Run`.
        plugins: plug-in files to load first.
        device: the device option of the user; each worker picks its own device for ``auto``.
        facts: the software, device and threads that every worker must have.
        pictures: whether to return SR images.
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
    """What a worker returns for a shard.

    Attributes:
        results: the result of each finished image, and its picture if it is to be saved.
        error: why the worker failed, or empty if the shard or the time ended.
        provenance: the provenance of the worker.
    """

    results: tuple[tuple[ImageResult, bytes | None], ...]
    error: str
    provenance: Mapping[str, Any]


def software() -> Facts:
    """Versions of the software that can change a score."""
    return {**packages(), "harness": source_digest()[:12]}


def differences(here: Facts, wanted: Facts) -> str:
    """Describe the differences, such as ``torch 2.12.0, not 2.13.0``; empty if there are none."""
    return "; ".join(f"{k} {here[k]}, not {wanted[k]}" for k in wanted if here[k] != wanted[k])


def keep_tensors(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of weights: a task whose result a worker keeps for other tasks."""
    return tensors


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
    return {**facts, **software()}, provenance(own_device(device))


def own_device(device: str) -> str:
    """The device of this worker.

    The number at the end of the worker's name picks one of several GPUs, modulo their count:
    with four GPUs, workers 0 to 3 and ``node-4`` to ``node-7`` get one each.
    """
    import torch

    from harness.models.resources import pick_device

    picked = pick_device(device)
    # The name of an unnamed worker is its address, which ends with a port: ignore that number.
    number = re.search(r"(?:^|[^:\d])(\d+)$", _name())
    if picked != "cuda" or not number:
        return picked
    return f"cuda:{int(number[1]) % torch.cuda.device_count()}"


def score_shard(
    spec: Shard, tensors: Mapping[str, Any] | None, images: Sequence[SetImage]
) -> ShardResult:
    """Score at least one image of a run, for `RETURN_SECONDS` or until an error.

    Args:
        spec: the run.
        tensors: the values of its weights.
        images: images of its set.

    Raises:
        WorkersError: this worker differs from the others, or cannot score the run.
    """
    facts, origin = survey(spec.device)
    difference = differences(facts, spec.facts)
    if difference:
        raise WorkersError(
            f"The worker {_this_worker()} differs from the first one ({difference}): "
            "give all workers the same environment."
        )
    results: list[tuple[ImageResult, bytes | None]] = []
    error = ""
    with _ONE_AT_A_TIME:
        run = _unpack(spec, tensors)
        _require_visible(images)
        try:
            network = _network(run, own_device(spec.device))
            end = time.monotonic() + RETURN_SECONDS
            results += compute(
                run,
                images,
                network,
                pictures=spec.pictures,
                stop=lambda: time.monotonic() > end,
            )
        except Exception as failure:  # a plug-in may raise anything
            error = sentence(failure)
        changed = _networks[spec.id].changed if spec.id in _networks else set()
        origin = {**origin, **({"changed_settings": sorted(changed)} if changed else {})}
    return ShardResult(tuple(results), error, origin)


def _unpack(spec: Shard, tensors: Mapping[str, Any] | None) -> Run:
    """Rebuild the run, and check that this worker has the same files as the client."""
    try:
        _load(spec.plugins)
        card = MODELS.get(spec.model)
    except HarnessError as error:
        raise WorkersError(f"The worker {_this_worker()} lacks a plug-in: {error}") from error
    weights = spec.weights and replace(spec.weights, tensors=tensors or {})
    run = Run(card, weights, **spec.fields)
    # If a file changed after its import, this process still runs the old code.
    identity = run.identity
    names = (run.card.name, str(identity.scale), canonical_json(identity.hyper), *run.metrics)
    files = (identity.source_sha256, identity.metrics_sha256)
    if identity.id != spec.id or _sources.setdefault(names, files) != files:
        raise WorkersError(
            f"The worker {_this_worker()} has another version of {spec.model} or of the rules: "
            "give it the same files as the client, and restart it."
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
                f"The worker {_this_worker()} does not see {folder}: "
                "keep images in a folder that the client and all workers share."
            )


def _network(run: Run, device: str) -> Upscaler:
    """The run's network, kept until the next run."""
    if run.identity.id not in _networks:
        _networks.clear()
        _networks[run.identity.id] = upscaler(run, device)
    return _networks[run.identity.id]


def _name() -> str:
    from distributed import get_worker

    return str(get_worker().name)


def _this_worker() -> str:
    return f"{_name()} on {platform.node()}"
