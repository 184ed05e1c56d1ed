"""Which runs speak for a printed number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.data.catalogue import sets_without_grey
from harness.paper.budgets import budget_of

if TYPE_CHECKING:
    from harness.specs import GreyRule, RunRecord

_TAG_ORDER = {"": 0, "official": 0, "repro": 1}


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have scores."""
    return runs if runs.empty else runs[runs["status"] == "finished"]


def rank_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule | None, *, self_ensemble: bool = False
) -> pd.DataFrame:
    """Finished runs of whole images under the default rules but for the grey rule, best first.

    The authors' weights come before retrained ones, and those before files of unknown origin; of
    retrained ones those that saw most pixels in training; then the latest run counts. Without
    ``grey`` the runs of every rule are taken but those with another border, which nothing printed
    follows.
    """
    if runs.empty:
        return runs
    fits = plain_runs(finished(runs), scale, grey, self_ensemble)
    ranks = fits["tag"].map(_TAG_ORDER).fillna(2)
    seen = [budget_of(record).pixels for record in fits["record"]]
    return fits.assign(rank=ranks, seen=seen).sort_values(
        ["rank", "seen", "time", "id"], ascending=[True, False, False, True], kind="stable"
    )


def plain_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule | None, self_ensemble: bool
) -> pd.DataFrame:
    """Runs of whole images under the default rules but for the grey rule."""
    if grey is None:
        follows = ~runs["protocol"].str.contains("symmetric") & (runs["scale"] == scale)
    else:
        plain = runs["dataset"].map(lambda name: plain_protocols(scale, grey, name))
        pairs = zip(runs["protocol"], plain, strict=True)
        follows = pd.Series([rules in some for rules, some in pairs], runs.index, dtype=bool)
    alike = runs["self_ensemble"].astype(bool) == self_ensemble
    return runs[follows & alike & runs["tile"].isna()]


def plain_protocols(scale: int, grey: GreyRule, dataset: str) -> list[str]:
    """The default rules of both pipelines but for the grey rule, by which a set may be run.

    Where it holds no grey image, a run under either grey rule will do.
    """
    suffixes = {"" if grey == "full-range" else f"+{grey}"}
    suffixes |= {""} if dataset in sets_without_grey() else set()
    return [f"BI-x{scale}/{pipeline}{s}" for pipeline in ("y", "rgb") for s in sorted(suffixes)]


def choose_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule, *, self_ensemble: bool = False
) -> dict[tuple[str, str], pd.Series[Any]]:
    """The first choice of `rank_runs` for each model, as registered, and set."""
    if runs.empty:
        return {}
    ranked = rank_runs(runs, scale, grey, self_ensemble=self_ensemble)
    best = ranked[~ranked["hyper"].astype(bool)].drop_duplicates(["model", "dataset"])
    return {(row["model"], row["dataset"]): row for _, row in best.iterrows()}


def broken_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule | None
) -> dict[tuple[str, str], RunRecord]:
    """The latest run that broke, for each model, as registered, and set that has no finished one.

    Without ``grey``, of the runs of every rule.
    """
    if runs.empty:
        return {}
    plain = plain_runs(runs[~runs["hyper"].astype(bool)], scale, grey, self_ensemble=False)
    ordered = plain.sort_values(["time", "id"], kind="stable")["record"]
    latest = {(one.identity.model, one.identity.dataset): one for one in ordered}
    done = {(one.identity.model, one.identity.dataset) for one in finished(plain)["record"]}
    return {cell: record for cell, record in latest.items() if cell not in done}
