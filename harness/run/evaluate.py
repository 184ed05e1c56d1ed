"""Evaluating a model on images of a test set: what a run is, and its results one by one."""

from __future__ import annotations

import inspect
import io
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar

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
    from harness.specs import ByteArray, FloatArray, ModelCard, RunRecord

Made = TypeVar("Made")

LARGE = 4_000_000
"""Pixels of an HR image from which on it has the whole machine."""


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
    run: Run,
    images: Sequence[BenchmarkImage],
    network: Upscaler,
    *,
    pictures: bool = False,
    until: float = math.inf,
) -> Generator[tuple[ImageResult, bytes | None], None, None]:
    """Super-resolve and score images of a run's set.

    Args:
        run: decides the rules and the metrics.
        images: of its set.
        network: from `upscaler`.
        pictures: make PNG files, too.
        until: no image is begun after this time of `time.monotonic`.

    Yields:
        a result, and the SR image as a PNG file's bytes where ``pictures`` are wanted, as images
        are finished.

    Raises:
        HarnessError: the network or an image does not fit; see `Upscaler`.
    """

    def scored(made: Upscaled) -> tuple[ImageResult, bytes | None]:
        picture = None
        if pictures:
            picture = _png(protocols.colour_image(made.sr, made.loaded.pixels, run.rules))
        scores = protocols.score(made.sr, made.sample, run.rules, run.metrics)
        return ImageResult(made.image.name, scores, made.seconds, made.loaded.note), picture

    return upscale(run, images, network, scored, until)


@dataclass(frozen=True)
class Prepared:
    """An image of a set, ready for a network.

    Attributes:
        loaded: the HR image as it lies on the disk.
        sample: the HR and LR images under the run's rules.
        given: what the network is given, float64 ``(h, w, C)``.
    """

    loaded: LoadedImage
    sample: protocols.Sample
    given: FloatArray


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


def prepare(run: Run, image: BenchmarkImage) -> Prepared:
    """Read an image and make what the run's network is given.

    Raises:
        HarnessError: the image cannot be read, or changed.
    """
    loaded = _load(image)
    sample = protocols.make_sample(loaded.pixels, run.rules)
    enlarged = run.card.input == "bicubic"
    return Prepared(
        loaded, sample, protocols.network_input(sample.lr, run.rules, enlarged=enlarged)
    )


def upscale(
    run: Run,
    images: Sequence[BenchmarkImage],
    network: Upscaler,
    then: Callable[[Upscaled], Made],
    until: float = math.inf,
) -> Generator[Made, None, None]:
    """Super-resolve images of a run's set, several at once, the largest first.

    On a CPU each image has a core of its own, as far as there are images; a GPU has one image
    at a time, while others are read and scored beside it.

    Args:
        run: decides the rules.
        images: of its set.
        network: from `upscaler`.
        then: what is done with each result on the same thread, such as scoring.
        until: no image is begun after this time of `time.monotonic`.

    Yields:
        what ``then`` gives, as images are finished.

    Raises:
        HarnessError: the network or an image does not fit; see `Upscaler`.
    """
    import torch

    from harness.models.memory import keep_freed
    from harness.run.lanes import side_by_side

    keep_freed()
    cores, on_cpu = torch.get_num_threads(), network.device.type == "cpu"
    lanes = lanes_for(images, cores)
    free: SimpleQueue[Upscaler] = SimpleQueue()
    for _ in range(lanes if on_cpu else 1):
        free.put(network.twin())

    def work(image: BenchmarkImage) -> Made:
        ready = prepare(run, image)
        own = free.get()
        try:
            begin = time.perf_counter()
            sr = own.render(ready.given, lambda part: protocols.sr_image(part, ready.sample))
            seconds = time.perf_counter() - begin
        finally:
            free.put(own)
        return then(Upscaled(image, ready.loaded, ready.sample, sr, seconds))

    largest_first = sorted(images, key=_area, reverse=True)
    in_time = takewhile(lambda _: time.monotonic() < until, largest_first)
    return side_by_side(work, in_time, lanes, max(1, cores // lanes))


def lanes_for(images: Sequence[BenchmarkImage], cores: int) -> int:
    """How many images are worked on at once."""
    largest = max(map(_area, images), default=0)
    return max(1, min(cores, len(images))) if largest < LARGE else 1


def _area(image: BenchmarkImage) -> int:
    return image.size[0] * image.size[1]


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
