"""What has become of the paper's claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import fill_registries, plugin_option, read_told, results_option
from harness.report.console import echo_lines


@click.command()
@results_option()
@click.option(
    "--format", "form", type=click.Choice(["md", "json", "csv"]), default="md", show_default=True
)
@plugin_option
def claims(results: Path, form: Any, plugins: tuple[Path, ...]) -> None:
    """Judge every claim of the paper: its words, the evidence, a verdict."""
    from dataclasses import asdict

    from harness.paper.claims import judge
    from harness.paper.schema import paper
    from harness.report.claims import claims_table
    from harness.report.table import json_text

    fill_registries(plugins)
    runs = read_told(results).load()
    judgements = judge(runs, paper())
    if form == "json":
        echo_lines(json_text([asdict(judgement) for judgement in judgements]))
    else:
        echo_lines(claims_table(judgements, paper()).render(form), nl=False)
