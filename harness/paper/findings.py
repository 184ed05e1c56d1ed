"""The evidence for judging claims: the printed numbers, the runs, the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, get_args

from harness.cards import GreyRule
from harness.paper.select import broken_runs, candidates, choose_runs
from harness.registry import MODELS

if TYPE_CHECKING:
    from collections import Counter

    import pandas as pd

    from harness.cards import ModelCard
    from harness.models.cost import Complexity, Depth
    from harness.record import RunRecord


@dataclass(frozen=True)
class Evidence:
    """The evidence for judging claims: the printed numbers, the runs, the networks.

    Attributes:
        runs: the output of `ResultStore.load`.
        paper: the output of `harness.paper.schema.paper`.
    """

    runs: pd.DataFrame
    paper: Mapping[str, Any]

    @property
    def scale(self) -> int:
        """The factor of the paper's tables."""
        return int(self.paper["table2"]["scale"])

    @cached_property
    def table2(self) -> dict[str, Mapping[str, Any]]:
        """The rows of Table 2 by model."""
        return {row["model"]: row for row in self.paper["table2"]["rows"]}

    @property
    def sets(self) -> list[str]:
        """The columns of Table 2."""
        return [name for name in self.table2["bicubic"] if name not in ("method", "model")]

    @cached_property
    def misprints(self) -> frozenset[tuple[str, str, str]]:
        """Cells of Table 2 that contradict other printed numbers: model, set and metric."""
        return frozenset(
            (cell["row"], cell["column"], cell["metric"])
            for cell in self.paper["suspicious"]
            if cell["seen"] == "print"
        )

    def number(self, key: str) -> float:
        """Return a number from the paper's running text."""
        return float(self.paper["numbers"][key]["value"])

    @cached_property
    def _chosen(self) -> dict[tuple[bool, GreyRule | None], dict[tuple[str, str], pd.Series[Any]]]:
        rules = (None, *get_args(GreyRule))
        return {
            (ensemble, grey): choose_runs(self.runs, self.scale, grey, self_ensemble=ensemble)
            for ensemble in (False, True)
            for grey in rules
        }

    def run(
        self,
        model: str,
        dataset: str,
        grey: GreyRule | None = None,
        *,
        self_ensemble: bool = False,
    ) -> RunRecord | None:
        """Return the best run of a model on a set, or None; see `rank_runs` for ``grey``."""
        row = self._chosen[self_ensemble, grey].get((model, dataset))
        return None if row is None else row["record"]

    @cached_property
    def candidates(self) -> dict[tuple[str, str], list[RunRecord]]:
        """See `harness.paper.select.candidates`."""
        return candidates(self.runs, self.scale)

    @cached_property
    def broken(self) -> dict[tuple[str, str], RunRecord]:
        """Failed runs, by model and set, where none is finished under any rule."""
        return broken_runs(self.runs, self.scale, None, every_rule=True)

    def complexity(self, model: str) -> Complexity:
        """Count the size and work of a network, on the network itself.

        Raises:
            UsageError: no network is registered under this name.
        """
        return _complexity(MODELS.get(model), self.scale)

    def depth(self, model: str) -> Depth:
        """Count the layers of a network, on the network itself.

        Raises:
            UsageError: no network is registered under this name.
        """
        return _depth(MODELS.get(model), self.scale)

    def receptive_radius(self, model: str) -> int:
        """Count the LR pixels to each side that convolutions can carry to an output pixel.

        Raises:
            UsageError: no network is registered under this name.
        """
        return _receptive_radius(MODELS.get(model), self.scale)

    def convolutions(self, model: str) -> Counter[tuple[int, int, int]]:
        """Count the convolutions of a network by input width, output width and kernel side.

        Raises:
            UsageError: no network is registered under this name.
        """
        from harness.models.cost import convolution_shapes

        return convolution_shapes(MODELS.get(model), self.scale, {})


# Counting takes half a second per network.
@cache
def _complexity(card: ModelCard, scale: int) -> Complexity:
    from harness.models.cost import measure_complexity

    return measure_complexity(card, scale, {})


@cache
def _depth(card: ModelCard, scale: int) -> Depth:
    from harness.models.cost import measure_depth

    return measure_depth(card, scale, {})


@cache
def _receptive_radius(card: ModelCard, scale: int) -> int:
    from harness.models.cost import receptive_radius

    pixels = receptive_radius(card, scale)
    return -(-pixels * card.input_scale(scale) // scale)
