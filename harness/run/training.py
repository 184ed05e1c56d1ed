"""What is trained, on what, and how."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from harness.cards import ModelCard
from harness.data.trainsets import TrainingImages
from harness.errors import UsageError
from harness.models.source import network_digest
from harness.models.weights import Weights
from harness.protocol import protocols
from harness.run.recipes import Recipe
from harness.run.train_log import Row
from harness.run.validation import Scores, ValidationImages, validate


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how.

    Attributes:
        card: the network.
        scale: the factor.
        hyper: arguments of the network.
        recipe: see `Recipe`.
        images: what patches are cut from.
        validation: what the average network is scored on.
        folder: gets checkpoints, log and weights.
        device: where it runs; one process of several has its own.
        compile: run the network's repeated blocks through ``torch.compile``; None decides by
            device and budget.
        sets: what identifies each training set, by the word that named it.
        start: weights to start from, instead of random ones.
        origin: where those came from, see `harness.run.origin`.
        notes: sentences that the user should read.
        tag: of the weights, which distinguishes those of variants.
        fp16: store the weights in fp16 in any case.
        split: write the weights in parts as well, which small transfers can take.
        val_seconds: between validations.
        save_seconds: between checkpoints.
        log_steps: between lines of the log.
    """

    card: ModelCard
    scale: int
    hyper: Mapping[str, Any]
    recipe: Recipe
    images: TrainingImages
    validation: ValidationImages
    folder: Path
    device: str = "cpu"
    compile: bool | None = None
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start: Weights | None = None
    origin: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    tag: str = "repro"
    fp16: bool = False
    split: bool = False
    val_seconds: float = 300.0
    save_seconds: float = 120.0
    log_steps: int = 50

    @property
    def rules(self) -> protocols.Protocol:
        """The protocol of the network's pipeline."""
        return protocols.Protocol(self.card.pipeline, self.scale)

    def validate(self, network: nn.Module, enough: Callable[[], bool] = bool) -> Scores | None:
        """Score a network on the validation images, see `harness.run.validation.validate`."""
        return validate(
            self.validation, network, self.card, self.rules, device=self.device, enough=enough
        )

    @property
    def skipped(self) -> dict[str, str]:
        """Why images are left out, by the names of their folders and files."""
        skipped = dict(self.images.skipped) | self.images.smaller_than(self.recipe.patch)
        return {f"{path.parent.name}/{path.name}": why for path, why in skipped.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """What must agree for a checkpoint to be continued.

        Images count by their hash, whatever names or paths they were found by.
        """
        same = {"model": self.card.name, "scale": self.scale, "hyper": dict(self.hyper)}
        values = asdict(self.recipe)
        recipe = {f"recipe.{name}": values[name] for name in values if name not in _NOT_COMPARED}
        source = {
            "source": network_digest(self.card, self.scale, self.hyper),
            "images": self.images.sha256,
        }
        return same | recipe | source

    @property
    def validated_on(self) -> dict[str, Any]:
        """What a validation must agree in, for its scores to be compared with earlier ones."""
        return {
            "count": self.recipe.val_images,
            "words": [os.path.normpath(word) for word in self.recipe.val_data],
            "folders": list(self.validation.folders),
            "sha256": self.validation.sha256,
        }


def validation_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A sentence if a training is now validated on other images; empty for the same.

    Args:
        before: `Training.validated_on` of the checkpoint.
        now: that of the training that goes on.

    Raises:
        UsageError: the images are others, though they are called the same.
    """
    if now["sha256"] == before["sha256"]:
        return ""
    if not now["sha256"]:
        return "Training goes on without the validation that it began with"
    if not before["sha256"]:
        return "Training is validated from now on"
    same_name = any(now[name] == before[name] for name in ("words", "folders"))
    if same_name and now["count"] == before["count"]:
        raise UsageError(
            f"The images of {', '.join(now['words'])} are not those that this training was "
            "validated on: restore them, or name others with --val-data."
        )
    return "The validation is on other images than before: the best weights are chosen anew"


_NOT_COMPARED = ("name", "stop_after", "train_data", "val_data", "val_images")
"""Fields of a recipe that change no weights, or only through the images."""


class TrainListener(Protocol):
    """Who is told how training goes."""

    def started(self, training: Training, step: int) -> None:
        """Training begins, or goes on after a step."""

    def logged(self, training: Training, row: Row, progress: float) -> None:
        """A line was added to the log."""

    def validated(self, training: Training, rows: Sequence[Row]) -> None:
        """The last line of the log has the scores of a validation."""

    def told(self, sentence: str) -> None:
        """Something that the user should know."""


@dataclass
class State:
    """Everything that changes while training.

    Attributes:
        step: optimiser steps so far.
        seconds: of training so far.
        best: the highest validation PSNR so far, in dB.
        validated_from: the step after which all scores are means over the same images.
        left_out: numbers of the validation images that have had an infinite PSNR.
        scores: of the last validation, and its step.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    validated_from: int = 0
    left_out: frozenset[int] = frozenset()
    scores: tuple[int, Scores] | None = None
