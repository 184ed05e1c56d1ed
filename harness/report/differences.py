"""What the differences of Table 2 are worth, given how few images a set has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import MismatchError
from harness.paper.findings import Evidence
from harness.paper.schema import title
from harness.paper.select import speaks_for_the_authors
from harness.paper.statistics import Interval, compare_runs, spread_over_weights
from harness.registry import register_report
from harness.report.forms import Table
from harness.report.marks import MISSING, grey_note

if TYPE_CHECKING:
    from harness.cards import GreyRule
    from harness.record import RunRecord

ARGUED = (("drfn", "msrn"), ("rdn", "drfn"))
"""Pairs that the paper compares in words."""
_ANSWERS = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True)
class Difference:
    """Two rows of Table 2 on one set.

    Attributes:
        printed: difference of the printed PSNRs (dB).
        measured: with its interval; None where one of the two was not measured, or where they
            follow different grey rules and it is not known which images are grey.
        half_width: of that interval, or the typical one of the set (dB); None where nothing was
            measured on it.
    """

    dataset: str
    better: str
    worse: str
    printed: float
    measured: Interval | None
    half_width: float | None

    @property
    def share(self) -> float | None:
        """The printed difference in half-widths: up to 1 it is within what the images do."""
        return abs(self.printed) / self.half_width if self.half_width else None

    @property
    def contains_zero(self) -> bool | None:
        """Whether the images leave open which of the two is better."""
        return self._contains(0.0)

    @property
    def contains_printed(self) -> bool | None:
        """Whether the images allow the printed difference."""
        return self._contains(self.printed)

    def _contains(self, value: float) -> bool | None:
        one = self.measured
        return None if one is None else one.low <= value <= one.high


@register_report("differences")
def differences(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None
) -> Table:
    """Differences between rows of Table 2 beside their intervals over the images.

    Args:
        runs: what `ResultStore.load` gives; may be empty.
        paper: what `harness.paper.schema.paper` gives.
        grey: the rule whose runs are compared; None for each row's own.
    """
    evidence = Evidence(runs, paper)
    found = [one for name in evidence.sets for one in _on_set(evidence, name, grey)]
    headers = [
        *("Set", "Methods", "Printed (dB)", "Measured (dB)", "95% interval"),
        *("Interval contains 0", "Printed inside interval", "Half-width (dB)"),
        "Printed / half-width",
    ]
    rows = [_row(one, evidence) for one in found]
    tidy = pd.DataFrame([_tidy(one) for one in found])
    return Table("differences", _caption(runs, grey), headers, rows, tidy)


def _on_set(evidence: Evidence, dataset: str, grey: GreyRule | None) -> list[Difference]:
    """Neighbours by printed PSNR among the measured rows, then the pairs the paper argues from."""
    runs: dict[str, RunRecord] = {}
    for model, row in evidence.table2.items():
        run = evidence.run(model, dataset, grey)
        if run and dataset in row and speaks_for_the_authors(run):
            runs[model] = run
    ordered = sorted(runs, key=lambda model: -evidence.table2[model][dataset][0])
    made = []
    for better, worse in pairwise(ordered):
        interval = _interval(runs[better], runs[worse])
        printed = _printed(evidence, dataset, better, worse)
        width = interval.half_width if interval else None
        made.append(Difference(dataset, better, worse, printed, interval, width))
    widths = [one.half_width for one in made if one.half_width is not None]
    typical = median(widths) if widths else None
    return made + [
        Difference(dataset, *pair, _printed(evidence, dataset, *pair), None, typical)
        for pair in ARGUED
        if not set(pair) <= runs.keys()
    ]


def _interval(better: RunRecord, worse: RunRecord) -> Interval | None:
    """The measured difference; None where the two runs cannot be compared."""
    try:
        return compare_runs(better, worse)
    except MismatchError:
        return None


def _printed(evidence: Evidence, dataset: str, better: str, worse: str) -> float:
    rows = evidence.table2
    return round(rows[better][dataset][0] - rows[worse][dataset][0], 2)


def _row(one: Difference, evidence: Evidence) -> list[str]:
    methods = [str(evidence.table2[name]["method"]) for name in (one.better, one.worse)]
    measured = one.measured
    width = MISSING if one.half_width is None else f"{one.half_width:.3f}"
    return [
        title(one.dataset),
        " over ".join(methods),
        f"{one.printed:+.2f}",
        f"{measured.difference:+.3f}" if measured else MISSING,
        f"{measured.low:+.3f} to {measured.high:+.3f}" if measured else "",
        _ANSWERS[one.contains_zero],
        _ANSWERS[one.contains_printed],
        width + ("" if measured or one.half_width is None else " (typical)"),
        "" if one.share is None else f"{one.share:.2f}",
    ]


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
        "contains_zero": one.contains_zero,
        "contains_printed": one.contains_printed,
        "half_width": None if one.half_width is None else round(one.half_width, 4),
        "share": None if one.share is None else round(one.share, 4),
    }


def _caption(runs: pd.DataFrame, grey: GreyRule | None) -> str:
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
        "that the paper argues from, beside the median half-width of the set. An interval that "
        "contains 0 leaves open which method is better; a printed difference below the half-width "
        "is within what the choice of images does. Of pairs that were not measured only their "
        "share of the median is known: methods that are more alike have narrower intervals. A "
        "bootstrap over as few images as the five of Set5 gives intervals that are too narrow. "
        "Rows that follow different grey rules are compared on colour images alone. "
        f"{seeds} {grey_note(grey)}."
    )
