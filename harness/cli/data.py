"""The verbs ``harness data`` and ``harness weights``: find, verify, download, import, ship."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.list import list_alias
from harness.cli.options import (
    PathOption,
    all_words,
    data_option,
    examples,
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
    from collections.abc import Callable, Iterable, Sequence

    from harness.cards import DatasetCard, ModelCard, RemoteFile


@click.group(epilog=examples("data where", "data fetch set5 set14"))
def data() -> None:
    """Find, verify and download test sets and training sets."""


data.add_command(list_alias("data", "datasets"))


@data.command("verify", epilog=examples("data verify demo", "data verify --leaks t91"))
@click.argument("names", nargs=-1, callback=all_words)
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


@data.command("fetch", epilog=examples("data fetch set5,set14", "data fetch bsds400 t91"))
@click.argument("names", nargs=-1, required=True, callback=all_words)
def data_fetch(names: tuple[str, ...]) -> None:
    """Download test sets and training sets into the user cache.

    NAMES are test sets, such as set5 or all, and training sets; harness data where lists both. Size
    and licence are printed before a download.
    """
    from harness.cli.progress import download
    from harness.data.pinned import unsound
    from harness.data.testsets import downloads
    from harness.data.trainsets import FOLDERS, licence_of, training_downloads

    fill_registries()
    training = [name.lower() for name in names if name.lower() in FOLDERS]
    others = [name for name in names if name.lower() not in FOLDERS]
    wanted = [
        (card.title, "not stated", partial(downloads, card)) for card in _test_sets(others)
    ] + [(name, licence_of(name), partial(training_downloads, name)) for name in training]

    def fetch_one(
        title: str, licence: str, files: Callable[[], list[tuple[RemoteFile, Path]]]
    ) -> None:
        found = files()
        if unsound(found):
            echo(f"{title}, licence: {licence}.")
        download(found)
        echo(f"{title} is in {found[0][1].parent}.")

    _in_turn(partial(fetch_one, *one) for one in wanted)


def _test_sets(names: Sequence[str]) -> list[DatasetCard]:
    """Select test sets by name; the error for an unknown name also knows the training sets."""
    from harness.data.testsets import select
    from harness.data.trainsets import FOLDERS
    from harness.registry import near_names

    try:
        return select(names) if names else []
    except UsageError as error:
        near = [near for name in names for near in near_names(name, FOLDERS)]
        hint = f" Among the training sets there is {near[0]}." if near else ""
        raise UsageError(f"{error}{hint}") from None


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


@click.group(epilog=examples("weights where", "weights fetch srcnn vdsr"))
def weights() -> None:
    """Import, fetch and ship weights, and list where they are."""


@weights.command(
    "import", epilog=examples("weights import edsr edsr_x4.pt --tag mine --licence MIT")
)
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
    card = MODELS.get(MODELS.spelling(model))
    loaded = relabel(read_labelled(card, scale, path, key=weights_key), tag, licence)
    if loaded.note:
        echo(f"Note: {loaded.note}", err=True)
    Upscaler(card, scale, loaded)
    stored = store_file(loaded, card, scale, path) or store_weights(loaded, card, scale)
    Upscaler(card, scale, read_weights(card, scale, stored))
    copy_notes(path, stored, loaded.info.tensors_sha256)
    echo(f"{path} is stored as {stored} ({loaded.info.licence}).")


@weights.command(
    "fetch", epilog=examples("weights fetch edsr,msrn", "weights fetch edsr-baseline --scale 2")
)
@click.argument("names", nargs=-1, required=True, callback=all_words)
@scale_option
@plugin_option
def weights_fetch(names: tuple[str, ...], scale: int, plugins: tuple[Path, ...]) -> None:
    """Download the authors' weights of models into the user cache, and check them by their pins.

    NAMES are models or globs. Source and licence are printed before a download.
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


@weights.command(
    "ship", epilog=examples("weights ship results/local/train/drfn-x4.repro.safetensors")
)
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


weights.add_command(list_alias("weights", "weights"))
