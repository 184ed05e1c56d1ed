"""Evaluating a model on images of a test set: what a run is, and its results one by one."""

from __future__ import annotations

import inspect
import io
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from harness.data.images import LoadedImage, read_image
from harness.errors import HarnessError
from harness.protocol import protocols
from harness.registry import METRICS
from harness.specs import Identity, ImageResult, digest, file_digest

if TYPE_CHECKING:
    from harness.data.benchmarks import Benchmark, BenchmarkImage
    from harness.models.inference import Upscaler
    from harness.models.weights import Weights
    from harness.specs import ByteArray, ModelCard, RunRecord


@dataclass(frozen=True)
class Run:
    """One model on one set under one protocol: all that decides the numbers.

    Attributes:
        weights: None for a model without parameters.
        metrics: registered names, ``psnr`` and ``ssim`` first.
    """

    card: ModelCard
    weights: Weights | None
    benchmark: Benchmark
    rules: protocols.Protocol
    self_ensemble: bool = False
    tile: int | None = None
    metrics: tuple[str, ...] = ("psnr", "ssim")

    @property
    def title(self) -> str:
        """What the run is called when people are told of it."""
        return f"{self.card.name} on {self.benchmark.card.title} ({self.rules.name})"

    @cached_property
    def identity(self) -> Identity:
        """The identity its record carries."""
        return Identity(
            model=self.card.name,
            scale=self.rules.scale,
            dataset=self.benchmark.card.name,
            protocol=self.rules.name,
            source_sha256=self.card.source_digest(),
            protocol_sha256=self.rules.sha256,
            dataset_sha256=self.benchmark.sha256,
            weights_sha256=self.weights.info.tensors_sha256 if self.weights else None,
            hyper=dict(self.weights.hyper) if self.weights else {},
            self_ensemble=self.self_ensemble,
            tile=self.tile,
            metrics=self.metrics,
            metrics_sha256=_metric_sources(self.metrics[2:]),
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


def _metric_sources(extra: Sequence[str]) -> str | None:
    """Hash of the files that define metrics beyond psnr and ssim, which the protocol covers."""
    paths = [Path(str(inspect.getsourcefile(METRICS.get(name)))) for name in extra]
    return digest([file_digest(path) for path in paths]) if paths else None


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
    run: Run, images: Sequence[BenchmarkImage], network: Upscaler, *, pictures: bool = False
) -> Generator[tuple[ImageResult, bytes | None], None, None]:
    """Super-resolve and score images of a run's set one by one.

    Yields:
        a result, and the SR image as a PNG file's bytes where ``pictures`` are wanted.
    """
    for made in upscale(run, images, network):
        picture = None
        if pictures:
            picture = _png(protocols.colour_image(made.sr, made.loaded.pixels, run.rules))
        scores = protocols.score(made.sr, made.sample, run.rules, run.metrics)
        yield ImageResult(made.image.name, scores, made.seconds, made.loaded.note), picture


@dataclass(frozen=True)
class Upscaled:
    """An image of a set and what a network made of it.

    Attributes:
        loaded: the HR image as it lies on the disk.
        sample: the HR and LR images under the run's rules.
        sr: uint8, of the shape of ``sample.hr``.
        seconds: of the forward pass.
    """

    image: BenchmarkImage
    loaded: LoadedImage
    sample: protocols.Sample
    sr: ByteArray
    seconds: float


def upscaler(run: Run, device: str) -> Upscaler:
    """The run's network on a device.

    Raises:
        HarnessError: it cannot be built, or the weights do not fit.
    """
    from harness.models.inference import Upscaler

    return Upscaler(
        run.card,
        run.rules.scale,
        run.weights,
        device=device,
        self_ensemble=run.self_ensemble,
        tile=run.tile,
    )


def upscale(run: Run, images: Sequence[BenchmarkImage], network: Upscaler) -> Iterator[Upscaled]:
    """Super-resolve images of a run's set one by one.

    Raises:
        HarnessError: the network or an image does not fit; see `Upscaler`.
    """
    for image in images:
        loaded = _load(image)
        sample = protocols.make_sample(loaded.pixels, run.rules)
        enlarged = run.card.input == "bicubic"
        given = protocols.network_input(sample.lr, run.rules, enlarged=enlarged)
        begin = time.perf_counter()
        output = network(given)
        seconds = time.perf_counter() - begin
        yield Upscaled(image, loaded, sample, protocols.sr_image(output, sample), seconds)


def _load(image: BenchmarkImage) -> LoadedImage:
    loaded = read_image(image.path)
    if loaded.sha256 != image.pixels_sha256:
        raise HarnessError(
            f"The image {image.path} changed while the run was under way: run again."
        )
    return loaded


def _png(pixels: ByteArray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
