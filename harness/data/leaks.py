"""Images that must not be trained on, nor training be steered by: those of the test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from harness.data.images import LoadedImage, pixels_digest, read_image
from harness.errors import HarnessError
from harness.protocol.protocols import crop_to_multiple
from harness.registry import DATASETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.cards import ByteArray

NEAR_DUPLICATES = {0xF0F0F4EC7246763B: 'the Set5 image "woman" in another size'}
"""Test images with known near-duplicates, by `fingerprint`: 302003 of BSDS500, and so one of the
classic 291 images, is "woman" enlarged 1.39 times.
"""

_SAME = 8
"""Bits in which fingerprints of one image may differ. Enlarged and saved as a JPEG, "woman" differs
in none, cut by 5 pixels on each side in 7, and 876 other images in 17 or more.
"""


class LeakError(HarnessError):
    """An image is used for two things that must have nothing in common."""


def leaking(paths: Iterable[Path]) -> Iterator[str]:
    """A sentence for each image that is in a test set, by its pixels or as a known near-duplicate.

    Raises:
        HarnessError: an image cannot be read.
    """
    known = benchmark_pixels()
    for path in paths:
        sentence = leak(path, read_image(path), known)
        if sentence:
            yield sentence


def benchmark_pixels() -> dict[str, str]:
    """What the images of the test sets are called, by the hash of their pixels."""
    return {
        image.pixels_sha256: f"{image.name} of {DATASETS.get(name).title}"
        for name in DATASETS
        if DATASETS.get(name).column
        for image in DATASETS.get(name).known
    }


def leak(path: Path, loaded: LoadedImage, known: dict[str, str], use: str = "training") -> str:
    """The sentence for an image that is in a test set; empty for all others."""
    owner = known.get(loaded.sha256) or known.get(content(loaded.pixels))
    said = f"{owner}, pixel for pixel" if owner else _near_duplicate(loaded.pixels)
    return f"{path.name} is {said}: take it out of the {use} images." if said else ""


def _near_duplicate(pixels: ByteArray) -> str:
    """Which test image of `NEAR_DUPLICATES` this is; empty for all others."""
    own = fingerprint(pixels)
    near = (said for known, said in NEAR_DUPLICATES.items() if (own ^ known).bit_count() <= _SAME)
    return next(near, "")


def fingerprint(pixels: ByteArray) -> int:
    """64 bits that an image keeps when it is resized: a difference hash.

    Each says whether, of 8 rows of 9 block means, one is darker than the next.
    """
    means = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(means)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


def content(pixels: ByteArray) -> str:
    """Hash of an image's pixels, the same for its copy that is cropped to a multiple of four."""
    return pixels_digest(crop_to_multiple(pixels, 4))
