"""The size, work and speed of networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import fill_registries, plugin_option, scale_option
from harness.errors import UsageError
from harness.report.console import echo_lines


@click.command()
@click.argument("models", nargs=-1)
@click.option(
    "--output-size", default="1280x720", show_default=True, help="Of the SR image, for counts."
)
@click.option("--time", "timed", is_flag=True, help="Measure time and memory as well.")
@click.option(
    "--time-size", default="640x360", show_default=True, help="Of the SR image, for times."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "tex", "csv"]),
    default="md",
    show_default=True,
)
@scale_option
@plugin_option
def complexity(
    models: tuple[str, ...],
    output_size: str,
    timed: bool,
    time_size: str,
    device: str,
    form: Any,
    scale: int,
    plugins: tuple[Path, ...],
) -> None:
    """Count parameters, operations and activations of models (all without a name)."""
    from harness.paper.schema import paper
    from harness.registry import MODELS
    from harness.report.complexity import complexity_table

    fill_registries(plugins)
    names = dict.fromkeys(name for word in models or ("all",) for name in MODELS.select(word))
    cards = [card for card in map(MODELS.get, names) if scale in card.scales and card.params != 0]
    if not cards:
        raise UsageError(f"None of these models has parameters at x{scale}.")
    speeds = None
    if timed:
        from harness.models.network import pick_device
        from harness.models.resources import measure_speed

        place, size = pick_device(device), _size(time_size)
        speeds = {card.name: measure_speed(card, scale, place, size) for card in cards}
    table = complexity_table(cards, scale, paper(), _size(output_size), speeds)
    echo_lines(table.render(form))


def _size(text: str) -> tuple[int, int]:
    """Width and height of ``1280x720``."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"A size is WIDTHxHEIGHT, such as 1280x720, not {text!r}.")
    return int(width), int(height)
