"""The other ways in which papers and their code score the same two images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from harness.protocol.color import rgb_to_y, to_uint8
from harness.protocol.metrics import PEAK, SSIM_WINDOW, psnr, ssim, ssim_whole
from harness.specs import Pipeline

if TYPE_CHECKING:
    from harness.specs import AnyArray, ByteArray, FloatArray

Channel = Literal["Y", "rounded Y", "Y with 64.738", "full-range Y", "RGB"]
"""What of two pictures is compared.

``Y`` is BT.601 luma as MATLAB has it, in double; ``rounded Y`` the same in 8 bits; ``Y with
64.738`` that of a port much copied, with a digit of 65.738 / 256 wrong; ``full-range Y`` that of
JPEG and of Pillow's mode L, in 8 bits; ``RGB`` all three channels.
"""

Crop = Literal["none", "scale", "scale + 6"]
"""Pixels left out on each side; ``scale + 6`` is the custom of validation on DIV2K."""

Window = Literal["Gaussian 11x11", "Gaussian 11x11, whole image", "uniform 7x7"]
"""The SSIM's window: that of Wang et al. 2004, inside the image only or with edges continued, as
MATLAB's ``ssim`` has it; or the default of scikit-image."""


@dataclass(frozen=True)
class Convention:
    """One way to score two pictures of a size."""

    channel: Channel
    crop: Crop = "scale"
    window: Window = "Gaussian 11x11"

    def border(self, scale: int) -> int:
        """Pixels left out on each side."""
        return {"none": 0, "scale": scale, "scale + 6": scale + 6}[self.crop]

    def fits(self, side: int, scale: int) -> bool:
        """Whether enough is left of pictures whose shorter side has so many pixels."""
        return side - 2 * self.border(scale) >= SSIM_WINDOW


CONVENTIONS = tuple(
    Convention(*parts) for parts in product(get_args(Channel), get_args(Crop), get_args(Window))
)

OWN: Mapping[Pipeline, Convention] = {"y": Convention("rounded Y"), "rgb": Convention("Y")}
"""What `harness.protocol.protocols.score` does in each pipeline."""


Scores = dict[Convention, tuple[float, float]]
"""PSNR (dB) and SSIM under each convention."""


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

    def seen(self, channel: Channel) -> tuple[AnyArray, AnyArray]:
        """What is compared, before the border is cut; a grey picture's stored values."""
        if self.luma and channel == ("rounded Y" if self.luma[0].dtype == np.uint8 else "Y"):
            return self.luma
        if self.hr.ndim == 2:
            return self.sr, self.hr
        return _CHANNELS[channel](self.sr), _CHANNELS[channel](self.hr)


def rescore(pair: Pair, conventions: Iterable[Convention], scale: int) -> Scores:
    """PSNR (dB) and SSIM of a pair under each convention.

    Raises:
        ValueError: the pictures differ in size or are too small, see `Convention.fits`.
    """
    scores = {}
    for convention in conventions:
        edge = convention.border(scale)
        inner = slice(edge, -edge or None)
        sr, hr = (plane[inner, inner] for plane in pair.seen(convention.channel))
        scores[convention] = psnr(sr, hr), _WINDOWS[convention.window](sr, hr)
    return scores


@dataclass(frozen=True)
class Rescored:
    """What a convention gives.

    Attributes:
        convention: how two pictures are scored.
        scale: the factor between LR and HR.
        psnr: mean over the images, in dB.
        ssim: mean over the images.
        made: how the pictures were made where that is not the run's own way, or empty.
        own: it is how this project scores them.
    """

    convention: Convention
    scale: int
    psnr: float
    ssim: float
    made: str = ""
    own: bool = False


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
class Claim:
    """A number to be explained; None where nothing is claimed."""

    psnr: Number | None = None
    ssim: Number | None = None

    def distance(self, scored: Rescored) -> float:
        """The larger of the two distances, in half units of the last digit written."""
        psnr = 0.0 if self.psnr is None else self.psnr.distance(scored.psnr)
        ssim = 0.0 if self.ssim is None else self.ssim.distance(scored.ssim)
        return max(psnr, ssim)

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """Those that can differ in what is claimed: the SSIM's window matters to SSIM alone."""
        if self.psnr is not None and self.ssim is None:
            return tuple(one for one in CONVENTIONS if one.window == OWN["rgb"].window)
        return CONVENTIONS

    def explain(self, ranked: Sequence[Rescored]) -> str:
        """Which convention gives the claimed number, or comes nearest, as a sentence.

        Args:
            ranked: what `rank` gives for this claim.
        """
        said = self._written(lambda number: number.text)
        matching = [one for one in ranked if self.distance(one) <= 1]
        if matching:
            reach = self._written(lambda number: f"{Decimal(str(number.reach)):f}")
            found = f"{said} is {', or '.join(map(self._describe, matching))}, within {reach}"
            own = "" if any(one.own for one in matching) else f"; {self._describe(ranked[0])}"
            return f"{found}{own}."
        nearest = min(ranked, key=self.distance)
        return f"No convention gives {said}; the nearest is {self._describe(nearest)}."

    def _describe(self, scored: Rescored) -> str:
        one = scored.convention
        parts = [one.channel, f"border {one.border(scored.scale)}"]
        parts += [] if self.ssim is None else [f"window {one.window}"]
        parts += [scored.made] if scored.made else ["as this harness scores"] * scored.own
        scores = self._shown(f"{scored.psnr:.4f}", f"{scored.ssim:.5f}")
        return f"{', '.join(parts)} ({scores})"

    def _written(self, form: Callable[[Number], str]) -> str:
        """The claimed numbers in some form."""
        return self._shown(*(form(one) if one else "" for one in (self.psnr, self.ssim)))

    def _shown(self, psnr: str, ssim: str) -> str:
        """Those of the two numbers that are claimed."""
        shown = [f"{psnr} dB"] * bool(self.psnr) + [f"SSIM {ssim}"] * bool(self.ssim)
        return " and ".join(shown)


def rank(found: Iterable[Rescored], claim: Claim) -> list[Rescored]:
    """The project's own convention first, then the nearest to the claim."""
    return sorted(found, key=lambda one: (not one.own, claim.distance(one)))


def _port_luma(image: ByteArray) -> FloatArray:
    return image @ (np.array([64.738, 129.057, 25.064]) / 256) + 16


def _full_luma(image: ByteArray) -> ByteArray:
    return to_uint8(image @ np.array([0.299, 0.587, 0.114]))


_CHANNELS: Mapping[Channel, Callable[[ByteArray], AnyArray]] = {
    "Y": rgb_to_y,
    "rounded Y": lambda image: to_uint8(rgb_to_y(image)),
    "Y with 64.738": _port_luma,
    "full-range Y": _full_luma,
    "RGB": lambda image: image,
}


def _each_channel(
    metric: Callable[[AnyArray, AnyArray], float],
) -> Callable[[AnyArray, AnyArray], float]:
    """An SSIM of planes, that of colour being the mean over the channels."""

    def mean(sr: AnyArray, hr: AnyArray) -> float:
        if sr.ndim == 2:
            return metric(sr, hr)
        return float(np.mean([metric(sr[:, :, c], hr[:, :, c]) for c in range(3)]))

    return mean


def _uniform(sr: AnyArray, hr: AnyArray) -> float:
    from skimage.metrics import structural_similarity

    axis = 2 if sr.ndim == 3 else None
    doubles = sr.astype(np.float64), hr.astype(np.float64)
    return float(structural_similarity(*doubles, data_range=PEAK, channel_axis=axis))


_WINDOWS: Mapping[Window, Callable[[AnyArray, AnyArray], float]] = {
    "Gaussian 11x11": _each_channel(ssim),
    "Gaussian 11x11, whole image": _each_channel(ssim_whole),
    "uniform 7x7": _uniform,
}
