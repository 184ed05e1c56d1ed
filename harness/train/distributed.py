"""The processes of one training: who they are, how they talk, and the time they agree on."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

import harness
from harness.errors import HarnessError, UsageError
from harness.models.network import copy_network, pick_device, require_images
from harness.train.recipe import Recipe

Value = TypeVar("Value")

# The others wait while the first one prepares images and validates.
_PATIENCE = timedelta(hours=3)

SYNC_SECONDS = 1.0
"""How often processes agree on the time and on interrupts."""

_MOST_GROWTH = 100
"""How many times as many steps as between the last two there may be until processes agree again."""


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


def gathered(value: Value) -> list[Value]:
    """The value of each process, in the order of their ranks."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Value | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


class SyncSchedule:
    """After which steps several processes agree: the same for all, about once a second.

    To agree, a process waits for the others, and a GPU for its work; so it is not done each step.
    One process alone looks at its clock and at interrupts after each step.

    Args:
        step: the last one before training begins or goes on.
        seconds: of training until then.
        alone: whether there is one process.
    """

    def __init__(self, step: int, seconds: float, *, alone: bool) -> None:
        self._alone, self._next, self._interval = alone, step + 1, 1
        self._last = step, seconds

    def due(self, step: int) -> bool:
        """Whether to agree after this step."""
        return self._alone or step >= self._next

    def done(self, step: int, seconds: float) -> None:
        """Plan when to agree next.

        Args:
            step: after which the processes have agreed.
            seconds: of training, as all agreed.
        """
        steps, spent = step - self._last[0], seconds - self._last[1]
        self._last = step, seconds
        wanted = int(steps * SYNC_SECONDS / max(spent, 1e-9))
        self._interval = min(max(1, wanted), _MOST_GROWTH * self._interval)
        self._next = step + self._interval


def unused_parameters(network: nn.Module, batch: tuple[Tensor, Tensor]) -> list[str]:
    """The names of the parameters that have no influence on a network's output.

    Args:
        network: stays as it is.
        batch: input and target, of a few patches.

    Raises:
        HarnessError: the network makes something else than images of the target's size.
    """
    copied, (given, target) = copy_network(network), batch
    factor = target.shape[-1] // given.shape[-1]
    output = require_images(copied(given), given, factor, "The network")
    output.float().sum().backward()
    named = copied.named_parameters()
    return [name for name, value in named if value.requires_grad and value.grad is None]


def sharing_notes(network: nn.Module, unused: Sequence[str], share: int) -> list[str]:
    """What one should know before several processes share a network.

    Args:
        network: to be shared.
        unused: the names of `unused_parameters`.
        share: patches a step of each process.
    """
    notes = []
    if unused:
        names = f"{', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''}"
        notes.append(f"{names} have no influence on the output, and are not trained")
    statistics = [
        one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)
    ]
    if any(not isinstance(one, nn.SyncBatchNorm) for one in statistics):
        patches = f"{share} patch{'' if share == 1 else 'es'}"
        notes.append(
            f"Batches are normalised by each process alone, over {patches}: losses are not those "
            "of one process"
        )
    return notes


def shared_by_processes(
    network: nn.Module, device: torch.device, *, some_unused: bool
) -> nn.Module:
    """A network whose gradients are the means over all processes.

    Args:
        network: the same in each of them.
        device: what this process trains on.
        some_unused: whether some parameters have no influence on the output, for which no process
            may wait.
    """
    parallel = nn.parallel.DistributedDataParallel
    # Gloo cannot write into a lone (1, C, 1, 1) buffer in channels_last, and a network may make its
    # buffers anew. A seed or a checkpoint gives all processes the same to begin with.
    buffers = [name for name, _ in network.named_buffers()]
    parallel._set_params_and_buffers_to_ignore_for_model(network, buffers)
    return parallel(
        network,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=some_unused,
    )


@contextmanager
def failures_named() -> Iterator[None]:
    """What several processes make fail is one sentence.

    Raises:
        HarnessError: another process has ended, or the network cannot be shared.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if "Expected to have finished reduction" in said:
            raise HarnessError(
                "The network uses other parameters at some steps than at the first, which several "
                "processes cannot share: train it with one."
            ) from error
        lost = isinstance(error, torch.distributed.DistError)
        if lost or any(word in said for word in _LOST):
            raise HarnessError(
                "Another process of this training has ended or hangs: what it said tells why."
            ) from error
        raise


# Gloo has no errors of its own kind.
_LOST = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting")


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


class Deadline:
    """When a process must have ended, and how long its end will take.

    The end is a last checkpoint, a last validation, and weights that are written and validated as
    they are stored: twice the longest saving, validation and drawing of the curve so far, and a
    margin.

    Args:
        seconds: from the start of the process; 0 for no deadline.
    """

    MARGIN = 5.0

    def __init__(self, seconds: float) -> None:
        self._at = harness.STARTED + seconds if seconds else math.inf
        self._longest: dict[str, float] = {}

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return self._at < math.inf

    def left(self) -> float:
        """Seconds until the end must begin; infinite without a deadline."""
        ending = self.MARGIN + 2 * sum(self._longest.values())
        return max(0.0, self._at - time.monotonic() - ending)

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Remember how long it takes, if it took longer than before."""
        begin = time.monotonic()
        yield
        self._longest[what] = max(self._longest.get(what, 0.0), time.monotonic() - begin)

    def longest(self, what: str) -> float:
        """The most seconds that it took so far."""
        return self._longest.get(what, 0.0)

    def leave_out(self, what: str) -> None:
        """Plan no time for it any more."""
        self._longest.pop(what, None)


class Progress:
    """How far a training is, by its steps or by the clock, as all of its processes see it.

    Several processes go by the clock of the first, as they last agreed on.

    Args:
        recipe: how long it is to last.
        deadline: when this process must have ended.
        seconds: of training so far.
        device: on which processes agree.
    """

    def __init__(
        self, recipe: Recipe, deadline: Deadline, seconds: float, device: torch.device
    ) -> None:
        self._recipe, self._deadline, self._device = recipe, deadline, device
        rank, world = process(str(device))
        self._first, self._alone = rank == 0, world == 1
        self._seconds = seconds
        (self._left,) = agreed(deadline.left(), device=device)

    def agree(self, seconds: float, *, stopped: bool) -> tuple[float, bool]:
        """Let the processes agree.

        Args:
            seconds: of training by the clock of this process.
            stopped: whether this process was interrupted.

        Returns:
            the first process's seconds, and whether any was interrupted.
        """
        mine = (seconds, self._deadline.left()) if self._first else (0.0, 0.0)
        self._seconds, self._left, any_stopped = agreed(*mine, stopped, device=self._device)
        return self._seconds, bool(any_stopped)

    def share(self, step: int, seconds: float) -> float:
        """The part of the training that is done, 0 to 1.

        Args:
            step: the steps so far.
            seconds: of training by the clock of this process.
        """
        seconds = seconds if self._alone else self._seconds
        if self._recipe.minutes:
            return min(1.0, seconds / (60 * self._recipe.minutes))
        if self._recipe.steps:
            return min(1.0, step / self._recipe.steps)
        return seconds / max(1e-9, seconds + self._time_left())

    def is_over(self, step: int, seconds: float) -> bool:
        """Whether the training is done or the time is up; arguments as for `share`."""
        return self.share(step, seconds) >= 1 or self._time_left() <= 0

    def seconds_left(self, step: int, seconds: float, step_seconds: float) -> float:
        """How long this training will last, as far as that is known.

        Args:
            step: the steps so far.
            seconds: of training by the clock of this process.
            step_seconds: that a step takes.
        """
        left = math.inf
        if self._recipe.minutes:
            left = 60 * self._recipe.minutes - seconds
        elif self._recipe.steps:
            left = (self._recipe.steps - step) * step_seconds
        return min(left, self._deadline.left())

    def _time_left(self) -> float:
        """Seconds until the process must come to its end."""
        return self._deadline.left() if self._alone else self._left
