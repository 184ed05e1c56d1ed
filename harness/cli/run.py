"""The verb that runs networks, and what it says at its end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cards import LINEAGES, Border, GreyRule
from harness.cli.options import (
    LOCAL,
    PathOption,
    data_option,
    device_option,
    examples,
    fill_registries,
    is_given,
    json_option,
    note_changed,
    plugin_option,
    results_option,
    scale_option,
    split_pairs,
    weights_key_option,
    words_option,
)
from harness.cli.progress import RunProgress, bars, download, echo, echo_lines, keep_quiet, note
from harness.errors import HarnessError, UsageError
from harness.text import json_text, listed, plain_table, readable

if TYPE_CHECKING:
    from harness.record import RunRecord
    from harness.run.plan import Plan
    from harness.run.spec import Executor, Run, RunContext


def _tile_side(text: str) -> int | str:
    """Convert ``--tile``: at least 8 LR pixels, or ``auto``."""
    return text if text == "auto" else click.IntRange(8)(text)


def _weight_files(_: object, parameter: object, texts: tuple[str, ...]) -> dict[str, Any]:
    """Convert ``--weights``: the files of each model."""
    files: dict[str, tuple[Path, ...]] = {}
    for pair in split_pairs(texts):
        model, equals, path = pair.partition("=")
        if not equals or not path:
            raise UsageError(f"--weights takes MODEL=PATH, not {pair!r}.")
        files[model] = tuple(dict.fromkeys((*files.get(model, ()), Path(path))))
    return files


models_option = words_option(
    "--models",
    required=True,
    metavar="NAME,...",
    help="Names, name:tag, name=FILE with weights, name=FOLDER with SR images, checkpoint FILEs, "
    "globs or all; in any case, separated by commas or spaces, or repeated.",
)
datasets_option = partial(
    words_option,
    "--datasets",
    show_default=True,
    metavar="NAME,...",
    help="Names, folders of HR images, globs or all. Sets are searched in the folders that the "
    f"environment variable HARNESS_DATA names, separated by '{os.pathsep}'.",
)


@click.command(
    epilog=examples(
        "run --models drfn,edsr-baseline --datasets demo",
        "run --models bicubic --datasets set5,urban100 --limit 2",
        "run --models mine=mine.pth --plugin mine.py --datasets set5",
        "run --models RealESRGAN_x4.pth --datasets set5",
    )
)
@models_option
@datasets_option(default=("all",))
@scale_option
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Only the first N images of each set, for a quick look; the record has another set name, "
    "such as set5-first2, and is never compared with printed numbers.",
)
@click.option(
    "--name", default="", help="The name of a checkpoint's runs.  [default: that of its file]"
)
@click.option("--self-ensemble", is_flag=True, help="Average over eight flips and rotations.")
@click.option(
    "--tile",
    type=_tile_side,
    metavar="N|auto",
    help="Cut images into tiles of N LR pixels; auto picks N by the free memory.",
)
@click.option(
    "--like",
    type=click.Choice(list(LINEAGES), case_sensitive=False),
    help="The rules of published work: "
    + "; ".join(
        f"{name} (pipeline {one.pipeline}: --grey {one.grey} --border {one.border})"
        for name, one in LINEAGES.items()
    )
    + ".",
)
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="How grey images are scored.  [default: full-range in the y pipeline, as-rgb in rgb]",
)
@click.option(
    "--border",
    type=click.Choice(get_args(Border)),
    help="How imresize pads the image border.  [default: replicate]",
)
@click.option("--float-lr", is_flag=True, help="Do not round the LR images of the rgb pipeline.")
@click.option("--float-y", is_flag=True, help="Do not round luma in the y pipeline.")
@click.option(
    "--all-rules",
    is_flag=True,
    help="Run under every combination of the rules for grey images and rounding that papers use, "
    "and also compute ssim-whole: only then can a number be refuted.",
)
@click.option(
    "--lr-images",
    type=PathOption,
    metavar="DIR",
    help="Read the LR images of the one set from there, instead of making them.",
)
@words_option(
    "--metric",
    "metrics",
    metavar="NAME,...",
    help="Further metrics, such as ssim-whole, see harness list metrics.",
)
@click.option(
    "--weights",
    "weight_files",
    multiple=True,
    callback=_weight_files,
    metavar="MODEL=PATH,...",
    help="A weights file for a model; of several for one model, such as mine=a.pth,mine=b.pth, "
    "each runs, as mine:a and mine:b (repeatable).",
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
@device_option
@results_option("results/local", made=True)
@click.option("--save-images", type=PathOption, metavar="DIR", help="Write the SR images there.")
@click.option("--force", is_flag=True, help="Compute finished runs again.")
@click.option(
    "--strict",
    is_flag=True,
    help="Treat what is otherwise skipped as an error: missing test sets, and models without "
    "weights that a glob or all selects.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the table, and errors.")
@data_option
@plugin_option
@json_option
def run(
    tile: int | str | None,
    executor: str,
    scheduler: str | None,
    workers: int | None,
    device: str,
    results: Path,
    save_images: Path | None,
    force: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    **request: Any,
) -> None:
    """Evaluate models on test sets, and print a table of their scores.

    Records are written to the --results folder; finished runs are not computed again. Sets that are
    not on this machine are downloaded if that is possible, else skipped.
    """
    from harness.files import require_locks
    from harness.paper.literature import printed_numbers
    from harness.run.job import require_folders
    from harness.run.plan import plan
    from harness.run.request import Request
    from harness.run.spec import RunContext
    from harness.run.store import ResultStore
    from harness.run.tiles import choose_tiles

    if quiet:
        keep_quiet()
    require_locks()
    fill_registries(plugins)
    open_executor = _executor(executor, scheduler, workers, plugins)
    side = tile if isinstance(tile, int) else None
    planned = plan(Request(**request, tile=side, fetch=download, scale_given=is_given("scale")))
    with bars(shown=not quiet) as shown:
        progress = RunProgress(shown)
        context = RunContext(ResultStore(results), progress, device, force, save_images)
        with open_executor(context) as execute:
            choose_tiles(planned, execute, asked=tile == "auto")
            print_plan(planned)
            require_folders(planned.runs, context)
            runs = {run.identity.id: run for run in planned.runs}
            ended, failed = {}, bool(planned.problems)
            with closing(execute.carry_out(planned.runs)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome, HarnessError):
                        failed = True
                        echo(f"Error: {outcome}", err=True)
                    else:
                        ended[outcome.identity.id] = outcome
                        progress.ended(runs[outcome.identity.id], outcome)
    for message in context.unsaved.values():
        echo(f"Error: {message}", err=True)
    records = [ended[key] for key in runs if key in ended]
    for record in records:
        failed |= record.status != "finished"
        note_changed(record.identity.model, record.provenance.get("changed_settings", ()))
    if as_json:
        echo_lines(json_text([record.to_json() for record in records]))
    elif records:
        echo_lines("\n" + summary(records, printed_numbers(records)))
        for warning in below_bicubic(runs.values(), ended):
            echo(warning, err=True)
        for line in next_steps(planned, records, results, plugins):
            note(line)
    if failed or context.unsaved or not records:
        sys.exit(1)


def summary(
    records: Sequence[RunRecord], printed: Mapping[str, tuple[str, str]] | None = None
) -> str:
    """Write the summary table of ``harness run``: one line per run.

    Args:
        records: of the runs.
        printed: the numbers beside those of a run and the paper that prints them, by the run's id.
    """
    from harness.models.published import weights_label

    rows, printed = [], printed or {}
    # PSNR and SSIM come first in every run.
    metrics = list(dict.fromkeys(name for one in records for name in one.identity.metrics))
    for record in records:
        identity, means = record.identity, record.means
        done = record.status == "finished"
        label = identity.model + ("+" if identity.self_ensemble else "")
        scores = [
            f"{readable(means.get(name))}{_infinite(record, name)}" if done else "failed"
            for name in metrics
        ]
        scores += [printed.get(identity.id, ("",))[0]] * bool(printed)
        tag = weights_label(record) or "-"
        rules = identity.protocol + ", given LR" * bool(identity.lr_sha256)
        rows.append([label, identity.dataset, len(record.images), *scores, rules, tag])
    titles = ["PSNR (dB)", *(name.upper() for name in metrics[1:]), *["printed"] * bool(printed)]
    headers = ["model", "dataset", "images", *titles, "protocol", "weights"]
    align = ("left", "left", *("right",) * (1 + len(titles)), "left", "left")
    table = plain_table(headers, rows, align)
    named: dict[str, dict[str, None]] = {}
    for record in records:
        if record.identity.id in printed:
            paper = printed[record.identity.id][1]
            named.setdefault(paper, {})[record.identity.model] = None
    papers = [f"{', '.join(models)} in {paper}" for paper, models in named.items()]
    return f"{table}\n\nPrinted: {'; '.join(papers)}." if papers else table


FEW = 5
"""The number of images on which a run is compared with bicubic interpolation."""


def below_bicubic(runs: Iterable[Run], ended: Mapping[str, RunRecord]) -> Iterator[str]:
    """Warn about weights of the user that score worse than bicubic interpolation.

    The authors' weights and those in the package of their model are not the user's.

    Args:
        runs: the runs.
        ended: their records by id.
    """
    from harness.models.find_weights import training_notes
    from harness.models.weights import OFFICIAL
    from harness.registry import FILES

    usual: dict[tuple[str | None, ...], float] = {}
    worse: dict[str, list[str]] = {}
    cards = {}
    for run in runs:
        record = ended.get(run.identity.id)
        if not run.weights or run.weights.info.tag == OFFICIAL or record is None:
            continue
        if training_notes(record).key:
            continue
        with suppress(HarnessError):  # an image may have changed since
            cards[run.name] = run.card
            worse.setdefault(run.name, []).extend(_below_bicubic(run, record, usual))
    for name, places in worse.items():
        card = cards[name]
        file = FILES.get(card.origin)
        words = ["harness", "check-model", card.name, *(["--plugin", str(file)] if file else [])]
        hint = "" if card.checkpoint else f" To find out: {shlex.join(words)} --weights FILE."
        if places:
            yield (
                f"Warning: {name} scores less than bicubic interpolation: {listed(places)}. Are "
                "its weights trained for this scale? Does it expect values in 0 to 255, or BGR?"
                + hint
            )


def _below_bicubic(
    run: Run, record: RunRecord, usual: dict[tuple[str | None, ...], float]
) -> list[str]:
    """Compare a run with bicubic interpolation on its first images; empty unless it is below.

    ``usual`` keeps the PSNR of bicubic interpolation for other runs of the set.
    """
    from harness.record import finite_mean
    from harness.run.evaluate import bicubic_psnr

    if record.status != "finished":
        return []
    identity, images = run.identity, run.image_set.images[:FEW]
    key = identity.dataset_sha256, identity.lr_sha256, identity.protocol
    if key not in usual:
        usual[key] = bicubic_psnr(run, images)
    names = {image.name for image in images}
    own = finite_mean([one.scores["psnr"] for one in record.images if one.image in names])
    some = f"the first {FEW} images of " * (len(run.image_set.images) > FEW)
    text = f"{own:.2f} dB against {usual[key]:.2f} on {some}{run.image_set.card.title}"
    return [text] * (own < usual[key])


def next_steps(
    planned: Plan, records: Sequence[RunRecord], results: Path, plugins: Sequence[Path]
) -> Iterator[str]:
    """Say how many runs there are, where their records lie, and how to make a table of them."""
    from harness.cards import Preset
    from harness.paper.evidence import Evidence
    from harness.paper.select import follows
    from harness.run.store import ResultStore

    finished = [record for record in records if record.status == "finished"]
    left_out = len(planned.absent) + len(planned.problems)
    if left_out or len(finished) < len(planned.runs):
        kinds = {"Skipped": planned.absent, "Error": planned.problems}
        above = listed([kind for kind, messages in kinds.items() if messages])
        why = f"; left out: {left_out}, see {above} above" if left_out else ""
        yield f"Finished: {len(finished)} of {len(planned.runs)} runs{why}."
    yield f"Records: {results}" + " (harness list runs)" * (results == LOCAL)
    named = Evidence(ResultStore(results).read().table(), None).names_of_runs
    ids = [one.identity.id for one in finished if follows(one, Preset())]
    shown = [named[id] for id in ids if id in named]
    if shown:
        words = ["harness", "report", "results"]
        words += ["--models", ",".join(dict.fromkeys(network for network, _ in shown))]
        words += ["--datasets", ",".join(dict.fromkeys(dataset for _, dataset in shown))]
        words += ["--format", "md,tex"]
        words += [word for path in plugins for word in ("--plugin", str(path))]
        words += ["--results", str(results)] * (results != LOCAL)
        yield f"Table in Markdown and LaTeX: {shlex.join(words)}"


def _infinite(record: RunRecord, metric: str) -> str:
    """State how many images a mean leaves out because their score is infinite."""
    count = record.infinite.get(metric)
    return f" ({count} infinite)" if count else ""


def print_plan(planned: Plan) -> None:
    """Print what readers of the scores should know, and which runs are not possible."""
    kinds = {"Note": planned.notes, "Skipped": planned.absent, "Error": planned.problems}
    for kind, messages in kinds.items():
        matters = kind == "Error" or (kind == "Skipped" and not planned.runs)
        for message in messages:
            (partial(echo, err=True) if matters else note)(f"{kind}: {message}")


def _executor(
    name: str, scheduler: str | None, workers: int | None, plugins: Sequence[Path]
) -> Callable[[RunContext], AbstractContextManager[Executor]]:
    """Return the function that opens the executor which the options of ``harness run`` select.

    Raises:
        UsageError: the options do not fit together, or dask is not installed.
    """
    from importlib.util import find_spec

    from harness.run.job import Serial

    if name == "serial":
        if scheduler or workers:
            raise UsageError("--scheduler and --workers need --executor dask.")
        return lambda context: nullcontext(Serial(context))
    if scheduler and workers:
        raise UsageError(
            "Give --workers, which starts workers on this machine, or --scheduler, which uses "
            "the workers of that scheduler, not both."
        )
    if find_spec("distributed") is None:
        raise UsageError(
            "--executor dask needs pip install -c constraints.txt '.[cluster]' in the clone."
        )
    from harness.run.workers import Workers

    return lambda context: Workers(context, scheduler, workers, plugins)
