"""Super-resolving and scoring the images of a set, several at once."""

from __future__ import annotations

import io
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
from harness.protocol import protocols
from harness.record import ImageResult
from harness.run.spec import Run

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray, FloatArray
    from harness.data.identify import SetImage
    from harness.models.upscaler import Upscaler


Made = TypeVar("Made")

LARGE = 4_000_000
"""Pixels of an HR image from which on it has the whole machine."""


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
        sr: of the shape and dtype of ``sample.hr``.
        seconds: of the forward pass.
    """

    image: SetImage
    loaded: LoadedImage
    sample: protocols.Sample
    sr: AnyArray
    seconds: float


def upscaler(run: Run, device: str) -> Upscaler:
    """The run's network on a device.

    Raises:
        HarnessError: it cannot be built, or the weights do not fit.
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


def prepare_image(run: Run, image: SetImage) -> Prepared:
    """Read an image and make what the run's network is given.

    Raises:
        HarnessError: the image cannot be read, or changed.
    """
    loaded = _load(image.path, image.pixels_sha256)
    sample = protocols.make_sample(loaded.pixels, run.rules)
    if image.lr:
        lr = _load(image.lr.path, image.lr.pixels_sha256).pixels
        sample = replace(sample, lr=protocols.given_lr(lr, sample.hr, run.rules))
    enlarged = run.card.input == "bicubic"
    return Prepared(
        loaded, sample, protocols.network_input(sample.lr, run.rules, enlarged=enlarged)
    )


def upscale(
    run: Run,
    images: Sequence[SetImage],
    network: Upscaler,
    then: Callable[[Upscaled], Made],
    enough: Callable[[], bool] = bool,
) -> Generator[Made, None, None]:
    """Super-resolve images of a run's set, several at once, the largest first.

    On a CPU each image has a core of its own, as far as there are images; a GPU has one image
    at a time, while others are read and scored beside it.

    Args:
        run: decides the rules.
        images: of its set.
        network: from `upscaler`.
        then: what is done with each result on the same thread, such as scoring.
        enough: asked before each image but the first; once it says so, none is begun any more.

    Yields:
        what ``then`` gives, as images are finished.

    Raises:
        HarnessError: the network or an image does not fit, or memory runs out; see `Upscaler`.
    """
    import torch

    from harness.models.resources import instances, is_memory, keep_freed

    keep_freed()
    cores, on_cpu = torch.get_num_threads(), network.device.type == "cpu"
    # Of the whole set: the rest of a killed run, or a worker's part, gets as many threads an image.
    lanes = images_at_once(run.image_set.images, cores)
    networks = instances(network, lanes if on_cpu else 1)
    lanes = len(networks) if on_cpu else lanes
    free: SimpleQueue[Upscaler] = SimpleQueue()
    for one in networks:
        free.put(one)

    def work(image: SetImage) -> Made:
        ready = prepare_image(run, image)
        own = free.get()
        try:
            begin = time.perf_counter()
            sr = own.render(ready.given, lambda part: protocols.sr_image(part, ready.sample))
            seconds = time.perf_counter() - begin
        except Exception as error:  # what a network raises may be anything
            if run.tile is None or isinstance(error, HarnessError) or is_memory(error):
                raise
            raise HarnessError(
                f"{run.card.name} fails on {image.name} in tiles of {run.tile} LR pixels "
                f"({sentence(error)}): use a larger --tile, or none."
            ) from error
        finally:
            free.put(own)
        return then(Upscaled(image, ready.loaded, ready.sample, sr, seconds))

    def work_or_not(image: SetImage) -> Made | None:
        if image is not largest_first[0] and enough():
            return None
        try:
            return work(image)
        except Exception as error:
            if not is_memory(error):
                raise
            tile = f"a --tile smaller than {run.tile}" if run.tile else "--tile N"
            width, height = image.size
            raise HarnessError(
                f"Memory runs out on {image.name}, {width} x {height} pixels: use {tile}, which "
                "cuts images into tiles of N LR pixels."
            ) from error
        except BaseException as error:  # such as SystemExit; Ctrl-C never reaches this thread
            raise HarnessError(f"{run.title} tried to end the process ({error!r}).") from error

    largest_first = sorted(images, key=_area, reverse=True)
    for made in side_by_side(work_or_not, largest_first, lanes, max(1, cores // lanes)):
        if made is not None:
            yield made


def images_at_once(images: Sequence[SetImage], cores: int) -> int:
    """How many images are worked on at once."""
    largest = max(map(_area, images), default=0)
    return max(1, min(cores, len(images))) if largest < LARGE else 1


def _area(image: SetImage) -> int:
    return image.size[0] * image.size[1]


def _load(path: Path, sha256: str) -> LoadedImage:
    loaded = read_image(path)
    if loaded.sha256 != sha256:
        raise HarnessError(f"The image {path} changed while the run was under way: run again.")
    return loaded


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


Item = TypeVar("Item")

READY = 2
"""Items handed to the pool for each lane: one at work, and one that lies ready."""


def side_by_side(
    work: Callable[[Item], Made], items: Iterable[Item], lanes: int, threads: int
) -> Generator[Made, None, None]:
    """Call a function on items, several at once.

    After an error no item is begun any more; those under way are finished and given first.

    Args:
        work: what is done with each; releases Python's lock where time goes.
        items: taken in their order.
        lanes: how many at once.
        threads: of PyTorch, for each lane.

    Yields:
        what the calls give, as they end.

    Raises:
        Exception: the first that a call raised.
    """
    import torch

    before, waiting = torch.get_num_threads(), iter(items)
    broken: BaseException | None = None
    pool = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        pending = {pool.submit(work, item) for item in islice(waiting, READY * lanes)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                if future.exception() is None:
                    yield future.result()
            broken = broken or next(filter(None, (one.exception() for one in done)), None)
            if broken:
                pending = {one for one in pending if not one.cancel()}
            else:
                pending |= {pool.submit(work, item) for item in islice(waiting, len(done))}
        if broken:
            raise broken
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
