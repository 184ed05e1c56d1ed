"""Testing a model plug-in against the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.errors import HarnessError
from harness.models.complexity import count_parameters
from harness.models.concurrency import KEEPS, disturbance
from harness.models.inference import Upscaler
from harness.models.installed import WeightsMissing, find_weights
from harness.specs import ModelCard

ODD_SIZES = ((33, 47), (48, 31), (41, 41))
TILE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finding:
    """One line of the contract, whether it holds, and what was seen."""

    rule: str
    holds: bool
    seen: str


def check_model(card: ModelCard, scale: int) -> Iterator[Finding]:
    """Run a network on small odd-sized images and compare with what its card declares.

    Weights are used when there are some; a fresh network otherwise.

    Raises:
        HarnessError: the network cannot be built or the weights do not fit.
    """
    try:
        weights = find_weights(card, scale)
        trained = True
    except WeightsMissing:
        weights, trained = None, False
    upscaler = Upscaler(card, scale, weights)
    yield _parameters(card, scale, upscaler)
    outputs = [_output(card, upscaler, *size, trained=trained) for size in ODD_SIZES]
    yield from outputs
    if not all(finding.holds for finding in outputs):
        return
    yield _repeats(card, upscaler)
    yield _side_by_side(upscaler)
    yield Finding(
        "torch's settings stay as they are",
        not upscaler.changed,
        f"{' and '.join(sorted(upscaler.changed)) or 'nothing'} changed",
    )
    if not card.global_pooling:
        yield _tiles(card, upscaler)


def _image(
    card: ModelCard, height: int, width: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A smooth image with some texture, the same every time."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, height)[:, None, None] * np.linspace(0.5, 1.0, width)[:, None]
    return np.clip(ramp + rng.normal(0, 0.05, (height, width, card.channels)), 0, 1)


def _parameters(card: ModelCard, scale: int, upscaler: Upscaler) -> Finding:
    count = count_parameters(upscaler.network)
    declared = card.params is not None and scale == max(card.scales)
    said = f", {card.params:,} declared" if declared else ", none declared for this scale"
    return Finding("parameter count", not declared or count == card.params, f"{count:,}{said}")


def _output(
    card: ModelCard, upscaler: Upscaler, height: int, width: int, *, trained: bool
) -> Finding:
    """Size and kind of the output; its range says something only of a trained network."""
    rule = f"{width} x {height} pixels become x{upscaler.factor}, within -0.5 to 1.5 when trained"
    try:
        output = upscaler(_image(card, height, width))
    except HarnessError as error:
        return Finding(rule, False, str(error))
    except Exception as error:  # an outsider's code may raise anything
        return Finding(rule, False, f"{type(error).__name__}: {error}")
    low, high = float(output.min()), float(output.max())
    floating = output.dtype in (np.float32, np.float64)
    in_range = not trained or (low > -0.5 and high < 1.5)
    seen = f"{output.dtype}, {low:.2f} to {high:.2f}{'' if trained else ' (untrained)'}"
    return Finding(rule, floating and in_range, seen)


def _repeats(card: ModelCard, upscaler: Upscaler) -> Finding:
    image = _image(card, *ODD_SIZES[0])
    worst = float(np.abs(upscaler(image) - upscaler(image)).max())
    return Finding("the same image gives the same output", worst == 0, f"differs by {worst:.1e}")


def _side_by_side(upscaler: Upscaler) -> Finding:
    """Copies that would be disturbed are slower, not wrong: the network then runs alone."""
    found = disturbance(upscaler)
    seen = f"no, {found}{'' if found == KEEPS else ': it runs alone'}" if found else "yes"
    return Finding("copies may run side by side", found != KEEPS, seen)


def _tiles(card: ModelCard, upscaler: Upscaler) -> Finding:
    """Compare two tiles, neither of which sees the whole image, with the image at once."""
    upscaler.use_tiles(1)
    side = upscaler.overlap // upscaler.tile + 4 if upscaler.tile else 1
    per_tile = side * upscaler.scale // upscaler.factor
    image = _image(card, 12, 2 * per_tile)
    upscaler.tile = None
    whole = upscaler(image)
    upscaler.use_tiles(side)
    worst = float(np.abs(upscaler(image) - whole).max())
    rule = "tiles give what the whole image gives (else declare global_pooling=True)"
    return Finding(rule, worst <= TILE_TOLERANCE, f"differs by {worst:.1e}")
