"""From what a user asks for to the runs that answer it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import ValidationError, convert

from harness.cards import CardName, ModelCard
from harness.data.pinned import fetch
from harness.data.testsets import DatasetUnavailable, Fetch, find_or_fetch, select, with_lr_images
from harness.errors import HarnessError, UsageError, own_error
from harness.models.find_weights import WeightsMissing, find_weights
from harness.models.formats import CHECKPOINTS
from harness.protocol.rules import Protocol
from harness.registry import METRICS, MODELS
from harness.run.spec import Run

if TYPE_CHECKING:
    from harness.cards import Border, DatasetCard, GreyRule
    from harness.data.identify import ImageSet
    from harness.models.weights import Weights


@dataclass(frozen=True)
class Request:
    """The request of a user.

    Attributes:
        models: names, ``name:tag``, ``name=file`` with its weights, globs or ``all``; a checkpoint
            of any architecture by its file, or as ``name=file`` if no model has the name.
        datasets: names, folders, globs or ``all``.
        scale: the scale.
        scale_given: False if ``scale`` is a default, which the scale of a checkpoint replaces.
        name: the name of the only checkpoint; empty to make it from the file's name.
        grey: the rule for grey images; None for the rule of each model's pipeline.
        float_lr: LR images of the ``rgb`` pipeline are not rounded; ``y`` never rounds them.
        float_y: luma of the ``y`` pipeline is not rounded; ``rgb`` never rounds it.
        weight_files: weight files by model name.
        checkpoints: files of networks without a registered model, by the names of their runs.
        metrics: registered metrics besides psnr and ssim.
        data_root: a folder to search first for sets.
        lr_images: a folder of LR images of the only set, used instead of making them.
        strict: treat an unavailable set as an error.
        fetch: downloads missing sets.
        weights_key: the key of the weights in the weight files; empty to find it.
    """

    models: Sequence[str]
    datasets: Sequence[str] = ("all",)
    scale: int = 4
    grey: GreyRule | None = None
    border: Border = "replicate"
    float_lr: bool = False
    float_y: bool = False
    self_ensemble: bool = False
    tile: int | None = None
    weight_files: Mapping[str, Path] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    data_root: Path | None = None
    lr_images: Path | None = None
    strict: bool = False
    fetch: Fetch = fetch
    weights_key: str = ""
    scale_given: bool = True
    name: str = ""
    checkpoints: Mapping[str, Path] = field(default_factory=dict)


@dataclass
class Plan:
    """The runs of a request, and why others are not possible.

    Attributes:
        runs: the runs, model by model, in the order of the request.
        problems: errors of models or sets that cannot be run; each is a failure.
        absent: messages about unavailable sets that are not required.
        notes: sentences for readers of the scores.
    """

    runs: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(request: Request) -> Plan:
    """Find models, weights and sets.

    Raises:
        UsageError: a name or option does not fit.
    """
    result = Plan()
    request = _with_paths(request)
    recognised = _recognised(result, request)
    request = _with_scale(request, [card for card, _ in recognised.values()])
    cards = _cards(request, recognised)
    _check_weights(request, cards)
    _check_metrics(request.metrics, cards)
    metrics = ("psnr", "ssim", *dict.fromkeys(request.metrics))
    sets = select(request.datasets, request.data_root)
    _check_lr_images(request, sets)
    models = [model for c in cards if (model := _with_weights(result, request, recognised, *c))]
    image_sets = [s for card in sets if (s := _image_set(result, request, card))] if models else []
    for card, weights, asked_for in models:
        if request.tile and card.global_pooling:
            why = "may see the whole image" if card.checkpoint else "pools over the whole image"
            result.notes.append(f"{card.name} {why}: tiles change its output.")
        rules = _rules(request, card)
        for image_set in image_sets:
            options = (request.self_ensemble, request.tile, metrics, asked_for)
            run = Run(card, weights, image_set, rules, *options)
            with _collect_problems(result, run.title):
                if run.identity not in (other.identity for other in result.runs):
                    result.runs.append(run)
    return result


@contextmanager
def _collect_problems(result: Plan, title: str) -> Iterator[None]:
    """Add an error in this block to the problems, so that other models and sets go on."""
    try:
        yield
    except Exception as error:  # files and plug-ins may raise anything
        result.problems.append(str(own_error(error, title)))


def _rules(request: Request, card: ModelCard) -> Protocol:
    """The protocol of a model's runs; each rounding option applies to one pipeline only."""
    return Protocol(
        card.pipeline,
        request.scale,
        request.border,
        request.grey,  # type: ignore[arg-type] # None means the rule of the pipeline
        float_lr=request.float_lr and card.pipeline == "rgb",
        float_y=request.float_y and card.pipeline == "y",
    )


def _with_paths(request: Request) -> Request:
    """Move the files of the words ``name=file`` to the weight files, or to the checkpoints."""
    words, files, checkpoints = [], dict(request.weight_files), dict(request.checkpoints)
    for word in request.models:
        name, equals, path = word.partition("=")
        checkpoint = _checkpoint(word, request.name)
        if checkpoint:
            name, file = checkpoint
            if checkpoints.get(name, file) != file:
                raise UsageError(f"{checkpoints[name]} and {file} are both {name}: give NAME=FILE.")
            checkpoints[name] = file
            words.append(name)
            continue
        words.append(name)
        if equals and not path:
            raise UsageError(f"--models {word} names no file: give {name}=FILE.")
        if equals and ":" in name:
            raise UsageError(f"--models {word} names weights by tag and by file: choose one.")
        if equals and name in files:
            raise UsageError(f"{name} has two files, {files[name]} and {path}: choose one.")
        if equals:
            files[name] = Path(path)
    if request.name and list(checkpoints) != [request.name]:
        raise UsageError("--name is for one checkpoint: give its file in --models.")
    return replace(request, models=words, weight_files=files, checkpoints=checkpoints)


def _checkpoint(word: str, name: str) -> tuple[str, Path] | None:
    """The name and the file of a network without a registered model.

    Args:
        word: a word of the models; None is returned if it is not ``file`` or ``name=file``.
        name: the name for the first kind; empty to make it from the file's name.

    Raises:
        UsageError: there is no such file, or the name is not valid or that of a model.
    """
    given, equals, file = word.partition("=")
    if (os.sep in word or Path(word).suffix in _SUFFIXES) and (os.path.isfile(word) or not equals):
        given = name or re.sub(r"[^\w.-]+", "-", Path(word).stem).strip(".-")
        file = word
        if not os.path.isfile(file):
            near = get_close_matches(Path(file).stem.lower(), MODELS, 1, 0.5)
            hint = f"did you mean the model {near[0]}?" if near else "correct the path."
            raise UsageError(f"There is no file {file}: {hint}")
    elif not equals or given in MODELS or not os.path.isfile(file):
        return None
    if given in MODELS:
        raise UsageError(
            f"{given} is a registered model: give {given}={file} if the file has its weights, or "
            "else another name with --name."
        )
    try:
        return convert(given, CardName), Path(file)
    except ValidationError:
        raise UsageError(
            f"{given!r} cannot name the network in {file}: give --name NAME, with letters, "
            "digits, '.', '_' and '-' only."
        ) from None


_SUFFIXES = CHECKPOINTS | {".safetensors"}

_Recognised = Mapping[str, tuple[ModelCard, "Weights"]]
"""Cards and weights of checkpoints, by the names of their runs."""


def _recognised(result: Plan, request: Request) -> _Recognised:
    """Read the checkpoints; those that cannot be run are problems.

    Raises:
        UsageError: spandrel, which recognises them, cannot be used.
    """
    if not request.checkpoints:
        return {}
    from harness.models.foreign import recognise, require_spandrel

    require_spandrel()
    found = {}
    for name, path in request.checkpoints.items():
        with _collect_problems(result, str(path)):
            found[name] = recognise(path, name, request.weights_key)
    return found


def _with_scale(request: Request, cards: Sequence[ModelCard]) -> Request:
    """Take the scale of the checkpoints, if they have one in common and the user gave none."""
    scales = {card.scales[0] for card in cards}
    if len(scales) == 1 and not request.scale_given:
        return replace(request, scale=scales.pop())
    return request


def _cards(request: Request, recognised: _Recognised) -> list[tuple[ModelCard, str | None]]:
    """The models and tags for words such as ``name``, ``na*`` or ``name:tag``."""
    chosen: dict[tuple[str, str | None], None] = {}
    for word in request.models:
        pattern, _, tag = word.partition(":")
        names = [word] if word in request.checkpoints else MODELS.select(pattern)
        chosen |= dict.fromkeys((name, tag or None) for name in names)
    if not chosen:
        raise UsageError("No models are named: see harness list models.")
    return [
        (recognised[name][0] if name in recognised else MODELS.get(name), tag)
        for name, tag in chosen
        if name in recognised or name not in request.checkpoints
    ]


def _check_metrics(names: Sequence[str], cards: Sequence[tuple[ModelCard, str | None]]) -> None:
    """Refuse unknown metrics, and metrics with the name of a model: names must be unique."""
    for name in names:
        METRICS.get(name)
        if name in (card.name for card, _ in cards):
            raise UsageError(f"A model and a metric are both called {name}: rename one.")


def _check_lr_images(request: Request, sets: Sequence[DatasetCard]) -> None:
    """Refuse LR images for several sets, and options for making LR images that are given."""
    if request.lr_images is None:
        return
    if len(sets) > 1:
        raise UsageError("--lr-images goes with one test set: name it with --datasets.")
    if request.float_lr:
        raise UsageError("--float-lr makes LR images, and --lr-images reads them: choose one.")
    if not os.path.isdir(request.lr_images):
        raise UsageError(f"There is no folder {request.lr_images}.")


def _check_weights(request: Request, cards: Sequence[tuple[ModelCard, str | None]]) -> None:
    """Refuse weights for models that are not requested, have a tag, or have no parameters."""
    if request.weights_key and not (request.weight_files or request.checkpoints):
        raise UsageError("--weights-key is for the files of --weights: name one.")
    for name in request.weight_files:
        if name not in (card.name for card, _ in cards):
            raise UsageError(f"--weights names {name}, which is not among the models.")
    for card, tag in cards:
        file = request.weight_files.get(card.name)
        if card.checkpoint and file:
            raise UsageError(f"{card.name} is a checkpoint with its weights: leave out --weights.")
        if card.params == 0 and (tag or file):
            raise UsageError(f"{card.name} has no parameters and takes no weights.")
        if tag and file:
            raise UsageError(
                f"{card.name}:{tag} and --weights {card.name}={file} contradict each other."
            )


def _with_weights(
    result: Plan, request: Request, recognised: _Recognised, card: ModelCard, tag: str | None
) -> tuple[ModelCard, Weights | None, str] | None:
    """A model, its weights, and the requested name if another model runs in its place."""
    if request.scale not in card.scales:
        scales = ", ".join(f"x{scale}" for scale in card.scales)
        result.problems.append(
            f"{card.name} is not defined for x{request.scale}, only for {scales}."
        )
        return None
    with _collect_problems(result, card.name):
        try:
            path, key = request.weight_files.get(card.name), request.weights_key
            weights = (
                recognised[card.name][1]
                if card.checkpoint
                else find_weights(card, request.scale, path=path, tag=tag, key=key)
            )
        except WeightsMissing:
            if card.stand_in and not tag:
                with suppress(WeightsMissing):
                    smaller = MODELS.get(card.stand_in)
                    weights = find_weights(smaller, request.scale)
                    result.notes.append(
                        f"{card.name} has no weights here: {smaller.name} runs in its place, "
                        "under its own name."
                    )
                    return smaller, weights, card.name
            raise
        if weights and weights.note:
            result.notes.append(weights.note)
        return card, weights, ""
    return None


def _image_set(result: Plan, request: Request, card: DatasetCard) -> ImageSet | None:
    with _collect_problems(result, card.title):
        try:
            image_set = find_or_fetch(card, request.scale, request.data_root, request.fetch)
        except DatasetUnavailable as error:
            (result.problems if request.strict else result.absent).append(str(error))
            return None
        result.notes += image_set.notes
        _require_size(image_set, Protocol("y", request.scale))
        if request.lr_images:
            image_set = with_lr_images(image_set, request.lr_images, request.scale)
        return image_set
    return None


def _require_size(image_set: ImageSet, rules: Protocol) -> None:
    for image in image_set.images:
        if min(side - side % rules.scale for side in image.size) < rules.smallest_side:
            width, height = image.size
            raise HarnessError(
                f"{image.name} of {image_set.card.title} is {width} x {height} pixels: scoring at "
                f"x{rules.scale} needs at least {rules.smallest_side} on each side."
            )
