import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harness.protocol.metrics import psnr, ssim, ssim_whole
from tests.pictures import picture

SR, HR = picture(60, 50, 1, seed=1), picture(60, 50, 1, seed=2)


def wang_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM by Wang et al. 2004, window by window."""
    offsets = np.arange(11) - 5
    gauss = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    gauss /= gauss.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        return (sliding_window_view(values, (11, 11)) * gauss).sum((2, 3))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(index.mean())


def test_psnr_agrees_with_skimage() -> None:
    assert psnr(SR, HR) == pytest.approx(peak_signal_noise_ratio(HR, SR, data_range=255), abs=1e-9)


def test_ssim_agrees_with_skimage_and_with_its_definition() -> None:
    x, y = SR.astype(float), HR.astype(float)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert ssim(SR, HR) == pytest.approx(
        structural_similarity(x, y, data_range=255, **options), abs=1e-9
    )
    assert ssim(SR, HR) == pytest.approx(wang_ssim(x, y), abs=1e-9)


def test_ssim_of_the_whole_image_is_that_of_windows_over_continued_edges() -> None:
    x, y = (np.pad(image.astype(float), 5, "edge") for image in (SR, HR))
    assert ssim_whole(SR, HR) == pytest.approx(wang_ssim(x, y), abs=1e-9)
    assert abs(ssim_whole(SR, HR) - ssim(SR, HR)) > 1e-4


def test_a_known_error_has_a_known_psnr() -> None:
    assert psnr(np.full((8, 8), 10), np.full((8, 8), 15)) == pytest.approx(20 * math.log10(255 / 5))


def test_equal_images_are_perfect() -> None:
    assert psnr(HR, HR) == math.inf
    assert ssim(HR, HR) == pytest.approx(1, abs=1e-12)


def test_both_are_symmetric() -> None:
    assert psnr(SR, HR) == psnr(HR, SR)
    assert ssim(SR, HR) == pytest.approx(ssim(HR, SR), abs=1e-12)


sides = st.integers(11, 24)


@given(sides, sides, st.integers(0, 99), st.sampled_from([1, 10, 255]))
@settings(deadline=None, max_examples=50)
def test_any_two_images_have_scores_within_bounds_whichever_comes_first(
    height: int, width: int, seed: int, spread: int
) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (height, width)).astype(float)
    two = np.clip(one + rng.integers(-spread, spread + 1, one.shape), 0, 255)
    for metric in (ssim, ssim_whole):
        assert -1 <= metric(one, two) <= 1
        assert metric(one, two) == pytest.approx(metric(two, one), abs=1e-12)
        assert metric(one, one) == pytest.approx(1, abs=1e-12)
    # An error of 255 everywhere is the largest possible one.
    assert 0 <= psnr(one, two) == psnr(two, one)
    assert psnr(one, one) == math.inf
    # One pixel that differs by one level is the smallest error.
    least = 20 * math.log10(255) + 10 * math.log10(one.size)
    equal = np.array_equal(one, two)
    assert (psnr(one, two) == math.inf) == equal
    assert psnr(one, two) <= (math.inf if equal else least + 1e-9)
    nearest = one.copy()
    nearest[0, 0] += 1 if one[0, 0] < 255 else -1
    assert psnr(one, nearest) == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("shapes", [((20, 20), (20, 21)), ((0, 5), (0, 5))])
def test_images_of_different_or_no_size_are_refused(metric, shapes) -> None:
    with pytest.raises(ValueError, match="one size"):
        metric(np.zeros(shapes[0]), np.zeros(shapes[1]))
