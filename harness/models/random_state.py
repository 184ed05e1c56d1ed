"""The random states that a network may draw from: Python's, numpy's and torch's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


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
