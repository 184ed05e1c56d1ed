"""The other ways in which papers and their code score the same two images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from harness.protocol.color import rgb_to_y, to_uint8
from harness.protocol.metrics import PEAK, SSIM_WINDOW, psnr, ssim
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

Window = Literal["Gaussian 11x11", "uniform 7x7"]
"""The SSIM's window: that of Wang et al. 2004, or the default of scikit-image."""


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


PSNR_REACH, SSIM_REACH = 0.005, 0.00005
"""Half a unit of the last decimal that papers print."""


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


@dataclass(frozen=True)
class Claim:
    """A number to be explained; None where nothing is claimed."""

    psnr: float | None = None
    ssim: float | None = None

    def distance(self, scored: Rescored) -> float:
        """The larger of the two distances, in half units of the last decimal printed."""
        psnr = 0.0 if self.psnr is None else abs(scored.psnr - self.psnr) / PSNR_REACH
        ssim = 0.0 if self.ssim is None else abs(scored.ssim - self.ssim) / SSIM_REACH
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
        said = self._shown(self.psnr, self.ssim, "g", "g")
        matching = [one for one in ranked if self.distance(one) <= 1]
        if matching:
            reach = self._shown(PSNR_REACH, SSIM_REACH, "g", ".5f")
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
        return f"{', '.join(parts)} ({self._shown(scored.psnr, scored.ssim, '.4f', '.5f')})"

    def _shown(self, psnr: float | None, ssim: float | None, *forms: str) -> str:
        """Those of the two numbers that are claimed."""
        shown = [f"{psnr:{forms[0]}} dB"] if self.psnr is not None else []
        return " and ".join(shown + ([f"SSIM {ssim:{forms[1]}}"] if self.ssim is not None else []))


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


def _gaussian(sr: AnyArray, hr: AnyArray) -> float:
    """The project's SSIM; of colour, the mean over the channels."""
    if sr.ndim == 2:
        return ssim(sr, hr)
    return float(np.mean([ssim(sr[:, :, c], hr[:, :, c]) for c in range(3)]))


def _uniform(sr: AnyArray, hr: AnyArray) -> float:
    from skimage.metrics import structural_similarity

    axis = 2 if sr.ndim == 3 else None
    doubles = sr.astype(np.float64), hr.astype(np.float64)
    return float(structural_similarity(*doubles, data_range=PEAK, channel_axis=axis))


_WINDOWS: Mapping[Window, Callable[[AnyArray, AnyArray], float]] = {
    "Gaussian 11x11": _gaussian,
    "uniform 7x7": _uniform,
}
