"""Figures, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.run.train_log import Row


def draw_training(rows: Sequence[Row], path: Path) -> None:
    """Draw loss and validation PSNR against the steps, as a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.add_subplot()
    left.plot([row.step for row in rows], [row.loss for row in rows], color="0.6", lw=1)
    left.set(xlabel="step", ylabel="training loss (0 to 255)", yscale="log")
    scored = [(row.step, row.psnr) for row in rows if row.psnr is not None]
    right = left.twinx()
    right.plot([step for step, _ in scored], [psnr for _, psnr in scored], "o-", color="C0", ms=3)
    right.set_ylabel("validation PSNR (dB)", color="C0")
    figure.savefig(path, dpi=150)
