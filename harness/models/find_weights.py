"""Find weights and their training notes on this machine, and where to download the authors'."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Required, TypedDict

from msgspec import convert

from harness.data.pinned import (
    PINS,
    cache_root,
    named_roots,
    pinned_rows,
    remote_file,
    unwritable,
    url,
)
from harness.errors import HarnessError
from harness.files import TEXT, recorded_path, regular, require_writable, whole, write_atomically
from harness.models.weights import (
    OFFICIAL,
    OWN_TAGS,
    PART,
    REPRO,
    Weights,
    authors_row,
    file_tag,
    is_official,
    read_weights,
    save_weights,
)
from harness.record import digest
from harness.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.cards import ModelCard, RemoteFile
    from harness.record import RunRecord


class WeightsMissing(HarnessError):
    """A network has no weights on this machine."""


def find_weights(
    card: ModelCard, scale: int, *, path: Path | None = None, tag: str | None = None, key: str = ""
) -> Weights | None:
    """Find the weights for a run; None for a model that has no parameters.

    Args:
        card: the model.
        scale: the factor.
        path: the file to read, instead of searching for one.
        key: the keys that lead to the weights in that file, see `read_weights`.
        tag: ``official``, ``repro`` or that of imported weights; without it, whichever is found
            first. With a path, the tag if the file states none; without it, the file's name.

    Raises:
        WeightsMissing: there are none; the message says how to get them.
        HarnessError: a file is broken or of another network.
    """
    if card.params == 0:
        return None
    if path:
        weights = read_labelled(card, scale, path, tag or "", key)
        return replace(weights, given=(recorded_path(path), key))
    files = installed(card, scale)
    for file, installed_tag in files:
        if tag is None or tag.lower() == installed_tag.lower():
            return read_labelled(card, scale, file, tag=installed_tag)
    name = f"{card.name}:{tag}" if tag else card.name
    others = ", ".join(f"{card.name}:{one}" for _, one in files)
    here = f" (there are {others})" if others else ""
    how = _how_to_get(card, scale, tag)
    raise WeightsMissing(f"There are no weights for {name} at x{scale}{here}: {how}.")


def _how_to_get(card: ModelCard, scale: int, tag: str | None) -> str:
    """Say how to get the weights of a model, and where its authors published what."""
    file = f"name a file with --models {card.name}=FILE (in Python: weights=FILE)"
    if tag not in (None, *OWN_TAGS):
        command = f"harness weights import {card.name} FILE --tag {tag}"
        return f"{file}, or store it first with {command}"
    rows = official_rows(card, scale)
    if rows:
        command = fetch_command(card, scale)
        roots = f"a folder that HARNESS_WEIGHTS names (several are separated by '{os.pathsep}')"
        address = url(remote_file(rows[0]))
        return f"run {command} (published at {address}), or put the file into {roots}"
    images = [row for row in pinned_rows("published") if row["model"] == card.name]
    if images:
        return f"{file}; its authors' files are at https://github.com/{images[0]['repository']}"
    return file + (", or declare params=0 if it has none" if card.params is None else "")


def installed(card: ModelCard, scale: int) -> list[tuple[Path, str]]:
    """List the weights files of a model on this machine with their tags, the preferred one first.

    The authors' come first, then those trained by this project, then others; within each group the
    order of the folders decides.

    Raises:
        HarnessError: a folder cannot be read.
    """
    found: list[tuple[Path, str]] = []
    try:
        # Before Python 3.13, glob raises for a name that is too long.
        for root in filter(
            os.path.isdir, (cache_root() / "weights", *named_roots("HARNESS_WEIGHTS"))
        ):
            found += [*_stored(root, card, scale), *_official(root, card, scale)]
        if card.source:
            found += _stored(card.source.parent / "weights", card, scale)
    except OSError as error:
        raise HarnessError(f"Cannot search for the weights of {card.name} ({error}).") from error
    order = [*OWN_TAGS]
    return sorted(found, key=lambda file: order.index(file[1]) if file[1] in order else len(order))


def _stored(folder: Path, card: ModelCard, scale: int) -> Iterator[tuple[Path, str]]:
    start = f"{card.name}-x{scale}."
    for path in sorted(folder.glob(f"{start}*.safetensors")):
        tag = path.name.removeprefix(start).removesuffix(".safetensors")
        yield path, _earned(card, scale, path) if tag.lower() in OWN_TAGS else tag


def _earned(card: ModelCard, scale: int, path: Path) -> str:
    """Return the tag of a file whose name says whose weights it holds; its content decides."""
    try:
        return read_labelled(card, scale, path).info.tag
    except HarnessError:  # is reported by what reads the file
        return file_tag(path)


def read_labelled(card: ModelCard, scale: int, path: Path, tag: str = "", key: str = "") -> Weights:
    """Read weights as `read_weights` does; only those with training notes have the tag ``repro``.

    The notes lie in the package of the model, or beside the file, where ``harness train`` writes
    them.
    """
    weights = read_weights(card, scale, path, tag, key)
    if weights.info.tag.lower() != REPRO:
        return weights
    shipped = _notes(card.source.parent / "weights") if card.source else {}
    beside = read_notes(notes_path(path)) or {}
    if weights.info.tensors_sha256 in {*shipped, beside.get("tensors_sha256")}:
        return weights
    return replace(weights, info=replace(weights.info, tag=file_tag(path)))


def _official(root: Path, card: ModelCard, scale: int) -> Iterator[tuple[Path, str]]:
    """Find files below a root that are the authors' weights of a model, see `is_official`."""
    for row in official_rows(card, scale):
        expected = root / row["file"]
        others = (path for path in sorted(root.rglob(f"*{expected.suffix}")) if path.is_file())
        found = next((path for path in (expected, *others) if is_official(row, path)), None)
        if found:
            yield found, OFFICIAL


def official_rows(card: ModelCard, scale: int) -> list[dict[str, str]]:
    """Return the pinned rows of the authors' files of a model at a scale."""
    return [
        row
        for row in pinned_rows("weights")
        if row["model"] == card.name and str(scale) in row["scales"].split()
    ]


def fetch_command(card: ModelCard, scale: int) -> str:
    """Return the command that downloads the authors' weights of a model at a scale."""
    return f"harness weights fetch {card.name}" + (f" --scale {scale}" if scale != 4 else "")


def fetchable(patterns: Iterable[str], scale: int) -> list[ModelCard]:
    """Select models by names and globs; a glob prefers models whose weights can be downloaded.

    Raises:
        UsageError: no model matches a pattern.
    """
    cards: dict[str, ModelCard] = {}
    for pattern in patterns:
        matching = [MODELS.get(name) for name in MODELS.select(pattern)]
        pinned = [card for card in matching if official_rows(card, scale)]
        cards |= {card.name: card for card in pinned or matching}
    return list(cards.values())


def downloads(card: ModelCard, scale: int) -> list[tuple[RemoteFile, Path, str]]:
    """List the authors' files of a model, their paths in the user cache, and what to know of them.

    Raises:
        HarnessError: no files are registered.
    """
    rows = official_rows(card, scale)
    if not rows:
        raise HarnessError(
            f"No weights of {card.name} at x{scale} are registered for download: get a file and "
            f"run harness weights import {card.name} FILE."
        )
    folder = cache_root() / "weights"
    return [(remote_file(row), folder / row["file"], _described(row)) for row in rows]


def _described(row: Mapping[str, str]) -> str:
    note = f" ({row['note']})" if row["note"] else ""
    pin = PINS[row["pin"].partition(":")[0]]
    return f"{published_at(row)}{note}, licence: {row['licence']}, pinned by {pin}"


def published_at(row: Mapping[str, str]) -> str:
    """Say where a pinned weights file is, and who passed it on if its authors did not."""
    through = f"as {row['third_party']} by " if row["third_party"] else ""
    commit = f"@{row['commit']}" if row["commit"] else ""
    return f"{through}{row['repository']}{commit}/{row['path']}"


def store_weights(weights: Weights, card: ModelCard, scale: int) -> Path:
    """Store weights in the user cache, where runs find them; return the path.

    Raises:
        HarnessError: other weights have this tag already, or the cache cannot be written.
    """
    tag, sha256 = weights.info.tag, weights.info.tensors_sha256
    folder = cache_root() / "weights"
    require_writable(folder, "cache", "the environment variable XDG_CACHE_HOME")
    for path, stored_tag in _stored(folder, card, scale):
        if stored_tag == tag and read_weights(card, scale, path).info.tensors_sha256 != sha256:
            raise HarnessError(f"Other weights are stored as {path}: choose another --tag.")
    return save_weights(weights, card, scale, folder)


def store_file(weights: Weights, card: ModelCard, scale: int, path: Path) -> Path | None:
    """Copy the authors' file to where `harness weights fetch` stores it; return its path.

    None for all other files, and where the registry has the values of the authors' weights: these
    are recognised in any file, the others only by the pin of the file itself.

    Raises:
        HarnessError: the cache cannot be written.
    """
    row = authors_row(card.name, scale, weights.info)
    if row is None or row["tensors_sha256"]:
        return None
    stored = cache_root() / "weights" / row["file"]
    require_writable(stored.parent, "cache", "the environment variable XDG_CACHE_HOME")
    if not is_official(row, stored):
        try:
            with whole(stored) as partial:
                shutil.copyfile(path, partial)
        except OSError as error:
            raise unwritable(stored, error) from error
    return stored


class _Recipe(TypedDict):
    """The fields of a recipe that are read; there are others."""

    batch: int
    patch: int


class _Images(TypedDict, total=False):
    sha256: str
    count: int
    lr_pixels: int


_Training = TypedDict(
    "_Training",
    {
        "hyper": dict[str, Any],
        "recipe": _Recipe,
        "steps": int,
        "seconds": float,
        "device": str,
        "images": _Images,
        "from": "_Training",
    },
    total=False,
)


class _Notes(_Training, total=False):
    """The fields of notes that are read; see `harness.train.export.finish` for all of them."""

    tensors_sha256: Required[str]
    model: str
    scale: int


def notes_path(path: Path) -> Path:
    """Return the path of the training notes, beside the weights file or any part of it."""
    match = PART.fullmatch(path.name)
    return path.with_name(match[1] if match else path.name).with_suffix(".json")


def read_notes(path: Path) -> Mapping[str, Any] | None:
    """Read notes from a JSON file; None if there are none, such as in another program's file."""
    try:
        notes = json.loads(regular(path, TEXT).read_text(encoding="utf-8"))
        convert(notes, _Notes)
    except (OSError, ValueError, RecursionError):
        return None
    return notes


def write_notes(path: Path, text: str) -> None:
    """Write the notes of a training beside its weights.

    Raises:
        HarnessError: the folder cannot be written.
    """
    try:
        write_atomically(notes_path(path), text)
    except OSError as error:
        raise HarnessError(f"{notes_path(path)} cannot be written ({error}).") from error


def copy_notes(path: Path, stored: Path, tensors_sha256: str) -> None:
    """Copy the notes beside a weights file, or a part of it, to where the weights were stored.

    Notes of other weights than those with this hash are not copied.

    Raises:
        HarnessError: the folder cannot be written.
    """
    notes = read_notes(notes_path(path))
    same = notes is not None and notes["tensors_sha256"] == tensors_sha256
    if same and notes_path(path) != notes_path(stored):
        write_notes(stored, json.dumps(notes, indent=1) + "\n")


@dataclass(frozen=True)
class TrainingNotes:
    """The training budget of weights.

    Attributes:
        key: a hash of recipe and device without the seed; empty where nothing is known.
        steps: optimiser steps.
        patches: number of LR patches per step, and their side in pixels.
        minutes: training time on ``device``.
        image_pixels: LR pixels of the training images together; 0 where not known.
        before: the notes of the weights that the training started from, if any.
    """

    key: str = ""
    steps: int = 0
    patches: tuple[int, int] = (0, 0)
    minutes: float = 0.0
    device: str = ""
    before: TrainingNotes | None = None
    image_pixels: int = 0

    @property
    def pixels(self) -> int:
        """LR pixels seen in the whole chain of trainings, repeats included."""
        count, side = self.patches
        return self.steps * count * side**2 + (self.before.pixels if self.before else 0)

    @property
    def passes(self) -> float | None:
        """How often the whole chain of trainings saw its last images; None where not known."""
        return self.pixels / self.image_pixels if self.image_pixels else None

    @property
    def duration(self) -> str:
        """The time of the whole chain of trainings, such as ``78 min`` or ``26 h``."""
        minutes = self.minutes + (self.before.minutes if self.before else 0)
        return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"

    def __str__(self) -> str:
        if not self.key:
            return "a training of which nothing is known"
        count, side = self.patches
        after = f", after {self.before}" if self.before else ""
        return (
            f"{self.steps:,} steps of {count} patches of {side}x{side} in {self.minutes:.0f} "
            f"minutes on {self.device}{after}"
        )


def training_notes(record: RunRecord) -> TrainingNotes:
    """Return the training budget of a run's weights, where the model's package ships such notes.

    The package need not ship the weights themselves.
    """
    model, sha256 = record.identity.model, record.identity.weights_sha256
    source = MODELS.get(model).source if model in MODELS else None
    if source is None:
        return TrainingNotes()
    notes = _notes(source.parent / "weights").get(sha256)
    return notes_from(notes) if notes else TrainingNotes()


def notes_from(notes: Mapping[str, Any]) -> TrainingNotes:
    """Read the budget from training notes; it is unknown for weights trained elsewhere."""
    if not {"recipe", "steps", "seconds"} <= notes.keys():
        return TrainingNotes()
    before, device = notes.get("from"), notes.get("device", "a device that is not known")
    recipe = {name: value for name, value in notes["recipe"].items() if name != "seed"}
    return TrainingNotes(
        digest([recipe, device, *([before] if before else [])]),
        notes["steps"],
        (recipe["batch"], recipe["patch"]),
        notes["seconds"] / 60,
        device,
        notes_from(before) if before else None,
        notes.get("images", {}).get("lr_pixels", 0),
    )


@cache
def _notes(folder: Path) -> Mapping[str | None, Mapping[str, Any]]:
    """Read the training notes in a folder of weights, by the weights' hash.

    The folder may also hold other JSON files.
    """
    notes = map(read_notes, sorted(folder.glob("*.json")))
    return {one["tensors_sha256"]: one for one in notes if one}
