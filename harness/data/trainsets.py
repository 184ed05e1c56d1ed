"""Training images: found or fetched, no test image among them, kept as flat arrays of pixels.

Decoding and resizing are done once; the arrays are memory-mapped afterwards. LR images are made by
the protocol itself. An image that is in a test set is refused.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from PIL import Image

from harness.data.images import (
    LoadedImage,
    hr_images,
    image_files,
    named_folders,
    pixels_digest,
    read_image,
)
from harness.data.pinned import (
    OfflineError,
    cache_root,
    fetch,
    pinned_rows,
    remote_file,
    unsound,
    unwritable,
)
from harness.data.testsets import Fetch, roots
from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import TEXT, regular, whole
from harness.protocol.protocols import RULES, Protocol, crop_to_multiple, make_sample
from harness.record import digest, file_digest
from harness.registry import DATASETS

if TYPE_CHECKING:
    from harness.cards import AnyArray, ByteArray, RemoteFile


FOLDERS = {
    "div2k": ("DIV2K", "DIV2K_train_HR"),
    "div2k-pair": ("DIV2K-pair", "DIV2K"),
    "bsds400": ("BSDS400",),
    "general100": ("General100",),
    "t91": ("T91",),
    "photos50": ("photos50", "photos"),
    "kodak24": ("Kodak24",),
}
"""Sets that are known by name, and what their folders may be called."""

_UNPINNED = {"div2k": 800}
"""How many images those sets have whose files are not pinned."""


@dataclass(frozen=True)
class TrainingImages:
    """HR and LR images side by side in two flat arrays.

    Attributes:
        hr: uint8, all HR images one after the other, rows of ``(H, W, C)``.
        lr: uint8 (``rgb``) or float32 in about [0, 1] (``y``), all LR images in the same order.
        sizes: int64 ``(images, 2)``, LR height and width.
        names: of the files, in the order of the arrays.
        channels: 1 or 3.
        scale: HR size over LR size.
        sha256: over the files' hashes, in order, and the rules: all that decides the values.
        files: SHA-256 of each file that was given.
        contents: hash of each image's pixels, see `harness.data.trainsets.content`.
        paths: of the files, in the order of the arrays.
        skipped: the files that cannot be read, with the reason.
        small: those too small for the protocol, with the reason.
        prepared: how many images were decoded and degraded now; 0 where the cache had them.
    """

    hr: AnyArray
    lr: AnyArray
    sizes: AnyArray
    names: tuple[str, ...]
    channels: int
    scale: int
    sha256: str
    files: Mapping[Path, str] = field(default_factory=dict)
    contents: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    skipped: Mapping[Path, str] = field(default_factory=dict)
    small: Mapping[Path, str] = field(default_factory=dict)
    prepared: int = 0

    def smaller_than(self, patch: int) -> dict[Path, str]:
        """The images that no LR patch of this side fits into, each with the reason."""
        return dict(self.small) | {
            path: f"it has {width} x {height} LR pixels, fewer than a patch of {patch}"
            for path, (height, width) in zip(self.paths, self.sizes.tolist(), strict=True)
            if min(height, width) < patch
        }


def find_images(
    words: Sequence[str], data_root: Path | None = None, fetch: Fetch = fetch
) -> list[Path]:
    """The HR images of training sets.

    Args:
        words: names of `FOLDERS`, of folders below a root, or paths of folders.
        data_root: searched before the roots of ``HARNESS_DATA`` and the user cache.
        fetch: downloads the files of a set that is missing and that are pinned.

    Raises:
        UsageError: a word names nothing.
        HarnessError: a folder has no images, or a set is not here and cannot be downloaded.
    """
    found: dict[Path, None] = {}
    for word in words:
        found |= dict.fromkeys(hr_images(image_files(_folder(word, data_root, fetch))))
    return list(found)


def _folder(word: str, data_root: Path | None, fetch: Fetch) -> Path:
    """The folder of HR images that a word names."""
    if os.sep in word or word not in FOLDERS:
        folders = [Path(word), *(root / word for root in roots(data_root))]
        folder = next((path for path in folders if os.path.isdir(path)), None)
        if folder is None:
            known = ", ".join(FOLDERS)
            raise UsageError(f"No training set or folder is called {word!r}: there are {known}.")
        return _hr_folder(folder)
    found, others = training_folder(word, data_root)
    return found or _fetched(word, others, fetch)


def _hr_folder(folder: Path) -> Path:
    """A folder of images, or the one folder in it that is called HR, or like DIV2K_train_HR.

    Raises:
        HarnessError: there are no images, or it is not clear which are meant.
    """
    if image_files(folder):
        return folder
    inner = [path for path in _subfolders(folder) if image_files(path)]
    hr = [path for path in inner if f"_{path.name.lower()}".endswith("_hr")]
    if len(hr) == 1:
        return hr[0]
    names = ", ".join(path.name for path in inner)
    where = f" itself, but in {names}: name one of them" if inner else ""
    raise HarnessError(f"There are no images in {folder}{where}.")


def lr_folders(folder: Path) -> list[Path]:
    """The folders of LR images that belong to a folder called HR, or like DIV2K_train_HR."""
    name = folder.name.lower()
    if not f"_{name}".endswith("_hr"):
        return []
    start = f"{name.removesuffix('hr')}lr"
    return [path for path in _subfolders(folder.parent) if path.name.lower().startswith(start)]


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none where one may not look."""
    try:
        return sorted(path for path in folder.iterdir() if os.path.isdir(path))
    except OSError:
        return []


def training_folder(name: str, data_root: Path | None = None) -> tuple[Path | None, list[str]]:
    """Where a set of `FOLDERS` lies: a folder with its name and as many images as it has.

    In the user cache, they must be the files that are pinned.

    Returns:
        the folder or None, and a sentence for each folder of the name that is something else.
    """
    count = count_of(name)
    others: list[str] = []
    names = {folder.lower() for folder in (*FOLDERS[name], "HR")}
    for folder in named_folders(FOLDERS[name], roots(data_root)):
        inner = [path for path in _subfolders(folder) if path.name.lower() in names]
        found = {path: len(image_files(path)) for path in (folder, *inner)}
        full = next((path for path, images in found.items() if images == count), None)
        damaged = _damaged(name, full)
        if full and not damaged:
            return full, others
        why = f"it has {max(found.values())} images, not {count}"
        others.append(
            f"{folder} is not {name}: {f'{damaged} is truncated or altered' if damaged else why}"
        )
    return None, others


def _damaged(name: str, folder: Path | None) -> Path | None:
    """A file that is not as its pin says, if the folder is that of the user cache."""
    try:
        files = training_downloads(name)
    except HarnessError:  # others than those that are downloaded may be there
        return None
    ours = [(file, path) for file, path in files if path.parent == folder]
    return next((path for _, path in unsound(ours)), None)


def count_of(name: str) -> int:
    """How many images a set of `FOLDERS` has."""
    return _UNPINNED.get(name) or len(_rows(name))


def is_pinned(name: str, files: Iterable[str]) -> bool:
    """Whether a set's files are, by their SHA-256, those that are pinned."""
    return bool(_rows(name)) and {row["sha256"] for row in _rows(name)} == set(files)


def _rows(name: str) -> list[dict[str, str]]:
    return [row for row in pinned_rows("trainsets") if row["dataset"] == name]


def training_downloads(name: str) -> list[tuple[RemoteFile, Path]]:
    """The files of a training set, and where the user cache keeps them.

    Raises:
        HarnessError: the set may not be downloaded.
    """
    rows = _rows(name)
    derived = any(row["note"] for row in rows)
    if derived or not rows:
        why = ", and its images are derived ones" if derived else " and may not be downloaded"
        raise HarnessError(
            f"{name} is not on this machine{why}: put its {count_of(name)} images into a "
            f"folder {FOLDERS[name][-1]} below a root of HARNESS_DATA."
        )
    folder = cache_root() / "data" / FOLDERS[name][0]
    return [(remote_file(row), folder / row["file"]) for row in rows]


def _fetched(name: str, others: Sequence[str], fetch: Fetch) -> Path:
    """The folder of a set that is downloaded now."""
    aside = "".join(f" ({sentence})" for sentence in others)
    try:
        files = training_downloads(name)
        fetch(files)
    except OfflineError as error:
        raise OfflineError(
            f"{name} is not on this machine{aside}, and its host cannot be reached: put its images "
            f"into a folder {FOLDERS[name][0]} below a root of HARNESS_DATA, or name others with "
            "--train-data and --val-data."
        ) from error
    except MismatchError:
        raise
    except HarnessError as error:
        raise HarnessError(f"{str(error).rstrip('.')}{aside}.") from error
    return files[0][1].parent


def prepare_images(
    paths: Sequence[Path],
    rules: Protocol,
    *,
    skip_bad: bool = False,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> TrainingImages:
    """Decode and degrade images on all cores, or find that done in the user cache.

    Images too small for the protocol are left out.

    Args:
        paths: the HR images, in any order.
        rules: the protocol that makes the LR images.
        skip_bad: leave out images that cannot be read, too, instead of stopping.
        progress: wraps the images while they are worked on.

    Raises:
        HarnessError: an image is bad, is in a test set, or the cache cannot be written or is
            damaged.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = dict(zip(paths, pool.map(file_digest, paths), strict=True))
    # One order, whatever was named first: patches are drawn by an image's place.
    paths = sorted(paths, key=lambda path: (path.name, files[path]))
    key = digest([[files[path] for path in paths], rules.sha256, RULES, _ORDER])
    known = testset_pixels()
    # Everything that decides what the folder holds, and whether it may be used.
    content_key = digest([key, sorted(known), skip_bad, _LAYOUT])
    folder = cache_root() / "training" / content_key[:16]
    missing = not folder.exists()
    if missing:
        try:
            _write(folder, paths, lambda path: _pair(path, rules, known), skip_bad, progress)
        except OSError as error:
            if not folder.exists():  # or else another process was faster
                raise unwritable(folder, error) from error
    index = _read_index(folder)
    colour, kept = rules.pipeline == "rgb", [paths[place] for place in index.places]
    return TrainingImages(
        np.memmap(folder / "hr.bin", np.uint8, "c"),
        np.memmap(folder / "lr.bin", np.uint8 if colour else np.float32, "c"),
        np.array(index.sizes, np.int64).reshape(-1, 2),
        tuple(path.name for path in kept),
        3 if colour else 1,
        rules.scale,
        key,
        files,
        tuple(index.contents),
        tuple(kept),
        {paths[place]: why for place, why in index.skipped.items()},
        {paths[place]: why for place, why in index.small.items()},
        len(paths) if missing else 0,
    )


_ORDER = 2
"""Raised whenever the images lie in another order: older checkpoints cannot go on then."""

_LAYOUT = 3
"""Raised whenever a cache folder holds something else, or another rule finds leaks."""


@dataclass(frozen=True)
class _Pair:
    """HR and LR pixels of one image, and the hash of its content."""

    hr: AnyArray
    lr: AnyArray
    content: str


@dataclass
class _Index:
    """What is in a cache folder.

    Attributes:
        places: of the images that are kept, among those that were given.
        sizes: their LR heights and widths.
        contents: the hashes of their pixels.
        skipped, small: why images were left out, by their places.
        arrays: SHA-256 of the files of pixels, by name.
        sha256: of the JSON of all this, with an empty string in this place.
    """

    places: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    small: dict[int, str] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)
    sha256: str = ""


def _read_index(folder: Path) -> _Index:
    """What is in a cache folder, all of it as it was written.

    Raises:
        HarnessError: it is not.
    """
    try:
        content = regular(folder / "index.json", TEXT).read_bytes()
        index = msgspec.json.decode(content, type=_Index)
        sound = (
            msgspec.json.encode(index) == content
            and index.sha256 == digest(asdict(replace(index, sha256="")))
            and all(file_digest(folder / name) == sha for name, sha in index.arrays.items())
        )
    except (OSError, ValueError, HarnessError):
        sound = False
    if not sound:
        raise HarnessError(f"The training cache {folder} is damaged: remove it, and train again.")
    return index


def _write(
    folder: Path,
    paths: Sequence[Path],
    pair: Callable[[Path], _Pair | HarnessError],
    skip_bad: bool,
    progress: Callable[[Iterable[Path]], Iterable[Path]],
) -> None:
    """Fill a cache folder under another name, and rename it once it is whole."""
    index = _Index()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(folder) as partial, ThreadPoolExecutor(os.cpu_count()) as pool:
        partial.mkdir()
        pairs = _in_order(pool, pair, paths)
        with (partial / "hr.bin").open("wb") as hr, (partial / "lr.bin").open("wb") as lr:
            for place, (_, made) in enumerate(zip(progress(paths), pairs, strict=True)):
                if isinstance(made, HarnessError):
                    small = isinstance(made, SmallImageError)
                    if not (skip_bad or small):
                        raise made
                    (index.small if small else index.skipped)[place] = str(made)
                    continue
                hr.write(np.ascontiguousarray(made.hr).data)
                lr.write(np.ascontiguousarray(made.lr).data)
                height, width = made.lr.shape[:2]
                index.places.append(place)
                index.sizes.append((height, width))
                index.contents.append(made.content)
        if not index.places:
            why = (index.skipped | index.small)[0]
            raise HarnessError(f"None of the training images can be used: {why}")
        index.arrays = {name: file_digest(partial / name) for name in ("hr.bin", "lr.bin")}
        index.sha256 = digest(asdict(index))
        (partial / "index.json").write_bytes(msgspec.json.encode(index))


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Path], _Pair | HarnessError], paths: Sequence[Path]
) -> Iterator[_Pair | HarnessError]:
    """What the work gives for each path, a few of them ahead, as memory is not endless."""
    ahead: deque[Future[_Pair | HarnessError]] = deque()
    try:
        for path in paths:
            ahead.append(pool.submit(work, path))
            if len(ahead) > 2 * (os.cpu_count() or 1):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def _pair(path: Path, rules: Protocol, known: dict[str, str]) -> _Pair | HarnessError:
    """One image as it is trained on, or why it cannot be; grey ones become like all others.

    Raises:
        LeakError: it is in a test set.
    """
    try:
        loaded = read_image(path)
        said = leak(path, loaded, known)
        if said:
            raise LeakError(said)
        height, width = loaded.pixels.shape[:2]
        if min(side - side % rules.scale for side in (height, width)) < rules.smallest_side:
            return SmallImageError(
                f"{path} has {width} x {height} pixels, and at least {rules.smallest_side} are "
                "needed on each side."
            )
        sample = make_sample(loaded.pixels, rules)
    except LeakError:
        raise
    except HarnessError as error:
        return error
    lr = sample.lr if sample.lr.dtype == np.uint8 else sample.lr.astype(np.float32)
    return _Pair(sample.hr, lr, content(loaded.pixels))


class SmallImageError(HarnessError):
    """An image is too small to train on."""


NEAR_DUPLICATES = {0xF0F0F4EC7246763B: 'the Set5 image "woman" in another size'}
"""Test images with known near-duplicates, by `fingerprint`: 302003 of BSDS500, and so one of the
classic 291 images, is "woman" enlarged 1.39 times.
"""

_SAME = 8
"""Bits in which fingerprints of one image may differ. Enlarged and saved as a JPEG, "woman" differs
in none, cut by 5 pixels on each side in 7, and 876 other images in 17 or more.
"""


class LeakError(HarnessError):
    """An image is used for two things that must have nothing in common."""


def leaking(paths: Iterable[Path]) -> Iterator[str]:
    """A sentence for each image that is in a test set, by its pixels or as a known near-duplicate.

    Raises:
        HarnessError: an image cannot be read.
    """
    known = testset_pixels()
    for path in paths:
        sentence = leak(path, read_image(path), known)
        if sentence:
            yield sentence


def testset_pixels() -> dict[str, str]:
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
    said = f"{owner}, pixel for pixel" if owner else _near_duplicate(loaded.pixels)
    return f"{path.name} is {said}: take it out of the {use} images." if said else ""


def _near_duplicate(pixels: ByteArray) -> str:
    """Which test image of `NEAR_DUPLICATES` this is; empty for all others."""
    own = fingerprint(pixels)
    near = (said for known, said in NEAR_DUPLICATES.items() if (own ^ known).bit_count() <= _SAME)
    return next(near, "")


def fingerprint(pixels: ByteArray) -> int:
    """64 bits that an image keeps when it is resized: a difference hash.

    Each says whether, of 8 rows of 9 block means, one is darker than the next.
    """
    means = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(means)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


def content(pixels: ByteArray) -> str:
    """Hash of an image's pixels, the same for its copy that is cropped to a multiple of four."""
    return pixels_digest(crop_to_multiple(pixels, 4))
