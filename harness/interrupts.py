"""Ending work: interrupts that lose nothing, and a time limit for code that may hang or die."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import HarnessError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess


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


T = TypeVar("T")


def isolated(
    work: Callable[..., Iterator[T]], words: tuple[Any, ...], seconds: float
) -> Generator[T, None, None]:
    """What ``work(*words)`` yields in another process, which is ended when its time is over.

    Whatever processes it has started end with it, and it ends when this process is killed.

    Args:
        work: a function of a module; what it takes and yields can be pickled.
        words: its arguments.
        seconds: from the start of the process, its imports included.

    Raises:
        HarnessError: it was raised there, the process died, the time is over, or this system,
            such as Windows, has no process groups.
    """
    if not hasattr(os, "killpg"):
        raise HarnessError(
            "This system cannot end a check with all its processes: run drfn-harness on Linux, "
            "macOS or WSL."
        )
    fresh = get_context("spawn")
    receiver, sender = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_send, args=(sender, os.getcwd(), work, words), daemon=True)
    process.start()
    sender.close()
    end = time.monotonic() + seconds
    try:
        while receiver.poll(max(0.0, end - time.monotonic())):
            last, value = receiver.recv()
            if isinstance(value, HarnessError):
                raise value
            if last:
                return
            yield value
        raise HarnessError(
            f"The check did not end within {seconds:g} seconds: it hangs, or --time-limit is short."
        )
    except EOFError:
        process.join()
        raise HarnessError(
            f"The process of the check died with exit code {process.exitcode}: mend the plug-in."
        ) from None
    finally:
        _end(process)


def _end(process: SpawnProcess) -> None:
    """Kill a process and those that it has started, which are in its process group."""
    assert process.pid is not None
    with suppress(OSError):  # it has no group yet, or nobody is left in it
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _end_with_parent() -> None:
    """Wait until the process that started this one is gone, then kill this one's group."""
    parent = parent_process()
    if parent:
        parent.join()
    os.kill(0, signal.SIGKILL)


def _send(sender: Connection, folder: str, work: Callable[..., Iterator[T]], words: Any) -> None:
    """In the other process: hand over one value after the other, then the end or an error."""
    os.setsid()  # a group of its own, to be killed as one
    Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)  # a new process starts where the first one was started
    try:
        for value in work(*words):
            sender.send((False, value))
        sender.send((True, None))
    except HarnessError as error:
        sender.send((True, error))
    except Exception as error:  # an outsider's code may raise anything
        sender.send((True, HarnessError(f"{type(error).__name__}: {error}")))
