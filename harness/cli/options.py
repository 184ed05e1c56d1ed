"""What several verbs share: options, and filling the registries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
PathOption = click.Path(path_type=Path)
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=PathOption, help="A plug-in file (repeatable)."
)
data_option = click.option(
    "--data-root", type=PathOption, help="Searched for test sets before HARNESS_DATA."
)
scale_option = click.option("--scale", type=click.IntRange(1), default=4, show_default=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def results_option(default: str) -> Callable[[Command], Command]:
    """``--results DIR``."""
    return click.option(
        "--results", type=PathOption, default=default, show_default=True, help="Run records."
    )


def fill_registries(plugins: tuple[Path, ...] = ()) -> None:
    """Fill the registries, and say which plug-ins failed."""
    from harness.data.catalogue import register_benchmarks
    from harness.registry import FAILURES, load_plugins

    register_benchmarks()
    load_plugins(plugins)
    for name, reason in FAILURES.items():
        click.echo(f"Warning: the plug-in {name} is disabled ({reason}).", err=True)


def split_words(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]
