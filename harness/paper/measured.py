"""What was measured for a printed number, under every rule that it may have been made by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.data.testsets import sets_without_grey
from harness.paper.selection import EARLIER, cell_grey, rank_runs
from harness.protocol.protocols import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from harness.paper.judgement import Evidence
    from harness.record import RunRecord

WHOLE = "SSIM of the whole image"
"""The rule of ``ssim-whole``, MATLAB's ``ssim``."""


@dataclass(frozen=True)
class Measurement:
    """A measured mean.

    Attributes:
        value: PSNR in dB, or SSIM.
        rules: what departs from the default rules, in words; empty for the default.
        run: the record it comes from.
    """

    value: float
    rules: tuple[str, ...]
    run: RunRecord

    @property
    def said(self) -> str:
        """The rules in words."""
        return ", ".join(self.rules) or "default rules"


def measurements(evidence: Evidence, model: str, dataset: str, metric: str) -> list[Measurement]:
    """Every measurement that may speak for a cell, one for each set of rules, simplest first.

    Weights trained here speak under the default rules only: they reach a number or they do not.
    """
    found: dict[tuple[str, ...], Measurement] = {}
    for run in evidence.candidates.get((model, dataset), ()):
        rules = departures(run)
        if rules and not speaks_for_the_authors(run):
            continue
        found.setdefault(rules, Measurement(run.means[metric], rules, run))
        if metric == "ssim" and "ssim-whole" in run.means:
            whole = (*rules, WHOLE)
            found.setdefault(whole, Measurement(run.means["ssim-whole"], whole, run))
    return sorted(found.values(), key=lambda one: (len(one.rules), one.rules))


def under(found: Sequence[Measurement], rules: Sequence[str]) -> Measurement | None:
    """The measurement of a cell under some rules, of which only those count that it was run with.

    A set without grey images, for instance, is not run under a rule for these.
    """
    known = {word for one in found for word in one.rules}
    return next((one for one in found if set(one.rules) == known & set(rules)), None)


def speaks_for_the_authors(run: RunRecord) -> bool:
    """It used the authors' weights, or a method without any."""
    return run.weights is None or run.weights.tag == "official"


def departures(run: RunRecord) -> tuple[str, ...]:
    """The rules of a run that are not those of its cell, in words."""
    rules = protocol(run.identity.protocol)
    usual = cell_grey(run.identity.model, run.identity.dataset, rules.pipeline)
    grey = rules.grey != usual and run.identity.dataset not in sets_without_grey()
    words = {
        f"grey images {rules.grey}": grey,
        "LR images not rounded": rules.float_lr,
        "luma not rounded": rules.float_y,
    }
    return tuple(word for word, holds in words.items() if holds)


def candidates(runs: pd.DataFrame, scale: int) -> dict[tuple[str, str], list[RunRecord]]:
    """Runs on whole images by model, as registered, and set, those of the best weights first."""
    if runs.empty:
        return {}
    ranked = rank_runs(runs, scale, None, every_rule=True)
    plain = ranked[~ranked["hyper"].astype(bool)]
    kind = plain["rank"] % EARLIER
    best = plain[kind == kind.groupby([plain["model"], plain["dataset"]]).transform("min")]
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for cell in zip(best["model"], best["dataset"], best["record"], strict=True):
        found.setdefault(cell[:2], []).append(cell[2])
    return found
