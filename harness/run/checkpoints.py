"""Training checkpoints: written whole and sealed by a hash, and compared before they go on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from msgspec import convert
from torch import Tensor, nn

from harness.errors import HarnessError, UsageError
from harness.files import whole
from harness.models.formats.checkpoints import is_hostile, is_sealed, seal, seal_fits

FORMAT = 3
"""Raised whenever a checkpoint holds something else."""


class Checkpoint(TypedDict):
    """All that a training needs to go on.

    Attributes:
        format: `FORMAT` of the version that wrote it.
        facts: what must agree for it to be continued, see `harness.run.training.Training.facts`.
        recipe: the fields of the `harness.run.recipes.Recipe`.
        validated_on: see `harness.run.training.Training.validated_on`.
        network, average: parameters and buffers of the network, and of its average.
        optimizer: the optimizer's moments.
        step, seconds, best, validated_from, left_out: see `harness.run.training.State`.
        origin: the weights that training started from, see `harness.run.origin`.
        acceleration: the fields of the `harness.run.accelerate.Acceleration`.
        random: the random states of each process, see `harness.global_state`.
    """

    format: int
    facts: dict[str, Any]
    recipe: dict[str, Any]
    validated_on: dict[str, Any]
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    step: int
    seconds: float
    best: float
    validated_from: int
    left_out: list[int]
    origin: dict[str, Any] | None
    acceleration: dict[str, Any]
    random: list[dict[str, Any]]


def save_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write a checkpoint to a temporary file, seal it, flush it to the disk, and rename it.

    Raises:
        HarnessError: it cannot be written; the checkpoint before stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial, partial.open("w+b") as stream:
            torch.save(dict(state), stream)
            seal(stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        before = "the one before it is intact" if path.exists() else "there is none before it"
        raise HarnessError(
            f"The checkpoint {path} cannot be written ({error}): {before}."
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is run.

    Raises:
        HarnessError: there is none, it is damaged, or another version of this package wrote it.
    """
    if not os.path.exists(path):
        raise HarnessError(f"There is no checkpoint {path} to resume: train without --resume.")
    try:
        if not (is_sealed(path) and seal_fits(path)):
            raise HarnessError(
                f"The checkpoint {path} is damaged, or another version of drfn-harness wrote it: "
                "remove it and train anew, or start from the .safetensors that the training left "
                "(--from)."
            )
        state = _loaded(path)
        if isinstance(state, dict) and state.get("format") != FORMAT:
            raise HarnessError(
                f"The checkpoint {path} was written by another version of drfn-harness: go on with "
                "that one, or start from the .safetensors that it left (--from)."
            )
        convert(state, Checkpoint)  # which copies; what PyTorch notes of a state_dict would be lost
    except HarnessError:
        raise
    except Exception as error:  # the readers meet what they do not know in many ways
        raise HarnessError(f"The checkpoint {path} cannot be read ({error}).") from error
    return cast(Checkpoint, state)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of ``harness train``, be it damaged or of an earlier version.

    Raises:
        OSError: it cannot be read.
    """
    if is_sealed(path):
        return True
    try:
        return {"facts", "optimizer", "average"} <= _loaded(path).keys()
    except Exception:  # it may be anything
        return False


def _loaded(path: Path) -> Any:
    if is_hostile(path):
        raise ValueError("it holds tuples within tuples, as no checkpoint does")
    return torch.load(path, map_location="cpu", weights_only=True)


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
