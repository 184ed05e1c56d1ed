"""Reading images: what is in the file, as 8-bit grey or RGB, and nothing guessed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from harness.errors import HarnessError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.specs import ByteArray

SUFFIXES = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})

_CONVERSIONS = {
    "1": ("L", "black and white read as grey"),
    "P": ("RGB", "palette read as RGB"),
    "PA": ("RGB", "palette read as RGB, alpha dropped"),
    "LA": ("L", "alpha dropped"),
    "La": ("L", "alpha dropped"),
    "RGBA": ("RGB", "alpha dropped"),
    "RGBa": ("RGB", "alpha dropped"),
    "RGBX": ("RGB", "fourth channel dropped"),
    "CMYK": ("RGB", "CMYK read as RGB"),
    "YCbCr": ("RGB", "YCbCr read as RGB"),
    "LAB": ("RGB", "LAB read as RGB"),
    "HSV": ("RGB", "HSV read as RGB"),
}


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Attributes:
        pixels: uint8 ``(H, W)`` grey or ``(H, W, 3)`` RGB.
        sha256: of the pixels as stored, before any conversion.
        note: what was converted, or empty.
    """

    pixels: ByteArray
    sha256: str
    note: str = ""


def read_image(path: Path) -> LoadedImage:
    """Decode an image file.

    Raises:
        HarnessError: the file is missing, broken, no image, or has 16 bits a channel.
    """
    try:
        with Image.open(path) as image:
            # Pillow reads 16-bit RGB as 8-bit without a word; only the raw mode tells.
            raw_modes = " ".join(str(tile[-1]) for tile in image.tile)
            deep = "16" in raw_modes or image.mode.startswith(("I", "F"))
            stored = None if deep else np.asarray(image)
            mode = image.mode
            target, note = _CONVERSIONS.get(mode, (mode, ""))
            pixels = stored if target == mode or deep else np.asarray(image.convert(target))
    except FileNotFoundError:
        raise HarnessError(f"The image {path} is missing.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HarnessError(f"The image {path} cannot be read ({error}): replace it.") from error
    if stored is None or pixels is None:
        raise HarnessError(
            f"The image {path} has more than 8 bits a channel: convert it to 8 bits, "
            "the depth at which the protocol scores."
        )
    if target not in ("L", "RGB"):
        raise HarnessError(f"The image {path} has the colour mode {mode}: convert it to RGB.")
    return LoadedImage(pixels, pixels_digest(stored), note)


def pixels_digest(pixels: ByteArray) -> str:
    """SHA-256 of the pixels in row order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def image_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The image files directly in a folder, by name."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
