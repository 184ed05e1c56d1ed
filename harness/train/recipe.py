"""Recipes: the settings of a training, as data.

The loss is computed on the last output of a network only. Losses on the outputs of inner levels or
blocks, which some papers use, are not supported.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.files import TEXT, regular
from harness.registry import MODELS


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the trained weights, given the network and the images.

    Attributes:
        name: the name of the table in ``recipe.toml``, or of the user's file.
        steps: optimiser steps; 0 if the time decides.
        minutes: training time instead of steps; the schedule then follows the time.
        stop_after: seconds from the start of the process until its end, weights written; 0 for no
            limit. Without ``steps`` and ``minutes`` the schedule spans this time.
        batch: patches per step, over all processes.
        patch: side of an LR patch in pixels.
        lr: the highest learning rate.
        schedule: ``cosine`` to zero, or ``halve`` every ``halve_every`` steps.
        warmup: steps of linear warm-up at the start.
        beta1, beta2, eps: settings of Adam.
        ema: decay of the running average of the weights, which is validated and saved; 0 for none.
        clip: the largest gradient norm; 0 for no limit.
        loss: ``l1`` or ``l2``.
        precision: ``fp32``, or ``bf16`` for the forward pass with fp32 weights; on a GPU the first
            and the last convolution stay in fp32.
        seed: the seed of the weights and the patches.
        train_data, val_data: sets by name or path.
        val_images: the number of validation images to use, from the first.
    """

    name: str
    steps: int
    minutes: float
    stop_after: float
    batch: int
    patch: int
    lr: float
    schedule: str
    halve_every: int
    warmup: int
    beta1: float
    beta2: float
    eps: float
    ema: float
    clip: float
    loss: str
    precision: str
    seed: int
    train_data: tuple[str, ...]
    val_data: tuple[str, ...]
    val_images: int

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step.

        Args:
            step: counted from 0.
            progress: the share of the training that is done, 0 to 1.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "halve":
            return self.lr * rise * 0.5 ** (step // self.halve_every)
        return self.lr * rise * 0.5 * (1 + math.cos(math.pi * progress))

    def decay(self, step: int) -> float:
        """Decay of the running average at a step; smaller at the start."""
        return min(self.ema, (1 + step) / (10 + step))

    @property
    def loss_factor(self) -> float:
        """Factor from the loss of images in [0, 1] to that of 8-bit levels."""
        return 255.0 if self.loss == "l1" else 255.0**2

    @property
    def loss_unit(self) -> str:
        """The unit of the loss in the log: levels for l1, levels² for l2."""
        return "levels" if self.loss == "l1" else "levels²"


_KINDS = {field.name: str(field.type) for field in fields(Recipe) if field.name != "name"}


def recipe(name: str, model: str, **changes: Any) -> Recipe:
    """Read a recipe from ``recipe.toml`` or from a file of the user, and apply changes.

    Args:
        name: a table name, or the path of a TOML file. ``paper`` means the recipe of the model's
            paper, from the ``recipes.toml`` beside the network's file, or `generic` if there is
            none. A TOML file has its values at the top level, and may name the table that it
            ``extends``.
        model: the network's registered name.
        changes: fields of `Recipe`; None leaves a field as it is.

    Raises:
        UsageError: no such recipe, an unknown key, or a value that makes no sense.
    """
    text = files("harness.train").joinpath("recipe.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    if name.startswith("paper") or name.endswith(".toml"):  # others do without a plug-in's file
        tables |= _of_papers(model)
    changed = {k: _value(k, v) for k, v in changes.items() if v is not None}
    own: dict[str, Any] = {}
    if name.endswith(".toml"):
        own = _read(Path(name))
        values, name = _extended(own, tables, name), Path(name).name
    else:
        name = _table(name, model, tables)
        values = _extended(tables[name], tables, name)
    result = Recipe(name, **(values | changed | _budget(own, changed)))
    _check(result)
    if result.schedule == "cosine" and (own | changed).get("halve_every"):
        raise UsageError("halve_every is for schedule=halve, but the schedule is cosine.")
    return result


def _of_papers(model: str) -> dict[str, dict[str, Any]]:
    """The tables of the ``recipes.toml`` beside a network's file, as ``paper.<model>``."""
    source = MODELS.get(model).source
    path = source.with_name("recipes.toml") if source else None
    tables = _read(path) if path and path.is_file() else {}
    return {f"paper.{name}": table for name, table in tables.items() if isinstance(table, dict)}


def _table(name: str, model: str, tables: Mapping[str, Any]) -> str:
    if name == "paper":
        return f"paper.{model}" if f"paper.{model}" in tables else "generic"
    if name not in tables:
        known = ["paper", *(table for table in tables if "." not in table)]
        raise UsageError(
            f"No recipe is called {name!r}: there are {', '.join(known)}, or name a .toml file."
        )
    return name


def _read(path: Path) -> dict[str, Any]:
    """Read the keys and values of a TOML file."""
    try:
        return tomllib.loads(regular(path, TEXT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no recipe file {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"The recipe {path} cannot be read ({error}).") from error


def _extended(
    table: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, Any]:
    """The values of a table, including those of the tables it extends."""
    base = table.get("extends", "generic")
    if base not in tables:
        raise UsageError(f"{where} extends {base!r}, but there are only {', '.join(tables)}.")
    below = {} if table is tables[base] else _extended(tables[base], tables, base)
    own = {key: value for key, value in table.items() if key != "extends"}
    return below | {key: _value(key, value, where) for key, value in own.items()}


def _value(key: str, value: Any, where: str = "a recipe") -> Any:
    """Convert a value of a recipe to the type of its field.

    Raises:
        UsageError: the field does not exist, or the value has another type.
    """
    if key not in _KINDS:
        raise UsageError(unknown_key(key, where))
    readers: dict[str, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
        "int": ((int,), int),
        "float": ((int, float), float),
        "str": ((str,), str),
        "tuple[str, ...]": ((list, tuple), tuple),
    }
    kinds, read = readers[_KINDS[key]]
    texts = value if isinstance(value, list | tuple) else ()
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    if not fits or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{key} = {value!r} of {where} is not a value for {_KINDS[key]}.")
    return read(value)


def unknown_key(key: str, where: str = "a recipe") -> str:
    """The error message for an unknown key, with the nearest known one."""
    near = difflib.get_close_matches(key, _KINDS, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KINDS)}."
    return f"{where[0].upper()}{where[1:]} has no {key!r}: {hint}"


def _budget(own: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The steps or minutes of a training, from the values that the user set.

    Args:
        own: the values of the user's file.
        changed: the values of the command line, which take precedence.
    """
    replaced = {"steps", "minutes"} if changed.keys() & {"steps", "minutes"} else set()
    both = {name: value for name, value in own.items() if name not in replaced} | dict(changed)
    named = {name: both[name] for name in ("steps", "minutes", "stop_after") if name in both}
    positive = {name for name, value in named.items() if value > 0}
    if {"minutes", "steps"} <= positive:
        raise UsageError("Either --steps or --minutes decides when training ends: name one.")
    if named.keys() & {"steps", "minutes"} and not any(named.values()):
        raise UsageError(f"{' and '.join(named)} of 0 would end training before its first step.")
    if positive:
        return {"steps": 0, "minutes": 0.0} | named
    return {}


def named_once(options: Mapping[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """Merge command-line options and the values of ``--set`` into fields of `Recipe`.

    Args:
        options: values by field; None for an option that was not given.
        sets: texts ``name=value``.

    Raises:
        UsageError: a value is given twice, or `parse_change` refuses one.
    """
    named = {
        name: _from_text(name, value) if isinstance(value, str) else value
        for name, value in options.items()
        if value is not None
    }
    for name, value in map(parse_change, sets):
        if name in named:
            raise UsageError(f"{name} is given twice: give it once, by its option or by --set.")
        named[name] = value
    return named


def parse_change(text: str) -> tuple[str, Any]:
    """Parse ``name=value`` into a field of `Recipe` and its value.

    Raises:
        UsageError: the field does not exist, or the value has another type.
    """
    name, _, value = text.partition("=")
    if name not in _KINDS:
        raise UsageError(unknown_key(name))
    return name, _from_text(name, value)


def _from_text(name: str, text: str) -> Any:
    """Parse the value of a field from the command line."""
    readers: dict[str, Callable[[str], Any]] = {
        "int": int,
        "float": float,
        "str": str,
        "tuple[str, ...]": lambda words: tuple(filter(None, map(str.strip, words.split(",")))),
    }
    try:
        return readers[_KINDS[name]](text)
    except ValueError as error:
        raise UsageError(f"{name}={text} is not a value for {_KINDS[name]}.") from error


_MOST, _SEEDS = 1 << 16, 1 << 32


def _check(chosen: Recipe) -> None:
    numbers = [value for value in asdict(chosen).values() if isinstance(value, int | float)]
    budgets = (chosen.steps, chosen.minutes, chosen.stop_after)
    rules = {
        "every number is finite and none is negative": all(0 <= n < math.inf for n in numbers),
        "steps, batch and patch are at least 1": min(chosen.batch, chosen.patch) >= 1
        and max(budgets) > 0,
        f"batch and patch are at most {_MOST:,}": max(chosen.batch, chosen.patch) <= _MOST,
        f"seed is below {_SEEDS:,}": chosen.seed < _SEEDS,
        "lr is positive": chosen.lr > 0,
        "train_data names a set": bool(chosen.train_data),
        "schedule is cosine or halve": chosen.schedule in ("cosine", "halve"),
        "halving needs halve_every": chosen.schedule != "halve" or chosen.halve_every > 0,
        "loss is l1 or l2": chosen.loss in ("l1", "l2"),
        "precision is fp32 or bf16": chosen.precision in ("fp32", "bf16"),
        "ema, beta1 and beta2 are below 1": max(chosen.ema, chosen.beta1, chosen.beta2) < 1,
    }
    violated = next((rule for rule, holds in rules.items() if not holds), None)
    if violated:
        raise UsageError(f"The recipe cannot be used: {violated}.")
