"""Speed on the machine at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli.options import (
    data_option,
    fill_registries,
    json_option,
    plugin_option,
    scale_option,
    split_words,
)
from harness.errors import own_error
from harness.report.console import echo, echo_lines


@click.command()
@click.option("--models", default="srcnn,fsrcnn,drfn", show_default=True)
@click.option("--datasets", default="set14", show_default=True)
@click.option("--against", type=click.Choice(["naive"]), help="Time a plain script as well.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@scale_option
@data_option
@plugin_option
@json_option
def bench(
    models: str,
    datasets: str,
    against: str | None,
    rounds: int,
    device: str,
    scale: int,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Measure how fast this machine is, the bare networks, and the harness around them."""
    from harness.models.network import pick_device
    from harness.report.benches import bench_json, bench_markdown
    from harness.run.bench import measure, measure_roof
    from harness.run.plan import Request, plan

    fill_registries(plugins)
    made = plan(Request(split_words(models), split_words(datasets), scale, data_root=data_root))
    for sentence in [*made.notes, *made.absent, *made.problems]:
        echo(f"Note: {sentence}", err=True)
    place = pick_device(device)
    roof = measure_roof(place)
    benches = []
    for run in made.runs:
        try:
            benches.append(measure(run, place, rounds, naive=against == "naive"))
        except Exception as error:  # from a plug-in; the other runs go on
            made.problems.append(str(own_error(error, run.title)))
            echo(f"Error: {made.problems[-1]}", err=True)
    echo_lines((bench_json if as_json else bench_markdown)(roof, benches))
    if made.problems or not benches:
        sys.exit(1)
