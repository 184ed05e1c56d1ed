"""The paper as data: every printed number, read from ``papers/drfn2020.toml``; words for them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from harness.errors import UsageError
from harness.registry import DATASETS


@cache
def paper() -> dict[str, Any]:
    """The paper's numbers as printed, typographical errors included."""
    text = files("harness.paper").joinpath("papers", "drfn2020.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


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


def title(dataset: str) -> str:
    """What papers call a set."""
    return DATASETS.get(dataset).title if dataset in DATASETS else dataset


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def ordinal(rank: int) -> str:
    """``1st``, ``2nd``, ``3rd``, ``4th``, up to ``20th``."""
    return f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank, 'th') }"


ABLATION = "table1"
"""The table of the paper's ablation; begins the tags of weights of its variants."""


def variant_arguments(model: str, variant: str) -> dict[str, Any]:
    """The arguments that make a variant of the paper's ablation of a network.

    Args:
        model: the network's registered name.
        variant: the variant's name in the paper's TOML.

    Returns:
        the arguments; none for the whole network.

    Raises:
        UsageError: the paper has no such ablation or variant.
    """
    table = paper()[ABLATION]
    if model != table["model"]:
        raise UsageError(f"--variant is for {table['model']}, not for {model}.")
    if variant not in table["variants"]:
        known = ", ".join(table["variants"])
        raise UsageError(f"No variant is called {variant!r}: there are {known}.")
    return {} if variant == table["whole"] else dict(table["variants"][variant])
