"""Evaluating models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cards import Border, GreyRule
from harness.cli.options import (
    PathOption,
    data_option,
    fill_registries,
    json_option,
    plugin_option,
    results_option,
    scale_option,
    split_words,
    tell_changed,
    weights_key_option,
)
from harness.errors import HarnessError, UsageError
from harness.report.console import echo, echo_lines

if TYPE_CHECKING:
    from harness.run.spec import Executor, ExecutorName


class TileSide(click.IntRange):
    """A number of LR pixels from 8 on, or ``auto``."""

    def __init__(self) -> None:
        super().__init__(8)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The number, or the word itself."""
        return value if value == "auto" else super().convert(value, param, ctx)


@click.command()
@click.option("--models", required=True, help="Names, name:tag, globs or all; comma-separated.")
@click.option("--datasets", default="all", show_default=True, help="Names, folders, globs or all.")
@scale_option
@click.option("--self-ensemble", is_flag=True, help="Average over eight flips and rotations.")
@click.option(
    "--tile",
    type=TileSide(),
    metavar="N|auto",
    help="Cut images into tiles of N LR pixels, or of what fits in memory.",
)
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="How grey images are scored.  [default: full-range in the y pipeline, as-rgb in rgb]",
)
@click.option(
    "--border",
    type=click.Choice(get_args(Border)),
    default="replicate",
    show_default=True,
    help="How imresize continues an image.",
)
@click.option("--float-lr", is_flag=True, help="Do not round the LR images of the rgb pipeline.")
@click.option("--float-y", is_flag=True, help="Do not round luma in the y pipeline.")
@click.option(
    "--lr-images",
    type=PathOption,
    metavar="DIR",
    help="LR images of the one set, instead of making them.",
)
@click.option("--metric", "metrics", multiple=True, help="One more metric (repeatable).")
@click.option(
    "--weights",
    "weight_files",
    multiple=True,
    metavar="MODEL=PATH",
    help="A weights file for a model (repeatable).",
)
@weights_key_option
@click.option(
    "--executor",
    type=click.Choice(["serial", "dask"]),
    default="serial",
    show_default=True,
    help="One after the other here, or on the workers of a dask cluster.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a dask cluster: tcp://host:port.")
@click.option("--workers", type=click.IntRange(1), help="Start N dask workers on this machine.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@results_option("results/local", made=True)
@click.option("--save-images", type=PathOption, metavar="DIR", help="Write the SR images there.")
@click.option("--force", is_flag=True, help="Compute finished runs again.")
@click.option("--strict", is_flag=True, help="A test set that cannot be had is fatal.")
@data_option
@plugin_option
@json_option
def run(
    models: str,
    datasets: str,
    scale: int,
    self_ensemble: bool,
    tile: int | str | None,
    grey: Any,
    border: Any,
    float_lr: bool,
    float_y: bool,
    lr_images: Path | None,
    metrics: tuple[str, ...],
    weight_files: tuple[str, ...],
    weights_key: str,
    executor: Any,
    scheduler: str | None,
    workers: int | None,
    device: str,
    results: Path,
    save_images: Path | None,
    force: bool,
    strict: bool,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Evaluate models on test sets."""
    from harness.files import require_locks
    from harness.report.console import download, listener
    from harness.report.results import summary
    from harness.report.table import json_text
    from harness.run.job import require_folders
    from harness.run.plan import Request, plan
    from harness.run.spec import Options, RunContext
    from harness.run.store import ResultStore
    from harness.run.tiles import choose_tiles

    require_locks()
    fill_registries(plugins)
    carry_out = _executor(executor, scheduler, workers, plugins)
    files = _weight_files(weight_files)
    request = Request(
        split_words(models),
        split_words(datasets),
        scale,
        grey,
        border,
        float_lr,
        float_y,
        self_ensemble,
        tile if isinstance(tile, int) else None,
        files,
        metrics,
        data_root,
        lr_images,
        strict,
        download,
        weights_key,
    )
    made = plan(request)
    choose_tiles(made, device, asked=tile == "auto")
    for sentence in made.notes:
        echo(f"Note: {sentence}", err=True)
    for sentence in made.absent:
        echo(f"Skipped: {sentence}", err=True)
    for sentence in made.problems:
        echo(f"Error: {sentence}", err=True)
    watcher = listener()
    context = RunContext(ResultStore(results), watcher, Options(device, force, save_images))
    require_folders(made.runs, context)
    records, broken = [], list(made.problems)
    with watcher, closing(carry_out(made.runs, context)) as ended:
        for outcome in ended:
            if isinstance(outcome, HarnessError):
                broken.append(str(outcome))
                echo(f"Error: {outcome}", err=True)
            else:
                records.append(outcome)
    for sentence in context.unsaved:
        broken.append(sentence)
        echo(f"Error: {sentence}", err=True)
    asked = {run.identity.id: place for place, run in enumerate(made.runs)}
    records.sort(key=lambda record: asked[record.identity.id])
    for record in records:
        tell_changed(record.identity.model, record.provenance.get("changed_settings", ()))
    if as_json:
        echo_lines(json_text([record.to_json() for record in records]))
    elif records:
        echo_lines("\n" + summary(records))
    if broken or not records or any(record.status != "finished" for record in records):
        sys.exit(1)


def _weight_files(pairs: tuple[str, ...]) -> dict[str, Path]:
    files = {}
    for pair in pairs:
        model, equals, path = pair.partition("=")
        if not equals or not path:
            raise UsageError(f"--weights takes MODEL=PATH, not {pair!r}.")
        if model in files:
            raise UsageError(f"--weights names {model} twice.")
        files[model] = Path(path)
    return files


def _executor(
    name: ExecutorName, scheduler: str | None, workers: int | None, plugins: Sequence[Path]
) -> Executor:
    """The executor that the options of ``harness run`` ask for.

    Args:
        name: ``serial`` or ``dask``.
        scheduler: the address of a dask scheduler.
        workers: how many workers to start on this machine.
        plugins: files that workers must load.

    Raises:
        UsageError: the options do not fit together, or dask is not installed.
    """
    from importlib.util import find_spec

    from harness.run.job import serial

    if name == "serial":
        if scheduler or workers:
            raise UsageError("--scheduler and --workers go with --executor dask.")
        return serial
    if scheduler and workers:
        raise UsageError(
            "--workers starts workers on this machine, and --scheduler uses those that are "
            "there: give one of the two."
        )
    if find_spec("distributed") is None:
        raise UsageError("--executor dask needs pip install 'drfn-harness[cluster]'.")
    from harness.run.workers import dispatcher

    return dispatcher(scheduler, workers, plugins)
