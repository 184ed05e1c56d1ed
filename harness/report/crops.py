"""Shows enlarged regions of images side by side: HR, bicubic and each model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from harness.data.identify import ImageSet
from harness.data.images import MissingImageError, read_image
from harness.data.testsets import DatasetUnavailable, find
from harness.errors import HarnessError, UsageError
from harness.protocol.rules import crop_to_multiple, protocol
from harness.registry import DATASETS, MODELS, register_report
from harness.report.legend import dagger, dagger_note
from harness.report.plot import Figure
from harness.run.store import picture_path

if TYPE_CHECKING:
    from matplotlib import axes, figure

    from harness.cards import ByteArray
    from harness.paper.findings import Findings
    from harness.record import RunRecord


class Box(NamedTuple):
    """A part of an image, in HR pixels from the top left."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(cls, x: int, y: int, size: tuple[int, int], pixels: ByteArray) -> Box:
        """Return a box of some width and height around a place, moved into an image."""
        height, width = pixels.shape[:2]
        wide, high = min(size[0], width), min(size[1], height)
        left = min(max(x - wide // 2, 0), width - wide)
        top = min(max(y - high // 2, 0), height - high)
        return cls(left, top, wide, high)

    def cut(self, pixels: ByteArray) -> ByteArray:
        """Cut this part out of an image."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


class Region(NamedTuple):
    """A part of one image of a set; without a box, from its middle."""

    dataset: str
    image: str
    box: Box | None = None


SIZE = (96, 72)
"""Default width and height of a region."""
REGIONS = (
    Region("urban100", "img_004"),
    Region("manga109", "YumeiroCooking"),
    Region("set14", "img_002", Box(516, 96, *SIZE)),  # barbara, her scarf
    Region("set14", "img_013", Box(28, 250, *SIZE)),  # ppt3, its text
    Region("demo", "chelsea", Box(290, 86, *SIZE)),
    Region("demo", "camera", Box(236, 132, *SIZE)),
)
"""Default regions: images that papers on super-resolution show, then sharp details."""


@dataclass(frozen=True)
class Pictures:
    """Which images to show, and where to find them.

    Attributes:
        folder: the output folder of ``harness run --save-images``.
        data_root: the first folder in which to look for HR images.
        region: the region to show; None for those of `REGIONS` that have SR images.
        models: the models to show; none for all that ran.
    """

    folder: Path
    data_root: Path | None = None
    region: Region | None = None
    models: Sequence[str] = ()

    def path(self, record: RunRecord, image: str) -> Path:
        """Return the path of a run's SR image, whether it exists or not."""
        return picture_path(self.folder, record.identity, image)


class Panel(NamedTuple):
    """One image in a row of images to compare.

    Attributes:
        label: the text below the image.
        pixels: uint8 ``(H, W)`` or ``(H, W, 3)``; None where it was not saved.
        scores: PSNR and SSIM of the whole image, for example ``28.18 dB / 0.7710``, or ``not run``;
            empty for the HR image.
    """

    label: str
    pixels: ByteArray | None
    scores: str = ""


@dataclass(frozen=True)
class Comparison:
    """The HR image of a region and the models' SR images.

    Attributes:
        title: of the set and image, with the credit of an image that may be redistributed.
        box: the enlarged part.
        hr: the whole HR image.
        panels: whole images, the HR image first.
        note: explains the dagger after a label, if there is one.
    """

    title: str
    box: Box
    hr: ByteArray
    panels: tuple[Panel, ...]
    note: str = ""


def largest_scale(findings: Findings) -> int:
    """Return the largest scale of the paper's tables that can be measured; 4 without any."""
    return findings.paper.largest_scale if findings.paper else 4


def regions(findings: Findings, pictures: Pictures) -> list[Region]:
    """Choose the requested region, else those of `REGIONS` with SR images, or demo's first."""
    if pictures.region:
        return [pictures.region]
    scale = largest_scale(findings)
    runs = findings.shown(scale)

    def pictured(region: Region) -> bool:
        of_set = (run for (_, dataset), run in runs.items() if dataset == region.dataset)
        return any(pictures.path(run, region.image).exists() for run in of_set)

    def present(region: Region) -> bool:
        try:
            return bool(find(DATASETS.get(region.dataset), scale, pictures.data_root))
        except DatasetUnavailable:
            return False

    ready = [region for region in REGIONS if pictured(region) and present(region)]
    return ready or [next(region for region in REGIONS if region.dataset == "demo")]


def compare(region: Region, findings: Findings, pictures: Pictures) -> Comparison:
    """Read the images of a region.

    Raises:
        UsageError: there is no such set, image or model, or the box does not fit.
        HarnessError: the set is not on this machine, or an image cannot be read.
    """
    scale = largest_scale(findings)
    image_set = find(DATASETS.get(region.dataset), scale, pictures.data_root)
    hr = crop_to_multiple(_hr(image_set, region), scale)
    box = _fitting(region, hr)
    shown = findings.shown(scale)
    runs = {model: run for (model, dataset), run in shown.items() if dataset == region.dataset}
    panels = [Panel("HR", hr)]
    records: list[RunRecord] = []
    for model in pictures.models or _order(findings, runs):
        record = runs.get(model)
        if record is None:
            MODELS.get(model)  # its error suggests similar names
        elif record.identity.dataset_sha256 != image_set.sha256:
            record = None  # another set of the same name
        label = findings.names.get(model, model)
        panels.append(_panel(label, region.image, hr, record, pictures))
        records += [record] if record else []
    credit = CREDITS.get(region[:2])
    title = f"{image_set.card.title} {region.image}{_mixed(hr, records)}"
    title += f" ({credit})" if credit else ""
    return Comparison(title, box, hr, tuple(panels), dagger_note(records, findings.names))


def _mixed(hr: ByteArray, records: Sequence[RunRecord]) -> str:
    """Write the note on a grey image that runs scored under the rules of both pipelines."""
    rules = {protocol(record.identity.protocol).grey for record in records}
    if hr.ndim == 3 or len(rules) < 2:
        return ""
    return ", grey: scored as RGB for networks on RGB, which adds about 1.3 dB"


def _hr(image_set: ImageSet, region: Region) -> ByteArray:
    image = next((one for one in image_set.images if one.name == region.image), None)
    if image is None:
        names = ", ".join(one.name for one in image_set.images[:5])
        raise UsageError(
            f"{image_set.card.title} has no image {region.image!r}: it has {names}, ..."
        )
    return read_image(image.path).pixels


def _fitting(region: Region, hr: ByteArray) -> Box:
    """Return the region's box, or one in the middle of the image."""
    height, width = hr.shape[:2]
    box = region.box or Box.around(width // 2, height // 2, SIZE, hr)
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise UsageError(
            f"The box {','.join(map(str, box))} is not inside {region.image}, which has "
            f"{width} x {height} pixels: give x,y,width,height."
        )
    return box


def _order(findings: Findings, runs: Collection[str]) -> list[str]:
    """Order the models that ran as the paper does, then by name, with the first interpolation."""
    ran = {model: None for model in [*findings.names, *sorted(runs)] if model in runs}
    plain = [model for model in ran if model in MODELS and MODELS.get(model).params == 0]
    return [model for model in ran if model not in plain[1:]]  # they all look the same


def _panel(
    label: str, image: str, hr: ByteArray, record: RunRecord | None, pictures: Pictures
) -> Panel:
    """Show a model's SR image; empty without a run on exactly these pixels."""
    if record is None:
        return Panel(label, None, "not run")
    scores = next(one.scores for one in record.images if one.image == image)
    pixels, remark = _picture(pictures.path(record, image), hr)
    text = f"{scores['psnr']:.2f} dB / {scores['ssim']:.4f}"
    return Panel(f"{label}{dagger(record)}{remark}", pixels, text)


def _picture(path: Path, hr: ByteArray) -> tuple[ByteArray | None, str]:
    """Read a saved picture, or return None and a remark if it is not usable."""
    try:
        pixels = read_image(path).pixels
    except MissingImageError:
        return None, ""
    except HarnessError:
        return None, " (its picture cannot be read)"
    if pixels.shape[:2] != hr.shape[:2]:
        return None, " (its picture has another size)"
    return pixels, ""


NO_PICTURE = "no image:\nharness run\n--save-images DIR"
CREDITS: Mapping[tuple[str, str], str] = {
    ("demo", "chelsea"): "photograph by Stefan van der Walt, CC0",
    ("demo", "camera"): "photograph by Lav Varshney, CC0",
}
"""Credits of the images that may be redistributed, as scikit-image states them."""
_PATCH, _GAP, _WORDS = 1.92, 0.12, 0.64
"""In inches: the width of a patch, and the space beside and below it, with its text.

At 150 dots per inch, a patch has 288 dots: three for each pixel of a region of default size.
"""


@register_report("crops")
def crops(findings: Findings, pictures: Pictures) -> Figure:
    """Show HR, bicubic and each model on an enlarged region, with the whole image's PSNR and SSIM.

    Raises:
        UsageError: there is no such set, image or model, or the box does not fit.
        HarnessError: the set is not on this machine, or an image cannot be read.
    """
    chosen = regions(findings, pictures)
    rows = [compare(region, findings, pictures) for region in chosen]
    parts = [
        f"{region.dataset}-{region.image}"
        for region in chosen
        # Images that may not be redistributed need their own file name.
        if pictures.region or region[:2] not in CREDITS
    ]
    return Figure(
        "-".join(["crops", *parts]),
        lambda: _draw(rows),
        formats=("png",),
        title="Enlarged regions of images: HR, bicubic and each model",
        description=" ".join(map(_described, rows)),
    )


def _described(row: Comparison) -> str:
    scores = [f"{panel.label} {panel.scores}" for panel in row.panels if panel.scores]
    return f"{row.title}: {'; '.join(scores)}."


def _draw(rows: Sequence[Comparison]) -> figure.Figure:
    """Draw each whole HR image with the region's outline, and its panels beside it in two lines."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Rectangle

    patches = max(-(-len(row.panels) // 2) for row in rows)
    columns, lines = patches + 2, 2 * len(rows)
    heights = [_PATCH * row.box.height / row.box.width for row in rows for _ in range(2)]
    width = columns * (_PATCH + _GAP) - _GAP
    height = sum(heights) + (lines - 1) * _WORDS
    canvas = Canvas((width, height))
    space = {"wspace": _GAP / _PATCH, "hspace": _WORDS * lines / sum(heights)}
    canvas.subplots_adjust(left=0, right=1, bottom=0, top=1, **space)
    grid = canvas.add_gridspec(lines, columns, height_ratios=heights)
    for line, row in zip(range(0, lines, 2), rows, strict=True):
        whole = canvas.add_subplot(grid[line : line + 2, :2], xticks=[], yticks=[], anchor="NW")
        _show(whole, row.hr, "auto")
        corner = (row.box.x - 0.5, row.box.y - 0.5)
        outline = Rectangle(corner, row.box.width, row.box.height, fill=False, edgecolor="#ffd400")
        whole.add_patch(outline)
        whole.set_title(row.title, fontsize=9, loc="left")
        for index, panel in enumerate(row.panels):
            below, column = divmod(index, patches)
            axes = canvas.add_subplot(grid[line + below, 2 + column], xticks=[], yticks=[])
            _draw_panel(axes, panel, row.box)
    notes = dict.fromkeys(fill(row.note, int(15 * width)) for row in rows if row.note)
    canvas.text(0, -_WORDS / height, "\n".join(notes), va="top", fontsize=8, color="0.3")
    return canvas


def _draw_panel(axes: axes.Axes, panel: Panel, box: Box) -> None:
    if panel.pixels is not None:
        _show(axes, box.cut(panel.pixels), "nearest")
    else:
        axes.set(facecolor="0.93", box_aspect=box.height / box.width)
        words = axes.text(0.5, 0.5, NO_PICTURE, transform=axes.transAxes)
        words.set(ha="center", va="center", fontsize=7, color="0.3")
    axes.set_xlabel(f"{panel.label}\n{panel.scores}", fontsize=8, labelpad=3)


def _show(axes: axes.Axes, pixels: ByteArray, interpolation: str) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)


def redistributable(findings: Findings, pictures: Pictures) -> Figure | None:
    """Show the images that may be redistributed; None without any SR image of these."""
    chosen = [one for one in regions(findings, pictures) if one[:2] in CREDITS]
    rows = [compare(one, findings, pictures) for one in chosen]
    if not any(panel.pixels is not None for row in rows for panel in row.panels[1:]):
        return None
    return Figure("look", lambda: _draw(rows), description=" ".join(map(_described, rows)))
