"""Enlarged regions side by side: HR, bicubic and each model, as in the paper's Figures 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from harness.registry import register_report
from harness.report.figures import Figure
from harness.report.pictures import Comparison, Panel, Pictures, Region, compare, regions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib import axes, figure

    from harness.cards import ByteArray, GreyRule

NO_PICTURE = "no image:\nharness run\n--save-images DIR"
CREDITS: Mapping[tuple[str, str], str] = {
    ("demo", "chelsea"): "photograph by Stefan van der Walt, CC0",
    ("demo", "camera"): "photograph by Lav Varshney, CC0",
}
"""Of the images that may be handed on, as scikit-image states them."""
_PATCH, _WORDS, _GAP, _TITLE, _NOTE = 1.92, 0.42, 0.12, 0.32, 0.4
"""In inches: a patch's width, the height of what is written below it, space, a title, and a note.

At 150 dots an inch a patch has 288 dots: three for each pixel of a region of the default size.
"""


@register_report("crops")
def crops(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, pictures: Pictures
) -> Figure:
    """HR, bicubic and each model on a region, enlarged, with the whole image's PSNR and SSIM.

    Args:
        runs: what `ResultStore.load` gives.
        paper: what `harness.paper.schema.paper` gives.
        grey: the rule whose runs are shown; None for each row's own.
        pictures: where the images are, and which are shown.

    Raises:
        UsageError: there is no such set, image or model, or the box does not fit.
        HarnessError: the set is not on this machine, or an image cannot be read.
    """
    shown = regions(runs, paper, grey, pictures)
    rows = [compare(region, runs, paper, grey, pictures) for region in shown]
    parts = [f"{one.dataset}-{one.image}" for one in shown if pictures.region or _is_published(one)]
    return Figure(
        "-".join(["crops", *parts]),
        lambda: _draw(rows),
        formats=("png",),
        title="Enlarged regions of images: HR, bicubic and each model",
        description=" ".join(_described(row) for row in rows),
    )


def _described(row: Comparison) -> str:
    scores = [f"{p.label} {p.psnr:.2f} dB / {p.ssim:.4f}" for p in row.panels if p.psnr is not None]
    return f"{row.title}: {'; '.join(scores)}."


def _is_published(region: Region) -> bool:
    """Whether its images may not be handed on, so that their crops need another file name."""
    return (region.dataset, region.image) not in CREDITS


def _draw(rows: Sequence[Comparison]) -> figure.Figure:
    from matplotlib.figure import Figure as Canvas

    width = max(_width(row) for row in rows)
    notes = dict.fromkeys(row.note for row in rows if row.note)
    height = sum(_height(row) for row in rows) + _GAP + (_NOTE if notes else 0)
    canvas = Canvas(figsize=(width, height))
    lines = [line for note in notes for line in wrap(note, int(15 * width))]
    if lines:
        canvas.text(_GAP / width, _GAP / height, "\n".join(lines), fontsize=8, color="0.3")
    top = height

    def place(x: float, y: float, wide: float, high: float) -> axes.Axes:
        """Axes at a place in inches, from the top left."""
        box = (x / width, (top - y - high) / height, wide / width, high / height)
        return canvas.add_axes(box, xticks=[], yticks=[])

    for row in rows:
        credit = CREDITS.get((row.region.dataset, row.region.image))
        title = f"{row.title} ({credit})" if credit else row.title
        canvas.text(_GAP / width, (top - 0.24) / height, title, fontsize=9)
        _draw_row(row, place)
        top -= _height(row)
    return canvas


def _draw_row(row: Comparison, place: Any) -> None:
    """The whole HR image with the region's outline, then the region of each panel in two lines."""
    from matplotlib.patches import Rectangle

    patch, (wide, high) = _patch_height(row), _whole_size(row)
    whole = place(_GAP, _TITLE, wide, high)
    _show(whole, row.hr, "auto")
    corner = (row.box.x - 0.5, row.box.y - 0.5)
    outline = Rectangle(corner, row.box.width, row.box.height, fill=False, edgecolor="#ffd400")
    whole.add_patch(outline)
    for index, panel in enumerate(row.panels):
        line, column = divmod(index, _columns(row))
        x = 2 * _GAP + wide + column * (_PATCH + _GAP)
        axes = place(x, _TITLE + line * (patch + _WORDS), _PATCH, patch)
        _show_panel(axes, panel, row)


def _show_panel(axes: axes.Axes, panel: Panel, row: Comparison) -> None:
    if panel.pixels is None:
        axes.set_facecolor("0.93")
        words = axes.text(0.5, 0.5, NO_PICTURE, fontsize=7, color="0.3", transform=axes.transAxes)
        words.set(ha="center", va="center")
    else:
        _show(axes, row.box.cut(panel.pixels), "nearest")
    scores = "PSNR (dB) / SSIM"
    if panel.model:
        scores = "not run" if panel.psnr is None else f"{panel.psnr:.2f} / {panel.ssim:.4f}"
    axes.set_xlabel(f"{panel.label}\n{scores}", fontsize=8, labelpad=3)


def _show(axes: axes.Axes, pixels: ByteArray, interpolation: str) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)


def _columns(row: Comparison) -> int:
    return -(-len(row.panels) // 2)


def _patch_height(row: Comparison) -> float:
    return _PATCH * row.box.height / row.box.width


def _height(row: Comparison) -> float:
    return _TITLE + 2 * (_patch_height(row) + _WORDS)


def _whole_size(row: Comparison) -> tuple[float, float]:
    """The whole image, as high as the two lines of patches."""
    high = 2 * _patch_height(row) + _WORDS
    return high * row.hr.shape[1] / row.hr.shape[0], high


def _width(row: Comparison) -> float:
    return 2 * _GAP + _whole_size(row)[0] + _columns(row) * (_PATCH + _GAP)
