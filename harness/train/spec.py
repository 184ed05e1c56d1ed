"""What is trained, on what and how, who is told of it, and how it is validated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from torch import device, nn

from harness.cards import ModelCard
from harness.data.trainsets import TrainingImages
from harness.errors import HarnessError, UsageError, sentence
from harness.global_state import numerics_kept, random_state_kept
from harness.models.network import copy_network
from harness.models.resources import is_memory
from harness.models.source import network_digest
from harness.models.upscaler import Upscaler
from harness.models.weights import Weights
from harness.protocol import protocols
from harness.train.checkpoint import LogRow
from harness.train.distributed import Deadline
from harness.train.recipe import Recipe


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
        origin: where those came from, see `harness.train.checkpoint`.
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
        """Score a network on the validation images, see `harness.train.spec.validate`."""
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

    def logged(self, training: Training, row: LogRow, progress: float) -> None:
        """A line was added to the log."""

    def validated(self, training: Training, rows: Sequence[LogRow]) -> None:
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


@dataclass(frozen=True)
class ValidationImages:
    """What the average network is scored on; never of a test set.

    Attributes:
        names: of the files.
        samples: HR and LR images, in the same order.
        sha256: over the pixels of the HR images; empty without images.
        folders: where they lie.
        skipped: files that cannot be used, with the reason.
    """

    names: tuple[str, ...] = ()
    samples: tuple[protocols.Sample, ...] = ()
    sha256: str = ""
    folders: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.names)


@dataclass(frozen=True)
class Scores:
    """PSNR (dB) and SSIM of each validation image, by its name."""

    images: tuple[tuple[str, float, float], ...]

    @property
    def infinite(self) -> frozenset[int]:
        """The numbers of the images that the network gives back exactly."""
        return frozenset(n for n, (_, psnr, _) in enumerate(self.images) if math.isinf(psnr))

    def names(self, numbers: Iterable[int]) -> str:
        """The names of images, to be printed."""
        return ", ".join(self.images[number][0] for number in sorted(numbers))

    def means(self, left_out: Collection[int] = ()) -> tuple[float, float] | None:
        """Mean PSNR (dB) and SSIM over images whose PSNR is finite; None if there are none.

        Args:
            left_out: the numbers of others that are no part of the means.
        """
        without = {*left_out, *self.infinite}
        kept = [image for number, image in enumerate(self.images) if number not in without]
        if not kept:
            return None
        _, psnrs, ssims = zip(*kept, strict=True)
        return fmean(psnrs), fmean(ssims)


class ValidationError(HarnessError):
    """A network fails on one of the validation images, and might not on others."""


def validate(
    images: ValidationImages,
    network: nn.Module,
    card: ModelCard,
    rules: protocols.Protocol,
    *,
    device: str,
    enough: Callable[[], bool] = bool,
) -> Scores | None:
    """Score a network on the validation images.

    Args:
        images: to score it on.
        network: is put into evaluation mode, and its forward pass may change its buffers: pass a
            copy.
        card: what it is.
        rules: of its pipeline, at its scale.
        device: where it runs.
        enough: asked before each image; once it says so, the validation is broken off.

    Returns:
        the scores; None where they are not complete.

    Raises:
        ValidationError: the network fails on an image, which is named.
        HarnessError: it makes something that is not an image of the right size.
        MemoryError: memory is short; its message names the image.
    """
    upscaler = Upscaler(card, rules.scale, None, device=device, network=network)
    enlarged, scores = card.input == "bicubic", []
    for name, sample in zip(images.names, images.samples, strict=True):
        if enough():
            return None
        try:
            output = upscaler(protocols.network_input(sample.lr, rules, enlarged=enlarged))
        except HarnessError:
            raise
        except Exception as error:  # what a network raises may be anything
            height, width = sample.lr.shape[:2]
            where = f"{name}, {width} x {height} LR pixels"
            if is_memory(error):
                raise MemoryError(where) from error
            raise ValidationError(f"The validation fails on {where} ({sentence(error)})") from error
        sr = protocols.sr_image(output, sample)
        made = protocols.score(sr, sample, rules, ("psnr", "ssim"))
        scores.append((name, made["psnr"], made["ssim"]))
    return Scores(tuple(scores))


class Validator:
    """Scores the average network, and leaves that out where time or memory is short.

    Args:
        training: what is trained; without validation images, once they are left out.
        deadline: what a validation must leave time for.
        told: gets sentences for the user.
    """

    def __init__(self, training: Training, deadline: Deadline, told: Callable[[str], None]) -> None:
        self.training = training
        self._deadline, self._told = deadline, told

    def first(self, network: nn.Module, step: int, enough: Callable[[], bool]) -> Scores | None:
        """Try a validation before there is anything to lose, and say from where training starts.

        Before a deadline, one that takes too long is left out for good. Arguments, result and
        errors are those of a call.
        """
        count = len(self.training.validation)
        self._told(f"The network is scored on {count} image{'' if count == 1 else 's'} first")
        scores = self(network, step, enough)
        if scores and (means := scores.means()):
            psnr, ssim = means
            self._told(f"The validation begins at {psnr:.3f} dB / {ssim:.4f}")
        seconds = self._deadline.longest("validation")
        if self.training.validation and self._deadline.left() < 2 * seconds:
            self._leave_out(f"It takes {seconds:.0f} s, too long for the time left")
        return scores

    def __call__(self, network: nn.Module, step: int, enough: Callable[[], bool]) -> Scores | None:
        """Score a network by the evaluation code itself, in fp32; nothing of it is changed.

        Args:
            network: to score.
            step: that is in the checkpoint; 0 where there is none.
            enough: see `harness.train.spec.validate`.

        Returns:
            the scores; None where it was broken off, or left out for lack of memory.

        Raises:
            HarnessError: it cannot be scored on one of the images.
        """
        where = device(self.training.device)
        try:
            with numerics_kept(), random_state_kept(where), self._deadline.measured("validation"):
                # A copy: to be scored it may be moved, and a recorded step writes where it lay.
                return self.training.validate(copy_network(network), enough)
        except ValidationError as error:
            saved = f"step {step} is saved, go on with --resume and" if step else "use"
            raise HarnessError(
                f"{error}: {saved} other images (--val-data) or none (--set val_images=0)."
            ) from error
        except Exception as error:  # what a network raises may be anything
            if not is_memory(error):
                raise
            image = f" on {error}" if isinstance(error, MemoryError) else ""
            self._leave_out(f"The memory of {where} is too small to validate{image}")
        return None

    def _leave_out(self, why: str) -> None:
        self._deadline.leave_out("validation")
        self.training = replace(self.training, validation=ValidationImages())
        self._told(f"{why}: training goes on without validation")
