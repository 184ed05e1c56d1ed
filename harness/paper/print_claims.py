"""Judges claims from the printed numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.paper.schema import listed, title
from harness.paper.verdicts import Finding

if TYPE_CHECKING:
    from harness.paper.verdicts import Evidence

PSNR, SSIM = 0, 1
ROUNDING = 0.005
"""The largest error from rounding a PSNR (dB) to two decimals."""


def table1_rivals(evidence: Evidence) -> tuple[float, list[str]]:
    """Return the whole network's PSNR in Table 1, and the methods of Table 2 above it."""
    table1 = evidence.paper["table1"]
    both = float(table1["psnr"][table1["readings"][0]["variants"].index("both")])
    better = [
        str(row["method"])
        for model, row in evidence.table2.items()
        if model != "drfn" and row[table1["set"]][PSNR] > both
    ]
    return both, better


def table1_table2(evidence: Evidence) -> Finding:
    """Compare the whole network in Tables 1 and 2, on the same set and scale."""
    both, better = table1_rivals(evidence)
    full = evidence.table2["drfn"][evidence.paper["table1"]["set"]][PSNR]
    text = (
        f"The whole network has {both:.2f} dB in Table 1 and {full:.2f} dB in Table 2, on the same "
        f"set at the same scale: {full - both:.2f} dB apart, which the text does not explain. With "
        f"{both:.2f} dB DRFN would stand behind {len(better)} methods of Table 2 "
        f"({listed(better)})."
    )
    same = abs(full - both) <= ROUNDING
    return Finding("reproduced" if same else "inconsistent in print", text)


def vdsr_b100(evidence: Evidence) -> Finding:
    """Show that VDSR's printed SSIM on B100 lacks a digit."""
    (psnr, ssim), (low_psnr, low_ssim) = (
        evidence.table2[model]["b100"] for model in ("vdsr", "bicubic")
    )
    text = (
        f"The printed SSIM of VDSR, {ssim:.4f}, lies below bicubic's {low_ssim:.4f} at a PSNR "
        f"{psnr - low_psnr:.2f} dB higher: a digit was lost. VDSR's other SSIMs are three digits "
        "and a zero, so 0.7260 is meant"
    )
    run = evidence.run("vdsr", "b100")
    if run is None:
        return Finding("inconsistent in print", f"{text}.")
    measured = run.means["ssim"]
    return Finding(
        "inconsistent in print", f"{text}; measured is {measured:.4f}.", (run.identity.id,)
    )


def dcsr_urban100(evidence: Evidence) -> Finding:
    """Compare DCSR's lead on Urban100 with its results on the other sets."""
    dcsr, edsr = evidence.table2["dcsr"], evidence.table2["edsr"]
    gaps = {
        dataset: [own - other for own, other in zip(dcsr[dataset], edsr[dataset], strict=True)]
        for dataset in evidence.sets
        if dataset in dcsr and dataset in edsr
    }
    psnr, ssim = gaps.pop("urban100")
    others = listed([f"{gap[PSNR]:+.2f} dB on {title(name)}" for name, gap in gaps.items()])
    text = (
        f"DCSR stands {psnr:+.2f} dB / {ssim:+.4f} from EDSR on Urban100, and {others}; the cell "
        "would be the best of its column, and would fit a result at x3."
    )
    out_of_line = psnr > 0 > max(gap[PSNR] for gap in gaps.values())
    return Finding("inconsistent in print" if out_of_line else "not measured", text)


def figures(evidence: Evidence) -> Finding:
    """Compare the figure numbers in the text with those of the captions."""
    caption = evidence.paper["figure5"]["caption"]
    text = (
        "The captions of the qualitative results are those of Fig.3 and Fig.4; the caption of "
        f'Fig.5 is "{caption}".'
    )
    return Finding("inconsistent in print", text)


def other_results(evidence: Evidence) -> Finding:
    """Find the methods that cannot come from RDN's paper, by their dates."""
    sources = evidence.paper["references"]
    later = [
        f"{evidence.table2[name]['method']} ({sources[name]['venue']})" for name in ("dcsr", "msrn")
    ]
    text = (
        "It is said of the pictures of Figures 3 and 4, and no number is printed for them. The "
        f"rows of Table 2 cannot all be from there: {listed(later)} were published after RDN "
        f"({sources['rdn']['venue']})."
    )
    return Finding("not measured", text)
