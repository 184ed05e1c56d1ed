"""Evaluating models on test sets: from a request to run records."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from harness.data.images import LoadedImage, read_image
from harness.errors import HarnessError
from harness.protocol import protocols
from harness.registry import METRICS
from harness.specs import Execution, Identity, ImageResult, RunRecord, digest, file_digest

if TYPE_CHECKING:
    from harness.data.benchmarks import Benchmark, BenchmarkImage
    from harness.models.weights import Weights
    from harness.run.store import ResultStore
    from harness.specs import ByteArray, ModelCard


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
    """Who is told how a run goes."""

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


def evaluate(run: Run, store: ResultStore, listener: Listener, options: Options) -> RunRecord:
    """Carry a run out, or find its record.

    Images that a finished record or a journal knows are not computed again. A run that breaks
    leaves a record with the error, unless that would replace a finished one.

    Raises:
        HarnessError: a record or journal cannot be read or written.
        UsageError: no such device.
    """
    stored = store.finished(run.identity)
    finished = None if options.force else stored
    results = {result.image: result for result in finished.images} if finished else {}
    if finished and not _todo(run, results, store, options):
        listener.started(run, len(results), len(results))
        listener.ended(run, finished, 0)
        return finished
    execution = _execution(options)
    journal = store.journal(run.identity, execution)
    if not finished and not options.force:
        results = {result.image: result for result in journal.read()}
    todo = _todo(run, results, store, options)
    listener.started(run, len(run.benchmark.images), len(run.benchmark.images) - len(todo))
    journal.start(list(results.values()))
    error = ""
    try:
        for image, result in _compute(run, todo, store, options, execution):
            if image.name not in results:
                results[image.name] = result
                journal.append(result)
            listener.image(run, result)
    except Exception as broken:  # a plug-in may raise anything; the other runs go on
        known = isinstance(broken, HarnessError)
        error = str(broken) if known else f"{type(broken).__name__}: {broken}"
    if finished:
        record = replace(finished, status="error" if error else finished.status, error=error)
    else:
        record = _record(run, results, execution, error)
        if not (error and stored):
            store.write(record)
    if not error or stored:
        journal.remove()
    listener.ended(run, record, len(todo))
    return record


def picture_path(folder: Path, store: ResultStore, identity: Identity, image: str) -> Path:
    """Where the SR image of a run is saved."""
    run = store.path(identity).relative_to(store.root).with_suffix("")
    return folder / run / f"{image}.png"


def _todo(
    run: Run, results: Mapping[str, ImageResult], store: ResultStore, options: Options
) -> list[BenchmarkImage]:
    """Images without a result or, where pictures are wanted, without a picture."""

    def lacks_picture(name: str) -> bool:
        folder = options.save_images
        return bool(folder and not picture_path(folder, store, run.identity, name).exists())

    return [i for i in run.benchmark.images if i.name not in results or lacks_picture(i.name)]


def _execution(options: Options) -> Execution:
    import torch

    from harness.models.inference import pick_device

    return Execution(pick_device(options.device), torch.get_num_threads())


def _compute(
    run: Run,
    todo: Sequence[BenchmarkImage],
    store: ResultStore,
    options: Options,
    execution: Execution,
) -> Iterator[tuple[BenchmarkImage, ImageResult]]:
    """Super-resolve and score the images one by one."""
    for made in upscale(run, todo, execution.device):
        if options.save_images:
            path = picture_path(options.save_images, store, run.identity, made.image.name)
            _save(protocols.colour_image(made.sr, made.loaded.pixels, run.rules), path)
        scores = protocols.score(made.sr, made.sample, run.rules, run.metrics)
        yield made.image, ImageResult(made.image.name, scores, made.seconds, made.loaded.note)


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


def upscale(run: Run, images: Sequence[BenchmarkImage], device: str) -> Iterator[Upscaled]:
    """Super-resolve images of a run's set one by one.

    Raises:
        HarnessError: the network or an image does not fit; see `Upscaler`.
    """
    from harness.models.inference import Upscaler

    upscaler = Upscaler(
        run.card,
        run.rules.scale,
        run.weights,
        device=device,
        self_ensemble=run.self_ensemble,
        tile=run.tile,
    )
    for image in images:
        loaded = _load(image)
        sample = protocols.make_sample(loaded.pixels, run.rules)
        enlarged = run.card.input == "bicubic"
        given = protocols.network_input(sample.lr, run.rules, enlarged=enlarged)
        begin = time.perf_counter()
        output = upscaler(given)
        seconds = time.perf_counter() - begin
        yield Upscaled(image, loaded, sample, protocols.sr_image(output, sample), seconds)


def _load(image: BenchmarkImage) -> LoadedImage:
    loaded = read_image(image.path)
    if loaded.sha256 != image.pixels_sha256:
        raise HarnessError(
            f"The image {image.path} changed while the run was under way: run again."
        )
    return loaded


def _save(pixels: ByteArray, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(partial, "PNG")
        partial.replace(path)
    except OSError as error:
        raise HarnessError(f"The picture {path} cannot be written ({error}).") from error


def _record(
    run: Run, results: Mapping[str, ImageResult], execution: Execution, error: str
) -> RunRecord:
    from harness.models.complexity import measure_complexity
    from harness.run.provenance import provenance

    size = None
    if not error:
        size = measure_complexity(run.card, run.rules.scale, run.identity.hyper)
    return RunRecord(
        identity=run.identity,
        status="error" if error else "finished",
        images=tuple(results[i.name] for i in run.benchmark.images if i.name in results),
        execution=execution,
        provenance=provenance(execution.device),
        weights=run.weights.info if run.weights else None,
        parameters=size.parameters if size else None,
        macs=size.macs if size else None,
        macs_input_size=size.input_size if size else None,
        verified=run.benchmark.verified,
        error=error,
    )
