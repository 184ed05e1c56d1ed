"""What the whole process shares and gets back: torch's settings, random states, interrupts."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch

_BACKENDS: Any = torch.backends


_PLACES = (
    _BACKENDS.cuda.matmul,
    *(getattr(_BACKENDS.cudnn, kind) for kind in ("conv", "rnn")),
    *(getattr(_BACKENDS.mkldnn, kind) for kind in ("matmul", "conv", "rnn")),
)
"""Where products of fp32 may be made with less."""


def _precision() -> str:
    """``ieee`` where products of fp32 are in fp32, and what they are in otherwise."""
    said = {place.fp32_precision for place in _PLACES}
    return ", ".join(sorted(said - {"none", "ieee"})) or "ieee"


def _set_precision(_: str) -> None:
    _BACKENDS.fp32_precision = "ieee"
    for place in _PLACES:
        place.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    _BACKENDS.cuda.matmul.allow_tf32 = False
    _BACKENDS.cudnn.allow_tf32 = False


def _setter(place: Any, name: str) -> Callable[[Any], None]:
    return lambda value: setattr(place, name, value)


_SETTINGS: Mapping[str, tuple[Any, Callable[[], Any], Callable[[Any], None]]] = {
    "default dtype": (torch.float32, torch.get_default_dtype, torch.set_default_dtype),
    "precision of fp32": ("ieee", _precision, _set_precision),
    "deterministic kernels": (
        True,
        lambda: _BACKENDS.cudnn.deterministic,
        _setter(_BACKENDS.cudnn, "deterministic"),
    ),
    "search for kernels": (
        False,
        lambda: _BACKENDS.cudnn.benchmark,
        _setter(_BACKENDS.cudnn, "benchmark"),
    ),
}
"""The harness's value of each setting, and what reads and writes it."""


def apply_settings() -> list[str]:
    """Score in full fp32 and with deterministic kernels; returns what was set otherwise."""
    changed = [name for name, (value, get, _) in _SETTINGS.items() if get() != value]
    for name in changed:
        value, _, put = _SETTINGS[name]
        put(value)
    return changed


@contextmanager
def settings_guarded(changed: set[str]) -> Iterator[None]:
    """Run foreign code under the harness's settings, and go back to those of before.

    Products of fp32 stay in fp32: nothing here works with less.

    Args:
        changed: gets the names of what the code has changed.
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
        for name, (value, _, put) in _SETTINGS.items():
            if before[name] != value:
                put(before[name])


@contextmanager
def numerics_kept() -> Iterator[None]:
    """Whatever is set in here about TF32 and cuDNN's kernels is taken back."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    tf32 = matmul.allow_tf32, cudnn.allow_tf32
    kernels = cudnn.deterministic, cudnn.benchmark
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = tf32
        cudnn.deterministic, cudnn.benchmark = kernels


@contextmanager
def training_numerics() -> Iterator[None]:
    """Full fp32 where it is not bf16, and cuDNN's fastest kernels."""
    with numerics_kept():
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
        yield


def seed_all(seed: int) -> None:
    """Seed every state; seeds from 2^32 on begin again at 0."""
    seed %= 1 << 32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what plug-ins draw from
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """Every state, as values that a checkpoint can hold.

    Args:
        device: a GPU has a state of its own.
    """
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    states = {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    return states | ({"gpu": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(states: Mapping[str, Any], device: torch.device) -> None:
    """Go on from what `random_state` gave, on this device or another."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy(), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "gpu" in states:
        torch.cuda.set_rng_state(states["gpu"], device)


def host_random_state() -> object:
    """The states of Python and numpy, to be compared with later ones."""
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), np.asarray(keys).tobytes(), rest


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Random numbers that are drawn in here change none that are drawn later."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(before, device)


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
