"""Time as training counts it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import harness
from harness.run.processes import agreed, process
from harness.run.recipes import Recipe


class Clock:
    """Seconds of training, over all resumptions, and those spent waiting for patches."""

    def __init__(self, already: float) -> None:
        self._start = time.perf_counter() - already
        self.waited = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far; validation and saving do not count."""
        return time.perf_counter() - self._start

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time in here does not count."""
        begin = time.perf_counter()
        yield
        self._start += time.perf_counter() - begin

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in here counts as waiting."""
        begin = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begin


class Mark:
    """A point of a clock from which rates are counted."""

    def __init__(self, clock: Clock, step: int) -> None:
        self.clock, self.step = clock, step
        self.seconds, self._waited = clock.seconds, clock.waited

    def rate(self, step: int) -> float:
        """Steps a second since the mark."""
        return (step - self.step) / max(self.clock.seconds - self.seconds, 1e-9)

    def data_share(self) -> float:
        """Part of the time since the mark that was spent waiting."""
        spent = max(self.clock.seconds - self.seconds, 1e-9)
        return (self.clock.waited - self._waited) / spent


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
