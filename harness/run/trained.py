"""From the end of a training to weights that can be used, and what is to be known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from harness.global_state import training_numerics
from harness.models.cost import count_parameters
from harness.models.find_weights import write_notes
from harness.models.network import copy_network
from harness.models.source import network_digest
from harness.models.weights import Weights, save_weights, split_weights, tensors_digest
from harness.record import WeightsInfo
from harness.run.provenance import provenance
from harness.run.train_log import Row, scored
from harness.run.training import State, Training
from harness.run.validation import Scores

if TYPE_CHECKING:
    from harness.cards import AnyArray

HALF_TOLERANCE = 0.001
"""PSNR (dB) that rounding the stored weights to fp16 may cost."""


def finish(
    training: Training,
    network: nn.Module,
    state: State,
    rows: Sequence[Row],
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
        how: how steps were taken, see `harness.run.train.Trainer.how`.
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
