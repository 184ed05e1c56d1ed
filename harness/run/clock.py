"""Time as training counts it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import harness


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
