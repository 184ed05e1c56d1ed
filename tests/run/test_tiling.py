import json
from pathlib import Path

import pytest
from PIL import Image

from harness.models import memory
from harness.models.inference import Upscaler
from harness.models.memory import forward_bytes
from harness.registry import MODELS
from harness.run.upscaling import LARGE
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
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(2 * 120**2 * per_pixel))
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
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**6)
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


def json_of(shown) -> dict:
    assert shown.exit_code == 0, shown.output
    (record,) = json.loads(shown.stdout)
    return record
