"""A protocol: the exact rules between an HR image and a score, named and hashed.

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
MATLAB code that never leaves ``im2double``.
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

from harness.cards import Border, GreyRule, Pipeline
from harness.errors import HarnessError, UsageError, sentence
from harness.protocol.color import rgb_to_y, rgb_to_ycbcr, to_uint8, ycbcr_to_rgb
from harness.protocol.metrics import SSIM_WINDOW
from harness.protocol.resize import imresize
from harness.record import digest
from harness.registry import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cards import AnyArray, ByteArray, FloatArray

RULES = 1
"""Raised whenever a rule of this folder changes a number; part of every protocol's hash."""

USUAL_GREY: Mapping[Pipeline, GreyRule] = {"y": "full-range", "rgb": "as-rgb"}
"""How each pipeline scores grey images, unless told otherwise.

Test-set scripts of RGB networks (RDN, RCAN) copy a grey image to three channels first, and the
published weights of IMDN, PAN and BSRN reach what they print for Set14 only so.
"""


@dataclass(frozen=True)
class Protocol:
    """The rules of one degradation, scale and pipeline.

    Attributes:
        pipeline: what is degraded and compared, see the module.
        scale: the factor between LR and HR.
        border: how imresize continues an image.
        grey: how a grey image is scored, see `USUAL_GREY` for the defaults. ``as-rgb`` compresses
            its range, which raises that image's PSNR by 1.3 dB and the mean of Set14 by 0.09 dB.
        float_lr: LR images of the ``rgb`` pipeline are made in double and not rounded, as SRMD's
            authors did; worth 0.01 dB.
        float_y: luma of the ``y`` pipeline is never rounded, neither that of the HR image nor the
            output, which is only clipped; worth 0.005 to 0.02 dB and 0.0005 of SSIM.
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
        """``BI-x4/y``, with every rule that is not the pipeline's own: ``BI-x4/y+as-rgb``."""
        options: list[str] = [self.grey] * (self.grey != USUAL_GREY[self.pipeline])
        options += [self.border] * (self.border != "replicate")
        options += ["float-lr"] * self.float_lr + ["float-y"] * self.float_y
        return "+".join([f"BI-x{self.scale}/{self.pipeline}", *options])

    @property
    def sha256(self) -> str:
        """Hash of the rules."""
        return digest({**asdict(self), "rules": RULES, "crop_border": self.crop_border})

    @property
    def crop_border(self) -> int:
        """Pixels left out of the score on each side."""
        return self.scale

    @property
    def smallest_side(self) -> int:
        """The shortest HR side that can be scored: the SSIM window inside the cropped border."""
        return SSIM_WINDOW + 2 * self.crop_border


def protocol(name: str) -> Protocol:
    """The protocol of a name such as ``BI-x4/rgb`` or ``BI-x4/y+as-rgb``.

    Raises:
        UsageError: no such protocol.
    """
    match = re.fullmatch(r"BI-x([234])/(y|rgb)((?:\+[a-z-]+)*)", name)
    if match:
        made = Protocol("y" if match[2] == "y" else "rgb", int(match[1]))
        options = [option for option in match[3].split("+") if option]
        made = _with_options(made, options)
        if made.name == name:
            return made
    raise UsageError(
        f"No protocol {name!r}: one is BI-x2, BI-x3 or BI-x4, then /y or /rgb, "
        "then the other grey rule (+as-rgb or +full-range), +symmetric, +float-lr and +float-y "
        "where wanted."
    )


def _with_options(base: Protocol, options: Sequence[str]) -> Protocol:
    grey = next((rule for rule in get_args(GreyRule) if rule in options), base.grey)
    border: Border = "symmetric" if "symmetric" in options else base.border
    floats = "float-lr" in options, "float-y" in options
    return Protocol(base.pipeline, base.scale, border, grey, *floats)


@dataclass(frozen=True)
class Sample:
    """One image ready for a network.

    Attributes:
        hr: the HR image as the protocol sees it, uint8 ``(H, W)`` or ``(H, W, 3)``, sides
            multiples of the scale; its luma alone in the ``y`` pipeline, float64 with ``float_y``.
        lr: ``(H / scale, W / scale[, 3])``, float64 in about [0, 1] (``y``, and ``rgb`` with
            ``float_lr``) or uint8 (``rgb``).
    """

    hr: AnyArray
    lr: AnyArray


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
        return Sample(hr, imresize(source, 1 / rules.scale, rules.border))
    luma = _luma(hr) if rules.float_y else to_uint8(_luma(hr))
    return Sample(luma, imresize(luma / 255.0, 1 / rules.scale, rules.border))


def given_lr(image: ByteArray, hr: AnyArray, rules: Protocol) -> AnyArray:
    """An LR image that was not made here, as the protocol hands it to a network.

    Args:
        image: uint8 ``(h, w)`` grey or ``(h, w, 3)`` RGB.
        hr: the HR image as the protocol sees it, of which it has the channels.
        rules: the protocol.

    Returns:
        what `Sample` holds: luma / 255 in the ``y`` pipeline, rounded as that of the HR image is.
    """
    if rules.pipeline == "rgb":
        colour = image.ndim == 2 and hr.ndim == 3
        return np.repeat(image[:, :, None], 3, axis=2) if colour else image
    seen = hr_image(image, replace(rules, scale=1))
    luma = _luma(seen) if rules.float_y else to_uint8(_luma(seen))
    return luma / 255.0


def hr_image(image: ByteArray, rules: Protocol) -> ByteArray:
    """The HR image to look at: cropped to multiples of the scale, the grey rule applied."""
    cropped = crop_to_multiple(image, rules.scale)
    if cropped.ndim == 2 and rules.grey == "as-rgb":
        return np.repeat(cropped[:, :, None], 3, axis=2)
    return cropped


def crop_to_multiple(image: ByteArray, scale: int) -> ByteArray:
    """Cut rows and columns at the bottom and right so that both sides are multiples of scale."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def network_input(lr: AnyArray, rules: Protocol, *, enlarged: bool) -> FloatArray:
    """What a network is given: float64 ``(h, w, C)`` in [0, 1], C = 1 (``y``) or 3 (``rgb``).

    With ``enlarged`` it is the bicubic enlargement to the SR size, in the arithmetic of the LR
    image: double in the ``y`` pipeline, uint8 with rounding in ``rgb``.
    """
    image = imresize(lr, rules.scale, rules.border) if enlarged else lr
    if image.dtype == np.uint8:
        image = image / 255.0
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3 if rules.pipeline == "rgb" else 1, axis=2)
    return image


def sr_image(output: AnyArray, sample: Sample) -> AnyArray:
    """A network's output as the image that is scored.

    Args:
        output: ``(H, W, C)``, values in about [0, 1].
        sample: the sample it was made from.

    Returns:
        the HR image's shape and dtype, in [0, 255]; colour is averaged back to grey where the HR
        is grey.
    """
    values = output.astype(np.float64) * 255
    values = values.mean(axis=2) if sample.hr.ndim == 2 else values
    return to_uint8(values) if sample.hr.dtype == np.uint8 else np.clip(values, 0, 255)


def score(
    sr: AnyArray, sample: Sample, rules: Protocol, metrics: Sequence[str], image: str = "the image"
) -> dict[str, float]:
    """The named metrics of an SR image against its HR image, on luma, borders left out.

    Args:
        sr: what `sr_image` made.
        sample: the sample it was made from.
        rules: the protocol.
        metrics: registered names.
        image: what an error calls the image.

    Raises:
        HarnessError: a metric fails, or what it returns is not a number.
    """
    edge = rules.crop_border
    inner = (slice(edge, -edge), slice(edge, -edge))
    lumas = _luma(sr), _luma(sample.hr)
    scores = {}
    for name in metrics:
        if METRICS.is_built_in(name):
            scores[name] = METRICS.get(name)(*(luma[inner] for luma in lumas))
        else:
            # A plug-in's metric may write into its arguments. A copy has the strides of the
            # original, on which the order of a sum depends.
            scores[name] = _plugin_score(name, [np.copy(luma)[inner] for luma in lumas], image)
    return scores


_ONE_AT_A_TIME = threading.Lock()
"""A plug-in's metric may keep things while it computes, as the objects of torchmetrics do."""


def _plugin_score(name: str, pair: Sequence[FloatArray], image: str) -> float:
    """What a plug-in's metric returns for an SR and an HR image, as a float."""
    origin = METRICS.origin(name)
    try:
        with _ONE_AT_A_TIME:
            value: Any = METRICS.get(name)(*pair)
    except (Exception, SystemExit) as error:  # an outsider's code may raise anything
        raise HarnessError(
            f"The metric {name} of {origin} fails on {image} ({sentence(error)}): it gets two luma "
            "arrays (H, W), and must return one number."
        ) from error
    number = _as_float(value)
    if math.isnan(number):
        raise HarnessError(
            f"The metric {name} is not a number for {image}: {origin} returns "
            f"{reprlib.repr(value)}, and must return one number."
        )
    return number


def _as_float(value: Any) -> float:
    """A number, or an array or tensor that holds one, as a float; NaN for anything else."""
    try:
        # Tensors and arrays of numpy have `item`, wherever they lie and however many dimensions.
        number = value.item() if hasattr(value, "item") else value
        return math.nan if isinstance(number, str | bytes) else float(number)
    except Exception:  # an outsider's object may raise anything
        return math.nan


def colour_image(sr: AnyArray, image: ByteArray, rules: Protocol) -> ByteArray:
    """The SR image to look at, uint8: a luma result gets the chroma of the bicubic enlargement.

    Args:
        sr: what `sr_image` made.
        image: the HR image it belongs to, before `make_sample`.
        rules: the protocol.
    """
    seen = hr_image(image, rules)
    if rules.pipeline == "rgb" or seen.ndim == 2:
        return to_uint8(sr)
    ycbcr = rgb_to_ycbcr(seen) / 255
    small = imresize(ycbcr, 1 / rules.scale, rules.border)
    large = imresize(small, rules.scale, rules.border) * 255
    large[:, :, 0] = sr
    return to_uint8(ycbcr_to_rgb(large))


def _luma(image: AnyArray) -> FloatArray:
    """Float luma of an RGB image; a grey image's stored values."""
    return image.astype(np.float64) if image.ndim == 2 else rgb_to_y(image)
