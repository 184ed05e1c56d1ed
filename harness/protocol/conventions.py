"""Other ways in which papers and their code score images, and which of them give a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import groupby, product
from statistics import fmean
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
"""The values of two images that are compared.

``Y`` is BT.601 luma as in MATLAB, in double; ``rounded Y`` is the same in 8 bits; ``Y with 64.738``
comes from a widely copied port with one wrong digit in 65.738 / 256; ``full-range Y`` is that of
JPEG and of Pillow's mode L, in 8 bits; ``OpenCV Y`` is the same in the fixed-point arithmetic of
OpenCV's COLOR_BGR2YCrCb, which rounds 0.2 % of all colours differently; ``RGB`` is all channels.
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

In order: the window of Wang et al. 2004, inside the image only (their ``ssim_index.m``); with
replicated edges, as in MATLAB's ``ssim``; the default of scikit-image; with zero padding, as in
pytorch-ssim; that of Wang's later ``ssim.m``, which first downsamples images of 384 pixels and
more; and that of MATLAB's ``ssim`` on a colour image, which it treats as a volume.
"""


def _each_channel(
    metric: Callable[[AnyArray, AnyArray], float],
) -> Callable[[AnyArray, AnyArray], float]:
    """Extend an SSIM of planes to colour images, as the mean over the channels."""

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
"""For each channel, the function from an RGB image to the values compared."""

WINDOWS: Mapping[Window, Callable[[AnyArray, AnyArray], float]] = {
    "Gaussian 11x11": _each_channel(ssim),
    "Gaussian 11x11, whole image": _each_channel(ssim_whole),
    "uniform 7x7": ssim_uniform,
    "Gaussian 11x11, zero padding": _each_channel(ssim_zero_padded),
    "Gaussian 11x11, downsampled": _each_channel(ssim_downsampled),
    "Gaussian 11x11x11": ssim_whole,
}
"""For each window, the function from SR and HR, ``(H, W)`` or ``(H, W, 3)``, to the SSIM."""


Crop = Literal["scale", "none", "scale + 6"]
"""Pixels left out on each side; ``scale + 6`` is common in validation on DIV2K."""

Order = Literal["RGB", "SR as BGR", "HR as BGR", "both as BGR"]
"""Which image's channels are in the wrong order, as after OpenCV's ``imread``."""

Mean = Literal["PSNR by image", "PSNR of the pooled MSE", "PSNR with peak 255 on [0, 1]"]
"""How the PSNR of a set is computed: the mean of its images' PSNRs, the PSNR of their mean squared
error, or the mean PSNR with outputs in [0, 1] passed to code that expects [0, 255], such as
BasicSR's ``calculate_psnr``."""

Range = Literal[
    "L = 255",
    "SSIM with L = 255 on [0, 1]",
    "SSIM with L = 1 on [0, 255]",
    "SSIM with L = 2 on [0, 1]",
    "SSIM with L = 2 on [0, 255]",
]
"""The pixel range L that the SSIM assumes, and the real range.

255 on [0, 1]: BasicSR's ``calculate_ssim`` on outputs that were not multiplied by 255; 1: the
constants 0.01 ** 2 and 0.03 ** 2 of pytorch-ssim; 2: scikit-image before 0.20, which without
``data_range`` assumed that floats range from -1 to 1.
"""

_STRETCH: Mapping[Range, float] = {
    "L = 255": 1,
    "SSIM with L = 255 on [0, 1]": 1 / PEAK,
    "SSIM with L = 1 on [0, 255]": PEAK,
    "SSIM with L = 2 on [0, 1]": 1 / 2,
    "SSIM with L = 2 on [0, 255]": PEAK / 2,
}
"""Images multiplied by this factor have the same SSIM with L = 255."""


@dataclass(frozen=True)
class Convention:
    """One way to score two images of the same size, and the images of a set."""

    channel: Channel
    crop: Crop = "scale"
    window: Window = "Gaussian 11x11"
    order: Order = "RGB"
    mean: Mean = "PSNR by image"
    ssim_range: Range = "L = 255"

    def border(self, scale: int) -> int:
        """Return the number of pixels left out on each side."""
        return {"none": 0, "scale": scale, "scale + 6": scale + 6}[self.crop]

    def fits(self, side: int, scale: int) -> bool:
        """Whether images with this shorter side (in pixels) are large enough to score."""
        return side - 2 * self.border(scale) >= SSIM_WINDOW

    def psnr_of_set(self, psnrs: Sequence[float]) -> float:
        """Return the PSNR (dB) of a set from those of its images."""
        if self.mean == "PSNR of the pooled MSE":
            mse = fmean(10 ** (-psnr / 10) for psnr in psnrs)
            return -10 * math.log10(mse) if mse else math.inf
        return finite_mean(psnrs) + 20 * math.log10(PEAK) * (self.mean != "PSNR by image")

    @property
    def oddities(self) -> list[str]:
        """The unusual choices in words: fields after the window that are not at default."""
        return [
            value
            for field in fields(self)[3:]
            if (value := getattr(self, field.name)) != field.default
        ]

    def differences(self, other: Convention) -> int:
        """Return the number of fields in which two conventions differ."""
        return sum(getattr(self, f.name) != getattr(other, f.name) for f in fields(self))


def _usual() -> Iterator[Convention]:
    """Yield all channels, crops and windows; the volume window applies only to colour."""
    for channel, crop, window in product(get_args(Channel), get_args(Crop), get_args(Window)):
        if channel == "RGB" or window != "Gaussian 11x11x11":
            yield Convention(channel, crop, window)


_USUAL_CROPS: Sequence[Crop] = ("scale", "none")


def _read_as_bgr() -> Iterator[Convention]:
    """Yield the wrong channel orders, with the windows of BasicSR and scikit-image."""
    channels: Sequence[Channel] = ("Y", "rounded Y", "OpenCV Y")
    pairs: list[tuple[Channel, Order]] = [*product(channels, get_args(Order)[1:])]
    # For RGB it makes no difference which image is swapped, and swapping both changes nothing.
    pairs.append(("RGB", "SR as BGR"))
    windows: Sequence[Window] = ("Gaussian 11x11", "uniform 7x7")
    for (channel, order), crop, window in product(pairs, _USUAL_CROPS, windows):
        yield Convention(channel, crop, window, order)


def _mistaken_range() -> Iterator[Convention]:
    """Yield the wrong pixel ranges, each with the windows of the code that makes the mistake."""
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
"""All conventions, each with at most one mistake: most combinations are used by nobody."""

OWN: Mapping[Pipeline, Convention] = {"y": Convention("rounded Y"), "rgb": Convention("Y")}
"""The convention of `harness.protocol.rules.score` in each pipeline."""


Scores = dict[Convention, tuple[float, float]]
"""PSNR (dB) and SSIM of one image under each convention."""


@dataclass(frozen=True)
class Pair:
    """Two images of the same size.

    Attributes:
        sr: uint8 ``(H, W)`` or ``(H, W, 3)``.
        hr: the same shape.
        luma: the luma ``(H, W)`` of both, SR first, if the network made only luma and the images
            got their chroma elsewhere; in 8 bits, or in double if it was not rounded.
    """

    sr: ByteArray
    hr: ByteArray
    luma: tuple[AnyArray, AnyArray] | None = None

    def seen(self, channel: Channel, order: Order = "RGB") -> tuple[AnyArray, AnyArray]:
        """Return the values to compare, with the border; for grey images the stored values."""
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
    """Compute PSNR (dB) and SSIM of a pair under each convention.

    Raises:
        ValueError: the images differ in size or are too small, see `Convention.fits`.
    """

    def planes(convention: Convention) -> tuple[Channel, Order]:
        return convention.channel, convention.order

    scores: Scores = {}
    for (channel, order), group in groupby(sorted(conventions, key=planes), planes):
        scores |= _score_planes(*pair.seen(channel, order), list(group), scale)
    return scores


def _score_planes(
    sr: AnyArray, hr: AnyArray, conventions: Sequence[Convention], scale: int
) -> Scores:
    """Score under conventions that compare the same planes; compute each value once."""

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
    """The scores of a set under a convention.

    Attributes:
        convention: how two images are scored.
        scale: the factor between LR and HR.
        psnr: PSNR of the set, in dB.
        ssim: mean SSIM over the images.
        made: the ways in which the images were made differently from those of the run.
        usual: how this project scores images that are made this way.
        lineage: the published work whose rules made the images, see `LINEAGES`; empty if unknown.
    """

    convention: Convention
    scale: int
    psnr: float
    ssim: float
    made: tuple[str, ...] = ()
    usual: Convention = OWN["rgb"]
    lineage: str = ""

    @property
    def own(self) -> bool:
        """Whether this project makes and scores images this way."""
        return self.rarity == 0

    @property
    def like(self) -> str:
        """The lineage that makes and scores images this way; empty if none is known."""
        return self.lineage if self.convention == self.usual else ""

    @property
    def rarity(self) -> int:
        """Number of differences from how this project makes and scores images."""
        return len(self.made) + self.convention.differences(self.usual)


class Number(NamedTuple):
    """A number as it was printed.

    Attributes:
        text: the printed text.
        value: in dB, or an SSIM.
        reach: half a unit of the last printed digit, the largest rounding error.
    """

    text: str
    value: float
    reach: float

    @classmethod
    def read(cls, text: str) -> Number:
        """Parse a printed number: ``30.9`` is 30.9 plus or minus 0.05.

        Raises:
            ValueError: the text is not a finite number.
        """
        try:
            exponent = Decimal(text).as_tuple().exponent
        except InvalidOperation as error:
            raise ValueError(f"{text!r} is not a number") from error
        if not isinstance(exponent, int):
            raise ValueError(f"{text!r} is not finite")
        return cls(text, float(text), 0.5 * 10.0**exponent)

    def distance(self, value: float) -> float:
        """Return the distance to a value in units of ``reach``; ignore double rounding errors."""
        return round(abs(value - self.value) / self.reach, 6)


@dataclass(frozen=True)
class ClaimedNumbers:
    """The numbers to explain; None where nothing is claimed."""

    psnr: Number | None = None
    ssim: Number | None = None

    def distance(self, scored: Rescored) -> float:
        """Return the larger of the two distances, in half units of the last printed digit."""
        psnr = 0.0 if self.psnr is None else self.psnr.distance(scored.psnr)
        ssim = 0.0 if self.ssim is None else self.ssim.distance(scored.ssim)
        return max(psnr, ssim)

    def met_by(self, scored: Rescored) -> bool:
        """Whether the scores round to the claimed numbers; False if nothing is claimed."""
        return self != ClaimedNumbers() and self.distance(scored) <= 1

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """The conventions that can differ in the claimed numbers, the most common first."""
        own, conventions = OWN["rgb"], CONVENTIONS
        if self.ssim is None and self.psnr is not None:
            conventions = tuple(
                replace(one, window=own.window, ssim_range=own.ssim_range) for one in conventions
            )
        elif self.psnr is None and self.ssim is not None:
            conventions = tuple(replace(one, mean=own.mean) for one in conventions)
        return tuple(dict.fromkeys(conventions))

    def explain(self, ranked: Sequence[Rescored]) -> str:
        """Describe which ways to make and score images give the claimed number, or come nearest.

        Args:
            ranked: the result of `rank` for this claim.

        Returns:
            a sentence, and a line for each way that gives the number, the most common first.
        """
        claimed = self._format(lambda number: number.text)
        matching = [one for one in ranked if self.met_by(one)]
        if not matching:
            nearest = min(ranked, key=self.distance)
            return (
                f"None of {len(ranked)} combinations gives {claimed}; the nearest is "
                f"{self._describe(nearest)}, {self._off(nearest)} off."
            )
        reach = self._format(lambda number: f"{Decimal(str(number.reach)):f}")
        order = ", the commonest first" * (len(matching) > 1)
        lines = [
            f"{claimed} is given, within {reach}, by {len(matching)} of {len(ranked)} combinations"
            f"{order}:",
            *(
                self._describe(one)
                + f": the rules of {one.like} (--like {one.like})" * bool(one.like)
                for one in matching
            ),
        ]
        if not matching[0].own:
            lines.append(f"Not by {self._describe(ranked[0])}.")
        return "\n".join(lines)

    def _describe(self, scored: Rescored) -> str:
        convention = scored.convention
        parts = [convention.channel, f"border {convention.border(scored.scale)}"]
        parts += [] if self.ssim is None else [f"window {convention.window}"]
        parts += [*convention.oddities, *scored.made]
        parts += ["as this harness scores"] * scored.own
        scores = self._join(f"{scored.psnr:.4f}", f"{scored.ssim:.5f}")
        return f"{', '.join(parts)} ({scores})"

    def _off(self, scored: Rescored) -> str:
        """Format the differences between a combination and the claimed numbers."""
        psnr = f"{abs(scored.psnr - self.psnr.value):.4f}" if self.psnr else ""
        ssim = f"{abs(scored.ssim - self.ssim.value):.5f}" if self.ssim else ""
        return self._join(psnr, ssim)

    def _format(self, form: Callable[[Number], str]) -> str:
        """Format the claimed numbers with a function."""
        return self._join(*(form(one) if one else "" for one in (self.psnr, self.ssim)))

    def _join(self, psnr: str, ssim: str) -> str:
        """Join the texts of the numbers that are claimed."""
        parts = [f"{psnr} dB"] * bool(self.psnr) + [f"SSIM {ssim}"] * bool(self.ssim)
        return " and ".join(parts)


def rank(scored: Iterable[Rescored], claim: ClaimedNumbers) -> list[Rescored]:
    """Sort: the project's own way first, then those that match the claim, then the nearest.

    Among equals, the most common comes first.
    """
    return sorted(scored, key=lambda one: (not one.own, max(claim.distance(one), 1), one.rarity))


def distinct(scored: Iterable[Rescored]) -> list[Rescored]:
    """Keep the most common convention for each pair of scores.

    For grey or small images, or for a single image, many conventions give the same scores.
    """
    first: dict[tuple[float, float], Rescored] = {}
    for one in sorted(scored, key=lambda one: one.rarity):
        first.setdefault((round(one.psnr, 9), round(one.ssim, 9)), one)
    return list(first.values())
