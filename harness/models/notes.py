"""The notes of a training, which lie as JSON beside the weights that it made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict

from msgspec import convert

from harness.errors import HarnessError
from harness.files import TEXT, regular, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

PART = re.compile(r"(.+\.safetensors)\.(\d{1,3})of(\d{1,3})")
"""The name of a part of weights, see `harness.models.weights.split_weights`."""


class _Recipe(TypedDict):
    """The values of a recipe that are used; there are others."""

    batch: int
    patch: int


class _Images(TypedDict, total=False):
    sha256: str
    count: int


_Training = TypedDict(
    "_Training",
    {
        "hyper": dict[str, Any],
        "recipe": _Recipe,
        "steps": int,
        "seconds": float,
        "device": str,
        "images": _Images,
        "from": "_Training",
    },
    total=False,
)


class _Notes(_Training, total=False):
    """The types of what is used of notes; see `harness.run.trained.finish` for all of them."""

    tensors_sha256: Required[str]
    model: str
    scale: int


def notes_path(path: Path) -> Path:
    """Where the notes of a training lie, beside its weights or any part of them."""
    found = PART.fullmatch(path.name)
    return path.with_name(found[1] if found else path.name).with_suffix(".json")


def read_notes(path: Path) -> Mapping[str, Any] | None:
    """The notes in a JSON file; None where there are none, such as in a file of somebody else's."""
    try:
        notes = json.loads(regular(path, TEXT).read_text(encoding="utf-8"))
        convert(notes, _Notes)
    except (OSError, ValueError, RecursionError):
        return None
    return notes


def write_notes(path: Path, text: str) -> None:
    """Write the notes of a training beside its weights.

    Raises:
        HarnessError: the folder cannot be written.
    """
    try:
        write_atomically(notes_path(path), text)
    except OSError as error:
        raise HarnessError(f"{notes_path(path)} cannot be written ({error}).") from error


def copy_notes(path: Path, stored: Path, tensors_sha256: str) -> None:
    """Keep the notes of a training beside weights that were stored elsewhere.

    Args:
        path: the weights' file, or a part of it; notes beside it that are of others are left.
        stored: where they were stored.
        tensors_sha256: of what was stored.

    Raises:
        HarnessError: the folder cannot be written.
    """
    notes = read_notes(notes_path(path))
    same = notes is not None and notes["tensors_sha256"] == tensors_sha256
    if same and notes_path(path) != notes_path(stored):
        write_notes(stored, json.dumps(notes, indent=1) + "\n")
