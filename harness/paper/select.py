"""Which runs speak for a printed number, what they measured, and how their weights were trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from harness.cards import GreyRule
from harness.data.testsets import sets_without_grey
from harness.models.find_weights import read_notes
from harness.models.source import is_built_in
from harness.paper.schema import paper
from harness.protocol.protocols import USUAL_GREY, Protocol, protocol
from harness.record import digest
from harness.registry import METRICS, MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    seen = [training_notes(record).pixels for record in fits["record"]]
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


def measurements(
    candidates: Mapping[tuple[str, str], Sequence[RunRecord]], model: str, dataset: str, metric: str
) -> list[Measurement]:
    """Every measurement that may speak for a cell, one for each set of rules, simplest first.

    Weights trained here speak under the default rules only: they reach a number or they do not.
    """
    found: dict[tuple[str, ...], Measurement] = {}
    for run in candidates.get((model, dataset), ()):
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


@dataclass(frozen=True)
class TrainingNotes:
    """What weights were trained with.

    Attributes:
        key: equal where recipe and device are, whatever the seed; empty where nothing is known.
        steps: optimiser steps.
        patches: LR patches a step and their side.
        minutes: on ``device``.
        before: of the weights that the training started from, where it did.
    """

    key: str = ""
    steps: int = 0
    patches: tuple[int, int] = (0, 0)
    minutes: float = 0.0
    device: str = ""
    before: TrainingNotes | None = None

    @property
    def pixels(self) -> int:
        """LR pixels that were seen, each as often as it was, over the whole chain of trainings."""
        count, side = self.patches
        return self.steps * count * side**2 + (self.before.pixels if self.before else 0)

    def __str__(self) -> str:
        if not self.key:
            return "a training of which nothing is known"
        count, side = self.patches
        after = f", after {self.before}" if self.before else ""
        return (
            f"{self.steps:,} steps of {count} patches of {side}x{side} in {self.minutes:.0f} "
            f"minutes on {self.device}{after}"
        )


def training_notes(record: RunRecord) -> TrainingNotes:
    """The budget of a run's weights, as far as their package ships notes of their training.

    The weights themselves need not be shipped.
    """
    model, sha256 = record.identity.model, record.identity.weights_sha256
    source = MODELS.get(model).source if model in MODELS else None
    if source is None:
        return TrainingNotes()
    notes = _notes(source.parent / "weights").get(sha256)
    return notes_from(notes) if notes else TrainingNotes()


def notes_from(notes: Mapping[str, Any]) -> TrainingNotes:
    """The budget that notes tell of; an unknown one where they are of weights from elsewhere."""
    if not {"recipe", "steps", "seconds"} <= notes.keys():
        return TrainingNotes()
    before, device = notes.get("from"), notes.get("device", "a device that is not known")
    recipe = {name: value for name, value in notes["recipe"].items() if name != "seed"}
    return TrainingNotes(
        digest([recipe, device, *([before] if before else [])]),
        notes["steps"],
        (recipe["batch"], recipe["patch"]),
        notes["seconds"] / 60,
        device,
        notes_from(before) if before else None,
    )


@cache
def _notes(folder: Path) -> Mapping[str | None, Mapping[str, Any]]:
    """What training left beside the weights in a folder, by the weights' hash.

    A folder of somebody's weights may hold other JSON files, too.
    """
    notes = map(read_notes, sorted(folder.glob("*.json")))
    return {one["tensors_sha256"]: one for one in notes if one}
