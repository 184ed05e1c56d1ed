"""Time and memory of imresize on a DIV2K-sized image, against a plain sparse product.

Run on one core: ``taskset -c 0 python benchmarks/imresize.py``.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from harness.protocol.resize import _weights, imresize

SHAPE = (1356, 2040, 3)
TARGET_MS, TARGET_MB = 45, 200


def plain(image: np.ndarray) -> np.ndarray:
    """Two sparse products of the whole image in double, each rounded: the simplest way."""
    for _ in range(2):
        weights = _weights(image.shape[0], 1 / 4, "replicate")
        product = weights @ image.reshape(len(image), -1).astype(np.float64)
        rounded = np.clip(np.floor(product + 0.5), 0, 255).astype(np.uint8)
        image = np.ascontiguousarray(rounded.reshape(-1, *image.shape[1:]).swapaxes(0, 1))
    return image


def milliseconds(call: Callable[[], object], rounds: int = 15) -> float:
    """Median time of several calls, after one to warm up."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Measure and print."""
    image = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    np.testing.assert_array_equal(imresize(image, 1 / 4), plain(image))
    ours, theirs = milliseconds(lambda: imresize(image, 1 / 4)), milliseconds(lambda: plain(image))
    tracemalloc.start()
    imresize(image, 1 / 4)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    print(f"imresize of {SHAPE[1]} x {SHAPE[0]} RGB uint8 to a quarter, median of 15:")
    print(f"  harness       {ours:6.1f} ms (target {TARGET_MS}), peak {peak:.0f} MB ({TARGET_MB})")
    print(f"  plain product {theirs:6.1f} ms, ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
