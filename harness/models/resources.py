"""What a network takes of a machine: time, memory, and whether copies may run side by side."""

from __future__ import annotations

import copy
import ctypes
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.errors import HarnessError, sentence
from harness.models.cost import input_size
from harness.models.network import copy_network, on_smallest
from harness.models.upscaler import Upscaler

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray, ModelCard


@dataclass(frozen=True)
class Speed:
    """What one megapixel of output costs.

    Attributes:
        seconds: of the network alone, the fastest of several runs after a warm-up.
        bytes: the most memory held beyond the network and its input; None where the system does
            not tell.
    """

    seconds: float
    bytes: int | None


def measure_speed(
    card: ModelCard, scale: int, device: str, output_size: tuple[int, int], runs: int = 3
) -> Speed:
    """Run a network with random values on a random image, after one run that is not measured.

    Args:
        card: the model.
        scale: the factor.
        device: ``cpu`` or ``cuda``.
        output_size: width and height of the SR image.
        runs: timed runs.

    Raises:
        HarnessError: the network cannot be built, or fails on an image of that size.
        UsageError: the output is too small.
    """
    upscaler = Upscaler(card, scale, None, device=device)
    width, height = input_size(card, scale, output_size)
    image = np.random.default_rng(0).random((height, width, card.channels))
    try:
        upscaler(image)  # compiled kernels and threads cost memory once, whatever the size
    except HarnessError:
        raise
    except Exception as error:  # what a network raises may be anything
        raise HarnessError(
            f"{card.name} fails on {width} x {height} pixels ({sentence(error)}): choose another "
            "--time-size."
        ) from error
    before = reset_peak(device)  # also gives back what the first run left behind
    made = upscaler(image)
    peak = peak_bytes(device)
    megapixels = made.shape[0] * made.shape[1] / 1e6
    seconds = min(_seconds(upscaler, image) for _ in range(runs))
    used = None if before is None or peak is None else int((peak - before) / megapixels)
    return Speed(seconds / megapixels, used)


def _seconds(upscaler: Upscaler, image: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    begin = time.perf_counter()
    upscaler(image)  # brings the result to the CPU, and so waits for the device
    return time.perf_counter() - begin


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMORY = Path("/proc/meminfo")
_SIDES = 64, 128  # pixels of the images for which a forward pass is counted
_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def keep_freed(keep: bool = True) -> None:
    """Let this process keep the memory that it frees, for the next image; glibc only.

    By default large blocks go back to Linux at once, which then clears every page anew: a tenth
    or more of a forward pass. ``keep=False`` sets what glibc itself would settle on.
    """
    mmap, trim = (1 << 30, (1 << 31) - 1) if keep else (1 << 25, 1 << 26)
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, mmap)
        libc.mallopt(_TRIM_THRESHOLD, trim)
        if not keep:
            libc.malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library: nothing to choose
        return


def reset_peak(device: str) -> int | None:
    """Begin to watch the most memory held; returns the bytes held now, None if not known."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    gc.collect()
    try:
        # Memory that is free but still held would hide what the next run takes: give it back.
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # Linux: the peak of resident memory starts again from now
    except (OSError, AttributeError, TypeError):
        return None
    return _kilobytes(_STATUS, "VmRSS")


def peak_bytes(device: str) -> int | None:
    """The most bytes held since `reset_peak`; None if not known."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return _kilobytes(_STATUS, "VmHWM")


def free_bytes(device: str) -> int | None:
    """Bytes that can be had on a device without pushing anything out; None if not known."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    left = [_kilobytes(_MEMORY, "MemAvailable"), *_left_to_groups()]
    return min((one for one in left if one is not None), default=None)


def _left_to_groups() -> Iterator[int]:
    """Bytes that control groups (version 2) leave this process: containers and Slurm limit so."""
    try:
        lines = _GROUP.read_text().splitlines()
    except OSError:
        return
    own = next((line[4:] for line in lines if line.startswith("0::/")), "")
    for group in (_GROUPS / own, *(_GROUPS / own).parents):
        with suppress(OSError, ValueError):  # no group, or one without a limit
            limit, held = (
                int((group / f"memory.{name}").read_text()) for name in ("max", "current")
            )
            facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield max(0, limit - held + int(facts["inactive_file"]))


def forward_bytes(network: nn.Module, channels: int, name: str = "the network") -> float:
    """The most bytes a forward pass holds at once, for each pixel of its input.

    Counted without computing anything, from tensors alone: what a convolution needs for itself
    comes on top.

    Args:
        network: stays as it is.
        channels: of its input.
        name: of the network.

    Raises:
        HarnessError: it cannot be run without values, or fails on images of every size.
    """

    def most(side: int) -> float:
        bare = copy_network(network).to("meta").eval()
        first = next(bare.parameters(), None)
        dtype = first.dtype if first is not None else None
        given = torch.empty(1, channels, side, side, device="meta", dtype=dtype)
        with torch.inference_mode(), _Held() as held:
            bare(given)
        return held.most / side**2

    who = f"The memory that {name} needs cannot be counted, so choose --tile N yourself: it"
    return on_smallest(_SIDES, most, who)


class _Held(TorchDispatchMode):
    """Counts the bytes of tensors made under it that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        made = function(*given, **(named or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._alive:
            return
        self._alive.add(storage)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size


def _kilobytes(file: Path, field: str) -> int | None:
    """A line of one of Linux's tables, in bytes; None where there is none."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{field}:")), None)
    return int(found.split()[1]) * 1024 if found else None


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
    return [network, *(network.copy_for_thread() for _ in range(copies))]


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
        pair = network.copy_for_thread(), network.copy_for_thread()
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


# PyTorch's allocator of the CPU; cuBLAS and cuDNN.
_FULL = "can't allocate memory", "_STATUS_ALLOC_FAILED"


def is_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
    )
