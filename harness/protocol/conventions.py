"""The other ways in which papers and their code score the same two images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import groupby, product
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from harness.cards import Pipeline
from harness.protocol.color import to_uint8
from harness.protocol.metrics import PEAK, SSIM_WINDOW, psnr
from harness.protocol.variants import CHANNELS, WINDOWS, Channel, Window
from harness.record import finite_mean

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray

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
