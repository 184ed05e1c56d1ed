"""From the end of a training to weights that can be used and shipped, with their provenance."""

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
from harness.files import whole, write_atomically
from harness.global_state import training_numerics
from harness.models.cost import count_parameters
from harness.models.find_weights import read_notes, write_notes
from harness.models.network import copy_network
from harness.models.source import network_digest
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
"""PSNR (dB) that rounding the stored weights to fp16 may cost."""


def finish(
    training: Training,
    network: nn.Module,
    state: State,
    rows: Sequence[LogRow],
    how: Mapping[str, Any],
    *,
    best: bool = False,
) -> Path:
    """Write the weights of a training that has ended, in fp16 where that costs nothing.

    Args:
        training: what was done.
        network: the result, on the CPU.
        state: at the end.
        rows: the training log.
        how: how steps were taken, see `harness.train.loop.Trainer.how`.
        best: the training goes on, and these are its best weights so far: they get a tag of their
            own, and are in fp32 unless fp16 was asked for.

    Returns:
        the weights' path; the provenance lies beside it as ``.json``.
    """
    tag = f"{training.tag}-best" if best else training.tag
    half = training.fp16 or (not best and _bears_fp16(training, network, state))
    kept = _tensors(network, half=half)
    info = WeightsInfo(tag, "", "", tensors_digest(kept), "Apache-2.0")
    weights = Weights(info, kept, training.hyper)
    path = save_weights(weights, training.card, training.scale, training.folder)
    facts = {
        "weights": path.name,
        "tensors_sha256": info.tensors_sha256,
        "stored_as": "fp16" if half else "fp32",
        "model": training.card.name,
        "scale": training.scale,
        "hyper": dict(training.hyper),
        "source_sha256": network_digest(training.card, training.scale, training.hyper),
        "recipe": asdict(training.recipe),
        "images": {
            "sha256": training.images.sha256,
            "count": len(training.images.names),
            "lr_pixels": int(training.images.sizes.prod(axis=1).sum()),
            "sets": training.sets,
            "skipped": training.skipped,
        },
        "parameters": count_parameters(network),
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "device": training.device,
        **how,
        "provenance": _provenance(training.device),
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
    if training.split:
        split_weights(path)
    return path


def _tensors(network: nn.Module, *, half: bool) -> dict[str, AnyArray]:
    """A network's values, on the CPU, floating ones in fp16 where wanted."""
    return {
        name: (value.half() if half and value.is_floating_point() else value).cpu().numpy().copy()
        for name, value in network.state_dict().items()
    }


def _bears_fp16(training: Training, network: nn.Module, state: State) -> bool:
    """Whether rounding the weights to fp16 is not seen in the validation; False without one."""
    half = _tensors(network, half=True)
    if not training.validation or not all(np.isfinite(v).all() for v in half.values()):
        return False
    rounded = copy_network(network)
    rounded.load_state_dict({name: torch.from_numpy(value) for name, value in half.items()})
    known = state.scores if state.scores and state.scores[0] == state.step else None
    try:
        exact = known[1] if known else training.validate(copy_network(network))
        made = training.validate(rounded)
    except Exception:  # whatever ails a validation, the weights are to be written
        return False
    return exact is not None and made is not None and _are_close(exact, made)


def _are_close(exact: Scores, made: Scores) -> bool:
    """Whether the means are, over the same images."""
    before, after = exact.means(), made.means()
    if exact.infinite != made.infinite or before is None or after is None:
        return exact.images == made.images
    return abs(before[0] - after[0]) < HALF_TOLERANCE


def _provenance(device: str) -> dict[str, Any]:
    """What the training was carried out with, its numerics instead of those of scoring."""
    with training_numerics():
        return provenance(device)


def ship(path: Path, store: ResultStore, folder: Path) -> Path:
    """Copy weights and their provenance, to which the scores of finished runs are added.

    Args:
        path: weights that ``harness train`` wrote, with their ``.json`` beside them.
        store: holds runs of exactly these weights.
        folder: where they go, such as ``baselines/weights``.

    Returns:
        the new path of the weights.

    Raises:
        HarnessError: a file is missing, there is no run of the weights, or the folder cannot be
            written.
    """
    notes = path.with_suffix(".json")
    facts = dict(read_notes(notes) or {})
    if not {"model", "scale"} <= facts.keys():
        raise HarnessError(
            f"{notes} is missing, or is not what training leaves beside {path.name}."
        )
    weights = read_weights(MODELS.get(facts["model"]), facts["scale"], path)
    sha256 = weights.info.tensors_sha256
    scores = {
        record.identity.dataset: {"protocol": record.identity.protocol, **record.means}
        for record in store.sound().values()
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
    """A finished run under the default rules, whole image, once."""
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
    dot = "o" if len(rows) == 1 else ""  # of one row there is no line
    losses = [row.loss for row in rows]
    left.plot([row.step for row in rows], losses, marker=dot, color="0.6", lw=1)
    left.set(xlabel="step", ylabel=f"training loss ({unit})", yscale="log")
    scored = [(row.step, row.psnr) for row in rows if row.psnr is not None]
    right = left.twinx()
    right.plot([step for step, _ in scored], [psnr for _, psnr in scored], "o-", color="C0", ms=3)
    right.set_ylabel("validation PSNR (dB)", color="C0")
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    try:
        write_atomically(path, stream.getvalue())
    except OSError as error:
        raise HarnessError(f"The curve {path} cannot be written ({error}).") from error
