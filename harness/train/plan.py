"""Plan a training: recipe, images, starting weights and folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cards import ModelCard
from harness.data.identify import LeakError, content, leak, testset_pixels
from harness.data.images import hr_images, image_files, read_image
from harness.data.pinned import fetch
from harness.data.testsets import Fetch
from harness.data.trainsets import (
    FOLDERS,
    TrainingImages,
    find_images,
    is_pinned,
    lr_folders,
    prepare_images,
)
from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import TEXT, FileLock, regular, require_locks
from harness.models.cost import count_parameters
from harness.models.network import build_network
from harness.protocol.rules import Protocol, Sample, make_sample
from harness.record import digest
from harness.registry import MODELS
from harness.train.checkpoint import find_origin
from harness.train.distributed import one_first, process, process_device
from harness.train.recipe import Recipe, recipe
from harness.train.spec import Training, TrainRequest, ValidationImages


def plan_training(
    request: TrainRequest,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
    fetch: Fetch = fetch,
) -> Training:
    """Plan a training, and find and prepare its images.

    ``progress`` wraps the images while they are prepared; ``fetch`` downloads missing sets.

    Raises:
        UsageError: a name or value does not fit, or the folder holds a training already.
        HarnessError: images are missing, bad, or in a test set, or this system cannot lock files.
    """
    require_locks()
    if not min(request.validate_every, request.save_every) >= 0:  # refuses NaN too
        raise UsageError("The seconds between checkpoints and validations are 0 or more.")
    card = MODELS.get(request.model)
    if request.resume and request.start:
        raise UsageError("--from starts a training and --resume goes on with one: choose one.")
    if request.weights_key and not request.start:
        raise UsageError("--weights-key is for the file of --from: name one.")
    chosen = recipe(request.recipe, card.name, **request.changes)
    hyper = request.hyper
    if not count_parameters(build_network(card, request.scale, hyper)):
        raise UsageError(f"{card.name} has no parameters: there is nothing to train.")
    start, origin = None, None
    if request.start:
        start, origin = find_origin(card, request.scale, hyper, request.start, request.weights_key)
    seed = f"seed{chosen.seed}" if chosen.seed else ""
    parts = (request.model, request.variant, f"x{request.scale}", seed)
    folder = request.folder / "-".join(filter(None, parts))
    if not request.resume:
        require_unused(folder)
    device = process_device(request.device)
    process(device)
    with one_first():
        sets, missing = _training_sets(request, chosen, fetch)
        chosen = replace(chosen, train_data=tuple(sets))
        images, prepared = _prepared(request, card, sets, progress)
        identities = {word: _identity(word, paths, images) for word, paths in sets.items()}
        validation, validation_notes = _validation(request, chosen, card, images, fetch)
    none_of_paper = ""
    if request.recipe == "paper" and chosen.name == "generic":
        none_of_paper = f": {card.name} has no recipe of its own paper here"
    return Training(
        request=request,
        card=card,
        recipe=chosen,
        images=images,
        validation=validation,
        folder=folder,
        device=device,
        sets=identities,
        start=start,
        origin=origin,
        notes=(
            *([start.note] if start and start.note else []),
            f"The recipe is {chosen.name}{none_of_paper}",
            *missing,
            prepared,
            *_image_notes(chosen, sets, identities, images),
            *validation_notes,
        ),
    )


def _found(
    request: TrainRequest, field: str, words: Sequence[str], fetch: Fetch
) -> tuple[list[Path], str]:
    """The images of sets, or why they are missing: those of a shipped recipe may be."""
    try:
        return find_images(words, request.data_root, fetch), ""
    except HarnessError as error:
        named = request.changes.get(field) is not None or request.recipe.endswith(".toml")
        if named or isinstance(error, MismatchError):
            raise
        return [], str(error)


def _training_sets(
    request: TrainRequest, chosen: Recipe, fetch: Fetch
) -> tuple[dict[str, list[Path]], list[str]]:
    """The images of each set, and a message for each missing set.

    If all sets of a recipe are missing, those of the generic recipe are used.
    """
    found = {word: _found(request, "train_data", [word], fetch) for word in chosen.train_data}
    sets = {word: paths for word, (paths, why) in found.items() if not why}
    missing = [why for _, why in found.values() if why]
    generic = recipe("generic", request.model)
    if not sets and chosen.train_data != generic.train_data:
        sets, others = _training_sets(request, generic, fetch)
        instead = f"{', '.join(sets)} are trained on instead"
        return sets, [*missing, *others, instead]
    if not sets:
        raise HarnessError(f"There are no training images: {' '.join(missing)}")
    return sets, missing


def _prepared(
    request: TrainRequest,
    card: ModelCard,
    sets: Mapping[str, Sequence[Path]],
    progress: Callable[[Iterable[Path]], Iterable[Path]],
) -> tuple[TrainingImages, str]:
    """Prepare the training images; return them and a note on the time it took."""
    # Training treats grey images as colour images.
    rules = Protocol(card.pipeline, request.scale, grey="as-rgb")
    paths = list(dict.fromkeys(path for paths in sets.values() for path in paths))
    begin = time.perf_counter()
    images = prepare_images(paths, rules, skip_bad=request.skip_bad, progress=progress)
    spent = time.perf_counter() - begin
    if not images.prepared:
        return images, f"{len(images.paths)} images were already prepared, found in {spent:.1f} s"
    return images, f"{images.prepared} images prepared in {spent:.1f} s on {os.cpu_count()} cores"


def _image_notes(
    chosen: Recipe,
    sets: Mapping[str, Sequence[Path]],
    identities: Mapping[str, Mapping[str, Any]],
    images: TrainingImages,
) -> list[str]:
    """Notes on skipped images, and on sets whose files differ from the pinned ones."""
    small = images.smaller_than(chosen.patch)
    counts = {word: len(small.keys() & set(paths)) for word, paths in sets.items()}
    left = ", ".join(f"{count} of {word}" for word, count in counts.items() if count)
    notes = [f"{path.name} is skipped: {why}" for path, why in images.skipped.items()]
    if small:
        notes.append(
            f"{_images(small)} with no room for a patch of {chosen.patch} LR pixels "
            f"{'is' if len(small) == 1 else 'are'} left out: {left}"
        )
    for word, paths in sets.items():
        notes += _lr_notes(paths)
        if word in FOLDERS and not identities[word]["pinned"]:
            folder = paths[0].parent
            notes.append(
                f"{folder} is used as {word}: it has as many images, but other files than the "
                "registry lists"
            )
    return notes


def _lr_notes(paths: Sequence[Path]) -> list[str]:
    """Notes on LR images in or beside the folders of the HR images."""
    notes = []
    for folder in dict.fromkeys(path.parent for path in paths):
        files = image_files(folder)
        if lr := set(files) - set(hr_images(files)):
            notes.append(
                f"{_images(lr)} of {folder} are not used, such as {min(lr).name}: they were made "
                "from other images there"
            )
        notes += [
            f"{folder} has the HR images; those of {other.name} beside it are not used: the "
            "protocol makes the LR images"
            for other in lr_folders(folder)
        ]
    return notes


def _images(some: Collection[object]) -> str:
    return f"{len(some)} image{'' if len(some) == 1 else 's'}"


@contextmanager
def folder_held(training: Training) -> Iterator[None]:
    """Lock the folder of a training against other trainings.

    Raises:
        HarnessError: another process trains into it.
        UsageError: it holds another training, and this training does not resume.
    """
    folder = training.folder
    message = f"Another process trains into {folder}: wait for its end, or use another --out."
    with FileLock(folder / "training.lock").held(message):
        if not training.request.resume:
            require_unused(folder)
        yield


def require_unused(folder: Path) -> None:
    """Raise a `UsageError` if a folder holds files of another training."""
    if (folder / "last.pt").exists():
        raise UsageError(
            f"{folder} holds a training already: go on with --resume, or choose another --out."
        )
    result = next((path.name for path in sorted(folder.glob("*")) if _is_result(path)), None)
    if result:
        raise UsageError(
            f"{folder} holds {result} of another training, and no checkpoint to go on from: choose "
            "another --out."
        )


def _is_result(path: Path) -> bool:
    """Whether a training may have written a file: weights, a checkpoint, or a log with lines."""
    if path.name == "log.csv":
        try:
            return regular(path, TEXT).read_bytes().count(b"\n") > 1
        except OSError:  # do not replace an unreadable file
            return True
    return path.suffix == ".pt" or ".safetensors" in path.suffixes


def _identity(word: str, paths: Sequence[Path], images: TrainingImages) -> dict[str, Any]:
    """The identity of a training set, and whether its files are those pinned by the registry."""
    files = sorted((path.name, images.files[path]) for path in paths)
    pinned = word in FOLDERS and is_pinned(word, (sha256 for _, sha256 in files))
    return {"files": len(files), "sha256": digest(files), "pinned": pinned}


def _validation(
    request: TrainRequest, chosen: Recipe, card: ModelCard, images: TrainingImages, fetch: Fetch
) -> tuple[ValidationImages, list[str]]:
    """The validation images, and notes on skipped ones; test and training images are refused."""
    if not chosen.val_data or not chosen.val_images:
        return ValidationImages(), []
    found, why = _found(request, "val_data", chosen.val_data, fetch)
    if why:
        return ValidationImages(), [f"{why} Training goes on without validation"]
    paths = found[: chosen.val_images]
    rules, tests = Protocol(card.pipeline, request.scale), testset_pixels()
    trained = dict(zip(images.contents, images.paths, strict=True))
    usable: dict[Path, tuple[str, Sample]] = {}
    skipped: dict[str, str] = {}
    for path in paths:
        try:
            loaded = read_image(path)
            usable[path] = loaded.sha256, make_sample(loaded.pixels, rules)
        except HarnessError as error:
            if not request.skip_bad:
                raise HarnessError(f"{path} cannot be used for validation: {error}") from error
            skipped[f"{path.parent.name}/{path.name}"] = str(error)
            continue
        if twin := trained.get(content(loaded.pixels)):
            raise LeakError(
                f"{path.name} of the validation is {twin.name} of the training: remove one of them."
            )
        if message := leak(path, loaded, tests, "validation"):
            raise LeakError(message)
    if not usable:
        raise HarnessError(
            f"None of the validation images can be used: {next(iter(skipped.values()))}"
        )
    hashes, samples = zip(*usable.values(), strict=True)
    names = tuple(path.name for path in usable)
    folders = tuple(dict.fromkeys(str(path.parent.resolve()) for path in paths))
    notes = [f"{name} of the validation is skipped: {why}" for name, why in skipped.items()]
    return (
        ValidationImages(names, samples, digest(sorted(hashes)), folders, skipped),
        [*notes, *_lr_notes(paths)],
    )
