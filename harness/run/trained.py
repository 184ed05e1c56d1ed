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

from harness.data.partial import write_atomically
from harness.models.complexity import count_parameters
from harness.models.weights import Weights, save_weights, tensors_digest
from harness.run.devices import training_numerics
from harness.run.provenance import provenance
from harness.run.train import State
from harness.run.train_log import Row
from harness.run.training import Training, validate
from harness.specs import WeightsInfo

if TYPE_CHECKING:
    from harness.specs import AnyArray

HALF_TOLERANCE = 0.001
"""PSNR (dB) that rounding the stored weights to fp16 may cost."""


def finish(
    training: Training, network: nn.Module, state: State, rows: Sequence[Row], processes: int = 1
) -> Path:
    """Write the weights, in fp16 where that costs nothing, and what is to be known of them.

    Args:
        training: what was done.
        network: the result, on the CPU.
        state: at the end.
        rows: the training log.
        processes: how many trained.

    Returns:
        the weights' path; the provenance lies beside it as ``.json``.
    """
    tensors = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    half = _halved(training, network, tensors)
    kept = half or tensors
    info = WeightsInfo(training.tag, "", "", tensors_digest(kept), "Apache-2.0")
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
            "sets": training.sets,
            "skipped": training.skipped,
        },
        "parameters": count_parameters(network),
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "device": training.device,
        "compiled": training.compile,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "provenance": _provenance(training.device),
        "validation": [
            {"step": row.step, "psnr": row.psnr, "ssim": row.ssim}
            for row in rows
            if row.psnr is not None
        ],
    }
    write_atomically(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return path


def _halved(
    training: Training, network: nn.Module, tensors: Mapping[str, AnyArray]
) -> dict[str, AnyArray] | None:
    """The tensors in fp16, or None where rounding them is seen in the validation."""
    half = {
        name: value.astype(np.float16) if value.dtype.kind == "f" else value
        for name, value in tensors.items()
    }
    if not training.validation or not all(np.isfinite(v).all() for v in half.values()):
        return None
    before, _ = validate(training, network)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in half.items()})
    after, _ = validate(training, network)
    return half if abs(after - before) < HALF_TOLERANCE else None


def _provenance(device: str) -> dict[str, Any]:
    """What the training was carried out with, its numerics instead of those of scoring."""
    with training_numerics():
        return provenance(device)
