"""SR images that authors published, scored in place of a network's output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.cards import ModelCard
from harness.data.images import bases, image_files, image_size, left_out, named_folders, read_image
from harness.data.pinned import pinned_rows
from harness.errors import HarnessError, UsageError
from harness.files import recorded_path
from harness.protocol.rules import crop_to_multiple
from harness.record import digest
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.data.identify import ImageSet, SetImage
    from harness.record import Identity, RunRecord


class NoImages(HarnessError):
    """A folder holds no SR image of a set."""


class SRImage(NamedTuple):
    """An SR image that the user gives: its path and the SHA-256 of its pixels."""

    path: Path
    pixels_sha256: str


@dataclass(frozen=True)
class PublishedImages:
    """The SR images of a set.

    Attributes:
        folder: the folder that the user gave, as records name it.
        images: the SR image of each image of the set, by its name in the set.
        note: names the files that are not used, and says how many are JPEG files; may be empty.
    """

    folder: str
    images: Mapping[str, SRImage]
    note: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the names and pixels of the images."""
        return digest([(name, image.pixels_sha256) for name, image in self.images.items()])


def card_of_images(name: str) -> ModelCard:
    """Describe the method that made images: in the pipeline of the model of that name, else rgb."""
    pipeline = MODELS.get(name).pipeline if name in MODELS else "rgb"
    return ModelCard(name, _no_network, pipeline, "lr", (2, 3, 4), params=0)


def _no_network(**_: Any) -> Any:
    raise UsageError("Published images have no network.")


def find_images(image_set: ImageSet, folder: Path, scale: int) -> PublishedImages:
    """Find the SR image of every image of a set by its file's name.

    The images are in the folder or in one inside it that has the set's name, there also in ``x4``
    (for that scale), or where ``harness run --save-images`` puts those of a run. A name is that of
    the HR image, or the usual one (``baby``), alone or followed by the scale or, after a character
    that is no letter or digit, by anything that names no other scale, as in ``babyx4``,
    ``baby_RDN_x4``, ``baby (1)`` or ``img_001_SRF_4_SR``. Files that by their names are HR, LR or
    bicubic images are left out.

    Raises:
        NoImages: there is no SR image of the set.
        HarnessError: SR images are missing, several runs saved some, two files fit one image, or
            one cannot be read or has another size or other colours than its HR image, cropped to
            multiples of the scale; or all of them are the HR images.
    """
    title = image_set.card.title
    found: dict[str, list[Path]] = {}
    for place in _places(image_set, folder, scale):
        files = image_files(place)
        found = _by_image(files, image_set, scale)
        if found:
            break
    else:
        raise NoImages(
            f"{folder} has no SR images of {title} at x{scale}: names must begin like those of the "
            f"HR images and state no other scale, as in {image_set.images[0].name}_x{scale}.png."
        )
    usual = _usual_names(image_set)
    missing = [
        " or ".join([image.name, *usual.get(image.name, ())])
        for image in image_set.images
        if image.name not in found
    ]
    if missing:
        raise HarnessError(
            f"{place} lacks the SR images of {len(missing)} of the {len(image_set.images)} images "
            f"of {title} at x{scale}: add files whose names begin with {', '.join(missing)}."
        )
    twice = next((paths for paths in found.values() if len(paths) > 1), None)
    if twice:
        raise HarnessError(
            f"{twice[0]} and {twice[1].name} are both named like an SR image of one image of "
            f"{title}: give a folder with only one of them."
        )
    images = {image.name: _read(image, found[image.name][0], scale) for image in image_set.images}
    unused = left_out(place, [image.path for image in images.values()], files)
    if all(_is_hr(image, images[image.name], scale) for image in image_set.images):
        raise HarnessError(
            f"The images in {place} are the HR images of {title}: give the folder of the SR images."
        )
    notes = [f"Not used in {place}: {unused}."] if unused else []
    if lossy := sum(one.path.suffix.lower() in (".jpg", ".jpeg") for one in images.values()):
        notes.append(
            f"{lossy} of the {len(images)} SR images in {place} are JPEG files: their loss counts "
            "in the scores."
        )
    return PublishedImages(recorded_path(folder), images, " ".join(notes))


def _places(image_set: ImageSet, folder: Path, scale: int) -> Iterator[Path]:
    """Yield the folders that may hold the SR images, the most specific first."""
    card = image_set.card
    for top in (*named_folders([card.name, *card.folders], [folder]), folder):
        inner = (top / f"x{scale}", top / f"image_SRF_{scale}", top)
        yield from filter(os.path.isdir, inner)
    saved = [
        one
        for top in named_folders([card.name, *card.folders], [folder / f"x{scale}"])
        for one in sorted(top.iterdir())
        if _RUN.fullmatch(one.name) and one.is_dir()
    ]
    if len(saved) > 1:
        raise HarnessError(
            f"{folder} has the SR images of several runs on {card.title}: give the folder of one, "
            f"{' or '.join(map(str, saved))}."
        )
    yield from saved


_RUN = re.compile(r".+-[0-9a-f]{12}")
"""The name of the folder in which a run saves its SR images."""


def _by_image(files: Sequence[Path], image_set: ImageSet, scale: int) -> dict[str, list[Path]]:
    """Group the files named like SR images by the image of the set whose name they begin with."""
    usual = _usual_names(image_set)
    names = {
        base: image.name
        for image in image_set.images
        for base in bases([image.name, image.path.stem, *usual.get(image.name, ())])
    }
    # Of several names that a file begins with, such as img and img_2, the longest counts.
    longest = sorted(names, key=len, reverse=True)
    found: dict[str, list[Path]] = {}
    for path in files:
        base = next((base for base in longest if _follows(path.stem, base)), None)
        if base and _is_result(path.stem.removeprefix(base), scale):
            found.setdefault(names[base], []).append(path)
    return found


def _usual_names(image_set: ImageSet) -> dict[str, tuple[str, ...]]:
    return {image.name: image.usual_names for image in image_set.card.known}


_SUFFIX = re.compile(r"([\W_].*|x\d.*)?", re.IGNORECASE)
_NO_RESULT = re.compile(r"(HR|GT|LR(BI|BD|DN)?|bicubic|bilinear|nearest)(x?\d+)?", re.IGNORECASE)
_SCALE = re.compile(r"(?:SRF[_-]|x)(\d+)(?![^\W_])|(?<![^\W_])(\d+)x(?![^\W_])", re.IGNORECASE)


def _follows(stem: str, base: str) -> bool:
    """Whether a file's name is that of an HR image, alone or with a suffix."""
    return stem.startswith(base) and _SUFFIX.fullmatch(stem.removeprefix(base)) is not None


def _is_result(suffix: str, scale: int) -> bool:
    """Whether the suffix of a file's name is that of a result at this scale."""
    scales = {int(one or other) for one, other in _SCALE.findall(suffix)}
    words = re.split(r"[\W_]", suffix)
    return scales <= {scale} and not any(map(_NO_RESULT.fullmatch, words))


def _read(image: SetImage, path: Path, scale: int) -> SRImage:
    """Hash an SR image, and compare its size and colours with those of its HR image."""
    width, height = (side - side % scale for side in image.size)
    size = image_size(path)
    if size != (width, height):
        raise HarnessError(
            f"{path} is {size[0]} x {size[1]} pixels, and {image.name} at x{scale} is {width} x "
            f"{height}: give the whole SR images, made from the set's own images."
        )
    loaded = read_image(path)
    if loaded.pixels.ndim == 2 and read_image(image.path).pixels.ndim == 3:
        raise HarnessError(f"{path} is grey, and {image.name} is not: give the colour image.")
    return SRImage(path, loaded.sha256)


def _is_hr(image: SetImage, sr: SRImage, scale: int) -> bool:
    """Whether an SR image has the pixels of its HR image, cropped to multiples of the scale."""
    hr, pixels = crop_to_multiple(read_image(image.path).pixels, scale), read_image(sr.path).pixels
    return bool((pixels == (hr if hr.ndim == pixels.ndim else hr[..., None])).all())


def publication(identity: Identity) -> Mapping[str, str] | None:
    """Return the pinned row of the SR images of a run; None if it is not known who published them.

    A folder may have any name, so only the pixels count. The row's ``note`` names the network that
    made the images if it is not the one of the paper.
    """
    one = identity
    key = (one.model, one.dataset, one.scale, one.self_ensemble, one.sr_sha256)
    return _publications().get(key)


def weights_label(record: RunRecord) -> str:
    """Return the tag of a run's weights; ``published images`` for those that authors published."""
    return "published images" if publication(record.identity) else record.tag


def described(identity: Identity) -> str:
    """Say in words which SR images a run scored: by whom, and where they were published."""
    known = publication(identity)
    if known is None:
        return "SR images of unknown origin"
    made_by = f"of {known['note']}" if known["note"] else "that its authors published"
    return f"SR images {made_by} ({known['repository']} at {known['commit'][:7]})"


@cache
def _publications() -> Mapping[tuple[str, str, int, bool, str | None], Mapping[str, str]]:
    return {
        (
            row["model"],
            row["dataset"],
            int(row["scale"]),
            row["self_ensemble"] == "yes",
            row["sr_sha256"],
        ): row
        for row in pinned_rows("published")
    }
