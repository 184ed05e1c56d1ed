"""Training checkpoints: written whole and sealed by a hash, and compared before they go on."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, cast

import torch
from msgspec import convert
from torch import Tensor, nn

from harness.data.partial import whole
from harness.errors import HarnessError, UsageError
from harness.files import regular

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
        random: the random states of each process, see `harness.models.random_state`.
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
            _seal(stream)
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
        if not _is_sound(path):
            raise HarnessError(
                f"The checkpoint {path} is damaged, or another version of drfn-harness wrote it: "
                "remove it and train anew, or start from weights that the training left (--from)."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state, dict) and state.get("format") != FORMAT:
            raise HarnessError(
                f"The checkpoint {path} was written by another version of drfn-harness: go on with "
                "that one, or start from the weights that it left (--from)."
            )
        convert(state, Checkpoint)  # which copies; what PyTorch notes of a state_dict would be lost
    except HarnessError:
        raise
    except Exception as error:  # the readers meet what they do not know in many ways
        raise HarnessError(f"The checkpoint {path} cannot be read ({error}).") from error
    return cast(Checkpoint, state)


def is_checkpoint(path: Path) -> bool:
    """Whether a file ends with the seal of a checkpoint, be it damaged or not.

    Raises:
        OSError: it cannot be read.
    """
    with regular(path).open("rb") as stream:
        return _stated(stream) is not None


_SEAL = 64
"""SHA-256 of all that comes before, in hexadecimal: the comment of the zip file that PyTorch
writes, which readers of zip files pass over."""

_LENGTH = _SEAL.to_bytes(2, "little")
"""How a zip file states the length of its comment, just before it; 0 where it has none."""


def _seal(stream: BinaryIO) -> None:
    """Put the hash of a zip file without a comment into its comment."""
    size = stream.seek(-len(_LENGTH), os.SEEK_END)
    seal = _digest(stream, size)
    stream.seek(size)
    stream.write(_LENGTH + seal)


def _is_sound(path: Path) -> bool:
    """Whether a file is sealed, and what its seal says."""
    with regular(path).open("rb") as stream:
        stated = _stated(stream)
        return stated == _digest(stream, stream.tell() - len(_LENGTH) - _SEAL)


def _stated(stream: BinaryIO) -> bytes | None:
    """The hash at the end of a file, which is read to its end; None where there is none."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - len(_LENGTH) - _SEAL))
    found = re.fullmatch(re.escape(_LENGTH) + rb"([0-9a-f]{%d})" % _SEAL, stream.read())
    return found[1] if found else None


def _digest(stream: BinaryIO, size: int) -> bytes:
    """SHA-256 of a file's first bytes, in hexadecimal."""
    stream.seek(0)
    content = hashlib.sha256()
    while size > 0 and (piece := stream.read(min(size, 1 << 20))):
        content.update(piece)
        size -= len(piece)
    return content.hexdigest().encode()


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
