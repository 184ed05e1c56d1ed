"""The test sets: what they consist of, and where they are found.

A published set is what its pixels' hashes say, whatever the files are called. Roots are searched
in this order: ``--data-root``, ``HARNESS_DATA`` (several, separated like PATH), the user cache.
Below a root, and inside ``benchmark/``, ``benchmarks/`` or ``HR/`` there, these layouts are known:
``Set5/``, ``Set5/HR/``, ``Set5/x4/*_HR_x4.png``, ``Set5/GTmod12/``, ``Set5/image_SRF_4/*_HR.png``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.download import cache_root, fetch
from harness.data.images import image_files, pixels_digest, read_image
from harness.data.layouts import hr_folders, hr_images, left_out, lr_files, named_folders
from harness.errors import HarnessError, MismatchError, UsageError
from harness.registry import DATASETS
from harness.specs import DatasetCard, RemoteFile, digest, file_digest, is_plain_name

Fetch = Callable[[Sequence[tuple[RemoteFile, Path]]], None]
"""What downloads files: `harness.data.download.fetch`, or one that shows how it goes."""


class DatasetUnavailable(HarnessError):
    """A test set is nowhere to be found."""


@dataclass(frozen=True)
class BenchmarkImage:
    """One HR image of a set that was found.

    Attributes:
        name: its name in the registry, or its file's stem.
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
class LRImage:
    """An LR image that is given instead of being made: where it lies, and its pixels' SHA-256."""

    path: Path
    pixels_sha256: str


@dataclass(frozen=True)
class Benchmark:
    """A test set that was found.

    Attributes:
        verified: every image is pixel for pixel the published one, with the crop of the scale.
        notes: sentences on what was not used, and on why a published set is not verified.
    """

    card: DatasetCard
    images: tuple[BenchmarkImage, ...]
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


def roots(data_root: Path | None = None) -> list[Path]:
    """The folders that are searched for sets, first choice first."""
    listed = os.environ.get("HARNESS_DATA", "").split(os.pathsep)
    chosen = [data_root] if data_root else []
    return [*chosen, *(Path(part) for part in listed if part), cache_root() / "data"]


def select(words: Sequence[str], data_root: Path | None = None) -> list[DatasetCard]:
    """The sets that the words of a ``--datasets`` list name, each once.

    A word is ``all``, a registered name, a glob, the path of a folder of HR images, or the name
    of such a folder below a root.

    Raises:
        UsageError: a word names nothing, two folders have one name, or one cannot be printed.
    """
    cards: dict[str, DatasetCard] = {}
    for word in words:
        folder = _own_folder(word, data_root)
        names = [] if folder else DATASETS.select(word.lower())
        for card in [_card_of(folder)] if folder else map(DATASETS.get, names):
            if cards.setdefault(card.name, card) != card:
                raise UsageError(f"Two test sets are called {card.name}: rename a folder.")
    if not cards:
        raise UsageError("No test sets are named: see harness list datasets.")
    return list(cards.values())


def _own_folder(word: str, data_root: Path | None) -> Path | None:
    """The folder a word names, by its path or below a root; None for registered sets."""
    if os.sep in word:
        if not os.path.isdir(word):
            raise UsageError(f"There is no folder {word}.")
        return Path(word).resolve()
    if word == "all" or word.lower() in DATASETS or word in (".", ".."):
        return None
    places = [Path(word), *(root / word for root in roots(data_root))]
    # Unlike Path.is_dir, it takes a name that is too long, or not to be looked at, for none.
    return next((path.resolve() for path in places if os.path.isdir(path)), None)


def _card_of(folder: Path) -> DatasetCard:
    """The card of a folder of HR images; what the set is, its pixels say later."""
    if not is_plain_name(folder.name):
        raise UsageError(f"The folder {str(folder)!a} has no name that can be printed: rename it.")
    return DatasetCard(folder.name, folder.name, root=folder)


def find(card: DatasetCard, scale: int, data_root: Path | None = None) -> Benchmark:
    """Find a set on this machine, complete and readable.

    Raises:
        DatasetUnavailable: it is nowhere.
        HarnessError: it was found but is empty, incomplete, altered or unreadable.
    """
    faults: list[HarnessError] = []
    refused = False
    for asked_for, folder, pattern in _folders(card, scale, data_root):
        if refused and not asked_for:
            break  # what was asked for is not passed over
        try:
            paths = image_files(folder, pattern)
            if card.known:
                return _identify(card, folder, paths, scale)
            used = hr_images(paths)
            own = card.root is not None and not _is_registered(card)
            made = (_own_set if own else _identify)(card, folder, used, scale)
            return _with_note(made, folder, used)
        except HarnessError as error:
            faults.append(error)
        except OSError as error:
            faults.append(HarnessError(f"{card.title} in {folder} cannot be read ({error})."))
        refused = refused or asked_for
    if faults:
        raise faults[0]
    raise DatasetUnavailable(f"{card.title} is not on this machine: {_how_to_obtain(card)}.")


def with_lr_images(benchmark: Benchmark, folder: Path, scale: int) -> Benchmark:
    """A set with the LR images of a folder, each found by the name of its HR image.

    Raises:
        HarnessError: one is missing, cannot be read, or has not the size of its HR image, cropped
            to multiples of the scale, divided by the scale.
    """
    hr = {image.path.resolve() for image in benchmark.images}
    files = [path for path in image_files(folder) if path.resolve() not in hr]
    images = []
    for image in benchmark.images:
        found = lr_files(files, [image.path.stem, image.name])
        of_scale = [path for path in found if path.stem.endswith(f"x{scale}")] or found
        if len(of_scale) > 1:
            raise HarnessError(
                f"{of_scale[0]} and {of_scale[1].name} are both named like the LR image of "
                f"{image.path.name}: name a folder with one of them."
            )
        path = next(iter(of_scale), None)
        if path is None:
            raise HarnessError(
                f"{folder} has no LR image of {image.path.name}: give each the name of its HR "
                f"image, or that with x{scale} or _LR behind it."
            )
        loaded = read_image(path)
        size = loaded.pixels.shape[1], loaded.pixels.shape[0]
        wanted = image.size[0] // scale, image.size[1] // scale
        if size != wanted:
            raise HarnessError(
                f"{path} is {size[0]} x {size[1]} pixels, and the LR image of {image.path.name} at "
                f"x{scale} is {wanted[0]} x {wanted[1]}: name the folder of the right LR images."
            )
        images.append(replace(image, lr=LRImage(path, loaded.sha256)))
    return replace(benchmark, images=tuple(images))


def find_or_fetch(
    card: DatasetCard, scale: int, data_root: Path | None = None, fetch: Fetch = fetch
) -> Benchmark:
    """Like `find`, after downloading a set that is missing and may be downloaded.

    A download that was cut short is completed.

    Raises:
        DatasetUnavailable: it is nowhere and cannot be downloaded.
        HarnessError: it was found and is not sound, or a download has another checksum.
    """
    try:
        return find(card, scale, data_root)
    except HarnessError as error:
        begun = any(path.exists() for _, path in downloads(card)) if _downloadable(card) else False
        if not _downloadable(card) or not (isinstance(error, DatasetUnavailable) or begun):
            raise
    try:
        fetch(downloads(card))
    except MismatchError:
        raise
    except HarnessError as error:
        raise DatasetUnavailable(
            f"{card.title} is not on this machine and cannot be downloaded: {error}"
        ) from error
    return find(card, scale, data_root)


def downloads(card: DatasetCard) -> list[tuple[RemoteFile, Path]]:
    """The files of a set and where the user cache keeps them.

    Raises:
        HarnessError: the set may not be downloaded.
    """
    if card.root:
        raise HarnessError(f"{card.title} is not for download: it lies in {card.root}.")
    if not _downloadable(card):
        raise HarnessError(f"{card.title} cannot be downloaded: {_how_to_obtain(card)}.")
    return [(image.file, cache_root() / image.file.path) for image in card.known]


def _downloadable(card: DatasetCard) -> bool:
    return bool(card.known) and not card.root


def _how_to_obtain(card: DatasetCard) -> str:
    return card.obtain or f"harness data fetch {card.name}, or name its root in HARNESS_DATA"


def _folders(
    card: DatasetCard, scale: int, data_root: Path | None
) -> Iterator[tuple[bool, Path, str]]:
    """Folders that may hold the HR images, and the pattern of their names.

    The first value says whether the folder was asked for, by its path or with ``--data-root``.
    """
    tops = [card.root] if card.root else named_folders(card.folders, roots(data_root))
    for top in filter(os.path.isdir, tops):
        asked_for = top == card.root or (data_root is not None and top.is_relative_to(data_root))
        yield from ((asked_for, *pair) for pair in hr_folders(top, scale))


def _own_set(card: DatasetCard, folder: Path, paths: list[Path], scale: int) -> Benchmark:
    """What a user's folder holds: a published set by its pixels, or a set of its own.

    An own set with the name of a registered one is told apart by the hash of its images.
    """
    registered = [DATASETS.get(name) for name in DATASETS]
    namesake = next((one for one in registered if _is_called(one, card.name)), None)
    for known in (one for one in registered if one.known):
        belong = (_belongs(known, path) for path in paths)
        as_many = len(paths) == len(known.known)
        if known is namesake:  # one that lacks some, or is of another scale, is told what it lacks
            is_it = any(belong) or (scale != 4 and as_many)
        else:
            is_it = as_many and all(belong)
        if is_it:
            return _identify(replace(known, root=card.root), folder, paths, scale)
    made = _identify(card, folder, paths, scale)
    if namesake is None:
        return made
    name = f"{card.name}-{made.sha256[:8]}"
    return replace(made, card=replace(card, name=name, title=name))


def _is_registered(card: DatasetCard) -> bool:
    return card.name in DATASETS and DATASETS.get(card.name) == card


def _is_called(card: DatasetCard, name: str) -> bool:
    return name.lower() in (other.lower() for other in (card.name, *card.folders))


def _belongs(card: DatasetCard, path: Path) -> bool:
    """Whether a file is an image of a published set."""
    same_bytes = file_digest(path) in (image.file.sha256 for image in card.known)
    return same_bytes or bool(_by_pixels(card, path)[0])


def _identify(card: DatasetCard, folder: Path, paths: list[Path], scale: int) -> Benchmark:
    """Say which image each file is, by its bytes or, failing that, by its pixels."""
    if not paths:
        raise HarnessError(f"{card.title}: there are no images in {folder}.")
    by_bytes = {image.file.sha256: image for image in card.known}
    found: dict[str, BenchmarkImage] = {}
    unread = []
    for path in paths:
        known = by_bytes.get(file_digest(path)) if by_bytes else None
        if known:
            size = (known.width, known.height)
            found[known.name] = BenchmarkImage(known.name, path, known.pixels_sha256, size)
        else:
            unread.append(path)
    strange: list[BenchmarkImage] = []
    if len(found) < len(card.known) or not card.known:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, image in pool.map(lambda path: _by_pixels(card, path), unread):
                if name:
                    found[name] = image
                else:
                    strange.append(image)
    everything = tuple(sorted([*found.values(), *strange], key=lambda image: image.name))
    if not card.known:
        return _uncatalogued(card, folder, everything)
    if len(found) == len(card.known):
        images = tuple(found[image.name] for image in card.known)
        return _at_scale(card, images, scale)
    if scale != 4 and len(everything) == card.count:
        _require_likeness(card, folder, strange)
        return Benchmark(card, everything, False, (_doubt(card, scale, _UNKNOWN_PIXELS),))
    raise HarnessError(_what_is_wrong(card, folder, found, strange))


_UNKNOWN_PIXELS = "its images are pinned as they are cropped for x4"


def _at_scale(card: DatasetCard, images: tuple[BenchmarkImage, ...], scale: int) -> Benchmark:
    """A set whose images are the published ones at x4, judged for another scale."""
    pairs = list(zip(images, card.known, strict=True))
    if scale == 4:
        return Benchmark(card, images, verified=True)
    if any(known.original is None for _, known in pairs):
        return Benchmark(card, images, False, (_doubt(card, scale, _UNKNOWN_PIXELS),))
    for image, known in pairs:
        wanted = _cropped(known.original or (0, 0), scale)
        if _cropped(image.size, scale) != wanted:
            width, height = wanted
            why = f"{image.name} is cropped for x4, where published results have {width} x {height}"
            return Benchmark(card, images, False, (_doubt(card, scale, why),))
        if wanted[0] > known.width or wanted[1] > known.height:
            return Benchmark(card, images, False, (_doubt(card, scale, _UNKNOWN_PIXELS),))
    return Benchmark(card, images, verified=True)


def _doubt(card: DatasetCard, scale: int, why: str) -> str:
    return f"{card.title} is not verified at x{scale}: {why}."


def _cropped(size: tuple[int, int], scale: int) -> tuple[int, int]:
    return size[0] - size[0] % scale, size[1] - size[1] % scale


def _require_likeness(card: DatasetCard, folder: Path, images: list[BenchmarkImage]) -> None:
    """Refuse images that cannot be crops of the published ones.

    In SelfExSR's Urban100 the HR images of ``image_SRF_2`` are of half size, for instance.
    """
    sizes = [(known.width, known.height) for known in card.known]
    for image in images:
        if sizes and not any(_is_near(image.size, size) for size in sizes):
            width, height = image.size
            raise HarnessError(
                f"{card.title} in {folder}: {image.name} is {width} x {height} pixels, and no "
                "published image is: name the folder of the images of full size."
            )


def _is_near(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return all(abs(a - b) < _CROP for a, b in zip(one, other, strict=True))


_CROP = 12
"""Pixels that crops for x2, x3 and x4 differ by, at most."""


def _with_note(benchmark: Benchmark, folder: Path, used: Sequence[Path]) -> Benchmark:
    said = left_out(folder, used)
    if not said:
        return benchmark
    return replace(benchmark, notes=(*benchmark.notes, f"Not used in {folder}: {said}."))


def _by_pixels(card: DatasetCard, path: Path) -> tuple[str, BenchmarkImage]:
    """An image and its name in the registry, or "".

    It is recognised by its pixels as they are or cropped to multiples of 4.
    """
    loaded = read_image(path)
    pixels = loaded.pixels
    known = {image.pixels_sha256: image.name for image in card.known}
    cropped = pixels[: pixels.shape[0] // 4 * 4, : pixels.shape[1] // 4 * 4]
    name = known.get(loaded.sha256) or known.get(pixels_digest(cropped), "")
    size = (pixels.shape[1], pixels.shape[0])
    return name, BenchmarkImage(name or path.stem, path, loaded.sha256, size)


def _uncatalogued(card: DatasetCard, folder: Path, images: tuple[BenchmarkImage, ...]) -> Benchmark:
    if card.count and len(images) != card.count:
        raise HarnessError(
            f"{card.title} has {card.count} images, and {folder} has {len(images)}: complete it."
        )
    names = [image.name for image in images]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise HarnessError(f"Two images in {folder} are called {twice}: rename one.")
    return Benchmark(card, images, verified=False)


def _what_is_wrong(
    card: DatasetCard,
    folder: Path,
    found: dict[str, BenchmarkImage],
    strange: list[BenchmarkImage],
) -> str:
    missing = [image.name for image in card.known if image.name not in found]
    names = ", ".join(image.path.name for image in strange[:3])
    altered = f"; {names} has other pixels than any of them" if strange else ""
    return (
        f"{card.title} in {folder} lacks {len(missing)} of its {len(card.known)} images "
        f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}){altered}: "
        f"restore them, or move the folder away and run harness data fetch {card.name}."
    )


@dataclass(frozen=True)
class Verdict:
    """Whether a set that was found is sound, in a sentence."""

    sound: bool
    said: str


def verify(words: Sequence[str], scale: int, data_root: Path | None = None) -> Iterator[Verdict]:
    """Decode every image of the sets; those that are not here fail where they were asked for.

    Raises:
        UsageError: a word names nothing.
    """
    for card in select(words, data_root):
        try:
            benchmark = find(card, scale, data_root)
            for image in benchmark.images:
                loaded = read_image(image.path)
                if loaded.sha256 != image.pixels_sha256:
                    raise HarnessError(f"The pixels of {image.path} are not those published.")
        except DatasetUnavailable as error:
            yield Verdict("all" in words, str(error))
        except HarnessError as error:
            yield Verdict(False, str(error))
        else:
            unverified = "not verified against published hashes" if card.known else "own images"
            kind = "as published" if benchmark.verified else f"readable, {unverified}"
            folder = benchmark.images[0].path.parent
            yield Verdict(True, f"{card.title}: {len(benchmark.images)} images, {kind}, {folder}")
