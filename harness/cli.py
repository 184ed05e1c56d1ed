"""The command line: one verb a function, options in, one call, print.

Imports of the layers below happen inside the verbs, so that ``harness --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from harness.errors import HarnessError, UsageError
from harness.specs import Border, GreyRule

REFERENCE = Path("results/reference")
Command = TypeVar("Command", bound=Callable[..., Any])
PathOption = click.Path(path_type=Path)


class Group(click.Group):
    """Turns errors into one sentence and an exit code; ``--debug`` shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            raise  # whoever read the output has gone; click ends quietly
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            known = isinstance(error, HarnessError)
            hint = " (unexpected; --debug before the verb shows where)"
            said = str(error) if known else f"{type(error).__name__}: {error}{hint}"
            click.echo(f"Error: {said}", err=True)
            ctx.exit(error.exit_code if isinstance(error, HarnessError) else 1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="drfn-harness", prog_name="harness")
def main(debug: bool) -> None:
    """Check the numbers of super-resolution papers, and put your own network to the same test."""


plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=PathOption, help="A plug-in file (repeatable)."
)
data_option = click.option(
    "--data-root", type=PathOption, help="Searched for test sets before HARNESS_DATA."
)
scale_option = click.option("--scale", type=click.IntRange(1), default=4, show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _results_option(default: str) -> Callable[[Command], Command]:
    return click.option(
        "--results", type=PathOption, default=default, show_default=True, help="Run records."
    )


def _load(plugins: tuple[Path, ...] = ()) -> None:
    """Fill the registries, and say which plug-ins failed."""
    from harness.data.catalogue import register_benchmarks
    from harness.registry import FAILURES, load_plugins

    register_benchmarks()
    load_plugins(plugins)
    for name, reason in FAILURES.items():
        click.echo(f"Warning: the plug-in {name} is disabled ({reason}).", err=True)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


@main.command()
@click.option("--models", required=True, help="Names, name:tag, globs or all; comma-separated.")
@click.option("--datasets", default="all", show_default=True, help="Names, folders, globs or all.")
@scale_option
@click.option("--self-ensemble", is_flag=True, help="Average over eight flips and rotations.")
@click.option("--tile", type=click.IntRange(8), help="Cut images into tiles of N LR pixels.")
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    default="full-range",
    show_default=True,
    help="How grey images are scored.",
)
@click.option(
    "--border",
    type=click.Choice(get_args(Border)),
    default="replicate",
    show_default=True,
    help="How imresize continues an image.",
)
@click.option("--metric", "metrics", multiple=True, help="One more metric (repeatable).")
@click.option(
    "--weights",
    "weight_files",
    multiple=True,
    metavar="MODEL=PATH",
    help="A weights file for a model (repeatable).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@_results_option("results/local")
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
    tile: int | None,
    grey: Any,
    border: Any,
    metrics: tuple[str, ...],
    weight_files: tuple[str, ...],
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
    from harness.report.console import download, listener
    from harness.report.tables import summary
    from harness.run.evaluate import Options, evaluate
    from harness.run.plan import Request, plan
    from harness.run.store import ResultStore

    _load(plugins)
    files = _weight_files(weight_files)
    request = Request(
        _words(models),
        _words(datasets),
        scale,
        grey,
        border,
        self_ensemble,
        tile,
        files,
        metrics,
        data_root,
        strict,
        download,
    )
    made = plan(request)
    for sentence in made.notes:
        click.echo(f"Note: {sentence}", err=True)
    for sentence in made.absent:
        click.echo(f"Skipped: {sentence}", err=True)
    for sentence in made.problems:
        click.echo(f"Error: {sentence}", err=True)
    store, how = ResultStore(results), Options(device, force, save_images)
    store.require_writable()
    records, broken = [], list(made.problems)
    with listener() as watcher:
        for one in made.runs:
            try:
                records.append(evaluate(one, store, watcher, how))
            except UsageError:
                raise
            except HarnessError as error:
                broken.append(str(error))
                click.echo(f"Error: {error}", err=True)
    if as_json:
        click.echo(json.dumps([record.to_json() for record in records], indent=1))
    elif records:
        click.echo("\n" + summary(records))
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


@main.command()
@click.argument("model")
@click.option("--recipe", default="short", show_default=True, help="paper or short.")
@click.option("--steps", type=int, help="Optimiser steps.")
@click.option("--minutes", type=float, help="Train for so long instead.")
@click.option("--batch", type=int)
@click.option("--patch", type=int, help="Side of an LR patch.")
@click.option("--lr", type=float)
@click.option("--seed", type=int)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]))
@click.option("--train-data", help="Sets by name or path, comma-separated.")
@click.option("--val-data", help="Sets by name or path, comma-separated.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Any other value.")
@click.option("--variant", type=click.Choice(["none", "ff", "lsc", "both"]), help="Of Table 1.")
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be used.")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=PathOption, default="results/local/train", show_default=True)
@click.option("--save-every", type=float, default=120, show_default=True, help="Seconds.")
@click.option("--validate-every", type=float, default=300, show_default=True, help="Seconds.")
@click.option("--log-every", type=int, default=50, show_default=True, help="Steps.")
@scale_option
@data_option
@plugin_option
def train(
    model: str,
    recipe: str,
    changes: tuple[str, ...],
    variant: str | None,
    compiled: bool,
    resume: bool,
    skip_bad: bool,
    device: str,
    out: Path,
    save_every: float,
    validate_every: float,
    log_every: int,
    scale: int,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    train_data: str | None,
    val_data: str | None,
    **values: Any,
) -> None:
    """Train a network; several GPUs with torchrun --nproc-per-node N -m harness train MODEL."""
    from harness.report.console import images_bar, train_listener
    from harness.report.figures import draw_training
    from harness.run.train import Trainer
    from harness.run.train_plan import TrainRequest, finish, parse_change, plan_training

    _load(plugins)
    values |= dict(parse_change(text) for text in changes)
    for name, words in (("train_data", train_data), ("val_data", val_data)):
        values[name] = tuple(_words(words)) if words is not None else None
    request = TrainRequest(
        model,
        recipe,
        values,
        scale,
        variant,
        out,
        device,
        compiled,
        data_root,
        skip_bad,
        validate_every,
        save_every,
        log_every,
    )
    training = plan_training(request, images_bar)
    with train_listener() as watcher:
        trainer = Trainer(training, watcher, resume=resume)
        network = trainer.run()
    if trainer.rank == 0:
        weights_path = finish(training, network, trainer.state)
        draw_training(trainer.state.log, training.folder / "curve.png")
        click.echo(f"The weights are {weights_path}.")


@main.command("list")
@click.argument(
    "what", type=click.Choice(["models", "datasets", "weights", "runs"]), default="models"
)
@scale_option
@_results_option("results/local")
@data_option
@plugin_option
@json_option
def list_(
    what: str,
    scale: int,
    results: Path,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """List models, datasets, weights or runs."""
    from harness.report import listings

    _load(plugins)
    match what:
        case "datasets":
            rows = listings.datasets(scale, data_root)
        case "weights":
            rows = listings.weights(scale)
        case "runs":
            rows = listings.runs(results)
        case _:
            rows = listings.models()
    click.echo(listings.show(rows, as_json))


@main.command("check-model")
@click.argument("name")
@scale_option
@plugin_option
def check_model(name: str, scale: int, plugins: tuple[Path, ...]) -> None:
    """Test a model plug-in against the contract."""
    from harness.models.check import check_model as check
    from harness.registry import MODELS

    _load(plugins)
    failed = 0
    for finding in check(MODELS.get(name), scale):
        failed += not finding.holds
        click.echo(f"{'ok  ' if finding.holds else 'FAIL'}  {finding.rule}: {finding.seen}")
    if failed:
        raise HarnessError(f"{name} breaks the contract in {failed} points.")


@main.group()
def data() -> None:
    """Find, verify and download test sets."""


@data.command("where")
@scale_option
@data_option
@plugin_option
@json_option
def data_where(
    scale: int, data_root: Path | None, plugins: tuple[Path, ...], as_json: bool
) -> None:
    """Say where test sets are looked for and which are there."""
    from harness.data.benchmarks import roots
    from harness.report import listings

    _load(plugins)
    if not as_json:
        click.echo("Searched, first choice first:")
        for root in roots(data_root):
            click.echo(f"  {root}{'' if root.is_dir() else '  (not there)'}")
    click.echo(listings.show(listings.datasets(scale, data_root), as_json))


@data.command("verify")
@click.argument("names", nargs=-1)
@click.option("--leaks", is_flag=True, help="Look for images of test sets in training sets.")
@scale_option
@data_option
@plugin_option
def data_verify(
    names: tuple[str, ...],
    leaks: bool,
    scale: int,
    data_root: Path | None,
    plugins: tuple[Path, ...],
) -> None:
    """Decode every image of the sets and compare its pixels with the registry (exit code 3)."""
    from harness.data.benchmarks import verify
    from harness.errors import MismatchError

    _load(plugins)
    if leaks:
        _verify_leaks(names, data_root)
        return
    wrong = 0
    for verdict in verify(names or ("all",), scale, data_root):
        wrong += not verdict.sound
        click.echo(f"{'ok  ' if verdict.sound else 'FAIL'}  {verdict.said}")
    if wrong:
        raise MismatchError(f"{wrong} of the sets are not what they must be.")


def _verify_leaks(names: tuple[str, ...], data_root: Path | None) -> None:
    from harness.data.training import find_images, leaking
    from harness.errors import MismatchError

    if not names:
        raise UsageError("Name the training sets or folders to look through.")
    paths = find_images(names, data_root)
    sentences = list(leaking(paths))
    for sentence in sentences:
        click.echo(f"FAIL  {sentence}")
    if sentences:
        raise MismatchError(f"{len(sentences)} of {len(paths)} images are in a test set.")
    click.echo(f"ok    none of {len(paths)} images is in a test set")


@data.command("fetch")
@click.argument("names", nargs=-1, required=True)
def data_fetch(names: tuple[str, ...]) -> None:
    """Download published test sets into the user cache."""
    from harness.data.benchmarks import downloads, select
    from harness.data.download import cache_root
    from harness.report.console import download

    _load()
    failed = 0
    for card in select(names):
        try:
            download(downloads(card))
            click.echo(f"{card.title} is in {cache_root() / 'data'}.")
        except HarnessError as error:
            failed += 1
            click.echo(f"Error: {error}", err=True)
    if failed:
        sys.exit(1)


@main.group()
def weights() -> None:
    """Import weights and say where they are."""


@weights.command("import")
@click.argument("model")
@click.argument("path", type=PathOption)
@click.option("--tag", help="A name for them; the authors' own files are called official.")
@click.option("--licence", help="As their owner states it.")
@scale_option
@plugin_option
def weights_import(
    model: str,
    path: Path,
    tag: str | None,
    licence: str | None,
    scale: int,
    plugins: tuple[Path, ...],
) -> None:
    """Store a weights file as safetensors in the user cache, after loading it strictly."""
    from harness.models.inference import Upscaler
    from harness.models.weights import read_weights, relabel, store_weights
    from harness.registry import MODELS

    _load(plugins)
    card = MODELS.get(model)
    read = relabel(read_weights(card, scale, path), tag, licence)
    Upscaler(card, scale, read)
    click.echo(f"{path} is stored as {store_weights(read, card, scale)} ({read.info.licence}).")


@weights.command("ship")
@click.argument("path", type=PathOption)
@click.option("--to", type=PathOption, default="baselines/weights", show_default=True)
@_results_option("results/local")
@plugin_option
def weights_ship(path: Path, to: Path, results: Path, plugins: tuple[Path, ...]) -> None:
    """Put trained weights and their scores beside the networks of a package."""
    from harness.run.ship import ship
    from harness.run.store import ResultStore

    _load(plugins)
    click.echo(f"Shipped as {ship(path, ResultStore(results), to)}.")


@weights.command("where")
@scale_option
@plugin_option
@json_option
def weights_where(scale: int, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Say which weights each model has on this machine."""
    from harness.report import listings

    _load(plugins)
    click.echo(listings.show(listings.weights(scale), as_json))


@main.command()
@click.argument("name", default="all")
@click.option("--format", "formats", default="md,tex,csv", show_default=True)
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    default="full-range",
    show_default=True,
    help="Show the runs made under this rule.",
)
@_results_option("results/reference")
@click.option(
    "--out",
    type=PathOption,
    help="The reports' folder.  [default: reports, or a folder "
    "of that name beside the records where --results names others than the reference]",
)
@plugin_option
def report(
    name: str, formats: str, grey: Any, results: Path, out: Path | None, plugins: tuple[Path, ...]
) -> None:
    """Rebuild the paper's tables from run records, as Markdown, LaTeX and CSV."""
    from harness.report.build import build

    _load(plugins)
    out = out or (Path("reports") if results == REFERENCE else results / "reports")
    for table, paths in build(name, _words(formats), results, out, grey):
        click.echo(table.render("md"))
        click.echo(f"Written: {', '.join(map(str, paths))}", err=True)


@main.command()
@click.argument("ids", nargs=-1, required=True)
@_results_option("results/local")
@click.option("--reference", type=PathOption, default="results/reference", show_default=True)
def accept(ids: tuple[str, ...], results: Path, reference: Path) -> None:
    """Move local records to the reference records: ids, their beginnings, or all."""
    from harness.run.store import ResultStore, accept_records

    for path in accept_records(ids, ResultStore(results), ResultStore(reference)):
        click.echo(path)
