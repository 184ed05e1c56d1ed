"""Weights files."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import (
    PathOption,
    fill_registries,
    json_option,
    plugin_option,
    results_option,
    scale_option,
    weights_key_option,
)
from harness.report.console import echo, echo_lines


@click.group()
def weights() -> None:
    """Import, fetch and ship weights, and say where they are."""


@weights.command("import")
@click.argument("model")
@click.argument("path", type=PathOption)
@click.option("--tag", help="A name for them; the authors' own files are called official.")
@click.option("--licence", help="As their owner states it.")
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
    """Store a weights file as safetensors in the user cache; it is loaded before and after."""
    from harness.models.find_weights import copy_notes, store_weights
    from harness.models.upscaler import Upscaler
    from harness.models.weights import read_weights, relabel
    from harness.registry import MODELS

    fill_registries(plugins)
    card = MODELS.get(model)
    read = relabel(read_weights(card, scale, path, key=weights_key), tag, licence)
    if read.note:
        echo(f"Note: {read.note}", err=True)
    Upscaler(card, scale, read)
    stored = store_weights(read, card, scale)
    Upscaler(card, scale, read_weights(card, scale, stored))
    copy_notes(path, stored, read.info.tensors_sha256)
    echo(f"{path} is stored as {stored} ({read.info.licence}).")


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@scale_option
@plugin_option
def weights_fetch(names: tuple[str, ...], scale: int, plugins: tuple[Path, ...]) -> None:
    """Download the authors' weights of models into the user cache, pinned by SHA-256."""
    from harness.models.find_weights import downloads, fetchable
    from harness.report.console import download

    fill_registries(plugins)
    for card in fetchable(names, scale):
        files = downloads(card, scale)
        for file, _, licence in files:
            echo(f"{card.name}: {file.path} of {file.repository}, licence: {licence}")
        download([(file, path) for file, path, _ in files])
        for _, path, _ in files:
            echo(f"It is in {path}.")


@weights.command("ship")
@click.argument("path", type=PathOption)
@click.option("--to", type=PathOption, default="baselines/weights", show_default=True)
@results_option("results/local")
@plugin_option
def weights_ship(path: Path, to: Path, results: Path, plugins: tuple[Path, ...]) -> None:
    """Put trained weights and their scores beside the networks of a package."""
    from harness.run.store import ResultStore
    from harness.train.export import ship

    fill_registries(plugins)
    echo(f"Shipped as {ship(path, ResultStore(results), to)}.")


@weights.command("where")
@scale_option
@plugin_option
@json_option
def weights_where(scale: int, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Say which weights each model has on this machine."""
    from harness.report import listings

    fill_registries(plugins)
    echo_lines(listings.show(listings.weights(scale), as_json))
