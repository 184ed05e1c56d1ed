"""LR images that a user gives, instead of those that the protocol makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.data.identify import Benchmark, BenchmarkImage, LRImage
from harness.data.images import image_files, image_size, read_image
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
    found = lr_files(files, [image.path.stem, image.name])
    if not found:
        raise HarnessError(
            f"{folder} has no LR image of {image.path.name}: give each the name of its HR "
            f"image, or that with x{scale} or _LR behind it."
        )
    wanted = image.size[0] // scale, image.size[1] // scale
    fitting = [path for path in found if image_size(path) == wanted]
    if not fitting:
        width, height = image_size(found[0])
        raise HarnessError(
            f"{found[0]} is {width} x {height} pixels, and the LR image of {image.path.name} at "
            f"x{scale} is {wanted[0]} x {wanted[1]}: name the folder of the right LR images."
        )
    if len(fitting) > 1:
        raise HarnessError(
            f"{fitting[0]} and {fitting[1].name} are both named like the LR image of "
            f"{image.path.name}: name a folder with one of them."
        )
    return LRImage(fitting[0], read_image(fitting[0]).sha256)
