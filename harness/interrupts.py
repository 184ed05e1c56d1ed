"""Interrupts that lose nothing: the first lets work under way be finished, the second ends all."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

SHOW_CURSOR = b"\x1b[?25h"

NOTE = "Interrupted, images under way are finished first (Ctrl-C again ends at once)"


@contextmanager
def interrupts_held(
    told: Callable[[str], None],
    note: str = NOTE,
    signals: Sequence[signal.Signals] = (signal.SIGINT,),
    debounce: float = 0.0,
) -> Iterator[threading.Event]:
    """Hold Ctrl-C back while work is under way.

    The second one ends the process as a kill would, which loses no finished work either.

    Args:
        told: gets the note at the first.
        note: what to tell the user.
        signals: what counts as Ctrl-C.
        debounce: seconds after the first within which others are taken for the same.

    Yields:
        what is set from the first on. Outside the main thread it never is, and Ctrl-C is left
        alone.

    Raises:
        KeyboardInterrupt: at the end, if there was one and nothing else was raised.
    """
    interrupted, first = threading.Event(), 0.0
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def hear(*_: object) -> None:
        nonlocal first
        if interrupted.is_set():
            if time.monotonic() - first < debounce:
                return
            if sys.stderr.isatty():  # a progress bar has hidden it
                os.write(2, SHOW_CURSOR)
            os._exit(1)
        first = time.monotonic()
        interrupted.set()
        # The interrupted code may be printing itself, and whoever read the output may be gone.
        with suppress(Exception):
            told(note)

    before = {one: signal.signal(one, hear) for one in signals}
    try:
        yield interrupted
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if interrupted.is_set():
        raise KeyboardInterrupt
