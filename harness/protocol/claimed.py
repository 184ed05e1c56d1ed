"""A number that somebody claims, and which convention gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from harness.protocol.conventions import CONVENTIONS, OWN, Convention


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
class Claim:
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
        return self != Claim() and self.distance(scored) <= 1

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


def rank(found: Iterable[Rescored], claim: Claim) -> list[Rescored]:
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
