import numpy as np
import pytest

from harness.errors import HarnessError, UsageError
from harness.protocol.color import rgb_to_y
from harness.protocol.resize import imresize
from harness.protocol.rules import (
    Protocol,
    colour_image,
    lineage,
    make_sample,
    network_input,
    protocol,
    score,
    sr_image,
)
from tests.pictures import picture

Y, RGB = Protocol("y"), Protocol("rgb")
BOTH = pytest.mark.parametrize("rules", [Y, RGB], ids=["y", "rgb"])


@pytest.mark.parametrize(
    "name",
    [
        "BI-x4/y",
        "BI-x4/rgb",
        "BI-x2/y",
        "BI-x3/rgb",
        "BI-x4/y+as-rgb",
        "BI-x4/rgb+full-range+symmetric",
        "BI-x4/rgb+float-lr",
        "BI-x4/y+as-rgb+float-y",
    ],
)
def test_a_protocol_is_found_by_its_name(name: str) -> None:
    assert protocol(name).name == name


@pytest.mark.parametrize(
    "name", ["BI-x5/y", "BI-x4", "BI-x4/y+loud", "BI-x4/y+symmetric+as-rgb", "BI-x4/rgb+as-rgb"]
)
def test_an_unknown_protocol_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="No protocol"):
        protocol(name)


def test_every_rule_is_part_of_the_hash() -> None:
    rules = [
        Y,
        RGB,
        Protocol("y", 2),
        Protocol("y", border="symmetric"),
        Protocol("y", grey="as-rgb"),
        Protocol("rgb", grey="full-range"),
        Protocol("rgb", float_lr=True),
        Protocol("y", float_y=True),
    ]
    assert len({one.sha256 for one in rules}) == len(rules)


def test_each_pipeline_scores_grey_images_by_a_rule_of_its_own() -> None:
    assert (Y.grey, RGB.grey) == ("full-range", "as-rgb")
    assert Protocol("rgb", grey="full-range").name == "BI-x4/rgb+full-range"
    assert Protocol("rgb", grey="as-rgb") == RGB


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BI-x4/rgb", "edsr"),
        ("BI-x2/rgb+symmetric", "imdn"),
        ("BI-x3/y", "vdsr"),
        ("BI-x4/rgb+full-range", ""),
        ("BI-x4/rgb+float-lr", ""),
        ("BI-x4/y+symmetric", ""),
        ("BI-x4/y+as-rgb", ""),
        ("BI-x4/y+float-y", ""),
    ],
)
def test_a_lineage_has_one_protocol_at_each_scale(name: str, expected: str) -> None:
    assert lineage(protocol(name)) == expected


def test_without_grey_images_the_grey_rule_is_no_part_of_a_lineage() -> None:
    rules = protocol("BI-x4/rgb+full-range+symmetric")
    assert (lineage(rules), lineage(rules, grey=False)) == ("", "imdn")


def test_luma_that_is_never_rounded_is_degraded_and_compared_as_it_is() -> None:
    image, rules = picture(48, 64), Protocol("y", float_y=True)
    luma = rgb_to_y(image)
    sample = make_sample(image, rules)
    np.testing.assert_array_equal(sample.hr, luma)
    np.testing.assert_array_equal(sample.lr, imresize(luma / 255, 1 / 4))
    output = luma[:, :, None] / 255 + 0.3 / 255
    sr = sr_image(output, sample)
    np.testing.assert_allclose(sr, luma + 0.3)
    # A third of a level everywhere, which rounding would have hidden in most pixels.
    expected = 20 * np.log10(255 / 0.3)
    assert score(sr, sample, rules, ("psnr",))["psnr"] == pytest.approx(expected)


def test_luma_that_is_never_rounded_is_clipped_and_shown_in_8_bits() -> None:
    for channels in (1, 3):
        image, rules = picture(48, 64, channels), Protocol("y", float_y=True)
        sr = sr_image(np.full((48, 64, 1), 1.5), make_sample(image, rules))
        assert sr.dtype == np.float64 and (sr == 255).all()
        assert colour_image(sr, image, rules).dtype == np.uint8


def test_the_y_pipeline_degrades_unrounded_luma() -> None:
    sample = make_sample(picture(48, 64), Y)
    assert sample.hr.shape == (48, 64)
    assert (sample.lr.shape, sample.lr.dtype) == ((12, 16), np.float64)
    assert network_input(sample.lr, Y, enlarged=False).shape == (12, 16, 1)
    assert network_input(sample.lr, Y, enlarged=True).shape == (48, 64, 1)


def test_the_rgb_pipeline_degrades_8_bit_colour() -> None:
    sample = make_sample(picture(48, 64), RGB)
    assert (sample.lr.shape, sample.lr.dtype) == ((12, 16, 3), np.uint8)
    given = network_input(sample.lr, RGB, enlarged=False)
    np.testing.assert_array_equal(given, sample.lr / 255)


def test_the_rgb_pipeline_can_leave_its_lr_images_unrounded() -> None:
    image = picture(48, 64)
    rounded, double = (make_sample(image, one).lr for one in (RGB, Protocol("rgb", float_lr=True)))
    assert (double.shape, double.dtype) == ((12, 16, 3), np.float64)
    # Rounded after each of two passes.
    assert 0 < np.abs(double * 255 - rounded).max() <= 1.2


@BOTH
def test_sides_are_cut_to_multiples_from_the_top_left(rules: Protocol) -> None:
    image = picture(51, 66)
    sample, cut = make_sample(image, rules), make_sample(image[:48, :64], rules)
    np.testing.assert_array_equal(sample.hr, cut.hr)
    np.testing.assert_array_equal(sample.lr, cut.lr)


@BOTH
def test_a_perfect_network_has_a_perfect_score(rules: Protocol) -> None:
    sample = make_sample(picture(48, 64), rules)
    output = sample.hr.reshape(48, 64, -1) / 255
    assert score(sr_image(output, sample), sample, rules, ("psnr", "ssim")) == {
        "psnr": float("inf"),
        "ssim": pytest.approx(1),
    }


def test_the_border_is_left_out() -> None:
    sample = make_sample(picture(48, 64), Y)
    spoilt = sample.hr.copy()
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 0, 0, 0
    assert score(spoilt, sample, Y, ("psnr",)) == {"psnr": float("inf")}
    spoilt[4, 4] ^= 1
    assert score(spoilt, sample, Y, ("psnr",))["psnr"] < 90


def test_grey_as_rgb_scores_higher_since_its_range_is_smaller() -> None:
    image = picture(64, 64, 1)
    scores = {}
    for grey in ("full-range", "as-rgb"):
        rules = Protocol("y", grey=grey)  # type: ignore[arg-type]
        sample = make_sample(image, rules)
        output = network_input(sample.lr, rules, enlarged=True)
        scores[grey] = score(sr_image(output, sample), sample, rules, ("psnr",))["psnr"]
    # The luma range is 219/255 of the full one.
    assert scores["as-rgb"] - scores["full-range"] == pytest.approx(1.32, abs=0.1)


def test_an_rgb_network_sees_grey_as_colour_and_its_output_becomes_grey_again() -> None:
    sample = make_sample(picture(48, 48, 1), Protocol("rgb", grey="full-range"))
    assert network_input(sample.lr, RGB, enlarged=False).shape == (12, 12, 3)
    output = np.stack([np.full((48, 48), value) for value in (0.1, 0.3, 0.8)], axis=2)
    sr = sr_image(output, sample)
    assert sr.shape == (48, 48)
    assert (sr == round(0.4 * 255)).all()


@BOTH
def test_an_image_too_small_to_score_is_named_with_what_it_needs(rules: Protocol) -> None:
    make_sample(picture(20, 20), rules)
    with pytest.raises(HarnessError, match="16 x 40 pixels are too few .* at least 19"):
        make_sample(picture(40, 16), rules)


def test_a_luma_result_is_shown_with_the_chroma_of_the_enlargement() -> None:
    image = picture(48, 64)
    sample = make_sample(image, Y)
    colour = colour_image(sample.hr, image, Y)
    assert colour.shape == (48, 64, 3)
    # Only chroma was lost, so the luma of the picture is nearly that of the original.
    assert np.abs(make_sample(colour, Y).hr.astype(int) - sample.hr).mean() < 3
