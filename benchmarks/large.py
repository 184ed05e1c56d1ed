"""Large images in tiles: ``python -m benchmarks.large MODEL [--side 4096] [--tile N] [--whole]``.

Enlarges a square LR image of random texture four times, tile by tile to uint8, and prints the
time, the tile size and the peak memory of the process. ``--whole`` also enlarges it at once, and
prints the largest difference of the two outputs.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import TYPE_CHECKING

import numpy as np

from harness.models.find_weights import find_weights
from harness.models.resources import forward_bytes
from harness.models.upscaler import Upscaler
from harness.protocol.color import to_uint8
from harness.protocol.resize import imresize
from harness.registry import MODELS, load_plugins

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray, FloatArray


def texture(side: int) -> FloatArray:
    """Noise of several widths, ``(side, side, 3)`` in [0, 1]."""
    rng = np.random.default_rng(0)
    image = np.zeros((side, side, 3), np.float32)
    for step in (4, 16, 64):
        coarse = rng.random((side // step, side // step, 3))
        image += imresize(coarse, step, "replicate").astype(np.float32) / 3
    return image.clip(0, 1)


def levels(part: AnyArray) -> ByteArray:
    """Convert a tile's output to uint8."""
    return to_uint8(part.astype(np.float64) * 255)


def main() -> None:
    """Measure one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--side", type=int, default=4096, help="of the LR image in pixels")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--whole", action="store_true")
    words = parser.parse_args()
    load_plugins()
    card = MODELS.get(words.model)
    upscaler = Upscaler(card, 4, find_weights(card, 4), tile=words.tile)
    print(f"{forward_bytes(upscaler.network, card.channels) / 1e3:.1f} kB a pixel are counted")
    image = texture(words.side)
    begin = time.perf_counter()
    tiled = upscaler.render(image, levels)
    taken = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{words.model}: {words.side} x {words.side} LR pixels in tiles of {words.tile} that "
        f"overlap by {upscaler.overlap}: {taken:.0f} s, at most {peak / 1e9:.2f} GB in the process"
    )
    if words.whole:
        upscaler.tile = None
        apart = upscaler.render(image, levels).astype(int) - tiled
        print(
            f"the whole at once differs by at most {abs(apart).max()} levels, in "
            f"{(apart != 0).mean():.3%} of the values"
        )


if __name__ == "__main__":
    main()
