"""The training log: its lines, the CSV file beside the checkpoints, and TensorBoard's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from msgspec import convert

from harness.errors import HarnessError
from harness.files import TEXT, regular, write_atomically


@dataclass
class Row:
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


_NAMES = [one.name for one in fields(Row)]


def scored(rows: Sequence[Row], after: int) -> list[Row]:
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

    def add(self, row: Row) -> None:
        """Append a line, before the validation of its step.

        Raises:
            HarnessError: the file cannot be written.
        """
        self.rows.append(row)
        with self._writing():
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_csv([row]))
            self._show(row, _NAMES[2:-2])

    def score(self, row: Row) -> None:
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

    def _show(self, row: Row, names: Sequence[str]) -> None:
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


def _csv(rows: Sequence[Row], *, header: bool = False) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _NAMES, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _read(path: Path, last: int) -> list[Row]:
    """The lines up to a step."""
    rows = []
    whole_lines = regular(path, TEXT).read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    for line in csv.DictReader(whole_lines):
        row = convert({name: line.get(name) or None for name in _NAMES}, Row, strict=False)
        if not all(math.isfinite(value) for value in asdict(row).values() if value is not None):
            raise ValueError("a value is not finite")
        if row.step <= last:
            rows.append(row)
    return rows
