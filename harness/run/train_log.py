"""The training log: its lines, and the CSV file beside the checkpoints."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from harness.data.partial import write_atomically
from harness.errors import HarnessError


@dataclass
class Row:
    """A line of the training log.

    Attributes:
        step: optimiser steps so far.
        seconds: of training so far, over all resumptions.
        loss: mean over the steps since the last line, on the 0 to 255 scale for l1.
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


class TrainLog:
    """The lines so far, and the file they are appended to.

    Args:
        path: the CSV file.
        step: of the checkpoint that is continued: later lines, and one that a kill has torn, go.

    Raises:
        HarnessError: the file cannot be read or written.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.rows = _read(path, step) if step and path.exists() else []
            write_atomically(path, _csv(self.rows, header=True))
        except OSError as error:
            raise HarnessError(f"The log {path} cannot be written ({error}).") from error

    def add(self, row: Row) -> None:
        """Append a line.

        Raises:
            HarnessError: the file cannot be written.
        """
        self.rows.append(row)
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(_csv([row]))
        except OSError as error:
            raise HarnessError(f"The log {self.path} cannot be written ({error}).") from error


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
    whole_lines = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
    for line in csv.DictReader(whole_lines):
        step, *values = (line[name] for name in _NAMES)
        if int(step) <= last:
            rows.append(Row(int(step), *(float(v) if v else None for v in values)))  # type: ignore[arg-type]
    return rows
