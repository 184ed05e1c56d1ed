"""A dask cluster as runs see it (extra ``cluster``): its workers, and what is with them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import dask
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, Security, as_completed, rpc
from distributed.client import ClosedClientError
from distributed.comm.addressing import get_address_host

from harness.errors import HarnessError, UsageError, sentence
from harness.run.underway import ClusterError
from harness.run.worker import differences, software, survey

if TYPE_CHECKING:
    from distributed import Future

    from harness.run.evaluate import Listener
    from harness.run.worker import Facts

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

    Use it in a ``with`` statement. Whatever is asked of it raises `ClusterError` when the
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
            raise ClusterError(
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
                raise ClusterError(f"Workers cannot be started ({sentence(error)}).") from error
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
            raise ClusterError(
                "The dask scheduler is gone: finished images are kept, and the same command goes "
                "on from there."
            ) from error
        except Exception as error:
            raise ClusterError(f"A worker cannot do its work ({sentence(error)}).") from error


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
            raise ClusterError(f"At {address} is a dask {kind.lower()}: name its scheduler.")
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except ClusterError:
        raise
    except OSError as error:
        raise ClusterError(
            f"No dask scheduler answers at {address}: start one, or mend the address."
        ) from error
    except Exception as error:  # something else may answer anything
        raise ClusterError(
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
        preload=["harness.run.worker"],
    )


def _default_count() -> int:
    import torch

    return torch.cuda.device_count() or max(1, CPU_COUNT // 4)


def _silence() -> None:
    """Keep dask's log off the screen: what matters of it is said in one sentence."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)
