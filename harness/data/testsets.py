"""Test sets: select them by name, find or download them, and pair them with given LR images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.cards import DatasetCard, KnownImage, RemoteFile
from harness.data.identify import (
    ImageSet,
    LRImage,
    NotPublished,
    SetImage,
    identify,
    identify_folder,
)
from harness.data.images import (
    hr_folders,
    hr_images,
    image_files,
    image_paths,
    image_size,
    left_out,
    lr_files,
    named_folders,
    named_like_results,
    read_image,
)
from harness.data.pinned import cache_root, fetch, named_roots, pinned_rows, remote_file, unsound
from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import recorded_path
from harness.record import is_plain_name
from harness.registry import DATASETS

_MANGA109 = (
    "its licence forbids copies: apply at http://www.manga109.org/en/download.html and put the 109 "
    "test images into a folder Manga109"
)


@cache
def grey_images() -> Mapping[str, frozenset[str]]:
    """Map each pinned set to the names of its grey images."""
    rows = pinned_rows("testsets") + pinned_rows("demo")
    grey = [row for row in rows if row["mode"] == "L"]
    return {
        name: frozenset(row["image"] for row in grey if row["dataset"] == name)
        for name in dict.fromkeys(row["dataset"] for row in rows)
    }


def register_testsets() -> None:
    """Register the paper's five sets and ``demo``."""
    rows = pinned_rows("testsets") + pinned_rows("demo")
    for card in (
        DatasetCard("set5", "Set5", folders=("Set5",), benchmark=True),
        DatasetCard("set14", "Set14", folders=("Set14",), benchmark=True),
        DatasetCard("b100", "B100", folders=("B100", "BSD100", "BSDS100"), benchmark=True),
        DatasetCard("urban100", "Urban100", folders=("Urban100",), benchmark=True),
        DatasetCard("manga109", "Manga109", 109, ("Manga109",), benchmark=True, obtain=_MANGA109),
        DatasetCard("demo", "demo", root=_skimage_data()),
    ):
        known = tuple(
            KnownImage(
                row["image"],
                int(row["width"]),
                int(row["height"]),
                row["pixels_sha256"],
                remote_file(row),
                _original(row),
                tuple(row.get("usual_names", "").split()),
            )
            for row in rows
            if row["dataset"] == card.name
        )
        full = replace(card, known=known, count=card.count or len(known))
        DATASETS.add(card.name, full, __name__)


def _original(row: dict[str, str]) -> tuple[int, int] | None:
    """Width and height of an image before the crop for x4; None if unknown."""
    # The images of demo are not cropped.
    width, height = (row.get(f"original_{side}", row[side]) for side in ("width", "height"))
    return (int(width), int(height)) if width else None


def _skimage_data() -> Path:
    """Locate the photographs bundled with scikit-image, without importing it."""
    spec = find_spec("skimage")
    folders = (spec.submodule_search_locations if spec else None) or ["."]
    return Path(folders[0]) / "data"


Fetch = Callable[[Sequence[tuple[RemoteFile, Path]]], None]
"""A function that downloads files: `harness.data.pinned.fetch`, or one that shows progress."""


class DatasetUnavailable(HarnessError):
    """A test set is not on this machine."""


def roots(data_root: Path | None = None) -> list[Path]:
    """List the folders in which sets are searched, in order of preference."""
    chosen = [data_root] if data_root else []
    return [*chosen, *named_roots("HARNESS_DATA"), cache_root() / "data"]


def select(words: Sequence[str], data_root: Path | None = None) -> list[DatasetCard]:
    """Return the sets that the words of a ``--datasets`` list select, without duplicates.

    A word is ``all``, a registered name, a glob, the path of a folder of HR images, or the name
    of such a folder below a root, with or without the hash that reports append to it.

    Raises:
        UsageError: a word matches nothing, two folders have the same name, or a folder's name
            cannot be printed.
    """
    cards: dict[str, DatasetCard] = {}
    for word in words:
        own = _own_card(word, data_root)
        for card in [own] if own else map(DATASETS.get, DATASETS.select(word)):
            if cards.setdefault(card.name, card) != card:
                raise UsageError(f"Two test sets are called {card.name}: rename a folder.")
    if not cards:
        raise UsageError("No test sets are named: see harness list datasets.")
    return list(cards.values())


def _own_card(word: str, data_root: Path | None) -> DatasetCard | None:
    """Return a card for the folder that a word names; None if it names registered sets.

    The pixels decide later whether the folder holds a published set.
    """
    if os.sep in word:
        if not os.path.isdir(word):
            raise UsageError(f"There is no folder {word}.")
        return _card_of(_absolute(Path(word)))
    if word.lower() == "all" or DATASETS.spelling(word) in DATASETS or word in (".", ".."):
        return None
    folder = folder_called(word, data_root)
    if folder:
        return _card_of(folder)
    hashed = _HASHED.fullmatch(word)
    folder = folder_called(hashed[1], data_root) if hashed else None
    return replace(_card_of(folder), name=word, title=word) if folder else None


_HASHED = re.compile(r"(.+)-[0-9a-f]{8}")
"""The name of a user's own set, followed by the hash of its images to make it unique."""


def folder_called(name: str, data_root: Path | None) -> Path | None:
    """Find a folder by name, in the current folder or below a root."""
    places = [Path(name), *(root / name for root in roots(data_root))]
    # os.path.isdir returns False where Path.is_dir raises: name too long, permission denied.
    return next((_absolute(path) for path in places if os.path.isdir(path)), None)


def data_root_of(image_set: ImageSet) -> str:
    """Return the folder in which ``--data-root`` finds a set of a user's own images again.

    It is relative to the working folder. It is empty if the set is found without it, if its images
    are the published ones, or if it is not below the working folder.
    """
    card = image_set.card
    if image_set.verified or (card.name in DATASETS and DATASETS.get(card.name).root):
        return ""
    names = [name.lower() for name in card.folders]
    above = image_set.images[0].path.parents
    folder = card.root or next((up for up in above if up.name.lower() in names), None)
    if folder is None:
        return ""
    if card.name in DATASETS:
        found = [*named_folders(card.folders, roots())]
    else:
        found = [path for path in [folder_called(folder.name, None)] if path]
    parent = _absolute(folder).parent
    without_it = _absolute(folder) in map(_absolute, found)
    return "" if without_it or not parent.is_relative_to(Path.cwd()) else recorded_path(parent)


def _absolute(folder: Path) -> Path:
    """Make a path absolute and keep the name the user gave: links are not followed."""
    return Path(os.path.abspath(folder))


def _card_of(folder: Path) -> DatasetCard:
    if not is_plain_name(folder.name):
        raise UsageError(f"The folder {str(folder)!a} has no name that can be printed: rename it.")
    return DatasetCard(folder.name, folder.name, root=folder)


def find(card: DatasetCard, scale: int, data_root: Path | None = None) -> ImageSet:
    """Find a complete and readable copy of a set on this machine.

    Raises:
        DatasetUnavailable: the set is not on this machine.
        HarnessError: the set is empty, incomplete, altered or unreadable.
    """
    faults: list[HarnessError] = []
    refused = False
    own = card.root is not None and card not in map(DATASETS.get, DATASETS)
    for asked_for, top, folder, pattern in _folders(card, scale, data_root):
        if refused and not asked_for:
            break  # another copy must not hide an error in the folder the user asked for
        try:
            paths = image_files(folder, pattern)
            if card.known:
                return identify(card, folder, paths, scale)
            used = hr_images(paths)
            image_set = (identify_folder if own else identify)(card, folder, used, scale)
            return _with_notes(image_set, top, folder, used)
        except HarnessError as error:
            faults.append(error)
            if own and not isinstance(error, NotPublished):
                break  # the next folder would be a different set
        except OSError as error:
            faults.append(HarnessError(f"{card.title} in {folder} cannot be read ({error})."))
        refused = refused or asked_for
    if faults:
        raise faults[0]
    raise DatasetUnavailable(f"{card.title} is not on this machine: {how_to_obtain(card)}.")


def find_or_fetch(
    card: DatasetCard, scale: int, data_root: Path | None = None, fetch: Fetch = fetch
) -> ImageSet:
    """Find a set as `find` does, and download it first if it is missing and may be downloaded.

    An incomplete download is completed, and truncated or altered files in the user cache are
    downloaded again.

    Raises:
        DatasetUnavailable: the set is not on this machine and cannot be downloaded.
        HarnessError: the set is damaged, or a downloaded file has the wrong checksum.
    """
    cached = downloads(card) if _downloadable(card) else []
    try:
        image_set = find(card, scale, data_root)
        elsewhere = {image.path for image in image_set.images}.isdisjoint(p for _, p in cached)
        # At x2 and x3 find may take an altered image for another crop; the cache has no such crops.
        if image_set.verified or elsewhere or not unsound(cached):
            return image_set
    except HarnessError as error:
        started = any(path.exists() for _, path in cached)
        if not (started or (cached and isinstance(error, DatasetUnavailable))):
            raise
    damaged = next((path for _, path in unsound(cached) if path.exists()), None)
    try:
        fetch(cached)
    except MismatchError:
        raise
    except HarnessError as error:
        if damaged:
            raise HarnessError(
                f"{damaged} is truncated or altered and cannot be downloaded again: {error}"
            ) from error
        raise DatasetUnavailable(
            f"{card.title} is not on this machine and cannot be downloaded: {error}"
        ) from error
    return find(card, scale, data_root)


def first_images(image_set: ImageSet, count: int) -> ImageSet:
    """Keep the first images of a set, for a quick look; a set with no more is returned as it is.

    The result is a set of its own: it has another name and other pixels, and it is not verified.
    So its scores are never compared with printed numbers or those of the whole set.
    """
    if count >= len(image_set.images):
        return image_set
    images, card = image_set.images[:count], image_set.card
    names = {image.name for image in images}
    first = replace(
        card,
        name=f"{card.name}{FIRST}{count}",
        title=f"{card.title} (first {count})",
        count=count,
        known=tuple(image for image in card.known if image.name in names),
    )
    note = (
        f"{card.title}: the first {count} of {len(image_set.images)} images, as the set "
        f"{first.name}, which is not compared with printed numbers."
    )
    return replace(
        image_set, card=first, images=images, verified=False, notes=(*image_set.notes, note)
    )


FIRST = "-first"
"""Stands between a set's name and the number of its images in a name by `first_images`."""


def downloads(card: DatasetCard) -> list[tuple[RemoteFile, Path]]:
    """List the files of a set, with their paths in the user cache.

    Raises:
        HarnessError: the set may not be downloaded.
    """
    if card.root:
        raise HarnessError(f"{card.title} is not for download: it is in {card.root}.")
    if not _downloadable(card):
        raise HarnessError(f"{card.title} cannot be downloaded: {how_to_obtain(card)}.")
    return [(image.file, cache_root() / image.file.path) for image in card.known]


def _with_notes(image_set: ImageSet, top: Path, folder: Path, hr: Sequence[Path]) -> ImageSet:
    """Add notes on unused files in the set's folder, and on images that may be results."""
    notes = []
    used = [image.path for image in image_set.images]
    unused = left_out(folder, used, hr)
    if unused:
        notes.append(f"Not used in {folder}: {unused}.")
    above = len(image_paths(top)) if top != folder else 0
    if above:
        inner = folder.relative_to(top)
        notes.append(
            f"Not used: the images directly in {top} ({above}), since {inner} holds HR images."
        )
    results = [] if image_set.card.known else named_like_results(hr)
    if results:
        notes.append(
            f"{results[0].name} counts as an HR image, and by its name may be a network's result "
            f"({len(results)} like it in {folder}): move results away."
        )
    return replace(image_set, notes=(*image_set.notes, *notes))


def _downloadable(card: DatasetCard) -> bool:
    return bool(card.known) and not card.root


def how_to_obtain(card: DatasetCard) -> str:
    """Say how to get a set that is not on this machine."""
    return card.obtain or f"harness data fetch {card.name}, or name its root in HARNESS_DATA"


def _folders(
    card: DatasetCard, scale: int, data_root: Path | None
) -> Iterator[tuple[bool, Path, Path, str]]:
    """Yield each folder of a set, the folder inside it for HR images, and their name pattern.

    The first value says whether the user asked for the folder, by its path or with ``--data-root``.
    """
    tops = [card.root] if card.root else named_folders(card.folders, roots(data_root))
    for top in filter(os.path.isdir, tops):
        asked_for = top == card.root or (data_root is not None and top.is_relative_to(data_root))
        yield from ((asked_for, top, *pair) for pair in hr_folders(top, scale))


@dataclass(frozen=True)
class SetCheck:
    """The result of checking a set, in words; an absent set is not on this machine."""

    sound: bool
    message: str
    absent: bool = False


def verify(words: Sequence[str], scale: int, data_root: Path | None = None) -> Iterator[SetCheck]:
    """Check the sets by decoding every image.

    A set that is not on this machine is a failure, unless ``all`` selected it.

    Raises:
        UsageError: a word matches nothing.
    """
    for card in select(words, data_root):
        try:
            image_set = find(card, scale, data_root)
            for image in image_set.images:
                loaded = read_image(image.path)
                if loaded.sha256 != image.pixels_sha256:
                    raise HarnessError(f"The pixels of {image.path} are not those published.")
        except DatasetUnavailable as error:
            yield SetCheck("all" in words, str(error), absent=True)
        except HarnessError as error:
            yield SetCheck(False, str(error))
        else:
            yield SetCheck(True, _describe(image_set))


def _describe(image_set: ImageSet) -> str:
    """Describe a sound set in words; its notes say why it is not verified."""
    card = image_set.card
    reason = "no published hashes" if card.name in DATASETS else "own images"
    state = "readable" if card.known else f"readable, {reason}"
    state = "as published" if image_set.verified else state
    folder = image_set.images[0].path.parent
    text = f"{card.title}: {len(image_set.images)} images, {state}, {folder}"
    return " ".join([f"{text}.", *image_set.notes]) if image_set.notes else text


def with_lr_images(image_set: ImageSet, folder: Path, scale: int) -> ImageSet:
    """Add the LR images of a folder to a set, matched by the names of the HR images.

    Raises:
        HarnessError: an LR image is missing, cannot be read, or its size is not that of its HR
            image, cropped to multiples of the scale, divided by the scale.
    """
    hr_paths = {image.path.resolve() for image in image_set.images}
    files = [path for path in image_files(folder) if path.resolve() not in hr_paths]
    images = (replace(hr, lr=_lr_image(hr, files, folder, scale)) for hr in image_set.images)
    return replace(image_set, images=tuple(images))


def _lr_image(image: SetImage, files: list[Path], folder: Path, scale: int) -> LRImage:
    """Find the LR image of an HR image among the files of a folder."""
    named = lr_files(files, [image.path.stem, image.name])
    if not named:
        raise HarnessError(
            f"{folder} has no LR image of {image.path.name}: give each the name of its HR "
            f"image, with or without x{scale} or _LR behind it."
        )
    wanted = image.size[0] // scale, image.size[1] // scale
    fitting = [path for path in named if image_size(path) == wanted]
    if not fitting:
        width, height = image_size(named[0])
        raise HarnessError(
            f"{named[0]} is {width} x {height} pixels, and the LR image of {image.path.name} at "
            f"x{scale} is {wanted[0]} x {wanted[1]}: name the folder of the right LR images."
        )
    if len(fitting) > 1:
        raise HarnessError(
            f"{fitting[0]} and {fitting[1].name} are both named like the LR image of "
            f"{image.path.name}: name a folder with only one of them."
        )
    return LRImage(fitting[0], read_image(fitting[0]).sha256)
