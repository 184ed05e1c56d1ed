"""From run records to reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from harness.cli.options import (
    PathOption,
    fill_registries,
    plugin_option,
    results_option,
    split_words,
)
from harness.specs import GreyRule

REFERENCE = Path("results/reference")


@click.command()
@click.argument("name", default="all")
@click.option("--format", "formats", default="md,tex,csv", show_default=True)
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    default="full-range",
    show_default=True,
    help="Show the runs made under this rule.",
)
@results_option(str(REFERENCE))
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

    fill_registries(plugins)
    out = out or (Path("reports") if results == REFERENCE else results / "reports")
    for table, paths in build(name, split_words(formats), results, out, grey):
        click.echo(table.render("md"))
        click.echo(f"Written: {', '.join(map(str, paths))}", err=True)


@click.command()
@click.argument("ids", nargs=-1, required=True)
@results_option("results/local")
@click.option("--reference", type=PathOption, default="results/reference", show_default=True)
def accept(ids: tuple[str, ...], results: Path, reference: Path) -> None:
    """Move local records to the reference records: ids, their beginnings, or all."""
    from harness.run.store import ResultStore, accept_records

    for path in accept_records(ids, ResultStore(results), ResultStore(reference)):
        click.echo(path)
