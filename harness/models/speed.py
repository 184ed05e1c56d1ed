"""How long a network takes and how much memory it needs on the device at hand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError, sentence
from harness.models.complexity import input_size
from harness.models.inference import Upscaler
from harness.models.memory import peak_bytes, reset_peak

if TYPE_CHECKING:
    from harness.cards import ModelCard


@dataclass(frozen=True)
class Speed:
    """What one megapixel of output costs.

    Attributes:
        seconds: of the network alone, the fastest of several runs after a warm-up.
        bytes: the most memory held beyond the network and its input; None where the system does
            not tell.
    """

    seconds: float
    bytes: int | None


def measure_speed(
    card: ModelCard, scale: int, device: str, output_size: tuple[int, int], runs: int = 3
) -> Speed:
    """Run a network with random values on a random image, after one run that is not measured.

    Args:
        card: the model.
        scale: the factor.
        device: ``cpu`` or ``cuda``.
        output_size: width and height of the SR image.
        runs: timed runs.

    Raises:
        HarnessError: the network cannot be built, or fails on an image of that size.
        UsageError: the output is too small.
    """
    upscaler = Upscaler(card, scale, None, device=device)
    width, height = input_size(card, scale, output_size)
    image = np.random.default_rng(0).random((height, width, card.channels))
    try:
        upscaler(image)  # compiled kernels and threads cost memory once, whatever the size
    except HarnessError:
        raise
    except Exception as error:  # what a network raises may be anything
        raise HarnessError(
            f"{card.name} fails on {width} x {height} pixels ({sentence(error)}): choose another "
            "--time-size."
        ) from error
    before = reset_peak(device)  # also gives back what the first run left behind
    made = upscaler(image)
    peak = peak_bytes(device)
    megapixels = made.shape[0] * made.shape[1] / 1e6
    seconds = min(_seconds(upscaler, image) for _ in range(runs))
    used = None if before is None or peak is None else int((peak - before) / megapixels)
    return Speed(seconds / megapixels, used)


def _seconds(upscaler: Upscaler, image: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    begin = time.perf_counter()
    upscaler(image)  # brings the result to the CPU, and so waits for the device
    return time.perf_counter() - begin
