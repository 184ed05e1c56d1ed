"""The verb that trains networks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    PathOption,
    data_option,
    device_option,
    examples,
    fill_registries,
    paper_option,
    plugin_option,
    refuse_ignored,
    required_paper,
    scale_option,
    weights_key_option,
)
from harness.cli.progress import TrainProgress, bars, download, echo, prepare_images
from harness.errors import UsageError
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.paper.schema import Ablation, Paper


@click.command(
    epilog=examples(
        "train drfn --minutes 10", "train mine --plugin mine.py --train-data DIV2K --steps 20000"
    )
)
@click.argument("model")
@click.option(
    "--recipe",
    default="short",
    show_default=True,
    help="short, paper, finetune, generic, or a .toml file.",
)
@click.option("--steps", type=int, help="Optimiser steps.")
@click.option("--minutes", type=float, help="Train for this time instead of --steps.")
@click.option("--batch", type=int)
@click.option("--patch", type=int, help="Side of an LR patch, in pixels.")
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--seed", type=int)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]))
@click.option("--train-data", help="Sets by name or path, comma-separated.")
@click.option("--val-data", help="Sets by name or path, comma-separated.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Any other value of the recipe."
)
@click.option("--variant", metavar="NAME", help="A variant of the paper's ablation, or ID:NAME.")
@paper_option()
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Compile repeated blocks.  [default: on a GPU, for trainings of over two minutes]",
)
@click.option(
    "--stop-after",
    type=float,
    metavar="SECONDS",
    help="Write the weights and end within this time.",
)
@click.option(
    "--from", "start", default="", metavar="WEIGHTS", help="Start from a weights file or tag."
)
@weights_key_option
@click.option("--fp16", is_flag=True, help="Always write the weights in fp16.")
@click.option("--split", is_flag=True, help="Also write the weights in parts of 15 MiB.")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.option(
    "--skip-bad", is_flag=True, help="Leave out training and validation images that cannot be read."
)
@device_option
@click.option("--out", "folder", type=PathOption, default="results/local/train", show_default=True)
@click.option("--save-every", type=float, default=120, show_default=True, help="Seconds.")
@click.option("--validate-every", type=float, default=300, show_default=True, help="Seconds.")
@click.option("--log-every", type=click.IntRange(1), default=50, show_default=True, help="Steps.")
@scale_option
@data_option
@plugin_option
def train(
    model: str,
    changes: tuple[str, ...],
    variant: str | None,
    paper_name: str,
    plugins: tuple[Path, ...],
    **options: Any,
) -> None:
    """Train a network; for N GPUs: torchrun --nproc-per-node N -m harness train MODEL."""
    from harness.train.distributed import failures_named, process
    from harness.train.export import finish
    from harness.train.loop import Trainer
    from harness.train.plan import folder_held, plan_training
    from harness.train.recipe import Recipe, named_once
    from harness.train.spec import TrainRequest

    fill_registries(plugins)
    model = MODELS.spelling(model)
    if variant:
        ablation = _ablation(required_paper(paper_name, "--variant"), model, variant)
        variant = variant.rpartition(":")[2]
        hyper = ablation.arguments(variant)
        if options["scale"] != ablation.scale:
            refuse_ignored(f"trainings without --variant (x{ablation.scale})", "scale")
        options |= {
            "scale": ablation.scale,
            "variant": variant,
            "hyper": hyper,
            "tag": f"{ablation.id}-{variant}",
        }
    else:
        refuse_ignored("--variant", "paper_name")
    of_recipe = [field.name for field in fields(Recipe) if field.name in options]
    values = named_once({name: options.pop(name) for name in of_recipe}, changes)
    request = TrainRequest(model, changes=values, **options)
    with failures_named():
        training = plan_training(request, prepare_images, download)
        rank, _ = process(training.device)
        with (
            folder_held(training) if rank == 0 else nullcontext(),
            bars("{task.percentage:.0f}%", shown=rank == 0) as shown,
        ):
            progress = TrainProgress(shown)
            trainer = Trainer(training, progress, resume=request.resume)
            network = trainer.run()
            if rank == 0:
                training, rows = trainer.training, trainer.log.rows
                weights_path = finish(training, network, trainer.state, rows, trainer.how())
                progress.validated(training, rows)
    if rank == 0:
        echo(f"The weights are {weights_path}.")


def _ablation(paper: Paper, model: str, variant: str) -> Ablation:
    """Return the paper's ablation of a network that has a variant, or any of this network.

    Args:
        paper: the paper.
        model: the network.
        variant: its name, after the ablation's id and a colon if several have it.

    Raises:
        UsageError: there is none of this network or id, or several have the variant.
    """
    wanted, _, name = variant.rpartition(":")
    of_model = [one for one in paper.ablations if one.model == model]
    if not of_model:
        models = ", ".join(dict.fromkeys(one.model for one in paper.ablations))
        hint = f": --variant is for {models}" if models else ""
        raise UsageError(f"The paper {paper.source.id} has no ablation of {model}{hint}.")
    if wanted and wanted not in [one.id for one in of_model]:
        ids = ", ".join(one.id for one in of_model)
        raise UsageError(f"No ablation of {model} is called {wanted!r}: there are {ids}.")
    having = [one for one in of_model if wanted in ("", one.id) and name in one.variants]
    if len(having) > 1:
        words = " or ".join(f"{one.id}:{name}" for one in having)
        raise UsageError(f"Several ablations have the variant {name!r}: write {words}.")
    return next((one for one in having or of_model if wanted in ("", one.id)), of_model[0])
