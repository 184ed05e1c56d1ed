"""The most memory that a process or a device has held."""

from __future__ import annotations

from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: str) -> int | None:
    """Begin to watch the most memory held; returns the bytes held now, None if not known."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        _CLEAR.write_text("5")  # Linux: the peak of resident memory starts again from now
    except OSError:
        return None
    return _status("VmRSS")


def peak_bytes(device: str) -> int | None:
    """The most bytes held since `reset_peak`; None if not known."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def _status(field: str) -> int | None:
    """A line of the process's status in bytes; None where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{field}:")), None)
    return int(found.split()[1]) * 1024 if found else None
