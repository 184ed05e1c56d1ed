import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.images import pixels_digest, read_image
from harness.data.testsets import find
from harness.protocol.resize import imresize
from harness.registry import DATASETS
from tests.pictures import picture

MATLAB = list(csv.DictReader(Path(__file__).with_name("matlab_lr.csv").read_text().splitlines()))
sizes = st.integers(1, 40)
scales = st.sampled_from([1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
borders = st.sampled_from(["replicate", "symmetric"])


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "border", "count"),
    [("set5", "replicate", 5), ("set5", "symmetric", 5), ("set14", "replicate", 14)],
)
def test_the_lr_images_matlab_made_come_out_bit_for_bit(
    dataset: str, border: str, count: int
) -> None:
    expected = {
        row["image"]: row["pixels_sha256"]
        for row in MATLAB
        if (row["dataset"], row["border"]) == (dataset, border)
    }
    assert len(expected) == count
    images = find(DATASETS.get(dataset), 4).images
    made = {
        i.name: pixels_digest(imresize(read_image(i.path).pixels, 1 / 4, border)) for i in images
    }
    assert made == expected


def test_rounding_after_each_pass_is_not_rounding_once() -> None:
    image = picture(64, 64)
    once = np.clip(np.floor(imresize(image.astype(float), 1 / 4) + 0.5), 0, 255)
    share = np.mean(imresize(image, 1 / 4) != once)
    assert 0.02 < share < 0.3


def test_the_border_families_differ_only_in_the_two_outermost_pixels() -> None:
    image = picture(64, 48)
    replicate, symmetric = imresize(image, 1 / 4), imresize(image, 1 / 4, "symmetric")
    assert (replicate != symmetric).any()
    assert (replicate[2:-2, 2:-2] == symmetric[2:-2, 2:-2]).all()


@given(sizes, sizes, scales, borders, st.integers(0, 255))
@settings(deadline=None, max_examples=60)
def test_a_constant_image_stays_constant(
    height: int, width: int, scale: float, border: str, value: int
) -> None:
    for dtype in (np.uint8, np.float64):
        out = imresize(np.full((height, width, 3), value, dtype), scale, border)  # type: ignore[arg-type]
        assert out.dtype == dtype
        assert out.shape == (np.ceil(height * scale), np.ceil(width * scale), 3)
        np.testing.assert_allclose(out, value, atol=1e-10)


@given(
    st.integers(1, 8), st.integers(1, 8), st.sampled_from([2, 3, 4]), borders, st.integers(0, 99)
)
@settings(deadline=None, max_examples=40)
def test_it_commutes_with_flips_and_transposition(
    rows: int, columns: int, factor: int, border: str, seed: int
) -> None:
    image = np.random.default_rng(seed).random((rows * factor, columns * factor))
    out = imresize(image, 1 / factor, border)  # type: ignore[arg-type]
    np.testing.assert_allclose(imresize(image[::-1], 1 / factor, border), out[::-1], atol=1e-12)  # type: ignore[arg-type]
    np.testing.assert_allclose(imresize(image.T, 1 / factor, border), out.T, atol=1e-12)  # type: ignore[arg-type]


@given(scales, borders, st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_it_is_linear_in_double(scale: float, border: str, seed: int) -> None:
    one, two = np.random.default_rng(seed).random((2, 13, 9))
    together = imresize(2 * one - 3 * two, scale, border)  # type: ignore[arg-type]
    apart = 2 * imresize(one, scale, border) - 3 * imresize(two, scale, border)  # type: ignore[arg-type]
    np.testing.assert_allclose(together, apart, atol=1e-12)


def test_enlarging_keeps_the_values_of_a_ramp_inside() -> None:
    ramp = np.arange(20.0)[:, None] * np.ones(20)
    large = imresize(ramp, 4)
    # Output row k (0-based) looks at input position (k + 0.5) / 4 - 0.5.
    inside = np.arange(12, 68)
    np.testing.assert_allclose(large[12:68, 0], (inside + 0.5) / 4 - 0.5, atol=1e-12)


@pytest.mark.parametrize(
    ("image", "scale", "border"),
    [
        (np.zeros((4, 4), np.float32), 0.5, "replicate"),
        (np.zeros((0, 4), np.uint8), 0.5, "replicate"),
        (np.zeros(4, np.uint8), 0.5, "replicate"),
        (np.zeros((4, 4), np.uint8), 0, "replicate"),
        (np.zeros((4, 4), np.uint8), float("inf"), "replicate"),
        (np.zeros((4, 4), np.uint8), 0.5, "reflect"),
    ],
)
def test_what_it_cannot_resize_is_refused(image: np.ndarray, scale: float, border: str) -> None:
    with pytest.raises(ValueError, match=r"imresize|scale|border"):
        imresize(image, scale, border)  # type: ignore[arg-type]
