"""Who carries runs out: this process, one after the other, or the workers of a dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError, own_error, sentence
from harness.interrupts import interrupts_held
from harness.record import Execution
from harness.run.evaluate import compute
from harness.run.underway import UnderWay, turns
from harness.run.upscaling import upscaler

if TYPE_CHECKING:
    from harness.cards import ExecutorName
    from harness.record import RunRecord
    from harness.run.evaluate import Run
    from harness.run.underway import Desk

    Ended = Generator[RunRecord | HarnessError, None, None]
    Executor = Callable[[Sequence[Run], Desk], Ended]
    """Gives the record of each run, or why there is none, as they end."""


def choose(
    name: ExecutorName, scheduler: str | None, workers: int | None, plugins: Sequence[Path]
) -> Executor:
    """The executor that the options of ``harness run`` ask for.

    Args:
        name: ``serial`` or ``dask``.
        scheduler: the address of a dask scheduler.
        workers: how many workers to start on this machine.
        plugins: files that workers must load.

    Raises:
        UsageError: the options do not fit together, or dask is not installed.
    """
    if name == "serial":
        if scheduler or workers:
            raise UsageError("--scheduler and --workers go with --executor dask.")
        return serial
    if scheduler and workers:
        raise UsageError(
            "--workers starts workers on this machine, and --scheduler uses those that are "
            "there: give one of the two."
        )
    if find_spec("distributed") is None:
        raise UsageError("--executor dask needs pip install 'drfn-harness[cluster]'.")
    from harness.run.dispatch import dispatcher

    return dispatcher(scheduler, workers, plugins)


def serial(runs: Sequence[Run], desk: Desk) -> Ended:
    """Carry runs out one after the other in this process.

    A run that breaks leaves a record with the error, and the others go on. Those that another
    process is on come last.

    Raises:
        UsageError: no such device.
    """

    def execution() -> Execution:
        import torch

        from harness.models.network import pick_device

        return Execution(pick_device(desk.options.device), torch.get_num_threads())

    later: list[Run] = []
    everything = chain(turns(runs, desk, execution, later), turns(later, desk, execution, None))
    for begun in everything:
        yield _one_by_one(begun, desk) if isinstance(begun, UnderWay) else begun


def _one_by_one(work: UnderWay, desk: Desk) -> RunRecord | HarnessError:
    from harness.run.provenance import provenance

    error, changed = "", set[str]()
    with closing(work):
        device = work.execution.device
        try:
            network = upscaler(work.run, device)
            changed = network.changed
            pictures = desk.options.save_images is not None
            with interrupts_held(desk.listener.waiting) as stop:
                made = compute(work.run, work.todo, network, pictures=pictures, enough=stop.is_set)
                for result, picture in made:
                    work.add(result, picture)
        except Exception as broken:  # a plug-in may raise anything; the other runs go on
            error = sentence(broken)
        try:
            return work.end(error, provenance(device, changed))
        except (Exception, SystemExit) as unwritten:
            return own_error(unwritten, work.run.title)
