"""Checkpoints and the log of a training, and the weights that it starts from."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from msgspec import convert
from torch import Tensor, nn

from harness.cards import ModelCard
from harness.errors import HarnessError, UsageError
from harness.files import TEXT, regular, whole, write_atomically
from harness.models.find_weights import find_weights, installed, notes_path, read_notes
from harness.models.formats.checkpoints import is_hostile, seal, seal_fits
from harness.models.weights import Weights, read_weights

FORMAT = 3
"""Version of the content of a checkpoint; incremented at every change."""


class Checkpoint(TypedDict):
    """Everything that a training needs to resume.

    Attributes:
        format: `FORMAT` of the version that wrote it.
        facts, validated_on, origin: see `harness.train.spec.Training`.
        recipe, acceleration: the fields of the `Recipe` and of `harness.train.step.Acceleration`.
        network, average: parameters and buffers of the network and of its average.
        optimizer: the optimizer's moments.
        step, seconds, best, validated_from, left_out: see `harness.train.spec.State`.
        random: the random states of each process, see `harness.global_state`.
    """

    format: int
    facts: dict[str, Any]
    recipe: dict[str, Any]
    validated_on: dict[str, Any]
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    step: int
    seconds: float
    best: float
    validated_from: int
    left_out: list[int]
    origin: dict[str, Any] | None
    acceleration: dict[str, Any]
    random: list[dict[str, Any]]


def save_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write a checkpoint to a temporary file, seal it, flush it to disk, and rename it.

    Raises:
        HarnessError: it cannot be written; the previous checkpoint stays unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial, partial.open("w+b") as stream:
            torch.save(dict(state), stream)
            seal(stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        previous = "is intact" if path.exists() else "does not exist"
        raise HarnessError(
            f"The checkpoint {path} cannot be written ({error}): the previous one {previous}."
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, without running any code in it.

    Raises:
        HarnessError: it is missing or damaged, or another version of this package wrote it.
    """
    if not os.path.exists(path):
        raise HarnessError(f"There is no checkpoint {path} to resume: train without --resume.")
    try:
        if not seal_fits(path):
            raise HarnessError(
                f"The checkpoint {path} is damaged, or another version of drfn-harness wrote it: "
                "remove it and start the training again, or start from the .safetensors file that "
                "the training wrote (--from)."
            )
        state = _loaded(path)
        if isinstance(state, dict) and state.get("format") != FORMAT:
            raise HarnessError(
                f"The checkpoint {path} was written by another version of drfn-harness: use that "
                "version, or start from the .safetensors file that it wrote (--from)."
            )
        convert(state, Checkpoint)  # only a check: the copy loses the metadata of a state_dict
    except HarnessError:
        raise
    except Exception as error:  # the readers may raise anything
        raise HarnessError(f"The checkpoint {path} cannot be read ({error}).") from error
    return cast(Checkpoint, state)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of ``harness train``, even a damaged or an earlier one.

    Raises:
        OSError: it cannot be read.
    """
    if seal_fits(path) is not None:
        return True
    try:
        return {"facts", "optimizer", "average"} <= _loaded(path).keys()
    except Exception:  # the file may hold anything
        return False


def _loaded(path: Path) -> Any:
    if is_hostile(path):
        raise ValueError("it holds tuples within tuples, unlike any checkpoint")
    return torch.load(path, map_location="cpu", weights_only=True)


def network_values(network: nn.Module, average: nn.Module) -> dict[str, Tensor]:
    """The values of a network for a checkpoint.

    Some networks recreate buffers for each image size. Such buffers are taken from the average
    network, which has never run.
    """
    own = network.state_dict()
    return {
        name: own[name] if name in own and own[name].shape == value.shape else value
        for name, value in average.state_dict().items()
    }


def require_same(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint of another training.

    Raises:
        UsageError: the facts differ; the message names the differences.
    """
    hashes = {
        "images": "the training images differ",
        "source": "the source of the network has changed",
    }
    different = [
        hashes.get(name, f"{name} was {saved.get(name)!r} and is {value!r}")
        for name, value in current.items()
        if saved.get(name) != value
    ]
    if different:
        raise UsageError(f"The checkpoint belongs to another training: {'; '.join(different)}.")


@dataclass
class LogRow:
    """A line of the training log.

    Attributes:
        step: optimiser steps so far.
        seconds: training time so far, over all resumptions.
        loss: mean loss over the steps since the last line, on 8-bit levels: the absolute error in
            levels for l1, the squared error in levels² for l2.
        lr: learning rate of the last step.
        rate: steps per second since the last line.
        data_share: share of the time spent waiting for patches.
        psnr, ssim: scores of the validation, if this line has one.
    """

    step: int
    seconds: float
    loss: float
    lr: float
    rate: float
    data_share: float
    psnr: float | None = None
    ssim: float | None = None


_NAMES = [field.name for field in fields(LogRow)]


def scored(rows: Sequence[LogRow], after: int) -> list[LogRow]:
    """The lines after a step that have scores of a validation."""
    return [row for row in rows if row.psnr is not None and row.step > after]


class TrainLog:
    """The training log, kept in memory and appended to ``log.csv``.

    If TensorBoard is installed (the extra ``tensorboard``), it gets the values too. Lines after the
    step of the resumed checkpoint, and a line cut off by a kill, are removed.

    Raises:
        HarnessError: a file cannot be read or written.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path = path = folder / "log.csv"
        try:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                self.rows = _read(path, step) if step and path.exists() else []
                write_atomically(path, _csv([_NAMES, *map(astuple, self.rows)]))
                self._board = _tensorboard(folder, step)
        except (csv.Error, ValueError) as error:
            raise HarnessError(
                f"The log {path} is not as training wrote it, with commas and all of its columns: "
                "restore it, or move it away to go on without its lines."
            ) from error

    def add(self, row: LogRow) -> None:
        """Append a line, before the validation of its step."""
        self.rows.append(row)
        with self._writing():
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_csv([astuple(row)]))
            self._show(row, _NAMES[2:-2])

    def score(self, row: LogRow) -> None:
        """Rewrite the log after a line has received scores."""
        with self._writing():
            write_atomically(self.path, _csv([_NAMES, *map(astuple, self.rows)]))
            self._show(row, _NAMES[-2:])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HarnessError(f"The log {self.path} cannot be written ({error}).") from error

    def _show(self, row: LogRow, names: Sequence[str]) -> None:
        """Send values of a line to TensorBoard."""
        for name in names if self._board else ():
            self._board.add_scalar(name, getattr(row, name), row.step)

    def close(self) -> None:
        """Flush and close the TensorBoard writer."""
        if self._board:
            self._board.close()


def _tensorboard(folder: Path, step: int) -> Any:
    """A TensorBoard writer, or None if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _csv(rows: Iterable[Iterable[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _read(path: Path, last: int) -> list[LogRow]:
    """Read the lines up to a step."""
    rows = []
    whole_lines = regular(path, TEXT).read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    for line in csv.DictReader(whole_lines):
        row = convert({name: line.get(name) or None for name in _NAMES}, LogRow, strict=False)
        if not all(math.isfinite(value) for value in astuple(row) if value is not None):
            raise ValueError("a value is not finite")
        if row.step <= last:
            rows.append(row)
    return rows


_COPIED = ("hyper", "recipe", "steps", "seconds", "device", "from")
"""The facts that are copied from the notes of weights into the origin of a training."""


def find_origin(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], word: str, key: str = ""
) -> tuple[Weights, dict[str, Any]]:
    """Find the weights that ``--from`` names for a network.

    The word is a file, with the key of the weights in it, or the tag of installed weights.

    Returns:
        the weights and their origin: name and hash; recipe, steps and seconds if their notes or
        checkpoint state them; and under ``from`` the origin of the weights they started from.

    Raises:
        HarnessError: the weights are missing, broken, or belong to another network.
        UsageError: the network has other arguments, or the key does not exist.
    """
    path = Path(word)
    if not os.path.exists(path):
        if key:
            raise UsageError(f"--weights-key is for files, and there is no file {path}.")
        weights = find_weights(card, scale, tag=word)
        path = next(file for file, tag in installed(card, scale) if tag == word)
    else:
        weights = read_weights(card, scale, path, key=key)
    assert weights is not None  # a network without parameters is not trained
    sha256 = weights.info.tensors_sha256
    notes = read_notes(notes_path(path)) or {}
    if notes.get("tensors_sha256") != sha256:  # they belong to other weights
        notes = _checkpoint_notes(path)
    own_hyper = notes.get("hyper", weights.hyper)
    if dict(own_hyper) != dict(hyper):
        raise UsageError(
            f"{path} is {card.name} with the arguments {dict(own_hyper)}, not {dict(hyper)}: start "
            "from other weights, or train the same --variant."
        )
    facts = {name: notes[name] for name in _COPIED if name in notes}
    if "images" in notes:  # the skipped images stay in the notes of the weights
        images = notes["images"]
        facts["images"] = {name: images[name] for name in ("sha256", "count") if name in images}
    return weights, {"weights": path.name, "tensors_sha256": sha256} | facts


def _checkpoint_notes(path: Path) -> dict[str, Any]:
    """Recipe, steps and seconds from a checkpoint of ``harness train``; empty for other files."""
    if path.suffix != ".pt" or not is_checkpoint(path):
        return {}
    saved = load_checkpoint(path)
    notes = {"hyper": saved["facts"]["hyper"], "recipe": saved["recipe"], "steps": saved["step"]}
    origin = {"from": saved["origin"]} if saved["origin"] else {}
    return notes | {"seconds": round(saved["seconds"], 1)} | origin
