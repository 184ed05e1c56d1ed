"""The pinned registry: which images make up the published sets, and where files come from."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from harness.cards import DatasetCard, KnownImage, RemoteFile
from harness.errors import HarnessError
from harness.registry import DATASETS

_MANGA109 = (
    "its licence forbids copies: apply at http://www.manga109.org/en/download.html and put the 109 "
    "test images into a folder Manga109"
)


_BELOW = r"(?!/)(?!(.*/)?\.\.(/|$)).+"
_COLUMNS = {
    "sha256": r"[0-9a-f]{64}",
    "pixels_sha256": r"[0-9a-f]{64}",
    "repository": r"[\w.-]+/[\w.-]+",
    "commit": r"[\w.]+",
    "path": _BELOW,
    "file": _BELOW,
    "bytes": r"[1-9]\d*",
    "width": r"[1-9]\d*",
    "height": r"[1-9]\d*",
    "original_width": r"([1-9]\d*)?",
    "original_height": r"([1-9]\d*)?",
    "scales": r"\d( \d)*",
}
"""What the columns of the registry look like; paths stay below the folder they are relative to."""


def registry_rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of ``harness/data/registry``.

    Raises:
        HarnessError: a row is damaged.
    """
    text = files("harness.data").joinpath("registry", f"{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), restkey="more"))
    for number, row in enumerate(rows, start=2):
        wrong = [c for c, p in _COLUMNS.items() if c in row and not re.fullmatch(p, row[c] or "")]
        if wrong or "more" in row:
            said = " and ".join(wrong) or "number of columns"
            raise HarnessError(
                f"Line {number} of the registry {name}.csv is damaged ({said}): reinstall "
                "drfn-harness."
            )
    return rows


@cache
def grey_images() -> Mapping[str, frozenset[str]]:
    """The names of the grey images of each pinned set."""
    rows = registry_rows("benchmarks") + registry_rows("demo")
    grey = [(row["dataset"], row["image"]) for row in rows if row["mode"] == "L"]
    return {
        name: frozenset(image for dataset, image in grey if dataset == name)
        for name in dict.fromkeys(row["dataset"] for row in rows)
    }


def sets_without_grey() -> frozenset[str]:
    """The pinned sets that hold no grey image, for which the grey rules are one."""
    return frozenset(name for name, images in grey_images().items() if not images)


def remote_file(row: dict[str, str]) -> RemoteFile:
    """The pinned file a registry row names."""
    return RemoteFile(
        row["repository"], row["commit"], row["path"], int(row["bytes"]), row["sha256"]
    )


def register_benchmarks() -> None:
    """Enter the paper's five sets and ``demo`` into the registry."""
    rows = registry_rows("benchmarks") + registry_rows("demo")

    def add(name: str, title: str, folders: Sequence[str], **fields: object) -> None:
        known = tuple(
            KnownImage(
                row["image"],
                int(row["width"]),
                int(row["height"]),
                row["pixels_sha256"],
                remote_file(row),
                _original(row),
            )
            for row in rows
            if row["dataset"] == name
        )
        fields = {"count": len(known), "column": True} | fields
        card = DatasetCard(name, title, folders=tuple(folders), known=known, **fields)  # type: ignore[arg-type]
        DATASETS.add(name, card, __name__)

    add("set5", "Set5", ["Set5"])
    add("set14", "Set14", ["Set14"])
    add("b100", "B100", ["B100", "BSD100", "BSDS100"])
    add("urban100", "Urban100", ["Urban100"])
    add("manga109", "Manga109", ["Manga109"], count=109, obtain=_MANGA109)
    add("demo", "demo", [], column=False, root=_skimage_data())


def _original(row: dict[str, str]) -> tuple[int, int] | None:
    """Width and height of an image before it was cropped for x4."""
    if "original_width" not in row:  # the images of demo are not cropped
        return int(row["width"]), int(row["height"])
    return (
        (int(row["original_width"]), int(row["original_height"])) if row["original_width"] else None
    )


def _skimage_data() -> Path:
    """The folder of scikit-image's bundled photographs, found without importing it."""
    spec = find_spec("skimage")
    folders = (spec.submodule_search_locations if spec else None) or ["."]
    return Path(folders[0]) / "data"
