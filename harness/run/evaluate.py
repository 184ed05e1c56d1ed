"""Evaluating a model on images of a test set: what a run is, and its results one by one."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from harness.models.source import metrics_digest, network_digest
from harness.protocol import protocols
from harness.record import Identity, ImageResult
from harness.run.upscaling import Upscaled, upscale

if TYPE_CHECKING:
    from harness.cards import ByteArray, ModelCard
    from harness.data.identify import ImageSet, SetImage
    from harness.models.upscaler import Upscaler
    from harness.models.weights import Weights
    from harness.record import RunRecord


@dataclass(frozen=True)
class Run:
    """One model on one set under one protocol: all that decides the numbers.

    Attributes:
        weights: None for a model without parameters.
        metrics: registered names, ``psnr`` and ``ssim`` first.
        asked_for: the model in whose place this one runs, if any.
    """

    card: ModelCard
    weights: Weights | None
    benchmark: ImageSet
    rules: protocols.Protocol
    self_ensemble: bool = False
    tile: int | None = None
    metrics: tuple[str, ...] = ("psnr", "ssim")
    asked_for: str = ""

    @property
    def title(self) -> str:
        """What the run is called when people are told of it."""
        return f"{self.card.name} on {self.benchmark.card.title} ({self.rules.name})"

    @cached_property
    def identity(self) -> Identity:
        """The identity its record carries."""
        from harness.models.upscaler import INFERENCE

        hyper = dict(self.weights.hyper) if self.weights else {}
        return Identity(
            model=self.card.name,
            scale=self.rules.scale,
            dataset=self.benchmark.card.name,
            protocol=self.rules.name,
            source_sha256=network_digest(self.card, self.rules.scale, hyper, self.weights),
            protocol_sha256=self.rules.sha256,
            dataset_sha256=self.benchmark.sha256,
            inference=INFERENCE,
            weights_sha256=self.weights.info.tensors_sha256 if self.weights else None,
            hyper=hyper,
            self_ensemble=self.self_ensemble,
            tile=self.tile,
            metrics=self.metrics,
            metrics_sha256=metrics_digest(self.metrics),
            lr_sha256=self.benchmark.lr_sha256,
        )


class Listener(Protocol):
    """Who is told how runs go; several may be under way at once."""

    def waiting(self, reason: str) -> None:
        """Nothing can be done for now, and why."""

    def started(self, run: Run, total: int, known: int) -> None:
        """A run begins; ``known`` of its ``total`` images need no work."""

    def image(self, run: Run, result: ImageResult) -> None:
        """An image is finished."""

    def ended(self, run: Run, record: RunRecord, computed: int) -> None:
        """A run ended with a record, after computing so many images."""


@dataclass(frozen=True)
class Options:
    """How runs are carried out, without influence on their numbers.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        force: compute finished runs again.
        save_images: the folder that gets the SR images, below ``x<scale>/<set>/<model>-<id12>``.
    """

    device: str = "auto"
    force: bool = False
    save_images: Path | None = None


def compute(
    run: Run,
    images: Sequence[SetImage],
    network: Upscaler,
    *,
    pictures: bool = False,
    enough: Callable[[], bool] = bool,
) -> Generator[tuple[ImageResult, bytes | None], None, None]:
    """Super-resolve and score images of a run's set.

    Args:
        run: decides the rules and the metrics.
        images: of its set.
        network: from `upscaler`.
        pictures: make PNG files, too.
        enough: asked before each image but the first; once it says so, none is begun any more.

    Yields:
        a result, and the SR image as a PNG file's bytes where ``pictures`` are wanted, as images
        are finished.

    Raises:
        HarnessError: the network or an image does not fit, see `Upscaler`; or a metric fails.
    """

    def scored(made: Upscaled) -> tuple[ImageResult, bytes | None]:
        picture = None
        if pictures:
            picture = _png(protocols.colour_image(made.sr, made.loaded.pixels, run.rules))
        name = made.image.name
        scores = protocols.score(made.sr, made.sample, run.rules, run.metrics, name)
        return ImageResult(name, scores, made.seconds, made.loaded.note), picture

    return upscale(run, images, network, scored, enough)


def _png(pixels: ByteArray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
