"""Protocols: the exact rules from an HR image to a score, with a name and a hash.

Two pipelines are in use, and published tables mix them:

=========  =================================  ============================
step       ``y``                              ``rgb``
=========  =================================  ============================
HR         luma, rounded to uint8             RGB, uint8
LR         imresize of luma / 255 in double   imresize of uint8 RGB
input      that LR, or its enlargement        LR / 255
output     x 255, rounded, uint8 luma         x 255, rounded, uint8 RGB
compared   uint8 luma                         float luma, not rounded
=========  =================================  ============================

With ``float_y`` nothing is rounded in ``y``: HR luma, output and comparison are in double, as in
MATLAB code that keeps images in ``im2double``.
"""

from __future__ import annotations

import math
import re
import reprlib
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from harness.cards import LINEAGES, Border, GreyRule, Pipeline, Preset
from harness.errors import HarnessError, UsageError, sentence
from harness.protocol.color import rgb_to_y, rgb_to_ycbcr, to_uint8, ycbcr_to_rgb
from harness.protocol.metrics import SSIM_WINDOW
from harness.protocol.resize import imresize
from harness.record import digest
from harness.registry import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cards import AnyArray, ByteArray, FloatArray, MetricCard, MetricInput


RULES = 1
"""Increased when a change in this folder changes a score; part of every protocol's hash."""

USUAL_GREY: Mapping[Pipeline, GreyRule] = {"y": "full-range", "rgb": "as-rgb"}
"""How each pipeline scores grey images by default.

Test-set scripts of RGB networks (RDN, RCAN) first copy a grey image to three channels. Only with
this rule do the published weights of IMDN, PAN and BSRN reach their papers' numbers for Set14.
"""


@dataclass(frozen=True)
class Protocol:
    """The rules of one degradation, scale and pipeline.

    Attributes:
        pipeline: what is degraded and compared, see the module's table.
        scale: the factor between LR and HR.
        border: how imresize pads an image.
        grey: how a grey image is scored, see `USUAL_GREY` for the defaults. ``as-rgb`` compresses
            its range, which raises that image's PSNR by 1.3 dB and the mean of Set14 by 0.09 dB.
        float_lr: LR images of the ``rgb`` pipeline are made in double and not rounded, as SRMD's
            authors did; the effect is 0.01 dB.
        float_y: the luma of HR and output in the ``y`` pipeline is not rounded, and the output is
            only clipped; the effect is 0.005 to 0.02 dB and 0.0005 of SSIM.
    """

    pipeline: Pipeline
    scale: int = 4
    border: Border = "replicate"
    grey: GreyRule = None  # type: ignore[assignment] # becomes the pipeline's own
    float_lr: bool = False
    float_y: bool = False

    def __post_init__(self) -> None:
        if self.grey is None:
            object.__setattr__(self, "grey", USUAL_GREY[self.pipeline])

    @property
    def name(self) -> str:
        """``BI-x4/y``, followed by all rules not at their default, as in ``BI-x4/y+as-rgb``."""
        options: list[str] = [self.grey] * (self.grey != USUAL_GREY[self.pipeline])
        options += [self.border] * (self.border != "replicate")
        options += ["float-lr"] * self.float_lr + ["float-y"] * self.float_y
        return "+".join([f"BI-x{self.scale}/{self.pipeline}", *options])

    @property
    def sha256(self) -> str:
        """Hash of the rules."""
        return digest({**asdict(self), "rules": RULES, "crop_border": self.crop_border})

    @property
    def with_other_grey(self) -> Protocol:
        """The protocol that differs in the rule for grey images only."""
        return replace(self, grey="as-rgb" if self.grey == "full-range" else "full-range")

    @property
    def crop_border(self) -> int:
        """Pixels left out of the score on each side."""
        return self.scale

    @property
    def smallest_side(self) -> int:
        """The shortest HR side that can be scored: the SSIM window plus both borders."""
        return SSIM_WINDOW + 2 * self.crop_border


def rules_in_use(rules: Protocol, *, grey: bool, lr_given: bool) -> list[Protocol]:
    """List the protocols that a printed score of a set can follow, the given one first.

    They are those with both rules for grey images, and with and without the rounding of luma
    (``y``) or of the LR images (``rgb``). The border of imresize is none of the choices: it changes
    0.001 to 0.006 dB, and a miss by so little refutes nothing.

    Args:
        rules: the protocol of the table, or of a request.
        grey: the set has grey images, or it is not known.
        lr_given: the LR images, or the SR images themselves, were not made here.
    """
    rounded = [rules, rules.with_other_grey] if grey else [rules]
    if rules.pipeline == "y":
        return rounded + [replace(one, float_y=True) for one in rounded]
    return rounded if lr_given else rounded + [replace(one, float_lr=True) for one in rounded]


def protocol(name: str) -> Protocol:
    """Parse the name of a protocol, such as ``BI-x4/rgb`` or ``BI-x4/y+as-rgb``.

    Raises:
        UsageError: no protocol has this name.
    """
    match = re.fullmatch(r"BI-x([234])/(y|rgb)((?:\+[a-z-]+)*)", name)
    if match:
        pipeline: Pipeline = "y" if match[2] == "y" else "rgb"
        options = match[3].split("+")
        grey = next((rule for rule in get_args(GreyRule) if rule in options), USUAL_GREY[pipeline])
        border: Border = "symmetric" if "symmetric" in options else "replicate"
        floats = "float-lr" in options, "float-y" in options
        result = Protocol(pipeline, int(match[1]), border, grey, *floats)
        if result.name == name:
            return result
    raise UsageError(
        f"No protocol is called {name!r}: a name is BI-x2, BI-x3 or BI-x4, then /y or /rgb, then "
        "any of the other grey rule (+as-rgb or +full-range), +symmetric, +float-lr and +float-y."
    )


def lineage(rules: Protocol, *, grey: bool = True) -> str:
    """Return the name of the `LINEAGES` that has these rules; empty if none has.

    Args:
        rules: the protocol.
        grey: whether the images include grey ones; without any, their rule makes no difference.
    """
    if rules.float_lr or rules.float_y:
        return ""
    own = Preset(rules.grey, rules.border, rules.pipeline)
    for name, preset in LINEAGES.items():
        if own == (preset if grey else replace(preset, grey=rules.grey)):
            return name
    return ""


@dataclass(frozen=True)
class Sample:
    """One image ready for a network.

    Attributes:
        hr: the HR image under the protocol, uint8 ``(H, W)`` or ``(H, W, 3)``, with sides that
            are multiples of the scale; only luma in the ``y`` pipeline, float64 with ``float_y``.
        lr: ``(H / scale, W / scale[, 3])``, float64 in about [0, 1] (``y``, and ``rgb`` with
            ``float_lr``) or uint8 (``rgb``).
        image: what `hr_image` returns, from which both were made: uint8, in colour unless grey.
    """

    hr: AnyArray
    lr: AnyArray
    image: ByteArray


def make_sample(image: ByteArray, rules: Protocol) -> Sample:
    """Crop an HR image, apply the grey rule, and make its LR image.

    Args:
        image: uint8 ``(H, W)`` grey or ``(H, W, 3)`` RGB, sides at least ``smallest_side``.
        rules: the protocol.

    Raises:
        HarnessError: the image is too small to be scored.
    """
    hr = hr_image(image, rules)
    if min(hr.shape[:2]) < rules.smallest_side:
        raise HarnessError(
            f"{hr.shape[1]} x {hr.shape[0]} pixels are too few to score at x{rules.scale}: "
            f"each side needs at least {rules.smallest_side}."
        )
    if rules.pipeline == "rgb":
        source = hr / 255.0 if rules.float_lr else hr
        return Sample(hr, imresize(source, 1 / rules.scale, rules.border), hr)
    luma = _luma(hr) if rules.float_y else to_uint8(_luma(hr))
    return Sample(luma, imresize(luma / 255.0, 1 / rules.scale, rules.border), hr)


def given_lr(image: ByteArray, hr: AnyArray, rules: Protocol) -> AnyArray:
    """Convert an LR image that the user gives to what the protocol passes to a network.

    Args:
        image: uint8 ``(h, w)`` grey or ``(h, w, 3)`` RGB.
        hr: the HR image of the `Sample`, which decides the number of channels.
        rules: the protocol.

    Returns:
        the ``lr`` of a `Sample`: luma / 255 in the ``y`` pipeline, rounded like the HR luma.
    """
    if rules.pipeline == "rgb":
        to_rgb = image.ndim == 2 and hr.ndim == 3
        return np.repeat(image[:, :, None], 3, axis=2) if to_rgb else image
    lr = hr_image(image, replace(rules, scale=1))
    luma = _luma(lr) if rules.float_y else to_uint8(_luma(lr))
    return luma / 255.0


def given_sr(image: ByteArray, hr: ByteArray, rules: Protocol) -> AnyArray:
    """Convert an SR image that the user gives to the image that is scored.

    Args:
        image: uint8 ``(H, W)`` grey or ``(H, W, 3)`` RGB; grey only where the HR image is.
        hr: the HR image as stored. If it is grey and scored as stored, the channels are averaged.
        rules: the protocol.

    Returns:
        an image in [0, 255] with the shape and dtype of the HR image of the `Sample`; luma in the
        ``y`` pipeline, rounded like the HR luma.
    """
    if hr.ndim == 2 and image.ndim == 3 and rules.grey == "full-range":
        image = to_uint8(image.mean(axis=2))
    sr = hr_image(image, rules)
    if rules.pipeline == "rgb":
        return sr
    return _luma(sr) if rules.float_y else to_uint8(_luma(sr))


def hr_image(image: ByteArray, rules: Protocol) -> ByteArray:
    """Crop an image to multiples of the scale, and apply the grey rule."""
    cropped = crop_to_multiple(image, rules.scale)
    if cropped.ndim == 2 and rules.grey == "as-rgb":
        return np.repeat(cropped[:, :, None], 3, axis=2)
    return cropped


def crop_to_multiple(image: ByteArray, scale: int) -> ByteArray:
    """Cut rows and columns at the bottom and right so that both sides are multiples of scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def network_input(lr: AnyArray, rules: Protocol, *, enlarged: bool) -> FloatArray:
    """Make the network input: float64 ``(h, w, C)`` in [0, 1], C = 1 (``y``) or 3 (``rgb``).

    With ``enlarged``, the LR image is enlarged to the SR size (bicubic) in its own dtype: double in
    the ``y`` pipeline, uint8 with rounding in ``rgb``.
    """
    image = imresize(lr, rules.scale, rules.border) if enlarged else lr
    if image.dtype == np.uint8:
        image = image / 255.0
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3 if rules.pipeline == "rgb" else 1, axis=2)
    return image


def sr_image(output: AnyArray, sample: Sample) -> AnyArray:
    """Convert a network's output to the image that is scored.

    Args:
        output: ``(H, W, C)``, values in about [0, 1].
        sample: the sample it was made from.

    Returns:
        an image in [0, 255] with the shape and dtype of the HR image; if the HR image is grey, the
        channels are averaged.
    """
    values = output.astype(np.float64) * 255
    values = values.mean(axis=2) if sample.hr.ndim == 2 else values
    return to_uint8(values) if sample.hr.dtype == np.uint8 else np.clip(values, 0, 255)


def score(
    sr: AnyArray, sample: Sample, rules: Protocol, metrics: Sequence[str], image: str = "the image"
) -> dict[str, float]:
    """Compute metrics of an SR image against its HR image without the border, on luma or RGB.

    Args:
        sr: the result of `sr_image`.
        sample: the sample it was made from.
        rules: the protocol.
        metrics: registered names.
        image: the image's name in error messages.

    Raises:
        HarnessError: a metric fails, or what it returns is not a number.
    """
    edge = rules.crop_border
    inner = (slice(edge, -edge), slice(edge, -edge))
    cards = [METRICS.get(name) for name in metrics]
    # The last bits of luma depend on the memory layout, and a network's output may have any.
    sr = np.ascontiguousarray(sr)
    pairs: dict[MetricInput, Sequence[AnyArray]] = {"y": (_luma(sr), _luma(sample.hr))}
    if any(card.on == "rgb" for card in cards):
        pairs["rgb"] = _rgb(colour_image(sr, sample.image, rules)), _rgb(sample.image)
    scores = {}
    for card in cards:
        if METRICS.is_built_in(card.name):
            scores[card.name] = card.compute(*(part[inner] for part in pairs[card.on]))
        else:
            # A plug-in's metric may modify its arguments. A copy keeps the strides of the
            # original, since the order of a sum depends on them.
            copies = [np.copy(part)[inner] for part in pairs[card.on]]
            scores[card.name] = _plugin_score(card, copies, image)
    return scores


_ONE_AT_A_TIME = threading.Lock()
"""A plug-in's metric may keep state while it computes, as torchmetrics objects do."""


def _plugin_score(card: MetricCard, pair: Sequence[AnyArray], image: str) -> float:
    """Call a plug-in's metric on an SR and an HR image, and return its value as a float."""
    try:
        with _ONE_AT_A_TIME:
            value = card.compute(*pair)
    except (Exception, SystemExit) as error:  # plug-in code may raise anything
        given = "luma arrays (H, W)" if card.on == "y" else "RGB arrays (H, W, 3)"
        raise HarnessError(
            f"The metric {card.name} of {card.origin} fails on {image} ({sentence(error)}): it "
            f"gets two {given}, and must return one number."
        ) from error
    number = _as_float(value)
    if math.isnan(number):
        raise HarnessError(
            f"The metric {card.name} is not a number for {image}: {card.origin} returns "
            f"{reprlib.repr(value)}, and must return one number."
        )
    return number


def _as_float(value: Any) -> float:
    """Convert a number, or an array or tensor of one element, to float; NaN for anything else."""
    try:
        # Tensors and numpy arrays have `item`, on any device and with any number of dimensions.
        number = value.item() if hasattr(value, "item") else value
        return math.nan if isinstance(number, str | bytes) else float(number)
    except Exception:  # a plug-in's object may raise anything
        return math.nan


def colour_image(sr: AnyArray, image: ByteArray, rules: Protocol) -> ByteArray:
    """Make a viewable uint8 SR image: a luma result gets the chroma of the bicubic enlargement.

    Args:
        sr: the result of `sr_image`.
        image: the HR image it belongs to, before `make_sample`.
        rules: the protocol.
    """
    hr = hr_image(image, rules)
    if rules.pipeline == "rgb" or hr.ndim == 2:
        return to_uint8(sr)
    ycbcr = rgb_to_ycbcr(hr) / 255
    small = imresize(ycbcr, 1 / rules.scale, rules.border)
    large = imresize(small, rules.scale, rules.border) * 255
    large[:, :, 0] = sr
    return to_uint8(ycbcr_to_rgb(large))


def _luma(image: AnyArray) -> FloatArray:
    """Return the float luma of an RGB image, or the stored values of a grey one."""
    return image.astype(np.float64) if image.ndim == 2 else rgb_to_y(image)


def _rgb(image: ByteArray) -> ByteArray:
    """Return an image with three channels, which are equal for a grey one."""
    colour = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(colour)
