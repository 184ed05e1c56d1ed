"""Finding out by which rules a number was made."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import (
    PathOption,
    data_option,
    fill_registries,
    json_option,
    plugin_option,
    reference_option,
    results_option,
    scale_option,
    weights_key_option,
)
from harness.errors import UsageError
from harness.report.console import echo, echo_lines

if TYPE_CHECKING:
    from harness.protocol.conventions import Number

SHOWN = 30
"""Rows of the table; the nearest come first."""


def _number(text: str | None) -> Number | None:
    from harness.protocol.conventions import Number

    try:
        return None if text is None else Number.read(text)
    except ValueError as error:
        raise UsageError(f"{error}: give a number such as 30.56.") from error


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="RUN | SR HR")
@click.option("--claimed", metavar="DB", help="A PSNR to be explained, with its digits.")
@click.option("--claimed-ssim", metavar="S", help="An SSIM to be explained, with its digits.")
@click.option(
    "--all", "every", is_flag=True, help="Make the images in every way, whatever the first give."
)
@scale_option
@click.option("--weights", type=PathOption, metavar="PATH", help="The file of the run's weights.")
@weights_key_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@results_option("results/local")
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
    results: Path,
    reference: Path,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Score a run's images, or an SR and an HR file, under other conventions.

    RUN is a run's id or its beginning, see harness list runs; --scale is for two files. With
    --claimed it is said which convention gives that number, rounded to the digits it is given
    with: 30.9 is any PSNR from 30.85 to 30.95. Where none does, a run's images are also made with
    the other border, rounding and grey rule, in all combinations, and scored again.
    """
    from harness.protocol.conventions import Claim, rank
    from harness.report import listings
    from harness.run.explain import explain_images, explain_run, rebuild
    from harness.run.store import ResultStore, find_run

    fill_registries(plugins)
    claim = Claim(_number(claimed), _number(claimed_ssim))
    if len(what) == 2:
        found = explain_images(Path(what[0]), Path(what[1]), scale, claim.conventions)
    elif len(what) == 1:
        path, record = find_run(what[0], [ResultStore(results), ResultStore(reference)])
        echo(f"The run record is {path}.", err=True)
        run = rebuild(record, weights, data_root, weights_key)
        notes = partial(echo, err=True)
        found = explain_run(record, run, claim, device, notes, every=every)
    else:
        raise UsageError("Name a run, or an SR image and its HR image.")
    ranked = rank(found, claim)
    shown = ranked if as_json else ranked[:SHOWN]
    echo_lines(listings.show(listings.rescored(shown, claim), as_json))
    if as_json:
        return
    if len(shown) < len(ranked):
        echo(f"{len(shown)} of {len(ranked)} are shown; --json has all.")
    if claim != Claim():
        echo_lines("\n" + claim.explain(ranked))
