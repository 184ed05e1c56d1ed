"""Torch's global settings that numbers depend on: the harness sets its own around foreign code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
