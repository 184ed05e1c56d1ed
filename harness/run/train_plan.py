"""From what a user asks for to a training that is ready to start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.data.images import read_image
from harness.data.leaks import LeakError, benchmark_pixels, content, leak
from harness.data.training import TrainingImages, find_images, prepare
from harness.errors import UsageError
from harness.models.complexity import count_parameters
from harness.models.inference import build_network
from harness.protocol.protocols import Protocol, Sample, make_sample
from harness.registry import MODELS
from harness.run.processes import one_first, process, process_device
from harness.run.recipes import Recipe, recipe
from harness.run.training import Training
from harness.specs import digest

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"feature_fusion": False, "long_short_connections": False},
    "ff": {"feature_fusion": True, "long_short_connections": False},
    "lsc": {"feature_fusion": False, "long_short_connections": True},
    "both": {},
}
"""The columns of the paper's Table 1, as arguments of ``drfn``."""


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for.

    Attributes:
        changes: fields of `Recipe` that differ from the named one.
        variant: a key of `VARIANTS`.
        folder: where checkpoints, log and weights go.
        skip_bad: leave out training images that cannot be used.
        resume: whether the folder's last checkpoint is to be continued.
    """

    model: str
    recipe: str = "short"
    changes: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 4
    variant: str | None = None
    folder: Path = Path("results/local/train")
    device: str = "auto"
    compile: bool = False
    data_root: Path | None = None
    skip_bad: bool = False
    resume: bool = False
    val_seconds: float = 300.0
    save_seconds: float = 120.0
    log_steps: int = 50


def plan_training(
    request: TrainRequest, progress: Callable[[Iterable[Path]], Iterable[Path]] = iter
) -> Training:
    """Find and prepare the images, and put everything together.

    Raises:
        UsageError: a name or value does not fit, or the folder holds a training already.
        HarnessError: images are missing, bad, or in a test set.
    """
    card = MODELS.get(request.model)
    if request.variant and card.name != "drfn":
        raise UsageError(f"--variant is for drfn, not for {card.name}.")
    made = recipe(request.recipe, card.name, **request.changes)
    hyper = VARIANTS[request.variant] if request.variant else {}
    if not count_parameters(build_network(card, request.scale, hyper)):
        raise UsageError(f"{card.name} has no parameters: there is nothing to train.")
    folder = _folder(request, made)
    device = process_device(request.device)
    process(device)
    # All images are made alike: grey ones as if they were colour.
    alike = Protocol(card.pipeline, request.scale, grey="as-rgb")
    found = {word: find_images([word], request.data_root) for word in made.train_data}
    paths = list(dict.fromkeys(path for paths in found.values() for path in paths))
    with one_first():
        images = prepare(paths, alike, skip_bad=request.skip_bad, progress=progress)
    rules = Protocol(card.pipeline, request.scale)
    return Training(
        card=card,
        scale=request.scale,
        hyper=hyper,
        recipe=made,
        images=images,
        validation=_validation(made, rules, request.data_root, images),
        folder=folder,
        device=device,
        compile=request.compile,
        skip_small=request.skip_bad,
        sets={word: _identity(paths, images) for word, paths in found.items()},
        tag=f"table1-{request.variant}" if request.variant else "repro",
        val_seconds=request.val_seconds,
        save_seconds=request.save_seconds,
        log_steps=request.log_steps,
    )


def _folder(request: TrainRequest, made: Recipe) -> Path:
    """Where the training goes, its own for each variant, scale and seed."""
    variant = f"-{request.variant}" if request.variant else ""
    seed = f"-seed{made.seed}" if made.seed else ""
    folder = request.folder / f"{request.model}{variant}-x{request.scale}{seed}"
    if (folder / "last.pt").exists() and not request.resume:
        raise UsageError(
            f"{folder} holds a training already: go on with --resume, or choose another --out."
        )
    return folder


def _identity(paths: Sequence[Path], images: TrainingImages) -> dict[str, Any]:
    """What identifies a training set."""
    files = sorted((path.name, images.files[path]) for path in paths)
    return {"files": len(files), "sha256": digest(files)}


def _validation(
    made: Recipe, rules: Protocol, data_root: Path | None, images: TrainingImages
) -> list[Sample]:
    """Samples of images that are neither in a test set nor trained on."""
    if not made.val_data or not made.val_images:
        return []
    known, samples = benchmark_pixels(), []
    trained = dict(zip(images.contents, images.names, strict=True))
    for path in find_images(made.val_data, data_root)[: made.val_images]:
        loaded = read_image(path)
        said = leak(path, loaded, known, "validation")
        twin = trained.get(content(loaded.pixels))
        if twin:
            said = f"{path.name} of the validation is {twin} of the training: take one of them out."
        if said:
            raise LeakError(said)
        samples.append(make_sample(loaded.pixels, rules))
    return samples


def parse_change(text: str) -> tuple[str, Any]:
    """A field of `Recipe` and its value from ``name=value``.

    Raises:
        UsageError: no such field, or a value of another kind.
    """
    name, _, value = text.partition("=")
    kinds = {one.name: one.type for one in fields(Recipe) if one.name != "name"}
    if name not in kinds:
        raise UsageError(f"A recipe has no {name!r}: it has {', '.join(kinds)}.")
    readers: dict[object, Callable[[str], Any]] = {
        "int": int,
        "float": float,
        "str": str,
        "tuple[str, ...]": lambda words: tuple(filter(None, words.split(","))),
    }
    try:
        return name, readers[kinds[name]](value)
    except ValueError as error:
        raise UsageError(f"{name}={value} is not a value for {kinds[name]}.") from error
