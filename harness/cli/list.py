"""The verb list: models, datasets, weights, runs, papers, metrics and reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import getdoc
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import click

from harness.cli.options import (
    data_option,
    examples,
    fill_registries,
    json_option,
    open_results,
    plugin_option,
    refuse_ignored,
    results_option,
)
from harness.cli.progress import Row, echo, echo_lines, flat, note, rows_csv, show
from harness.errors import HarnessError, UsageError
from harness.record import WeightsInfo
from harness.registry import DATASETS, FAILURES, METRICS, MODELS, PAPERS, REPORTS, clashes
from harness.text import csv_text

if TYPE_CHECKING:
    from harness.cards import ModelCard
    from harness.record import RunRecord
    from harness.run.store import Records


@click.command(
    "list", epilog=examples("list models --scale 2", "list datasets", "list runs --csv --images")
)
@click.argument(
    "what",
    type=click.Choice(
        ["models", "datasets", "weights", "runs", "papers", "metrics", "reports"],
        case_sensitive=False,
    ),
    default="models",
    metavar="WHAT",
)
@click.option(
    "--scale",
    type=click.IntRange(1),
    help="For models and runs: only those of this scale.  [default: all; 4 for datasets and "
    "weights]",
)
@click.option("--paper", metavar="NAME|FILE", help="For papers: only this one.")
@results_option("results/local", several=True)
@data_option
@plugin_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; runs get one row per metric.")
@click.option("--images", is_flag=True, help="With runs --csv: one row per image and metric.")
def list_(
    what: str,
    scale: int | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    as_csv: bool,
    paper: str | None = None,
    results: tuple[Path, ...] = (),
    data_root: Path | None = None,
    images: bool = False,
) -> None:
    """List models, datasets, weights, runs, papers, metrics or reports.

    WHAT is one of these words, by default models. The datasets are the test sets and the training
    sets, with their states on this machine.
    """
    if as_csv and as_json:
        raise UsageError("Give either --csv or --json, not both.")
    if images and not (as_csv and what == "runs"):
        raise UsageError("--images needs harness list runs --csv.")
    for name, taker in _OWN_OPTIONS.items():
        if taker != what:
            refuse_ignored(f"harness list {taker}", name)
    if what in ("papers", "metrics", "reports"):
        refuse_ignored("harness list models, datasets, weights and runs", "scale")
    fill_registries(plugins)
    as_text = not (as_csv or as_json)
    match what:
        case "datasets":
            if as_text:
                _show_datasets(scale or 4, data_root)
                return
            rows = [row | {"use": "test"} for row in list_datasets(scale or 4, data_root)]
            rows += [row | {"use": "training"} for row in list_training_sets(data_root)]
        case "weights":
            rows = list_weights(scale or 4)
        case "papers":
            rows = [paper_row(PAPERS.spelling(paper))] if paper else list_papers()
            if paper:
                _note_remarks(PAPERS.spelling(paper))
            if as_text:  # a year is no amount
                rows = [row | {"year": str(row.get("year") or "")} for row in rows]
        case "metrics":
            rows = list_metrics()
        case "reports":
            rows = list_reports()
        case "runs":
            records = open_results(*results)
            if as_csv:
                echo_lines(runs_csv(records, scale, images=images), nl=False)
                return
            rows = list_runs(records, scale)
            rows = brief_runs(rows, _tags(records)) if as_text else rows
        case _:
            rows = list_models(scale)
    if as_csv:
        echo_lines(rows_csv(rows), nl=False)
    else:
        echo_lines(show(rows, as_json))


_OWN_OPTIONS = {"results": "runs", "images": "runs", "data_root": "datasets", "paper": "papers"}
"""The options that one listing alone uses, with the listing."""


def list_alias(group: str, what: str) -> click.Command:
    """Make the verb ``where`` of a group, which is ``harness list`` of one kind."""
    assert list_.callback is not None
    return click.Command(
        "where",
        callback=partial(list_.callback, what=what),
        params=[
            parameter
            for parameter in list_.params
            if _OWN_OPTIONS.get(str(parameter.name), what) == what and parameter.name != "what"
        ],
        help=f"The same as harness list {what}.",
        epilog=examples(f"{group} where", f"{group} where --json"),
    )


def list_models(scale: int | None) -> list[Row]:
    """List the models of a scale, or all; then the rejected names and the failed plug-ins."""
    rows = [
        {
            "model": card.name,
            "pipeline": card.pipeline,
            "input": card.input,
            "scales": list(card.scales),
            "parameters": card.params,
            "paper": card.paper or None,
            "from": card.origin,
        }
        for card in map(MODELS.get, MODELS)
        if scale in (None, *card.scales)
    ]
    failed = [{"from": name, "error": why} for name, why in FAILURES.items()]
    rejected = [{"from": " and ".join(clash.origins), "error": str(clash)} for clash in clashes()]
    return [*rows, *rejected, *failed]


def _show_datasets(scale: int, data_root: Path | None) -> None:
    """Print the folders that are searched, the test sets, and the training sets."""
    from harness.data.testsets import roots

    echo(f"Searched in this order (HARNESS_DATA names folders, separated by '{os.pathsep}'):")
    for root in roots(data_root):
        echo(f"  {root}{'' if os.path.isdir(root) else '  (not there)'}")
    columns = ("dataset", "images", "state", "where")
    kinds = {
        "Test sets": list_datasets(scale, data_root),
        "Training and validation sets": list_training_sets(data_root),
    }
    for title, rows in kinds.items():
        shown = [{name: row[name] for name in columns} for row in rows]
        echo_lines(f"\n{title}:\n{show(shown, False)}")
    echo("")
    for row in (row for rows in kinds.values() for row in rows if row["obtain"]):
        echo(f"To get {row['dataset']}: {row['obtain']}.")


def list_datasets(scale: int, data_root: Path | None) -> list[Row]:
    """List the registered test sets, and whether they are on this machine."""
    return [_dataset_row(name, scale, data_root) for name in DATASETS]


def _dataset_row(name: str, scale: int, data_root: Path | None) -> Row:
    from harness.data.testsets import DatasetUnavailable, find, how_to_obtain

    card = DATASETS.get(name)
    row: Row = {"dataset": name, "images": card.count or None, "state": None, "where": None}
    row |= {"licence": None, "obtain": None}
    try:
        image_set = find(card, scale, data_root)
    except DatasetUnavailable:
        return row | {"state": "not here", "obtain": how_to_obtain(card)}
    except HarnessError as error:
        others = []
        for other in sorted({2, 3, 4} - {scale}):
            with suppress(HarnessError):
                find(card, other, data_root)
                others.append(f"x{other}")
        if others:
            return row | {"state": f"here at {' and '.join(others)} only"}
        return row | {"state": f"broken: {error}"}
    state = "as published" if image_set.verified else "unverified"
    facts = {"images": len(image_set.images), "state": state}
    return row | facts | {"where": str(image_set.images[0].path.parent)}


def list_training_sets(data_root: Path | None) -> list[Row]:
    """List the registered training and validation sets, and whether they are on this machine."""
    from harness.data.trainsets import (
        FOLDERS,
        count_of,
        licence_of,
        training_downloads,
        training_folder,
    )

    rows: list[Row] = []
    for name in FOLDERS:
        folder, _ = training_folder(name, data_root)
        obtain = None
        if not folder:
            with suppress(HarnessError):
                training_downloads(name)
                obtain = f"harness data fetch {name}"
        row = {"dataset": name, "images": count_of(name), "state": "here" if folder else "not here"}
        where = str(folder) if folder else None
        rows.append(row | {"where": where, "licence": licence_of(name), "obtain": obtain})
    return rows


def list_weights(scale: int) -> list[Row]:
    """List every weights file of every model, and the models that have none."""
    cards = (card for card in map(MODELS.get, MODELS) if card.params != 0 and scale in card.scales)
    return [row for card in cards for row in _weights_rows(card, scale)]


def _weights_rows(card: ModelCard, scale: int) -> list[Row]:
    from harness.models.find_weights import (
        fetch_command,
        installed,
        official_rows,
        published_at,
        read_labelled,
    )
    from harness.models.weights import authors_row

    files = installed(card, scale)
    known: list[tuple[WeightsInfo, str, Path | str]] = []  # a path, or how to get the weights
    for path, tag in files:
        try:
            info = read_labelled(card, scale, path, tag).info
        except HarnessError as error:
            info = WeightsInfo(tag, path.name, "", "", f"broken: {error}")
        row = authors_row(card.name, scale, info)
        known.append((info, published_at(row) if row else "", path))
    official = next(iter(official_rows(card, scale)), None)
    if official and "official" not in (tag for _, tag in files):
        kind, _, digits = official["pin"].partition(":")
        sha256 = digits if kind == "sha256" else ""
        info = WeightsInfo("official", "", sha256, "", official["licence"])
        known.append((info, published_at(official), fetch_command(card, scale)))
    elif not files:
        how = f"harness train {card.name}, or --models {card.name}=FILE"
        known.append((WeightsInfo("none", "", "", "", ""), "", how))
    return [
        {
            "model": card.name,
            "tag": info.tag,
            "source": source or info.file or None,
            "sha256": info.source_sha256 or None,
            "licence": info.licence or None,
            "installed": isinstance(where, Path),
            "where": str(where) if isinstance(where, Path) else None,
            "obtain": None if isinstance(where, Path) else where,
        }
        for info, source, where in known
    ]


def list_papers() -> list[Row]:
    """List the registered papers, the default one first; one with a mistake gets its error."""
    from harness.paper.schema import DEFAULT

    rows: list[Row] = []
    for name in sorted(PAPERS, key=lambda name: name != DEFAULT):
        try:
            rows.append(paper_row(name))
        except UsageError as error:
            rows.append({"name": name, "origin": PAPERS.origin(name), "error": str(error)})
    return rows


def paper_row(name: str) -> Row:
    """Describe a paper by its registered name or TOML file.

    Of its claims, those in words are counted; ``harness claims`` also judges rows of its tables.

    Raises:
        UsageError: there is none, or it has a mistake.
    """
    from harness.paper.schema import paper

    read = paper(name)
    return {
        "name": name,
        "title": read.source.title,
        "year": read.source.year or None,
        "tables": len(read.tables),
        "quoted_claims": len(read.claims),
        "origin": PAPERS.origin(name) if name in PAPERS else name,
    }


def _note_remarks(name: str) -> None:
    """Print what is likely a mistake in a paper's file."""
    from harness.paper.schema import paper, remarks

    for remark in remarks(paper(name)):
        note(f"Note: {remark}")


def list_metrics() -> list[Row]:
    """List the registered metrics: what each is computed on, where it is from, what it does."""
    METRICS.load_built_ins()
    return [
        {"metric": card.name, "on": card.on, "from": card.origin, "about": _about(card.compute)}
        for card in map(METRICS.get, METRICS)
    ]


def list_reports() -> list[Row]:
    """List the registered reports: where each is from, and what it shows."""
    REPORTS.load_built_ins()
    return [
        {"report": name, "from": REPORTS.origin(name), "about": _about(REPORTS.get(name))}
        for name in REPORTS
    ]


def _about(function: Callable[..., object]) -> str | None:
    """Return the first line of a function's docstring; of a partial, that of its function."""
    lines = (getdoc(getattr(function, "func", function)) or "").splitlines()
    return lines[0].replace("``", "") if lines else None


RUN_COLUMNS = (
    *("id", "model", "hyper", "dataset", "dataset_sha256", "scale", "protocol", "pipeline"),
    *(
        "weights",
        "weights_file",
        "weights_file_sha256",
        "self_ensemble",
        "tile",
        "lr_sha256",
        "sr_sha256",
    ),
    *("earlier", "foreign", "status", "error", "verified", "images"),
    *("parameters", "macs", "seconds", "device", "utc"),
)
"""The columns of a run in the CSV, before those of its scores; see docs/records.md."""


def list_runs(records: Records, scale: int | None) -> list[Row]:
    """List the runs of a scale, or all, with their means, and the paths of bad records."""
    # The facts win over a metric of the same name, but keep their place in front.
    rows = [row | _means_of(record) | row for row, record in _rows(records, scale)]
    return rows + [{"status": "damaged", "error": str(path)} for path in records.bad]


def _tags(records: Records) -> dict[str, str]:
    """The tag of the weights of each run in tables, by its id."""
    from harness.paper.evidence import Evidence

    with_weights = {run.identity.id for run in records.sound.values() if run.weights}
    tags = Evidence(records.table(), None).tags_of_runs
    return {id: tag for id, tag in tags.items() if id in with_weights}


def brief_runs(rows: Sequence[Row], tags: Mapping[str, str]) -> list[Row]:
    """Select the columns of `list_runs` that fit on a terminal.

    Weights have their tags in tables, by the runs' ids; times have no fractions of a second, and
    long errors only their beginning.
    """
    metrics = dict.fromkeys(name for row in rows for name in row if name not in RUN_COLUMNS)
    first = ("id", "model", "dataset", "protocol", "weights", "weights_file", "how", "status")
    columns = (*first, *metrics, "utc", "error")
    return [
        {name: row.get(name) for name in columns}
        | {"weights": tags.get(str(row.get("id")), row.get("weights"))}
        | {"how": _how(row), "utc": str(row.get("utc") or "")[:19]}
        | {"error": row.get("error") and shorten(str(row["error"]), LONGEST, placeholder=" ...")}
        for row in rows
    ]


LONGEST = 60
"""The most characters of an error in the table of runs; JSON and CSV have the whole error."""


def runs_csv(records: Records, scale: int | None, *, images: bool) -> str:
    """Format run records as CSV, one row per run and metric (and image, with ``images``)."""
    lines = _image_lines if images else _mean_lines
    score = ("image", "metric", "value") if images else ("metric", "value", "infinite")
    rows = (line for row, record in _rows(records, scale) for line in lines(row, record))
    return csv_text((*RUN_COLUMNS, *score), (map(flat, row) for row in rows))


def _rows(records: Records, scale: int | None) -> Iterator[tuple[Row, RunRecord]]:
    """Yield each sound record of a scale, or of all, with its facts by column."""
    from harness.models.published import weights_label
    from harness.protocol.rules import protocol
    from harness.run.names import set_names, set_of
    from harness.run.provenance import foreign_origin, weights_file

    chosen = [one for one in records.sound.values() if scale in (None, one.identity.scale)]
    names = set_names(chosen)
    for record in chosen:
        identity, weights = record.identity, record.weights
        stored = {
            name: getattr(identity, name, getattr(record, name, None)) for name in RUN_COLUMNS
        }
        others = {
            "dataset": names[set_of(record)],
            "pipeline": protocol(identity.protocol).pipeline,
            "weights": weights_label(record) or None,
            "weights_file": weights_file(record) or (weights.file if weights else None),
            "weights_file_sha256": weights.source_sha256 if weights else None,
            "foreign": foreign_origin(record) or None,
            "error": record.error or None,
            "images": len(record.images),
            "seconds": sum(image.seconds for image in record.images),
            "device": record.execution.device,
            "utc": record.provenance.get("utc"),
        }
        yield stored | others, record


def _means_of(record: RunRecord) -> dict[str, float | None]:
    """Return the mean of each metric; None for a run that failed, even if it has some images."""
    finished = record.status == "finished"
    return {name: record.means[name] if finished else None for name in record.identity.metrics}


def _how(row: Row) -> list[str]:
    """Describe in words what is unusual about a run."""
    how = ["self-ensemble"] * bool(row.get("self_ensemble"))
    how += [f"tile {row['tile']}"] if row.get("tile") else []
    how += ["given LR images"] * bool(row.get("lr_sha256"))
    how += ["identity of an earlier version"] * bool(row.get("earlier"))
    return how + ([f"code of {row['foreign']}"] if row.get("foreign") else [])


def _mean_lines(run: Row, record: RunRecord) -> Iterator[tuple[object, ...]]:
    for metric, value in _means_of(record).items():
        left_out = 0 if value is None else record.infinite.get(metric, 0)
        yield (*run.values(), metric, value, left_out)


def _image_lines(run: Row, record: RunRecord) -> Iterator[tuple[object, ...]]:
    """Yield one line per image and metric; for a failed run, one per metric with no image."""
    if record.status != "finished":
        yield from ((*run.values(), None, metric, None) for metric in record.identity.metrics)
        return
    for image in record.images:
        own = run | {"seconds": image.seconds}
        for metric, value in image.scores.items():
            yield (*own.values(), f"{run['dataset']}/{image.image}", metric, value)
