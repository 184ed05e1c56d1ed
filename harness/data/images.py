"""Images: how they lie in folders, and what is in a file, as 8-bit grey or RGB, nothing guessed."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
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


_MADE = r"LR(BI|BD|DN)?|SR|bicubic|bilinear|nearest"
_BESIDE = re.compile(rf"[_-]?(SRF_\d+_)?(({_MADE})([_-]?x?\d+)?|x(2|3|4|6|8|16))", re.IGNORECASE)
"""What follows the name of an HR image in those of images that were made from it."""

_RESULT = re.compile(r"[_-](?=.*[A-Za-z])")
"""Where what follows an HR image's name may begin in that of a result."""

_HR = re.compile(r"(.+?)_HR([_-]?x\d+)?")
_LR = re.compile(r".*(_LR|LR(BI|BD|DN))([_-]?x\d+)?")
_FACTORS = (1, 2, 3, 4, 6, 8, 16)
CROP = 12
"""Pixels that crops of an image for different scales differ by, at most."""

_SHOWN = 5
_PARTS = ("benchmark", "benchmarks", "HR", "train", "validation")
"""Folders of a root in which the folders of sets may lie."""


def hr_folders(top: Path, scale: int) -> list[tuple[Path, str]]:
    """Existing folders of a set that may hold its HR images, each with the pattern of their names.

    The layouts are those of SelfExSR (``image_SRF_4/*_HR.png``), RCAN and RDN (``x4/*_HR_x4.png``),
    EDSR (``HR``), BasicSR (``GTmod12``), and the folder itself.
    """
    inner = [(top / f"image_SRF_{scale}", "*_HR.*"), (top / f"x{scale}", "*_HR_*.*")]
    inner += [(top / name, "*") for name in (f"HR/x{scale}", "HR", "GTmod12")]
    inner += [(top, "*"), (top / "image_SRF_4", "*_HR.*")]
    present = [pair for pair in dict.fromkeys(inner) if os.path.isdir(pair[0])]
    # An empty folder counts only where nothing below it holds images.
    return [pair for pair in present if image_paths(*pair)] or present[:1]


def hr_images(paths: Sequence[Path]) -> list[Path]:
    """Those of a folder's images that are HR images, by their names and sizes.

    Raises:
        HarnessError: names say that some were made from others, and sizes contradict.
    """
    marked = [_HR.fullmatch(path.stem) for path in paths]
    if any(marked):
        bases = tuple(f"{found[1]}_" for found in marked if found)
        kept = [path for path, found in zip(paths, marked, strict=True) if found]
        chosen = set(kept)
        strange = [p for p in paths if p not in chosen and not f"{p.stem}_".startswith(bases)]
        if strange:
            raise HarnessError(
                f"{strange[0].parent} mixes {kept[0].name} with {strange[0].name}: are those "
                "without _HR in their names HR images? Move others away, or rename them."
            )
        return kept
    stems = {path.stem: path for path in paths}
    return [path for path in paths if not _made_from(path, stems)]


def _made_from(path: Path, stems: dict[str, Path]) -> bool:
    """Whether an image was made from another one of the folder."""
    for end in range(len(path.stem) - 1, 0, -1):
        source = stems.get(path.stem[:end])
        if source and _BESIDE.fullmatch(path.stem[end:]):
            if _fits(image_size(path), image_size(source)):
                return True
            raise HarnessError(
                f"{path} is named like an LR image of {source.name}, and its size is not that of "
                "one: move it away, or rename it."
            )
    if _LR.fullmatch(path.stem):
        raise HarnessError(
            f"{path} is named like an LR image, and its HR image is not beside it: name the "
            "folder of the HR images, or rename it."
        )
    return False


def lr_files(files: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Those of some files that are named like LR images of an HR image.

    Args:
        files: to choose from.
        names: those that the HR image goes by, such as ``baby_HR`` or ``img_001``.
    """
    marked = [found[1] for name in names if (found := _HR.fullmatch(name))]
    rests = {
        path: [path.stem[len(n) :] for n in (*names, *marked) if path.stem.startswith(n)]
        for path in files
    }
    return [
        path
        for path, some in rests.items()
        if any(not rest or _BESIDE.fullmatch(rest) for rest in some)
    ]


def _fits(
    small: tuple[int, int], large: tuple[int, int], factors: Sequence[int] = _FACTORS
) -> bool:
    return any(
        all(0 <= whole - part * by < CROP for part, whole in zip(small, large, strict=True))
        for by in factors
    )


def named_like_results(paths: Sequence[Path]) -> list[Path]:
    """HR images whose names extend that of another one of their size.

    Networks may have made them, such as ``baby_EDSR.png`` beside ``baby.png``.
    """
    stems = {path.stem: path for path in paths}
    found = []
    for path in paths:
        begins = (path.stem[: end.start()] for end in _RESULT.finditer(path.stem))
        source = next((stems[stem] for stem in begins if stem in stems), None)
        if source and _fits(image_size(path), image_size(source), [1]):
            found.append(path)
    return found


def left_out(folder: Path, used: Sequence[Path], hr: Sequence[Path]) -> str:
    """What lies in a folder beside the images that are used, as a clause; empty if nothing does.

    Args:
        folder: holds the files.
        used: the images of the set.
        hr: the HR images, of which some may not belong to the set.
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
    """Folders below the roots that carry one of the names, in any case of letters."""
    wanted = {name.lower() for name in names}
    for root in places:
        if root.name.lower() in wanted:
            yield root
        for parent in (root, *(root / part for part in _PARTS)):
            try:
                yield from sorted(p for p in parent.iterdir() if p.name.lower() in wanted)
            except OSError:  # a folder that may not be read is one that has nothing
                continue
