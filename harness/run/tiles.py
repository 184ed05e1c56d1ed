"""Tiles of a size that fits in the memory that is free."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.errors import HarnessError, UsageError, own_error
from harness.run.evaluate import LARGE, images_at_once, upscaler
from harness.run.plan import (
    Plan,
)
from harness.run.spec import Run

SHARE = 0.5
"""Share of the free memory for tensors; convolutions need the rest as workspace."""

SMALLEST = 16
"""Smallest side of a tile in LR pixels. Larger sides are this times a power of two: the side is a
part of the run's identity, and must not change with small changes of the free memory."""


def choose_tiles(result: Plan, device: str, *, asked: bool) -> None:
    """Choose tiles for the runs of a plan that need them, and add notes; see `choose_tile`."""
    runs, result.runs = result.runs, []
    for run in runs:
        try:
            fitting, note = (run, "") if run.tile else choose_tile(run, device, asked=asked)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # from a plug-in; the other runs go on
            result.problems.append(str(own_error(error, run.title)))
            continue
        result.runs.append(fitting)
        result.notes += [note] * bool(note)


def choose_tile(run: Run, device: str, *, asked: bool) -> tuple[Run, str]:
    """Choose a tile size for a run if its largest image does not fit in memory.

    Args:
        run: a run without tiles.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        asked: check every set, not only sets with images larger than those of any benchmark.

    Returns:
        the run, with tiles if needed, and a message for the user, or an empty one.

    Raises:
        HarnessError: not even the smallest tiles fit, or the needed memory cannot be measured.
    """
    largest = max(width * height for width, height in (i.size for i in run.image_set.images))
    if not asked and largest < LARGE:
        return run, ""
    import torch

    from harness.models.resources import forward_bytes, free_bytes, pick_device

    network = upscaler(replace(run, tile=SMALLEST), "cpu")
    device = pick_device(device)
    free = free_bytes(device)
    if free is None:
        return run, ""
    on_cpu = device == "cpu"  # other devices process one image at a time
    lanes = images_at_once(run.image_set.images, torch.get_num_threads()) if on_cpu else 1
    per_pixel = forward_bytes(network.network, run.card.channels, run.card.name)
    if per_pixel == 0:  # no memory beyond the input
        return run, ""
    pixels = SHARE * free / lanes / per_pixel
    if largest / network.factor**2 <= pixels:
        return run, ""
    finer = run.rules.scale / network.factor  # input pixels of the network per LR pixel
    side = (math.sqrt(pixels) - 2 * network.overlap) / finer
    if side < SMALLEST:
        raise HarnessError(
            f"{run.title} needs more than the {free / 1e9:.1f} GB that are free, even in tiles of "
            f"{SMALLEST} LR pixels: use a machine with more memory."
        )
    tile = SMALLEST << int(math.log2(side / SMALLEST))
    note = (
        f"{run.title} would need about {largest / network.factor**2 * per_pixel / 1e9:.1f} GB per "
        f"image, more than is available: it runs in tiles of {tile} LR pixels"
        + (", and pools over each instead of the whole." * run.card.global_pooling or ".")
    )
    return replace(run, tile=tile), note
