"""Scoring a network under training, by the evaluation code itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from harness.errors import HarnessError, sentence
from harness.models.inference import Upscaler
from harness.protocol import protocols
from harness.run.devices import is_memory

if TYPE_CHECKING:
    from torch import nn

    from harness.specs import ModelCard


@dataclass(frozen=True)
class ValidationImages:
    """What the average network is scored on; never of a test set.

    Attributes:
        names: of the files.
        samples: HR and LR images, in the same order.
        sha256: over the pixels of the HR images; empty without images.
        skipped: files that cannot be used, with the reason.
    """

    names: tuple[str, ...] = ()
    samples: tuple[protocols.Sample, ...] = ()
    sha256: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.names)


@dataclass(frozen=True)
class Scores:
    """PSNR (dB) and SSIM of each validation image, by its name."""

    images: tuple[tuple[str, float, float], ...]

    @property
    def infinite(self) -> list[str]:
        """The images that the network gives back exactly: no mean can hold their PSNR."""
        return [name for name, psnr, _ in self.images if math.isinf(psnr)]

    @property
    def means(self) -> tuple[float, float] | None:
        """Mean PSNR (dB) and SSIM over the other images; None if there are none."""
        finite = [(psnr, ssim) for _, psnr, ssim in self.images if math.isfinite(psnr)]
        if not finite:
            return None
        psnrs, ssims = zip(*finite, strict=True)
        return fmean(psnrs), fmean(ssims)


class ValidationError(HarnessError):
    """A network cannot be scored on one of the validation images."""


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
        network: is put into evaluation mode, and may keep what it computes: give a copy.
        card: what it is.
        rules: of its pipeline, at its scale.
        device: where it runs.
        enough: asked before each image; once it says so, the validation is broken off.

    Returns:
        the scores; None where they are not complete.

    Raises:
        ValidationError: what the network makes of an image cannot be scored, naming it.
    """
    upscaler = Upscaler(card, rules.scale, None, device=device, network=network)
    enlarged, scores = card.input == "bicubic", []
    for name, sample in zip(images.names, images.samples, strict=True):
        if enough():
            return None
        try:
            output = upscaler(protocols.network_input(sample.lr, rules, enlarged=enlarged))
        except Exception as error:  # what a network raises may be anything
            if is_memory(error):
                raise
            height, width = sample.lr.shape[:2]
            raise ValidationError(
                f"The validation fails on {name}, {width} x {height} LR pixels ({sentence(error)})"
            ) from error
        sr = protocols.sr_image(output, sample)
        made = protocols.score(sr, sample, rules, ("psnr", "ssim"))
        scores.append((name, made["psnr"], made["ssim"]))
    return Scores(tuple(scores))
