"""Super-resolve and score the images of a set, several at once."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from PIL import Image

from harness.data.images import LoadedImage, read_image
from harness.errors import HarnessError, sentence
from harness.protocol.rules import (
    Sample,
    colour_image,
    given_lr,
    given_sr,
    make_sample,
    network_input,
    score,
    sr_image,
)
from harness.record import ImageResult, finite_mean
from harness.run.spec import Run

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray, FloatArray
    from harness.data.identify import SetImage
    from harness.models.published import PublishedImages
    from harness.models.upscaler import Upscaler


Result = TypeVar("Result")

LARGE = 4_000_000
"""HR images with at least this many pixels run one at a time, on all cores."""


SAME_PSNR = 1e-9
"""Largest difference (dB) between the PSNR in a record and that of its saved SR image."""


@dataclass(frozen=True)
class Upscaled:
    """An image of a set and its SR image.

    Attributes:
        loaded: the HR image as stored on disk.
        sample: the HR and LR images under the run's rules.
        sr: the SR image, with the shape and dtype of ``sample.hr``.
        seconds: the time of the forward pass; 0 for a published image.
    """

    image: SetImage
    loaded: LoadedImage
    sample: Sample
    sr: AnyArray
    seconds: float


def upscaler(run: Run, device: str) -> Upscaler:
    """The run's network on a device.

    Raises:
        HarnessError: the network cannot be built, or the weights do not fit it.
    """
    from harness.models.upscaler import Upscaler

    return Upscaler(
        run.card,
        run.rules.scale,
        run.weights,
        device=device,
        self_ensemble=run.self_ensemble,
        tile=run.tile,
    )


def prepare_image(run: Run, image: SetImage) -> tuple[LoadedImage, Sample, FloatArray]:
    """Read an image and make the input of the run's network.

    Returns:
        the HR image as stored on disk; the HR and LR images under the run's rules; the input of the
        network, float64 ``(h, w, C)``.

    Raises:
        HarnessError: the image cannot be read, or has changed.
    """
    loaded = _load(image.path, image.pixels_sha256)
    sample = make_sample(loaded.pixels, run.rules)
    if image.lr:
        lr = _load(image.lr.path, image.lr.pixels_sha256).pixels
        sample = replace(sample, lr=given_lr(lr, sample.hr, run.rules))
    enlarged = run.card.input == "bicubic"
    return loaded, sample, network_input(sample.lr, run.rules, enlarged=enlarged)


def upscale(
    run: Run,
    images: Sequence[SetImage],
    network: Upscaler | None,
    finish: Callable[[Upscaled], Result],
    stop: Callable[[], bool] = bool,
) -> Generator[Result, None, None]:
    """Super-resolve images of a run's set, several at once, the largest first.

    On a CPU the images share the cores, at best one core per image. A GPU processes one image at
    a time, while other images are read and scored on the CPU.

    Args:
        run: the run, which sets the rules.
        images: images of its set.
        network: the network, from `upscaler`; None to read the run's published images.
        finish: called with each SR image on the same thread, for example to score it.
        stop: called before each image; when it returns true, no image is begun.

    Yields:
        the results of ``finish``, as images are finished.

    Raises:
        HarnessError: the network or an image does not fit, or memory runs out; see `Upscaler`.
    """
    import torch

    from harness.models.resources import instances, is_memory, keep_freed

    keep_freed()
    cores = torch.get_num_threads()
    # Count the whole set: a resumed run and a worker's shard use as many threads per image.
    lanes = images_at_once(run, cores)
    free: SimpleQueue[Upscaler] = SimpleQueue()
    if network:
        on_cpu = network.device.type == "cpu"
        networks = instances(network, lanes if on_cpu else 1)
        lanes = len(networks) if on_cpu else lanes
        for copy in networks:
            free.put(copy)

    def process(image: SetImage) -> Result:
        if run.published:
            return finish(_published(run, run.published, image))
        loaded, sample, pixels = prepare_image(run, image)
        own = free.get()
        try:
            begin = time.perf_counter()
            sr = own(pixels, lambda part: sr_image(part, sample))
            seconds = time.perf_counter() - begin
        except Exception as error:  # a network may raise anything
            if run.tile is None or isinstance(error, HarnessError) or is_memory(error):
                raise
            raise HarnessError(
                f"{run.card.name} fails on {image.name} in tiles of {run.tile} LR pixels "
                f"({sentence(error)}): use a larger --tile, or none."
            ) from error
        finally:
            free.put(own)
        return finish(Upscaled(image, loaded, sample, sr, seconds))

    def process_unless_stopped(image: SetImage) -> Result | None:
        if stop():
            return None
        try:
            return process(image)
        except Exception as error:
            if not is_memory(error):
                raise
            tile = f"a --tile smaller than {run.tile}" if run.tile else "--tile N"
            width, height = image.size
            raise HarnessError(
                f"Memory runs out on {image.name}, {width} x {height} pixels: use {tile}, with "
                "which harness run cuts images into tiles of N LR pixels."
            ) from error
        except BaseException as error:  # such as SystemExit; Ctrl-C never reaches this thread
            raise HarnessError(f"{run.title} tried to end the process ({error!r}).") from error

    threads, ordered = max(1, cores // lanes), largest_first(images)
    for result in side_by_side(process_unless_stopped, ordered, lanes, threads):
        if result is not None:
            yield result


def _published(run: Run, published: PublishedImages, image: SetImage) -> Upscaled:
    """Read a published SR image and its HR image."""
    loaded = _load(image.path, image.pixels_sha256)
    given = _load(*published.images[image.name])
    sr = given_sr(given.pixels, loaded.pixels, run.rules)
    return Upscaled(image, loaded, make_sample(loaded.pixels, run.rules), sr, 0.0)


def images_at_once(run: Run, cores: int) -> int:
    """How many images of a run's set are processed at once."""
    images = run.image_set.images
    return min(cores, len(images)) if _area(largest_first(images)[0]) < LARGE else 1


def largest_first(images: Sequence[SetImage]) -> list[SetImage]:
    """The images in the order in which they are processed."""
    return sorted(images, key=_area, reverse=True)


def _area(image: SetImage) -> int:
    return image.size[0] * image.size[1]


def _load(path: Path, sha256: str) -> LoadedImage:
    loaded = read_image(path)
    if loaded.sha256 != sha256:
        raise HarnessError(f"The image {path} changed during the run: run again.")
    return loaded


def compute(
    run: Run,
    images: Sequence[SetImage],
    network: Upscaler | None,
    *,
    pictures: bool = False,
    stop: Callable[[], bool] = bool,
) -> Generator[tuple[ImageResult, bytes | None], None, None]:
    """Super-resolve images of a run's set as `upscale` does, and score them by the run's metrics.

    Yields:
        the result of each finished image and, with ``pictures``, the bytes of its PNG file.

    Raises:
        HarnessError: the network or an image does not fit, see `Upscaler`; or a metric fails.
    """

    def score_image(done: Upscaled) -> tuple[ImageResult, bytes | None]:
        picture = None
        if pictures:
            picture = _png(colour_image(done.sr, done.loaded.pixels, run.rules))
        name = done.image.name
        scores = score(done.sr, done.sample, run.rules, run.metrics, name)
        return ImageResult(name, scores, done.seconds, done.loaded.note), picture

    return upscale(run, images, network, score_image, stop)


def score_saved(run: Run, image: SetImage, known: ImageResult, path: Path) -> ImageResult:
    """Compute the metrics that a result lacks from its saved SR image, without the network.

    Args:
        run: a run in the ``rgb`` pipeline, whose SR images are saved as they are scored.
        image: an image of its set.
        known: the result of the same image in a run with fewer metrics.
        path: the SR image that this run saved.

    Returns:
        the result with all metrics of the run.

    Raises:
        HarnessError: an image cannot be read, the saved one does not have the known PSNR, or a
            metric fails.
    """
    sample = make_sample(_load(image.path, image.pixels_sha256).pixels, run.rules)
    sr = read_image(path).pixels
    lacking = [name for name in run.metrics if name not in known.scores]
    same = sr.shape == sample.hr.shape
    scores = score(sr, sample, run.rules, ("psnr", *lacking), image.name) if same else {}
    psnr = scores.get("psnr", math.nan)
    if not math.isclose(psnr, known.scores["psnr"], rel_tol=0, abs_tol=SAME_PSNR):
        raise HarnessError(f"{path} does not have the PSNR of its record.")
    scores |= known.scores
    return replace(known, scores={name: scores[name] for name in run.metrics})


def bicubic_psnr(run: Run, images: Sequence[SetImage]) -> float:
    """Mean PSNR (dB) of the bicubic enlargement of images of a run's set, under its rules.

    Raises:
        HarnessError: an image cannot be read, or has changed.
    """
    scores = []
    for image in images:
        _, sample, _ = prepare_image(run, image)
        sr = sr_image(network_input(sample.lr, run.rules, enlarged=True), sample)
        scores.append(score(sr, sample, run.rules, ("psnr",), image.name)["psnr"])
    return finite_mean(scores)


def _png(pixels: ByteArray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


Item = TypeVar("Item")

READY = 2
"""Items submitted to the pool per lane: one in progress and one waiting."""


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], lanes: int, threads: int
) -> Generator[Result, None, None]:
    """Call a function on items, several at once.

    After an error no further item is begun; the items in progress are finished and yielded first.

    Args:
        function: called with each item; should spend most of its time without the GIL.
        items: the items, taken in order.
        lanes: how many calls run at once.
        threads: PyTorch threads of each lane.

    Yields:
        the results, as the calls end.

    Raises:
        Exception: the first that a call raised.
    """
    import torch

    before, remaining = torch.get_num_threads(), iter(items)
    failure: BaseException | None = None
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        pending = {pool.submit(function, item) for item in islice(remaining, READY * lanes)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                if future.exception() is None:
                    yield future.result()
            failure = failure or next(filter(None, (call.exception() for call in done)), None)
            if failure:
                pending = {call for call in pending if not call.cancel()}
            else:
                pending |= {pool.submit(function, item) for item in islice(remaining, len(done))}
        if failure:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
