"""How long shipped weights were trained, from the notes that lie beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models.find_weights import read_notes
from harness.record import digest
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.record import RunRecord


@dataclass(frozen=True)
class Budget:
    """What weights were trained with.

    Attributes:
        key: equal where recipe and device are, whatever the seed; empty where nothing is known.
        steps: optimiser steps.
        patches: LR patches a step and their side.
        minutes: on ``device``.
        before: of the weights that the training started from, where it did.
    """

    key: str = ""
    steps: int = 0
    patches: tuple[int, int] = (0, 0)
    minutes: float = 0.0
    device: str = ""
    before: Budget | None = None

    @property
    def pixels(self) -> int:
        """LR pixels that were seen, each as often as it was, over the whole chain of trainings."""
        count, side = self.patches
        return self.steps * count * side**2 + (self.before.pixels if self.before else 0)

    def __str__(self) -> str:
        if not self.key:
            return "a training of which nothing is known"
        count, side = self.patches
        after = f", after {self.before}" if self.before else ""
        return (
            f"{self.steps:,} steps of {count} patches of {side}x{side} in {self.minutes:.0f} "
            f"minutes on {self.device}{after}"
        )


def budget_of(record: RunRecord) -> Budget:
    """The budget of a run's weights, as far as their package ships notes of their training.

    The weights themselves need not be shipped.
    """
    model, sha256 = record.identity.model, record.identity.weights_sha256
    source = MODELS.get(model).source if model in MODELS else None
    if source is None:
        return Budget()
    notes = _notes(source.parent / "weights").get(sha256)
    return budget_from(notes) if notes else Budget()


def budget_from(notes: Mapping[str, Any]) -> Budget:
    """The budget that notes tell of; an unknown one where they are of weights from elsewhere."""
    if not {"recipe", "steps", "seconds"} <= notes.keys():
        return Budget()
    before, device = notes.get("from"), notes.get("device", "a device that is not known")
    recipe = {name: value for name, value in notes["recipe"].items() if name != "seed"}
    return Budget(
        digest([recipe, device, *([before] if before else [])]),
        notes["steps"],
        (recipe["batch"], recipe["patch"]),
        notes["seconds"] / 60,
        device,
        budget_from(before) if before else None,
    )


@cache
def _notes(folder: Path) -> Mapping[str | None, Mapping[str, Any]]:
    """What training left beside the weights in a folder, by the weights' hash.

    A folder of somebody's weights may hold other JSON files, too.
    """
    notes = map(read_notes, sorted(folder.glob("*.json")))
    return {one["tensors_sha256"]: one for one in notes if one}
