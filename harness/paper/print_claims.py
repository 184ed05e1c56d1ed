"""Claims that the printed numbers decide."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from harness.paper.judgement import Finding, listed, ordinal, title

if TYPE_CHECKING:
    from harness.paper.judgement import Evidence

PSNR, SSIM = 0, 1
ROUNDING = 0.005
"""What rounding to two decimals hides of a PSNR (dB)."""


def superior(evidence: Evidence) -> Finding:
    """DRFN's rank in every printed column of Table 2."""
    ranks = {
        (dataset, metric): _rank(evidence, dataset, metric)
        for metric in (PSNR, SSIM)
        for dataset in evidence.sets
    }
    first = sum(rank == 1 for rank, _ in ranks.values())
    most = all(rank <= entries / 2 for rank, entries in ranks.values())
    said = (
        f"As printed, DRFN is {_ranks(ranks, PSNR)} by PSNR, and {_ranks(ranks, SSIM)} by SSIM: "
        f"{'ahead' if most else 'not ahead'} of most methods in every column, and the best in "
        f"{first or 'none'} of {len(ranks)}. DRFN's own numbers are judged in its row."
    )
    return Finding("reproduced" if most else "inconsistent in print", said)


def _rank(evidence: Evidence, dataset: str, metric: int) -> tuple[int, int]:
    """DRFN's place in a column, and the column's length."""
    column = [row[dataset][metric] for row in evidence.table2.values() if dataset in row]
    own = evidence.table2["drfn"][dataset][metric]
    return 1 + sum(value > own for value in column), len(column)


def _ranks(ranks: dict[tuple[str, int], tuple[int, int]], metric: int) -> str:
    """Such as ``3rd of 12 on Set5 and Set14, 2nd of 10 on Manga109``."""
    column = [(place, title(dataset)) for (dataset, one), place in ranks.items() if one == metric]
    groups = groupby(column, key=lambda entry: entry[0])
    return ", ".join(
        f"{ordinal(rank)} of {entries} on {listed([name for _, name in group])}"
        for (rank, entries), group in groups
    )


def table1_table2(evidence: Evidence) -> Finding:
    """Table 1's whole network against Table 2's, on the same set and scale."""
    table1 = evidence.paper["table1"]
    both = table1["psnr"][table1["readings"][0]["variants"].index("both")]
    full = evidence.table2["drfn"][table1["set"]][PSNR]
    better = [
        str(row["method"])
        for model, row in evidence.table2.items()
        if model != "drfn" and row[table1["set"]][PSNR] > both
    ]
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
