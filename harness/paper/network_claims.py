"""Judges claims from the networks themselves: their size, depth and work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.paper.schema import listed
from harness.paper.verdicts import Finding
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.paper.verdicts import Evidence

READINGS = ("drfn", "drfn-2conv")
"""One and two convolutions per residual block; the harness uses the first by default."""

PATCH = 48
"""Side of an LR patch in pixels; the paper does not state it."""

EDSR_EPOCH = 1000
"""Steps per epoch in EDSR's code."""

PASSES = 3
"""Work of a training step relative to a forward pass: the backward pass costs two."""


def parameters(evidence: Evidence) -> Finding:
    """Count the parameters of DRFN under each reading of the residual block."""
    claimed = evidence.number("parameters")
    counts = {name: _count(evidence, name) for name in READINGS}
    fits = {
        name: _in_millions(count, 1) == _in_millions(claimed, 1) for name, count in counts.items()
    }
    text = (
        f"With one convolution a residual block the network has {counts['drfn']:,} parameters, "
        f"with the usual two {counts['drfn-2conv']:,}. The first reading is the harness's default "
        "because it agrees, so this confirms that the text allows the count, no more."
    )
    return Finding("reproduced" if any(fits.values()) else "refuted", text)


def rdn_parameters(evidence: Evidence) -> Finding:
    """Count the parameters of RDN."""
    count = _count(evidence, "rdn")
    fits = _in_millions(count, 0) == _in_millions(evidence.number("rdn_parameters"), 0)
    text = f"RDN with 16 blocks of 8 convolutions, growth 64, has {count:,} parameters at x4."
    return Finding("reproduced" if fits else "refuted", text)


def _count(evidence: Evidence, model: str) -> int:
    return evidence.complexity(model).parameters


def _in_millions(count: float, decimals: int) -> str:
    return f"{count / 1e6:.{decimals}f}"


def depth(evidence: Evidence) -> Finding:
    """Measure the longest chain of convolutions under each reading of the residual block."""
    one, two = (evidence.depth(name) for name in READINGS)
    claimed = evidence.number("layers")
    width = evidence.number("width")
    parameters_needed = claimed * width * (width * 9 + 1)
    text = (
        f"The longest chain of convolutions has {one.chain} (one a residual block) or {two.chain} "
        f"(two); all convolutions together are {one.convolutions} or {two.convolutions}. Counting "
        f"activations and poolings as well, the chains have {one.operations} and {two.operations}. "
        f"{claimed:.0f} convolutions of 3x3 with {width:.0f} filters alone would have "
        f"{_in_millions(parameters_needed, 1)}M parameters, where "
        f"{_in_millions(evidence.number('parameters'), 1)}M are claimed. Other readings: any "
        f"operation as a layer exceeds {claimed:.0f} with two convolutions a residual block only, "
        f"whose {_in_millions(_count(evidence, 'drfn-2conv'), 1)}M parameters contradict that "
        "count; that a deeper network of the same design can be trained is decided by no number."
    )
    return Finding("reproduced" if max(one.chain, two.chain) > claimed else "refuted", text)


def receptive_field(evidence: Evidence) -> Finding:
    """Compare the receptive field of DRFN's convolutions with those of its rivals."""
    reach = evidence.receptive_radius("drfn")
    rivals = [name for name in evidence.table2 if name in MODELS and name != "drfn"]
    radii = {name: evidence.receptive_radius(name) for name in rivals}
    others = [
        f"{evidence.table2[name]['method']} {radius}"
        for name, radius in sorted(radii.items(), key=lambda entry: -entry[1])
        if MODELS.get(name).params
    ]
    text = (
        f"Through its convolutions an output pixel of DRFN depends on LR pixels up to {reach} "
        f"away, a field of {2 * reach + 1} x {2 * reach + 1}, and through the pooling of its "
        f"channel attention on the whole image. Of the networks of Table 2: "
        f"{listed(others)}. How large is very large is not said."
    )
    return Finding("reproduced" if reach > max(radii.values()) else "refuted", text)


def downscaling_filters(evidence: Evidence) -> Finding:
    """Check the number of filters to which the channel attention reduces the features."""
    width, claimed = int(evidence.number("width")), int(evidence.number("downscaling_filters"))
    counts = {
        filters: count
        for (before, filters, kernel), count in evidence.convolutions("drfn").items()
        if kernel == 1 and before == width and filters < width
    }
    counted = listed([f"{count} have {filters} filters" for filters, count in counts.items()])
    text = (
        f"{width} features over the reduction ratio {evidence.number('reduction'):.0f} are "
        f"{width / evidence.number('reduction'):g}. Of the network's 1x1 convolutions from {width} "
        f"features to fewer {counted}; it is built by the text, so this confirms that the text "
        "agrees with itself, no more."
    )
    return Finding("reproduced" if set(counts) == {claimed} else "refuted", text)


def training_time(evidence: Evidence) -> Finding:
    """Compute how many steps fit into the stated epoch, from the network's work."""
    peak, seconds = evidence.paper["gpu"]["flops"], evidence.number("epoch_seconds")
    batch = evidence.number("batch")
    one, two = (_step_flops(evidence, name) for name in READINGS)
    at_most = [peak * seconds / work for work in (one, two)]
    pictures = evidence.number("training_images") / batch
    text = (
        f"A step (batch {batch:.0f}, patch {PATCH} assumed, {PASSES} x the forward pass) takes "
        f"{one / 1e12:.2f} TFLOP, or {two / 1e12:.2f} with two convolutions a block; the card does "
        f"{peak / 1e12:.2f} TFLOP/s in fp32, so {seconds:.0f} s are at most {at_most[0]:.0f} or "
        f"{at_most[1]:.0f} steps. An epoch of {pictures:.0f} steps (each picture once) would need "
        f"{pictures / at_most[0]:.0%} of the peak, one of {EDSR_EPOCH:,} (EDSR's code) "
        f"{EDSR_EPOCH / at_most[0]:.0%}, which plain convolutions cannot have (those that save "
        "multiplications might). The epoch's length is not stated: the time cannot be judged."
    )
    return Finding("not measured", text)


def _step_flops(evidence: Evidence, model: str) -> float:
    """Compute the FLOPs of a training step from a forward pass on another size."""
    measured = evidence.complexity(model)
    assert measured.macs is not None, "DRFN can be run on shapes alone"
    pixels = evidence.number("batch") * PATCH**2
    width, height = measured.input_size
    return PASSES * 2 * measured.macs * pixels / (width * height)
