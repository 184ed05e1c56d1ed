"""What there is: models, sets, weights, runs, and whether a plug-in keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import (
    PathOption,
    data_option,
    fill_registries,
    json_option,
    plugin_option,
    read_told,
    results_option,
    scale_option,
)
from harness.errors import HarnessError, UsageError
from harness.interrupts import isolated
from harness.report.console import echo, echo_lines, keep_stdout

if TYPE_CHECKING:
    from harness.models.contract import ContractCheck


@click.command("list")
@click.argument(
    "what", type=click.Choice(["models", "datasets", "weights", "runs"]), default="models"
)
@scale_option
@results_option("results/local")
@data_option
@plugin_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; of runs, a row a metric.")
@click.option("--images", is_flag=True, help="In the CSV of runs, a row an image and metric.")
def list_(
    what: str,
    scale: int,
    results: Path,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    as_csv: bool,
    images: bool,
) -> None:
    """List models, datasets, weights or runs."""
    from harness.report import listings

    if as_csv and as_json:
        raise UsageError("The list is either --csv or --json: name one.")
    if images and not (as_csv and what == "runs"):
        raise UsageError("--images is for harness list runs --csv.")
    fill_registries(plugins)
    match what:
        case "datasets":
            rows = listings.datasets(scale, data_root)
        case "weights":
            rows = listings.weights(scale)
        case "runs":
            from harness.report import run_list

            store = read_told(results)
            if as_csv:
                echo_lines(run_list.tidy_csv(store, images=images), nl=False)
                return
            rows = run_list.runs(store)
            rows = rows if as_json else run_list.brief(rows)
        case _:
            rows = listings.models()
    if as_csv:
        echo_lines(listings.csv(rows), nl=False)
    else:
        echo_lines(listings.show(rows, as_json))


@click.command("check-model")
@click.argument("name")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=300,
    show_default=True,
    help="Seconds, after which a plug-in counts as hanging.",
)
@click.option(
    "--weights",
    "weights_file",
    type=PathOption,
    metavar="FILE",
    help="Its weights: with them it is tested on a photograph, too.  [default: those found]",
)
@scale_option
@plugin_option
def check_model(
    name: str,
    time_limit: float,
    weights_file: Path | None,
    scale: int,
    plugins: tuple[Path, ...],
) -> None:
    """Test a model plug-in against the contract, in a process of its own."""
    failed = 0
    keep_stdout()  # which the process of the check inherits
    words = (name, scale, plugins, weights_file)
    with closing(isolated(_findings, words, time_limit)) as findings:
        for finding in findings:
            failed += finding.fails
            mark = "ok  " if finding.holds else "FAIL" if finding.fails else "WARN"
            echo(f"{mark}  {finding.rule}: {finding.seen}")
    if failed:
        raise HarnessError(f"{name} breaks the contract in {failed} points.")


def _findings(
    name: str, scale: int, plugins: tuple[Path, ...], weights_file: Path | None
) -> Iterator[ContractCheck]:
    from harness.models.contract import check_model as check
    from harness.registry import MODELS

    fill_registries(plugins)
    yield from check(MODELS.get(name), scale, weights_file)
