"""The device of a network: which one, its time and memory, and whether copies run side by side."""

from __future__ import annotations

import copy
import ctypes
import gc
import threading
import timeit
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from harness.errors import HarnessError, UsageError, sentence
from harness.models.cost import input_size
from harness.models.network import EachOperation, copy_network, on_smallest
from harness.models.upscaler import Upscaler

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray, ModelCard

Value = TypeVar("Value")


def pick_device(name: str) -> str:
    """Resolve ``auto``, and check that the device exists.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # item() also fails on devices without values (meta)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device {name!r} here: use cpu, cuda or auto.") from error
    return name


@dataclass(frozen=True)
class Speed:
    """Time and memory for one megapixel of output.

    Attributes:
        seconds: the time of the network alone, the fastest of several runs after a warm-up.
        bytes: the peak memory beyond the network and its input; None if the system does not report
            it.
    """

    seconds: float
    bytes: int | None


def measure_speed(
    card: ModelCard, scale: int, device: str, output_size: tuple[int, int], runs: int = 3
) -> Speed:
    """Time a network with random weights on a random image, after a warm-up run.

    ``output_size`` is width and height of the SR image.

    Raises:
        HarnessError: the network cannot be built, or fails on an image of that size.
        UsageError: the output is too small.
    """
    upscaler = Upscaler(card, scale, None, device=device)
    width, height = input_size(card, scale, output_size)
    image = np.random.default_rng(0).random((height, width, card.channels))
    try:
        upscaler(image)  # compiled kernels and threads take memory once, whatever the size
    except HarnessError:
        raise
    except Exception as error:  # a network may raise any error
        raise HarnessError(
            f"{card.name} fails on {width} x {height} pixels ({sentence(error)}): choose another "
            "--time-size."
        ) from error
    output, used = with_peak(device, lambda: upscaler(image))
    megapixels = output.shape[0] * output.shape[1] / 1e6
    # Each run copies its result to the CPU, and so waits for the device.
    seconds = min(timeit.repeat(lambda: upscaler(image), number=1, repeat=runs))
    return Speed(seconds / megapixels, None if used is None else int(used / megapixels))


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMORY = Path("/proc/meminfo")
_SIDES = 64, 128  # sides in pixels of the images for which the memory of a forward pass is counted
_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def keep_freed(keep: bool = True) -> None:
    """Let this process keep freed memory for the next image; glibc only.

    By default glibc returns large blocks to Linux at once, and Linux clears each page before it is
    used again: a tenth or more of a forward pass. ``keep=False`` sets the values that glibc itself
    would adapt to.
    """
    mmap, trim = (1 << 30, (1 << 31) - 1) if keep else (1 << 25, 1 << 26)
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, mmap)
        libc.mallopt(_TRIM_THRESHOLD, trim)
        if not keep:
            libc.malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library: nothing to set
        return


def with_peak(device: str, work: Callable[[], Value]) -> tuple[Value, int | None]:
    """Do some work; return its result, and the peak of its memory in bytes or None if unknown.

    The peak is that of the process or the GPU, beyond what was held before.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        result = work()
        return result, torch.cuda.max_memory_allocated(device) - held
    gc.collect()
    try:
        # Freed memory that the process still holds would hide what the work needs.
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")  # Linux: reset the peak of resident memory
    except (OSError, AttributeError, TypeError):
        return work(), None
    held = _bytes(_STATUS, "VmRSS")
    result = work()
    return result, _bytes(_STATUS, "VmHWM") - held


def free_bytes(device: str) -> int | None:
    """Return the bytes that can be allocated on a device without swapping; None if unknown."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    limits = list(_free_in_groups())
    with suppress(OSError, KeyError):  # another system, or a Linux before 3.14
        limits.append(_bytes(_MEMORY, "MemAvailable"))
    return min(limits, default=None)


def _free_in_groups() -> Iterator[int]:
    """Yield the free bytes in each control group (version 2); containers and Slurm use these."""
    try:
        lines = _GROUP.read_text().splitlines()
    except OSError:
        return
    own = next((line[4:] for line in lines if line.startswith("0::/")), "")
    for group in (_GROUPS / own, *(_GROUPS / own).parents):
        with suppress(OSError, ValueError):  # no group, or one without a limit
            limit, used = (
                int((group / f"memory.{name}").read_text()) for name in ("max", "current")
            )
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield max(0, limit - used + int(stat["inactive_file"]))


def forward_bytes(network: nn.Module, channels: int, name: str = "the network") -> float:
    """Count the peak of the bytes in a forward pass, for each pixel of its input.

    Only the sizes of tensors are counted, on the meta device; the workspace of convolutions comes
    on top. The network is not changed; messages call it by the name.

    Raises:
        HarnessError: the network cannot be run on the meta device, or fails on images of every
            size.
    """

    def peak(side: int) -> float:
        on_meta = copy_network(network).to("meta").eval()
        first = next(on_meta.parameters(), None)
        dtype = first.dtype if first is not None else None
        image = torch.empty(1, channels, side, side, device="meta", dtype=dtype)
        memory = _PeakMemory()
        with torch.inference_mode(), EachOperation(memory.add):
            on_meta(image)
        return memory.peak / side**2

    who = f"The memory that {name} needs cannot be counted, so choose --tile N yourself: it"
    return on_smallest(_SIDES, peak, who)


class _PeakMemory:
    """The bytes of live tensors that operations returned, and their peak."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, _operation: Any, _args: Any, _kwargs: Any, result: Any) -> None:
        tensors = (leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        for storage in (tensor.untyped_storage() for tensor in tensors):
            if storage not in self._alive:
                self._alive.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size: int) -> None:
        self.now -= size


def _bytes(file: Path, field: str) -> int:
    """Read a field of a file in /proc, in bytes.

    Raises:
        OSError, KeyError: there is no such file or field.
    """
    fields = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


_TEST_SIDES = 16, 64, 128
"""Sides in LR pixels of the test images; larger ones are used if smaller ones fail."""

_TOLERANCE = 1e-5
"""How much values in [0, 1] may differ from one call of a kernel to the next."""

_PATIENCE = 10.0
"""Seconds to wait for the turn of a network, which may be waiting for something else."""

KEEPS_STATE = "an image gives other values after another image"


def instances(network: Upscaler, count: int) -> list[Upscaler]:
    """Return a network, as it was built, and copies of it for other threads.

    There are no copies if they would interfere.

    Raises:
        HarnessError: the output of the network depends on the images before.
    """
    if network.disturbance is None:
        network.disturbance = disturbance(network)
    if network.disturbance == KEEPS_STATE:
        raise HarnessError(
            f"{network.card.name} keeps state from image to image ({KEEPS_STATE}), so its scores "
            "would depend on the order of the images: fix the plug-in."
        )
    copies = 0 if network.disturbance else count - 1
    return [network, *(network.copy_for_thread() for _ in range(copies))]


def disturbance(network: Upscaler) -> str:
    """Say why copies of a network must not run at the same time; empty if they may.

    Two copies work on two images in turns: each waits for the other after every torch operation,
    so that one of them overwrites shared state before the other reads it.
    """
    plain = copy.copy(network)
    plain.tile, plain.self_ensemble = None, False
    try:
        return on_smallest(_TEST_SIDES, lambda side: _disturbance(plain, side), "it")
    except HarnessError as error:
        return f"it cannot be tested because {str(error).removesuffix('.')}"


def _disturbance(network: Upscaler, side: int) -> str:
    """Test a network on images of two sizes; copies run first, while its state is still fresh."""
    used = fresh = network
    uncopied = ""
    try:
        used, fresh = network.copy_for_thread(), network.copy_for_thread()
    except Exception as error:  # plug-in modules may hold anything, such as a lock
        uncopied = f"it cannot be copied ({sentence(error)})"
    a, b, c = _images(network, side)
    of_a, of_b, _, again = (used(image) for image in (a, b, c, a))
    if _differ(of_a, again) or _differ(of_b, fresh(b)):
        return KEEPS_STATE
    if uncopied:
        return uncopied
    if _differ(of_a, network(a)):
        return "a copy of it gives other values"
    for images, expected in (((a, b), (of_a, of_b)), ((b, a), (of_b, of_a))):
        if any(map(_differ, expected, _in_turns((used, fresh), images))):
            return "it gives other values while a copy runs beside it"
    if network.changed:
        return f"it sets torch's {' and '.join(sorted(network.changed))}"
    return ""


def _images(network: Upscaler, side: int) -> list[FloatArray]:
    """Make two square images of the same size, and a wider one."""
    rng = np.random.default_rng(0)
    side *= network.scale // network.factor  # 1 if the network takes the LR image
    return [
        rng.uniform(low, low + 0.5, (side, width, network.card.channels))
        for low, width in ((0, side), (0.5, side), (0.25, side * 3 // 2))
    ]


def difference(a: AnyArray, b: AnyArray) -> float:
    """The largest difference between two values at the same place."""
    return float(np.abs(a - b).max())


def _differ(a: AnyArray, b: AnyArray) -> bool:
    return difference(a, b) > _TOLERANCE


def _in_turns(networks: Sequence[Upscaler], images: Sequence[FloatArray]) -> list[AnyArray]:
    """Run networks in parallel threads that alternate after every operation."""
    queue, changed = list(range(len(networks))), threading.Condition()

    def wait(index: int) -> None:
        if not changed.wait_for(lambda: queue[0] == index, _PATIENCE):
            raise TimeoutError("its copies wait for each other")

    def work(index: int) -> AnyArray:
        def give_way(*_: object) -> None:
            with changed:
                queue.remove(index)
                queue.append(index)
                changed.notify_all()
                wait(index)

        try:
            with changed:
                wait(index)
            with EachOperation(give_way):
                return networks[index](images[index])
        finally:
            with changed:
                queue.remove(index)
                changed.notify_all()

    with ThreadPoolExecutor(len(networks)) as pool:
        return list(pool.map(work, range(len(networks))))


# Messages of PyTorch's CPU allocator, and of cuBLAS and cuDNN.
_OUT_OF_MEMORY = "can't allocate memory", "_STATUS_ALLOC_FAILED"


def is_memory(error: BaseException) -> bool:
    """Whether an error means that a GPU or the machine is out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )
