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


def log_csv(rows: Sequence[Row]) -> str:
    """The training log as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [one.name for one in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def write_log(folder: Path, rows: Sequence[Row]) -> None:
    """Write the log beside the checkpoints.

    Raises:
        HarnessError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "log.csv", log_csv(rows))
    except OSError as error:
        raise HarnessError(f"The log in {folder} cannot be written ({error}).") from error
