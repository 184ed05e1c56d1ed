"""Memory: the most that a process or a device has held, and what a network will need."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.models.inference import copy_network, on_smallest

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
