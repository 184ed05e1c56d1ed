import math

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from harness.protocol.conventions import (
    CONVENTIONS,
    OWN,
    Claim,
    Convention,
    Number,
    Pair,
    Rescored,
    rank,
    rescore,
)
from harness.protocol.metrics import ssim_whole
from harness.protocol.protocols import Protocol, make_sample, score
from tests.pictures import picture

SR, HR = picture(64, 72, seed=1), picture(64, 72, seed=2)
COLOUR = Pair(SR, HR)
GREY = Pair(*(np.repeat(p[:, :, :1], 3, axis=2) for p in (SR, HR)))


def psnr(pair: Pair, convention: Convention, scale: int = 4) -> float:
    return rescore(pair, [convention], scale)[convention][0]


def ssim(pair: Pair, convention: Convention) -> float:
    return rescore(pair, [convention], 4)[convention][1]


def test_every_convention_is_named_once_and_ours_are_among_them() -> None:
    assert len(set(CONVENTIONS)) == len(CONVENTIONS) == 5 * 3 * 3
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


def test_rgb_compares_all_three_channels() -> None:
    inner = slice(4, -4)
    error = SR[inner, inner].astype(float) - HR[inner, inner]
    expected = 10 * math.log10(255**2 / (error**2).mean())
    assert psnr(COLOUR, Convention("RGB")) == pytest.approx(expected)
    single = [ssim(Pair(SR[:, :, c], HR[:, :, c]), Convention("Y")) for c in range(3)]
    assert ssim(COLOUR, Convention("RGB")) == pytest.approx(np.mean(single))


def test_the_uniform_window_is_the_default_of_scikit_image() -> None:
    inner = slice(4, -4)
    sr, hr = SR[inner, inner], HR[inner, inner]
    expected = structural_similarity(sr, hr, channel_axis=2)
    assert ssim(COLOUR, Convention("RGB", window="uniform 7x7")) == pytest.approx(expected)
    assert expected != pytest.approx(ssim(COLOUR, Convention("RGB")), abs=1e-3)


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


class TestClaims:
    FOUND = (
        Rescored(Convention("RGB"), 4, 26.6934, 0.7731),
        Rescored(Convention("rounded Y"), 4, 28.4177, 0.8101),
        Rescored(Convention("Y"), 4, 28.4302, 0.8111, own=True),
        Rescored(Convention("Y"), 4, 28.429, 0.8111, made="imresize border symmetric"),
    )

    def explain(self, **claimed: str) -> str:
        claim = Claim(**{name: Number.read(text) for name, text in claimed.items()})
        return claim.explain(rank(self.FOUND, claim))

    def test_ours_comes_first_then_the_nearest(self) -> None:
        ranked = rank(self.FOUND, Claim(Number.read("28.41")))
        assert [one.psnr for one in ranked] == [28.4302, 28.4177, 28.429, 26.6934]

    def test_a_convention_that_gives_the_number_is_named_beside_ours(self) -> None:
        assert self.explain(psnr="26.69") == (
            "26.69 dB is RGB, border 4 (26.6934 dB), within 0.005 dB; "
            "Y, border 4, as this harness scores (28.4302 dB)."
        )

    def test_all_that_give_it_are_named(self) -> None:
        assert self.explain(psnr="28.43") == (
            "28.43 dB is Y, border 4, as this harness scores (28.4302 dB), or "
            "Y, border 4, imresize border symmetric (28.4290 dB), within 0.005 dB."
        )

    def test_where_none_gives_it_the_nearest_is_named(self) -> None:
        assert self.explain(psnr="27.9") == (
            "No convention gives 27.9 dB; the nearest is rounded Y, border 4 (28.4177 dB)."
        )

    def test_both_numbers_must_fit(self) -> None:
        said = self.explain(psnr="26.69", ssim="0.7731")
        assert said.startswith(
            "26.69 dB and SSIM 0.7731 is RGB, border 4, window Gaussian 11x11 (26.6934 dB and "
            "SSIM 0.77310), within 0.005 dB and SSIM 0.00005"
        )
        assert self.explain(psnr="26.69", ssim="0.8111").startswith("No convention gives")
        assert self.explain(ssim="0.8101").startswith("SSIM 0.8101 is rounded Y, border 4")

    def test_a_number_is_met_by_what_rounds_to_its_digits(self) -> None:
        for text in ("28", "28.4", "28.42", "28.418", "28.4177"):
            assert "rounded Y, border 4 (28.4177 dB)" in self.explain(psnr=text), text
            assert self.explain(psnr=text).startswith(f"{text} dB is "), text
        assert self.explain(psnr="28.41").startswith("No convention gives 28.41 dB")
        assert "within 0.05 dB" in self.explain(psnr="26.7")
        assert self.explain(ssim="0.81").startswith("SSIM 0.81 is ")

    @pytest.mark.parametrize("text", ["thirty", "nan", "inf", ""])
    def test_what_is_no_number_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no"):
            Number.read(text)

    def test_windows_are_tried_unless_psnr_alone_is_claimed(self) -> None:
        psnr, ssim = Number.read("30"), Number.read("0.8")
        assert {one.window for one in Claim(psnr).conventions} == {"Gaussian 11x11"}
        for claim in (Claim(), Claim(psnr, ssim), Claim(ssim=ssim)):
            assert claim.conventions == CONVENTIONS


def test_the_ssim_of_the_whole_image_is_among_them() -> None:
    whole = Convention("RGB", "none", "Gaussian 11x11, whole image")
    expected = np.mean([ssim_whole(SR[:, :, c], HR[:, :, c]) for c in range(3)])
    assert rescore(COLOUR, [whole], 4)[whole][1] == pytest.approx(expected)
