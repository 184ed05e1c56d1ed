"""Shows enlarged regions of images side by side: HR, bicubic and each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from harness.cards import Preset
from harness.data.images import read_image
from harness.data.testsets import find
from harness.errors import UsageError
from harness.protocol.rules import crop_to_multiple, protocol
from harness.registry import DATASETS, MODELS, is_glob, register_report
from harness.report.legend import Shown, dagger, dagger_note
from harness.report.plot import Figure
from harness.run.store import picture_path
from harness.text import listed

if TYPE_CHECKING:
    from matplotlib import figure

    from harness.cards import ByteArray
    from harness.paper.findings import Findings


class Box(NamedTuple):
    """A part of an image, in HR pixels from the top left."""

    x: int
    y: int
    width: int
    height: int


class Region(NamedTuple):
    """A part of one image of a set; without a box, from its middle."""

    dataset: str
    image: str
    box: Box | None = None


CREDITS: Mapping[Region, str] = {
    Region("demo", "chelsea", Box(290, 86, 96, 72)): "photograph by Stefan van der Walt, CC0",
    Region("demo", "camera", Box(236, 132, 96, 72)): "photograph by Lav Varshney, CC0",
}
"""The default regions, of images that may be redistributed, with credits as in scikit-image."""


@dataclass(frozen=True)
class Pictures:
    """Which images to show, and where to find them.

    Attributes:
        folder: the output folder of ``harness run --save-images``.
        data_root: the first folder in which to look for HR images.
        region: the region to show; None for those of `CREDITS`.
        models: the models to show, as names or globs; none for all that ran.
    """

    folder: Path
    data_root: Path | None = None
    region: Region | None = None
    models: Sequence[str] = ()


class Comparison(NamedTuple):
    """An HR image, the part to enlarge, and the SR images of some runs with labels; all whole."""

    title: str
    box: Box
    hr: ByteArray
    sr: list[tuple[str, ByteArray]]
    shown: list[Shown]


@register_report("crops")
def crops(findings: Findings, pictures: Pictures) -> list[Figure]:
    """Show HR, bicubic and each model on an enlarged region, with the whole image's PSNR and SSIM.

    There is no figure if no SR image was saved.

    Raises:
        UsageError: there is no such set, image, model or SR image, or the box does not fit.
        HarnessError: the set is not on this machine, or an image cannot be read.
    """
    region = pictures.region
    name = f"crops-{region.dataset}-{region.image}" if region else "crops"
    rows = [_compare(one, findings, pictures) for one in ([region] if region else CREDITS)]
    rows = [row for row in rows if row.sr]
    note = dagger_note(one for row in rows for one in row.shown)
    title = "Enlarged regions of images: HR, bicubic and each model"
    return [Figure(name, partial(_draw, rows, note), title, formats=("png",))] if rows else []


def _compare(region: Region, findings: Findings, pictures: Pictures) -> Comparison:
    """Read the images of a region, at the paper's largest scale."""
    scale = findings.paper.largest_scale if findings.paper else 4
    image_set = find(DATASETS.get(region.dataset), scale, pictures.data_root)
    name, paths = region.image, {image.name: image.path for image in image_set.images}
    if name not in paths:
        known = ", ".join([*paths][:5])
        raise UsageError(f"{image_set.card.title} has no image {name!r}: it has {known}, ...")
    hr = crop_to_multiple(read_image(paths[name]).pixels, scale)
    saved = {
        model: run
        for model, dataset, of_scale, ensemble in findings.by_cell
        if (dataset, of_scale, ensemble) == (region.dataset, scale, False)
        and (run := findings.run(model, dataset, scale, Preset(findings.rules)))
        # Other pixels may have the same name.
        and run.identity.dataset_sha256 == image_set.sha256
        and picture_path(pictures.folder, run.identity, name).exists()
    }
    every = sorted(saved, key=[*findings.names, *sorted(saved)].index)
    models = [*dict.fromkeys(one for word in pictures.models for one in _matching(word, every))]
    models = models or every
    absent = [model for model in models if model not in saved]
    for model in absent:
        MODELS.get(model)  # its error suggests similar names
    if absent or (pictures.region and not saved):
        raise UsageError(
            f"{pictures.folder} lacks SR images of {region.dataset}/{name} by "
            f"{listed(absent) or 'any model'}: make them with harness run --save-images."
        )
    shown = [
        Shown(findings.names.get(model, model), findings.row_of(model, scale), saved[model])
        for model in models
    ]
    sr = []
    for one in shown:
        pixels = read_image(picture_path(pictures.folder, one.run.identity, name)).pixels
        sr.append((_label(one, name, hr), pixels))
    credit = f" ({CREDITS[region]})" if region in CREDITS else ""
    return Comparison(f"{image_set.card.title} {name}{credit}", _box(region, hr), hr, sr, shown)


def _matching(word: str, models: Sequence[str]) -> Sequence[str]:
    """Return those of the models that a glob selects, or any registered ones if it selects none.

    Raises:
        UsageError: no model matches the glob.
    """
    if not is_glob(word):
        return [word]
    shown = [name for name in models if fnmatchcase(name.lower(), word.lower())]
    return shown or MODELS.select(word)


def _label(shown: Shown, image: str, hr: ByteArray) -> str:
    """Name a run's model, with PSNR and SSIM of an image; scoring as RGB adds about 1.3 dB."""
    scores = next(one.scores for one in shown.run.images if one.image == image)
    as_rgb = hr.ndim == 2 and protocol(shown.run.identity.protocol).grey == "as-rgb"
    name = shown.name + dagger(shown.run, shown.row)
    return f"{name}\n{scores['psnr']:.2f} dB / {scores['ssim']:.4f}{' as RGB' if as_rgb else ''}"


def _box(region: Region, hr: ByteArray) -> Box:
    """Return the region's box, or one of up to 96 x 72 pixels in the middle of the image."""
    height, width = hr.shape[:2]
    wide, high = min(96, width), min(72, height)
    box = region.box or Box((width - wide) // 2, (height - high) // 2, wide, high)
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise UsageError(
            f"The box {','.join(map(str, box))} is not inside {region.image}, which has "
            f"{width} x {height} pixels: give x,y,width,height."
        )
    return box


_PATCH, _GAP, _WORDS = 1.92, 0.12, 0.64
"""In inches: the width of a patch (288 dots, three a pixel), the space beside, and that below."""


def _draw(rows: Sequence[Comparison], note: str) -> figure.Figure:
    """Draw each whole HR image with the region's outline, and patches beside it in two lines."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Rectangle

    patches = max(len(row.sr) // 2 + 1 for row in rows)
    columns, lines = patches + 2, 2 * len(rows)
    # The boxes of several regions have one shape.
    high = _PATCH * rows[0].box.height / rows[0].box.width
    width, height = columns * (_PATCH + _GAP) - _GAP, lines * (high + _WORDS) - _WORDS
    canvas = Canvas((width, height))
    canvas.subplots_adjust(0, 0, 1, 1, wspace=_GAP / _PATCH, hspace=_WORDS / high)
    grid = canvas.add_gridspec(lines, columns)
    for line, (title, box, hr, sr, _) in zip(range(0, lines, 2), rows, strict=True):
        whole = canvas.add_subplot(grid[line : line + 2, :2], xticks=[], yticks=[], anchor="NW")
        whole.imshow(hr, "gray", vmin=0, vmax=255)
        whole.set_title(title, fontsize=9, loc="left")
        corner = box.x - 0.5, box.y - 0.5
        whole.add_patch(Rectangle(corner, box.width, box.height, fill=False, edgecolor="#ffd400"))
        for index, (label, pixels) in enumerate([("HR", hr), *sr]):
            below, column = divmod(index, patches)
            axes = canvas.add_subplot(grid[line + below, 2 + column], xticks=[], yticks=[])
            axes.set_xlabel(label, fontsize=8, labelpad=3)
            patch = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
            axes.imshow(patch, "gray", interpolation="nearest", vmin=0, vmax=255)
    canvas.text(0, -_WORDS / height, fill(note, int(15 * width)), va="top", fontsize=8, color="0.3")
    return canvas
