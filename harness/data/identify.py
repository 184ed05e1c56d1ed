"""What the files of a test set's folder are: which published images, and at which scales."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cards import DatasetCard
from harness.data.images import CROP, pixels_digest, read_image
from harness.errors import HarnessError
from harness.record import digest, file_digest
from harness.registry import DATASETS

_UNKNOWN_PIXELS = "only the pixels of its x4 crops are known"


class NotPublished(HarnessError):
    """The images of a folder are not those of the published set that it should hold."""


@dataclass(frozen=True)
class LRImage:
    """An LR image that is given instead of being made: where it lies, and its pixels' SHA-256."""

    path: Path
    pixels_sha256: str


@dataclass(frozen=True)
class SetImage:
    """One HR image of a set that was found.

    Attributes:
        name: its pinned name, or its file's stem.
        path: where it lies.
        pixels_sha256: of its decoded pixels.
        size: width and height.
        lr: its LR image, where one is given.
    """

    name: str
    path: Path
    pixels_sha256: str
    size: tuple[int, int]
    lr: LRImage | None = None


@dataclass(frozen=True)
class ImageSet:
    """A test set that was found.

    Attributes:
        verified: every image is pixel for pixel the published one, with the crop of the scale.
        notes: sentences on what was not used, and on why a published set is not verified.
    """

    card: DatasetCard
    images: tuple[SetImage, ...]
    verified: bool
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of the names, sizes and pixels of the images."""
        return digest([(image.name, image.size, image.pixels_sha256) for image in self.images])

    @property
    def lr_sha256(self) -> str | None:
        """Hash of the names and pixels of the LR images that are given; None without any."""
        given = [(image.name, image.lr.pixels_sha256) for image in self.images if image.lr]
        return digest(given) if given else None


def identify_folder(card: DatasetCard, folder: Path, paths: list[Path], scale: int) -> ImageSet:
    """Say what a user's folder holds: a published set by its pixels, or a set of its own.

    An own set that is called like a registered one has the hash of its images in its name.

    Args:
        card: named by the folder, or by the folder and the hash that its images must have.
        folder: holds the files.
        paths: the HR images.
        scale: the factor.

    Raises:
        HarnessError: an image cannot be read; a published set lacks images; the images have another
            hash than the name says; there are none, or two of one name.
    """
    name = card.root.name if card.root else card.name
    registered = [DATASETS.get(one) for one in DATASETS]
    namesake = next((one for one in registered if _is_called(one, name)), None)
    published: DatasetCard | None = None
    if namesake and (_is_folder_of(namesake, card) or _is_meant(namesake, paths, scale)):
        published = namesake
    else:
        published = next((one for one in registered if _is_whole(one, paths)), None)
    used = published or replace(card, name=name, title=name)
    found = identify(replace(used, root=card.root), folder, paths, scale)
    hashed = f"{name}-{found.sha256[:8]}"
    if card.name not in (name, hashed):
        raise HarnessError(
            f"The images in {folder} are those of {hashed}, not of {card.name}: name the folder of "
            "that set by its path."
        )
    if namesake and not published:
        return replace(found, card=replace(card, name=hashed, title=hashed))
    return found


def _is_called(card: DatasetCard, name: str) -> bool:
    return name.lower() in (other.lower() for other in (card.name, *card.folders))


def _is_folder_of(registered: DatasetCard, card: DatasetCard) -> bool:
    """Whether a user names by its path the folder that a plug-in registered."""
    return bool(registered.root and card.root and registered.root.resolve() == card.root.resolve())


def _is_whole(card: DatasetCard, paths: list[Path]) -> bool:
    """Whether files are the images of a published set, all of them."""
    as_many = bool(card.known) and len(paths) == len(card.known)
    return as_many and all(_belongs(card, path) for path in paths)


def _is_meant(card: DatasetCard, paths: list[Path], scale: int) -> bool:
    """Whether a folder that is called like a published set holds it, perhaps not whole.

    Then an error names the images that it lacks. Crops for x2 and x3 have other pixels: there sizes
    or names must fit. Of a set without known images their number must.
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
    same_bytes = file_digest(path) in (image.file.sha256 for image in card.known)
    return same_bytes or bool(_by_pixels(card, path)[0])


def identify(card: DatasetCard, folder: Path, paths: list[Path], scale: int) -> ImageSet:
    """Say which image of a set each file is, by its bytes or, failing that, by its pixels.

    Args:
        card: the set; one without pinned images consists of whatever the files are.
        folder: holds the files.
        paths: the HR images.
        scale: the factor.

    Raises:
        HarnessError: an image cannot be read; the set lacks images, or has others; there are none,
            or two of one name.
    """
    if not paths:
        raise HarnessError(f"{card.title}: there are no images in {folder}.")
    by_bytes = {image.file.sha256: image for image in card.known}
    found: dict[str, SetImage] = {}
    unread = []
    for path in paths:
        known = by_bytes.get(file_digest(path)) if by_bytes else None
        if known:
            size = (known.width, known.height)
            found[known.name] = SetImage(known.name, path, known.pixels_sha256, size)
        else:
            unread.append(path)
    strange: list[SetImage] = []
    if len(found) < len(card.known) or not card.known:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, image in pool.map(lambda path: _by_pixels(card, path), unread):
                if name:
                    found[name] = image
                else:
                    strange.append(image)
    everything = tuple(sorted([*found.values(), *strange], key=lambda image: image.name))
    if not card.known:
        return _unpinned(card, folder, everything)
    if len(found) == len(card.known):
        images = tuple(found[image.name] for image in card.known)
        return _at_scale(card, images, scale)
    if scale != 4 and len(everything) == card.count:
        _require_different_names(folder, everything)
        _require_likeness(card, folder, strange)
        return ImageSet(card, everything, False, (_doubt(card, scale, _UNKNOWN_PIXELS),))
    raise NotPublished(_what_is_wrong(card, folder, found, strange))


def _by_pixels(card: DatasetCard, path: Path) -> tuple[str, SetImage]:
    """An image and its pinned name, or "".

    It is recognised by its pixels as they are or cropped to multiples of 4.
    """
    loaded = read_image(path)
    pixels = loaded.pixels
    known = {image.pixels_sha256: image.name for image in card.known}
    cropped = pixels[: pixels.shape[0] // 4 * 4, : pixels.shape[1] // 4 * 4]
    name = known.get(loaded.sha256) or known.get(pixels_digest(cropped), "")
    size = (pixels.shape[1], pixels.shape[0])
    return name, SetImage(name or path.stem, path, loaded.sha256, size)


def _unpinned(card: DatasetCard, folder: Path, images: tuple[SetImage, ...]) -> ImageSet:
    """A set of which no hashes are known."""
    if card.count and len(images) != card.count:
        raise HarnessError(
            f"{card.title} has {card.count} images, and {folder} has {len(images)}: complete it."
        )
    _require_different_names(folder, images)
    return ImageSet(card, images, verified=False)


def _require_different_names(folder: Path, images: tuple[SetImage, ...]) -> None:
    names = [image.name for image in images]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise HarnessError(f"Two images in {folder} are called {twice}: rename one.")


def _at_scale(card: DatasetCard, images: tuple[SetImage, ...], scale: int) -> ImageSet:
    """A set whose images are the published ones at x4, judged for another scale."""
    pairs = list(zip(images, card.known, strict=True))
    if scale == 4:
        return ImageSet(card, images, verified=True)
    if any(known.original is None for _, known in pairs):
        return ImageSet(card, images, False, (_doubt(card, scale, _UNKNOWN_PIXELS),))
    for image, known in pairs:
        wanted = _cropped(known.original or (0, 0), scale)
        if _cropped(image.size, scale) != wanted:
            width, height = wanted
            why = f"{image.name} is cropped for x4, where published results have {width} x {height}"
            return ImageSet(card, images, False, (_doubt(card, scale, why),))
        if wanted[0] > known.width or wanted[1] > known.height:
            return ImageSet(card, images, False, (_doubt(card, scale, _UNKNOWN_PIXELS),))
    return ImageSet(card, images, verified=True)


def _doubt(card: DatasetCard, scale: int, why: str) -> str:
    return f"{card.title} is not verified at x{scale}: {why}."


def _cropped(size: tuple[int, int], scale: int) -> tuple[int, int]:
    return size[0] - size[0] % scale, size[1] - size[1] % scale


def _require_likeness(card: DatasetCard, folder: Path, images: list[SetImage]) -> None:
    """Refuse images that cannot be crops of the published ones.

    In SelfExSR's Urban100 the HR images of ``image_SRF_2`` are of half size, for instance.
    """
    for image in images:
        if not _is_like(card, image):
            width, height = image.size
            raise NotPublished(
                f"{card.title} in {folder}: {image.name} is {width} x {height} pixels, and no "
                "published image is: name the folder of the images of full size."
            )


def _is_like(card: DatasetCard, image: SetImage) -> bool:
    """Whether an image may be a crop of a published one, by its size."""
    sizes = [(known.width, known.height) for known in card.known]
    return any(
        all(abs(a - b) < CROP for a, b in zip(image.size, size, strict=True)) for size in sizes
    )


def _what_is_wrong(
    card: DatasetCard,
    folder: Path,
    found: dict[str, SetImage],
    strange: list[SetImage],
) -> str:
    missing = [image.name for image in card.known if image.name not in found]
    names = ", ".join(image.path.name for image in strange[:3])
    altered = f"; not among the published images: {names}" if strange else ""
    return (
        f"{card.title} in {folder} lacks {len(missing)} of its {len(card.known)} images "
        f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}){altered}: "
        f"restore them, or move the folder away and run harness data fetch {card.name}."
    )
