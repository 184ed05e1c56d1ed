"""Reading images: what is in the file, as 8-bit grey or RGB, and nothing guessed."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps

from harness.errors import HarnessError
from harness.files import IMAGE, regular
from harness.record import is_plain_name

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cards import ByteArray

SUFFIXES = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})

_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called. Pillow knows more, and runs Ghostscript for some."""

MOST_PIXELS = 200_000_000
"""Of an image. The header of a file may claim more pixels than there is memory for."""

Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# What it says of a file's metadata changes no pixel.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")

_TIFF_TAGS = ((258, 1), (339, 1))  # bits and kind of a channel's values, with their defaults
_UNSIGNED = 1

_ON_ITS_SIDE = range(5, 9)
"""Orientation tags that exchange width and height."""

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


class MissingImageError(HarnessError):
    """There is no such file."""


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Attributes:
        pixels: uint8 ``(H, W)`` grey or ``(H, W, 3)`` RGB.
        sha256: of the pixels, after any conversion.
        note: what was converted, or empty.
    """

    pixels: ByteArray
    sha256: str
    note: str = ""


def read_image(path: Path) -> LoadedImage:
    """Decode an image file.

    An orientation tag (EXIF) is applied in every format, as viewers do; colour profiles are not.

    Raises:
        HarnessError: the file is missing, broken, no image, too large, of several frames, or has
            16 bits a channel or signed values.
    """
    try:
        with Image.open(regular(path, IMAGE), formats=_FORMATS) as image:
            mode, deep, several = image.mode, _is_deep(image), _has_frames(image)
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
            target, note = _CONVERSIONS.get(mode, (mode, ""))
            if image.info.pop("transparency", None) is not None:
                note = f"{note}, transparency dropped".removeprefix(", ")
            if turned:
                note = f"{note}, turned as its orientation tag says".removeprefix(", ")
            # Pillow itself turns TIFF alone, and takes its tag away.
            shown = image if deep or several else ImageOps.exif_transpose(image)
            pixels = None if deep or several else np.asarray(shown.convert(target))
    except FileNotFoundError:
        raise MissingImageError(f"The image {path} is missing.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise HarnessError(
            f"The image {path} says that it has more than {MOST_PIXELS:,} pixels: cut it into "
            "several."
        ) from None
    except Exception as error:  # a decoder meets what it does not know in many ways
        raise HarnessError(f"The image {path} cannot be read ({error}): replace it.") from error
    if several:
        raise HarnessError(f"The image {path} has several frames or pages: keep one.")
    if pixels is None:
        raise HarnessError(
            f"The image {path} has more than 8 bits a channel, or signed values: convert it to 8 "
            "bits, the depth at which the protocol scores."
        )
    if target not in ("L", "RGB"):
        raise HarnessError(f"The image {path} has the colour mode {mode}: convert it to RGB.")
    return LoadedImage(pixels, pixels_digest(pixels), note)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as `read_image` gives it, from the file's header.

    Raises:
        HarnessError: the file is no image.
    """
    try:
        with Image.open(regular(path, IMAGE), formats=_FORMATS) as image:
            width, height = image.size
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            turned = orientation in _ON_ITS_SIDE and image.format != "TIFF"  # which Pillow turns
    except Exception as error:  # a decoder meets what it does not know in many ways
        raise HarnessError(f"The image {path} cannot be read ({error}): replace it.") from error
    return (height, width) if turned else (width, height)


def _has_frames(image: Image.Image) -> bool:
    """Whether there is a second frame. Counting all frames of a hostile file could take long."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits a channel, or signed ones, which Pillow hides.

    What tells is the raw mode of its decoder, for PPM the largest value, and for TIFF its tags.
    """
    tags = getattr(image, "tag_v2", {})
    bits, signs = (tags.get(tag, (default,)) for tag, default in _TIFF_TAGS)
    if max(bits) > 8 or any(sign != _UNSIGNED for sign in signs):
        return True
    for tile in getattr(image, "tile", ()):
        args = tile[-1] if isinstance(tile[-1], tuple) else (tile[-1],)
        largest = args[1] if tile[0].startswith("ppm") and len(args) > 1 else 255
        # BMP's BGR;16 has 16 bits a pixel, not a channel.
        deep = "16" in str(args[0]) and not str(args[0]).startswith("BGR")
        if deep or (isinstance(largest, int) and largest > 255):
            return True
    return image.mode.startswith(("I", "F"))


def pixels_digest(pixels: ByteArray) -> str:
    """SHA-256 of the pixels in row order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def image_paths(folder: Path, pattern: str = "*") -> list[Path]:
    """The image files directly in a folder, by name; none where one may not look."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in SUFFIXES
        and os.path.isfile(path)
        and not path.name.startswith(".")
    )


def image_files(folder: Path, pattern: str = "*") -> list[Path]:
    """Like `image_paths`, for files whose names are shown.

    Raises:
        HarnessError: a name cannot be printed.
    """
    found = image_paths(folder, pattern)
    strange = next((path.name for path in found if not is_plain_name(path.stem)), None)
    if strange:
        raise HarnessError(f"The image {strange!a} has a name that cannot be printed: rename it.")
    return found
