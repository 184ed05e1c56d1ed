"""From what a user asks for to the runs that answer it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cards import LINEAGES, Preset
from harness.data.testsets import (
    DatasetUnavailable,
    find_or_fetch,
    first_images,
    select,
    with_lr_images,
)
from harness.errors import HarnessError, UsageError, own_error
from harness.files import recorded_path
from harness.models.find_weights import WeightsMissing, find_weights
from harness.models.published import NoImages, card_of_images, find_images
from harness.models.weights import OFFICIAL, file_tag, relabel
from harness.protocol.rules import Protocol, rules_in_use
from harness.registry import LOAD, MODELS, models_by_file, near_names
from harness.run.request import (
    Request,
    check_all_rules,
    check_like,
    check_lr_images,
    check_weights,
    metrics_of,
    misfit,
    with_paths,
)
from harness.run.spec import Run
from harness.text import listed

if TYPE_CHECKING:
    from harness.cards import DatasetCard, ModelCard
    from harness.data.identify import ImageSet
    from harness.models.weights import Weights


@dataclass
class Plan:
    """The runs of a request, and why others are not possible.

    Attributes:
        runs: the runs, model by model, in the order of the request; published images come last.
        problems: errors of models or sets that cannot be run; each is a failure.
        absent: messages about unavailable sets and models that are not required.
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
    result, words = Plan(), request.models
    request = with_paths(request)
    recognised = _recognised(result, request, words)
    request = _with_scale(request, [card for found in recognised.values() for card, _ in found])
    cards = _cards(request, recognised)
    check_weights(request, cards)
    methods = [(card_of_images(name), folder) for name, folder in request.sr_folders.items()]
    all_cards = [card for card, _ in (*cards, *methods)]
    check_like(request, all_cards)
    check_all_rules(request)
    metrics = metrics_of(request, all_cards)
    sets = select(request.datasets, request.data_root)
    check_lr_images(request, sets)
    models = [
        model
        for card, tag in cards
        for model in _with_weights(result, request, recognised, card, tag)
    ]
    _note_equal(result, models)
    wanted = sets if models or methods else ()
    image_sets = [s for card in wanted if (s := _image_set(result, request, card))]
    count = Counter(card.name for card, *_ in models)
    for card, weights, asked_for in models:
        tag = weights.info.tag if weights and count[card.name] > 1 else ""
        if request.tile and card.global_pooling:
            pools = "pools over the whole image: tiles change its output."
            unknown = "may see the whole image: tiles may change its output."
            result.notes.append(f"{card.name} {unknown if card.checkpoint else pools}")
        options = (request.self_ensemble, request.tile, metrics, asked_for)
        for image_set in image_sets:
            for rules in _rules_of_runs(request, card, image_set):
                run = Run(card, weights, image_set, rules, *options, tag=tag)
                with _collect_problems(result, run.title):
                    _add(result, run)
    for card, folder in methods:
        if message := misfit(request, card):
            result.problems.append(message)
            continue
        for image_set in image_sets:
            _add_images(result, request, card, image_set, folder, metrics)
    return result


def networks(request: Request) -> tuple[list[ModelCard], int]:
    """Find the networks that a request names, without weights or sets, and the scale.

    Raises:
        UsageError: a name does not fit, or names weights or SR images.
        HarnessError: a checkpoint cannot be read.
    """
    result, words, request = Plan(), request.models, with_paths(request)
    recognised = _recognised(result, request, words)
    if result.problems:
        raise HarnessError(result.problems[0])
    request = _with_scale(request, [card for found in recognised.values() for card, _ in found])
    cards = _cards(request, recognised)
    tagged = [card.name for card, tag in cards if tag]
    if surplus := [*request.weight_files, *request.sr_folders, *tagged]:
        raise UsageError(
            f"{surplus[0]} is named with weights or SR images, which do not matter here: give the "
            "name of a model alone, or a checkpoint of another architecture."
        )
    return [card for card, _ in cards], request.scale


def _add(result: Plan, run: Run) -> None:
    if run.identity not in (other.identity for other in result.runs):
        result.runs.append(run)


def _add_images(
    result: Plan,
    request: Request,
    card: ModelCard,
    image_set: ImageSet,
    folder: Path,
    metrics: tuple[str, ...],
) -> None:
    """Add the runs that score published images of a set, once these are found."""
    with _collect_problems(result, f"{card.name} on {image_set.card.title}"):
        try:
            published = find_images(image_set, folder, request.scale)
        except NoImages as error:
            (result.problems if request.strict else result.absent).append(str(error))
            return
        result.notes += [published.note] * bool(published.note)
        # Tiles, given LR images and the rules for making LR images do not concern them.
        every = [
            replace(rules, border=Protocol.border, float_lr=False)
            for rules in _rules_of_runs(request, card, image_set)
        ]
        for rules in dict.fromkeys(every):
            run = Run(card, None, image_set, rules, request.self_ensemble, metrics=metrics)
            _add(result, replace(run, published=published))


def _is_named(request: Request, card: ModelCard) -> bool:
    """Whether the user named a model; not if only a glob or ``all`` selects it."""
    named = (MODELS.spelling(word.partition(":")[0]) for word in request.models)
    return card.name in (*request.checkpoints, *named)


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


def _rules_of_runs(request: Request, card: ModelCard, image_set: ImageSet) -> list[Protocol]:
    """The protocols of a model's runs on a set."""
    rules = _rules(request, card)
    if not request.all_rules:
        return [rules]
    return rules_in_use(rules, grey=bool(image_set.grey), lr_given=bool(image_set.lr_sha256))


_Recognised = Mapping[str, Sequence[tuple["ModelCard", "Weights"]]]
"""Cards and weights of checkpoints, by the names of their runs."""


def _recognised(result: Plan, request: Request, words: Sequence[str]) -> _Recognised:
    """Read the checkpoints; those that cannot be run are problems.

    Args:
        result: gets the problems.
        request: the request, in which `with_paths` has found the checkpoints.
        words: the models in the user's words.

    Raises:
        UsageError: spandrel, which recognises them, cannot be used.
    """
    if not request.checkpoints:
        return {}
    from harness.models.foreign import recognise, require_spandrel

    named = {word.partition("=")[0] for word in words if "=" in word}
    name, (path, *_) = next(iter(request.checkpoints.items()))
    with _model_asked_for(name if name in named else "", path):
        require_spandrel()
    found: dict[str, list[tuple[ModelCard, Weights]]] = {}
    for name, paths in request.checkpoints.items():
        for path in paths:
            asked_for = _model_asked_for(name if name in named else "", path)
            with _collect_problems(result, str(path)), asked_for:
                card, weights = recognise(path, name, request.weights_key)
                weights = relabel(weights, file_tag(path, paths), None)
                given = (recorded_path(path), request.weights_key)
                found.setdefault(name, []).append((card, replace(weights, given=given)))
    return found


@contextmanager
def _model_asked_for(name: str, path: Path) -> Iterator[None]:
    """Say in an error about a checkpoint that it may have the weights of a model.

    Args:
        name: the name that the user gave to the checkpoint, which no model has; may be empty.
        path: the checkpoint.
    """
    try:
        yield
    except HarnessError as error:
        own, near = models_by_file(), near_names(name, MODELS)
        if not (own or name):
            raise
        registered = [f"{file.name} registers {listed(names)}" for file, names in own.items()]
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif own:
            first = next(iter(own.values()))[0]
            hint = f"{' and '.join(registered)}: give {first}={path} for its weights."
        else:
            hint = f"{LOAD}."
        unknown = f"No model is called {name!r}: " if name else ""
        raise type(error)(f"{unknown}{hint} If the file is of another network: {error}") from error


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
    return [
        (recognised[name][0][0] if name in recognised else MODELS.get(name), tag)
        for name, tag in chosen
        if name in recognised or name not in request.checkpoints
    ]


_Model = tuple["ModelCard", "Weights | None", str]
"""A model, its weights, and the requested name if another model runs in its place."""


def _with_weights(
    result: Plan, request: Request, recognised: _Recognised, card: ModelCard, tag: str | None
) -> list[_Model]:
    """List a model with its weights: once for each file that the user gave.

    A model that only a glob selects is skipped if it cannot run; if it is named, that is a problem.
    """
    named = _is_named(request, card)
    messages = result.problems if named or request.strict else result.absent
    found: list[_Model] = []
    for own, weights in recognised[card.name] if card.checkpoint else ():
        if message := _misfit(request, own):
            messages.append(message)
        else:
            result.notes += [weights.note] * bool(weights.note)
            found.append((own, weights, ""))
    if card.checkpoint:
        return found
    if message := _misfit(request, card):
        messages.append(message)
        return []
    files = () if tag else request.weight_files.get(card.name, ())
    tags: list[str] = []
    for path in files or [None]:
        with _collect_problems(result, card.name):
            name = file_tag(path, files) if path else tag
            try:
                found.append(_find(result, request, card, path, name, stand_in=named))
                tags.append(name or "")
            except WeightsMissing as error:
                messages.append(str(error))
    return _told_apart(found, tags)


def _told_apart(found: Sequence[_Model], tags: Sequence[str]) -> list[_Model]:
    """Replace a tag that several files state for different weights, such as two trainings.

    Args:
        found: the models.
        tags: the tag of each by its file's name.
    """
    values: dict[str, set[str]] = {}
    for _, weights, _ in found:
        if weights and weights.info.tag != OFFICIAL:
            values.setdefault(weights.info.tag, set()).add(weights.info.tensors_sha256)
    shared = {tag for tag, sha256 in values.items() if len(sha256) > 1}
    return [
        (card, relabel(weights, tag, None), asked_for)
        if weights and weights.info.tag in shared
        else (card, weights, asked_for)
        for (card, weights, asked_for), tag in zip(found, tags, strict=True)
    ]


def _misfit(request: Request, card: ModelCard) -> str:
    """Say why a model cannot run as requested; empty if it can."""
    if request.scale in card.scales:
        return misfit(request, card)
    scales = ", ".join(f"x{scale}" for scale in card.scales)
    return misfit(request, card) or (
        f"{card.name} is not defined for x{request.scale}, only for {scales}."
    )


def _find(
    result: Plan,
    request: Request,
    card: ModelCard,
    path: Path | None,
    tag: str | None,
    *,
    stand_in: bool,
) -> _Model:
    """Find the weights of a model, or of the one that may stand in for it if it has none here."""
    try:
        weights = find_weights(card, request.scale, path=path, tag=tag, key=request.weights_key)
    except WeightsMissing:
        if not card.stand_in or tag or not stand_in:
            raise
        smaller = MODELS.get(card.stand_in)
        with suppress(WeightsMissing):
            weights = find_weights(smaller, request.scale)
            result.notes.append(
                f"{card.name} has no weights here: {smaller.name} runs in its place, and tables "
                "call it that."
            )
            return smaller, weights, card.name
        raise
    if weights and weights.note:
        result.notes.append(weights.note)
    return card, weights, ""


def _note_equal(result: Plan, models: Sequence[_Model]) -> None:
    """Tell the user which of the files hold the same weights: they run once."""
    first: dict[tuple[str, str], str] = {}
    for card, weights, _ in models:
        if weights and (file := weights.given[0]):
            other = first.setdefault((card.name, weights.info.tensors_sha256), file)
            if other != file:
                result.notes.append(
                    f"{other} and {file} hold the same weights of {card.name}: they run once."
                )


def _image_set(result: Plan, request: Request, card: DatasetCard) -> ImageSet | None:
    with _collect_problems(result, card.title):
        try:
            image_set = find_set(card, request)
        except DatasetUnavailable as error:
            (result.problems if request.strict else result.absent).append(str(error))
            return None
        if request.limit:
            image_set = first_images(image_set, request.limit)
        result.notes += image_set.notes
        return image_set
    return None


def find_set(card: DatasetCard, request: Request) -> ImageSet:
    """Find a set, or download it, with the LR images of a request.

    Raises:
        DatasetUnavailable: the set is not on this machine and cannot be downloaded.
        HarnessError: the set is damaged or too small to be scored, or an LR image does not fit.
    """
    image_set = find_or_fetch(card, request.scale, request.data_root, request.fetch)
    _require_size(image_set, Protocol("y", request.scale))
    if request.lr_images:
        return with_lr_images(image_set, request.lr_images, request.scale)
    return image_set


def _require_size(image_set: ImageSet, rules: Protocol) -> None:
    for image in image_set.images:
        if min(side - side % rules.scale for side in image.size) < rules.smallest_side:
            width, height = image.size
            raise HarnessError(
                f"{image.name} of {image_set.card.title} is {width} x {height} pixels: scoring at "
                f"x{rules.scale} needs at least {rules.smallest_side} on each side."
            )
