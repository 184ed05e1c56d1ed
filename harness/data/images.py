"""Find images in folders, and read them as 8-bit grey or RGB."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps

from harness.errors import HarnessError
from harness.files import IMAGE, kind, regular
from harness.record import is_plain_name

if TYPE_CHECKING:
    from harness.cards import ByteArray

SUFFIXES = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})

_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
"""The formats decoded, whatever the suffix. Pillow knows more, and runs Ghostscript for some."""

MOST_PIXELS = 200_000_000
"""Largest number of pixels of an image. A header may claim more pixels than fit in memory."""

Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# Pillow's warnings about metadata do not concern the pixels.
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
    """The image file does not exist."""


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Attributes:
        pixels: uint8 ``(H, W)`` grey or ``(H, W, 3)`` RGB.
        sha256: SHA-256 of the pixels, after any conversion.
        note: the conversions applied, or empty.
    """

    pixels: ByteArray
    sha256: str
    note: str = ""


def read_image(path: Path) -> LoadedImage:
    """Decode an image file.

    The orientation tag (EXIF) is applied in every format, as viewers do; colour profiles are not.

    Raises:
        HarnessError: the file is missing, broken, too large or not an image, or it has several
            frames, more than 8 bits per channel or signed values.
    """
    with _opened(path) as image:
        mode, deep = image.mode, _is_deep(image)
        if _has_frames(image):
            raise HarnessError(f"The image {path} has several frames or pages: keep one.")
        if deep:
            raise HarnessError(
                f"The image {path} has more than 8 bits a channel, or signed values: convert it to "
                "8 bits, the depth at which the protocol scores."
            )
        target, note = _CONVERSIONS.get(mode, (mode, ""))
        if target not in ("L", "RGB"):
            raise HarnessError(f"The image {path} has the colour mode {mode}: convert it to RGB.")
        notes = [note] if note else []
        if image.info.pop("transparency", None) is not None:
            notes.append("transparency dropped")
        if _orientation(image) not in (0, 1):
            notes.append("turned as its orientation tag says")
        # Pillow itself rotates only TIFF images, and then removes the tag.
        pixels = np.asarray(ImageOps.exif_transpose(image).convert(target))
    return LoadedImage(pixels, pixels_digest(pixels), ", ".join(notes))


def image_size(path: Path) -> tuple[int, int]:
    """Read the size (width, height) that `read_image` would return, from the file's header.

    Raises:
        HarnessError: the file is not an image.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = _orientation(image) in _ON_ITS_SIDE and image.format != "TIFF"  # rotated already
    return (height, width) if turned else (width, height)


def is_grey(path: Path) -> bool:
    """Whether `read_image` would return a grey image, by the file's header.

    Raises:
        HarnessError: the file is not an image.
    """
    with _opened(path) as image:
        return _CONVERSIONS.get(image.mode, (image.mode, ""))[0] == "L"


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file, and name it in the error if it cannot be opened or decoded."""
    try:
        with Image.open(regular(path, IMAGE), formats=_FORMATS) as image:
            yield image
    except HarnessError:
        raise
    except FileNotFoundError:
        raise MissingImageError(f"The image {path} is missing.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise HarnessError(
            f"The header of the image {path} claims more than {MOST_PIXELS:,} pixels: split it "
            "into several images."
        ) from None
    except Exception as error:  # decoders raise errors of many types
        raise HarnessError(f"The image {path} cannot be read ({error}): replace it.") from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _has_frames(image: Image.Image) -> bool:
    """Whether there is a second frame. To count all frames of a hostile file could take long."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits per channel, or signed values, which Pillow hides.

    The raw mode of the decoder shows it; for PPM the largest value, and for TIFF the tags.
    """
    tags = getattr(image, "tag_v2", {})
    bits, signs = (tags.get(tag, (default,)) for tag, default in _TIFF_TAGS)
    if max(bits) > 8 or any(sign != _UNSIGNED for sign in signs):
        return True
    for tile in getattr(image, "tile", ()):
        args = tile[-1] if isinstance(tile[-1], tuple) else (tile[-1],)
        largest = args[1] if tile[0].startswith("ppm") and len(args) > 1 else 255
        # BMP's BGR;16 has 16 bits per pixel, not per channel.
        deep = "16" in str(args[0]) and not str(args[0]).startswith("BGR")
        if deep or (isinstance(largest, int) and largest > 255):
            return True
    return image.mode.startswith(("I", "F"))


def pixels_digest(pixels: ByteArray) -> str:
    """Return the SHA-256 of the pixels in row order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def image_paths(folder: Path, pattern: str = "*") -> list[Path]:
    """List the image files directly in a folder, by name; none if the folder cannot be read."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in SUFFIXES
        and os.path.isfile(path)
        and not path.name.startswith(".")
    )


def image_files(folder: Path, pattern: str = "*") -> list[Path]:
    """List image files as `image_paths` does, and check that their names can be printed.

    Raises:
        HarnessError: a name cannot be printed.
    """
    paths = image_paths(folder, pattern)
    unprintable = next((path.name for path in paths if not is_plain_name(path.stem)), None)
    if unprintable:
        raise HarnessError(
            f"The image {unprintable!a} has a name that cannot be printed: rename it."
        )
    return paths


_MADE = r"LR(BI|BD|DN)?|SR|bicubic|bilinear|nearest"
_BESIDE = re.compile(rf"[_-]?(SRF_\d+_)?(({_MADE})([_-]?x?\d+)?|x(2|3|4|6|8|16))", re.IGNORECASE)
"""Suffix that names of images made from an HR image add to its name."""

_RESULT = re.compile(r"[_-](?=.*[A-Za-z])")
"""Start of the suffix that the name of a result may add to that of an HR image."""

_HR = re.compile(r"(.+?)_HR([_-]?x\d+)?")
_LR = re.compile(r".*(_LR|LR(BI|BD|DN))([_-]?x\d+)?")
_FACTORS = (1, 2, 3, 4, 6, 8, 16)
CROP = 12
"""Crops of an image for different scales differ by less than this many pixels per side."""

_SHOWN = 5
_PARTS = ("benchmark", "benchmarks", "HR", "train", "validation")
"""Subfolders of a root that may contain the folders of sets."""


def hr_folders(top: Path, scale: int) -> list[tuple[Path, str]]:
    """List existing folders of a set that may hold its HR images, each with their name pattern.

    The layouts are those of SelfExSR (``image_SRF_4/*_HR.png``), RCAN and RDN (``x4/*_HR_x4.png``),
    EDSR (``HR``), BasicSR (``GTmod12``), and the folder itself.
    """
    inner = [(top / f"image_SRF_{scale}", "*_HR.*"), (top / f"x{scale}", "*_HR_*.*")]
    inner += [(top / name, "*") for name in (f"HR/x{scale}", "HR", "GTmod12")]
    inner += [(top, "*"), (top / "image_SRF_4", "*_HR.*")]
    present = [pair for pair in dict.fromkeys(inner) if os.path.isdir(pair[0])]
    # An empty folder counts only if no folder below it holds images.
    return [pair for pair in present if image_paths(*pair)] or present[:1]


def hr_images(paths: Sequence[Path]) -> list[Path]:
    """Select the HR images among a folder's images, by their names and sizes.

    Raises:
        HarnessError: the names say that some images were made from others, but the sizes do not.
    """
    matches = [_HR.fullmatch(path.stem) for path in paths]
    if any(matches):
        bases = tuple(f"{match[1]}_" for match in matches if match)
        marked = [path for path, match in zip(paths, matches, strict=True) if match]
        hr = set(marked)
        unclear = [p for p in paths if p not in hr and not f"{p.stem}_".startswith(bases)]
        if unclear:
            raise HarnessError(
                f"{unclear[0].parent} mixes {marked[0].name} with {unclear[0].name}: if images "
                "without _HR in their names are HR images, rename them; else move them away."
            )
        return marked
    stems = {path.stem: path for path in paths}
    return [path for path in paths if not _made_from(path, stems)]


def _made_from(path: Path, stems: dict[str, Path]) -> bool:
    """Whether an image was made from another one in the folder."""
    for end in range(len(path.stem) - 1, 0, -1):
        source = stems.get(path.stem[:end])
        if source and _BESIDE.fullmatch(path.stem[end:]):
            if _fits(image_size(path), image_size(source)):
                return True
            raise HarnessError(
                f"{path} is named like an LR image of {source.name}, but its size is not that of "
                "one: move it away, or rename it."
            )
    if _LR.fullmatch(path.stem):
        raise HarnessError(
            f"{path} is named like an LR image, but its HR image is not beside it: name the "
            "folder of the HR images, or rename the file."
        )
    return False


def bases(names: Sequence[str]) -> list[str]:
    """Return names of an HR image, and those without ``_HR`` that LR and SR images may add to."""
    return [*names, *(match[1] for name in names if (match := _HR.fullmatch(name)))]


def lr_files(files: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Select the files named like LR images of an HR image, such as ``baby_HR`` or ``img_001``."""
    made = re.compile(rf"({'|'.join(map(re.escape, bases(names)))})((?i:{_BESIDE.pattern}))?")
    return [path for path in files if made.fullmatch(path.stem)]


def _fits(
    small: tuple[int, int], large: tuple[int, int], factors: Sequence[int] = _FACTORS
) -> bool:
    return any(
        all(0 <= full - side * factor < CROP for side, full in zip(small, large, strict=True))
        for factor in factors
    )


def named_like_results(paths: Sequence[Path]) -> list[Path]:
    """Select images whose names add to that of another image of their size.

    A network may have made them, such as ``baby_EDSR.png`` beside ``baby.png``.
    """
    stems = {path.stem: path for path in paths}
    results = []
    for path in paths:
        bases = (path.stem[: match.start()] for match in _RESULT.finditer(path.stem))
        source = next((stems[stem] for stem in bases if stem in stems), None)
        if source and _fits(image_size(path), image_size(source), [1]):
            results.append(path)
    return results


def left_out(folder: Path, used: Sequence[Path], hr: Sequence[Path]) -> str:
    """List the unused files of a set's folder as text; empty if there are none.

    Some of the HR images may not belong to the set.
    """
    others = sorted(
        path for path in folder.iterdir() if path not in used and not path.name.startswith(".")
    )
    if not others:
        return ""
    named = [f"{path.name} ({_kind(path, hr)})" for path in others[:_SHOWN]]
    more = [f"{len(others) - _SHOWN} more"] if len(others) > _SHOWN else []
    return ", ".join([*named, *more])


def _kind(path: Path, hr: Sequence[Path]) -> str:
    if not os.path.exists(path):
        return "a broken link"
    if kind(path) != "a file":
        return kind(path)
    if path in hr:
        return "not an image of the set"
    return "made from an HR image" if path.suffix.lower() in SUFFIXES else "another format"


def named_folders(names: Sequence[str], places: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders below the roots with one of the names, ignoring case."""
    wanted = {name.lower() for name in names}
    for root in places:
        if root.name.lower() in wanted:
            yield root
        for parent in (root, *(root / part for part in _PARTS)):
            try:
                yield from sorted(p for p in parent.iterdir() if p.name.lower() in wanted)
            except OSError:  # a folder that cannot be read counts as empty
                continue
