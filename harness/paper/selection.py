"""Which runs speak for a printed number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.paper.budgets import budget_of

if TYPE_CHECKING:
    import pandas as pd

    from harness.specs import GreyRule

_TAG_ORDER = {"": 0, "official": 0, "repro": 1}


def rank_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule | None, *, self_ensemble: bool = False
) -> pd.DataFrame:
    """Runs of whole images under the default rules but for the grey rule, first choice first.

    The authors' weights come before retrained ones, and those before files of unknown origin; of
    retrained ones those that saw most pixels in training; then the latest run counts. Without
    ``grey`` the runs of every rule are taken but those with another border, which nothing printed
    follows.
    """
    if runs.empty:
        return runs
    if grey is None:
        follows = ~runs["protocol"].str.contains("symmetric") & (runs["scale"] == scale)
    else:
        suffix = "" if grey == "full-range" else f"+{grey}"
        follows = runs["protocol"].isin([f"BI-x{scale}/y{suffix}", f"BI-x{scale}/rgb{suffix}"])
    fits = runs[
        follows & (runs["self_ensemble"].astype(bool) == self_ensemble) & runs["tile"].isna()
    ]
    ranks = fits["tag"].map(_TAG_ORDER).fillna(2)
    seen = [budget_of(record).pixels for record in fits["record"]]
    return fits.assign(rank=ranks, seen=seen).sort_values(
        ["rank", "seen", "time", "id"], ascending=[True, False, False, True], kind="stable"
    )


def choose_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule, *, self_ensemble: bool = False
) -> dict[tuple[str, str], pd.Series[Any]]:
    """The first choice of `rank_runs` for each model, as registered, and set."""
    if runs.empty:
        return {}
    ranked = rank_runs(runs, scale, grey, self_ensemble=self_ensemble)
    best = ranked[~ranked["hyper"].astype(bool)].drop_duplicates(["model", "dataset"])
    return {(row["model"], row["dataset"]): row for _, row in best.iterrows()}
