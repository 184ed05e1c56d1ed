"""Shows enlarged regions of images side by side: HR, bicubic and each model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
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
    """One image in a row of images to compare, with the scores of the whole image.

    Attributes:
        model: empty for the HR image, which has no scores.
        label: the text below the image.
        pixels: uint8 ``(H, W)`` or ``(H, W, 3)``; None where it was not saved.
    """

    model: str
    label: str
    pixels: ByteArray | None
    psnr: float | None = None
    ssim: float | None = None

    @property
    def scores(self) -> str:
        """The scores; empty without."""
        return "" if self.psnr is None else f"{self.psnr:.2f} dB / {self.ssim:.4f}"


@dataclass(frozen=True)
class Comparison:
    """The HR image of a region and the models' SR images.

    Attributes:
        title: of the set and image.
        box: the enlarged part.
        hr: the whole HR image.
        panels: whole images, the HR image first.
        note: explains the dagger after a label, if there is one.
    """

    region: Region
    title: str
    box: Box
    hr: ByteArray
    panels: tuple[Panel, ...]
    note: str = ""


def largest_scale(findings: Findings) -> int:
    """Return the largest scale of the paper's tables; 4 without any."""
    return max((one.row.scale for one in findings.rows if one.row.printed), default=4)


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
    panels = [Panel("", "HR", hr)]
    records: list[RunRecord] = []
    for model in pictures.models or _order(findings, runs):
        record = runs.get(model)
        if record is None:
            MODELS.get(model)  # its error suggests similar names
        elif record.identity.dataset_sha256 != image_set.sha256:
            record = None  # another set of the same name
        label = findings.names.get(model, model)
        panels.append(_panel(model, label, region.image, hr, record, pictures))
        records += [record] if record else []
    title = f"{image_set.card.title} {region.image}{_mixed(hr, records)}"
    return Comparison(region, title, box, hr, tuple(panels), dagger_note(records, findings.names))


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
    wide, high = min(SIZE[0], width), min(SIZE[1], height)
    box = region.box or Box((width - wide) // 2, (height - high) // 2, wide, high)
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
    model: str, label: str, image: str, hr: ByteArray, record: RunRecord | None, pictures: Pictures
) -> Panel:
    """Show a model's SR image; empty without a run on exactly these pixels."""
    if record is None:
        return Panel(model, label, None)
    scores = next(one.scores for one in record.images if one.image == image)
    label += dagger(record)
    pixels, remark = _picture(pictures.path(record, image), hr)
    return Panel(model, f"{label}{remark}", pixels, scores["psnr"], scores["ssim"])


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
_PATCH, _WORDS, _GAP, _TITLE, _NOTE = 1.92, 0.42, 0.12, 0.32, 0.4
"""In inches: a patch's width, the height of its text, the space, and heights of title and note.

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
        if pictures.region or (region.dataset, region.image) not in CREDITS
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
    from matplotlib.figure import Figure as Canvas

    layouts = [_layout(row) for row in rows]
    width = max(one.width for one in layouts)
    notes = dict.fromkeys(row.note for row in rows if row.note)
    height = sum(one.height for one in layouts) + _GAP + (_NOTE if notes else 0)
    canvas = Canvas(figsize=(width, height))
    lines = [line for note in notes for line in wrap(note, int(15 * width))]
    if lines:
        canvas.text(_GAP / width, _GAP / height, "\n".join(lines), fontsize=8, color="0.3")
    top = height

    def place(x: float, y: float, wide: float, high: float) -> axes.Axes:
        """Add axes at a place in inches from the top left."""
        box = (x / width, (top - y - high) / height, wide / width, high / height)
        return canvas.add_axes(box, xticks=[], yticks=[])

    for row, layout in zip(rows, layouts, strict=True):
        credit = CREDITS.get((row.region.dataset, row.region.image))
        title = f"{row.title} ({credit})" if credit else row.title
        canvas.text(_GAP / width, (top - 0.24) / height, title, fontsize=9)
        _draw_row(row, layout, place)
        top -= layout.height
    return canvas


class Layout(NamedTuple):
    """Sizes in inches: of the whole image, as high as two lines of patches, a patch, and the row.

    ``columns`` counts the patches of a line.
    """

    whole: tuple[float, float]
    patch: float
    columns: int
    width: float
    height: float


def _layout(row: Comparison) -> Layout:
    columns, patch = -(-len(row.panels) // 2), _PATCH * row.box.height / row.box.width
    high = 2 * patch + _WORDS
    wide = high * row.hr.shape[1] / row.hr.shape[0]
    width = 2 * _GAP + wide + columns * (_PATCH + _GAP)
    return Layout((wide, high), patch, columns, width, _TITLE + high + _WORDS)


def _draw_row(row: Comparison, layout: Layout, place: Callable[..., axes.Axes]) -> None:
    """Draw the whole HR image with the region's outline, then each panel's region in two lines."""
    from matplotlib.patches import Rectangle

    whole = place(_GAP, _TITLE, *layout.whole)
    _show(whole, row.hr, "auto")
    corner = (row.box.x - 0.5, row.box.y - 0.5)
    outline = Rectangle(corner, row.box.width, row.box.height, fill=False, edgecolor="#ffd400")
    whole.add_patch(outline)
    for index, panel in enumerate(row.panels):
        line, column = divmod(index, layout.columns)
        x = 2 * _GAP + layout.whole[0] + column * (_PATCH + _GAP)
        axes = place(x, _TITLE + line * (layout.patch + _WORDS), _PATCH, layout.patch)
        if panel.pixels is not None:
            _show(axes, row.box.cut(panel.pixels), "nearest")
        else:
            axes.set_facecolor("0.93")
            words = axes.text(0.5, 0.5, NO_PICTURE, fontsize=7, color="0.3")
            words.set(ha="center", va="center", transform=axes.transAxes)
        nothing = "not run" if panel.model else "PSNR (dB) / SSIM"
        scores = panel.scores.replace(" dB", "") or nothing
        axes.set_xlabel(f"{panel.label}\n{scores}", fontsize=8, labelpad=3)


def _show(axes: axes.Axes, pixels: ByteArray, interpolation: str) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
