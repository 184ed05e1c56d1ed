"""The processes of one training: rank, communication, and a shared clock."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

import harness
from harness.errors import HarnessError, UsageError
from harness.models.network import copy_network, require_images
from harness.models.resources import pick_device
from harness.train.recipe import Recipe

Value = TypeVar("Value")

# The other processes wait while the first one prepares images and validates.
_TIMEOUT = timedelta(hours=3)

SYNC_SECONDS = 1.0
"""How often processes agree on the time and on interrupts."""

_MOST_GROWTH = 100
"""Largest factor by which the steps between two agreements may grow."""


def process_device(name: str) -> str:
    """The device of this process; with ``torchrun`` each process on a machine has its own GPU.

    Raises:
        UsageError: the device does not exist.
    """
    own_gpu = "LOCAL_RANK" in os.environ and name in ("auto", "cuda") and torch.cuda.is_available()
    device = pick_device(f"cuda:{_number('LOCAL_RANK', '0')}" if own_gpu else name)
    if torch.device(device).type == "cuda" and torch.device(device).index is not None:
        torch.cuda.set_device(device)  # CUDA graphs are recorded on the current device
    return device


def process(device: str) -> tuple[int, int]:
    """Rank and world size under ``torchrun``; 0 and 1 without it.

    The first call joins the process group, with the backend for the device.

    Raises:
        UsageError: ``WORLD_SIZE`` is not a number.
        HarnessError: the group cannot be joined.
    """
    world = _number("WORLD_SIZE", "1")
    if world == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        backend = "nccl" if device.startswith("cuda") else "gloo"
        try:
            torch.distributed.init_process_group(backend, timeout=_TIMEOUT)
        except (ValueError, RuntimeError) as error:
            raise HarnessError(
                f"The {world} processes cannot connect ({error}): start them with torchrun."
            ) from error
    return torch.distributed.get_rank(), world


@contextmanager
def one_first() -> Iterator[None]:
    """Let one process of each machine run the block first, for example to fill a cache."""
    several, first = torch.distributed.is_initialized(), _number("LOCAL_RANK", "0") == 0
    if several and not first:
        torch.distributed.barrier()
    yield
    if several and first:
        torch.distributed.barrier()


def agreed(*values: float, device: torch.device) -> list[float]:
    """The maximum of each value over all processes."""
    if not torch.distributed.is_initialized():
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return shared.tolist()


def gathered(value: Value) -> list[Value]:
    """The value of each process, in the order of their ranks."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Value | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


class SyncSchedule:
    """Decides after which steps the processes agree: the same for all, about once a second.

    To agree, a process waits for the others and for its GPU, so it is too slow for every step.
    A single process checks its clock and interrupts after every step.

    The schedule begins at the step and the training time at which training starts or resumes.
    """

    def __init__(self, step: int, seconds: float, *, alone: bool) -> None:
        self._alone, self._next, self._interval = alone, step + 1, 1
        self._last = step, seconds

    def due(self, step: int) -> bool:
        """Whether to agree after this step."""
        return self._alone or step >= self._next

    def done(self, step: int, seconds: float) -> None:
        """Plan the next agreement, from the step and the training time of this one."""
        steps, spent = step - self._last[0], seconds - self._last[1]
        self._last = step, seconds
        interval = int(steps * SYNC_SECONDS / max(spent, 1e-9))
        self._interval = min(max(1, interval), _MOST_GROWTH * self._interval)
        self._next = step + self._interval


def unused_parameters(network: nn.Module, batch: tuple[Tensor, Tensor]) -> list[str]:
    """The names of the parameters that have no influence on the output for a batch.

    Raises:
        HarnessError: the outputs are not images of the target's size.
    """
    copied, (input, target) = copy_network(network), batch
    factor = target.shape[-1] // input.shape[-1]
    output = require_images(copied(input), input, factor, "The network")
    output.float().sum().backward()
    named = copied.named_parameters()
    return [name for name, value in named if value.requires_grad and value.grad is None]


def sharing_notes(network: nn.Module, unused: Sequence[str], share: int) -> list[str]:
    """Notes for the user on sharing a network with `unused_parameters` between processes.

    ``share`` is the number of patches per step of each process.
    """
    notes = []
    if unused:
        names = f"{', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''}"
        notes.append(f"{names} have no influence on the output, and are not trained")
    normalising = nn.modules.batchnorm._BatchNorm
    layers = [layer for layer in network.modules() if isinstance(layer, normalising)]
    if any(not isinstance(layer, nn.SyncBatchNorm) for layer in layers):
        patches = f"{share} patch{'' if share == 1 else 'es'}"
        notes.append(
            f"Batches are normalised by each process alone, over {patches}: losses are not those "
            "of one process"
        )
    return notes


def shared_by_processes(
    network: nn.Module, device: torch.device, *, some_unused: bool
) -> nn.Module:
    """Wrap a network, equal in all processes, so that gradients are the means over them.

    If some parameters have no influence on the output, processes must not wait for their gradients.
    """
    parallel = nn.parallel.DistributedDataParallel
    # Do not broadcast buffers: gloo cannot write into a (1, C, 1, 1) buffer in channels_last, and a
    # network may recreate its buffers. The seed or checkpoint makes them equal at the start.
    buffers = [name for name, _ in network.named_buffers()]
    parallel._set_params_and_buffers_to_ignore_for_model(network, buffers)
    return parallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=some_unused,
    )


@contextmanager
def failures_named() -> Iterator[None]:
    """Turn errors of distributed training into one sentence.

    Raises:
        HarnessError: another process has ended, or the network cannot be shared.
    """
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if "Expected to have finished reduction" in message:
            raise HarnessError(
                "The network uses other parameters at some steps than at the first, which several "
                "processes cannot share: train it with one."
            ) from error
        lost = isinstance(error, torch.distributed.DistError)
        if lost or any(words in message for words in _LOST):
            raise HarnessError(
                "Another process of this training has ended or hangs: see its messages."
            ) from error
        raise


# Gloo raises plain RuntimeErrors; these are parts of its messages.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting")


def leave_together() -> None:
    """Wait for the other processes before leaving the process group.

    The first process validates and saves last; a process that left earlier would break its
    connections.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _number(variable: str, default: str) -> int:
    """Read a number that torchrun sets in the environment."""
    text = os.environ.get(variable, default)
    if not text.isdecimal():
        raise UsageError(f"{variable} is {text!r}, not a number: unset it, or let torchrun set it.")
    return int(text)


MARGIN = 5.0
"""Seconds to spare at the end of a process with a deadline."""


class Progress:
    """The progress of a training, by steps or by time, and the time left to its process.

    A process with a deadline (``stop_after``) ends by writing a last checkpoint, validating,
    writing the weights, and validating them as stored. The estimate for this is twice the longest
    save, validation and drawing of the curve so far, plus a margin.

    Several processes use the clock of the first one, as of their last agreement. In all methods
    ``step`` is the number of steps so far, and ``seconds`` the training time agreed on.

    Attributes:
        longest: the longest time of each kind of block so far, in seconds.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe, self._device = recipe, device
        rank, _ = process(str(device))
        self._first = rank == 0
        self._end = harness.STARTED + recipe.stop_after if recipe.stop_after else math.inf
        self.longest: defaultdict[str, float] = defaultdict(float)
        (self._left,) = agreed(self.left(), device=device)

    def left(self) -> float:
        """Seconds until this process must stop to end in time; infinite without a deadline."""
        ending = MARGIN + 2 * sum(self.longest.values())
        return max(0.0, self._end - time.monotonic() - ending)

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Measure the time of this block, and keep the longest."""
        begin = time.monotonic()
        yield
        self.longest[what] = max(self.longest[what], time.monotonic() - begin)

    def agree(self, seconds: float, *, stopped: bool) -> tuple[float, bool]:
        """The training time of the first process, and whether any process was interrupted.

        ``seconds`` is the training time by the clock of this process.
        """
        mine = (seconds, self.left()) if self._first else (0.0, 0.0)
        seconds, self._left, any_stopped = agreed(*mine, stopped, device=self._device)
        return seconds, bool(any_stopped)

    def share(self, step: int, seconds: float) -> float:
        """The share of the training that is done, 0 to 1."""
        if self._recipe.minutes:
            return min(1.0, seconds / (60 * self._recipe.minutes))
        if self._recipe.steps:
            return min(1.0, step / self._recipe.steps)
        return seconds / max(1e-9, seconds + self._left)

    def is_over(self, step: int, seconds: float) -> bool:
        """Whether the training is done or the time is up."""
        return self.share(step, seconds) >= 1 or self._left <= 0

    def seconds_left(self, step: int, seconds: float, step_seconds: float) -> float:
        """Seconds until this training ends, infinite if not known."""
        left = math.inf
        if self._recipe.minutes:
            left = 60 * self._recipe.minutes - seconds
        elif self._recipe.steps:
            left = (self._recipe.steps - step) * step_seconds
        return min(left, self.left())
