"""Test a model plug-in against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.errors import HarnessError, UsageError, sentence
from harness.global_state import seed_all, settings_guarded
from harness.models.cost import count_parameters
from harness.models.find_weights import WeightsMissing, find_weights
from harness.models.network import build_network, copy_network, on_smallest, require_images
from harness.models.resources import KEEPS_STATE, difference, disturbance
from harness.models.upscaler import SEED, Upscaler
from harness.protocol.rules import Protocol, make_sample, network_input

if TYPE_CHECKING:
    from torch import Tensor

    from harness.cards import AnyArray, FloatArray, ModelCard
    from harness.models.weights import Weights


ODD_SIZES = ((33, 47), (48, 31), (41, 41))
PATCH = (48, 48)
TOLERANCE = 1e-4
"""How much an output in [0, 1] may differ when the image is cut into tiles or put in a batch."""

BELOW_BICUBIC = 1.0
"""How far (dB of PSNR) a network may be below bicubic interpolation without being suspected."""

NOTED_GAIN, CLEAR_GAIN = 0.1, 3.0
"""How many dB another range or channel order must gain to be reported, and to be a failure.

The networks of the paper with their weights gain nothing; a network that was trained on [-1, 1] and
gets [0, 1] loses 0.2 to 0.5 dB.
"""


@dataclass(frozen=True)
class ContractCheck:
    """One rule of the contract, whether it holds, and what was observed.

    Attributes:
        breaks: whether the contract is broken if the rule does not hold; otherwise it is a warning.
    """

    rule: str
    holds: bool
    seen: str
    breaks: bool = True

    @property
    def fails(self) -> bool:
        """Whether the contract is broken."""
        return self.breaks and not self.holds


def check_model(card: ModelCard, scale: int, file: Path | None = None) -> Iterator[ContractCheck]:
    """Run a network on small images and compare the results with its card.

    Args:
        card: the card of the network.
        scale: the factor.
        file: its weights; None for those on this machine, or for random weights if there are none,
            with which the effect of a wrong card on images does not show.

    Raises:
        HarnessError: the network cannot be built or the weights do not fit.
        UsageError: weights are given for a network that has no parameters.
    """
    if file and card.params == 0:
        raise UsageError(f"{card.name} has no parameters and takes no weights.")
    try:
        weights, trained = find_weights(card, scale, path=file), True
    except WeightsMissing:
        weights, trained = None, False
    upscaler = Upscaler(card, scale, weights)
    yield _parameters(card, scale, upscaler)
    outputs = [
        _check(
            f"{width} x {height} pixels become x{upscaler.factor}",
            partial(_output, upscaler, height, width),
        )
        for height, width in ODD_SIZES
    ]
    yield from outputs
    if not all(check.holds for check in outputs):
        return
    if trained:
        yield _check(_PHOTOGRAPH, lambda: _photograph(upscaler))
    else:
        seen = "not tested without weights (--weights FILE)"
        yield ContractCheck(_PHOTOGRAPH, False, seen, False)
    yield from _behaviour(upscaler)
    if count_parameters(upscaler.network):
        rule = "harness train can train it"
        yield _check(rule, lambda: _trains(upscaler, weights), breaks=False)
    yield ContractCheck(
        "torch's settings stay as they are",
        not upscaler.changed,
        f"{' and '.join(sorted(upscaler.changed)) or 'nothing'} changed",
    )
    if not card.global_pooling:
        rule = "tiles give what the whole image gives (else declare global_pooling=True)"
        yield _check(rule, lambda: _tiles(upscaler))


Seen = tuple[bool, str]
"""Whether a rule of the contract holds, and what was observed."""

_PHOTOGRAPH = "with its weights it super-resolves a photograph"


def _check(
    rule: str, test: Callable[[], Seen | ContractCheck], *, breaks: bool = True
) -> ContractCheck:
    """Run a test of a rule; if it raises an error, the rule does not hold."""
    try:
        result = test()
    except (Exception, SystemExit) as error:  # plug-in code may raise anything
        return ContractCheck(rule, False, sentence(error), breaks)
    return result if isinstance(result, ContractCheck) else ContractCheck(rule, *result, breaks)


def _image(card: ModelCard, height: int, width: int) -> FloatArray:
    """Make a smooth image with some texture, the same every time."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, height)[:, None, None] * np.linspace(0.5, 1.0, width)[:, None]
    return np.clip(ramp + rng.normal(0, 0.05, (height, width, card.channels)), 0, 1)


def _parameters(card: ModelCard, scale: int, upscaler: Upscaler) -> ContractCheck:
    count = count_parameters(upscaler.network)
    declared = card.params is not None and scale == max(card.scales)
    expected = f"{card.params:,} declared" if declared else "none declared for this scale"
    return ContractCheck(
        "parameter count", not declared or count == card.params, f"{count:,}, {expected}"
    )


def _output(upscaler: Upscaler, height: int, width: int) -> Seen:
    """Check the dtype of the output; the upscaler itself checks its size."""
    output = upscaler(_image(upscaler.card, height, width))
    floating = output.dtype in (np.float32, np.float64)
    return floating, f"{output.dtype}, {output.min():.2f} to {output.max():.2f}"


def _photograph(upscaler: Upscaler) -> ContractCheck:
    """Compare a network's SR image of a photograph with bicubic interpolation and with one colour.

    Perceptual networks may be worse than bicubic interpolation, but not than one flat colour.
    """
    from skimage.data import astronaut

    card, scale = upscaler.card, upscaler.scale
    rules = Protocol(card.pipeline, scale)
    sample = make_sample(astronaut()[:192, 128:320], rules)
    hr = sample.hr.reshape(*sample.hr.shape[:2], card.channels) / 255
    bicubic = network_input(sample.lr, rules, enlarged=True)
    image = bicubic if card.input == "bicubic" else network_input(sample.lr, rules, enlarged=False)
    own, usual, flat = (_psnr(hr, sr) for sr in (upscaler(image), bicubic, hr.mean((0, 1))))
    seen = f"{own:.2f} dB (bicubic: {usual:.2f} dB, a flat image: {flat:.2f} dB)"
    best, why = max((_psnr(hr, sr), why) for why, sr in _alternatives(upscaler, image))
    least = usual - BELOW_BICUBIC
    gain = best - own if best >= least else 0.0
    if gain > NOTED_GAIN:
        seen += f"; {why}, which gives {best:.2f} dB"
    holds = own >= least and gain <= NOTED_GAIN
    return ContractCheck(_PHOTOGRAPH, holds, seen, breaks=own <= flat or gain > CLEAR_GAIN)


def _alternatives(upscaler: Upscaler, image: FloatArray) -> Iterator[tuple[str, AnyArray]]:
    """Yield mistakes in range or channel order, and the SR image if the network makes them."""
    output = upscaler(image)
    yield "its output is in [0, 255]: divide it by 255", output / 255
    yield "its output is in [-1, 1]: add 1 and halve it", (output + 1) / 2
    if image.shape[2] == 3:
        for order in list(permutations(range(3)))[1:]:
            name = "".join("RGB"[channel] for channel in order)
            yield f"its channels come out as {name}: return RGB", output[:, :, np.argsort(order)]
    with suppress(HarnessError):  # the output may not be finite
        yield "it works in [0, 255]: multiply, then divide, by 255", upscaler(image * 255) / 255
        yield "it works in [-1, 1]: map to it and back", (upscaler(image * 2 - 1) + 1) / 2


def _psnr(hr: FloatArray, sr: AnyArray) -> float:
    """PSNR in dB over all channels of images in [0, 1]; nothing is clipped."""
    return float(-10 * np.log10(np.square(sr - hr).mean()))


def _behaviour(upscaler: Upscaler) -> Iterator[ContractCheck]:
    """Run an image again, in a copy, with another seed and in a batch; check the layers' modes."""
    batch = upscaler.batch(_image(upscaler.card, *ODD_SIZES[0]))
    output = _run(upscaler, batch)
    repeats = _check(
        "the same image gives the same output", lambda: _repeats(upscaler, batch, output)
    )
    yield repeats
    yield _check("a copy of it gives the same output", lambda: _copies(upscaler, batch))
    if repeats.holds:
        rule = "it draws no random numbers"
        draws = _check(rule, lambda: _draws(upscaler, batch, output), breaks=False)
        yield draws
        if draws.holds:
            rule = "an image gives the same output alone and in a batch"
            yield _check(rule, lambda: _batches(upscaler, batch, output))
    yield _check("every layer is in evaluation mode", lambda: _evaluates(upscaler), breaks=False)
    yield _check("copies may run side by side", lambda: _side_by_side(upscaler))


def _repeats(upscaler: Upscaler, batch: Tensor, output: AnyArray) -> Seen:
    worst = difference(_run(upscaler, batch), output)
    why = ": it keeps state between calls, or draws random numbers without a seed" if worst else ""
    return worst == 0, f"differs by {worst:.1e}{why}"


def _copies(upscaler: Upscaler, batch: Tensor) -> Seen:
    """Compare with a copy: training validates copies, and refuses networks that it cannot copy."""
    try:
        copied = upscaler.copy_for_thread()
    except Exception as error:  # plug-in modules may hold anything, such as a lock
        return True, f"it cannot be copied ({sentence(error)})"
    other = batch.flip(3)  # a new image, of which the network and its copy have no state
    worst = difference(_run(copied, other), _run(upscaler, other))
    return worst <= TOLERANCE, f"differs by {worst:.1e}"


def _draws(upscaler: Upscaler, batch: Tensor, output: AnyArray) -> Seen:
    """Use another seed: the seed is set before each image, but it should not matter."""
    worst = difference(_run(upscaler, batch, SEED + 1), output)
    seen = f"another seed changes its output by {worst:.1e}, so its scores are those of one seed"
    return worst == 0, seen if worst else "another seed changes nothing"


def _batches(upscaler: Upscaler, batch: Tensor, output: AnyArray) -> Seen:
    """Compare with a batch: networks are trained on batches, but scored on single images."""
    pair = torch.cat([batch, 1 - batch.flip(3)])
    worst = difference(_run(upscaler, pair)[:1], output)
    return worst <= TOLERANCE, f"differs by {worst:.1e}"


def _evaluates(upscaler: Upscaler) -> Seen:
    """Look for layers in training mode after forward passes, which may switch modes."""
    modules = upscaler.network.named_modules()
    training = [name or "the network" for name, module in modules if module.training]
    listed = f"{', '.join(training[:3])}{', ...' if len(training) > 3 else ''}"
    return not training, f"not {listed}, though eval() was called" if training else "yes"


def _side_by_side(upscaler: Upscaler) -> Seen:
    """Test copies in parallel; if they interfere, the network runs alone: slower, but correct."""
    reason = disturbance(upscaler)
    seen = f"no, {reason}{'' if reason == KEEPS_STATE else ': it runs alone'}" if reason else "yes"
    return reason != KEEPS_STATE, seen


def _trains(upscaler: Upscaler, weights: Weights | None) -> Seen:
    """Run a new network on a batch in training mode, in which it may behave differently."""
    card, scale = upscaler.card, upscaler.scale
    network = copy_network(build_network(card, scale, weights.hyper if weights else {})).train()
    patch = upscaler.batch(_image(card, *PATCH))
    batch = torch.cat([patch, 1 - patch])
    with settings_guarded(upscaler.changed):
        output = require_images(network(batch), batch, upscaler.factor, "In training mode it")
    trains = output.requires_grad
    return trains, "yes" if trains else "no gradient reaches its weights"


def _tiles(upscaler: Upscaler) -> Seen:
    """Compare the output in two tiles, neither of which sees the whole image, with one pass."""
    upscaler.use_tiles(1)
    per_pixel = upscaler.tile or 1
    side = max(upscaler.overlap + 4, *ODD_SIZES[0]) // per_pixel + 1

    def between_tiles(height: int) -> float:
        image = _image(upscaler.card, height, 2 * side * per_pixel)
        upscaler.tile = None
        whole = upscaler(image)
        upscaler.tile = side * per_pixel
        return difference(upscaler(image), whole)

    worst = on_smallest((12, ODD_SIZES[0][0]), between_tiles, "It")
    return worst <= TOLERANCE, f"differs by {worst:.1e}"


def _run(upscaler: Upscaler, batch: Tensor, seed: int = SEED) -> AnyArray:
    """Set the seed, and run the network itself on a batch."""
    seed_all(seed)
    with settings_guarded(upscaler.changed), torch.inference_mode():
        output = upscaler.network(batch.clone())
    return require_images(output, batch, upscaler.factor, upscaler.card.name).numpy()
