"""From what a user asks for to a training that is ready to start, and from its end to weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from harness.data.images import read_image
from harness.data.partial import write_atomically
from harness.data.training import find_images, prepare
from harness.errors import UsageError
from harness.models.complexity import count_parameters
from harness.models.weights import Weights, save_weights, tensors_digest
from harness.protocol.protocols import Protocol, Sample, make_sample
from harness.registry import MODELS
from harness.run.provenance import provenance
from harness.run.recipes import Recipe, recipe
from harness.run.train import State, Training, process_device, validate
from harness.specs import WeightsInfo

if TYPE_CHECKING:
    from harness.specs import AnyArray

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"feature_fusion": False, "long_short_connections": False},
    "ff": {"feature_fusion": True, "long_short_connections": False},
    "lsc": {"feature_fusion": False, "long_short_connections": True},
    "both": {},
}
"""The columns of the paper's Table 1, as arguments of ``drfn``."""

HALF_TOLERANCE = 0.001
"""PSNR (dB) that rounding the stored weights to fp16 may cost."""


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for.

    Attributes:
        changes: fields of `Recipe` that differ from the named one.
        variant: a key of `VARIANTS`.
        folder: where checkpoints, log and weights go.
        skip_bad: leave out training images that cannot be used.
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
    val_seconds: float = 300.0
    save_seconds: float = 120.0
    log_steps: int = 50


def plan_training(
    request: TrainRequest, progress: Callable[[Iterable[Path]], Iterable[Path]] = iter
) -> Training:
    """Find and prepare the images, and put everything together.

    Raises:
        UsageError: a name or value does not fit.
        HarnessError: images are missing, bad, or in a test set.
    """
    from harness.models.inference import pick_device

    card = MODELS.get(request.model)
    if request.variant and card.name != "drfn":
        raise UsageError(f"--variant is for drfn, not for {card.name}.")
    made = recipe(request.recipe, card.name, **request.changes)
    rules = Protocol(card.pipeline, request.scale)
    # All images are made alike: grey ones as if they were colour.
    alike = Protocol(card.pipeline, request.scale, grey="as-rgb")
    paths = find_images(made.train_data, request.data_root)
    images = prepare(paths, alike, skip_bad=request.skip_bad, progress=progress)
    name = card.name + (f"-{request.variant}" if request.variant else "")
    return Training(
        card=card,
        scale=request.scale,
        hyper=VARIANTS[request.variant] if request.variant else {},
        recipe=made,
        images=images,
        validation=_validation(made, rules, request.data_root),
        folder=request.folder / f"{name}-x{request.scale}",
        device=process_device(pick_device(request.device)),
        compile=request.compile,
        skip_small=request.skip_bad,
        val_seconds=request.val_seconds,
        save_seconds=request.save_seconds,
        log_steps=request.log_steps,
    )


def _validation(made: Recipe, rules: Protocol, data_root: Path | None) -> list[Sample]:
    if not made.val_data or not made.val_images:
        return []
    paths = find_images(made.val_data, data_root)[: made.val_images]
    return [make_sample(read_image(path).pixels, rules) for path in paths]


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


def finish(training: Training, network: nn.Module, state: State) -> Path:
    """Write the weights, in fp16 where that costs nothing, and what is to be known of them.

    Returns:
        the weights' path; the provenance lies beside it as ``.json``.
    """
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    half = _halved(training, network, tensors)
    kept = half or tensors
    info = WeightsInfo("repro", "", "", tensors_digest(kept), "Apache-2.0")
    weights = Weights(info, kept, training.hyper)
    path = save_weights(weights, training.card, training.scale, training.folder)
    facts = {
        "weights": path.name,
        "tensors_sha256": info.tensors_sha256,
        "stored_as": "fp16" if half else "fp32",
        "model": training.card.name,
        "scale": training.scale,
        "hyper": dict(training.hyper),
        "source_sha256": training.card.source_digest(),
        "recipe": asdict(training.recipe),
        "images": {
            "sha256": training.images.sha256,
            "count": len(training.images.names),
            "lr_pixels": int(training.images.sizes.prod(axis=1).sum()),
        },
        "parameters": count_parameters(network),
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "device": training.device,
        "provenance": provenance(training.device),
        "validation": [
            {"step": row.step, "psnr": row.psnr, "ssim": row.ssim}
            for row in state.log
            if row.psnr is not None
        ],
    }
    write_atomically(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return path


def _halved(
    training: Training, network: nn.Module, tensors: Mapping[str, AnyArray]
) -> dict[str, AnyArray] | None:
    """The tensors in fp16, or None where rounding them is seen in the validation."""
    import torch

    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    if not training.validation or not all(np.isfinite(v).all() for v in half.values()):
        return None
    before, _ = validate(training, network)
    network.load_state_dict({k: torch.from_numpy(v.astype(np.float32)) for k, v in half.items()})
    after, _ = validate(training, network)
    return half if abs(after - before) < HALF_TOLERANCE else None
