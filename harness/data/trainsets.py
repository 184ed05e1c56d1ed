"""Training images: find or download them, and cache their pixels in flat arrays.

Images are decoded and resized once; after that the arrays are memory-mapped. The protocol itself
makes the LR images. An image that is in a test set is refused.
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

from harness.data.identify import LeakError, content, leak, testset_pixels
from harness.data.images import hr_images, image_files, named_folders, read_image
from harness.data.pinned import (
    OfflineError,
    cache_root,
    fetch,
    pinned_rows,
    remote_file,
    unsound,
    unwritable,
)
from harness.data.testsets import Fetch, folder_called, roots
from harness.errors import HarnessError, MismatchError, UsageError
from harness.files import TEXT, regular, whole
from harness.protocol.rules import RULES, Protocol, make_sample
from harness.record import digest, file_digest
from harness.registry import near_names

if TYPE_CHECKING:
    from harness.cards import AnyArray, RemoteFile

    _Pair = tuple[AnyArray, AnyArray, str]
    """The HR and LR pixels of one image, and the hash of its content."""

FOLDERS = {
    "div2k": ("DIV2K", "DIV2K_train_HR"),
    "bsds400": ("BSDS400",),
    "general100": ("General100",),
    "t91": ("T91",),
    "photos50": ("photos50", "photos"),
    "kodak24": ("Kodak24",),
}
"""Training sets known by name, with the names their folders may have."""

_UNPINNED = {"div2k": 800}
"""Number of images of each set whose files are not pinned."""


@dataclass(frozen=True)
class TrainingImages:
    """HR and LR images side by side in two flat arrays.

    Attributes:
        hr: uint8, all HR images one after the other, each ``(H, W, C)`` in row order.
        lr: uint8 (``rgb``) or float32 in about [0, 1] (``y``), all LR images in the same order.
        sizes: int64 ``(images, 2)``, LR height and width.
        paths: the file paths, in the order of the arrays.
        channels: 1 or 3.
        scale: HR size over LR size.
        sha256: hash of the files' hashes, in order, and of the rules: all that decides the values.
        files: SHA-256 of each input file.
        contents: hash of each image's pixels, see `harness.data.identify.content`.
        skipped: the files that cannot be read, each with the reason.
        small: the files too small for the protocol, each with the reason.
        prepared: number of images decoded and degraded now; 0 if the cache had them.
    """

    hr: AnyArray
    lr: AnyArray
    sizes: AnyArray
    paths: tuple[Path, ...]
    channels: int
    scale: int
    sha256: str
    files: Mapping[Path, str] = field(default_factory=dict)
    contents: tuple[str, ...] = ()
    skipped: Mapping[Path, str] = field(default_factory=dict)
    small: Mapping[Path, str] = field(default_factory=dict)
    prepared: int = 0

    def smaller_than(self, patch: int) -> dict[Path, str]:
        """Return the images too small for an LR patch of this side, each with the reason."""
        return dict(self.small) | {
            path: f"it has {width} x {height} LR pixels, fewer than a patch of {patch}"
            for path, (height, width) in zip(self.paths, self.sizes.tolist(), strict=True)
            if min(height, width) < patch
        }


def find_images(
    words: Sequence[str], data_root: Path | None = None, fetch: Fetch = fetch
) -> list[Path]:
    """Find the HR images of training sets.

    Args:
        words: names in `FOLDERS`, names of folders below a root, or paths of folders.
        data_root: a root to search before those of ``HARNESS_DATA`` and the user cache.
        fetch: downloads the pinned files of a missing set.

    Raises:
        UsageError: a word matches no set and no folder.
        HarnessError: a folder has no images, or a set is missing and cannot be downloaded.
    """
    paths: dict[Path, None] = {}
    for word in words:
        paths |= dict.fromkeys(hr_images(image_files(_folder(word, data_root, fetch))))
    return list(paths)


def _folder(word: str, data_root: Path | None, fetch: Fetch) -> Path:
    """Find the folder of HR images that a word names."""
    name = word.lower()
    if os.sep in word or name not in FOLDERS:
        folder = folder_called(word, data_root)
        if folder is None:
            near = near_names(word, FOLDERS)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FOLDERS)}."
            raise UsageError(f"No training set or folder is called {word!r}: {hint}")
        return _hr_folder(folder)
    folder, mismatches = training_folder(name, data_root)
    return folder or _download(name, mismatches, fetch)


def _hr_folder(folder: Path) -> Path:
    """Return the folder if it has images, else its one subfolder named HR or like DIV2K_train_HR.

    Raises:
        HarnessError: there are no images, or several subfolders could be meant.
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
    """List the LR folders that belong to a folder named HR or like DIV2K_train_HR."""
    name = folder.name.lower()
    if not f"_{name}".endswith("_hr"):
        return []
    prefix = f"{name.removesuffix('hr')}lr"
    return [path for path in _subfolders(folder.parent) if path.name.lower().startswith(prefix)]


def _subfolders(folder: Path) -> list[Path]:
    """List the subfolders by name; none if the folder cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if os.path.isdir(path))
    except OSError:
        return []


def training_folder(name: str, data_root: Path | None = None) -> tuple[Path | None, list[str]]:
    """Find a set of `FOLDERS`: a folder with one of its names and its number of images.

    In the user cache, the files must match their pins.

    Returns:
        the folder or None, and a sentence for each folder with the name that does not match.
    """
    count = count_of(name)
    mismatches: list[str] = []
    names = {folder.lower() for folder in (*FOLDERS[name], "HR")}
    for folder in named_folders(FOLDERS[name], roots(data_root)):
        inner = [path for path in _subfolders(folder) if path.name.lower() in names]
        counts = {path: len(image_files(path)) for path in (folder, *inner)}
        full = next((path for path, images in counts.items() if images == count), None)
        damaged = _damaged(name, full)
        if full and not damaged:
            return full, mismatches
        why = f"it has {max(counts.values())} images, not {count}"
        mismatches.append(
            f"{folder} is not {name}: {f'{damaged} is truncated or altered' if damaged else why}"
        )
    return None, mismatches


def _damaged(name: str, folder: Path | None) -> Path | None:
    """Return the first file that does not match its pin, if the folder is in the user cache."""
    try:
        files = training_downloads(name)
    except HarnessError:  # the set has no downloads to compare with
        return None
    downloads = [(file, path) for file, path in files if path.parent == folder]
    return next((path for _, path in unsound(downloads)), None)


def count_of(name: str) -> int:
    """Number of images of a set of `FOLDERS`."""
    return _UNPINNED.get(name) or len(_rows(name))


def licence_of(name: str) -> str:
    """Return the licence of a set of `FOLDERS`, as its owner or the repository states it."""
    licences = dict.fromkeys(row["licence"] for row in _rows(name))
    return "; ".join(licences) or "not stated"


def is_pinned(name: str, files: Iterable[str]) -> bool:
    """Whether the SHA-256 values of a set's files are the pinned ones."""
    return bool(_rows(name)) and {row["sha256"] for row in _rows(name)} == set(files)


def _rows(name: str) -> list[dict[str, str]]:
    return [row for row in pinned_rows("trainsets") if row["dataset"] == name]


def training_downloads(name: str) -> list[tuple[RemoteFile, Path]]:
    """List the files of a training set, with their paths in the user cache.

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


def _download(name: str, mismatches: Sequence[str], fetch: Fetch) -> Path:
    """Download a set, and return its folder."""
    aside = "".join(f" ({sentence})" for sentence in mismatches)
    try:
        files = training_downloads(name)
        fetch(files)
    except OfflineError as error:
        raise OfflineError(
            f"{name} is not on this machine{aside}, and its host cannot be reached: put its images "
            f"into a folder {FOLDERS[name][0]} below a root of HARNESS_DATA, or choose other sets "
            "with --train-data and --val-data."
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
    """Decode and degrade images on all cores, or load the result from the user cache.

    Images too small for the protocol are left out.

    Args:
        paths: the HR images, in any order.
        rules: the protocol that makes the LR images.
        skip_bad: also leave out images that cannot be read, instead of raising an error.
        progress: wraps the iterable of images, to show progress.

    Raises:
        HarnessError: an image cannot be read or is in a test set, or the cache is damaged or
            cannot be written.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = dict(zip(paths, pool.map(file_digest, paths), strict=True))
    # The order must not depend on the order of the arguments: patches are drawn by image index.
    paths = sorted(paths, key=lambda path: (path.name, files[path]))
    key = digest([[files[path] for path in paths], rules.sha256, RULES, _ORDER])
    known = testset_pixels()
    # Everything that decides the folder's content, and whether it may be used.
    content_key = digest([key, sorted(known), skip_bad, _LAYOUT])
    folder = cache_root() / "training" / content_key[:16]
    missing = not folder.exists()
    if missing:
        try:
            _write(folder, paths, lambda path: _pair(path, rules, known), skip_bad, progress)
        except OSError as error:
            if not folder.exists():  # another process may have written it
                raise unwritable(folder, error) from error
    index = _read_index(folder)
    colour, used = rules.pipeline == "rgb", [paths[place] for place in index.places]
    return TrainingImages(
        hr=np.memmap(folder / "hr.bin", np.uint8, "c"),
        lr=np.memmap(folder / "lr.bin", np.uint8 if colour else np.float32, "c"),
        sizes=np.array(index.sizes, np.int64).reshape(-1, 2),
        paths=tuple(used),
        channels=3 if colour else 1,
        scale=rules.scale,
        sha256=key,
        files=files,
        contents=tuple(index.contents),
        skipped={paths[place]: why for place, why in index.skipped.items()},
        small={paths[place]: why for place, why in index.small.items()},
        prepared=len(paths) if missing else 0,
    )


_ORDER = 2
"""Increased when the order of the images changes: older checkpoints cannot be resumed then."""

_LAYOUT = 3
"""Increased when the content of a cache folder or the rule that finds leaks changes."""


@dataclass
class _Index:
    """The index of a cache folder.

    Attributes:
        places: indices of the images used, among the input images.
        sizes: LR height and width of each image used.
        contents: hash of the pixels of each image used.
        skipped, small: the reason why an image was left out, by its index.
        arrays: SHA-256 of the pixel files, by name.
        sha256: hash of the JSON of all fields, with an empty string for this one.
    """

    places: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    small: dict[int, str] = field(default_factory=dict)
    arrays: dict[str, str] = field(default_factory=dict)
    sha256: str = ""


def _read_index(folder: Path) -> _Index:
    """Read the index of a cache folder, and check all files against it.

    Raises:
        HarnessError: the folder is damaged.
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
    """Write a cache folder under a temporary name, and rename it when it is complete."""
    index = _Index()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(folder) as partial, ThreadPoolExecutor(os.cpu_count()) as pool:
        partial.mkdir()
        pairs = _in_order(pool, pair, paths)
        with (partial / "hr.bin").open("wb") as hr, (partial / "lr.bin").open("wb") as lr:
            for place, (_, result) in enumerate(zip(progress(paths), pairs, strict=True)):
                if isinstance(result, HarnessError):
                    small = isinstance(result, SmallImageError)
                    if not (skip_bad or small):
                        raise result
                    (index.small if small else index.skipped)[place] = str(result)
                    continue
                hr_pixels, lr_pixels, identity = result
                hr.write(np.ascontiguousarray(hr_pixels).data)
                lr.write(np.ascontiguousarray(lr_pixels).data)
                height, width = lr_pixels.shape[:2]
                index.places.append(place)
                index.sizes.append((height, width))
                index.contents.append(identity)
        if not index.places:
            why = (index.skipped | index.small)[0]
            raise HarnessError(f"None of the training images can be used: {why}")
        index.arrays = {name: file_digest(partial / name) for name in ("hr.bin", "lr.bin")}
        index.sha256 = digest(asdict(index))
        (partial / "index.json").write_bytes(msgspec.json.encode(index))


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Path], _Pair | HarnessError], paths: Sequence[Path]
) -> Iterator[_Pair | HarnessError]:
    """Yield the result for each path in order, working only a few paths ahead to save memory."""
    ahead: deque[Future[_Pair | HarnessError]] = deque()
    for path in paths:
        ahead.append(pool.submit(work, path))
        if len(ahead) > 2 * (os.cpu_count() or 1):
            yield ahead.popleft().result()
    yield from (future.result() for future in ahead)


def _pair(path: Path, rules: Protocol, known: dict[str, str]) -> _Pair | HarnessError:
    """Return one image's HR and LR pixels and its content's hash, or why it cannot be used.

    The protocol's grey rule applies to grey images.

    Raises:
        LeakError: the image is in a test set.
    """
    try:
        loaded = read_image(path)
    except HarnessError as error:
        return error
    message = leak(path, loaded, known)
    if message:
        raise LeakError(message)
    height, width = loaded.pixels.shape[:2]
    if min(side - side % rules.scale for side in (height, width)) < rules.smallest_side:
        return SmallImageError(
            f"{path} has {width} x {height} pixels, and each side needs at least "
            f"{rules.smallest_side}."
        )
    sample = make_sample(loaded.pixels, rules)
    lr = sample.lr if sample.lr.dtype == np.uint8 else sample.lr.astype(np.float32)
    return sample.hr, lr, content(loaded.pixels)


class SmallImageError(HarnessError):
    """An image is too small to train on."""
