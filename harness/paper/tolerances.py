"""The tolerance between a measured and a printed number."""

from __future__ import annotations

from harness.run.compare import Tier

PRINTED = Tier("as printed", 0.02, 0.001)
"""The authors' weights, or a model without weights, against the print: two decimals, measured by
others under slightly different protocols (rounding Y costs up to 0.02 dB)."""

PRINTED_TEXT = f"{PRINTED.psnr:g} dB or {PRINTED.ssim:g} of SSIM"
"""`PRINTED` in words."""
