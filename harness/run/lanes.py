"""Images side by side: each on a thread of its own, from the file to its scores."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

READY = 2
"""Items handed to the pool for each lane: one at work, and one that lies ready."""


def side_by_side(
    work: Callable[[Item], Made], items: Iterable[Item], lanes: int, threads: int
) -> Generator[Made, None, None]:
    """Call a function on items, several at once.

    After an error no item is begun any more; those under way are finished and given first.

    Args:
        work: what is done with each; releases Python's lock where time goes.
        items: taken in their order.
        lanes: how many at once.
        threads: of PyTorch, for each lane.

    Yields:
        what the calls give, as they end.

    Raises:
        Exception: the first that a call raised.
    """
    before, waiting = torch.get_num_threads(), iter(items)
    broken: BaseException | None = None
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        pending = {pool.submit(work, item) for item in islice(waiting, READY * lanes)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                if future.exception() is None:
                    yield future.result()
            broken = broken or next(filter(None, (one.exception() for one in done)), None)
            if broken:
                pending = {one for one in pending if not one.cancel()}
            else:
                pending |= {pool.submit(work, item) for item in islice(waiting, len(done))}
        if broken:
            raise broken
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
