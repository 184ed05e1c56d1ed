"""Write, ship and plot the results of a training: weights with their provenance, and a curve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from harness.errors import HarnessError
from harness.files import whole, write_atomically, write_file
from harness.global_state import training_numerics
from harness.models.cost import count_parameters
from harness.models.find_weights import read_notes, write_notes
from harness.models.network import copy_network
from harness.models.weights import (
    Weights,
    read_weights,
    save_weights,
    split_weights,
    tensors_digest,
)
from harness.record import RunRecord, WeightsInfo
from harness.registry import MODELS
from harness.run.provenance import provenance
from harness.run.store import ResultStore
from harness.train.checkpoint import LogRow, scored
from harness.train.spec import Scores, State, Training

if TYPE_CHECKING:
    from harness.cards import AnyArray

HALF_TOLERANCE = 0.001
"""Largest change of the PSNR (dB) allowed for storing the weights in fp16."""


def finish(
    training: Training,
    network: nn.Module,
    state: State,
    rows: Sequence[LogRow],
    how: Mapping[str, Any],
    *,
    best: bool = False,
) -> Path:
    """Write the average network, in fp16 if that does not change the validation scores.

    If these are the best weights so far of a training that goes on, they get their own tag, and are
    in fp32 unless the user chose fp16. `harness.train.loop.Trainer.how` is part of the provenance.

    Returns:
        the path of the weights; the provenance is beside it as ``.json``.
    """
    request = training.request
    tag = f"{request.tag}-best" if best else request.tag
    half = request.fp16 or (not best and _fp16_is_enough(training, network, state))
    tensors = _tensors(network, half=half)
    info = WeightsInfo(tag, "", "", tensors_digest(tensors), "Apache-2.0")
    weights = Weights(info, tensors, request.hyper)
    path = save_weights(weights, training.card, request.scale, training.folder)
    with training_numerics():  # not those of scoring
        made = provenance(training.device)
    skipped = {**training.images.skipped, **training.images.smaller_than(training.recipe.patch)}
    facts = {
        "weights": path.name,
        "tensors_sha256": info.tensors_sha256,
        "stored_as": "fp16" if half else "fp32",
        "model": training.card.name,
        "scale": request.scale,
        "hyper": dict(request.hyper),
        "source_sha256": training.facts["source"],
        "recipe": asdict(training.recipe),
        "images": {
            "sha256": training.images.sha256,
            "count": len(training.images.paths),
            "lr_pixels": int(training.images.sizes.prod(axis=1).sum()),
            "sets": training.sets,
            "skipped": {f"{path.parent.name}/{path.name}": why for path, why in skipped.items()},
        },
        "parameters": count_parameters(network),
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "device": training.device,
        **how,
        "provenance": made,
        "validation": [
            {"step": row.step, "psnr": row.psnr, "ssim": row.ssim}
            for row in scored(rows, state.validated_from)
        ],
        "validation_images": {
            "sha256": training.validation.sha256,
            "count": len(training.validation),
            "skipped": dict(training.validation.skipped),
        },
    }
    if training.origin:
        facts["from"] = dict(training.origin)
    write_notes(path, json.dumps(facts, indent=1) + "\n")
    if request.split:
        split_weights(path)
    return path


def _tensors(network: nn.Module, *, half: bool) -> dict[str, AnyArray]:
    """A network's values as arrays, floating-point ones in fp16 if ``half``."""
    return {
        name: (value.half() if half and value.is_floating_point() else value).cpu().numpy().copy()
        for name, value in network.state_dict().items()
    }


def _fp16_is_enough(training: Training, network: nn.Module, state: State) -> bool:
    """Whether fp16 weights give the same validation scores; False without a validation."""
    half = _tensors(network, half=True)
    if not training.validation or not all(np.isfinite(v).all() for v in half.values()):
        return False
    rounded = copy_network(network)
    rounded.load_state_dict({name: torch.from_numpy(value) for name, value in half.items()})
    current = state.scores if state.scores and state.scores[0] == state.step else None
    try:
        exact = current[1] if current else training.validate(copy_network(network))
        approximate = training.validate(rounded)
    except Exception:  # the weights must be written even if a validation fails
        return False
    return exact is not None and approximate is not None and _are_close(exact, approximate)


def _are_close(exact: Scores, approximate: Scores) -> bool:
    """Whether the mean scores over the same images are close."""
    before, after = exact.means(), approximate.means()
    if exact.infinite != approximate.infinite or before is None or after is None:
        return exact.images == approximate.images
    return abs(before[0] - after[0]) < HALF_TOLERANCE


def ship(path: Path, store: ResultStore, folder: Path) -> Path:
    """Copy weights of ``harness train`` and their provenance; return their new path.

    The scores of the store's finished runs of exactly these weights are added to the provenance.

    Raises:
        HarnessError: a file is missing, there is no run of the weights, or the folder cannot be
            written.
    """
    notes = path.with_suffix(".json")
    facts = dict(read_notes(notes) or {})
    if not {"model", "scale"} <= facts.keys():
        raise HarnessError(
            f"{notes} is missing, or is not the file that training wrote beside {path.name}."
        )
    weights = read_weights(MODELS.get(facts["model"]), facts["scale"], path)
    sha256 = weights.info.tensors_sha256
    scores = {
        record.identity.dataset: {"protocol": record.identity.protocol, **record.means}
        for record in store.records()
        if record.identity.weights_sha256 == sha256 and _is_plain(record)
    }
    if not scores:
        raise HarnessError(
            f"{store.root} has no finished run of these weights: score them first with "
            f"harness run --models {facts['model']} --weights {facts['model']}={path}."
        )
    facts["scores"] = {name: scores[name] for name in sorted(scores)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / path.name) as partial:
            shutil.copyfile(path, partial)
        write_atomically(folder / notes.name, json.dumps(facts, indent=1) + "\n")
    except OSError as error:
        raise HarnessError(f"{folder} cannot be written ({error}).") from error
    return folder / path.name


def _is_plain(record: RunRecord) -> bool:
    """Whether a run is finished, under the default rules, without tiles or self-ensemble."""
    identity = record.identity
    applied = not identity.self_ensemble and identity.tile is None and identity.lr_sha256 is None
    return applied and "+" not in identity.protocol and record.status == "finished"


def draw_training(rows: Sequence[LogRow], unit: str, path: Path) -> None:
    """Draw loss, in its unit, and validation PSNR against the steps, as a PNG file.

    Raises:
        HarnessError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.add_subplot()
    dot = "o" if len(rows) == 1 else ""  # a single row makes no line
    losses = [row.loss for row in rows]
    left.plot([row.step for row in rows], losses, marker=dot, color="0.6", lw=1)
    left.set(xlabel="step", ylabel=f"training loss ({unit})", yscale="log")
    scored = [(row.step, row.psnr) for row in rows if row.psnr is not None]
    right = left.twinx()
    right.plot([step for step, _ in scored], [psnr for _, psnr in scored], "o-", color="C0", ms=3)
    right.set_ylabel("validation PSNR (dB)", color="C0")
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    write_file(path, stream.getvalue(), "curve")
