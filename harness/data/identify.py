"""What image files are: which images of published test sets, and so leaks into a training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from harness.cards import DatasetCard
from harness.data.images import CROP, LoadedImage, is_grey, pixels_digest, read_image
from harness.data.pinned import sha256_pin
from harness.errors import HarnessError
from harness.protocol.rules import crop_to_multiple
from harness.record import digest
from harness.registry import DATASETS

if TYPE_CHECKING:
    from harness.cards import ByteArray

_UNKNOWN_PIXELS = "only the pixels of its x4 crops are known"


class NotPublished(HarnessError):
    """The images of a folder are not those of the published set it should hold."""


@dataclass(frozen=True)
class LRImage:
    """An LR image that the user gives instead of the protocol's: its path and pixel SHA-256."""

    path: Path
    pixels_sha256: str


@dataclass(frozen=True)
class SetImage:
    """One HR image of a set on this machine, under its pinned name or the file's stem."""

    name: str
    path: Path
    pixels_sha256: str
    size: tuple[int, int]
    """Width and height."""
    lr: LRImage | None = None


@dataclass(frozen=True)
class ImageSet:
    """A test set on this machine.

    Attributes:
        verified: every image equals the published one, pixel for pixel, with the crop of the scale.
        notes: sentences on unused files, and on why a published set is not verified.
    """

    card: DatasetCard
    images: tuple[SetImage, ...]
    verified: bool
    notes: tuple[str, ...] = ()

    @cached_property
    def grey(self) -> frozenset[str]:
        """The images that are grey, or whose given LR image is: the rule for these concerns them.

        Raises:
            HarnessError: an image is missing.
        """
        return frozenset(
            image.name
            for image in self.images
            if any(is_grey(file.path) for file in (image, image.lr) if file)
        )

    @property
    def sha256(self) -> str:
        """Hash of the names, sizes and pixels of the images."""
        return digest([(image.name, image.size, image.pixels_sha256) for image in self.images])

    @property
    def lr_sha256(self) -> str | None:
        """Hash of the names and pixels of the given LR images; None without any."""
        given = [(image.name, image.lr.pixels_sha256) for image in self.images if image.lr]
        return digest(given) if given else None


def identify_folder(card: DatasetCard, folder: Path, paths: list[Path], scale: int) -> ImageSet:
    """Identify a user's folder: a published set, recognised by its pixels, or the user's own set.

    An own set with the name of a registered one gets the hash of its images added to its name. The
    card has the folder's name, or that name with the hash that its images must have.

    Raises:
        HarnessError: the hash of the images differs from the one in the name, or see `identify`.
    """
    name = card.root.name if card.root else card.name
    cards = [DATASETS.get(key) for key in DATASETS]
    namesake = next((other for other in cards if _is_called(other, name)), None)
    if namesake and (_is_folder_of(namesake, card) or _is_meant(namesake, paths, scale)):
        published: DatasetCard | None = namesake
    else:
        published = next((other for other in cards if _is_complete(other, paths)), None)
    used = published or replace(card, name=name, title=name)
    image_set = identify(replace(used, root=card.root), folder, paths, scale)
    hashed = f"{name}-{image_set.sha256[:8]}"
    if card.name not in (name, hashed):
        raise HarnessError(
            f"The images in {folder} are those of {hashed}, not of {card.name}: name the folder of "
            "that set by its path."
        )
    if namesake and not published:
        return replace(image_set, card=replace(card, name=hashed, title=hashed))
    return image_set


def _is_called(card: DatasetCard, name: str) -> bool:
    return name.lower() in (other.lower() for other in (card.name, *card.folders))


def _is_folder_of(registered: DatasetCard, card: DatasetCard) -> bool:
    """Whether the user gave the path of a folder that a plug-in registered."""
    return bool(registered.root and card.root and registered.root.resolve() == card.root.resolve())


def _is_complete(card: DatasetCard, paths: list[Path]) -> bool:
    """Whether the files are exactly the images of a published set."""
    same_count = bool(card.known) and len(paths) == len(card.known)
    return same_count and all(_belongs(card, path) for path in paths)


def _is_meant(card: DatasetCard, paths: list[Path], scale: int) -> bool:
    """Whether a folder with the name of a published set holds that set, perhaps incomplete.

    If it is incomplete, the error then names the missing images. Crops for x2 and x3 have other
    pixels, so their sizes or names must match; for a set without known images, the number must.
    """
    if not card.known:
        return len(paths) == card.count
    if any(_belongs(card, path) for path in paths):
        return True
    if scale == 4 or len(paths) != len(card.known):
        return False
    named = all(any(_is_named(path, image.name) for image in card.known) for path in paths)
    return named or all(_is_like(card, _by_pixels(card, path)[1]) for path in paths)


def _is_named(path: Path, image: str) -> bool:
    return path.stem == image or path.stem.startswith((f"{image}_", f"{image}x"))


def _belongs(card: DatasetCard, path: Path) -> bool:
    """Whether a file is an image of a published set."""
    same_bytes = sha256_pin(path) in (image.file.pin for image in card.known)
    return same_bytes or bool(_by_pixels(card, path)[0])


def _sets_in(folder: Path, most: int = 5) -> str:
    """Say how to score the sets in the folders of a folder; empty if it has none."""
    names = sorted(path.name for path in folder.glob("*/"))
    some = ", ".join([*names[:most], *["..."] * (len(names) > most)])
    hint = f"; its folders are {some}: name one, or set HARNESS_DATA={folder} and name sets"
    return hint if names else ""


def identify(card: DatasetCard, folder: Path, paths: list[Path], scale: int) -> ImageSet:
    """Match each file to an image of a set, by its bytes or else by its pixels.

    All files belong to a set without pinned images.

    Raises:
        HarnessError: an image cannot be read; the set lacks images, or has other images; there are
            no images, or two with the same name.
    """
    if not paths:
        sets = _sets_in(folder) if card.root else ""
        raise HarnessError(f"{card.title}: there are no images in {folder}{sets}.")
    by_bytes = {image.file.pin: image for image in card.known}
    found: dict[str, SetImage] = {}
    unread = []
    for path in paths:
        known = by_bytes.get(sha256_pin(path)) if by_bytes else None
        if known:
            size = (known.width, known.height)
            found[known.name] = SetImage(known.name, path, known.pixels_sha256, size)
        else:
            unread.append(path)
    unknown: list[SetImage] = []
    if len(found) < len(card.known) or not card.known:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, image in pool.map(lambda path: _by_pixels(card, path), unread):
                if name:
                    found[name] = image
                else:
                    unknown.append(image)
    all_images = tuple(sorted([*found.values(), *unknown], key=lambda image: image.name))
    if not card.known:
        return _unpinned(card, folder, all_images)
    if len(found) == len(card.known):
        images = tuple(found[image.name] for image in card.known)
        return _at_scale(card, images, scale)
    if scale != 4 and len(all_images) == card.count:
        _require_different_names(folder, all_images)
        unlike = next((image for image in unknown if not _is_like(card, image)), None)
        if unlike:
            width, height = unlike.size
            raise NotPublished(
                f"{card.title} in {folder}: {unlike.name} is {width} x {height} pixels, and no "
                "published image is: name the folder of the full-size images."
            )
        return _unverified(card, all_images, scale, _UNKNOWN_PIXELS)
    raise NotPublished(_mismatch(card, folder, found, unknown))


def _by_pixels(card: DatasetCard, path: Path) -> tuple[str, SetImage]:
    """Read an image, and return its pinned name (empty if unknown) with it.

    The pixels must be those of a known image, as they are or cropped to multiples of 4.
    """
    loaded = read_image(path)
    known = {image.pixels_sha256: image.name for image in card.known}
    name = known.get(loaded.sha256) or known.get(content(loaded.pixels), "")
    height, width = loaded.pixels.shape[:2]
    return name, SetImage(name or path.stem, path, loaded.sha256, (width, height))


def _unpinned(card: DatasetCard, folder: Path, images: tuple[SetImage, ...]) -> ImageSet:
    """Make a set without known hashes."""
    if card.count and len(images) != card.count:
        raise HarnessError(
            f"{card.title} has {card.count} images, and {folder} has {len(images)}: complete it."
        )
    _require_different_names(folder, images)
    return ImageSet(card, images, verified=False)


def _require_different_names(folder: Path, images: tuple[SetImage, ...]) -> None:
    names = [image.name for image in images]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise HarnessError(f"Two images in {folder} are called {duplicate}: rename one.")


def _at_scale(card: DatasetCard, images: tuple[SetImage, ...], scale: int) -> ImageSet:
    """Make a set of images that are the published ones at x4, and judge it for a scale."""
    if scale == 4:
        return ImageSet(card, images, verified=True)
    if any(known.original is None for known in card.known):
        return _unverified(card, images, scale, _UNKNOWN_PIXELS)
    for image, known in zip(images, card.known, strict=True):
        width, height = _cropped(known.original or (0, 0), scale)
        if _cropped(image.size, scale) != (width, height):
            why = f"{image.name} is cropped for x4, where published results have {width} x {height}"
            return _unverified(card, images, scale, why)
        if width > known.width or height > known.height:
            return _unverified(card, images, scale, _UNKNOWN_PIXELS)
    return ImageSet(card, images, verified=True)


def _unverified(card: DatasetCard, images: tuple[SetImage, ...], scale: int, why: str) -> ImageSet:
    note = f"{card.title} is not verified at x{scale}: {why}."
    return ImageSet(card, images, verified=False, notes=(note,))


def _cropped(size: tuple[int, int], scale: int) -> tuple[int, int]:
    return size[0] - size[0] % scale, size[1] - size[1] % scale


def _is_like(card: DatasetCard, image: SetImage) -> bool:
    """Whether an image has the size of a crop of a published one.

    For instance, the HR images of ``image_SRF_2`` in SelfExSR's Urban100 have half the size.
    """
    width, height = image.size
    return any(
        abs(width - known.width) < CROP and abs(height - known.height) < CROP
        for known in card.known
    )


def _mismatch(
    card: DatasetCard, folder: Path, found: dict[str, SetImage], unknown: list[SetImage]
) -> str:
    """Say which images of a set are missing, and which files do not belong to it."""
    missing = [image.name for image in card.known if image.name not in found]
    names = ", ".join(image.path.name for image in unknown[:3])
    altered = f"; not among the published images: {names}" if unknown else ""
    return (
        f"{card.title} in {folder} lacks {len(missing)} of its {len(card.known)} images "
        f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}){altered}: "
        f"restore them, or move the folder away and run harness data fetch {card.name}."
    )


NEAR_DUPLICATES = {0xF0F0F4EC7246763B: 'the Set5 image "woman" in another size'}
"""Test images with known near-duplicates, by `fingerprint`: image 302003 of BSDS500, which is also
one of the classic 291 images, is "woman" enlarged 1.39 times.
"""

_SAME = 8
"""The most bits in which two fingerprints of one image differ. "woman" enlarged and saved as JPEG
differs in no bit, and cropped by 5 pixels on each side in 7; 876 other images differ in 17 or more.
"""


class LeakError(HarnessError):
    """An image is in two sets that must not overlap."""


def leaking(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a message for each image that is in a test set, or nearly equal to a known test image.

    Raises:
        HarnessError: an image cannot be read.
    """
    known = testset_pixels()
    for path in paths:
        message = leak(path, read_image(path), known)
        if message:
            yield message


def testset_pixels() -> dict[str, str]:
    """Map the pixel hash of each known test image to its name."""
    return {
        image.pixels_sha256: f"{image.name} of {card.title}"
        for card in map(DATASETS.get, DATASETS)
        if card.benchmark
        for image in card.known
    }


def leak(path: Path, loaded: LoadedImage, known: dict[str, str], use: str = "training") -> str:
    """Return the error message if an image is in a test set, else an empty string."""
    owner = known.get(loaded.sha256) or known.get(content(loaded.pixels))
    match = f"{owner}, pixel for pixel" if owner else _near_duplicate(loaded.pixels)
    return f"{path.name} is {match}: take it out of the {use} images." if match else ""


def _near_duplicate(pixels: ByteArray) -> str:
    """Name the test image of `NEAR_DUPLICATES` that this image is like; empty if none."""
    own = fingerprint(pixels)
    near = (name for known, name in NEAR_DUPLICATES.items() if (own ^ known).bit_count() <= _SAME)
    return next(near, "")


def fingerprint(pixels: ByteArray) -> int:
    """Compute a difference hash of 64 bits, which hardly changes when the image is resized.

    Each bit says whether, in 8 rows of 9 block means, one mean is darker than the next.
    """
    means = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(means)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


def content(pixels: ByteArray) -> str:
    """Hash an image's pixels; a copy cropped to multiples of 4 has the same hash."""
    return pixels_digest(crop_to_multiple(pixels, 4))
