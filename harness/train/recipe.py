"""Recipes: the settings of a training, as data.

The loss is computed on the last output of a network only. Losses on the outputs of inner levels or
blocks, which some papers use, are not supported.
"""

from __future__ import annotations

import difflib
import math
import sys
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from msgspec import Meta, ValidationError, convert

from harness.errors import UsageError
from harness.files import TEXT, regular
from harness.registry import MODELS

# The description completes "give ..." in the message for another value.
_LARGEST = sys.float_info.max  # refuses infinity
_Count = Annotated[int, Meta(ge=0, description="a whole number, 0 or more")]
_Size = Annotated[int, Meta(ge=1, le=1 << 16, description="a whole number from 1 to 65,536")]
_Seed = Annotated[int, Meta(ge=0, lt=1 << 32, description="a whole number from 0 to 4,294,967,295")]
_Amount = Annotated[float, Meta(ge=0, le=_LARGEST, description="a number, 0 or more")]
_Rate = Annotated[float, Meta(gt=0, le=_LARGEST, description="a number above 0")]
_Share = Annotated[float, Meta(ge=0, lt=1, description="a number from 0 to below 1")]
_Sets = Annotated[tuple[str, ...], Meta(description="names or paths of sets")]
_SomeSets = Annotated[tuple[str, ...], Meta(min_length=1, description="at least one set")]
_Schedule = Annotated[Literal["cosine", "halve"], Meta(description="cosine or halve")]
_Loss = Annotated[Literal["l1", "l2"], Meta(description="l1 or l2")]
_Precision = Annotated[Literal["fp32", "bf16"], Meta(description="fp32 or bf16")]


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
    steps: _Count
    minutes: _Amount
    stop_after: _Amount
    batch: _Size
    patch: _Size
    lr: _Rate
    schedule: _Schedule
    halve_every: _Count
    warmup: _Count
    beta1: _Share
    beta2: _Share
    eps: _Amount
    ema: _Share
    clip: _Amount
    loss: _Loss
    precision: _Precision
    seed: _Seed
    train_data: _SomeSets
    val_data: _Sets
    val_images: _Count

    def rate(self, step: int, progress: float) -> float:
        """Learning rate of a step, counted from 0, at a progress of the training, 0 to 1."""
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


_TYPES = get_type_hints(Recipe, include_extras=True)
del _TYPES["name"]


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
    tables = _read(Path(__file__).with_name("recipe.toml"))
    if name.startswith("paper") or name.endswith(".toml"):  # others do without a plug-in's file
        tables |= _of_papers(model)
    if name == "paper":
        name = f"paper.{model}" if f"paper.{model}" in tables else "generic"
    own: dict[str, Any] = {}
    if name.endswith(".toml"):
        own = table = _read(Path(name))
    elif name in tables:
        table = tables[name]
    else:
        known = ["paper", *(table for table in tables if "." not in table)]
        raise UsageError(
            f"No recipe is called {name!r}: there are {', '.join(known)}, or name a .toml file."
        )
    changed = {k: _value(k, v, "a recipe") for k, v in changes.items() if v is not None}
    values = _extended(table, tables, name) | changed | _budget(own, changed)
    result = Recipe(Path(name).name, **values)
    halving = result.schedule == "halve"
    if not (result.steps or result.minutes or result.stop_after):
        raise UsageError(f"The recipe {name} never ends: set its steps, minutes or stop_after.")
    if halving and not result.halve_every:
        raise UsageError("schedule=halve needs halve_every: set it to a number of steps.")
    if not halving and (own | changed).get("halve_every"):
        raise UsageError("halve_every is for schedule=halve, but the schedule is cosine.")
    return result


def _of_papers(model: str) -> dict[str, dict[str, Any]]:
    """The tables of the ``recipes.toml`` beside a network's file, as ``paper.<model>``."""
    source = MODELS.get(model).source
    path = source.with_name("recipes.toml") if source else None
    tables = _read(path) if path and path.is_file() else {}
    return {f"paper.{name}": table for name, table in tables.items() if isinstance(table, dict)}


def _read(path: Path) -> dict[str, Any]:
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


def _value(key: str, value: Any, where: str) -> Any:
    """Check a value, and convert it to the type of its field."""
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_TYPES)}."
        raise UsageError(f"{where[0].upper()}{where[1:]} has no {key!r}: {hint}")
    try:
        return convert(value, _TYPES[key])
    except ValidationError as error:
        allowed = _TYPES[key].__metadata__[0].description
        raise UsageError(f"{key} = {value!r} of {where} cannot be used: give {allowed}.") from error


def _budget(own: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The steps or minutes of a training that the user set.

    Values of the command line take precedence over the user's own file.
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
    """Merge command-line options and the ``name=value`` texts of ``--set`` into fields of `Recipe`.

    The value of an option that was not given is None.

    Raises:
        UsageError: a value is given twice, is not one for its field, or the field does not exist.
    """
    given = [(name, value) for name, value in options.items() if value is not None]
    named: dict[str, Any] = {}
    for name, value in [*given, *(text.partition("=")[::2] for text in sets)]:
        if name in named:
            raise UsageError(f"{name} is given twice: give it once, by its option or by --set.")
        read = _from_text(name, value) if isinstance(value, str) else value
        named[name] = _value(name, read, "a recipe")
    return named


def _from_text(name: str, text: str) -> Any:
    """Parse the value of a field from the command line; the text itself if it does not fit."""
    kind = get_type_hints(Recipe).get(name)
    if kind == tuple[str, ...]:
        return tuple(filter(None, map(str.strip, text.split(","))))
    with suppress(ValueError):
        return kind(text) if kind in (int, float) else text
    return text
