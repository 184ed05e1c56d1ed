"""What the differences of Table 2 are worth, given how few images a set has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.judgement import Evidence, title
from harness.paper.measured import speaks_for_the_authors
from harness.paper.statistics import Interval, compare_runs, spread_over_weights
from harness.registry import register_report
from harness.report.forms import Table

if TYPE_CHECKING:
    from harness.specs import GreyRule, RunRecord

ARGUED = (("drfn", "msrn"), ("rdn", "drfn"))
"""Pairs that the paper compares in words."""


@dataclass(frozen=True)
class Difference:
    """Two rows of Table 2 on one set.

    Attributes:
        printed: difference of the printed PSNRs (dB).
        measured: with its interval; None where one of the two was not measured.
        half_width: of that interval, or the typical one of the set (dB).
    """

    dataset: str
    better: str
    worse: str
    printed: float
    measured: Interval | None
    half_width: float

    @property
    def share(self) -> float:
        """The printed difference in half-widths: up to 1 it is within what the images do."""
        return abs(self.printed) / self.half_width


@register_report("differences")
def differences(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule = "full-range"
) -> Table:
    """Differences between rows of Table 2 beside their intervals over the images.

    Args:
        runs: what `ResultStore.load` gives; may be empty.
        paper: what `harness.paper.paper` gives.
        grey: the rule whose runs are compared.
    """
    evidence = Evidence(runs, paper)
    found = [one for name in evidence.sets for one in _on_set(evidence, name, grey)]
    headers = [
        *("Set", "Methods", "Printed (dB)", "Measured (dB)", "95% interval", "Half-width (dB)"),
        "Printed within it",
    ]
    rows = [_row(one, evidence) for one in found]
    columns = ["dataset", "better", "worse", "printed", "measured", "low", "high", "half_width"]
    tidy = pd.DataFrame([_tidy(one) for one in found], columns=[*columns, "share"])
    return Table("differences", _caption(runs, grey), headers, rows, tidy)


def _on_set(evidence: Evidence, dataset: str, grey: GreyRule) -> list[Difference]:
    """Neighbours by printed PSNR among the measured rows, then the pairs the paper argues from."""
    runs: dict[str, RunRecord] = {}
    for model, row in evidence.table2.items():
        run = evidence.run(model, dataset, grey)
        if run and dataset in row and speaks_for_the_authors(run):
            runs[model] = run
    ordered = sorted(runs, key=lambda model: -evidence.table2[model][dataset][0])
    made = []
    for better, worse in pairwise(ordered):
        interval = compare_runs(runs[better], runs[worse])
        printed = _printed(evidence, dataset, better, worse)
        made.append(Difference(dataset, better, worse, printed, interval, interval.half_width))
    if not made:
        return []
    typical = median(one.half_width for one in made)
    return made + [
        Difference(dataset, *pair, _printed(evidence, dataset, *pair), None, typical)
        for pair in ARGUED
        if not set(pair) <= runs.keys()
    ]


def _printed(evidence: Evidence, dataset: str, better: str, worse: str) -> float:
    rows = evidence.table2
    return round(rows[better][dataset][0] - rows[worse][dataset][0], 2)


def _row(one: Difference, evidence: Evidence) -> list[str]:
    methods = [str(evidence.table2[name]["method"]) for name in (one.better, one.worse)]
    measured = one.measured
    return [
        title(one.dataset),
        " over ".join(methods),
        f"{one.printed:+.2f}",
        f"{measured.difference:+.3f}" if measured else "missing",
        f"{measured.low:+.3f} to {measured.high:+.3f}" if measured else "",
        f"{one.half_width:.3f}" + ("" if measured else " (typical)"),
        _within(one),
    ]


def _within(one: Difference) -> str:
    if one.measured is None:
        return f"{one.share:.2f} of it"
    return "yes" if one.share <= 1 else "no"


def _tidy(one: Difference) -> dict[str, Any]:
    measured = one.measured
    return {
        "dataset": one.dataset,
        "better": one.better,
        "worse": one.worse,
        "printed": one.printed,
        "measured": round(measured.difference, 4) if measured else None,
        "low": round(measured.low, 4) if measured else None,
        "high": round(measured.high, 4) if measured else None,
        "half_width": round(one.half_width, 4),
        "share": round(one.share, 4),
    }


def _caption(runs: pd.DataFrame, grey: GreyRule) -> str:
    spreads = [
        f"{one.identity.model} on {title(one.identity.dataset)} {one.mean:.3f} dB, sd "
        f"{one.sd:.3f} dB ({one.count} weights)"
        for one in spread_over_weights(runs)
    ]
    seeds = (
        f"Over trainings that differ in their seed: {'; '.join(spreads)}."
        if spreads
        else "No network was run with several weights: what the seed does is not known."
    )
    return (
        "Differences of PSNR between rows of Table 2, as printed and as measured with the authors' "
        "weights, with the 95% interval of a paired bootstrap over the images (10,000 resamples, "
        "seed 0): methods that are neighbours by printed PSNR among those measured, then the pairs "
        "that the paper argues from, beside the median half-width of the set. A printed difference "
        "within the half-width is within what the choice of images does. Of pairs that were not "
        "measured only their share of the median is known: methods that are more alike have "
        f"narrower intervals. {seeds} Grey images: rule {grey}."
    )
