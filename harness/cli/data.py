"""The verbs ``harness data`` and ``harness weights``: find, verify, download, import, ship."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.inspect import list_alias
from harness.cli.options import (
    PathOption,
    data_option,
    fill_registries,
    plugin_option,
    refuse_ignored,
    results_option,
    scale_option,
    weights_key_option,
)
from harness.cli.progress import echo
from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.cards import ModelCard, RemoteFile


@click.group()
def data() -> None:
    """Find, verify and download test sets and training sets."""


data.add_command(list_alias("datasets"))


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
    from harness.data.testsets import verify
    from harness.errors import MismatchError

    fill_registries(plugins)
    if leaks:
        refuse_ignored("harness data verify without --leaks", "scale")
        _verify_leaks(names, data_root)
        return
    failed = 0
    for verdict in verify(names or ("all",), scale, data_root):
        failed += not verdict.sound
        mark = "FAIL" if not verdict.sound else "skip" if verdict.absent else "ok  "
        echo(f"{mark}  {verdict.message}")
    if failed:
        raise MismatchError(f"{failed} of the sets are missing, damaged or not as published.")


def _verify_leaks(names: tuple[str, ...], data_root: Path | None) -> None:
    from harness.data.identify import leaking
    from harness.data.trainsets import find_images
    from harness.errors import MismatchError

    if not names:
        raise UsageError("Name the training sets or folders to search.")
    paths = find_images(names, data_root)
    sentences = list(leaking(paths))
    for sentence in sentences:
        echo(f"FAIL  {sentence}")
    if sentences:
        raise MismatchError(f"{len(sentences)} of {len(paths)} images are in a test set.")
    echo(f"ok    none of {len(paths)} images is in a test set")


@data.command("fetch")
@click.argument("names", nargs=-1, required=True)
def data_fetch(names: tuple[str, ...]) -> None:
    """Download test sets and training sets into the user cache.

    harness data where lists both. Example: harness data fetch set5 bsds400 t91
    """
    from harness.cli.progress import download
    from harness.data.pinned import cache_root
    from harness.data.testsets import downloads, select
    from harness.data.trainsets import FOLDERS, training_downloads

    fill_registries()
    training = [name.lower() for name in names if name.lower() in FOLDERS]
    others = [name for name in names if name.lower() not in FOLDERS]
    wanted = [(card.title, partial(downloads, card)) for card in (select(others) if others else ())]
    wanted += [(name, partial(training_downloads, name)) for name in training]

    def fetch_one(title: str, files: Callable[[], list[tuple[RemoteFile, Path]]]) -> None:
        download(files())
        echo(f"{title} is in {cache_root() / 'data'}.")

    _in_turn(partial(fetch_one, *one) for one in wanted)


def _in_turn(steps: Iterable[Callable[[], None]]) -> None:
    """Take all steps, print the errors of those that fail, and exit with the highest exit code."""
    failed = []
    for step in steps:
        try:
            step()
        except HarnessError as error:
            failed.append(error.exit_code)
            echo(f"Error: {error}", err=True)
    sys.exit(max(failed, default=0))


@click.group()
def weights() -> None:
    """Import, fetch and ship weights, and list where they are."""


@weights.command("import")
@click.argument("model")
@click.argument("path", type=PathOption)
@click.option("--tag", help="A name for the weights, such as mine.  [default: that of the file]")
@click.option("--licence", help="The licence of the weights, as their owner states it.")
@weights_key_option
@scale_option
@plugin_option
def weights_import(
    model: str,
    path: Path,
    tag: str | None,
    licence: str | None,
    weights_key: str,
    scale: int,
    plugins: tuple[Path, ...],
) -> None:
    """Store a weights file as safetensors in the user cache; load it before and after as a test.

    The authors' weights have the tag official and those of this project the tag repro, whatever
    their files are called; no other weights can have these tags.

    Example: harness weights import drfn mine.pth --tag mine
    """
    from harness.models.find_weights import copy_notes, read_labelled, store_file, store_weights
    from harness.models.upscaler import Upscaler
    from harness.models.weights import read_weights, relabel
    from harness.registry import MODELS

    fill_registries(plugins)
    card = MODELS.get(model)
    loaded = relabel(read_labelled(card, scale, path, key=weights_key), tag, licence)
    if loaded.note:
        echo(f"Note: {loaded.note}", err=True)
    Upscaler(card, scale, loaded)
    stored = store_file(loaded, card, scale, path) or store_weights(loaded, card, scale)
    Upscaler(card, scale, read_weights(card, scale, stored))
    copy_notes(path, stored, loaded.info.tensors_sha256)
    echo(f"{path} is stored as {stored} ({loaded.info.licence}).")


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@scale_option
@plugin_option
def weights_fetch(names: tuple[str, ...], scale: int, plugins: tuple[Path, ...]) -> None:
    """Download the authors' weights of models into the user cache, and check them by their pins.

    Example: harness weights fetch edsr-baseline msrn --scale 2
    """
    from harness.cli.progress import download
    from harness.models.find_weights import downloads, fetchable
    from harness.record import file_digest

    fill_registries(plugins)

    def fetch_one(card: ModelCard) -> None:
        files = downloads(card, scale)
        for _, _, description in files:
            echo(f"{card.name}: {description}.")
        download([(file, path) for file, path, _ in files])
        for _, path, _ in files:
            echo(f"Stored in {path}, SHA-256 {file_digest(path)}.")

    _in_turn(partial(fetch_one, card) for card in fetchable(names, scale))


@weights.command("ship")
@click.argument("path", type=PathOption)
@click.option("--to", type=PathOption, default="baselines/weights", show_default=True)
@results_option("results/local")
@plugin_option
def weights_ship(path: Path, to: Path, results: Path, plugins: tuple[Path, ...]) -> None:
    """Copy trained weights and their scores into the folder of a package's networks."""
    from harness.run.store import ResultStore
    from harness.train.export import ship

    fill_registries(plugins)
    echo(f"Shipped as {ship(path, ResultStore(results), to)}.")


weights.add_command(list_alias("weights"))
