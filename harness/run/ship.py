"""Putting trained weights where a package ships them, with what they score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness.errors import HarnessError
from harness.files import whole, write_atomically
from harness.models.find_weights import read_notes
from harness.models.weights import read_weights
from harness.record import RunRecord
from harness.registry import MODELS
from harness.run.store import ResultStore


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
