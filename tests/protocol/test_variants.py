"""SSIMs of other people's code, each against its definition written out."""

import numpy as np
import pytest
from scipy.ndimage import correlate

from harness.protocol.metrics import ssim, ssim_whole
from harness.protocol.variants import WINDOWS, ssim_downsampled, ssim_zero_padded
from tests.pictures import picture

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def gauss(dimensions: int) -> np.ndarray:
    offsets = np.indices((11,) * dimensions) - 5
    window = np.exp(-(offsets**2).sum(axis=0) / (2 * 1.5**2))
    return window / window.sum()


def similarity(x: np.ndarray, y: np.ndarray, mode: str) -> np.ndarray:
    """The definition of Wang et al. 2004 with one window of as many dimensions as the images."""

    def mean(values: np.ndarray) -> np.ndarray:
        return correlate(values, gauss(values.ndim), mode=mode)

    x, y = x.astype(float), y.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return (2 * mx * my + C1) * (2 * cov + C2) / ((mx**2 + my**2 + C1) * (vx + vy + C2))


def test_colour_is_a_volume_for_matlab() -> None:
    """``imgaussfilt3`` with sigma 1.5, 11 x 11 x 11, replicated edges; the mean of all voxels."""
    sr, hr = picture(40, 32, seed=1), picture(40, 32, seed=2)
    volume = WINDOWS["Gaussian 11x11x11"](sr, hr)
    assert volume == pytest.approx(similarity(sr, hr, "nearest").mean(), abs=1e-12)
    assert volume != pytest.approx(WINDOWS["Gaussian 11x11, whole image"](sr, hr), abs=1e-3)


def test_a_volume_of_three_equal_planes_is_a_plane() -> None:
    sr, hr = (np.repeat(picture(40, 32, 1, seed)[:, :, None], 3, axis=2) for seed in (1, 2))
    assert ssim_whole(sr, hr) == pytest.approx(ssim_whole(sr[:, :, 0], hr[:, :, 0]), abs=1e-12)


def test_zeros_go_on_beyond_the_edge_of_pytorch_ssim() -> None:
    sr, hr = picture(40, 32, 1, seed=1), picture(40, 32, 1, seed=2)
    expected = similarity(sr, hr, "constant").mean()
    assert ssim_zero_padded(sr, hr) == pytest.approx(expected, abs=1e-12)
    assert ssim_zero_padded(sr, hr) != pytest.approx(ssim_whole(sr, hr), abs=1e-3)


def shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """``imfilter(image, ones(f) / f^2, 'symmetric')`` and every f-th pixel, pixel by pixel."""
    height, width = image.shape
    # The middle of MATLAB's window is its pixel floor((f + 1) / 2), counted from one.
    before = (factor + 1) // 2 - 1
    padded = np.pad(image.astype(float), factor, "symmetric")
    rows = []
    for i in range(0, height, factor):
        row = []
        for j in range(0, width, factor):
            top, left = i + factor - before, j + factor - before
            row.append(padded[top : top + factor, left : left + factor].mean())
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(383, 400, 1), (384, 401, 2), (512, 390, 2), (640, 641, 3), (896, 900, 4)],
)
def test_large_images_are_shrunk_first_by_wangs_later_code(height, width, factor) -> None:
    sr, hr = picture(height, width, 1, seed=1), picture(height, width, 1, seed=2)
    expected = ssim(shrunk(sr, factor), shrunk(hr, factor))
    assert ssim_downsampled(sr, hr) == pytest.approx(expected, abs=1e-12)
    assert (ssim_downsampled(sr, hr) == ssim(sr, hr)) == (factor == 1)
