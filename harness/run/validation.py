"""Scoring a network under training, by the evaluation code itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

from harness.errors import HarnessError, sentence
from harness.models.resources import is_memory
from harness.models.upscaler import Upscaler
from harness.protocol import protocols

if TYPE_CHECKING:
    from torch import nn

    from harness.cards import ModelCard


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
