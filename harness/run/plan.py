"""From what a user asks for to the runs that answer it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cards import LINEAGES, Preset
from harness.data.pinned import fetch
from harness.data.testsets import DatasetUnavailable, Fetch, find_or_fetch, select, with_lr_images
from harness.errors import HarnessError, UsageError, own_error
from harness.models.find_weights import WeightsMissing, find_weights
from harness.protocol.rules import Protocol
from harness.registry import METRICS, MODELS
from harness.run.spec import Run
from harness.text import listed

if TYPE_CHECKING:
    from harness.cards import Border, DatasetCard, GreyRule, ModelCard
    from harness.data.identify import ImageSet
    from harness.models.weights import Weights


@dataclass(frozen=True)
class Request:
    """The request of a user.

    Attributes:
        models: names, ``name:tag``, ``name=file`` with its weights, globs or ``all``.
        datasets: names, folders, globs or ``all``.
        scale: the scale.
        grey: the rule for grey images; None for the rule of each model's pipeline.
        border: how imresize pads an image; None for ``replicate``.
        float_lr: LR images of the ``rgb`` pipeline are not rounded; ``y`` never rounds them.
        float_y: luma of the ``y`` pipeline is not rounded; ``rgb`` never rounds it.
        weight_files: weight files by model name.
        metrics: registered metrics besides psnr and ssim.
        data_root: a folder to search first for sets.
        lr_images: a folder of LR images of the only set, used instead of making them.
        strict: treat an unavailable set as an error.
        fetch: downloads missing sets.
        weights_key: the key of the weights in the weight files; empty to find it.
        like: the lineage whose rules the runs follow, see `LINEAGES`; None for no lineage.
    """

    models: Sequence[str]
    datasets: Sequence[str] = ("all",)
    scale: int = 4
    grey: GreyRule | None = None
    border: Border | None = None
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
    like: str | None = None


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
    cards = _cards(request.models)
    _check_like(request, [card for card, _ in cards])
    _check_weights(request, cards)
    _check_metrics(request.metrics, cards)
    metrics = ("psnr", "ssim", *dict.fromkeys(request.metrics))
    sets = select(request.datasets, request.data_root)
    _check_lr_images(request, sets)
    models = [model for c in cards if (model := _with_weights(result, request, *c))]
    image_sets = [s for card in sets if (s := _image_set(result, request, card))] if models else []
    for card, weights, asked_for in models:
        if request.tile and card.global_pooling:
            result.notes.append(f"{card.name} pools over the whole image: tiles change its output.")
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
    preset = LINEAGES.get(request.like or "", Preset())
    return Protocol(
        card.pipeline,
        request.scale,
        request.border or preset.border,
        request.grey or preset.grey,  # type: ignore[arg-type] # None means the rule of the pipeline
        float_lr=request.float_lr and card.pipeline == "rgb",
        float_y=request.float_y and card.pipeline == "y",
    )


def _check_like(request: Request, cards: Sequence[ModelCard]) -> None:
    """Refuse ``--like`` with options for other rules, and for models of which none follows it."""
    if not request.like:
        return
    preset = LINEAGES[request.like]
    options = {
        f"--grey {request.grey}": request.grey not in (None, preset.grey),
        f"--border {request.border}": request.border not in (None, preset.border),
        "--float-lr": request.float_lr,
        "--float-y": request.float_y,
    }
    if others := [option for option, contradicts in options.items() if contradicts]:
        raise UsageError(
            f"--like {request.like} stands for --grey {preset.grey} --border {preset.border}, and "
            f"goes without {listed(others)}: leave one or the other out."
        )
    misfits = [message for card in cards if (message := _misfit(request, card))]
    if misfits and len(misfits) == len(cards):
        raise UsageError(" ".join(misfits))


def _misfit(request: Request, card: ModelCard) -> str:
    """Say why a model does not follow the rules of ``--like``; empty if it does."""
    if not request.like or LINEAGES[request.like].pipeline == card.pipeline:
        return ""
    fitting = [name for name, preset in LINEAGES.items() if preset.pipeline == card.pipeline]
    return (
        f"{card.name} has the pipeline {card.pipeline}, and --like {request.like} is for "
        f"{LINEAGES[request.like].pipeline}: run it with --like {' or '.join(fitting)}."
    )


def _with_paths(request: Request) -> Request:
    """Move the files of the words ``name=file`` to the weight files."""
    words, files = [], dict(request.weight_files)
    for word in request.models:
        name, equals, path = word.partition("=")
        words.append(name)
        if equals and not path:
            raise UsageError(f"--models {word} names no file: give {name}=FILE.")
        if equals and ":" in name:
            raise UsageError(f"--models {word} names weights by tag and by file: choose one.")
        if equals and name in files:
            raise UsageError(f"{name} has two files, {files[name]} and {path}: choose one.")
        if equals:
            files[name] = Path(path)
    return replace(request, models=words, weight_files=files)


def _cards(words: Sequence[str]) -> list[tuple[ModelCard, str | None]]:
    """The models and tags for words such as ``name``, ``na*`` or ``name:tag``."""
    chosen: dict[tuple[str, str | None], None] = {}
    for word in words:
        pattern, _, tag = word.partition(":")
        chosen |= dict.fromkeys((name, tag or None) for name in MODELS.select(pattern))
    if not chosen:
        raise UsageError("No models are named: see harness list models.")
    return [(MODELS.get(name), tag) for name, tag in chosen]


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
    if request.weights_key and not request.weight_files:
        raise UsageError("--weights-key is for the files of --weights: name one.")
    for name in request.weight_files:
        if name not in (card.name for card, _ in cards):
            raise UsageError(f"--weights names {name}, which is not among the models.")
    for card, tag in cards:
        file = request.weight_files.get(card.name)
        if card.params == 0 and (tag or file):
            raise UsageError(f"{card.name} has no parameters and takes no weights.")
        if tag and file:
            raise UsageError(
                f"{card.name}:{tag} and --weights {card.name}={file} contradict each other."
            )


def _with_weights(
    result: Plan, request: Request, card: ModelCard, tag: str | None
) -> tuple[ModelCard, Weights | None, str] | None:
    """A model, its weights, and the requested name if another model runs in its place."""
    if message := _misfit(request, card):
        result.problems.append(message)
        return None
    if request.scale not in card.scales:
        scales = ", ".join(f"x{scale}" for scale in card.scales)
        result.problems.append(
            f"{card.name} is not defined for x{request.scale}, only for {scales}."
        )
        return None
    with _collect_problems(result, card.name):
        try:
            path, key = request.weight_files.get(card.name), request.weights_key
            weights = find_weights(card, request.scale, path=path, tag=tag, key=key)
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
