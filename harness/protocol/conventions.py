"""The other ways in which papers and their code score two images, and which gives a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import groupby, product
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from harness.cards import Pipeline
from harness.protocol.color import luma_64_738, luma_full, luma_opencv, rgb_to_y, to_uint8
from harness.protocol.metrics import (
    PEAK,
    SSIM_WINDOW,
    psnr,
    ssim,
    ssim_downsampled,
    ssim_uniform,
    ssim_whole,
    ssim_zero_padded,
)
from harness.record import finite_mean

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray


Channel = Literal["Y", "rounded Y", "Y with 64.738", "full-range Y", "OpenCV Y", "RGB"]
"""What of two pictures is compared.

``Y`` is BT.601 luma as MATLAB has it, in double; ``rounded Y`` the same in 8 bits; ``Y with
64.738`` that of a port much copied, with a digit of 65.738 / 256 wrong; ``full-range Y`` that of
JPEG and of Pillow's mode L, in 8 bits; ``OpenCV Y`` the same in the fixed-point arithmetic of
OpenCV's COLOR_BGR2YCrCb, which rounds 0.2 % of all colours otherwise; ``RGB`` all three channels.
"""

Window = Literal[
    "Gaussian 11x11",
    "Gaussian 11x11, whole image",
    "uniform 7x7",
    "Gaussian 11x11, zero padding",
    "Gaussian 11x11, downsampled",
    "Gaussian 11x11x11",
]
"""The SSIM's window.

That of Wang et al. 2004, inside the image only (their ``ssim_index.m``); with edges continued, as
MATLAB's ``ssim`` has it; the default of scikit-image; with zeros beyond the edge, as pytorch-ssim
has it; that of Wang's later ``ssim.m``, which first shrinks images of 384 pixels and more; or that
of MATLAB's ``ssim`` given colour, which it takes for a volume.
"""


def _each_channel(
    metric: Callable[[AnyArray, AnyArray], float],
) -> Callable[[AnyArray, AnyArray], float]:
    """An SSIM of planes, that of colour being the mean over the channels."""

    def mean(sr: AnyArray, hr: AnyArray) -> float:
        if sr.ndim == 2:
            return metric(sr, hr)
        return float(np.mean([metric(sr[:, :, c], hr[:, :, c]) for c in range(3)]))

    return mean


CHANNELS: Mapping[Channel, Callable[[ByteArray], AnyArray]] = {
    "Y": rgb_to_y,
    "rounded Y": lambda image: to_uint8(rgb_to_y(image)),
    "Y with 64.738": luma_64_738,
    "full-range Y": luma_full,
    "OpenCV Y": luma_opencv,
    "RGB": lambda image: image,
}
"""From an RGB image to what is compared."""

WINDOWS: Mapping[Window, Callable[[AnyArray, AnyArray], float]] = {
    "Gaussian 11x11": _each_channel(ssim),
    "Gaussian 11x11, whole image": _each_channel(ssim_whole),
    "uniform 7x7": ssim_uniform,
    "Gaussian 11x11, zero padding": _each_channel(ssim_zero_padded),
    "Gaussian 11x11, downsampled": _each_channel(ssim_downsampled),
    "Gaussian 11x11x11": ssim_whole,
}
"""From SR and HR, ``(H, W)`` or ``(H, W, 3)``, to the SSIM."""


Crop = Literal["scale", "none", "scale + 6"]
"""Pixels left out on each side; ``scale + 6`` is the custom of validation on DIV2K."""

Order = Literal["RGB", "SR as BGR", "HR as BGR", "both as BGR"]
"""Which picture's channels are taken in the wrong order, as after OpenCV's ``imread``."""

Mean = Literal["PSNR by image", "PSNR of the pooled MSE", "PSNR with peak 255 on [0, 1]"]
"""How the PSNR of a set is made: the mean of its images' PSNRs, the PSNR of the mean of their
squared errors, or the former with outputs in [0, 1] given to code that expects [0, 255], such as
BasicSR's ``calculate_psnr``."""

Range = Literal[
    "L = 255",
    "SSIM with L = 255 on [0, 1]",
    "SSIM with L = 1 on [0, 255]",
    "SSIM with L = 2 on [0, 1]",
    "SSIM with L = 2 on [0, 255]",
]
"""What the SSIM takes the range L of pixels for, and what it is.

255 on [0, 1]: BasicSR's ``calculate_ssim`` given outputs that were not multiplied; 1: the
constants 0.01 ** 2 and 0.03 ** 2 of pytorch-ssim; 2: scikit-image before 0.20, told of no
``data_range``, took floats to reach from -1 to 1.
"""

_STRETCH: Mapping[Range, float] = {
    "L = 255": 1,
    "SSIM with L = 255 on [0, 1]": 1 / PEAK,
    "SSIM with L = 1 on [0, 255]": PEAK,
    "SSIM with L = 2 on [0, 1]": 1 / 2,
    "SSIM with L = 2 on [0, 255]": PEAK / 2,
}
"""Pictures multiplied by this have the same SSIM with L = 255."""


@dataclass(frozen=True)
class Convention:
    """One way to score two pictures of a size, and the pictures of a set."""

    channel: Channel
    crop: Crop = "scale"
    window: Window = "Gaussian 11x11"
    order: Order = "RGB"
    mean: Mean = "PSNR by image"
    ssim_range: Range = "L = 255"

    def border(self, scale: int) -> int:
        """Pixels left out on each side."""
        return {"none": 0, "scale": scale, "scale + 6": scale + 6}[self.crop]

    def fits(self, side: int, scale: int) -> bool:
        """Whether enough is left of pictures whose shorter side has so many pixels."""
        return side - 2 * self.border(scale) >= SSIM_WINDOW

    def psnr_of_set(self, psnrs: Sequence[float]) -> float:
        """The PSNR (dB) of a set from those of its images."""
        if self.mean == "PSNR of the pooled MSE":
            mse = sum(10 ** (-one / 10) for one in psnrs) / len(psnrs)
            return -10 * math.log10(mse) if mse else math.inf
        return finite_mean(psnrs) + 20 * math.log10(PEAK) * (self.mean != "PSNR by image")

    @property
    def oddities(self) -> list[str]:
        """What few papers do, in words: the fields after the window that are not at default."""
        return [
            value
            for field in fields(self)[3:]
            if (value := getattr(self, field.name)) != field.default
        ]

    def differences(self, other: Convention) -> int:
        """In how many fields two conventions differ."""
        return sum(getattr(self, one.name) != getattr(other, one.name) for one in fields(self))


def _usual() -> Iterator[Convention]:
    """Colour as a volume matters where there is colour."""
    for channel, crop, window in product(get_args(Channel), get_args(Crop), get_args(Window)):
        if channel == "RGB" or window != "Gaussian 11x11x11":
            yield Convention(channel, crop, window)


_USUAL_CROPS: Sequence[Crop] = ("scale", "none")


def _read_as_bgr() -> Iterator[Convention]:
    """A mistake of Python code, which has the windows of BasicSR and of scikit-image."""
    channels: Sequence[Channel] = ("Y", "rounded Y", "OpenCV Y")
    seen: list[tuple[Channel, Order]] = [*product(channels, get_args(Order)[1:])]
    # Of RGB it does not matter which picture is swapped, nor that both are.
    seen.append(("RGB", "SR as BGR"))
    windows: Sequence[Window] = ("Gaussian 11x11", "uniform 7x7")
    for (channel, order), crop, window in product(seen, _USUAL_CROPS, windows):
        yield Convention(channel, crop, window, order)


def _mistaken_range() -> Iterator[Convention]:
    """Each with the windows of the code that makes the mistake."""
    skimage: Sequence[Window] = ("uniform 7x7", "Gaussian 11x11")
    windows: Mapping[Range, Sequence[Window]] = {
        "SSIM with L = 255 on [0, 1]": ("Gaussian 11x11",),
        "SSIM with L = 1 on [0, 255]": ("Gaussian 11x11, zero padding", "Gaussian 11x11"),
        "SSIM with L = 2 on [0, 1]": skimage,
        "SSIM with L = 2 on [0, 255]": skimage,
    }
    channels: Sequence[Channel] = ("Y", "rounded Y", "RGB")
    for channel, crop in product(channels, _USUAL_CROPS):
        for mistake in windows:
            for window in windows[mistake]:
                yield Convention(channel, crop, window, ssim_range=mistake)
        yield Convention(
            channel,
            crop,
            mean="PSNR with peak 255 on [0, 1]",
            ssim_range="SSIM with L = 255 on [0, 1]",
        )


CONVENTIONS = (
    *_usual(),
    *(replace(one, mean="PSNR of the pooled MSE") for one in _usual()),
    *_read_as_bgr(),
    *_mistaken_range(),
)
"""Each mistake is made alone: not every combination, of which most are nobody's."""

OWN: Mapping[Pipeline, Convention] = {"y": Convention("rounded Y"), "rgb": Convention("Y")}
"""What `harness.protocol.protocols.score` does in each pipeline."""


Scores = dict[Convention, tuple[float, float]]
"""PSNR (dB) and SSIM of one image under each convention."""


@dataclass(frozen=True)
class Pair:
    """Two pictures of one size.

    Attributes:
        sr: uint8 ``(H, W)`` or ``(H, W, 3)``.
        hr: the same shape.
        luma: the luma ``(H, W)`` of both, SR first, where a network made no colour and the
            pictures got their chroma elsewhere; in 8 bits, or in double where it was not rounded.
    """

    sr: ByteArray
    hr: ByteArray
    luma: tuple[AnyArray, AnyArray] | None = None

    def seen(self, channel: Channel, order: Order = "RGB") -> tuple[AnyArray, AnyArray]:
        """What is compared, before the border is cut; a grey picture's stored values."""
        if self.luma and order == "RGB":
            rounded = self.luma[0].dtype == np.uint8
            if channel == "rounded Y":
                return self.luma if rounded else (to_uint8(self.luma[0]), to_uint8(self.luma[1]))
            if channel == "Y" and not rounded:
                return self.luma
        if self.hr.ndim == 2:
            return self.sr, self.hr
        sr = self.sr[:, :, ::-1] if order in ("SR as BGR", "both as BGR") else self.sr
        hr = self.hr[:, :, ::-1] if order in ("HR as BGR", "both as BGR") else self.hr
        return CHANNELS[channel](sr), CHANNELS[channel](hr)


def rescore(pair: Pair, conventions: Iterable[Convention], scale: int) -> Scores:
    """PSNR (dB) and SSIM of a pair under each convention.

    Raises:
        ValueError: the pictures differ in size or are too small, see `Convention.fits`.
    """

    def seen(one: Convention) -> tuple[Channel, Order]:
        return one.channel, one.order

    scores: Scores = {}
    for (channel, order), alike in groupby(sorted(conventions, key=seen), seen):
        scores |= _score_planes(*pair.seen(channel, order), list(alike), scale)
    return scores


def _score_planes(
    sr: AnyArray, hr: AnyArray, conventions: Sequence[Convention], scale: int
) -> Scores:
    """The scores under conventions that compare the same planes, each computed once."""

    @cache
    def cut(edge: int) -> tuple[AnyArray, AnyArray]:
        inner = slice(edge, -edge or None)
        return sr[inner, inner], hr[inner, inner]

    @cache
    def similarity(edge: int, window: Window, ssim_range: Range) -> float:
        stretch = _STRETCH[ssim_range]
        pair = cut(edge) if stretch == 1 else [plane * stretch for plane in cut(edge)]
        return WINDOWS[window](*pair)

    @cache
    def peak_ratio(edge: int) -> float:
        return psnr(*cut(edge))

    return {
        one: (
            peak_ratio(one.border(scale)),
            similarity(one.border(scale), one.window, one.ssim_range),
        )
        for one in conventions
    }


@dataclass(frozen=True)
class Rescored:
    """What a convention gives.

    Attributes:
        convention: how two pictures are scored.
        scale: the factor between LR and HR.
        psnr: of the set, in dB.
        ssim: mean over the images.
        made: in which ways the pictures were made otherwise than the run's.
        usual: how this project scores pictures that are made so.
    """

    convention: Convention
    scale: int
    psnr: float
    ssim: float
    made: tuple[str, ...] = ()
    usual: Convention = OWN["rgb"]

    @property
    def own(self) -> bool:
        """It is how this project makes and scores them."""
        return self.rarity == 0

    @property
    def rarity(self) -> int:
        """In how many ways it is not how this project makes and scores them."""
        return len(self.made) + self.convention.differences(self.usual)


class Number(NamedTuple):
    """A number as somebody wrote it.

    Attributes:
        text: as it was written.
        value: in dB, or an SSIM.
        reach: half a unit of the last digit written, which rounding may hide.
    """

    text: str
    value: float
    reach: float

    @classmethod
    def read(cls, text: str) -> Number:
        """``30.9`` is 30.9 give or take 0.05.

        Raises:
            ValueError: it is no finite number.
        """
        try:
            exponent = Decimal(text).as_tuple().exponent
        except InvalidOperation as error:
            raise ValueError(f"{text!r} is no number") from error
        if not isinstance(exponent, int):
            raise ValueError(f"{text!r} is not finite")
        return cls(text, float(text), 0.5 * 10.0**exponent)

    def distance(self, value: float) -> float:
        """How far another number is, in reaches; rounding errors of doubles do not count."""
        return round(abs(value - self.value) / self.reach, 6)


@dataclass(frozen=True)
class ClaimedNumbers:
    """A number to be explained; None where nothing is claimed."""

    psnr: Number | None = None
    ssim: Number | None = None

    def distance(self, scored: Rescored) -> float:
        """The larger of the two distances, in half units of the last digit written."""
        psnr = 0.0 if self.psnr is None else self.psnr.distance(scored.psnr)
        ssim = 0.0 if self.ssim is None else self.ssim.distance(scored.ssim)
        return max(psnr, ssim)

    def met_by(self, scored: Rescored) -> bool:
        """Whether it rounds to what is claimed; never where nothing is."""
        return self != ClaimedNumbers() and self.distance(scored) <= 1

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """Those that can differ in what is claimed, the commonest first."""
        own, found = OWN["rgb"], CONVENTIONS
        if self.ssim is None and self.psnr is not None:
            found = tuple(
                replace(one, window=own.window, ssim_range=own.ssim_range) for one in found
            )
        elif self.psnr is None and self.ssim is not None:
            found = tuple(replace(one, mean=own.mean) for one in found)
        return tuple(dict.fromkeys(found))

    def explain(self, ranked: Sequence[Rescored]) -> str:
        """Which ways to make and score the pictures give the claimed number, or come nearest.

        Args:
            ranked: what `rank` gives for this claim.

        Returns:
            a sentence, and lines with the ways that give it, the commonest first.
        """
        said = self._written(lambda number: number.text)
        matching = [one for one in ranked if self.met_by(one)]
        if not matching:
            nearest = min(ranked, key=self.distance)
            return (
                f"None of {len(ranked)} combinations gives {said}; the nearest is "
                f"{self._describe(nearest)}, {self._off(nearest)} off."
            )
        reach = self._written(lambda number: f"{Decimal(str(number.reach)):f}")
        first = ", the commonest first" * (len(matching) > 1)
        lines = [
            f"{said} is given, within {reach}, by {len(matching)} of {len(ranked)} combinations"
            f"{first}:",
            *map(self._describe, matching),
        ]
        if not matching[0].own:
            lines.append(f"Not by {self._describe(ranked[0])}.")
        return "\n".join(lines)

    def _describe(self, scored: Rescored) -> str:
        one = scored.convention
        parts = [one.channel, f"border {one.border(scored.scale)}"]
        parts += [] if self.ssim is None else [f"window {one.window}"]
        parts += [*one.oddities, *scored.made]
        parts += ["as this harness scores"] * scored.own
        scores = self._shown(f"{scored.psnr:.4f}", f"{scored.ssim:.5f}")
        return f"{', '.join(parts)} ({scores})"

    def _off(self, scored: Rescored) -> str:
        """How far a combination is from what is claimed."""
        psnr = f"{abs(scored.psnr - self.psnr.value):.4f}" if self.psnr else ""
        ssim = f"{abs(scored.ssim - self.ssim.value):.5f}" if self.ssim else ""
        return self._shown(psnr, ssim)

    def _written(self, form: Callable[[Number], str]) -> str:
        """The claimed numbers in some form."""
        return self._shown(*(form(one) if one else "" for one in (self.psnr, self.ssim)))

    def _shown(self, psnr: str, ssim: str) -> str:
        """Those of the two numbers that are claimed."""
        shown = [f"{psnr} dB"] * bool(self.psnr) + [f"SSIM {ssim}"] * bool(self.ssim)
        return " and ".join(shown)


def rank(found: Iterable[Rescored], claim: ClaimedNumbers) -> list[Rescored]:
    """The project's own way first, then those that give what is claimed, then the nearest.

    Among equals the commonest comes first.
    """
    return sorted(found, key=lambda one: (not one.own, max(claim.distance(one), 1), one.rarity))


def distinct(found: Iterable[Rescored]) -> list[Rescored]:
    """One for each number that is given: the commonest.

    Of grey or small pictures, and of a single one, many conventions are the same.
    """
    first: dict[tuple[float, float], Rescored] = {}
    for one in sorted(found, key=lambda one: one.rarity):
        first.setdefault((round(one.psnr, 9), round(one.ssim, 9)), one)
    return list(first.values())
