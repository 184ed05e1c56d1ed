"""Selects the runs to compare with the paper's numbers, and reads how weights were trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from harness.cards import GreyRule
from harness.data.testsets import sets_without_grey
from harness.models.find_weights import read_notes
from harness.models.source import is_built_in
from harness.paper.schema import paper
from harness.protocol.rules import USUAL_GREY, Protocol, protocol
from harness.record import digest
from harness.registry import METRICS, MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cards import Pipeline
    from harness.record import RunRecord


Rules = GreyRule | Literal["every"] | None
"""Which runs to select: those under the default rules, with one rule for grey images or with that
of each cell (None, see `cell_grey`); or those under ``every`` rule except other borders, which no
printed number uses."""

_TAG_ORDER = {"": 0, "official": 0, "repro": 1}


def foreign_origin(record: RunRecord) -> str:
    """Name the foreign code that a run used under the name of a built-in model or metric.

    Empty where there is none. Such a run is not compared with the paper.
    """
    for name, facts in record.plugins.items():
        if _is_built_in(name, record) and not is_built_in(facts):
            file = facts.get("module", facts.get("file", "an unknown file"))
            installed = facts.get("distribution")
            return f"{file} ({installed})" if installed else file
    return ""


def _is_built_in(name: str, record: RunRecord) -> bool:
    """Whether a name in a record's ``plugins`` is a built-in's or a network's of Table 2."""
    if name != record.identity.model:
        return METRICS.is_built_in(name)
    return MODELS.is_built_in(name) or name in (row["model"] for row in paper()["table2"]["rows"])


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that have scores."""
    return runs if runs.empty else runs[runs["status"] == "finished"]


def rank_runs(
    runs: pd.DataFrame, scale: int, rules: Rules, *, self_ensemble: bool = False
) -> pd.DataFrame:
    """Rank the finished whole-image runs under some rules, best first.

    Records of the current version come before those of earlier versions. Then the authors' weights
    come before retrained ones, and those before files of unknown origin. Among retrained weights,
    those that saw more pixels in training come first; then later runs.

    Args:
        runs: the output of `Records.table`.
        scale: the factor.
        rules: see `Rules`.
        self_ensemble: runs with it, or without.
    """
    if runs.empty:
        return runs
    plain = plain_runs(finished(runs), scale, rules, self_ensemble=self_ensemble)
    ranked = plain.assign(
        earlier=[record.earlier for record in plain["record"]],
        rank=plain["tag"].map(_TAG_ORDER).fillna(2),
        seen=[training_notes(record).pixels for record in plain["record"]],
    )
    order = {"earlier": True, "rank": True, "seen": False, "time": False, "id": True}
    return ranked.sort_values(list(order), ascending=list(order.values()), kind="stable")


def plain_runs(
    runs: pd.DataFrame, scale: int, rules: Rules, *, self_ensemble: bool = False
) -> pd.DataFrame:
    """Select whole-image runs under some rules; see `rank_runs`.

    Runs of foreign code under a built-in's name are left out; see `foreign_origin`.
    """
    if rules == "every":
        follows = ~runs["protocol"].str.contains("symmetric") & (runs["scale"] == scale)
    else:
        cells = zip(runs["protocol"], runs["model"], runs["dataset"], strict=True)
        plain = [name in plain_protocols(scale, rules, *cell) for name, *cell in cells]
        follows = pd.Series(plain, runs.index, dtype=bool)
    same_ensemble = runs["self_ensemble"].astype(bool) == self_ensemble
    ours = [not (run.identity.lr_sha256 or foreign_origin(run)) for run in runs["record"]]
    comparable = pd.Series(ours, runs.index, dtype=bool)
    return runs[follows & same_ensemble & runs["tile"].isna() & comparable]


def plain_protocols(scale: int, grey: GreyRule | None, model: str, dataset: str) -> set[str]:
    """Name the protocols that a cell's runs may follow: default rules, one for each pipeline.

    Both grey rules are accepted where the set has no grey image.
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
    """Return the grey rule of a cell: its pipeline's, or the one that the printed PSNR follows."""
    rule: GreyRule = paper()["grey"].get(model, {}).get(dataset, USUAL_GREY[pipeline])
    return rule


def choose_runs(
    runs: pd.DataFrame, scale: int, rules: Rules, *, self_ensemble: bool = False
) -> dict[tuple[str, str], pd.Series[Any]]:
    """Choose the best run of `rank_runs` for each set and model with default arguments."""
    if runs.empty:
        return {}
    ranked = rank_runs(runs, scale, rules, self_ensemble=self_ensemble)
    best = ranked[~ranked["hyper"].astype(bool)].drop_duplicates(["model", "dataset"])
    return {(row["model"], row["dataset"]): row for _, row in best.iterrows()}


def broken_runs(runs: pd.DataFrame, scale: int, rules: Rules) -> dict[tuple[str, str], RunRecord]:
    """Find the latest failed run of each model and set without a finished run.

    Only models with default arguments count. The arguments are those of `rank_runs`.
    """
    if runs.empty:
        return {}
    plain = plain_runs(runs[~runs["hyper"].astype(bool)], scale, rules)
    ordered = plain.sort_values(["time", "id"], kind="stable")["record"]
    latest = {(run.identity.model, run.identity.dataset): run for run in ordered}
    done = {(run.identity.model, run.identity.dataset) for run in finished(plain)["record"]}
    return {cell: record for cell, record in latest.items() if cell not in done}


WHOLE = "SSIM of the whole image"
"""The rule of the metric ``ssim-whole``, MATLAB's ``ssim``."""


@dataclass(frozen=True)
class Measurement:
    """A measured mean.

    Attributes:
        value: PSNR in dB, or SSIM.
        rules: the rules that differ from the default ones, in words; empty for the default.
        run: the record that holds it.
    """

    value: float
    rules: tuple[str, ...]
    run: RunRecord

    @property
    def rules_text(self) -> str:
        """The rules in words."""
        return ", ".join(self.rules) or "default rules"


def measurements(
    candidates: Mapping[tuple[str, str], Sequence[RunRecord]], model: str, dataset: str, metric: str
) -> list[Measurement]:
    """List the measurements of a cell, one for each set of rules, fewest rules first.

    Runs with other weights than the authors' count under the default rules only.
    """
    by_rules: dict[tuple[str, ...], Measurement] = {}
    for run in candidates.get((model, dataset), ()):
        rules = departures(run)
        if rules and not speaks_for_the_authors(run):
            continue
        by_rules.setdefault(rules, Measurement(run.means[metric], rules, run))
        if metric == "ssim" and "ssim-whole" in run.means:
            whole = (*rules, WHOLE)
            by_rules.setdefault(whole, Measurement(run.means["ssim-whole"], whole, run))
    return sorted(by_rules.values(), key=lambda one: (len(one.rules), one.rules))


def measured_under(measured: Sequence[Measurement], rules: Sequence[str]) -> Measurement | None:
    """Return a cell's measurement under some rules; those that none of its runs used are ignored.

    For example, no run of a set without grey images uses a grey rule.
    """
    known = {word for one in measured for word in one.rules}
    return next((one for one in measured if set(one.rules) == known & set(rules)), None)


def speaks_for_the_authors(run: RunRecord) -> bool:
    """Whether a run used the authors' weights, or a method without weights."""
    return run.weights is None or run.weights.tag == "official"


def departures(run: RunRecord) -> tuple[str, ...]:
    """List the rules of a run that differ from its cell's, in words."""
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
    """Collect the whole-image runs of the best kind of weights for each model and set."""
    if runs.empty:
        return {}
    ranked = rank_runs(runs, scale, "every")
    plain = ranked[~ranked["hyper"].astype(bool)]
    best = plain[plain["rank"] == plain.groupby(["model", "dataset"])["rank"].transform("min")]
    cells = best.groupby(["model", "dataset"])["record"]
    by_cell: dict[Any, list[RunRecord]] = cells.agg(list).to_dict()
    return by_cell


@dataclass(frozen=True)
class TrainingNotes:
    """The training budget of weights.

    Attributes:
        key: a hash of recipe and device without the seed; empty where nothing is known.
        steps: optimiser steps.
        patches: number of LR patches per step, and their side in pixels.
        minutes: training time on ``device``.
        before: the notes of the weights that the training started from, if any.
    """

    key: str = ""
    steps: int = 0
    patches: tuple[int, int] = (0, 0)
    minutes: float = 0.0
    device: str = ""
    before: TrainingNotes | None = None

    @property
    def pixels(self) -> int:
        """LR pixels seen in the whole chain of trainings, repeats included."""
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
    """Return the training budget of a run's weights, where the model's package ships such notes.

    The package need not ship the weights themselves.
    """
    model, sha256 = record.identity.model, record.identity.weights_sha256
    source = MODELS.get(model).source if model in MODELS else None
    if source is None:
        return TrainingNotes()
    notes = _notes(source.parent / "weights").get(sha256)
    return notes_from(notes) if notes else TrainingNotes()


def notes_from(notes: Mapping[str, Any]) -> TrainingNotes:
    """Read the budget from training notes; it is unknown for weights trained elsewhere."""
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
    """Read the training notes in a folder of weights, by the weights' hash.

    The folder may also hold other JSON files.
    """
    notes = map(read_notes, sorted(folder.glob("*.json")))
    return {one["tensors_sha256"]: one for one in notes if one}
