"""Time as training counts it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


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
        self._seconds, self._waited = clock.seconds, clock.waited

    def rate(self, step: int) -> float:
        """Steps a second since the mark."""
        return (step - self.step) / max(self.clock.seconds - self._seconds, 1e-9)

    def data_share(self) -> float:
        """Part of the time since the mark that was spent waiting."""
        spent = max(self.clock.seconds - self._seconds, 1e-9)
        return (self.clock.waited - self._waited) / spent
