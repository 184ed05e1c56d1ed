"""Training checkpoints: written whole or not at all, and compared before they are continued."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.partial import whole
from harness.errors import HarnessError, UsageError


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint to a temporary file, flush it to the disk, and rename it.

    Raises:
        HarnessError: it cannot be written; the checkpoint before stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial, partial.open("wb") as stream:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        before = "the one before it is intact" if path.exists() else "there is none before it"
        raise HarnessError(
            f"The checkpoint {path} cannot be written ({error}): {before}."
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is run.

    Raises:
        HarnessError: there is none, or it cannot be read.
    """
    if not os.path.exists(path):
        raise HarnessError(f"There is no checkpoint {path} to resume: train without --resume.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise HarnessError(f"The checkpoint {path} cannot be read ({error}).") from error
    return state


FORMAT = 2
"""Raised whenever a checkpoint holds something else."""

_HASHES = {
    "images": "the training images are others",
    "source": "the source of the network has changed",
}
"""Facts that are hashes, and what it means that they differ."""


def network_values(network: nn.Module, average: nn.Module) -> dict[str, Tensor]:
    """The values of a network that a checkpoint keeps.

    Buffers that the network makes anew for each size of image are those of its average, which has
    never run.
    """
    own = network.state_dict()
    return {
        name: own[name] if name in own and own[name].shape == value.shape else value
        for name, value in average.state_dict().items()
    }


def require_format(path: Path, saved: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that another version of this package wrote.

    Raises:
        HarnessError: it is one.
    """
    if saved.get("format") != FORMAT:
        raise HarnessError(
            f"The checkpoint {path} was written by another version of drfn-harness: go on with "
            "that one, or start from the weights that it left (--from)."
        )


def require_same(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint of another training.

    Args:
        saved: what the checkpoint says of itself.
        wanted: the same facts of the training at hand.

    Raises:
        UsageError: they differ, naming how.
    """
    different = [
        _HASHES.get(name, f"{name} was {saved.get(name)!r} and is {value!r}")
        for name, value in wanted.items()
        if saved.get(name) != value
    ]
    if different:
        raise UsageError(f"The checkpoint is of another training: {'; '.join(different)}.")
