"""What a user asks for, and the refusal of requests that do not fit together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import ValidationError, convert

from harness.cards import LINEAGES, CardName
from harness.data.pinned import fetch
from harness.errors import UsageError
from harness.models.formats import CHECKPOINTS
from harness.registry import METRICS, MODELS, near_names
from harness.text import listed

if TYPE_CHECKING:
    from harness.cards import Border, DatasetCard, GreyRule, ModelCard
    from harness.data.testsets import Fetch


@dataclass(frozen=True)
class Request:
    """The request of a user.

    Attributes:
        models: names, ``name:tag``, globs or ``all``; a checkpoint of any architecture by its file;
            ``name=path`` with a weights file of a model, a checkpoint of another architecture, or
            a folder of SR images. A name may have several files, each of which runs.
        datasets: names, folders, globs or ``all``.
        scale: the scale.
        grey: the rule for grey images; None for the rule of each model's pipeline.
        border: how imresize pads an image; None for ``replicate``.
        float_lr: LR images of the ``rgb`` pipeline are not rounded; ``y`` never rounds them.
        float_y: luma of the ``y`` pipeline is not rounded; ``rgb`` never rounds it.
        limit: the number of images of each set, the first ones; None for all.
        weight_files: the weight files of models, by name.
        metrics: registered metrics besides psnr and ssim.
        data_root: a folder to search first for sets.
        lr_images: a folder of LR images of the only set, used instead of making them.
        strict: treat as an error what is otherwise skipped: unavailable sets, and models that only
            a glob or ``all`` selects and that lack weights or do not fit.
        fetch: downloads missing sets.
        weights_key: the key of the weights in the weight files; empty to find it.
        like: the lineage whose rules the runs follow, see `LINEAGES`; None for no lineage.
        scale_given: False if ``scale`` is a default, which the scale of a checkpoint replaces.
        name: the name of the checkpoints; empty to make it from a file's name.
        checkpoints: files of networks without a registered model, by the names of their runs.
        sr_folders: folders of published SR images by the name of the method that made them.
        all_rules: run each model under every rule that its printed scores can follow, see
            `harness.protocol.rules.rules_in_use`, with the metric ``ssim-whole``.
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
    weight_files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    data_root: Path | None = None
    lr_images: Path | None = None
    strict: bool = False
    limit: int | None = None
    fetch: Fetch = fetch
    weights_key: str = ""
    like: str | None = None
    scale_given: bool = True
    name: str = ""
    checkpoints: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    sr_folders: Mapping[str, Path] = field(default_factory=dict)
    all_rules: bool = False


def with_paths(request: Request) -> Request:
    """Move the paths among the models to the weight files, checkpoints and folders of SR images.

    Raises:
        UsageError: a path does not exist, or two folders go by one name; or there are no models.
    """
    words = []
    files: dict[str, tuple[Path, ...]] = {}
    for given, paths in request.weight_files.items():
        name = MODELS.spelling(given)
        files[name] = tuple(dict.fromkeys((*files.get(name, ()), *paths)))
    checkpoints = dict(request.checkpoints)
    folders = dict(request.sr_folders)
    named = [_name_and_path(word, request.name) for word in request.models]
    plain = {MODELS.spelling(name) for name, path in named if path is None}
    for name, path in named:
        if path is None:
            words.append(name)
            continue
        kind = files if name in MODELS else checkpoints
        if path.is_dir():
            if folders.setdefault(name, path) != path:
                raise UsageError(f"{name} has two folders, {folders[name]} and {path}: choose one.")
            continue
        kind[name] = tuple(dict.fromkeys((*kind.get(name, ()), path)))
        words.append(name)
        if name in plain:
            raise UsageError(
                f"--models names {name} with a file and without: for its installed weights, give "
                f"{name}:TAG, see harness list weights."
            )
    if request.name and list(checkpoints) != [request.name]:
        raise UsageError("--name is for a checkpoint: give its file in --models.")
    if not words and not folders:
        raise UsageError("No models are named: see harness list models.")
    return replace(
        request, models=words, weight_files=files, checkpoints=checkpoints, sr_folders=folders
    )


_SUFFIXES = CHECKPOINTS | {".safetensors"}


def _name_and_path(word: str, name: str) -> tuple[str, Path | None]:
    """Split a word of the models into a name and a path; no path for the name of a model.

    Args:
        word: the word.
        name: the name of a file without one; empty to make it from the file's name.

    Raises:
        UsageError: the path does not exist, or the name is not valid or that of a model.
    """
    given, equals, path = word.partition("=")
    is_path = os.sep in word or Path(word).suffix in _SUFFIXES or _is_only_a_path(word)
    if is_path and (os.path.exists(word) or not equals):
        return _name_of(Path(word), name), Path(word)
    if not equals:
        return word, None
    if not path:
        raise UsageError(f"--models {word} names no file or folder: give {given}=PATH.")
    if ":" in given:
        raise UsageError(f"--models {word} names weights by tag and by path: choose one.")
    if not os.path.exists(path):
        raise UsageError(f"There is no file or folder {path}: correct --models {word}.")
    return _valid(MODELS.spelling(given), path), Path(path)


def _is_only_a_path(word: str) -> bool:
    """Whether a word is the name of a file or folder here, and not that of a model."""
    is_model = word.lower() == "all" or MODELS.spelling(word) in MODELS
    return not is_model and os.path.exists(word)


def _name_of(path: Path, name: str) -> str:
    """Name the network in a checkpoint that the user gave without a name."""
    if not path.exists():
        near = near_names(path.stem, MODELS)
        hint = f"did you mean the model {near[0]}?" if near else "correct the path."
        raise UsageError(f"There is no file {path}: {hint}")
    if path.suffix == ".py":
        raise UsageError(
            f"{path} is no checkpoint: load it with --plugin {path}, and give the name that it "
            "registers."
        )
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder: if it has SR images, name their method, as in NAME={path}."
        )
    name = name or re.sub(r"[^\w.-]+", "-", path.stem).strip(".-")
    if MODELS.spelling(name) in MODELS:
        raise UsageError(
            f"{name} is a registered model: give {name}={path} if the file has its weights, or "
            "else another name with --name."
        )
    return _valid(name, path)


def _valid(name: str, path: object) -> str:
    try:
        return convert(name, CardName)
    except ValidationError:
        raise UsageError(
            f"{name!r} cannot name what is in {path}: give NAME={path}, with letters, digits, '.', "
            "'_' and '-' in the name."
        ) from None


def metrics_of(request: Request, cards: Sequence[ModelCard]) -> tuple[str, ...]:
    """Return the metrics of the runs, ``psnr`` and ``ssim`` first.

    Raises:
        UsageError: a metric is unknown, or has the name of a model: names must be unique.
    """
    # Authors who used MATLAB's function print ssim-whole.
    further = ["ssim-whole"] * request.all_rules
    names = dict.fromkeys([*further, *map(METRICS.spelling, request.metrics)])
    for name in names:
        METRICS.get(name)
        if name in (card.name for card in cards):
            raise UsageError(f"A model and a metric are both called {name}: rename one.")
    return tuple(dict.fromkeys(("psnr", "ssim", *names)))


def check_lr_images(request: Request, sets: Sequence[DatasetCard]) -> None:
    """Refuse LR images for several sets, and options for making LR images that are given."""
    if request.lr_images is None:
        return
    if len(sets) > 1:
        raise UsageError("--lr-images goes with one test set: name it with --datasets.")
    if request.float_lr:
        raise UsageError("--float-lr makes LR images, and --lr-images reads them: choose one.")
    if not os.path.isdir(request.lr_images):
        raise UsageError(f"There is no folder {request.lr_images}.")


def check_weights(request: Request, cards: Sequence[tuple[ModelCard, str | None]]) -> None:
    """Refuse weights for models that are not requested, only with a tag, or have no parameters."""
    if request.weights_key and not (request.weight_files or request.checkpoints):
        raise UsageError("--weights-key is for a weights file: name one, as in --models NAME=FILE.")
    for name in request.weight_files:
        if name not in (card.name for card, _ in cards):
            if name in request.sr_folders:
                raise UsageError(f"{name} is a folder of SR images: leave out --weights.")
            raise UsageError(f"--weights names {name}, which is not among the models.")
    for card, tag in cards:
        files = request.weight_files.get(card.name, ())
        file = next(iter(files), None)
        if card.checkpoint and file:
            raise UsageError(f"{card.name} is a checkpoint with its weights: leave out --weights.")
        if card.params == 0 and (tag or file):
            raise UsageError(f"{card.name} has no parameters and takes no weights.")
        if tag and file and (card.name, None) not in [(one.name, none) for one, none in cards]:
            raise UsageError(
                f"{card.name}:{tag} and --weights {card.name}={file} contradict each other."
            )
        if missing := [one for one in files if not os.path.exists(one)]:
            raise UsageError(f"There is no weights file {missing[0]}: correct the path.")


def check_all_rules(request: Request) -> None:
    """Refuse ``--all-rules`` with an option for one of these rules."""
    options = {
        f"--like {request.like}": request.like,
        f"--grey {request.grey}": request.grey,
        "--float-lr": request.float_lr,
        "--float-y": request.float_y,
    }
    if request.all_rules and (others := [option for option, given in options.items() if given]):
        raise UsageError(
            f"--all-rules runs models with and without {listed(others)}: leave one or the other "
            "out."
        )


def check_like(request: Request, cards: Sequence[ModelCard]) -> None:
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
    misfits = [message for card in cards if (message := misfit(request, card))]
    if misfits and len(misfits) == len(cards):
        raise UsageError(" ".join(misfits))


def misfit(request: Request, card: ModelCard) -> str:
    """Say why a model does not follow the rules of ``--like``; empty if it does."""
    if not request.like or LINEAGES[request.like].pipeline == card.pipeline:
        return ""
    fitting = [name for name, preset in LINEAGES.items() if preset.pipeline == card.pipeline]
    return (
        f"{card.name} has the pipeline {card.pipeline}, and --like {request.like} is for "
        f"{LINEAGES[request.like].pipeline}: run it with --like {' or '.join(fitting)}."
    )
