import numpy as np
import pytest

from harness.protocol.color import rgb_to_y, rgb_to_ycbcr, to_uint8, ycbcr_to_rgb
from tests.pictures import picture


@pytest.mark.parametrize(
    ("rgb", "luma"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 16 + 65.481),
        ((0, 255, 0), 16 + 128.553),
        ((0, 0, 255), 16 + 24.966),
    ],
)
def test_luma_is_that_of_bt601(rgb: tuple[int, int, int], luma: float) -> None:
    assert rgb_to_y(np.array([[rgb]], np.uint8)).item() == pytest.approx(luma, abs=1e-12)


def test_luma_is_the_first_channel_of_ycbcr() -> None:
    image = picture(9, 7)
    np.testing.assert_allclose(rgb_to_ycbcr(image)[:, :, 0], rgb_to_y(image), atol=1e-12)


def test_grey_has_no_chroma() -> None:
    grey = np.repeat(picture(9, 7, 1)[:, :, None], 3, axis=2)
    np.testing.assert_allclose(rgb_to_ycbcr(grey)[:, :, 1:], 128, atol=1e-12)


def test_ycbcr_and_back_is_the_same_image() -> None:
    image = picture(9, 7)
    np.testing.assert_allclose(ycbcr_to_rgb(rgb_to_ycbcr(image)), image, atol=1e-10)


def test_halves_are_rounded_up_and_the_range_is_kept() -> None:
    values = np.array([-3.0, 0.49, 0.5, 1.5, 254.5, 300.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 2, 255, 255]
