"""LR images that a user gives, instead of those that the protocol makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.data.identify import Benchmark, BenchmarkImage, LRImage
from harness.data.images import image_files, read_image
from harness.data.layouts import lr_files
from harness.errors import HarnessError


def with_lr_images(benchmark: Benchmark, folder: Path, scale: int) -> Benchmark:
    """A set with the LR images of a folder, each found by the name of its HR image.

    Raises:
        HarnessError: one is missing, cannot be read, or has not the size of its HR image, cropped
            to multiples of the scale, divided by the scale.
    """
    hr = {image.path.resolve() for image in benchmark.images}
    files = [path for path in image_files(folder) if path.resolve() not in hr]
    images = (replace(one, lr=_lr_image(one, files, folder, scale)) for one in benchmark.images)
    return replace(benchmark, images=tuple(images))


def _lr_image(image: BenchmarkImage, files: list[Path], folder: Path, scale: int) -> LRImage:
    """The LR image of an HR image among files."""
    path = _lr_file(image, files, folder, scale)
    loaded = read_image(path)
    size = loaded.pixels.shape[1], loaded.pixels.shape[0]
    wanted = image.size[0] // scale, image.size[1] // scale
    if size != wanted:
        raise HarnessError(
            f"{path} is {size[0]} x {size[1]} pixels, and the LR image of {image.path.name} at "
            f"x{scale} is {wanted[0]} x {wanted[1]}: name the folder of the right LR images."
        )
    return LRImage(path, loaded.sha256)


def _lr_file(image: BenchmarkImage, files: list[Path], folder: Path, scale: int) -> Path:
    found = lr_files(files, [image.path.stem, image.name])
    of_scale = [path for path in found if path.stem.endswith(f"x{scale}")] or found
    if not of_scale:
        raise HarnessError(
            f"{folder} has no LR image of {image.path.name}: give each the name of its HR "
            f"image, or that with x{scale} or _LR behind it."
        )
    if len(of_scale) > 1:
        raise HarnessError(
            f"{of_scale[0]} and {of_scale[1].name} are both named like the LR image of "
            f"{image.path.name}: name a folder with one of them."
        )
    return of_scale[0]
