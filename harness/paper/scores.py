"""How the paper's two scores are called and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Score(NamedTuple):
    """A score of Table 2.

    Attributes:
        name: of the metric.
        title: with its unit.
        printed: decimals in the paper.
        measured: decimals of a measured number that stands beside a printed one.
        exact: decimals that show what tells two runs apart.
    """

    name: str
    title: str
    printed: int
    measured: int
    exact: int

    def as_printed(self, value: float) -> str:
        """With the paper's decimals."""
        return f"{value:.{self.printed}f}"

    def as_measured(self, value: float) -> str:
        """With the decimals of a measured number."""
        return f"{value:.{self.measured}f}"


SCORES: Mapping[str, Score] = {
    "psnr": Score("psnr", "PSNR in dB", 2, 3, 4),
    "ssim": Score("ssim", "SSIM", 4, 4, 6),
}
"""In the order in which a cell has them."""
