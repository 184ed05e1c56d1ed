"""The verbs that run networks: run, explain, bench."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cards import Border, GreyRule
from harness.cli.options import (
    PathOption,
    data_option,
    fill_registries,
    json_option,
    note_changed,
    plugin_option,
    reference_option,
    results_option,
    scale_option,
    split_words,
    weights_key_option,
)
from harness.cli.progress import (
    Row,
    echo,
    echo_lines,
    show,
)
from harness.errors import HarnessError, UsageError, own_error
from harness.report.table import json_text, markdown_table

if TYPE_CHECKING:
    from harness.protocol.conventions import ClaimedNumbers, Number, Rescored
    from harness.run.bench import Bench, Roof
    from harness.run.spec import Executor, RunContext


class TileSide(click.IntRange):
    """An option type: at least 8 LR pixels, or ``auto``."""

    def __init__(self) -> None:
        super().__init__(8)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the number, or ``auto``."""
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
    help="Cut images into tiles of N LR pixels; auto picks N by the free memory.",
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
    help="How imresize pads the image border.",
)
@click.option("--float-lr", is_flag=True, help="Do not round the LR images of the rgb pipeline.")
@click.option("--float-y", is_flag=True, help="Do not round luma in the y pipeline.")
@click.option(
    "--lr-images",
    type=PathOption,
    metavar="DIR",
    help="Read the LR images of the one set from there, instead of making them.",
)
@click.option("--metric", "metrics", multiple=True, help="An additional metric (repeatable).")
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
    help="Run in this process, or on the workers of a dask cluster.",
)
@click.option("--scheduler", metavar="ADDRESS", help="The dask scheduler: tcp://host:port.")
@click.option("--workers", type=click.IntRange(1), help="Start N dask workers on this machine.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@results_option("results/local", made=True)
@click.option("--save-images", type=PathOption, metavar="DIR", help="Write the SR images there.")
@click.option("--force", is_flag=True, help="Compute finished runs again.")
@click.option("--strict", is_flag=True, help="Treat a missing test set as an error.")
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
    from harness.cli.progress import download, listener
    from harness.files import require_locks
    from harness.report.results import summary
    from harness.report.table import json_text
    from harness.run.job import require_folders
    from harness.run.plan import Request, plan
    from harness.run.spec import Options, RunContext
    from harness.run.store import ResultStore
    from harness.run.tiles import choose_tiles

    require_locks()
    fill_registries(plugins)
    progress = listener()
    context = RunContext(ResultStore(results), progress, Options(device, force, save_images))
    opened = _executor(executor, context, scheduler, workers, plugins)
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
    planned = plan(request)
    with progress, opened as execute:
        choose_tiles(planned, execute, asked=tile == "auto")
        for message in planned.notes:
            echo(f"Note: {message}", err=True)
        for message in planned.absent:
            echo(f"Skipped: {message}", err=True)
        for message in planned.problems:
            echo(f"Error: {message}", err=True)
        require_folders(planned.runs, context)
        records, errors = [], list(planned.problems)
        with closing(execute.carry_out(planned.runs)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, HarnessError):
                    errors.append(str(outcome))
                    echo(f"Error: {outcome}", err=True)
                else:
                    records.append(outcome)
    for message in context.unsaved:
        errors.append(message)
        echo(f"Error: {message}", err=True)
    order = {run.identity.id: index for index, run in enumerate(planned.runs)}
    records.sort(key=lambda record: order[record.identity.id])
    for record in records:
        note_changed(record.identity.model, record.provenance.get("changed_settings", ()))
    if as_json:
        echo_lines(json_text([record.to_json() for record in records]))
    elif records:
        echo_lines("\n" + summary(records))
    if errors or not records or any(record.status != "finished" for record in records):
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
    name: str,
    context: RunContext,
    scheduler: str | None,
    workers: int | None,
    plugins: Sequence[Path],
) -> AbstractContextManager[Executor]:
    """Return the executor that the options of ``harness run`` select.

    Args:
        name: ``serial`` or ``dask``.
        context: the store, the listener and the options.
        scheduler: the address of a dask scheduler.
        workers: how many workers to start on this machine.
        plugins: files that workers must load.

    Raises:
        UsageError: the options do not fit together, or dask is not installed.
    """
    from importlib.util import find_spec

    from harness.run.job import Serial

    if name == "serial":
        if scheduler or workers:
            raise UsageError("--scheduler and --workers need --executor dask.")
        return nullcontext(Serial(context))
    if scheduler and workers:
        raise UsageError(
            "Give --workers, which starts workers on this machine, or --scheduler, which uses "
            "the workers of that scheduler, not both."
        )
    if find_spec("distributed") is None:
        raise UsageError("--executor dask needs pip install 'drfn-harness[cluster]'.")
    from harness.run.workers import Workers

    return Workers(context, scheduler, workers, plugins)


MAX_ROWS = 30
"""The number of rows in the table of ``explain``; the closest conventions come first."""


def _number(text: str | None) -> Number | None:
    from harness.protocol.conventions import Number

    try:
        return None if text is None else Number.read(text)
    except ValueError as error:
        raise UsageError(f"{error}: give a number, such as 30.56.") from error


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="RUN | SR HR")
@click.option("--claimed", metavar="DB", help="The claimed PSNR, with all its printed digits.")
@click.option("--claimed-ssim", metavar="S", help="The claimed SSIM, with all its digits.")
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Try every way of making the images, even if one gives the claimed numbers.",
)
@scale_option
@click.option("--weights", type=PathOption, metavar="PATH", help="The run's weights file.")
@weights_key_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@results_option("results/local", several=True)
@reference_option
@data_option
@plugin_option
@json_option
def explain(
    what: tuple[str, ...],
    claimed: str | None,
    claimed_ssim: str | None,
    every: bool,
    scale: int,
    weights: Path | None,
    weights_key: str,
    device: str,
    results: tuple[Path, ...],
    reference: Path,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Score a run's images, or an SR and an HR file, under other conventions.

    RUN is a run's id or the first digits of it, see harness list runs; --scale is for two files.
    With --claimed, the command names the convention that gives that number, rounded to the
    given digits: 30.9 is any PSNR from 30.85 to 30.95. If no convention gives it, the run's images
    are also made with the other border, rounding and grey rule, in all combinations, and scored
    again.
    """
    from harness.protocol.conventions import ClaimedNumbers, rank
    from harness.run.explain import explain_images, explain_run, rebuild
    from harness.run.store import ResultStore, find_run

    fill_registries(plugins)
    claim = ClaimedNumbers(_number(claimed), _number(claimed_ssim))
    if len(what) == 2:
        scored = explain_images(Path(what[0]), Path(what[1]), scale, claim.conventions)
    elif len(what) == 1:
        path, record = find_run(what[0], list(map(ResultStore, (*results, reference))))
        echo(f"The run record is {path}.", err=True)
        run = rebuild(record, weights, data_root, weights_key)
        notify = partial(echo, err=True)
        scored = explain_run(record, run, claim, device, notify, every=every)
    else:
        raise UsageError("Name a run, or an SR image and its HR image.")
    ranked = rank(scored, claim)
    shown = ranked if as_json else ranked[:MAX_ROWS]
    echo_lines(show(rescored(shown, claim), as_json))
    if as_json:
        return
    if len(shown) < len(ranked):
        echo(f"{len(shown)} of {len(ranked)} conventions are shown; --json lists all.")
    if claim != ClaimedNumbers():
        echo_lines("\n" + claim.explain(ranked))


def rescored(results: Sequence[Rescored], claim: ClaimedNumbers) -> list[Row]:
    """List the scores under each convention, and their differences from the claimed numbers."""
    return [
        {
            "compared": result.convention.channel,
            "border": result.convention.border(result.scale),
            "window": result.convention.window,
            "otherwise": list(result.convention.oddities),
            "made": list(result.made),
            "own": result.own,
            "psnr": result.psnr,
            "ssim": result.ssim,
        }
        | ({} if claim.psnr is None else {"psnr_difference": result.psnr - claim.psnr.value})
        | ({} if claim.ssim is None else {"ssim_difference": result.ssim - claim.ssim.value})
        for result in results
    ]


@click.command()
@click.option("--models", required=True, help="Names, globs or all; comma-separated.")
@click.option("--datasets", default="set14", show_default=True)
@click.option("--against", type=click.Choice(["naive"]), help="Also time a plain script.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@scale_option
@data_option
@plugin_option
@json_option
def bench(
    models: str,
    datasets: str,
    against: str | None,
    rounds: int,
    device: str,
    scale: int,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Measure the speed of this machine, of the bare networks, and of whole runs."""
    from harness.models.resources import pick_device
    from harness.run.bench import measure, measure_roof
    from harness.run.plan import Request, plan

    fill_registries(plugins)
    planned = plan(Request(split_words(models), split_words(datasets), scale, data_root=data_root))
    for message in [*planned.notes, *planned.absent, *planned.problems]:
        echo(f"Note: {message}", err=True)
    torch_device = pick_device(device)
    roof = measure_roof(torch_device)
    benches = []
    for run in planned.runs:
        try:
            benches.append(measure(run, torch_device, rounds, naive=against == "naive"))
        except Exception as error:  # from a plug-in; the other runs go on
            planned.problems.append(str(own_error(error, run.title)))
            echo(f"Error: {planned.problems[-1]}", err=True)
    echo_lines((bench_json if as_json else bench_markdown)(roof, benches))
    if planned.problems or not benches:
        sys.exit(1)


_HEADERS = [
    "model",
    "set",
    "images",
    "forward (s)",
    "harness (s)",
    "harness / forward",
    "MP/s",
    "GFLOP/s",
    "of roof",
    "peak (MB)",
]


def bench_markdown(roof: Roof, benches: Sequence[Bench]) -> str:
    """Format the machine's peak speed as a sentence, and a table with one line per run."""
    compared = any(bench.naive is not None for bench in benches)
    headers = [*_HEADERS, *(["naive (s)", "naive / harness", "PSNR differs (dB)"] * compared)]
    table = markdown_table(headers, [_line(roof, bench) for bench in benches])
    return (
        f"The roof of this machine: {roof.flops / 1e9:.0f} GFLOP/s in fp32 matrix products, "
        f"{roof.bandwidth / 1e9:.1f} GB/s of memory.\n\n{table}"
    )


def bench_json(roof: Roof, benches: Sequence[Bench]) -> str:
    """Format the same figures as JSON."""
    return json_text({"roof": asdict(roof), "benches": [asdict(bench) for bench in benches]})


def _line(roof: Roof, bench: Bench) -> list[str]:
    line = [
        bench.model,
        bench.dataset,
        str(bench.images),
        f"{bench.forward:.2f} ({bench.layout})",
        f"{bench.harness:.2f}",
        f"{bench.over_forward:.3f}",
        f"{bench.megapixels / bench.harness:.2f}",
        "" if bench.flops is None else f"{bench.flops / 1e9:.0f}",
        "" if bench.flops is None else f"{bench.flops / roof.flops:.0%}",
        "" if bench.peak_bytes is None else f"{bench.peak_bytes / 1e6:.0f}",
    ]
    if bench.naive is not None:
        line += [f"{bench.naive:.2f}", f"{bench.naive_over:.2f}", f"{bench.difference:.0e}"]
    return line
