"""Training images: found or fetched, checked for leaks, kept as flat arrays of HR and LR pixels.

Decoding and resizing are done once; the arrays are memory-mapped afterwards. LR images are made by
the protocol itself. An image that is in a test set is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.benchmarks import named_folders, roots
from harness.data.catalogue import registry_rows, remote_file
from harness.data.download import OfflineError, cache_root, fetch
from harness.data.images import image_files, read_image
from harness.data.leaks import LeakError, benchmark_pixels, content, leak
from harness.data.partial import whole
from harness.errors import HarnessError, UsageError
from harness.protocol.protocols import RULES, Protocol, make_sample
from harness.specs import digest, file_digest

if TYPE_CHECKING:
    from harness.specs import AnyArray

FOLDERS = {
    "div2k": ("DIV2K", "DIV2K_train_HR"),
    "div2k-pair": ("DIV2K-pair", "DIV2K"),
    "bsds400": ("BSDS400",),
    "general100": ("General100",),
    "t91": ("T91",),
    "photos50": ("photos50", "photos"),
    "kodak24": ("Kodak24",),
}
"""Sets that are known by name, and what their folders are called."""


@dataclass(frozen=True)
class TrainingImages:
    """HR and LR images side by side in two flat arrays.

    Attributes:
        hr: uint8, all HR images one after the other, rows of ``(H, W, C)``.
        lr: uint8 (``rgb``) or float32 in about [0, 1] (``y``), all LR images in the same order.
        sizes: int64 ``(images, 2)``, LR height and width.
        names: of the files.
        channels: 1 or 3.
        scale: HR size over LR size.
        sha256: over the files' hashes and the rules, which decide every value.
        files: SHA-256 of each file that was given.
        contents: hash of each image's pixels, see `harness.data.leaks.content`.
        skipped: why files were left out, by their names.
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
    skipped: Mapping[str, str] = field(default_factory=dict)

    def smaller_than(self, patch: int) -> dict[str, str]:
        """What is to be said of each image that no LR patch of this side fits into, by its name."""
        return {
            name: f"it has {width} x {height} LR pixels, fewer than a patch of {patch}"
            for name, (height, width) in zip(self.names, self.sizes.tolist(), strict=True)
            if min(height, width) < patch
        }


def find_images(words: Sequence[str], data_root: Path | None = None) -> list[Path]:
    """The image files of training sets.

    Args:
        words: names of `FOLDERS`, of folders below a root, or paths of folders.
        data_root: searched before the roots of ``HARNESS_DATA`` and the user cache.

    Raises:
        UsageError: a word names nothing.
        HarnessError: a folder has no images, or a set cannot be downloaded.
    """
    found: dict[Path, None] = {}
    for word in words:
        paths = image_files(_folder(word, data_root))
        if not paths:
            raise HarnessError(f"There are no images in {_folder(word, data_root)}.")
        found |= dict.fromkeys(paths)
    return list(found)


def _folder(word: str, data_root: Path | None) -> Path:
    if os.sep in word or word not in FOLDERS:
        folders = [Path(word), *(root / word for root in roots(data_root))]
        folder = next((path for path in folders if os.path.isdir(path)), None)
        if folder is None:
            known = ", ".join(FOLDERS)
            raise UsageError(f"No training set or folder is called {word!r}: there are {known}.")
        return folder
    folder = next(named_folders(FOLDERS[word], roots(data_root)), None)
    return folder or _fetched(word)


def _fetched(name: str) -> Path:
    """Download a set whose files the registry pins."""
    rows = [row for row in registry_rows("training") if row["dataset"] == name]
    if not rows:
        raise HarnessError(
            f"{name} is not on this machine and may not be downloaded: put its images into a "
            f"folder {FOLDERS[name][0]} below a root of HARNESS_DATA."
        )
    derived = next((row for row in rows if row["note"]), None)
    if derived:
        raise HarnessError(
            f"{name} is not on this machine, and its images are derived ones: put them into a "
            f"folder {FOLDERS[name][0]} below a root of HARNESS_DATA."
        )
    folder = cache_root() / "data" / FOLDERS[name][0]
    try:
        fetch([(remote_file(row), folder / row["file"]) for row in rows])
    except OfflineError as error:
        raise OfflineError(
            f"{name} is not on this machine, and its host cannot be reached: put its images into a "
            f"folder {FOLDERS[name][0]} below a root of HARNESS_DATA, or name others with "
            "--train-data and --val-data."
        ) from error
    return folder


def prepare(
    paths: Sequence[Path],
    rules: Protocol,
    *,
    skip_bad: bool = False,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> TrainingImages:
    """Decode and degrade images, or find that done in the user cache.

    Args:
        paths: the HR images, in any order.
        rules: the protocol that makes the LR images.
        skip_bad: leave out images that cannot be read or are too small, instead of stopping.
        progress: wraps the images while they are worked on.

    Raises:
        HarnessError: an image is bad, is in a test set, or the cache cannot be written.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = dict(zip(paths, pool.map(file_digest, paths), strict=True))
    # One order, whatever was named first: patches are drawn by an image's place.
    paths = sorted(paths, key=lambda path: (path.name, files[path]))
    listed = [(path.name, files[path]) for path in paths]
    key = digest([listed, rules.sha256, RULES, _LAYOUT])
    folder = cache_root() / "training" / f"{key[:16]}{'-skipped' if skip_bad else ''}"
    if not folder.exists():
        try:
            _write(folder, paths, rules, skip_bad, progress)
        except OSError as error:
            if not folder.exists():  # or else another process was faster
                raise HarnessError(
                    f"The training cache {folder} cannot be written ({error})."
                ) from error
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    colour = rules.pipeline == "rgb"
    return TrainingImages(
        np.memmap(folder / "hr.bin", np.uint8, "c"),
        np.memmap(folder / "lr.bin", np.uint8 if colour else np.float32, "c"),
        np.array(index["sizes"], np.int64).reshape(-1, 2),
        tuple(index["names"]),
        3 if colour else 1,
        rules.scale,
        key,
        files,
        tuple(index["contents"]),
        index["skipped"],
    )


_LAYOUT = 2
"""Raised whenever a cache folder holds something else, or in another order."""


def _write(
    folder: Path,
    paths: Sequence[Path],
    rules: Protocol,
    skip_bad: bool,
    progress: Callable[[Iterable[Path]], Iterable[Path]],
) -> None:
    """Fill a cache folder under another name, and rename it once it is whole."""
    known, skipped = benchmark_pixels(), {}
    kept: dict[str, list[Any]] = {"names": [], "sizes": [], "contents": []}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(folder) as partial:
        partial.mkdir()
        with (partial / "hr.bin").open("wb") as hr, (partial / "lr.bin").open("wb") as lr:
            for path in progress(paths):
                try:
                    large, small, pixels = _pair(path, rules, known)
                except LeakError:
                    raise
                except HarnessError as error:
                    if skip_bad:
                        skipped[path.name] = str(error)
                        continue
                    raise
                hr.write(np.ascontiguousarray(large).data)
                lr.write(np.ascontiguousarray(small).data)
                for name, value in zip(kept, (path.name, small.shape[:2], pixels), strict=True):
                    kept[name].append(value)
        if not kept["names"]:
            raise HarnessError("None of the training images can be used.")
        (partial / "index.json").write_text(json.dumps(kept | {"skipped": skipped}))


def _pair(path: Path, rules: Protocol, known: dict[str, str]) -> tuple[AnyArray, AnyArray, str]:
    """HR and LR of one image, and the hash of its pixels; grey images become like all others."""
    loaded = read_image(path)
    said = leak(path, loaded, known)
    if said:
        raise LeakError(said)
    try:
        sample = make_sample(loaded.pixels, rules)
    except HarnessError as error:
        raise HarnessError(f"{path}: {error}") from error
    lr = sample.lr if sample.lr.dtype == np.uint8 else sample.lr.astype(np.float32)
    return sample.hr, lr, content(loaded.pixels)
