"""Test sets and training images."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from harness.cli.options import (
    data_option,
    fill_registries,
    json_option,
    plugin_option,
    scale_option,
)
from harness.errors import HarnessError, UsageError
from harness.report.console import echo, echo_lines


@click.group()
def data() -> None:
    """Find, verify and download test sets and training sets."""


@data.command("where")
@scale_option
@data_option
@plugin_option
@json_option
def data_where(
    scale: int, data_root: Path | None, plugins: tuple[Path, ...], as_json: bool
) -> None:
    """Say where sets are looked for, which are there, and which can be downloaded."""
    from harness.data.testsets import roots
    from harness.report import listings

    fill_registries(plugins)
    if not as_json:
        echo("Searched, first choice first:")
        for root in roots(data_root):
            echo(f"  {root}{'' if os.path.isdir(root) else '  (not there)'}")
    tests = listings.datasets(scale, data_root)
    training = listings.training_sets(data_root)
    if as_json:
        rows = [row | {"use": "test"} for row in tests]
        rows += [row | {"use": "training"} for row in training]
        echo_lines(listings.show(rows, as_json))
        return
    for title, table in (("Test sets", tests), ("Training and validation sets", training)):
        echo_lines(f"\n{title}:\n{listings.show(table, as_json)}")


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
        _verify_leaks(names, data_root)
        return
    wrong = 0
    for verdict in verify(names or ("all",), scale, data_root):
        wrong += not verdict.sound
        mark = "FAIL" if not verdict.sound else "skip" if verdict.absent else "ok  "
        echo(f"{mark}  {verdict.said}")
    if wrong:
        raise MismatchError(f"{wrong} of the sets are not what they must be.")


def _verify_leaks(names: tuple[str, ...], data_root: Path | None) -> None:
    from harness.data.trainsets import find_images, leaking
    from harness.errors import MismatchError

    if not names:
        raise UsageError("Name the training sets or folders to look through.")
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
    from harness.data.pinned import cache_root
    from harness.data.testsets import downloads, select
    from harness.data.trainsets import FOLDERS, training_downloads
    from harness.report.console import download

    fill_registries()
    training = [name.lower() for name in names if name.lower() in FOLDERS]
    others = [name for name in names if name.lower() not in FOLDERS]
    wanted = [(card.title, partial(downloads, card)) for card in (select(others) if others else ())]
    wanted += [(name, partial(training_downloads, name)) for name in training]
    failed = []
    for title, files in wanted:
        try:
            download(files())
            echo(f"{title} is in {cache_root() / 'data'}.")
        except HarnessError as error:
            failed.append(error.exit_code)
            echo(f"Error: {error}", err=True)
    sys.exit(max(failed, default=0))
