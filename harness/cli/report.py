"""From run records to reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cards import GreyRule
from harness.cli.options import (
    REFERENCE,
    PathOption,
    data_option,
    fill_registries,
    folder_to_read,
    plugin_option,
    read_told,
    reference_records,
    results_option,
    split_words,
)
from harness.errors import HarnessError, UsageError
from harness.report.console import echo, echo_lines

if TYPE_CHECKING:
    from harness.report.crops import Region


@click.command()
@click.argument("name", default="all")
@click.option(
    "--format",
    "formats",
    default="",
    metavar="md,tex,csv,html,png,svg,pdf",
    help="Write these, each for the reports that have it.  [default: all]",
)
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="Show the runs that scored grey images so.  [default: each row's own rule]",
)
@results_option()
@click.option(
    "--out",
    type=PathOption,
    help="The reports' folder.  [default: reports, or a folder "
    "of that name beside the records where --results names others than the reference]",
)
@click.option(
    "--images",
    type=PathOption,
    callback=folder_to_read,
    metavar="DIR",
    help="What harness run --save-images wrote, for crops and page.  [default: the run records' "
    "folder]",
)
@click.option("--image", metavar="SET/IMAGE", help="The image of crops.")
@click.option("--box", metavar="X,Y,W,H", help="The part of it that is enlarged, in HR pixels.")
@click.option("--models", default="", help="The models of crops.  [default: all that were run]")
@data_option
@plugin_option
def report(
    name: str,
    formats: str,
    grey: Any,
    results: Path,
    out: Path | None,
    images: Path | None,
    image: str | None,
    box: str | None,
    models: str,
    data_root: Path | None,
    plugins: tuple[Path, ...],
) -> None:
    """Rebuild the paper's tables and figures, and the page, from run records.

    NAME is table1, table2, verdicts, rules, claims, differences, complexity, figure5, crops, page,
    one that a plug-in brings, a glob, or all.
    """
    from harness.report.build import build
    from harness.report.crops import Pictures

    fill_registries(plugins)
    out = out or (Path("reports") if results == reference_records() else results / "reports")
    region = _region(image, box)
    pictures = Pictures(images or results, data_root, region, split_words(models))
    read_told(results)
    failed = False
    for made in build(name, split_words(formats), results, out, grey, pictures):
        if isinstance(made, HarnessError):
            failed = True
            echo(f"Error: {made}", err=True)
        elif made.paths:
            echo_lines(made.shown, nl=bool(made.shown))
            echo(f"Written: {', '.join(map(str, made.paths))}", err=True)
    if failed:
        sys.exit(1)


def _region(image: str | None, box: str | None) -> Region | None:
    """What ``--image`` and ``--box`` say."""
    from harness.report.crops import Box, Region

    if not image:
        if box:
            raise UsageError("--box needs the --image it is cut from.")
        return None
    dataset, slash, stem = image.partition("/")
    if not slash or not stem:
        raise UsageError(f"--image takes SET/IMAGE, such as set14/img_005, not {image!r}.")
    numbers = split_words(box or "")
    if box and (len(numbers) != 4 or not all(number.isdecimal() for number in numbers)):
        raise UsageError(f"--box takes x,y,width,height in HR pixels, not {box!r}.")
    return Region(dataset.lower(), stem, Box(*map(int, numbers)) if box else None)


@click.command()
@click.argument("ids", nargs=-1, required=True)
@results_option("results/local")
@click.option("--reference", type=PathOption, default=REFERENCE, show_default=True)
def accept(ids: tuple[str, ...], results: Path, reference: Path) -> None:
    """Move local records to the reference records: ids, their beginnings, or all."""
    from harness.run.store import ResultStore, accept_records

    for path in accept_records(ids, read_told(results), ResultStore(reference)):
        echo(path)
