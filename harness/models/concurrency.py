"""Whether copies of a network may work on several images at once, or would disturb each other.

A network may keep things while it runs: in buffers, on its modules, in variables of its file. The
numbers of a run must be the same on any number of threads, so it is tried before a run begins.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import HarnessError, sentence

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray
    from harness.models.inference import Upscaler

_SIZES = ((16, 24), (64, 96), (128, 192))
"""LR pixels of the sides of the images that are tried; larger ones where smaller ones fail."""

_TOLERANCE = 1e-5
"""Of values in [0, 1]: what kernels may differ by from one call to the next."""

_PATIENCE = 10.0
"""Seconds after which a network that waits for something else than its turn is given up."""

KEEPS = "the same image gives other values after another one"


def instances(network: Upscaler, count: int) -> list[Upscaler]:
    """A network and copies of it for other threads; it alone where copies would be disturbed.

    Args:
        network: as it was built.
        count: how many threads there are.

    Raises:
        HarnessError: what the network makes of an image depends on the images before.
    """
    if network.disturbance is None:
        network.disturbance = disturbance(network)
    if network.disturbance == KEEPS:
        raise HarnessError(
            f"{network.card.name} keeps state from image to image ({KEEPS}), so that its scores "
            "would depend on the order of the images: mend the plug-in."
        )
    copies = 0 if network.disturbance else count - 1
    return [network, *(network.twin() for _ in range(copies))]


def disturbance(network: Upscaler) -> str:
    """Why copies of a network must not run at the same time; empty when they may.

    The network and a copy work on two images in turns: each waits for the other after every
    operation of torch, so that one writes what they share before the other reads it.
    """
    plain = copy.copy(network)
    plain.tile, plain.self_ensemble = None, False
    found = ""
    for small, large in _SIZES:
        try:
            return _tried(plain, small, large)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an outsider's code may raise anything, such as SystemExit
            found = f"it cannot be tried ({sentence(error)})"
    return found


def _tried(network: Upscaler, small: int, large: int) -> str:
    """Try a network on images of two sizes; copies are tried first, so that it forgets nothing."""
    try:
        pair = network.twin(), network.twin()
    except Exception as error:  # an outsider's modules may hold anything, such as a lock
        pair, why = (network, network), f"it cannot be copied ({sentence(error)})"
    else:
        why = ""
    one, fresh = pair
    a, b, c = _images(network, small, large)
    made = [one(image) for image in (a, b, c, a)]
    if _differ(made[:1], made[3:]) or _differ(made[1:2], [fresh(b)]):
        return KEEPS
    if why:
        return why
    if _differ(made[:1], [network(a)]):
        return "a copy of it gives other values"
    for images, wanted in (((a, b), made[:2]), ((b, a), made[1::-1])):
        if _differ(wanted, _in_turns(pair, images)):
            return "it gives other values while a copy runs beside it"
    if network.changed:
        return f"it sets torch's {' and '.join(sorted(network.changed))}"
    return ""


def _images(network: Upscaler, small: int, large: int) -> list[FloatArray]:
    """Two images of one size, and one of another."""
    rng = np.random.default_rng(0)
    finer = network.scale // network.factor
    shapes = [(small, small), (small, small), (small, large)]
    return [
        rng.uniform(low, low + 0.5, (height * finer, width * finer, network.card.channels))
        for low, (height, width) in zip((0, 0.5, 0.25), shapes, strict=True)
    ]


def _differ(wanted: Sequence[AnyArray], made: Sequence[AnyArray]) -> bool:
    pairs = zip(wanted, made, strict=True)
    return any(float(np.abs(one - other).max()) > _TOLERANCE for one, other in pairs)


def _in_turns(networks: Sequence[Upscaler], images: Sequence[FloatArray]) -> list[AnyArray]:
    """Run networks side by side, an operation of one after an operation of the other."""
    turns = _Turns(len(networks))

    def work(place: int) -> AnyArray:
        try:
            turns.wait(place)
            with _InTurns(turns, place):
                return networks[place](images[place])
        finally:
            turns.leave(place)

    with ThreadPoolExecutor(len(networks)) as pool:
        return list(pool.map(work, range(len(networks))))


class _Turns:
    """Which of several threads may go on."""

    def __init__(self, count: int) -> None:
        self._queue = list(range(count))
        self._moved = threading.Condition()

    def wait(self, place: int) -> None:
        """Wait for the turn of a thread.

        Raises:
            TimeoutError: it does not come.
        """
        with self._moved:
            if not self._moved.wait_for(lambda: self._queue[0] == place, _PATIENCE):
                raise TimeoutError("its copies wait for each other")

    def end(self, place: int) -> None:
        """Go behind the others."""
        with self._moved:
            self._queue.remove(place)
            self._queue.append(place)
            self._moved.notify_all()

    def leave(self, place: int) -> None:
        """Have no more turns."""
        with self._moved:
            self._queue.remove(place)
            self._moved.notify_all()


class _InTurns(TorchDispatchMode):
    """Lets another thread go on after each operation of torch."""

    def __init__(self, turns: _Turns, place: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._turns, self._place = turns, place

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, given: Any = (), named: Any = None
    ) -> Any:
        made = function(*given, **(named or {}))
        self._turns.end(self._place)
        self._turns.wait(self._place)
        return made
