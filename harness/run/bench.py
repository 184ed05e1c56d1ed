"""How fast the harness is on this machine, beside the bare network and a plain script."""

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

from harness.models.cost import measure_complexity
from harness.models.network import build_network, copy_network
from harness.models.resources import keep_freed, peak_bytes, reset_peak
from harness.models.weights import load_into
from harness.protocol.protocols import make_sample, network_input
from harness.run.evaluate import compute, prepare_image, upscaler

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.cards import ByteArray, FloatArray
    from harness.run.spec import Run


LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass(frozen=True)
class Roof:
    """What a device can do at most.

    Attributes:
        flops: floating-point operations a second, of a large fp32 matrix product.
        bandwidth: bytes a second, read and written, of a large copy.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Bench:
    """One model on one set. Seconds are of all its images, the median of the rounds.

    Attributes:
        model: its name.
        dataset: the set.
        images: how many.
        megapixels: of all SR images.
        forward: seconds of the bare network, inputs ready, in the faster layout.
        layout: that layout.
        harness: seconds of decoding, LR making, network and scores, as in ``harness run``.
        naive: seconds of the plain script; None where it was not asked for.
        over_forward: harness over forward, the median of the rounds.
        naive_over: naive over harness, the median of the rounds.
        difference: the largest difference of an image's PSNR (dB) between harness and script.
        flops: floating-point operations a second of the bare network; None if not countable.
        peak_bytes: memory held beyond what was held before; None if not known.
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
    """Multiply matrices of 2048 x 2048 and copy 256 MB, the best of five each."""
    a, b = (torch.rand(2048, 2048, device=device) for _ in range(2))
    source = torch.rand(64 * 2**20, device=device)
    target = torch.empty_like(source)
    product = min(_seconds(lambda: a @ b, device) for _ in range(5))
    copy = min(_seconds(lambda: target.copy_(source), device) for _ in range(5))
    return Roof(2 * 2048**3 / product, 2 * source.nbytes / copy)


def measure(run: Run, device: str, rounds: int, *, naive: bool) -> Bench:
    """Time a model on a set; the ways take turns, so that all meet the same machine.

    Args:
        run: what is carried out; nothing is recorded.
        device: ``cpu`` or ``cuda``.
        rounds: timed rounds, after one that warms up.
        naive: time the plain script as well.

    Raises:
        HarnessError: the network or an image does not fit.
    """
    keep_freed()
    network, images = upscaler(run, device), run.image_set.images
    held = reset_peak(device)
    psnr = {result.image: result.scores["psnr"] for result, _ in compute(run, images, network)}
    peak = peak_bytes(device)
    inputs = [network.batch(prepare_image(run, image).given) for image in images]
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
        model=run.card.name,
        dataset=run.image_set.card.name,
        images=len(images),
        megapixels=sum(one.size[0] * one.size[1] for one in images) / 1e6,
        forward=forward,
        layout=layout,
        harness=median(row["harness"] for row in times),
        naive=median(row["naive"] for row in times) if naive else None,
        over_forward=median(row["harness"] / row[layout] for row in times),
        naive_over=median(row["naive"] / row["harness"] for row in times) if naive else None,
        difference=difference,
        flops=operations / forward if operations else None,
        peak_bytes=None if held is None or peak is None else peak - held,
    )


def _forward(
    network: nn.Module, inputs: Sequence[Tensor], form: torch.memory_format
) -> Callable[[], None]:
    """Run a copy of the bare network on every input, weights and inputs laid out one way."""
    bare = copy_network(network).to(memory_format=form)  # type: ignore[call-overload]
    laid_out = [batch.contiguous(memory_format=form) for batch in inputs]

    def run() -> None:
        with torch.inference_mode():
            for batch in laid_out:
                bare(batch)

    return run


def _by_itself(script: Callable[[], object]) -> None:
    """Call a script with the memory allocation that it would have without the harness."""
    keep_freed(False)
    try:
        script()
    finally:
        keep_freed()


def _operations(run: Run, inputs: Sequence[Tensor]) -> int | None:
    """FLOPs of all forward passes, by the pixels of the inputs."""
    identity = run.identity
    counted = measure_complexity(
        run.card, identity.scale, identity.hyper, source_sha256=identity.source_sha256
    )
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
    """The run's network, as it is built."""
    network = build_network(run.card, run.rules.scale, run.identity.hyper)
    if run.weights:
        load_into(network, run.weights, run.card.name)
    return network.eval().to(device)


def naive_scores(run: Run, network: nn.Module, device: str) -> dict[str, float]:
    """PSNR of every image of the run's set, one after the other; SSIM is computed as well."""
    scores = {}
    edge = slice(run.rules.scale, -run.rules.scale)
    for image in run.image_set.images:
        sample = make_sample(np.asarray(Image.open(image.path)), run.rules)
        given = network_input(sample.lr, run.rules, enlarged=run.card.input == "bicubic")
        batch = torch.from_numpy(given.transpose(2, 0, 1).copy())[None].float().to(device)
        with torch.inference_mode():
            output = network(batch)[0].cpu().numpy().transpose(1, 2, 0)
        if sample.hr.ndim == 2:
            output = output.mean(axis=2)
        sr = np.clip(np.round(output.astype(np.float64) * 255), 0, 255).astype(np.uint8)
        pair = [_luma(picture)[edge, edge] for picture in (sr, sample.hr)]
        scores[image.name] = float(peak_signal_noise_ratio(*pair, data_range=255))
        structural_similarity(
            *pair,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
    return scores


def _luma(image: ByteArray) -> FloatArray:
    if image.ndim == 2:
        return image.astype(np.float64)
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255
