"""Tolerances between a measured and an expected number, and their reasons."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tier:
    """The tolerances of one kind of comparison.

    Attributes:
        name: what the two numbers have in common.
        psnr: tolerance in dB.
        ssim: tolerance, also for ``ssim-whole``.
    """

    name: str
    psnr: float
    ssim: float

    def of(self, metric: str, size: float = 0.0) -> float:
        """Return the tolerance of a metric.

        The scale of metrics other than PSNR and SSIM is unknown, so their tolerance is relative:
        the relative change of a mean squared error that corresponds to ``psnr``. That is 0.0023 %
        for models without parameters, 0.12 % for the same weights, and 1.2 to 4.7 % for retrained
        ones.

        Args:
            metric: its name.
            size: the mean absolute value of the metric.
        """
        known = {"psnr": self.psnr, "ssim": self.ssim, "ssim-whole": self.ssim}
        share = 10 ** (self.psnr / 10) - 1
        return known.get(metric, max(share * size, ZERO))


ZERO = 1e-12
"""The rounding error of a score of 0 in double; the least tolerance where the scale is unknown."""


EXACT = Tier("exact", 1e-4, 1e-6)
"""Models without parameters: only the metrics differ, in double, by the order of summation. This
detects every rule that changes a number: the smallest change, imresize's border, is 0.002 dB."""

FROZEN = Tier("frozen weights", 0.005, 0.0005)
"""The same weights in the same network: fp32 kernels differ between machines and change a few
output pixels by one level. Lower precision (bf16: 0.04 dB) fails."""

PRINTED = Tier("as printed", 0.02, 0.001)
"""The authors' weights, or a model without weights, against the print: two decimals, measured by
others under slightly different protocols (rounding Y costs up to 0.02 dB)."""

PRINTED_TEXT = f"{PRINTED.psnr:g} dB or {PRINTED.ssim:g} of SSIM"
"""`PRINTED` in words."""

RETRAINED = {
    "set5": Tier("retrained", 0.2, 0.003),
    "set14": Tier("retrained", 0.1, 0.0025),
    "b100": Tier("retrained", 0.05, 0.002),
}
"""Other weights of the same network, by set: a mean over few images varies more. The standard error
of the difference between VDSR and edsr-baseline is 0.33, 0.12 and 0.03 dB on these sets. The SSIM
tolerance follows from the PSNR: between VDSR and RDN in Table 2, SSIM rises by 0.014, 0.025 and
0.039 per dB."""

RETRAINED_ELSEWHERE = Tier("retrained", 0.2, 0.003)
"""The widest of these tolerances, for all other sets."""
