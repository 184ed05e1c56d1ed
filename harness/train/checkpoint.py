"""What a training writes while it goes, its checkpoints and its log, and what it starts from."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import torch
from msgspec import convert
from torch import Tensor, nn

from harness.errors import HarnessError, UsageError
from harness.files import TEXT, regular, whole, write_atomically
from harness.models.find_weights import find_weights, installed, notes_path, read_notes
from harness.models.formats.checkpoints import is_hostile, is_sealed, seal, seal_fits
from harness.models.weights import Weights, read_weights

if TYPE_CHECKING:
    from harness.cards import ModelCard


FORMAT = 3
"""Raised whenever a checkpoint holds something else."""


class Checkpoint(TypedDict):
    """All that a training needs to go on.

    Attributes:
        format: `FORMAT` of the version that wrote it.
        facts: what must agree for it to be continued, see `harness.train.spec.Training.facts`.
        recipe: the fields of the `harness.train.recipe.Recipe`.
        validated_on: see `harness.train.spec.Training.validated_on`.
        network, average: parameters and buffers of the network, and of its average.
        optimizer: the optimizer's moments.
        step, seconds, best, validated_from, left_out: see `harness.train.spec.State`.
        origin: the weights that training started from, see `harness.train.checkpoint`.
        acceleration: the fields of the `harness.train.step.Acceleration`.
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
    """Write a checkpoint to a temporary file, seal it, flush it to the disk, and rename it.

    Raises:
        HarnessError: it cannot be written; the checkpoint before stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial, partial.open("w+b") as stream:
            torch.save(dict(state), stream)
            seal(stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        before = "the one before it is intact" if path.exists() else "there is none before it"
        raise HarnessError(
            f"The checkpoint {path} cannot be written ({error}): {before}."
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is run.

    Raises:
        HarnessError: there is none, it is damaged, or another version of this package wrote it.
    """
    if not os.path.exists(path):
        raise HarnessError(f"There is no checkpoint {path} to resume: train without --resume.")
    try:
        if not (is_sealed(path) and seal_fits(path)):
            raise HarnessError(
                f"The checkpoint {path} is damaged, or another version of drfn-harness wrote it: "
                "remove it and train anew, or start from the .safetensors that the training left "
                "(--from)."
            )
        state = _loaded(path)
        if isinstance(state, dict) and state.get("format") != FORMAT:
            raise HarnessError(
                f"The checkpoint {path} was written by another version of drfn-harness: go on with "
                "that one, or start from the .safetensors that it left (--from)."
            )
        convert(state, Checkpoint)  # which copies; what PyTorch notes of a state_dict would be lost
    except HarnessError:
        raise
    except Exception as error:  # the readers meet what they do not know in many ways
        raise HarnessError(f"The checkpoint {path} cannot be read ({error}).") from error
    return cast(Checkpoint, state)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of ``harness train``, be it damaged or of an earlier version.

    Raises:
        OSError: it cannot be read.
    """
    if is_sealed(path):
        return True
    try:
        return {"facts", "optimizer", "average"} <= _loaded(path).keys()
    except Exception:  # it may be anything
        return False


def _loaded(path: Path) -> Any:
    if is_hostile(path):
        raise ValueError("it holds tuples within tuples, as no checkpoint does")
    return torch.load(path, map_location="cpu", weights_only=True)


_HASHES = {
    "images": "the training images are others",
    "source": "the source of the network has changed",
}
"""Facts that are hashes, and what it means that they differ."""


def network_values(network: nn.Module, average: nn.Module) -> dict[str, Tensor]:
    """The values of a network that a checkpoint keeps.

    Buffers that the network makes anew for each size of image are those of its average, which has
    never run.
    """
    own = network.state_dict()
    return {
        name: own[name] if name in own and own[name].shape == value.shape else value
        for name, value in average.state_dict().items()
    }


def require_same(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint of another training.

    Args:
        saved: what the checkpoint says of itself.
        wanted: the same facts of the training at hand.

    Raises:
        UsageError: they differ, naming how.
    """
    different = [
        _HASHES.get(name, f"{name} was {saved.get(name)!r} and is {value!r}")
        for name, value in wanted.items()
        if saved.get(name) != value
    ]
    if different:
        raise UsageError(f"The checkpoint is of another training: {'; '.join(different)}.")


@dataclass
class LogRow:
    """A line of the training log.

    Attributes:
        step: optimiser steps so far.
        seconds: of training so far, over all resumptions.
        loss: mean over the steps since the last line, of 8-bit levels: absolute errors for l1, in
            levels, and squared ones for l2, in levels².
        lr: learning rate of the last step.
        rate: steps a second since the last line.
        data_share: part of the time that was spent waiting for patches.
        psnr, ssim: of the validation, where this line has one.
    """

    step: int
    seconds: float
    loss: float
    lr: float
    rate: float
    data_share: float
    psnr: float | None = None
    ssim: float | None = None


_NAMES = [one.name for one in fields(LogRow)]


def scored(rows: Sequence[LogRow], after: int) -> list[LogRow]:
    """The lines with a validation, of those after a step."""
    return [row for row in rows if row.psnr is not None and row.step > after]


class TrainLog:
    """The lines so far, and the files they are appended to.

    TensorBoard gets them too where it is installed (the extra ``tensorboard``).

    Args:
        folder: gets ``log.csv`` and TensorBoard's event files.
        step: of the checkpoint that is continued: later lines, and one that a kill has torn, go.

    Raises:
        HarnessError: a file cannot be read or written.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path = path = folder / "log.csv"
        try:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                self.rows = _read(path, step) if step and path.exists() else []
                write_atomically(path, _csv(self.rows, header=True))
                self._board = _tensorboard(folder, step)
        except (csv.Error, ValueError) as error:
            raise HarnessError(
                f"The log {path} is not as training wrote it, with commas and all of its columns: "
                "restore it, or move it away to go on without its lines."
            ) from error

    def add(self, row: LogRow) -> None:
        """Append a line, before the validation of its step.

        Raises:
            HarnessError: the file cannot be written.
        """
        self.rows.append(row)
        with self._writing():
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_csv([row]))
            self._show(row, _NAMES[2:-2])

    def score(self, row: LogRow) -> None:
        """Write a line anew that has got scores.

        Raises:
            HarnessError: the file cannot be written.
        """
        with self._writing():
            write_atomically(self.path, _csv(self.rows, header=True))
            self._show(row, _NAMES[-2:])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HarnessError(f"The log {self.path} cannot be written ({error}).") from error

    def _show(self, row: LogRow, names: Sequence[str]) -> None:
        """Give values of a line to TensorBoard."""
        for name in names if self._board else ():
            self._board.add_scalar(name, getattr(row, name), row.step)

    def close(self) -> None:
        """Flush what TensorBoard has."""
        if self._board:
            self._board.close()


def _tensorboard(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _csv(rows: Sequence[LogRow], *, header: bool = False) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _NAMES, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _read(path: Path, last: int) -> list[LogRow]:
    """The lines up to a step."""
    rows = []
    whole_lines = regular(path, TEXT).read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    for line in csv.DictReader(whole_lines):
        row = convert({name: line.get(name) or None for name in _NAMES}, LogRow, strict=False)
        if not all(math.isfinite(value) for value in asdict(row).values() if value is not None):
            raise ValueError("a value is not finite")
        if row.step <= last:
            rows.append(row)
    return rows


_KEPT = ("hyper", "recipe", "steps", "seconds", "device", "from")
"""What a link of the chain says of a training."""


def find_origin(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], word: str, key: str = ""
) -> tuple[Weights, dict[str, Any]]:
    """The weights that ``--from`` names.

    Args:
        card: the network that is to start from them.
        scale: the factor.
        hyper: its arguments.
        word: a file, or the tag of weights on this machine, such as ``repro``.
        key: where in a file they are, see `harness.models.weights.read_weights`.

    Returns:
        the weights, and where they came from: their name and hash; recipe, steps and seconds as far
        as their notes or their checkpoint tell; and under ``from`` the same of the weights that
        they started from.

    Raises:
        HarnessError: there are no such weights, or they are broken or of another network.
        UsageError: they are of the network with other arguments, or not under the key.
    """
    path = Path(word)
    if not os.path.exists(path):
        if key:
            raise UsageError(f"--weights-key is for files, and there is no file {path}.")
        weights = find_weights(card, scale, tag=word)
        path = next(found for found, tag in installed(card, scale) if tag == word)
    else:
        weights = read_weights(card, scale, path, key=key)
    assert weights is not None  # a network without parameters is not trained
    sha256 = weights.info.tensors_sha256
    told = _notes(path, sha256) or _checkpoint(path)
    theirs = told.get("hyper", weights.hyper)
    if dict(theirs) != dict(hyper):
        raise UsageError(
            f"{path} is {card.name} with the arguments {dict(theirs)}, not {dict(hyper)}: start "
            "from other weights, or train the same --variant."
        )
    facts = {name: told[name] for name in _KEPT if name in told}
    if "images" in told:  # which ones were skipped is in their own notes
        images = told["images"]
        facts["images"] = {name: images[name] for name in ("sha256", "count") if name in images}
    return weights, {"weights": path.name, "tensors_sha256": sha256} | facts


def _notes(path: Path, sha256: str) -> dict[str, Any]:
    """What lies beside weights that were trained here, if it is of these weights."""
    notes = read_notes(notes_path(path))
    return dict(notes) if notes and notes["tensors_sha256"] == sha256 else {}


def _checkpoint(path: Path) -> dict[str, Any]:
    """Recipe, steps and seconds from a checkpoint of ``harness train``; empty for other files."""
    if path.suffix != ".pt" or not is_checkpoint(path):
        return {}
    saved = load_checkpoint(path)
    told = {"hyper": saved["facts"]["hyper"], "recipe": saved["recipe"], "steps": saved["step"]}
    before = {"from": saved["origin"]} if saved["origin"] else {}
    return told | {"seconds": round(saved["seconds"], 1)} | before
