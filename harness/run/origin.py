"""Weights that a training starts from, and the chain of trainings that made them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.models.find_weights import find_weights, installed, notes_path, read_notes
from harness.models.weights import Weights, read_weights
from harness.run.checkpoints import is_checkpoint, load_checkpoint

if TYPE_CHECKING:
    from harness.cards import ModelCard

_KEPT = ("hyper", "recipe", "steps", "seconds", "device", "from")
"""What a link of the chain says of a training."""


def find_origin(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], word: str, key: str = ""
) -> tuple[Weights, dict[str, Any]]:
    """The weights that ``--from`` names.

    Args:
        card: the network that is to start from them.
        scale: the factor.
        hyper: its arguments.
        word: a file, or the tag of weights on this machine, such as ``repro``.
        key: where in a file they are, see `harness.models.weights.read_weights`.

    Returns:
        the weights, and where they came from: their name and hash; recipe, steps and seconds as far
        as their notes or their checkpoint tell; and under ``from`` the same of the weights that
        they started from.

    Raises:
        HarnessError: there are no such weights, or they are broken or of another network.
        UsageError: they are of the network with other arguments, or not under the key.
    """
    path = Path(word)
    if not os.path.exists(path):
        if key:
            raise UsageError(f"--weights-key is for files, and there is no file {path}.")
        weights = find_weights(card, scale, tag=word)
        path = next(found for found, tag in installed(card, scale) if tag == word)
    else:
        weights = read_weights(card, scale, path, key=key)
    assert weights is not None  # a network without parameters is not trained
    sha256 = weights.info.tensors_sha256
    told = _notes(path, sha256) or _checkpoint(path)
    theirs = told.get("hyper", weights.hyper)
    if dict(theirs) != dict(hyper):
        raise UsageError(
            f"{path} is {card.name} with the arguments {dict(theirs)}, not {dict(hyper)}: start "
            "from other weights, or train the same --variant."
        )
    facts = {name: told[name] for name in _KEPT if name in told}
    if "images" in told:  # which ones were skipped is in their own notes
        images = told["images"]
        facts["images"] = {name: images[name] for name in ("sha256", "count") if name in images}
    return weights, {"weights": path.name, "tensors_sha256": sha256} | facts


def _notes(path: Path, sha256: str) -> dict[str, Any]:
    """What lies beside weights that were trained here, if it is of these weights."""
    notes = read_notes(notes_path(path))
    return dict(notes) if notes and notes["tensors_sha256"] == sha256 else {}


def _checkpoint(path: Path) -> dict[str, Any]:
    """Recipe, steps and seconds from a checkpoint of ``harness train``; empty for other files."""
    if path.suffix != ".pt" or not is_checkpoint(path):
        return {}
    saved = load_checkpoint(path)
    told = {"hyper": saved["facts"]["hyper"], "recipe": saved["recipe"], "steps": saved["step"]}
    before = {"from": saved["origin"]} if saved["origin"] else {}
    return told | {"seconds": round(saved["seconds"], 1)} | before
