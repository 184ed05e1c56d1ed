"""How far a measured number may lie from the one that is expected, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tier:
    """How far a number may lie from the one that is expected.

    Attributes:
        name: what the two numbers have in common.
        psnr: tolerance in dB.
        ssim: tolerance, of ``ssim-whole`` too.
    """

    name: str
    psnr: float
    ssim: float

    def of(self, metric: str, size: float = 0.0) -> float:
        """The tolerance of a metric.

        The scale of any other metric than PSNR and SSIM is unknown, so its tolerance is a share of
        its size: by as much as ``psnr`` changes a mean squared error. That is 0.0023 % where the
        models have no parameters, 0.12 % with the same weights, and 1.2 to 4.7 % with retrained
        ones.

        Args:
            metric: its name.
            size: of the numbers it gives: the mean of their absolute values.
        """
        known = {"psnr": self.psnr, "ssim": self.ssim, "ssim-whole": self.ssim}
        share = 10 ** (self.psnr / 10) - 1
        return known.get(metric, max(share * size, ZERO))


ZERO = 1e-12
"""What sums in double leave of a score of 0; the least tolerance of a metric of unknown scale."""


EXACT = Tier("exact", 1e-4, 1e-6)
"""Models without parameters: the metric core alone, in double, where machines differ by the order
of a sum. Every rule that changes a number shows: the smallest, imresize's border, moves 0.002 dB.
"""

FROZEN = Tier("frozen weights", 0.005, 0.0005)
"""The same values in the same network: fp32 kernels differ between machines, and with them a few
output pixels, by one level. Lower precision (bf16: 0.04 dB) does not pass."""

PRINTED = Tier("as printed", 0.02, 0.001)
"""The authors' weights, or a model that needs none, against what is printed: two decimals, measured
by others with small differences of protocol (rounding Y costs up to 0.02 dB)."""

PRINTED_SAID = f"{PRINTED.psnr:g} dB or {PRINTED.ssim:g} of SSIM"
"""`PRINTED` in words."""

RETRAINED = {
    "set5": Tier("retrained", 0.2, 0.003),
    "set14": Tier("retrained", 0.1, 0.0025),
    "b100": Tier("retrained", 0.05, 0.002),
}
"""Other values of the same network, by set: a mean over few images moves more. The standard error
of the difference between VDSR and edsr-baseline is 0.33, 0.12 and 0.03 dB on these sets. The SSIM
is what goes with so much PSNR between VDSR and RDN in Table 2: 0.014, 0.025 and 0.039 per dB."""

RETRAINED_ELSEWHERE = Tier("retrained", 0.2, 0.003)
"""Sets without figures of their own get the widest."""
