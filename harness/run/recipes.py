"""Recipes: how a network is trained, as data.

The loss is on a network's last output alone. LapSRN's authors compare every level of its pyramid as
well, and MemNet's the image of every memory block: neither is part of a recipe.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from typing import Any

from harness.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides trained weights, given the network and the images.

    Attributes:
        name: of the table in ``recipes.toml``.
        steps: optimiser steps; 0 where the clock decides.
        minutes: train for so long instead; the schedule then follows the clock.
        batch: patches a step, over all processes.
        patch: side of an LR patch in pixels.
        lr: the highest learning rate.
        schedule: ``cosine`` to zero, or ``halve`` every ``halve_every`` steps.
        warmup: steps of linear rise at the start.
        beta1, beta2, eps: of Adam.
        ema: decay of the running average of the weights that is validated and kept; 0 for none.
        clip: the largest gradient norm; 0 for no limit.
        loss: ``l1`` or ``l2``.
        precision: ``fp32``, or ``bf16`` for the forward pass with fp32 weights.
        seed: of the weights and the patches.
        train_data, val_data: sets by name or path.
        val_images: how many of the validation images are used, from the first.
    """

    name: str = "short"
    steps: int = 20_000
    minutes: float = 0.0
    batch: int = 16
    patch: int = 48
    lr: float = 1e-4
    schedule: str = "cosine"
    halve_every: int = 0
    warmup: int = 0
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    ema: float = 0.0
    clip: float = 0.0
    loss: str = "l1"
    precision: str = "fp32"
    seed: int = 0
    train_data: tuple[str, ...] = ("div2k",)
    val_data: tuple[str, ...] = ("kodak24",)
    val_images: int = 24

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step.

        Args:
            step: counted from 0.
            progress: the share of the budget that is spent, 0 to 1.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "halve":
            return self.lr * rise * 0.5 ** (step // self.halve_every)
        return self.lr * rise * 0.5 * (1 + math.cos(math.pi * progress))


def recipe(name: str, model: str, **changes: Any) -> Recipe:
    """A recipe of ``recipes.toml``, with what the model's own paper does otherwise, and changes.

    Args:
        name: ``paper`` or ``short``.
        model: the network's registered name.
        changes: fields of `Recipe`; None leaves a field as it is.

    Raises:
        UsageError: no such recipe, or a value that makes no sense.
    """
    text = files("harness.run").joinpath("recipes.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    if name not in tables:
        raise UsageError(f"No recipe is called {name!r}: there are {', '.join(tables)}.")
    table = tables[name]
    own = table.get(model, {})
    known = {field.name for field in fields(Recipe)}
    values = {k: v for k, v in (table | own).items() if k in known} | {"name": name}
    values |= {k: v for k, v in changes.items() if v is not None}
    values |= {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    if (changes.get("minutes") or 0) > 0:
        if changes.get("steps"):
            raise UsageError("Either --steps or --minutes decides when training ends: name one.")
        values["steps"] = 0
    made = Recipe(**values)
    _check(made)
    return made


_MOST, _SEEDS = 1 << 16, 1 << 32


def _check(made: Recipe) -> None:
    numbers = [value for value in asdict(made).values() if isinstance(value, int | float)]
    rules = {
        "every number is finite and none is negative": all(0 <= n < math.inf for n in numbers),
        "steps, batch and patch are at least 1": min(made.batch, made.patch) >= 1
        and (made.steps >= 1 or made.minutes > 0),
        f"batch and patch are at most {_MOST:,}": max(made.batch, made.patch) <= _MOST,
        f"seed is below {_SEEDS:,}": made.seed < _SEEDS,
        "lr is positive": made.lr > 0,
        "schedule is cosine or halve": made.schedule in ("cosine", "halve"),
        "halving needs halve_every": made.schedule != "halve" or made.halve_every > 0,
        "loss is l1 or l2": made.loss in ("l1", "l2"),
        "precision is fp32 or bf16": made.precision in ("fp32", "bf16"),
        "ema, beta1 and beta2 are below 1": max(made.ema, made.beta1, made.beta2) < 1,
    }
    broken = next((rule for rule, holds in rules.items() if not holds), None)
    if broken:
        raise UsageError(f"The recipe cannot be used: {broken}.")
