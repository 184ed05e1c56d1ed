"""What is trained, on what, and how; and how a network under training is scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from harness.data.training import TrainingImages
from harness.models.inference import Upscaler
from harness.models.weights import Weights
from harness.protocol import protocols
from harness.run.recipes import Recipe
from harness.specs import ModelCard


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how.

    Attributes:
        card: the network.
        scale: the factor.
        hyper: arguments of the network.
        recipe: see `Recipe`.
        images: what patches are cut from.
        validation: samples the average network is scored on; never of a test set.
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
    validation: Sequence[protocols.Sample]
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

    @property
    def skipped(self) -> dict[str, str]:
        """Why images are left out, by the names of their folders and files."""
        skipped = dict(self.images.skipped) | self.images.smaller_than(self.recipe.patch)
        return {f"{path.parent.name}/{path.name}": why for path, why in skipped.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """What must agree for a checkpoint to be continued."""
        same = {"model": self.card.name, "scale": self.scale, "hyper": dict(self.hyper)}
        values = {f"recipe.{k}": v for k, v in asdict(self.recipe).items() if k != "stop_after"}
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        source = {"source": self.card.source_digest(), "images": self.images.sha256}
        return same | lists | source


@dataclass
class State:
    """Everything that changes while training.

    Attributes:
        step: optimiser steps so far.
        seconds: of training so far.
        best: the highest validation PSNR so far, in dB.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf


def validate(training: Training, network: nn.Module) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM of a network on the validation samples."""
    upscaler = Upscaler(
        training.card, training.scale, None, device=training.device, network=network
    )
    rules, enlarged = training.rules, training.card.input == "bicubic"
    scores = []
    for sample in training.validation:
        output = upscaler(protocols.network_input(sample.lr, rules, enlarged=enlarged))
        sr = protocols.sr_image(output, sample)
        scores.append(protocols.score(sr, sample, rules, ("psnr", "ssim")))
    psnr, ssim = (sum(s[name] for s in scores) / len(scores) for name in ("psnr", "ssim"))
    return psnr, ssim
