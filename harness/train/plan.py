"""From what a user asks for to a training that is ready to start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.cards import ModelCard
from harness.data.images import hr_images, image_files, read_image
from harness.data.pinned import fetch
from harness.data.testsets import Fetch
from harness.data.trainsets import (
    FOLDERS,
    LeakError,
    TrainingImages,
    content,
    find_images,
    is_pinned,
    leak,
    lr_folders,
    prepare_images,
    testset_pixels,
)
from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import TEXT, FileLock, regular, require_locks
from harness.models.cost import count_parameters
from harness.models.network import build_network
from harness.protocol.protocols import Protocol, Sample, make_sample
from harness.record import digest
from harness.registry import MODELS
from harness.train.checkpoint import find_origin
from harness.train.distributed import one_first, process, process_device
from harness.train.recipe import Recipe, recipe
from harness.train.spec import Training, ValidationImages


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for.

    Attributes:
        recipe: a name of ``recipe.toml``, or the path of a TOML file.
        changes: fields of `Recipe` that differ from that recipe.
        variant: what the network with other arguments is called; empty for the network itself.
        hyper: arguments of the network.
        tag: of the weights, see `Training`.
        folder: where checkpoints, log and weights go.
        compile: see `Training`.
        skip_bad: leave out images that cannot be read.
        resume: whether the folder's last checkpoint is to be continued.
        start: weights to start from, a file or a tag; empty for random ones.
        weights_key: where in that file they are; empty to look for them.
        fp16, split: see `Training`.
    """

    model: str
    recipe: str = "short"
    changes: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 4
    variant: str = ""
    hyper: Mapping[str, Any] = field(default_factory=dict)
    tag: str = "repro"
    folder: Path = Path("results/local/train")
    device: str = "auto"
    compile: bool | None = None
    data_root: Path | None = None
    skip_bad: bool = False
    resume: bool = False
    start: str = ""
    weights_key: str = ""
    fp16: bool = False
    split: bool = False
    val_seconds: float = 300.0
    save_seconds: float = 120.0
    log_steps: int = 50


def plan_training(
    request: TrainRequest,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
    fetch: Fetch = fetch,
) -> Training:
    """Find and prepare the images, and put everything together.

    Args:
        request: what the user asks for.
        progress: wraps the training images while they are prepared.
        fetch: downloads sets that are missing.

    Raises:
        UsageError: a name or value does not fit, or the folder holds a training already.
        HarnessError: images are missing, bad, or in a test set, or this system cannot lock files.
    """
    require_locks()
    if not min(request.val_seconds, request.save_seconds) >= 0:  # NaN is neither
        raise UsageError("The seconds between checkpoints and validations are 0 or more.")
    card = MODELS.get(request.model)
    if request.resume and request.start:
        raise UsageError("--from starts a training and --resume goes on with one: choose one.")
    if request.weights_key and not request.start:
        raise UsageError("--weights-key is for the file of --from: name one.")
    made = recipe(request.recipe, card.name, **request.changes)
    hyper = request.hyper
    if not count_parameters(build_network(card, request.scale, hyper)):
        raise UsageError(f"{card.name} has no parameters: there is nothing to train.")
    start, origin = None, None
    if request.start:
        start, origin = find_origin(card, request.scale, hyper, request.start, request.weights_key)
    folder = _folder(request, made)
    device = process_device(request.device)
    process(device)
    with one_first():
        found, missing = _training_sets(request, made, fetch)
        made = replace(made, train_data=tuple(found))
        images, prepared = _prepared(request, card, found, progress)
        validation, validation_notes = _validation(request, made, card, images, fetch)
    return Training(
        card=card,
        scale=request.scale,
        hyper=hyper,
        recipe=made,
        images=images,
        validation=validation,
        folder=folder,
        device=device,
        compile=request.compile,
        sets={word: _identity(word, paths, images) for word, paths in found.items()},
        start=start,
        origin=origin,
        notes=(
            *([start.note] if start and start.note else []),
            *_recipe_notes(request, made, card),
            *missing,
            prepared,
            *_image_notes(made, found, images),
            *validation_notes,
        ),
        tag=request.tag,
        fp16=request.fp16,
        split=request.split,
        val_seconds=request.val_seconds,
        save_seconds=request.save_seconds,
        log_steps=request.log_steps,
    )


def _is_own(request: TrainRequest, name: str) -> bool:
    """Whether the user named a recipe's value, and did not get it from a shipped recipe."""
    return request.changes.get(name) is not None or request.recipe.endswith(".toml")


def _training_sets(
    request: TrainRequest, made: Recipe, fetch: Fetch
) -> tuple[dict[str, list[Path]], list[str]]:
    """The images of each set, and a sentence on each that a recipe names and that is not here.

    A recipe may name sets that not everyone can have; those that the user names must be there.
    Where none of a recipe's is, those of the generic one are taken.
    """
    found: dict[str, list[Path]] = {}
    missing: list[str] = []
    for word in made.train_data:
        try:
            found[word] = find_images([word], request.data_root, fetch)
        except HarnessError as error:
            if _is_own(request, "train_data") or isinstance(error, MismatchError):
                raise
            missing.append(str(error))
    generic = recipe("generic", request.model)
    if not found and made.train_data != generic.train_data:
        found, others = _training_sets(request, generic, fetch)
        instead = f"{', '.join(found)} are trained on instead"
        return found, [*missing, *others, instead]
    if not found:
        raise HarnessError(f"There are no training images: {' '.join(missing)}")
    return found, missing


def _prepared(
    request: TrainRequest,
    card: ModelCard,
    found: Mapping[str, Sequence[Path]],
    progress: Callable[[Iterable[Path]], Iterable[Path]],
) -> tuple[TrainingImages, str]:
    """The images as they are trained on, and how long that took."""
    # All images are made alike: grey ones as if they were colour.
    alike = Protocol(card.pipeline, request.scale, grey="as-rgb")
    paths = list(dict.fromkeys(path for paths in found.values() for path in paths))
    begin = time.perf_counter()
    images = prepare_images(paths, alike, skip_bad=request.skip_bad, progress=progress)
    spent = time.perf_counter() - begin
    if not images.prepared:
        return images, f"{len(images.names)} images were prepared already, found in {spent:.1f} s"
    return images, f"{images.prepared} images prepared in {spent:.1f} s on {os.cpu_count()} cores"


def _recipe_notes(request: TrainRequest, made: Recipe, card: ModelCard) -> list[str]:
    own = f": {card.name} has no recipe of its own paper here" if request.recipe == "paper" else ""
    return [f"The recipe is {made.name}{own if made.name == 'generic' else ''}"]


def _image_notes(
    made: Recipe, found: Mapping[str, Sequence[Path]], images: TrainingImages
) -> list[str]:
    """Sentences on images that are left out, and on sets with other files than the pinned ones."""
    small = images.smaller_than(made.patch)
    counts = {word: len(small.keys() & set(paths)) for word, paths in found.items()}
    left = ", ".join(f"{count} of {word}" for word, count in counts.items() if count)
    notes = [f"{path.name} is skipped: {why}" for path, why in images.skipped.items()]
    if small:
        notes.append(
            f"{_images(small)} with no room for a patch of {made.patch} LR pixels "
            f"{'is' if len(small) == 1 else 'are'} left out: {left}"
        )
    for word, paths in found.items():
        notes += _lr_notes(paths)
        if word in FOLDERS and not _identity(word, paths, images)["pinned"]:
            folder = paths[0].parent
            notes.append(
                f"{folder} is used as {word}: it has as many images, and other files than the "
                "registry lists"
            )
    return notes


def _lr_notes(paths: Sequence[Path]) -> list[str]:
    """Sentences on LR images in or beside the folders of the HR images."""
    folders = dict.fromkeys(path.parent for path in paths)
    mixed = {
        folder: set(image_files(folder)) - set(hr_images(image_files(folder))) for folder in folders
    }
    return [
        f"{_images(made)} of {folder} are not used, such as {min(made).name}: they were made from "
        "others there"
        for folder, made in mixed.items()
        if made
    ] + [
        f"{folder} has the HR images; those of {other.name} beside it are not used: the protocol "
        "makes the LR images"
        for folder in folders
        for other in lr_folders(folder)
    ]


def _images(some: Collection[object]) -> str:
    return f"{len(some)} image{'' if len(some) == 1 else 's'}"


def _folder(request: TrainRequest, made: Recipe) -> Path:
    """Where the training goes, its own for each variant, scale and seed.

    Raises:
        UsageError: see `require_unused`, where this training does not go on with another.
    """
    variant = f"-{request.variant}" if request.variant else ""
    seed = f"-seed{made.seed}" if made.seed else ""
    folder = request.folder / f"{request.model}{variant}-x{request.scale}{seed}"
    if not request.resume:
        require_unused(folder)
    return folder


@contextmanager
def folder_held(training: Training, *, resume: bool) -> Iterator[None]:
    """Keep other trainings out of the folder of a training.

    Raises:
        HarnessError: another process trains into it.
        UsageError: one has done so, and this training does not go on with it.
    """
    said = f"Another process trains into {training.folder}: wait for its end, or use another --out."
    with FileLock(training.folder / "training.lock").held(said):
        if not resume:
            require_unused(training.folder)
        yield


def require_unused(folder: Path) -> None:
    """Refuse a folder that holds what another training left.

    Raises:
        UsageError: it does.
    """
    if (folder / "last.pt").exists():
        raise UsageError(
            f"{folder} holds a training already: go on with --resume, or choose another --out."
        )
    kept = next((path.name for path in sorted(folder.glob("*")) if _is_result(path)), None)
    if kept:
        raise UsageError(
            f"{folder} holds {kept} of another training, and no checkpoint to go on from: choose "
            "another --out."
        )


def _is_result(path: Path) -> bool:
    """Whether a file is what a training leaves: weights, a checkpoint, or a log with lines."""
    if path.name == "log.csv":
        try:
            return regular(path, TEXT).read_bytes().count(b"\n") > 1
        except OSError:  # whatever it is, it is not to be replaced
            return True
    return path.suffix == ".pt" or ".safetensors" in path.suffixes


def _identity(word: str, paths: Sequence[Path], images: TrainingImages) -> dict[str, Any]:
    """What identifies a training set, and whether its files are those that the registry pins."""
    files = sorted((path.name, images.files[path]) for path in paths)
    pinned = word in FOLDERS and is_pinned(word, (sha256 for _, sha256 in files))
    return {"files": len(files), "sha256": digest(files), "pinned": pinned}


def _validation(
    request: TrainRequest, made: Recipe, card: ModelCard, images: TrainingImages, fetch: Fetch
) -> tuple[ValidationImages, list[str]]:
    """Images that are neither in a test set nor trained on, and sentences on what is left out."""
    if not made.val_data or not made.val_images:
        return ValidationImages(), []
    try:
        paths = find_images(made.val_data, request.data_root, fetch)[: made.val_images]
    except HarnessError as error:
        if _is_own(request, "val_data") or isinstance(error, MismatchError):
            raise
        return ValidationImages(), [f"{error} Training goes on without validation"]
    rules, tests = Protocol(card.pipeline, request.scale), testset_pixels()
    trained = dict(zip(images.contents, images.names, strict=True))
    usable: dict[Path, tuple[str, Sample]] = {}
    skipped: dict[str, str] = {}
    for path in paths:
        try:
            usable[path] = _validation_sample(path, rules, tests, trained)
        except LeakError:
            raise
        except HarnessError as error:
            if not request.skip_bad:
                raise HarnessError(f"{path} cannot be validated on: {error}") from error
            skipped[f"{path.parent.name}/{path.name}"] = str(error)
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


def _validation_sample(
    path: Path, rules: Protocol, tests: dict[str, str], trained: Mapping[str, str]
) -> tuple[str, Sample]:
    """The hash of an image's pixels, and what a network is scored on.

    Raises:
        LeakError: it is in a test set, or trained on.
        HarnessError: it cannot be read, or is too small to be scored.
    """
    loaded = read_image(path)
    said = leak(path, loaded, tests, "validation")
    twin = trained.get(content(loaded.pixels))
    if twin:
        said = f"{path.name} of the validation is {twin} of the training: take one of them out."
    if said:
        raise LeakError(said)
    return loaded.sha256, make_sample(loaded.pixels, rules)
