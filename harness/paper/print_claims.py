"""Claims that the printed numbers decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.paper.schema import listed, title
from harness.paper.verdicts import Finding

if TYPE_CHECKING:
    from harness.paper.findings import Evidence

PSNR, SSIM = 0, 1
ROUNDING = 0.005
"""What rounding to two decimals hides of a PSNR (dB)."""


def table1_rivals(evidence: Evidence) -> tuple[float, list[str]]:
    """The whole network's PSNR in Table 1, and the methods of Table 2 that are above it."""
    table1 = evidence.paper["table1"]
    both = float(table1["psnr"][table1["readings"][0]["variants"].index("both")])
    better = [
        str(row["method"])
        for model, row in evidence.table2.items()
        if model != "drfn" and row[table1["set"]][PSNR] > both
    ]
    return both, better


def table1_table2(evidence: Evidence) -> Finding:
    """Table 1's whole network against Table 2's, on the same set and scale."""
    both, better = table1_rivals(evidence)
    full = evidence.table2["drfn"][evidence.paper["table1"]["set"]][PSNR]
    said = (
        f"The whole network has {both:.2f} dB in Table 1 and {full:.2f} dB in Table 2, on the same "
        f"set at the same scale: {full - both:.2f} dB apart, which the text does not explain. With "
        f"{both:.2f} dB DRFN would stand behind {len(better)} methods of Table 2 "
        f"({listed(better)})."
    )
    same = abs(full - both) <= ROUNDING
    return Finding("reproduced" if same else "inconsistent in print", said)


def vdsr_b100(evidence: Evidence) -> Finding:
    """A digit of VDSR's SSIM is lost."""
    (psnr, ssim), (low_psnr, low_ssim) = (
        evidence.table2[model]["b100"] for model in ("vdsr", "bicubic")
    )
    said = (
        f"The printed SSIM of VDSR, {ssim:.4f}, lies below bicubic's {low_ssim:.4f} at a PSNR "
        f"{psnr - low_psnr:.2f} dB higher: a digit was lost. VDSR's other SSIMs are three digits "
        "and a zero, so 0.7260 is meant"
    )
    run = evidence.run("vdsr", "b100")
    if run is None:
        return Finding("inconsistent in print", f"{said}.")
    measured = run.means["ssim"]
    return Finding(
        "inconsistent in print", f"{said}; measured is {measured:.4f}.", (run.identity.id,)
    )


def dcsr_urban100(evidence: Evidence) -> Finding:
    """DCSR on Urban100 is out of line with DCSR on the other sets."""
    dcsr, edsr = evidence.table2["dcsr"], evidence.table2["edsr"]
    gaps = {
        dataset: [own - other for own, other in zip(dcsr[dataset], edsr[dataset], strict=True)]
        for dataset in evidence.sets
        if dataset in dcsr and dataset in edsr
    }
    psnr, ssim = gaps.pop("urban100")
    others = listed([f"{gap[PSNR]:+.2f} dB on {title(name)}" for name, gap in gaps.items()])
    said = (
        f"DCSR stands {psnr:+.2f} dB / {ssim:+.4f} from EDSR on Urban100, and {others}; the cell "
        "would be the best of its column, and would fit a result at x3."
    )
    out_of_line = psnr > 0 > max(gap[PSNR] for gap in gaps.values())
    return Finding("inconsistent in print" if out_of_line else "not measured", said)


def figures(evidence: Evidence) -> Finding:
    """The text counts its figures otherwise than their captions."""
    caption = evidence.paper["figure5"]["caption"]
    said = (
        "The captions of the qualitative results are those of Fig.3 and Fig.4; the caption of "
        f'Fig.5 is "{caption}".'
    )
    return Finding("inconsistent in print", said)


def other_results(evidence: Evidence) -> Finding:
    """Which methods can have been taken from RDN's paper."""
    sources = evidence.paper["references"]
    later = [
        f"{evidence.table2[name]['method']} ({sources[name]['venue']})" for name in ("dcsr", "msrn")
    ]
    said = (
        "It is said of the pictures of Figures 3 and 4, and no number is printed for them. The "
        f"rows of Table 2 cannot all be from there: {listed(later)} were published after RDN "
        f"({sources['rdn']['venue']})."
    )
    return Finding("not measured", said)


def upscaling(evidence: Evidence) -> Finding:
    """An experiment without numbers."""
    return Finding(
        "not measured",
        "No number of these experiments is printed, and no network with pre-upscale is described.",
    )


def visual_quality(evidence: Evidence) -> Finding:
    """What is seen has no number."""
    return Finding(
        "not measured",
        "It is said of two images, and no number is printed for them; what is seen has no verdict "
        "here. Weights of DRFN that reach the printed PSNR would be needed to look.",
    )
