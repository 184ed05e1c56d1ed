import pytest

from harness.protocol.claimed import Claim, Number, Rescored, distinct, rank
from harness.protocol.conventions import CONVENTIONS, Convention


class TestClaims:
    FOUND = (
        Rescored(Convention("RGB"), 4, 26.6934, 0.7731),
        Rescored(Convention("rounded Y"), 4, 28.4177, 0.8101),
        Rescored(Convention("Y"), 4, 28.4302, 0.8111),
        Rescored(Convention("Y"), 4, 28.429, 0.8111, ("imresize border symmetric",)),
    )

    def explain(self, **claimed: str) -> str:
        claim = Claim(**{name: Number.read(text) for name, text in claimed.items()})
        return claim.explain(rank(self.FOUND, claim))

    def test_ours_comes_first_then_the_nearest(self) -> None:
        ranked = rank(self.FOUND, Claim(Number.read("28.41")))
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
        """The mistaken one is nearer to 28.43 than the other."""
        mistaken = Convention("Y", "none", order="both as BGR")
        found = [
            Rescored(Convention("Y"), 4, 28.2, 0.8),
            Rescored(mistaken, 4, 28.43, 0.8, ("imresize border symmetric",)),
            Rescored(Convention("rounded Y"), 4, 28.428, 0.8),
            Rescored(Convention("RGB"), 4, 28.3, 0.8),
        ]
        claim = Claim(Number.read("28.43"))
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
        for claim in (Claim(), Claim(psnr, ssim)):
            assert claim.conventions == CONVENTIONS
        assert {(one.window, one.ssim_range) for one in Claim(psnr).conventions} == {
            ("Gaussian 11x11", "L = 255")
        }
        assert {one.mean for one in Claim(psnr).conventions} == {one.mean for one in CONVENTIONS}
        assert {one.mean for one in Claim(ssim=ssim).conventions} == {"PSNR by image"}
        windows = {(one.window, one.ssim_range) for one in CONVENTIONS}
        found = {(one.window, one.ssim_range) for one in Claim(ssim=ssim).conventions}
        assert found == windows


def test_of_conventions_that_give_one_number_the_commonest_is_kept() -> None:
    rare = Rescored(Convention("Y", order="both as BGR"), 4, 30.0, 0.9, ("luma rounded",))
    own = Rescored(Convention("Y"), 4, 30.0, 0.9)
    other = Rescored(Convention("RGB"), 4, 30.0, 0.91)
    assert distinct([rare, other, own]) == [own, other]
