"""Testing a model plug-in against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
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
from harness.models.resources import KEEPS_STATE, disturbance
from harness.models.upscaler import SEED, Upscaler
from harness.protocol.protocols import Protocol, make_sample, network_input

if TYPE_CHECKING:
    from torch import Tensor

    from harness.cards import AnyArray, FloatArray, ModelCard
    from harness.models.weights import Weights


ODD_SIZES = ((33, 47), (48, 31), (41, 41))
PATCH = (48, 48)
TOLERANCE = 1e-4
"""Of values in [0, 1]: what an image may differ by in tiles, or in a batch."""

BELOW_BICUBIC = 1.0
"""PSNR (dB) that a network may lose to bicubic interpolation without being suspected."""

NOTED_GAIN, CLEAR_GAIN = 0.1, 3.0
"""PSNR (dB) that another range or order of channels must gain to be named, or to be a failure.

The networks of the paper with their weights gain nothing; one that was trained in [-1, 1] and is
given [0, 1] loses 0.2 to 0.5 dB.
"""


@dataclass(frozen=True)
class ContractCheck:
    """One line of the contract, whether it holds, and what was seen.

    Attributes:
        breaks: where it does not hold the contract is broken; otherwise it is worth knowing.
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
    """Run a network on small images and compare with what its card declares.

    Args:
        card: what is declared.
        scale: the factor.
        file: of its weights; without it, those on this machine are used where there are some, and
            a fresh network otherwise, which cannot show what a wrong card does to images.

    Raises:
        HarnessError: the network cannot be built or the weights do not fit.
        UsageError: there are weights for a network that has no parameters.
    """
    if file and card.params == 0:
        raise UsageError(f"{card.name} has no parameters and takes no weights.")
    try:
        weights, trained = find_weights(card, scale, path=file), True
    except WeightsMissing:
        weights, trained = None, False
    upscaler = Upscaler(card, scale, weights)
    yield _parameters(card, scale, upscaler)
    outputs = [_tried(*_output(upscaler, *size)) for size in ODD_SIZES]
    yield from outputs
    if not all(finding.holds for finding in outputs):
        return
    if trained:
        yield _tried(_PHOTOGRAPH, lambda: _photograph(upscaler))
    else:
        yield ContractCheck(_PHOTOGRAPH, False, "not tried without weights (--weights FILE)", False)
    yield from _behaviour(upscaler)
    if count_parameters(upscaler.network):
        yield _tried(_TRAINS, lambda: _trains(upscaler, weights), breaks=False)
    yield ContractCheck(
        "torch's settings stay as they are",
        not upscaler.changed,
        f"{' and '.join(sorted(upscaler.changed)) or 'nothing'} changed",
    )
    if not card.global_pooling:
        rule = "tiles give what the whole image gives (else declare global_pooling=True)"
        yield _tried(rule, lambda: _tiles(upscaler))


Seen = tuple[bool, str]
"""Whether a line of the contract holds, and what was seen."""

_PHOTOGRAPH = "with its weights it super-resolves a photograph"
_TRAINS = "harness train can train it"


def _tried(
    rule: str, test: Callable[[], Seen | ContractCheck], *, breaks: bool = True
) -> ContractCheck:
    """What a test finds; an error is a finding, too."""
    try:
        found = test()
    except (Exception, SystemExit) as error:  # an outsider's code may raise anything
        return ContractCheck(rule, False, sentence(error), breaks)
    return found if isinstance(found, ContractCheck) else ContractCheck(rule, *found, breaks)


def _image(card: ModelCard, height: int, width: int) -> FloatArray:
    """A smooth image with some texture, the same every time."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, height)[:, None, None] * np.linspace(0.5, 1.0, width)[:, None]
    return np.clip(ramp + rng.normal(0, 0.05, (height, width, card.channels)), 0, 1)


def _parameters(card: ModelCard, scale: int, upscaler: Upscaler) -> ContractCheck:
    count = count_parameters(upscaler.network)
    declared = card.params is not None and scale == max(card.scales)
    said = f", {card.params:,} declared" if declared else ", none declared for this scale"
    return ContractCheck(
        "parameter count", not declared or count == card.params, f"{count:,}{said}"
    )


def _output(upscaler: Upscaler, height: int, width: int) -> tuple[str, Callable[[], Seen]]:
    """The size and kind of the output."""

    def test() -> Seen:
        output = upscaler(_image(upscaler.card, height, width))
        floating = output.dtype in (np.float32, np.float64)
        return floating, f"{output.dtype}, {output.min():.2f} to {output.max():.2f}"

    return f"{width} x {height} pixels become x{upscaler.factor}", test


def _photograph(upscaler: Upscaler) -> ContractCheck:
    """Compare what a network makes of a photograph with bicubic interpolation, and with nothing.

    Perceptual networks lose to bicubic interpolation; none loses to an image of one colour.
    """
    from skimage.data import astronaut

    card, scale = upscaler.card, upscaler.scale
    rules = Protocol(card.pipeline, scale)
    sample = make_sample(astronaut()[:192, 128:320], rules)
    hr = sample.hr.reshape(*sample.hr.shape[:2], card.channels) / 255
    bicubic = network_input(sample.lr, rules, enlarged=True)
    given = bicubic if card.input == "bicubic" else network_input(sample.lr, rules, enlarged=False)
    own, usual, flat = (_psnr(hr, made) for made in (upscaler(given), bicubic, hr.mean((0, 1))))
    seen = f"{own:.2f} dB, bicubic {usual:.2f}, one colour {flat:.2f}"
    best, why = max((_psnr(hr, image), why) for why, image in _readings(upscaler, given))
    least = usual - BELOW_BICUBIC
    gain = best - own if best >= least else 0.0
    if gain > NOTED_GAIN:
        seen += f"; {why}, which gives {best:.2f} dB"
    holds = own >= least and gain <= NOTED_GAIN
    return ContractCheck(_PHOTOGRAPH, holds, seen, breaks=own <= flat or gain > CLEAR_GAIN)


def _readings(upscaler: Upscaler, given: FloatArray) -> Iterator[tuple[str, AnyArray]]:
    """What else an output may be than the contract says, and the image that it then is."""
    made = upscaler(given)
    yield "its output is in [0, 255]: divide it by 255", made / 255
    yield "its output is in [-1, 1]: add 1 and halve it", (made + 1) / 2
    if given.shape[2] == 3:
        for order in list(permutations(range(3)))[1:]:
            name = "".join("RGB"[channel] for channel in order)
            yield f"its channels come out as {name}: return RGB", made[:, :, np.argsort(order)]
    with suppress(HarnessError):  # what is not finite is no image
        yield "it works in [0, 255]: multiply, then divide, by 255", upscaler(given * 255) / 255
        yield "it works in [-1, 1]: map to it and back", (upscaler(given * 2 - 1) + 1) / 2


def _psnr(hr: FloatArray, made: AnyArray) -> float:
    """PSNR in dB over all channels of images in [0, 1]; nothing is clipped."""
    return float(-10 * np.log10(np.square(made - hr).mean()))


def _behaviour(upscaler: Upscaler) -> Iterator[ContractCheck]:
    """What a network does with an image again, with another seed, in a copy, and in a batch."""
    batch = upscaler.batch(_image(upscaler.card, *ODD_SIZES[0]))
    made = _made(upscaler, batch)
    repeats = _tried(
        "the same image gives the same output", lambda: _repeats(upscaler, batch, made)
    )
    yield repeats
    yield _tried("a copy of it gives the same output", lambda: _copies(upscaler, batch))
    if repeats.holds:
        rule = "it draws no random numbers"
        draws = _tried(rule, lambda: _draws(upscaler, batch, made), breaks=False)
        yield draws
        if draws.holds:
            rule = "an image gives the same output alone and in a batch"
            yield _tried(rule, lambda: _batches(upscaler, batch, made))
    rule = "every layer is in evaluation mode"
    yield _tried(rule, lambda: _evaluates(upscaler), breaks=False)
    yield _tried("copies may run side by side", lambda: _side_by_side(upscaler))


def _repeats(upscaler: Upscaler, batch: Tensor, made: AnyArray) -> Seen:
    worst = _difference(_made(upscaler, batch), made)
    why = ": it keeps something between calls, or draws what no seed decides" if worst else ""
    return worst == 0, f"differs by {worst:.1e}{why}"


def _copies(upscaler: Upscaler, batch: Tensor) -> Seen:
    """Trainings are validated on copies; one that cannot be made is refused there."""
    try:
        copied = upscaler.copy_for_thread()
    except Exception as error:  # an outsider's modules may hold anything, such as a lock
        return True, f"it cannot be copied ({sentence(error)})"
    other = batch.flip(3)  # not what the network, and with it the copy, has kept something of
    worst = _difference(_made(copied, other), _made(upscaler, other))
    return worst <= TOLERANCE, f"differs by {worst:.1e}"


def _draws(upscaler: Upscaler, batch: Tensor, made: AnyArray) -> Seen:
    """Seeded before each image, a network that draws is defined, but by the seed as well."""
    worst = _difference(_made(upscaler, batch, SEED + 1), made)
    said = f"another seed changes its output by {worst:.1e}, so its scores are those of one seed"
    return worst == 0, said if worst else "another seed changes nothing"


def _batches(upscaler: Upscaler, batch: Tensor, made: AnyArray) -> Seen:
    """Networks are trained on batches, and scored on single images."""
    pair = torch.cat([batch, 1 - batch.flip(3)])
    worst = _difference(_made(upscaler, pair)[:1], made)
    return worst <= TOLERANCE, f"differs by {worst:.1e}"


def _evaluates(upscaler: Upscaler) -> Seen:
    """Forward passes were made by now, which may have changed it."""
    modes = {name or "the network": m.training for name, m in upscaler.network.named_modules()}
    training = [name for name, is_training in modes.items() if is_training]
    said = f"{', '.join(training[:3])}{', ...' if len(training) > 3 else ''}"
    return not training, f"not {said}, though eval() was called" if training else "yes"


def _side_by_side(upscaler: Upscaler) -> Seen:
    """Copies that would be disturbed are slower, not wrong: the network then runs alone."""
    found = disturbance(upscaler)
    seen = f"no, {found}{'' if found == KEEPS_STATE else ': it runs alone'}" if found else "yes"
    return found != KEEPS_STATE, seen


def _trains(upscaler: Upscaler, weights: Weights | None) -> Seen:
    """Run a new network in training mode, in which it may do something else, on a batch."""
    card, scale = upscaler.card, upscaler.scale
    network = copy_network(build_network(card, scale, weights.hyper if weights else {})).train()
    patch = upscaler.batch(_image(card, *PATCH))
    batch = torch.cat([patch, 1 - patch])
    with settings_guarded(upscaler.changed):
        made = require_images(network(batch), batch, upscaler.factor, "In training mode it")
    return made.requires_grad, "yes" if made.requires_grad else "no gradient reaches its weights"


def _tiles(upscaler: Upscaler) -> Seen:
    """Compare two tiles, neither of which sees the whole image, with the image at once."""
    upscaler.use_tiles(1)
    per_pixel = upscaler.tile or 1
    side = max(upscaler.overlap + 4, *ODD_SIZES[0]) // per_pixel + 1

    def difference(height: int) -> float:
        image = _image(upscaler.card, height, 2 * side * per_pixel)
        upscaler.tile = None
        whole = upscaler(image)
        upscaler.tile = side * per_pixel
        return _difference(upscaler(image), whole)

    worst = on_smallest((12, ODD_SIZES[0][0]), difference, "It")
    return worst <= TOLERANCE, f"differs by {worst:.1e}"


def _made(upscaler: Upscaler, batch: Tensor, seed: int = SEED) -> AnyArray:
    """What the bare network makes of a batch, after seeding."""
    seed_all(seed)
    with settings_guarded(upscaler.changed), torch.inference_mode():
        made = upscaler.network(batch.clone())
    return require_images(made, batch, upscaler.factor, upscaler.card.name).numpy()


def _difference(one: AnyArray, other: AnyArray) -> float:
    return float(np.abs(one - other).max())
