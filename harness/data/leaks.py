"""Images that must not be trained on, nor training be steered by: those of the test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.images import LoadedImage, pixels_digest, read_image
from harness.errors import HarnessError
from harness.protocol.protocols import crop_to_multiple
from harness.registry import DATASETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from harness.specs import ByteArray

NEAR_DUPLICATES = {"302003": 'is the Set5 image "woman" enlarged 1.39 times'}
"""Files (stems) that no hash would find: BSDS500 302003, and so the classic 291-image set."""


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
    near = NEAR_DUPLICATES.get(path.stem)
    said = f"is {owner}, pixel for pixel" if owner else near
    return f"{path.name} {said}: take it out of the {use} images." if said else ""


def content(pixels: ByteArray) -> str:
    """Hash of an image's pixels, the same for its copy that is cropped to a multiple of four."""
    return pixels_digest(crop_to_multiple(pixels, 4))
