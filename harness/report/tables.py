"""Tables as pure functions of a DataFrame of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError
from harness.paper.schema import SCORES, Score
from harness.paper.select import broken_runs, choose_runs, finished
from harness.registry import DATASETS, MODELS, register_report
from harness.report.forms import Table, plain_table, readable
from harness.report.marks import (
    FAILED,
    MISSING,
    TRAINED_HERE,
    dagger,
    dagger_note,
    grey_note,
    training,
)

if TYPE_CHECKING:
    from harness.cards import DatasetCard, GreyRule
    from harness.record import RunRecord


@register_report("table2")
def table2(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Table 2 of the paper: printed value, measured value and difference for every cell.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.schema.paper` gives.
        grey: the rule whose runs are shown; None for each row's own.

    Raises:
        HarnessError: there are no runs.
    """
    if finished(runs).empty:
        raise HarnessError(
            "There are no finished runs to report: make some with harness run and name their "
            "folder with --results, or accept them with harness accept."
        )
    scale = paper["table2"]["scale"]
    columns = [card for card in map(DATASETS.get, DATASETS) if card.column]
    chosen, broken = choose_runs(runs, scale, grey), broken_runs(runs, scale, grey)
    printed = {row["model"]: row for row in paper["table2"]["rows"]}
    others = sorted({model for model, _ in [*chosen, *broken] if model not in printed})
    numbers: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for model in [*printed, *others]:
        cells = [_cell(model, card, printed.get(model, {}), chosen, broken) for card in columns]
        numbers += cells
        rows += _three_lines(model, printed.get(model, {}).get("method", model), cells)
    tidy = pd.DataFrame([number for cell in numbers for number in _tidy(cell)])
    headers = ["Method", "Pipeline", "", *(card.title for card in columns)]
    shown = [cell["record"] for cell in numbers if cell["run"] is not None]
    return Table("table2", _caption(paper, scale, grey, tidy, shown), headers, rows, tidy)


def _cell(
    model: str,
    card: DatasetCard,
    printed: Mapping[str, Any],
    chosen: Mapping[tuple[str, str], pd.Series[Any]],
    broken: Mapping[tuple[str, str], RunRecord],
) -> dict[str, Any]:
    """One model on one set: what is printed, what was measured, or the run that broke."""
    run = chosen.get((model, card.name))
    return {
        "model": model,
        "dataset": card.name,
        "printed": printed.get(card.name),
        "measured": None if run is None else [float(run[name]) for name in SCORES],
        "run": run,
        "record": broken.get((model, card.name)) if run is None else run["record"],
    }


def _three_lines(model: str, method: str, cells: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A model's lines: as printed, as measured, and the difference."""
    pipeline = MODELS.get(model).pipeline if model in MODELS else _pipeline_of(cells)
    return [
        [
            method,
            pipeline,
            "printed",
            *(_pair(cell["printed"], Score.as_printed) for cell in cells),
        ],
        ["", "", "measured", *map(_measured, cells)],
        ["", "", "difference", *map(_gap, cells)],
    ]


def _measured(cell: Mapping[str, Any]) -> str:
    if cell["measured"] is None:
        return FAILED if cell["record"] else MISSING
    return _pair(cell["measured"], Score.as_measured) + dagger(cell["record"])


def _gap(cell: Mapping[str, Any]) -> str:
    if not (cell["printed"] and cell["measured"]):
        return ""
    gaps = zip(SCORES.values(), cell["measured"], cell["printed"], strict=True)
    return "/".join(f"{m - p:+.{score.measured}f}" for score, m, p in gaps)


def _pipeline_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """The pipeline of a model whose plug-in is not at hand, from its runs."""
    names = {cell["run"]["protocol"] for cell in cells if cell["run"] is not None}
    return "/".join(sorted(name.split("/")[1].split("+")[0] for name in names))


def _pair(values: Sequence[float] | None, written: Callable[[Score, float], str]) -> str:
    return "/".join(map(written, SCORES.values(), values)) if values else "-/-"


def _tidy(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a metric, with what is needed to check the number."""
    run, record = cell["run"], cell["record"]
    unmeasured = FAILED if record else MISSING
    rows = []
    for place, metric in enumerate(SCORES):
        printed = cell["printed"][place] if cell["printed"] else None
        measured = cell["measured"][place] if cell["measured"] else None
        rows.append(
            {
                "model": cell["model"],
                "dataset": cell["dataset"],
                "metric": metric,
                "printed": printed,
                "measured": None if measured is None else round(measured, 6),
                "difference": _difference(measured, printed),
                "status": unmeasured if run is None else "measured",
                "protocol": "" if run is None else run["protocol"],
                "weights": "" if run is None else run["tag"],
                "training": "" if run is None else training(record),
                "weights_file_sha256": "" if run is None else run["weights_file_sha256"],
                "verified_images": "" if run is None else bool(run["verified"]),
                "run": record.identity.id if record else MISSING,
            }
        )
    return rows


def _difference(measured: float | None, printed: float | None) -> float | None:
    if measured is None or printed is None:
        return None
    return round(measured - printed, 6)


def _caption(
    paper: Mapping[str, Any],
    scale: int,
    grey: GreyRule | None,
    tidy: pd.DataFrame,
    shown: Sequence[RunRecord],
) -> str:
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    unverified = tidy.loc[tidy["verified_images"] == False, "dataset"].unique()  # noqa: E712
    said = (
        f'Table 2 of "{paper["source"]["title"]}": PSNR in dB / SSIM at x{scale} (bicubic '
        f"degradation, MATLAB imresize, luma, border of {scale} pixels left out), printed and "
        f"measured; {_share(tidy)}. Pipeline y: luma degraded in double, compared in uint8; "
        "pipeline rgb: colour degraded in uint8, float luma compared; rows of different pipelines "
        f"do not compare exactly. {grey_note(grey)} (--grey shows all rows under one rule)."
    )
    if note := dagger_note(shown, methods):
        said += f" {note}"
    stand_ins = {card.name: card.stand_in for card in map(MODELS.get, MODELS) if card.stand_in}
    measured = set(tidy.loc[tidy["measured"].notna(), "model"])
    for model, smaller in stand_ins.items():
        if smaller in measured and model not in measured:
            said += f" {model} has no weights here; {smaller}, in a row of its own, is no "
            said += "measure of it."
    if len(unverified):
        said += f" Not verified against published pixels: {', '.join(sorted(unverified))}."
    return said


def _share(tidy: pd.DataFrame) -> str:
    """How many printed cells are measured, and by which weights."""
    printed = tidy[(tidy["metric"] == "psnr") & tidy["printed"].notna()]
    measured = printed[printed["status"] == "measured"]
    own, failed = (measured["training"] != "").sum(), (printed["status"] == FAILED).sum()
    said = f"{len(measured)} of {len(printed)} printed cells are measured"
    said += f", {own} of them with other weights than the authors' ({TRAINED_HERE})" if own else ""
    return said + (f", the runs of {failed} failed" if failed else "")


def _exact(record: RunRecord, metric: str) -> str:
    """How many images a mean leaves out since their score is infinite."""
    count = record.infinite.get(metric)
    return f" ({count} infinite)" if count else ""


def summary(records: Sequence[RunRecord]) -> str:
    """The table that closes ``harness run``: one line a run."""
    rows = []
    computed = (name for record in records for name in record.identity.metrics)
    metrics = list(dict.fromkeys((*SCORES, *computed)))
    for record in records:
        identity, means = record.identity, record.means
        done = record.status == "finished"
        label = identity.model + ("+" if identity.self_ensemble else "")
        scores = [
            f"{readable(means.get(name))}{_exact(record, name)}" if done else FAILED
            for name in metrics
        ]
        tag = record.weights.tag if record.weights else "-"
        rules = identity.protocol + ", given LR" * bool(identity.lr_sha256)
        rows.append([label, identity.dataset, len(record.images), *scores, rules, tag])
    titles = ["PSNR (dB)", *(name.upper() for name in metrics[1:])]
    headers = ["model", "dataset", "images", *titles, "protocol", "weights"]
    align = ("left", "left", *("right",) * (1 + len(metrics)), "left", "left")
    return plain_table(headers, rows, align)
