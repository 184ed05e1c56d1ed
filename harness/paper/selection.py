"""Which runs speak for a printed number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from harness.cards import GreyRule
from harness.data.testsets import sets_without_grey
from harness.models.source import is_built_in
from harness.paper import paper
from harness.paper.budgets import budget_of
from harness.protocol.protocols import USUAL_GREY, Protocol
from harness.registry import METRICS, MODELS

if TYPE_CHECKING:
    from harness.cards import Pipeline
    from harness.record import RunRecord

EARLIER = 10
"""Added to the rank of a record of an earlier version."""

_TAG_ORDER = {"": 0, "official": 0, "repro": 1}


def foreign_origin(record: RunRecord) -> str:
    """Whose code a run is of that only has the name of a built-in model or metric, or empty.

    Such a run speaks for no printed number.
    """
    for name, facts in record.plugins.items():
        if _is_built_in(name, record) and not is_built_in(facts):
            said = facts.get("module", facts.get("file", "an unknown file"))
            installed = facts.get("distribution")
            return f"{said} ({installed})" if installed else said
    return ""


def _is_built_in(name: str, record: RunRecord) -> bool:
    """Whether a name that a record tells the origin of is a built-in's or a printed network's."""
    if name != record.identity.model:
        return METRICS.is_built_in(name)
    return MODELS.is_built_in(name) or name in (row["model"] for row in paper()["table2"]["rows"])


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that have scores."""
    return runs if runs.empty else runs[runs["status"] == "finished"]


def rank_runs(
    runs: pd.DataFrame,
    scale: int,
    grey: GreyRule | None,
    *,
    self_ensemble: bool = False,
    every_rule: bool = False,
) -> pd.DataFrame:
    """Finished runs of whole images under the default rules but for the grey rule, best first.

    Records of today come before those of earlier versions, the authors' weights before retrained
    ones, and those before files of unknown origin; of retrained ones those that saw most pixels in
    training; then the latest run counts.

    Args:
        runs: what `ResultStore.load` gives.
        scale: the factor.
        grey: the rule for grey images; None for that of each cell, see `cell_grey`.
        self_ensemble: runs with it, or without.
        every_rule: take the runs under all rules but with another border, which nothing printed
            follows; ``grey`` plays no part then.
    """
    if runs.empty:
        return runs
    fits = plain_runs(finished(runs), scale, grey, self_ensemble, every_rule=every_rule)
    earlier = [record.earlier for record in fits["record"]]
    ranks = fits["tag"].map(_TAG_ORDER).fillna(2) + EARLIER * pd.Series(
        earlier, fits.index, dtype=int
    )
    seen = [budget_of(record).pixels for record in fits["record"]]
    return fits.assign(rank=ranks, seen=seen).sort_values(
        ["rank", "seen", "time", "id"], ascending=[True, False, False, True], kind="stable"
    )


def plain_runs(
    runs: pd.DataFrame,
    scale: int,
    grey: GreyRule | None,
    self_ensemble: bool,
    *,
    every_rule: bool = False,
) -> pd.DataFrame:
    """Runs of whole images under the default rules but for the grey rule; see `rank_runs`.

    Those of other code under the name of a built-in are left out; see `foreign_origin`.
    """
    if every_rule:
        follows = ~runs["protocol"].str.contains("symmetric") & (runs["scale"] == scale)
    else:
        cells = zip(runs["protocol"], runs["model"], runs["dataset"], strict=True)
        plain = [rules in plain_protocols(scale, grey, *cell) for rules, *cell in cells]
        follows = pd.Series(plain, runs.index, dtype=bool)
    alike = runs["self_ensemble"].astype(bool) == self_ensemble
    ours = [not (one.identity.lr_sha256 or foreign_origin(one)) for one in runs["record"]]
    speaks = pd.Series(ours, runs.index, dtype=bool)
    return runs[follows & alike & runs["tile"].isna() & speaks]


def plain_protocols(scale: int, grey: GreyRule | None, model: str, dataset: str) -> set[str]:
    """The default rules of both pipelines but for the grey rule, by which a cell may be run.

    Where the set holds no grey image, a run under either grey rule will do.
    """
    wanted = {pipeline: [grey or cell_grey(model, dataset, pipeline)] for pipeline in USUAL_GREY}
    if dataset in sets_without_grey():
        wanted = dict.fromkeys(USUAL_GREY, list(get_args(GreyRule)))
    return {
        Protocol(pipeline, scale, grey=rule).name
        for pipeline, rules in wanted.items()
        for rule in rules
    }


def cell_grey(model: str, dataset: str, pipeline: Pipeline) -> GreyRule:
    """The grey rule of a cell: its pipeline's own, or the one that the printed PSNR follows."""
    rule: GreyRule = paper()["grey"].get(model, {}).get(dataset, USUAL_GREY[pipeline])
    return rule


def choose_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule | None, *, self_ensemble: bool = False
) -> dict[tuple[str, str], pd.Series[Any]]:
    """The first choice of `rank_runs` for each model, as registered, and set."""
    if runs.empty:
        return {}
    ranked = rank_runs(runs, scale, grey, self_ensemble=self_ensemble)
    best = ranked[~ranked["hyper"].astype(bool)].drop_duplicates(["model", "dataset"])
    return {(row["model"], row["dataset"]): row for _, row in best.iterrows()}


def broken_runs(
    runs: pd.DataFrame, scale: int, grey: GreyRule | None, *, every_rule: bool = False
) -> dict[tuple[str, str], RunRecord]:
    """The latest run that broke, for each model, as registered, and set that has no finished one.

    The arguments are those of `rank_runs`.
    """
    if runs.empty:
        return {}
    registered = runs[~runs["hyper"].astype(bool)]
    plain = plain_runs(registered, scale, grey, self_ensemble=False, every_rule=every_rule)
    ordered = plain.sort_values(["time", "id"], kind="stable")["record"]
    latest = {(one.identity.model, one.identity.dataset): one for one in ordered}
    done = {(one.identity.model, one.identity.dataset) for one in finished(plain)["record"]}
    return {cell: record for cell, record in latest.items() if cell not in done}
