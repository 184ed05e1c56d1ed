import json
from pathlib import Path

import pytest
from PIL import Image

from harness.models import resources
from harness.models.resources import forward_bytes
from harness.models.upscaler import Upscaler
from harness.registry import MODELS
from harness.run.evaluate import LARGE
from tests.pictures import picture


@pytest.fixture()
def photo(tmp_path: Path) -> Path:
    """A folder with one image of 640 x 480 pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(picture(480, 640)).save(folder / "one.png")
    return folder


def test_tiles_fit_the_memory_and_that_is_said(harness, photo: Path, monkeypatch) -> None:
    whole = harness("run", "--models", "edsr-baseline", "--datasets", photo, "--json")
    per_pixel = forward_bytes(Upscaler(MODELS.get("edsr-baseline"), 4, None).network, 3)
    # Half of it is used: 120 LR pixels a side are 44, which is more than 32, and twice 37 or 38.
    monkeypatch.setattr(resources, "free_bytes", lambda device: int(2 * 120**2 * per_pixel))
    words = ("run", "--models", "edsr-baseline", "--datasets", photo, "--tile", "auto", "--json")
    tiled = harness(*words)
    assert "runs in tiles of" in tiled.stderr
    one, other = (json_of(shown) for shown in (whole, tiled))
    assert one["identity"]["tile"] is None and other["identity"]["tile"] == 32
    assert one["identity"] != other["identity"]
    assert other["means"]["psnr"] == pytest.approx(one["means"]["psnr"], abs=1e-4)


def test_what_fits_is_not_cut(harness, photo: Path) -> None:
    shown = harness("run", "--models", "drfn", "--datasets", photo, "--tile", "auto", "--json")
    assert json_of(shown)["identity"]["tile"] is None


def test_a_large_image_is_cut_without_being_asked(harness, photo: Path, monkeypatch) -> None:
    side = int(LARGE**0.5) + 4
    Image.new("RGB", (side, side)).save(photo / "large.png")
    monkeypatch.setattr(resources, "free_bytes", lambda device: 10**6)
    shown = harness("run", "--models", "drfn", "--datasets", photo)
    assert shown.exit_code == 1
    assert "needs more than the 0.0 GB that are free, even in tiles" in shown.stderr


@pytest.mark.parametrize(
    ("name", "floats"),
    [
        # Before and after the last 2x shuffle, which copies, 64 channels of 16 pixels each.
        ("edsr-baseline", 2 * 64 * 16),
        # The same; DRFN's 17 features of 64 channels lie below that.
        ("drfn", 2 * 64 * 16),
        # A ReLU's input and output.
        ("srcnn", 2 * 64),
    ],
)
def test_the_bytes_of_a_forward_pass_are_counted_without_one(name: str, floats: int) -> None:
    card = MODELS.get(name)
    counted = forward_bytes(Upscaler(card, 4, None).network, card.channels)
    assert 4 * floats <= counted <= 1.35 * 4 * floats


PICKY = """
import torch
from torch import nn
from torch.nn.functional import interpolate, pad
from harness.registry import register_model

class Picky(nn.Module):
    def __init__(self, refuses):
        super().__init__()
        self.refuses = refuses

    def forward(self, image):
        if min(image.shape[2:]) < self.refuses:
            raise ValueError(f"give me {self.refuses} pixels")
        return interpolate(image, scale_factor=4)

def picky(name, refuses):
    register_model(name, pipeline="rgb", input="lr", scales=(4,), params=0)(
        lambda scale: Picky(refuses)
    )

picky("a-bit", 40)
picky("much", 100)
picky("all", 10**6)

@register_model("by-value", pipeline="rgb", input="lr", scales=(4,), params=0)
class ByValue(nn.Module):
    def __init__(self, scale):
        super().__init__()

    def forward(self, image):
        return interpolate(image if image.mean() > 0 else -image, scale_factor=4)
"""


@pytest.fixture
def picky(harness, photo: Path):
    """``harness run`` of one of several plug-ins on a photograph of 160 x 120 LR pixels."""
    Path("picky.py").write_text(PICKY)

    def run(models: str, *words: object):
        return harness(
            *("run", "--models", models, "--datasets", photo, "--plugin", "picky.py", *words)
        )

    return run


def test_a_network_that_refuses_small_images_runs_in_tiles_that_it_takes(picky) -> None:
    whole, tiled = (json_of(picky("a-bit", "--json", *words)) for words in ((), ("--tile", 80)))
    assert tiled["identity"]["tile"] == 80
    assert tiled["means"] == whole["means"]


def test_tiles_that_a_network_does_not_take_are_named(picky) -> None:
    shown = picky("a-bit,bicubic", "--tile", 16)
    assert shown.exit_code == 1
    assert "a-bit fails on one in tiles of 16 LR pixels (ValueError: give me 40" in shown.output
    assert "use a larger --tile" in shown.output and "bicubic on photos" in shown.output


def test_a_network_that_takes_no_small_image_cannot_be_cut(picky) -> None:
    shown = picky("all,bicubic", "--tile", 64)
    assert shown.exit_code == 1
    assert "all cannot be cut into tiles: it fails on images of" in shown.output
    assert "(ValueError: give me 1000000 pixels)" in shown.output
    assert "bicubic on photos (BI-x4/y): psnr" in shown.output


@pytest.mark.parametrize("model", ["by-value", "much"])
def test_where_memory_cannot_be_counted_one_is_told_to_choose(picky, model: str) -> None:
    shown = picky(model, "--tile", "auto")
    counted = model == "much"  # on an image of 128 pixels
    assert shown.exit_code == (0 if counted else 1), shown.output
    assert ("choose --tile N yourself" in shown.output) != counted


FULL = """
import numpy, torch
from torch import nn
from torch.nn.functional import interpolate
from harness.registry import register_model

def of_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

def of_cublas():
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

def bare():
    raise MemoryError

class Full(nn.Module):
    def __init__(self, demand):
        super().__init__()
        self.demand = demand

    def forward(self, image):
        if min(image.shape[2:]) > 100:
            self.demand()
        return interpolate(image, scale_factor=4)

for name, demand in {
    "torch": lambda: torch.empty(1 << 60),
    "numpy": lambda: numpy.zeros(1 << 56),
    "gpu": of_a_gpu,
    "cublas": of_cublas,
    "bare": bare,
}.items():
    register_model(name, pipeline="rgb", input="lr", scales=(4,), params=0)(
        lambda scale, demand=demand: Full(demand)
    )
"""


def test_where_memory_runs_out_tiles_are_advised_and_the_other_runs_go_on(
    harness, photo: Path
) -> None:
    Path("full.py").write_text(FULL)
    words = ("--models", "torch,numpy,gpu,cublas,bare,bicubic", "--plugin", "full.py")
    shown = harness("run", *words, "--datasets", photo)
    assert shown.exit_code == 1
    said = "failed: Memory runs out on one, 640 x 480 pixels: use --tile N"
    assert shown.output.count(said) == 5, shown.output
    assert "bicubic on photos (BI-x4/y): psnr" in shown.output
    tiled = harness("run", *words, "--datasets", photo, "--tile", 64)
    assert tiled.exit_code == 0, tiled.output


def test_where_tiles_are_too_large_smaller_ones_are_advised(harness, photo: Path) -> None:
    Path("full.py").write_text(FULL)
    words = ("--models", "torch", "--plugin", "full.py", "--datasets", photo, "--tile", 110)
    shown = harness("run", *words)
    assert shown.exit_code == 1
    assert "Memory runs out on one, 640 x 480 pixels: use a --tile smaller than 110" in shown.output


def json_of(shown) -> dict:
    assert shown.exit_code == 0, shown.output
    (record,) = json.loads(shown.stdout)
    return record
