"""Time the harness on this machine, next to the bare network and a plain script."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harness.models.network import build_network, copy_network
from harness.models.resources import keep_freed, with_peak
from harness.models.weights import load_into
from harness.protocol.rules import make_sample, network_input
from harness.run.evaluate import compute, prepare_image, upscaler

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.cards import ByteArray, FloatArray
    from harness.run.spec import Run


LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass(frozen=True)
class Roof:
    """The peak performance of a device.

    Attributes:
        flops: FLOP/s of a large fp32 matrix product.
        bandwidth: bytes per second, read and written, of a large copy.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Bench:
    """Timings of one model on one set. Seconds are for all images, the median of the rounds.

    Attributes:
        images: the number of images.
        megapixels: the total size of all SR images.
        forward: seconds of the bare network on prepared inputs, in the faster layout.
        layout: the faster layout.
        harness: seconds of decoding, making LR images, network and scores, as in ``harness run``.
        naive: seconds of the plain script; None if it was not timed.
        over_forward: harness divided by forward, the median of the rounds.
        naive_over: naive divided by harness, the median of the rounds.
        difference: the largest difference of an image's PSNR (dB) between harness and script.
        flops: FLOP/s of the bare network; None if they cannot be counted.
        peak_bytes: peak memory above that held before; None if unknown.
    """

    model: str
    dataset: str
    images: int
    megapixels: float
    forward: float
    layout: str
    harness: float
    naive: float | None
    over_forward: float
    naive_over: float | None
    difference: float | None
    flops: float | None
    peak_bytes: int | None


def measure_roof(device: str) -> Roof:
    """Time a 2048 x 2048 matrix product and a copy of 256 MB, the best of five each."""
    a, b = (torch.rand(2048, 2048, device=device) for _ in range(2))
    source = torch.rand(64 * 2**20, device=device)
    target = torch.empty_like(source)
    product = min(_seconds(lambda: a @ b, device) for _ in range(5))
    copy = min(_seconds(lambda: target.copy_(source), device) for _ in range(5))
    return Roof(2 * 2048**3 / product, 2 * source.nbytes / copy)


def measure(run: Run, device: str, rounds: int, *, naive: bool) -> Bench:
    """Time a model on a set; each round times every way, so that all see the same load.

    Args:
        run: the run to time; nothing is recorded.
        device: ``cpu`` or ``cuda``.
        rounds: timed rounds, after a warm-up.
        naive: time the plain script as well.

    Raises:
        HarnessError: the network or an image does not fit.
    """
    keep_freed()
    network, images = upscaler(run, device), run.image_set.images
    results, peak = with_peak(device, lambda: list(compute(run, images, network)))
    psnr = {result.image: result.scores["psnr"] for result, _ in results}
    inputs = [network.batch(prepare_image(run, image)[-1]) for image in images]
    ways: dict[str, Callable[[], object]] = {"harness": lambda: list(compute(run, images, network))}
    ways |= {name: _forward(network.network, inputs, form) for name, form in LAYOUTS.items()}
    difference = None
    if naive:
        plain = naive_network(run, device)
        other = naive_scores(run, plain, device)
        difference = max(abs(psnr[name] - value) for name, value in other.items())
        ways["naive"] = lambda: _by_itself(lambda: naive_scores(run, plain, device))
    times = [{name: _seconds(way, device) for name, way in ways.items()} for _ in range(rounds)]
    layout = min(LAYOUTS, key=lambda name: median(row[name] for row in times))
    forward = median(row[layout] for row in times)
    operations = _operations(run, inputs)
    return Bench(
        model=run.name,
        dataset=run.image_set.card.name,
        images=len(images),
        megapixels=sum(image.size[0] * image.size[1] for image in images) / 1e6,
        forward=forward,
        layout=layout,
        harness=median(row["harness"] for row in times),
        naive=median(row["naive"] for row in times) if naive else None,
        over_forward=median(row["harness"] / row[layout] for row in times),
        naive_over=median(row["naive"] / row["harness"] for row in times) if naive else None,
        difference=difference,
        flops=operations / forward if operations else None,
        peak_bytes=peak,
    )


def _forward(
    network: nn.Module, inputs: Sequence[Tensor], form: torch.memory_format
) -> Callable[[], None]:
    """A function that runs a copy of the bare network on every input, in one memory format."""
    bare = copy_network(network).to(memory_format=form)  # type: ignore[call-overload]
    batches = [batch.contiguous(memory_format=form) for batch in inputs]

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                bare(batch)

    return run


def _by_itself(script: Callable[[], object]) -> None:
    """Call a script with the default memory allocation, as without the harness."""
    keep_freed(False)
    try:
        script()
    finally:
        keep_freed()


def _operations(run: Run, inputs: Sequence[Tensor]) -> int | None:
    """FLOPs of all forward passes, proportional to the pixels of the inputs."""
    counted = run.complexity()
    if not counted.macs:
        return None
    pixels = sum(batch.shape[2] * batch.shape[3] for batch in inputs)
    return 2 * counted.macs * pixels // (counted.input_size[0] * counted.input_size[1])


def _seconds(action: Callable[[], object], device: str) -> float:
    begin = time.perf_counter()
    action()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def naive_network(run: Run, device: str) -> nn.Module:
    """The run's network, without the preparations of the harness."""
    network = build_network(run.card, run.rules.scale, run.identity.hyper)
    if run.weights:
        load_into(network, run.weights, run.card.name)
    return network.eval().to(device)


def naive_scores(run: Run, network: nn.Module, device: str) -> dict[str, float]:
    """Score every image of the run's set, one after the other; return the PSNRs by name."""
    scores = {}
    edge = slice(run.rules.scale, -run.rules.scale)
    for image in run.image_set.images:
        sample = make_sample(np.asarray(Image.open(image.path)), run.rules)
        pixels = network_input(sample.lr, run.rules, enlarged=run.card.input == "bicubic")
        batch = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float().to(device)
        with torch.inference_mode():
            output = network(batch)[0].cpu().numpy().transpose(1, 2, 0)
        if sample.hr.ndim == 2:
            output = output.mean(axis=2)
        sr = np.clip(np.round(output.astype(np.float64) * 255), 0, 255).astype(np.uint8)
        pair = [_luma(picture)[edge, edge] for picture in (sr, sample.hr)]
        scores[image.name] = float(peak_signal_noise_ratio(*pair, data_range=255))
        structural_similarity(
            *pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
    return scores


def _luma(image: ByteArray) -> FloatArray:
    if image.ndim == 2:
        return image.astype(np.float64)
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255
