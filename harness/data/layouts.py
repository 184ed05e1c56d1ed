"""Where the HR images of a set lie in its folder, and what lies beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.data.images import SUFFIXES, image_paths, image_size
from harness.errors import HarnessError
from harness.files import kind

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
