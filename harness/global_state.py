"""Save and restore state of the whole process: torch settings, random states, interrupts."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch

_BACKENDS: Any = torch.backends


_FP32_BACKENDS = (
    _BACKENDS.cuda.matmul,
    *(getattr(_BACKENDS.cudnn, kind) for kind in ("conv", "rnn")),
    *(getattr(_BACKENDS.mkldnn, kind) for kind in ("matmul", "conv", "rnn")),
)
"""The backends that may compute fp32 products in a lower precision."""


def _precision() -> str:
    """The precision of fp32 products: ``ieee`` for full fp32, otherwise the lower ones in use."""
    precisions = {backend.fp32_precision for backend in _FP32_BACKENDS}
    return ", ".join(sorted(precisions - {"none", "ieee"})) or "ieee"


def _set_precision(_: str) -> None:
    _BACKENDS.fp32_precision = "ieee"
    for backend in _FP32_BACKENDS:
        backend.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    _BACKENDS.cuda.matmul.allow_tf32 = False
    _BACKENDS.cudnn.allow_tf32 = False


_SETTINGS: Mapping[str, tuple[Any, Callable[[], Any], Callable[[Any], None]]] = {
    "default dtype": (torch.float32, torch.get_default_dtype, torch.set_default_dtype),
    "precision of fp32": ("ieee", _precision, _set_precision),
    "deterministic kernels": (
        True,
        lambda: _BACKENDS.cudnn.deterministic,
        partial(setattr, _BACKENDS.cudnn, "deterministic"),
    ),
    "search for kernels": (
        False,
        lambda: _BACKENDS.cudnn.benchmark,
        partial(setattr, _BACKENDS.cudnn, "benchmark"),
    ),
}
"""For each setting: the value the harness uses, its getter and its setter."""


def apply_settings() -> list[str]:
    """Select full fp32 and deterministic kernels; return the settings that had other values."""
    changed = [name for name, (value, get, _) in _SETTINGS.items() if get() != value]
    for name in changed:
        value, _, set_value = _SETTINGS[name]
        set_value(value)
    return changed


@contextmanager
def settings_guarded(changed: set[str]) -> Iterator[None]:
    """Run a block under the harness's settings, then restore the earlier ones.

    The precision of fp32 products stays ``ieee``: nothing in the harness needs a lower one.

    Args:
        changed: the names of the settings that the block changed are added to it.
    """
    before = {name: get() for name, (_, get, _) in _SETTINGS.items()}
    apply_settings()
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        changed.update(apply_settings())
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
            changed.add("number of threads")
        for name, (value, _, set_value) in _SETTINGS.items():
            if before[name] != value:
                set_value(before[name])


_LEGACY_PRECISIONS: Sequence[tuple[Callable[[], Any], Callable[[Any], None]]] = (
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    *(
        (partial(getattr, backend, "allow_tf32"), partial(setattr, backend, "allow_tf32"))
        for backend in (_BACKENDS.cuda.matmul, _BACKENDS.cudnn)
    ),
)
"""Getters and setters of the precisions in torch's older interface."""


@contextmanager
def settings_restored() -> Iterator[None]:
    """Restore torch's settings when the block ends, also the precision of fp32 products."""
    before = [(write, get()) for name, (_, get, write) in _SETTINGS.items() if "fp32" not in name]
    for get, write in _LEGACY_PRECISIONS:
        with suppress(RuntimeError):  # torch refuses to read it if the newer interface was used
            before.append((write, get()))
    for backend in (_BACKENDS, *_FP32_BACKENDS):
        before.append((partial(setattr, backend, "fp32_precision"), backend.fp32_precision))
    try:
        yield
    finally:
        for write, value in before:
            write(value)


@contextmanager
def training_numerics() -> Iterator[None]:
    """Use cuDNN's fastest kernels in the block, and full fp32 (except for bf16) from then on."""
    with settings_guarded(set()):
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
        yield


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch; the seed is taken modulo 2^32."""
    seed %= 1 << 32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - plug-ins may use it
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """The random states of Python, numpy, torch and a GPU, as values a checkpoint can store."""
    states = host_random_state() | {"torch": torch.get_rng_state()}
    return states | ({"gpu": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore the states that `random_state` returned, on the same device or another."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(("MT19937", *states["numpy"]))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "gpu" in states:
        torch.cuda.set_rng_state(states["gpu"], device)


def host_random_state() -> dict[str, Any]:
    """The random states of Python and numpy, to compare with later ones."""
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {"python": random.getstate(), "numpy": [np.asarray(keys).tolist(), *rest]}


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Restore the random states when the block ends."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(before, device)


SHOW_CURSOR = b"\x1b[?25h"

NOTE = "Interrupted, finishing the images in progress (press Ctrl-C again to end at once): waiting"


@contextmanager
def interrupts_held(
    notify: Callable[[str], None],
    note: str = NOTE,
    signals: Sequence[signal.Signals] = (signal.SIGINT,),
    debounce: float = 0.0,
) -> Iterator[threading.Event]:
    """Delay Ctrl-C until the block ends.

    A second Ctrl-C ends the process at once, like a kill; finished work is not lost.

    Args:
        notify: called with the note at the first Ctrl-C.
        note: the message for the user.
        signals: the signals to handle as Ctrl-C.
        debounce: signals within this many seconds after the first are ignored.

    Yields:
        An event that the first Ctrl-C sets. Outside the main thread Ctrl-C is not handled, and the
        event is never set.

    Raises:
        KeyboardInterrupt: at the end of the block, after a Ctrl-C, if nothing else was raised.
    """
    interrupted, first = threading.Event(), 0.0
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(*_: object) -> None:
        nonlocal first
        if interrupted.is_set():
            if time.monotonic() - first < debounce:
                return
            if sys.stderr.isatty():  # a progress bar may have hidden it
                os.write(2, SHOW_CURSOR)
            os._exit(1)
        first = time.monotonic()
        interrupted.set()
        # The interrupted code may be printing too, and the output may be closed.
        with suppress(Exception):
            notify(note)

    handlers = {number: signal.signal(number, handle) for number in signals}
    try:
        yield interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if interrupted.is_set():
        raise KeyboardInterrupt
