"""The processes of one training: who they are, which device each has, and how they wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch

from harness.errors import HarnessError, UsageError
from harness.models.inference import pick_device

# The others wait while the first one prepares images and validates.
_PATIENCE = timedelta(hours=3)


def process_device(name: str) -> str:
    """The device of this process: each of several on one machine has a GPU of its own.

    Raises:
        UsageError: it is not there.
    """
    several = "LOCAL_RANK" in os.environ and name in ("auto", "cuda") and torch.cuda.is_available()
    device = pick_device(f"cuda:{_number('LOCAL_RANK', '0')}" if several else name)
    if torch.device(device).type == "cuda" and torch.device(device).index is not None:
        torch.cuda.set_device(device)  # graphs are recorded on the current one
    return device


def process(device: str) -> tuple[int, int]:
    """Rank and number of the processes that ``torchrun`` started; 0 and 1 without it.

    Joins their group on the first call.

    Args:
        device: what they train on, which decides how they talk to each other.

    Raises:
        UsageError: ``WORLD_SIZE`` is no number.
        HarnessError: the group cannot be joined.
    """
    world = _number("WORLD_SIZE", "1")
    if world == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        backend = "nccl" if device.startswith("cuda") else "gloo"
        try:
            torch.distributed.init_process_group(backend, timeout=_PATIENCE)
        except (ValueError, RuntimeError) as error:
            raise HarnessError(
                f"The {world} processes do not find each other ({error}): start them with torchrun."
            ) from error
    return torch.distributed.get_rank(), world


@contextmanager
def one_first() -> Iterator[None]:
    """On each machine, one process is in here alone; what it leaves, the others find."""
    several, first = torch.distributed.is_initialized(), _number("LOCAL_RANK", "0") == 0
    if several and not first:
        torch.distributed.barrier()
    yield
    if several and first:
        torch.distributed.barrier()


def summed(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    total = value.clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def agreed(*values: float, device: torch.device) -> list[float]:
    """The largest of each value among all processes."""
    if not torch.distributed.is_initialized():
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return shared.tolist()


def leave_together() -> None:
    """Wait for the other processes before their group ends.

    The first process validates and saves last; one that left before it would break its links.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _number(variable: str, default: str) -> int:
    """What torchrun says in the environment."""
    text = os.environ.get(variable, default)
    if not text.isdecimal():
        raise UsageError(f"{variable} is {text!r}, no number: unset it, or leave it to torchrun.")
    return int(text)
