"""Claims that the networks themselves decide: their size, depth and work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.paper.judgement import Finding, listed, title
from harness.paper.print_claims import PSNR
from harness.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.paper.judgement import Evidence

READINGS = ("drfn", "drfn-2conv")
"""One and two convolutions a residual block; the first is the one the harness takes."""

PATCH = 48
"""Side of an LR patch, which the paper does not state (pixels)."""

EDSR_EPOCH = 1000
"""Steps of an epoch in EDSR's code."""

PASSES = 3
"""Work of a training step over that of a forward pass: the backward pass costs two."""


def parameters(evidence: Evidence) -> Finding:
    """The count of DRFN under each reading of the residual block."""
    claimed = evidence.number("parameters")
    counts = {name: _count(evidence, name) for name in READINGS}
    fits = {
        name: _in_millions(count, 1) == _in_millions(claimed, 1) for name, count in counts.items()
    }
    said = (
        f"With one convolution a residual block the network has {counts['drfn']:,} parameters, "
        f"with the usual two {counts['drfn-2conv']:,}. The first reading is the harness's default "
        "because it agrees, so this confirms that the text allows the count, no more."
    )
    return Finding("reproduced" if any(fits.values()) else "refuted", said)


def rdn_parameters(evidence: Evidence) -> Finding:
    """The count of RDN."""
    count = _count(evidence, "rdn")
    fits = _in_millions(count, 0) == _in_millions(evidence.number("rdn_parameters"), 0)
    said = f"RDN with 16 blocks of 8 convolutions, growth 64, has {count:,} parameters at x4."
    return Finding("reproduced" if fits else "refuted", said)


def _count(evidence: Evidence, model: str) -> int:
    return evidence.complexity(model).parameters


def _in_millions(count: float, decimals: int) -> str:
    return f"{count / 1e6:.{decimals}f}"


def depth(evidence: Evidence) -> Finding:
    """The longest chain of convolutions under each reading of the residual block."""
    one, two = (evidence.depth(name) for name in READINGS)
    claimed = evidence.number("layers")
    width = evidence.number("width")
    least = claimed * width * (width * 9 + 1)
    said = (
        f"The longest chain of convolutions has {one.chain} (one a residual block) or {two.chain} "
        f"(two); all convolutions together are {one.convolutions} or {two.convolutions}. Counting "
        f"activations and poolings as well, the chains have {one.operations} and {two.operations}. "
        f"{claimed:.0f} convolutions of 3x3 with {width:.0f} filters alone would have "
        f"{_in_millions(least, 1)}M parameters, where "
        f"{_in_millions(evidence.number('parameters'), 1)}M are claimed."
    )
    return Finding("reproduced" if max(one.chain, two.chain) > claimed else "refuted", said)


def training_time(evidence: Evidence) -> Finding:
    """How many steps fit into the stated epoch, by the network's work."""
    peak, seconds = evidence.paper["gpu"]["flops"], evidence.number("epoch_seconds")
    batch = evidence.number("batch")
    one, two = (_step_flops(evidence, name) for name in READINGS)
    at_most = [peak * seconds / work for work in (one, two)]
    pictures = evidence.number("training_images") / batch
    said = (
        f"A step (batch {batch:.0f}, patch {PATCH} assumed, {PASSES} x the forward pass) takes "
        f"{one / 1e12:.2f} TFLOP, or {two / 1e12:.2f} with two convolutions a block; the card does "
        f"{peak / 1e12:.2f} TFLOP/s in fp32, so {seconds:.0f} s are at most {at_most[0]:.0f} or "
        f"{at_most[1]:.0f} steps. An epoch of {pictures:.0f} steps (each picture once) would need "
        f"{pictures / at_most[0]:.0%} of the peak, one of {EDSR_EPOCH:,} (EDSR's code) "
        f"{EDSR_EPOCH / at_most[0]:.0%}, which plain convolutions cannot have (those that save "
        "multiplications might). The epoch's length is not stated: the time cannot be judged."
    )
    return Finding("not measured", said)


def _step_flops(evidence: Evidence, model: str) -> float:
    """Floating-point operations of a training step, from the forward pass on another size."""
    measured = evidence.complexity(model)
    assert measured.macs is not None, "DRFN can be run on shapes alone"
    pixels = evidence.number("batch") * PATCH**2
    width, height = measured.input_size
    return PASSES * 2 * measured.macs * pixels / (width * height)


def similar_performance(evidence: Evidence) -> Finding:
    """What is called similar, against what is called superior."""
    own, rdn, msrn = (evidence.table2[name] for name in ("drfn", "rdn", "msrn"))
    behind = {name: rdn[name][PSNR] - own[name][PSNR] for name in evidence.sets}
    lead = max(own[name][PSNR] - msrn[name][PSNR] for name in evidence.sets)
    ratios = [_count(evidence, name) / _count(evidence, "drfn") for name in ("rdn", "edsr")]
    gaps = listed([f"{gap:.2f} on {title(name)}" for name, gap in behind.items()])
    said = (
        f"RDN has {ratios[0]:.1f} and EDSR {ratios[1]:.1f} times the parameters, so that half "
        f"holds. As printed, DRFN is behind RDN by {gaps} (dB); its largest lead over MSRN, to "
        f"which it is called superior, is {lead:.2f} dB."
    )
    contradicts = min(behind.values()) > lead
    return Finding("inconsistent in print" if contradicts else "reproduced", said)


def computing_power(evidence: Evidence) -> Finding:
    """Who does better in print with no more multiplications."""
    names = [name for name in evidence.table2 if name in MODELS]
    work = {name: evidence.complexity(name).macs for name in (*names, *READINGS)}
    known = {name: macs for name, macs in work.items() if macs is not None}
    better = {name: _better_for_less(evidence, known, name) for name in READINGS}
    amounts = [
        f"{evidence.table2[name]['method']} {macs / 1e9:,.0f}"
        for name, macs in sorted(known.items(), key=lambda entry: entry[1])
        if name in evidence.table2 and macs
    ]
    said = (
        f"Multiplications for an output of 1280x720, in G: {listed(amounts)}. By the printed PSNR "
        f"{_who(better['drfn'])} DRFN with no more of them; with two convolutions a block "
        f"({known['drfn-2conv'] / 1e9:,.0f} G) {_who(better['drfn-2conv'])} it"
    )
    unknown = [row["method"] for name, row in evidence.table2.items() if name not in known]
    if unknown:
        said += f". Not known here: {listed(unknown)}"
    return Finding("refuted" if better["drfn"] else "reproduced", f"{said}.")


def _better_for_less(evidence: Evidence, macs: Mapping[str, int], reading: str) -> list[str]:
    """Cells of Table 2 above DRFN's, by networks that do not need more multiplications."""
    own = evidence.table2["drfn"]
    return [
        f"{row['method']} on {title(dataset)}"
        for name, row in evidence.table2.items()
        if name != "drfn" and name in macs and macs[name] <= macs[reading]
        for dataset in evidence.sets
        if dataset in row and row[dataset][PSNR] > own[dataset][PSNR]
    ]


def _who(cells: Sequence[str]) -> str:
    return f"{listed(cells)} {'beat' if len(cells) > 1 else 'beats'}" if cells else "none beats"
