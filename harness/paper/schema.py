"""The paper as data: every printed number, from ``papers/drfn2020.toml``, and text helpers."""

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
    """Read the paper's numbers as printed, typographical errors included."""
    text = files("harness.paper").joinpath("papers", "drfn2020.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


class Score(NamedTuple):
    """A score of Table 2.

    Attributes:
        name: the metric's name.
        title: its title with the unit.
        printed: decimals in the paper.
        measured: decimals of a measured number next to a printed one.
        exact: decimals that show the difference between two runs.
    """

    name: str
    title: str
    printed: int
    measured: int
    exact: int

    def as_printed(self, value: float) -> str:
        """Format a value with the paper's decimals."""
        return f"{value:.{self.printed}f}"

    def as_measured(self, value: float) -> str:
        """Format a value with the decimals of a measured number."""
        return f"{value:.{self.measured}f}"


SCORES: Mapping[str, Score] = {
    "psnr": Score("psnr", "PSNR in dB", 2, 3, 4),
    "ssim": Score("ssim", "SSIM", 4, 4, 6),
}
"""In their order within a cell."""


def suspicious(paper: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Index the suspicious cells of Table 2 by model, set and metric."""
    cells = [cell for cell in paper["suspicious"] if cell["table"] == "table2"]
    return {(cell["row"], cell["column"], cell["metric"]): cell for cell in cells}


def method_names(paper: Mapping[str, Any]) -> dict[str, str]:
    """The methods of Table 2 as the paper writes them, by model."""
    return {row["model"]: row["method"] for row in paper["table2"]["rows"]}


def title(dataset: str) -> str:
    """Return the name that papers use for a set."""
    return DATASETS.get(dataset).title if dataset in DATASETS else dataset


def listed(words: Sequence[str]) -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def ordinal(rank: int) -> str:
    """Format a rank: ``1st``, ``2nd``, ``3rd``, ``4th``, up to ``20th``."""
    return f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank, 'th') }"


ABLATION = "table1"
"""The table of the paper's ablation; weights of its variants have tags that begin with this."""


def variant_arguments(model: str, variant: str) -> dict[str, Any]:
    """Return the network's arguments for a variant of the paper's ablation.

    Args:
        model: the network's registered name.
        variant: the variant's name in the paper's TOML.

    Returns:
        the arguments; empty for the whole network.

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
