"""Ctrl-C that loses nothing: the first lets work under way be finished, the second ends all."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SHOW_CURSOR = b"\x1b[?25h"

NOTE = "Interrupted, images under way are finished first (Ctrl-C again ends at once)"


@contextmanager
def interrupts_held(told: Callable[[str], None], note: str = NOTE) -> Iterator[threading.Event]:
    """Hold Ctrl-C back while work is under way.

    The second one ends the process as a kill would, which loses no finished work either.

    Args:
        told: gets the note at the first.
        note: what to tell the user.

    Yields:
        what is set from the first on. Outside the main thread it never is, and Ctrl-C is left
        alone.

    Raises:
        KeyboardInterrupt: at the end, if there was one.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def hear(*_: object) -> None:
        if interrupted.is_set():
            if sys.stderr.isatty():  # a progress bar has hidden it
                os.write(2, SHOW_CURSOR)
            os._exit(1)
        interrupted.set()
        with suppress(RuntimeError):  # the interrupted code may be printing itself
            told(note)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupted.is_set():
            raise KeyboardInterrupt
