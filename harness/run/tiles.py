"""Tiles of a size that fits the memory at hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError, own_error
from harness.run.evaluate import LARGE, images_at_once, upscaler

if TYPE_CHECKING:
    from harness.run.plan import Plan
    from harness.run.spec import Run


SHARE = 0.5
"""Of the free memory that tensors may take: convolutions need some for themselves."""

SMALLEST = 16
"""LR pixels of a tile's side, or twice, four times and so on: the side belongs to a run's identity,
so that it must not change whenever a little more memory is free."""


def choose_tiles(made: Plan, device: str, *, asked: bool) -> None:
    """Cut into tiles what a plan has too large, and note it there; see `choose_tile`."""
    runs, made.runs = made.runs, []
    for run in runs:
        try:
            fitting, said = (run, "") if run.tile else choose_tile(run, device, asked=asked)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # from a plug-in; the other runs go on
            made.problems.append(str(own_error(error, run.title)))
            continue
        made.runs.append(fitting)
        made.notes += [said] * bool(said)


def choose_tile(run: Run, device: str, *, asked: bool) -> tuple[Run, str]:
    """Cut a run's images into tiles where the largest would not fit in memory whole.

    Args:
        run: one without tiles.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        asked: look at all sets, not only at those with images beyond any benchmark's.

    Returns:
        the run, in tiles where needed, and what to tell the user then.

    Raises:
        HarnessError: not even the smallest tiles fit, or what fits cannot be told.
    """
    largest = max(width * height for width, height in (i.size for i in run.benchmark.images))
    if not asked and largest < LARGE:
        return run, ""
    import torch

    from harness.models.network import pick_device
    from harness.models.resources import forward_bytes, free_bytes

    network = upscaler(replace(run, tile=SMALLEST), "cpu")
    device = pick_device(device)
    free = free_bytes(device)
    if free is None:
        return run, ""
    on_cpu = device == "cpu"  # other devices have one image at a time
    lanes = images_at_once(run.benchmark.images, torch.get_num_threads()) if on_cpu else 1
    per_pixel = forward_bytes(network.network, run.card.channels, run.card.name)
    if per_pixel == 0:  # what makes nothing needs no more than its input
        return run, ""
    pixels = SHARE * free / lanes / per_pixel
    if largest / network.factor**2 <= pixels:
        return run, ""
    finer = run.rules.scale / network.factor  # pixels of the network's input for one of LR
    side = (math.sqrt(pixels) - 2 * network.overlap) / finer
    if side < SMALLEST:
        raise HarnessError(
            f"{run.title} needs more than the {free / 1e9:.1f} GB that are free, even in tiles of "
            f"{SMALLEST} LR pixels: use a machine with more memory."
        )
    tile = SMALLEST << int(math.log2(side / SMALLEST))
    said = (
        f"{run.title} would need about {largest / network.factor**2 * per_pixel / 1e9:.1f} GB an "
        f"image, more than may be used here: it runs in tiles of {tile} LR pixels"
        + (", and pools over each instead of the whole." * run.card.global_pooling or ".")
    )
    return replace(run, tile=tile), said
