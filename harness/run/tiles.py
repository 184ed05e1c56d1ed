"""Tiles of a size that fits in the memory that is free."""

from __future__ import annotations

import math
from dataclasses import replace

from harness.errors import HarnessError, UsageError, own_error
from harness.run.evaluate import LARGE, images_at_once, upscaler
from harness.run.plan import Plan
from harness.run.spec import Executor, Run, WorkersError

SHARE = 0.5
"""Share of the free memory for tensors; convolutions need the rest as workspace."""

SMALLEST = 16
"""Smallest side of a tile in LR pixels. Larger sides are this times a power of two: the side is a
part of the run's identity, and must not change with small changes of the free memory."""


def choose_tiles(result: Plan, executor: Executor, *, asked: bool) -> None:
    """Choose tiles for the runs of a plan that need them, and add notes; see `choose_tile`."""
    runs, result.runs = result.runs, []
    for run in runs:
        try:
            settled = run.tile or run.published
            fitting, note = (run, "") if settled else choose_tile(run, executor, asked=asked)
        except (UsageError, WorkersError):
            raise
        except (Exception, SystemExit) as error:  # from a plug-in; the other runs go on
            result.problems.append(str(own_error(error, run.title)))
            continue
        result.runs.append(fitting)
        result.notes += [note] * bool(note)


def choose_tile(run: Run, executor: Executor, *, asked: bool) -> tuple[Run, str]:
    """Choose a tile size for a run if its largest image does not fit in memory.

    Args:
        run: a run without tiles.
        executor: tells the free memory, device and threads of the process that carries it out.
        asked: check every set, not only sets with images larger than those of any benchmark.

    Returns:
        the run, with tiles if needed, and a message for the user, or an empty one.

    Raises:
        HarnessError: not even the smallest tiles fit, or the needed memory cannot be measured.
    """
    largest = max(width * height for width, height in (i.size for i in run.image_set.images))
    if not asked and largest < LARGE:
        return run, ""
    from harness.models.resources import forward_bytes

    network = upscaler(replace(run, tile=SMALLEST), "cpu")
    free, execution = executor.free_bytes(), executor.execution()
    if free is None:
        return run, ""
    on_cpu = execution.device == "cpu"  # other devices process one image at a time
    lanes = images_at_once(run, execution.threads) if on_cpu else 1
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
        + (", and each sees only a part of the image." * run.card.global_pooling or ".")
    )
    return replace(run, tile=tile), note
