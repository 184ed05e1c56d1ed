"""From what a user asks for to the runs that answer it, in tiles where memory is short."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.pinned import fetch
from harness.data.testsets import DatasetUnavailable, Fetch, find_or_fetch, select, with_lr_images
from harness.errors import HarnessError, UsageError, own_error
from harness.models.find_weights import WeightsMissing, find_weights
from harness.protocol.protocols import Protocol
from harness.registry import METRICS, MODELS
from harness.run.evaluate import LARGE, images_at_once, upscaler
from harness.run.spec import Run

if TYPE_CHECKING:
    from harness.cards import Border, DatasetCard, GreyRule, ModelCard
    from harness.data.identify import ImageSet
    from harness.models.weights import Weights


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        models: names, ``name:tag``, globs or ``all``.
        datasets: names, folders, globs or ``all``.
        scale: the factor.
        grey: the rule for grey images; None for that of each model's pipeline.
        float_lr: LR images of the ``rgb`` pipeline are not rounded; ``y`` never rounds them.
        float_y: luma of the ``y`` pipeline is not rounded; ``rgb`` never rounds it.
        weight_files: a file for each of some models.
        metrics: registered names beyond psnr and ssim.
        data_root: searched for sets first.
        lr_images: the folder of the LR images of the one set, which are then not made.
        strict: a set that cannot be had is an error.
        fetch: what downloads sets that are missing.
        weights_key: where in the weight files the networks are; empty to look for them.
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


@dataclass
class Plan:
    """The runs of a request, and what stands in the way of others.

    Attributes:
        runs: model by model, in the order of the request.
        problems: why some models or sets cannot be run; each is a failure.
        absent: sets that are not on this machine and that nobody insists on.
        notes: what a reader of the numbers should know.
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
    made = Plan()
    cards = _cards(request.models)
    _check_weights(request, cards)
    _check_metrics(request.metrics, cards)
    metrics = ("psnr", "ssim", *dict.fromkeys(request.metrics))
    sets = select(request.datasets, request.data_root)
    _check_lr_images(request, sets)
    ready = [pair for pair in (_with_weights(made, request, *c) for c in cards) if pair]
    found = [b for b in (_image_set(made, request, card) for card in sets) if b] if ready else []
    for card, weights, asked_for in ready:
        if request.tile and card.global_pooling:
            made.notes.append(f"{card.name} pools over the whole image: tiles change its output.")
        rules = _rules(request, card)
        for image_set in found:
            options = (request.self_ensemble, request.tile, metrics, asked_for)
            run = Run(card, weights, image_set, rules, *options)
            with _kept_apart(made, run.title):
                if run.identity not in (other.identity for other in made.runs):
                    made.runs.append(run)
    return made


@contextmanager
def _kept_apart(made: Plan, title: str) -> Iterator[None]:
    """Note what one model or set meets as a problem of its own, whatever it is."""
    try:
        yield
    except Exception as error:  # files and plug-ins may hold anything
        made.problems.append(str(own_error(error, title)))


def _rules(request: Request, card: ModelCard) -> Protocol:
    """The protocol of a model's runs: each pipeline has a rounding of its own to leave out."""
    return Protocol(
        card.pipeline,
        request.scale,
        request.border,
        request.grey,  # type: ignore[arg-type] # None is for the pipeline's own
        float_lr=request.float_lr and card.pipeline == "rgb",
        float_y=request.float_y and card.pipeline == "y",
    )


def _cards(words: Sequence[str]) -> list[tuple[ModelCard, str | None]]:
    """The models that words such as ``name``, ``na*`` or ``name:tag`` name, with their tags."""
    chosen: dict[tuple[str, str | None], None] = {}
    for word in words:
        pattern, _, tag = word.partition(":")
        chosen |= dict.fromkeys((name, tag or None) for name in MODELS.select(pattern))
    if not chosen:
        raise UsageError("No models are named: see harness list models.")
    return [(MODELS.get(name), tag) for name, tag in chosen]


def _check_metrics(names: Sequence[str], cards: Sequence[tuple[ModelCard, str | None]]) -> None:
    """Refuse unknown metrics, and those called as a model: a record has one origin a name."""
    for name in names:
        METRICS.get(name)
        if name in (card.name for card, _ in cards):
            raise UsageError(f"A model and a metric are both called {name}: rename one.")


def _check_lr_images(request: Request, sets: Sequence[DatasetCard]) -> None:
    """Refuse LR images for several sets, and rules for making those that are given."""
    if request.lr_images is None:
        return
    if len(sets) > 1:
        raise UsageError("--lr-images goes with one test set: name it with --datasets.")
    if request.float_lr:
        raise UsageError("--float-lr makes LR images, and --lr-images brings them: choose one.")
    if not os.path.isdir(request.lr_images):
        raise UsageError(f"There is no folder {request.lr_images}.")


def _check_weights(request: Request, cards: Sequence[tuple[ModelCard, str | None]]) -> None:
    """Refuse weights for models that are not named, that have a tag, or that need none."""
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
            raise UsageError(f"{card.name}:{tag} and --weights {card.name}={file} are at odds.")


def _with_weights(
    made: Plan, request: Request, card: ModelCard, tag: str | None
) -> tuple[ModelCard, Weights | None, str] | None:
    """A model and its weights; the name that was asked for, if it is another."""
    if request.scale not in card.scales:
        known = ", ".join(f"x{scale}" for scale in card.scales)
        made.problems.append(f"{card.name} is not defined for x{request.scale}, only for {known}.")
        return None
    with _kept_apart(made, card.name):
        try:
            path, key = request.weight_files.get(card.name), request.weights_key
            weights = find_weights(card, request.scale, path=path, tag=tag, key=key)
            if weights and weights.note:
                made.notes.append(weights.note)
            return card, weights, ""
        except WeightsMissing:
            stand_in = None if tag else _stand_in(made, request, card)
            if stand_in is None:
                raise
            return stand_in
    return None


def _stand_in(
    made: Plan, request: Request, card: ModelCard
) -> tuple[ModelCard, Weights | None, str] | None:
    """The smaller model that runs in the place of one without weights, if it has some."""
    if not card.stand_in:
        return None
    smaller = MODELS.get(card.stand_in)
    try:
        weights = find_weights(smaller, request.scale)
    except WeightsMissing:
        return None
    made.notes.append(
        f"{card.name} has no weights here: {smaller.name} runs in its place, under its own name."
    )
    return smaller, weights, card.name


def _image_set(made: Plan, request: Request, card: DatasetCard) -> ImageSet | None:
    with _kept_apart(made, card.title):
        try:
            image_set = find_or_fetch(card, request.scale, request.data_root, request.fetch)
        except DatasetUnavailable as error:
            (made.problems if request.strict else made.absent).append(str(error))
            return None
        made.notes += image_set.notes
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


SHARE = 0.5
"""Of the free memory that tensors may take: convolutions need some for themselves."""

SMALLEST = 16
"""LR pixels of a tile's side, or twice, four times and so on: the side belongs to a run's identity,
so that it must not change whenever a little more memory is free."""


def choose_tiles(made: Plan, device: str, *, asked: bool) -> None:
    """Cut into tiles what a plan has too large, and note it there; see `choose_tile`."""
    runs, made.runs = made.runs, []
    for run in runs:
        try:
            fitting, said = (run, "") if run.tile else choose_tile(run, device, asked=asked)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # from a plug-in; the other runs go on
            made.problems.append(str(own_error(error, run.title)))
            continue
        made.runs.append(fitting)
        made.notes += [said] * bool(said)


def choose_tile(run: Run, device: str, *, asked: bool) -> tuple[Run, str]:
    """Cut a run's images into tiles where the largest would not fit in memory whole.

    Args:
        run: one without tiles.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        asked: look at all sets, not only at those with images beyond any benchmark's.

    Returns:
        the run, in tiles where needed, and what to tell the user then.

    Raises:
        HarnessError: not even the smallest tiles fit, or what fits cannot be told.
    """
    largest = max(width * height for width, height in (i.size for i in run.image_set.images))
    if not asked and largest < LARGE:
        return run, ""
    import torch

    from harness.models.network import pick_device
    from harness.models.resources import forward_bytes, free_bytes

    network = upscaler(replace(run, tile=SMALLEST), "cpu")
    device = pick_device(device)
    free = free_bytes(device)
    if free is None:
        return run, ""
    on_cpu = device == "cpu"  # other devices have one image at a time
    lanes = images_at_once(run.image_set.images, torch.get_num_threads()) if on_cpu else 1
    per_pixel = forward_bytes(network.network, run.card.channels, run.card.name)
    if per_pixel == 0:  # what makes nothing needs no more than its input
        return run, ""
    pixels = SHARE * free / lanes / per_pixel
    if largest / network.factor**2 <= pixels:
        return run, ""
    finer = run.rules.scale / network.factor  # pixels of the network's input for one of LR
    side = (math.sqrt(pixels) - 2 * network.overlap) / finer
    if side < SMALLEST:
        raise HarnessError(
            f"{run.title} needs more than the {free / 1e9:.1f} GB that are free, even in tiles of "
            f"{SMALLEST} LR pixels: use a machine with more memory."
        )
    tile = SMALLEST << int(math.log2(side / SMALLEST))
    said = (
        f"{run.title} would need about {largest / network.factor**2 * per_pixel / 1e9:.1f} GB an "
        f"image, more than may be used here: it runs in tiles of {tile} LR pixels"
        + (", and pools over each instead of the whole." * run.card.global_pooling or ".")
    )
    return replace(run, tile=tile), said
