from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.cards import ModelCard
from harness.errors import HarnessError, UsageError
from harness.models.network import build_network, require_images
from harness.models.resources import pick_device
from harness.models.upscaler import Upscaler, spans
from harness.models.weights import read_weights
from harness.registry import MODELS, register_model

RNG = np.random.default_rng(0)


SMALL = {
    "edsr": {"blocks": 3, "width": 8},
    "rdn": {"blocks": 2, "convs": 2, "growth": 4, "width": 8},
}


def upscaler(name: str, random_weights, scale: int = 4, **options) -> Upscaler:
    card = MODELS.get(name)
    path = random_weights(name, scale, **SMALL.get(name, {}))
    return Upscaler(card, scale, read_weights(card, scale, path), **options)


@pytest.mark.parametrize("name", ["edsr-baseline", "srcnn", "fsrcnn", "lapsrn", "srmdnf"])
def test_self_ensemble_is_the_mean_of_eight_separate_runs(name: str, random_weights) -> None:
    plain = upscaler(name, random_weights)
    image = RNG.random((13, 17, plain.card.channels))
    runs = []
    for flip, turns in product((False, True), range(4)):
        turned = np.rot90(image[:, ::-1] if flip else image, turns)
        back = np.rot90(plain(turned), -turns)
        runs.append(back[:, ::-1] if flip else back)
    ensemble = upscaler(name, random_weights, self_ensemble=True)(image)
    np.testing.assert_allclose(ensemble, np.mean(runs, axis=0), atol=1e-5)
    assert np.abs(ensemble - plain(image)).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "size"),
    [("vdsr", (50, 260)), ("edsr-baseline", (30, 140)), ("edsr", (30, 140)), ("rdn", (30, 140))],
)
def test_tiles_agree_with_the_whole_image(name: str, size, random_weights) -> None:
    plain = upscaler(name, random_weights)
    image = RNG.random((*size, plain.card.channels))
    tiled = upscaler(name, random_weights, tile=40)
    assert tiled.overlap < size[1] - tiled.tile, "no tile may see the whole image"
    np.testing.assert_allclose(tiled(image), plain(image), atol=1e-5)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2), st.booleans())
@settings(deadline=None, max_examples=50)
def test_any_tiles_of_any_image_agree_with_the_whole(
    height: int, width: int, tile: int, convs: int, enlarging: bool
) -> None:
    class Small(nn.Sequential):
        def __init__(self, scale: int) -> None:
            layers = [nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64) for _ in range(convs)]
            last = nn.Conv2d(1, 16, 5, padding=2, dtype=torch.float64), nn.PixelShuffle(4)
            super().__init__(*layers, *(last if enlarging else (nn.Identity(),)))

    torch.manual_seed(convs)
    given_size = "lr" if enlarging else "bicubic"
    card = ModelCard("small", Small, "y", given_size, (4,))
    network = Small(4)
    image = np.random.default_rng(height).random((height, width, 1))
    whole, tiled = (Upscaler(card, 4, None, network=network, tile=t) for t in (None, tile))
    np.testing.assert_allclose(tiled(image), whole(image), atol=1e-12)


@given(st.integers(0, 500), st.integers(1, 60))
def test_spans_cover_every_pixel_once_and_in_order(length: int, size: int) -> None:
    pieces = list(spans(length, size))
    assert [pixel for start, end in pieces for pixel in range(start, end)] == list(range(length))
    assert all(0 < end - start <= size for start, end in pieces)


def test_tiles_are_counted_in_lr_pixels_for_every_kind_of_input(random_weights) -> None:
    assert upscaler("edsr-baseline", random_weights, tile=20).tile == 20
    assert upscaler("srcnn", random_weights, tile=20).tile == 80


def test_the_overlap_bounds_the_receptive_field(random_weights) -> None:
    # SRCNN: 4 + 2 + 2 pixels; VDSR: 20; the bound adds one.
    assert upscaler("srcnn", random_weights, tile=8).overlap == 8 + 1
    assert upscaler("vdsr", random_weights, tile=8).overlap == 20 + 1


def test_pooling_and_interpolation_count_as_well() -> None:
    class Blurred(nn.Sequential):
        def __init__(self, scale: int) -> None:
            super().__init__(nn.AvgPool2d(31, 1, 15), nn.Upsample(scale_factor=4, mode="nearest"))

    register_model("blurred", pipeline="rgb", input="lr", scales=(4,), params=0)(Blurred)
    image = RNG.random((30, 90, 3))
    whole, tiled = (Upscaler(MODELS.get("blurred"), 4, None, tile=tile) for tile in (None, 16))
    inner = (slice(60, -60), slice(60, -60))
    np.testing.assert_allclose(tiled(image)[inner], whole(image)[inner], atol=1e-9)


def test_spans_cover_a_side_once() -> None:
    assert list(spans(10, 4)) == [(0, 4), (4, 8), (8, 10)]


def test_a_model_without_parameters_computes_in_double() -> None:
    image = RNG.random((8, 8, 1))
    out = Upscaler(MODELS.get("bicubic"), 4, None)(image)
    np.testing.assert_array_equal(out, image)


def test_scores_are_made_without_tf32(random_weights) -> None:
    torch.backends.cudnn.allow_tf32 = True
    upscaler("srcnn", random_weights)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, image):
        return image if self.kind == "size" else image.repeat(1, 1, 4, 4) * float("nan")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("size", "returned .* not .*: fix the network"),
        ("nan", "returned values that are not finite"),
    ],
)
def test_a_network_that_returns_something_else_is_named(kind: str, message: str) -> None:
    register_model("wrong", pipeline="rgb", input="lr", scales=(4,), params=0)(
        type("W", (Wrong,), {"__init__": lambda self, scale: Wrong.__init__(self, kind)})
    )
    with pytest.raises(HarnessError, match=f"wrong {message}"):
        Upscaler(MODELS.get("wrong"), 4, None)(RNG.random((8, 8, 3)))


SR, AUX = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("output", "kind", "advice"),
    [
        ((SR, AUX), "a tuple", "returns output[0], which has that shape"),
        ([AUX, SR], "a list", "returns output[1], which has that shape"),
        ({"aux": AUX, "sr": SR}, "a dict", "returns output['sr'], which has that shape"),
        ([SR, SR], "a list", "output[0] or output[1], which has that shape"),
        ((AUX, [SR]), "a tuple", "returns the SR image alone"),
        (None, "a NoneType", "returns the SR image alone"),
    ],
)
def test_what_a_network_returns_beside_the_image_is_named(output, kind: str, advice: str) -> None:
    with pytest.raises(HarnessError) as raised:
        require_images(output, AUX, 4, "odd")
    said = str(raised.value)
    assert said.startswith(f"odd returned {kind}") and said.endswith(f"{advice}.")
    assert "not a tensor of (1, 3, 32, 32)" in said


class Reflecting(nn.Module):
    """Pads by reflection, which needs more pixels than it pads by."""

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad, self.conv = pad, nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image):
        padded = nn.functional.pad(self.conv(image), [self.pad] * 4, mode="reflect")
        return padded[:, :, self.pad : -self.pad, self.pad : -self.pad].repeat(1, 1, 4, 4)


@pytest.mark.parametrize("pad", [12, 40, 100])
def test_a_network_that_refuses_small_images_is_tried_on_larger_ones(pad: int) -> None:
    card = ModelCard("reflecting", Reflecting, "rgb", "lr", (4,))
    assert Upscaler(card, 4, None, network=Reflecting(pad), tile=16).overlap == 2


def test_a_network_that_takes_no_image_is_named_with_its_own_words() -> None:
    card = ModelCard("reflecting", Reflecting, "rgb", "lr", (4,))
    with pytest.raises(
        HarnessError, match=r"reflecting cannot be cut .* 64 and 128 pixels.*Padding"
    ):
        Upscaler(card, 4, None, network=Reflecting(200), tile=16)


# How far each network reaches decides what its tiles overlap by, and so the numbers of a tiled run.
@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("bicubic", 1),
        ("srcnn", 9),
        ("fsrcnn", 8),
        ("vdsr", 21),
        ("lapsrn", 20),
        ("srmdnf", 13),
        ("edsr-baseline", 37),
        ("msrn", 53),
        ("drfn", 229),
    ],
)
def test_how_far_the_networks_of_the_paper_reach_stays_as_it_is(name: str, radius: int) -> None:
    assert Upscaler(MODELS.get(name), 4, None).receptive_radius() == radius


def test_a_plugin_that_fails_or_builds_something_else_is_named() -> None:
    def broken(scale: int) -> nn.Module:
        raise RuntimeError("no luck")

    register = register_model("broken", pipeline="rgb", input="lr", scales=(4,))
    register(broken)
    with pytest.raises(HarnessError, match=r"failed to build broken \(RuntimeError: no luck\)"):
        build_network(MODELS.get("broken"), 4, {})
    register(lambda scale: "a network")
    with pytest.raises(HarnessError, match="built no torch module for broken"):
        build_network(MODELS.get("broken"), 4, {})


def test_a_scale_or_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="not defined for x8, only for x2, x3, x4"):
        build_network(MODELS.get("edsr"), 8, {})
    with pytest.raises(UsageError, match="no device 'abacus'"):
        pick_device("abacus")
    assert pick_device("cpu") == "cpu"
