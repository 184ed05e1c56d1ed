"""Types of a training: its settings, listener and state, and the validation."""

from __future__ import annotations

import math
import os
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from harness.cards import ModelCard
from harness.data.trainsets import TrainingImages
from harness.errors import HarnessError, UsageError, sentence
from harness.models.resources import is_memory
from harness.models.source import network_digest
from harness.models.upscaler import Upscaler
from harness.models.weights import Weights
from harness.protocol.rules import Protocol, Sample, network_input, score, sr_image
from harness.train.checkpoint import LogRow
from harness.train.recipe import Recipe


@dataclass(frozen=True)
class TrainRequest:
    """The request of a user.

    Attributes:
        recipe: a name of ``recipe.toml``, or the path of a TOML file.
        changes: fields of `Recipe` that differ from that recipe.
        variant: the name of the network with other arguments; empty for the default ones.
        hyper: arguments of the network.
        tag: the tag of the weights, different for each variant.
        folder: the parent folder of checkpoints, log and weights.
        compile: run the network's repeated blocks through ``torch.compile``; None decides by
            device and budget.
        skip_bad: skip images that cannot be read.
        resume: continue from the folder's last checkpoint.
        start: a file or tag of weights to start from; empty for random weights.
        weights_key: the key of the weights in that file; empty to find it.
        fp16: always store the weights in fp16.
        split: also write the weights in small parts.
        validate_every, save_every: seconds between validations, and between checkpoints.
        log_every: steps between lines of the log.
    """

    model: str
    recipe: str = "short"
    changes: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 4
    variant: str = ""
    hyper: Mapping[str, Any] = field(default_factory=dict)
    tag: str = "repro"
    folder: Path = Path("results/local/train")
    device: str = "auto"
    compile: bool | None = None
    data_root: Path | None = None
    skip_bad: bool = False
    resume: bool = False
    start: str = ""
    weights_key: str = ""
    fp16: bool = False
    split: bool = False
    validate_every: float = 300.0
    save_every: float = 120.0
    log_every: int = 50


@dataclass(frozen=True)
class Training:
    """A training: what the user asked for, and the network, recipe and images found for it.

    Attributes:
        images: the images that patches are cut from.
        validation: the images that the average network is scored on.
        folder: the folder of checkpoints, log and weights.
        device: the device of this process.
        sets: the identity of each training set, by the word that named it.
        start: weights to start from, instead of random ones.
        origin: the origin of those weights, see `harness.train.checkpoint`.
        notes: sentences for the user.
    """

    request: TrainRequest
    card: ModelCard
    recipe: Recipe
    images: TrainingImages
    validation: ValidationImages
    folder: Path
    device: str = "cpu"
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start: Weights | None = None
    origin: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def validate(self, network: nn.Module, stop: Callable[[], bool] = bool) -> Scores | None:
        """Score a network on the validation images; None if ``stop`` returned true before one.

        Pass a copy of the network: it is put into evaluation mode, and may change its buffers.

        Raises:
            ValidationError: the network fails on an image; the message names it.
            HarnessError: the output of the network is not an image of the right size.
            MemoryError: memory runs out; the message names the image.
        """
        rules = Protocol(self.card.pipeline, self.request.scale)
        upscaler = Upscaler(self.card, rules.scale, None, device=self.device, network=network)
        enlarged, scores = self.card.input == "bicubic", []
        for name, sample in zip(self.validation.names, self.validation.samples, strict=True):
            if stop():
                return None
            try:
                output = upscaler(network_input(sample.lr, rules, enlarged=enlarged))
            except HarnessError:
                raise
            except Exception as error:  # a network may raise anything
                height, width = sample.lr.shape[:2]
                where = f"{name}, {width} x {height} LR pixels"
                if is_memory(error):
                    raise MemoryError(where) from error
                raise ValidationError(
                    f"The validation fails on {where} ({sentence(error)})"
                ) from error
            values = score(sr_image(output, sample), sample, rules, ("psnr", "ssim"))
            scores.append((name, values["psnr"], values["ssim"]))
        return Scores(tuple(scores))

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that must be equal to resume; images are compared by hash, not by name or path."""
        values, scale, hyper = asdict(self.recipe), self.request.scale, dict(self.request.hyper)
        return {
            "model": self.card.name,
            "scale": scale,
            "hyper": hyper,
            **{f"recipe.{name}": values[name] for name in values if name not in _NOT_COMPARED},
            "source": network_digest(self.card, scale, hyper),
            "images": self.images.sha256,
        }

    @property
    def validated_on(self) -> dict[str, Any]:
        """Identifies the validation images: scores on other images cannot be compared."""
        return {
            "count": self.recipe.val_images,
            "words": [os.path.normpath(word) for word in self.recipe.val_data],
            "folders": list(self.validation.folders),
            "sha256": self.validation.sha256,
        }


def validation_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A sentence for the user if the images to validate on have changed; empty if not.

    Compares `Training.validated_on` of the checkpoint with that of the resumed training.

    Raises:
        UsageError: the images differ, but have the same names.
    """
    if now["sha256"] == before["sha256"]:
        return ""
    if not now["sha256"]:
        return "Training continues without its earlier validation"
    if not before["sha256"]:
        return "Training is validated from now on"
    same_name = any(now[name] == before[name] for name in ("words", "folders"))
    if same_name and now["count"] == before["count"]:
        raise UsageError(
            f"The images of {', '.join(now['words'])} are not those that this training was "
            "validated on: restore them, or name others with --val-data."
        )
    return "The validation images have changed: the best weights are chosen again"


_NOT_COMPARED = ("name", "stop_after", "train_data", "val_data", "val_images")
"""Fields of a recipe that do not change weights, or only through the images."""


class TrainListener(typing.Protocol):
    """Receives the progress of a training."""

    def started(self, training: Training, step: int) -> None:
        """Training starts, or resumes after a step."""

    def logged(self, training: Training, row: LogRow, progress: float) -> None:
        """A line was added to the log."""

    def validated(self, training: Training, rows: Sequence[LogRow]) -> None:
        """The last line of the log has the scores of a validation."""

    def notify(self, sentence: str) -> None:
        """Receive a sentence for the user."""


@dataclass
class State:
    """The state of a training, besides the weights.

    Attributes:
        step: optimiser steps so far.
        seconds: training time so far.
        best: the highest validation PSNR so far, in dB.
        validated_from: the step after which all scores are means over the same images.
        left_out: indices of the validation images that have had an infinite PSNR.
        scores: the step and the scores of the last validation.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    validated_from: int = 0
    left_out: frozenset[int] = frozenset()
    scores: tuple[int, Scores] | None = None


@dataclass(frozen=True)
class ValidationImages:
    """The images that the average network is scored on; never from a test set.

    Attributes:
        names: the names of the files.
        samples: HR and LR images, in the same order.
        sha256: hash of the pixels of the HR images; empty without images.
        folders: the folders of the files.
        skipped: files that cannot be used, with the reason.
    """

    names: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    sha256: str = ""
    folders: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)


@dataclass(frozen=True)
class Scores:
    """PSNR (dB) and SSIM of each validation image, by its name."""

    images: tuple[tuple[str, float, float], ...]

    @property
    def infinite(self) -> frozenset[int]:
        """Indices of the images that the network reproduces exactly."""
        return frozenset(n for n, (_, psnr, _) in enumerate(self.images) if math.isinf(psnr))

    def means(self, left_out: Collection[int] = ()) -> tuple[float, float] | None:
        """Mean PSNR (dB) and SSIM over images with a finite PSNR and not ``left_out``, if any."""
        excluded = {*left_out, *self.infinite}
        included = [image for index, image in enumerate(self.images) if index not in excluded]
        if not included:
            return None
        _, psnrs, ssims = zip(*included, strict=True)
        return fmean(psnrs), fmean(ssims)


class ValidationError(HarnessError):
    """A network fails on a validation image; it may work on others."""
