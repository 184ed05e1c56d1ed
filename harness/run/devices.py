"""What training asks of a device: its kernels, and what to do when its memory is full."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Images may take this share of the free memory of a GPU; the rest is for the network.
_RESIDENT = 0.5


def place_of(images: int, device: torch.device) -> torch.device:
    """Where so many bytes of images are to lie: on the GPU if they leave room for the network."""
    if device.type == "cuda" and images > _RESIDENT * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether all values are; waits for the device once."""
    norms = torch._foreach_norm(
        [t for t in tensors if t.is_floating_point() and t.numel()], float("inf")
    )
    return bool(torch.stack([norm.float() for norm in norms]).isfinite().all())


def batch_that_fits(step: Callable[[int], object], size: int) -> int:
    """The largest of the halves of a batch for which a step finds memory; 0 if none does.

    Args:
        step: carries out a whole optimiser step with so many patches.
        size: the batch for which memory was short.
    """
    while size := size // 2:
        if _fits(step, size):
            return size
    return 0


def _fits(step: Callable[[int], object], size: int) -> bool:
    torch.cuda.empty_cache()
    try:
        step(size)
    except torch.OutOfMemoryError:
        return False
    return True
