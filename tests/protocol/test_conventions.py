"""Conventions of scoring, and which of them explain a claimed number."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate
from skimage.metrics import structural_similarity

from harness.protocol.color import luma_full, luma_opencv
from harness.protocol.conventions import (
    CONVENTIONS,
    OWN,
    WINDOWS,
    ClaimedNumbers,
    Convention,
    Number,
    Pair,
    Rescored,
    distinct,
    rank,
    rescore,
)
from harness.protocol.metrics import ssim, ssim_downsampled, ssim_whole, ssim_zero_padded
from harness.protocol.rules import Protocol, make_sample, score
from tests.pictures import picture

SR, HR = picture(64, 72, seed=1), picture(64, 72, seed=2)
COLOUR = Pair(SR, HR)
GREY = Pair(*(np.repeat(p[:, :, :1], 3, axis=2) for p in (SR, HR)))


def psnr(pair: Pair, convention: Convention, scale: int = 4) -> float:
    return rescore(pair, [convention], scale)[convention][0]


def ssim_by(pair: Pair, convention: Convention) -> float:
    return rescore(pair, [convention], 4)[convention][1]


def test_every_convention_is_named_once_and_ours_are_among_them() -> None:
    usual, bgr, ranges = 6 * 3 * 5 + 3, 10 * 2 * 2, 3 * 2 * 8
    assert len(set(CONVENTIONS)) == len(CONVENTIONS) == 2 * usual + bgr + ranges
    assert set(OWN.values()) <= set(CONVENTIONS)


@pytest.mark.parametrize("pipeline", ["y", "rgb"])
def test_our_own_convention_is_what_the_protocol_scores(pipeline) -> None:
    rules = Protocol(pipeline)
    sample = make_sample(HR, rules)
    sr = make_sample(SR, rules).hr
    luma = (sr, sample.hr) if pipeline == "y" else None
    scores = rescore(Pair(SR, HR, luma), [OWN[pipeline]], 4)[OWN[pipeline]]
    assert scores == tuple(score(sr, sample, rules, ("psnr", "ssim")).values())


def test_64_738_is_worth_0_04_db_on_grey() -> None:
    more = psnr(GREY, Convention("Y with 64.738")) - psnr(GREY, Convention("Y"))
    sums = 65.481 + 128.553 + 24.966, 64.738 + 129.057 + 25.064
    assert more == pytest.approx(20 * math.log10(sums[0] / 255 / (sums[1] / 256)), abs=1e-9)
    assert more == pytest.approx(0.04, abs=0.001)


def test_the_full_range_costs_1_3_db_on_grey() -> None:
    less = psnr(GREY, Convention("Y")) - psnr(GREY, Convention("full-range Y"))
    assert less == pytest.approx(20 * math.log10(255 / 219), abs=1e-9)
    assert less == pytest.approx(1.32, abs=0.005)


def test_full_range_luma_is_that_of_pillow() -> None:
    ours, _ = COLOUR.seen("full-range Y")
    theirs = np.asarray(Image.fromarray(SR).convert("L"))
    assert ours.dtype == np.uint8
    assert (ours == theirs).mean() > 0.99
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_opencv_rounds_some_colours_otherwise() -> None:
    """Computed with ``cv2.cvtColor(., COLOR_BGR2YCrCb)`` of OpenCV 5.0.0."""
    opencv = {
        (255, 255, 255): 255,
        (255, 0, 0): 76,
        (0, 0, 255): 29,
        (232, 240, 11): 211,
        (4, 75, 20): 47,
        (167, 46, 233): 104,
    }
    colours = np.array([list(opencv)], np.uint8)
    assert luma_opencv(colours)[0].tolist() == list(opencv.values())
    assert luma_full(colours)[0].tolist() == [255, 76, 29, 212, 48, 103]


def test_rgb_compares_all_three_channels() -> None:
    inner = slice(4, -4)
    error = SR[inner, inner].astype(float) - HR[inner, inner]
    expected = 10 * math.log10(255**2 / (error**2).mean())
    assert psnr(COLOUR, Convention("RGB")) == pytest.approx(expected)
    single = [ssim_by(Pair(SR[:, :, c], HR[:, :, c]), Convention("Y")) for c in range(3)]
    assert ssim_by(COLOUR, Convention("RGB")) == pytest.approx(np.mean(single))


def test_the_uniform_window_is_the_default_of_scikit_image() -> None:
    inner = slice(4, -4)
    sr, hr = SR[inner, inner], HR[inner, inner]
    expected = structural_similarity(sr, hr, channel_axis=2)
    assert ssim_by(COLOUR, Convention("RGB", window="uniform 7x7")) == pytest.approx(expected)
    assert expected != pytest.approx(ssim_by(COLOUR, Convention("RGB")), abs=1e-3)


@pytest.mark.parametrize(
    ("crop", "scale", "border"),
    [("none", 4, 0), ("scale", 2, 2), ("scale", 4, 4), ("scale + 6", 4, 10), ("scale + 6", 3, 9)],
)
def test_the_border_is_left_out_and_no_more(crop, scale, border) -> None:
    convention = Convention("RGB", crop)
    assert convention.border(scale) == border
    spoilt = HR.copy()
    spoilt[border : 64 - border, border : 72 - border] = 0
    outside = np.where(spoilt == 0, HR, 255 - HR).astype(np.uint8)
    assert psnr(Pair(outside, HR), convention, scale) == math.inf
    outside[border, border] ^= 1
    assert psnr(Pair(outside, HR), convention, scale) < math.inf
    assert convention.fits(2 * border + 11, scale)
    assert not convention.fits(2 * border + 10, scale)


def test_grey_pictures_have_their_stored_values_in_every_channel() -> None:
    pair = Pair(SR[:, :, 0], HR[:, :, 0])
    channels = {one.channel for one in CONVENTIONS}
    assert len({psnr(pair, Convention(channel)) for channel in channels}) == 1
    assert psnr(pair, Convention("Y")) == psnr(GREY, Convention("RGB"))


def test_luma_without_colour_is_compared_where_it_is_8_bit_luma_that_counts() -> None:
    luma = SR[:, :, 0], HR[:, :, 0]
    pair = Pair(SR, HR, luma)
    assert psnr(pair, Convention("rounded Y")) == psnr(Pair(*luma), Convention("Y"))
    assert psnr(pair, Convention("Y")) == psnr(COLOUR, Convention("Y"))


def test_the_ssim_of_the_whole_image_is_among_them() -> None:
    whole = Convention("RGB", "none", "Gaussian 11x11, whole image")
    expected = np.mean([ssim_whole(SR[:, :, c], HR[:, :, c]) for c in range(3)])
    assert rescore(COLOUR, [whole], 4)[whole][1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("order", "swapped"),
    [
        ("SR as BGR", (SR[:, :, ::-1], HR)),
        ("HR as BGR", (SR, HR[:, :, ::-1])),
        ("both as BGR", (SR[:, :, ::-1], HR[:, :, ::-1])),
    ],
)
def test_the_channels_of_each_picture_can_be_swapped(order, swapped) -> None:
    for channel in ("Y", "rounded Y", "OpenCV Y"):
        found = psnr(COLOUR, Convention(channel, order=order))
        assert found == psnr(Pair(*swapped), Convention(channel))
        assert found != psnr(COLOUR, Convention(channel))
        assert psnr(GREY, Convention(channel, order=order)) == psnr(GREY, Convention(channel))


def test_luma_that_was_never_rounded_can_be_rounded_to_be_compared() -> None:
    double = SR[:, :, 0] + 0.4, HR[:, :, 0] + 0.3
    pair = Pair(SR, HR, double)
    assert psnr(pair, Convention("Y")) == psnr(Pair(*double), Convention("Y"))
    whole = Pair(SR[:, :, 0], HR[:, :, 0])
    assert psnr(pair, Convention("rounded Y")) == psnr(whole, Convention("Y"))


def test_the_psnr_of_a_set_is_a_mean_or_that_of_the_pooled_errors() -> None:
    errors = (4.0, 100.0)
    psnrs = [10 * math.log10(255**2 / error) for error in errors]
    pooled = Convention("Y", mean="PSNR of the pooled MSE")
    assert pooled.psnr_of_set(psnrs) == pytest.approx(10 * math.log10(255**2 / np.mean(errors)))
    assert Convention("Y").psnr_of_set(psnrs) == pytest.approx(np.mean(psnrs))
    perfect = 10 * math.log10(255**2 / 2)
    assert pooled.psnr_of_set([psnrs[0], math.inf]) == pytest.approx(perfect)
    assert pooled.psnr_of_set([math.inf]) == math.inf
    assert Convention("Y").psnr_of_set([psnrs[0], math.inf]) == psnrs[0]


def test_a_peak_of_255_on_0_to_1_is_worth_48_db() -> None:
    mistaken = Convention("Y", mean="PSNR with peak 255 on [0, 1]")
    error = np.subtract(*(plane[4:-4, 4:-4] / 255 for plane in COLOUR.seen("Y")))
    expected = 10 * math.log10(255**2 / (error**2).mean())
    assert mistaken.psnr_of_set([psnr(COLOUR, mistaken)]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mistake", "size", "taken_for"),
    [
        ("SSIM with L = 255 on [0, 1]", 1, 255),
        ("SSIM with L = 1 on [0, 255]", 255, 1),
        ("SSIM with L = 2 on [0, 1]", 1, 2),
        ("SSIM with L = 2 on [0, 255]", 255, 2),
    ],
)
def test_a_mistaken_range_is_that_of_scikit_image(mistake, size, taken_for) -> None:
    planes = [plane[4:-4, 4:-4] / 255 * size for plane in COLOUR.seen("Y")]
    for window, options in (
        ("uniform 7x7", {}),
        ("Gaussian 11x11", {"gaussian_weights": True, "use_sample_covariance": False}),
    ):
        expected = structural_similarity(*planes, data_range=taken_for, **options)
        found = ssim_by(COLOUR, Convention("Y", window=window, ssim_range=mistake))
        assert found == pytest.approx(expected, abs=1e-9)
        assert found != pytest.approx(ssim_by(COLOUR, Convention("Y", window=window)), abs=1e-3)


def test_several_conventions_at_once_score_as_each_alone() -> None:
    usable = [one for one in CONVENTIONS if one.fits(64, 4)]
    scores = rescore(COLOUR, usable, 4)
    assert len(scores) == len(usable)
    for one in usable[::17]:
        assert scores[one] == rescore(COLOUR, [one], 4)[one]


C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def gauss(dimensions: int) -> np.ndarray:
    offsets = np.indices((11,) * dimensions) - 5
    window = np.exp(-(offsets**2).sum(axis=0) / (2 * 1.5**2))
    return window / window.sum()


def similarity(x: np.ndarray, y: np.ndarray, mode: str) -> np.ndarray:
    """The definition of Wang et al. 2004, with a window of the images' number of dimensions."""

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
    # The origin of MATLAB's window is its pixel floor((f + 1) / 2), counted from one.
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


class TestClaims:
    FOUND = (
        Rescored(Convention("RGB"), 4, 26.6934, 0.7731),
        Rescored(Convention("rounded Y"), 4, 28.4177, 0.8101),
        Rescored(Convention("Y"), 4, 28.4302, 0.8111),
        Rescored(Convention("Y"), 4, 28.429, 0.8111, ("imresize border symmetric",)),
    )

    def explain(self, **claimed: str) -> str:
        claim = ClaimedNumbers(**{name: Number.read(text) for name, text in claimed.items()})
        return claim.explain(rank(self.FOUND, claim))

    def test_ours_comes_first_then_the_nearest(self) -> None:
        ranked = rank(self.FOUND, ClaimedNumbers(Number.read("28.41")))
        assert [one.psnr for one in ranked] == [28.4302, 28.4177, 28.429, 26.6934]

    def test_a_convention_that_gives_the_number_is_named_beside_ours(self) -> None:
        assert self.explain(psnr="26.69").splitlines() == [
            "26.69 dB is given, within 0.005 dB, by 1 of 4 combinations:",
            "RGB, border 4 (26.6934 dB)",
            "Not by Y, border 4, as this harness scores (28.4302 dB).",
        ]

    def test_all_that_give_it_are_named(self) -> None:
        assert self.explain(psnr="28.43").splitlines()[1:] == [
            "Y, border 4, as this harness scores (28.4302 dB)",
            "Y, border 4, imresize border symmetric (28.4290 dB)",
        ]

    def test_of_those_that_give_it_the_commonest_comes_first(self) -> None:
        """The wrong convention is nearer to 28.43 than the right one."""
        mistaken = Convention("Y", "none", order="both as BGR")
        found = [
            Rescored(Convention("Y"), 4, 28.2, 0.8),
            Rescored(mistaken, 4, 28.43, 0.8, ("imresize border symmetric",)),
            Rescored(Convention("rounded Y"), 4, 28.428, 0.8),
            Rescored(Convention("RGB"), 4, 28.3, 0.8),
        ]
        claim = ClaimedNumbers(Number.read("28.43"))
        _, first, second, _ = claim.explain(rank(found, claim)).splitlines()
        assert first == "rounded Y, border 4 (28.4280 dB)"
        assert second == "Y, border 0, both as BGR, imresize border symmetric (28.4300 dB)"

    def test_where_none_gives_it_the_nearest_is_named_with_its_distance(self) -> None:
        assert self.explain(psnr="27.9") == (
            "None of 4 combinations gives 27.9 dB; the nearest is rounded Y, border 4 "
            "(28.4177 dB), 0.5177 dB off."
        )

    def test_both_numbers_must_fit(self) -> None:
        said = self.explain(psnr="26.69", ssim="0.7731")
        assert said.startswith("26.69 dB and SSIM 0.7731 is given, within 0.005 dB and SSIM 0.0000")
        assert "RGB, border 4, window Gaussian 11x11 (26.6934 dB and SSIM 0.77310)" in said
        neither = self.explain(psnr="26.69", ssim="0.8111")
        assert neither.startswith("None of 4 combinations gives")
        assert neither.endswith("1.7277 dB and SSIM 0.00100 off.")
        assert self.explain(ssim="0.8101").splitlines()[1].startswith("rounded Y, border 4")

    def test_a_number_is_met_by_what_rounds_to_its_digits(self) -> None:
        for text in ("28", "28.4", "28.42", "28.418", "28.4177"):
            assert "rounded Y, border 4 (28.4177 dB)" in self.explain(psnr=text), text
            assert self.explain(psnr=text).startswith(f"{text} dB is given"), text
        assert self.explain(psnr="28.41").startswith("None of 4 combinations gives 28.41 dB")
        assert "within 0.05 dB" in self.explain(psnr="26.7")
        assert self.explain(ssim="0.81").startswith("SSIM 0.81 is given")

    @pytest.mark.parametrize("text", ["thirty", "nan", "inf", ""])
    def test_what_is_no_number_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no"):
            Number.read(text)

    def test_what_matters_to_a_claim_is_tried(self) -> None:
        psnr, ssim = Number.read("30"), Number.read("0.8")
        for claim in (ClaimedNumbers(), ClaimedNumbers(psnr, ssim)):
            assert claim.conventions == CONVENTIONS
        assert {(one.window, one.ssim_range) for one in ClaimedNumbers(psnr).conventions} == {
            ("Gaussian 11x11", "L = 255")
        }
        assert {one.mean for one in ClaimedNumbers(psnr).conventions} == {
            one.mean for one in CONVENTIONS
        }
        assert {one.mean for one in ClaimedNumbers(ssim=ssim).conventions} == {"PSNR by image"}
        windows = {(one.window, one.ssim_range) for one in CONVENTIONS}
        found = {(one.window, one.ssim_range) for one in ClaimedNumbers(ssim=ssim).conventions}
        assert found == windows


def test_of_conventions_that_give_one_number_the_commonest_is_kept() -> None:
    rare = Rescored(Convention("Y", order="both as BGR"), 4, 30.0, 0.9, ("luma rounded",))
    own = Rescored(Convention("Y"), 4, 30.0, 0.9)
    other = Rescored(Convention("RGB"), 4, 30.0, 0.91)
    assert distinct([rare, other, own]) == [own, other]
