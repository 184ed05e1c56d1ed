"""The report on the size and work of the networks, with the paper's parameter counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.registry import MODELS, register_report
from harness.report.plot import short_count
from harness.report.table import Table

if TYPE_CHECKING:
    from harness.cards import ModelCard
    from harness.models.resources import Speed
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper


@register_report("complexity")
def complexity(findings: Findings) -> Table:
    """Report parameters, operations and activations of every registered network.

    They are counted on the networks, at the largest scale of the paper's tables.
    """
    scale = findings.paper.largest_scale if findings.paper else 4
    cards = [card for card in map(MODELS.get, MODELS) if scale in card.scales and card.params != 0]
    return complexity_table(cards, scale, findings.paper)


def complexity_table(
    cards: Sequence[ModelCard],
    scale: int,
    paper: Paper | None,
    output_size: tuple[int, int] | None = None,
    speeds: Mapping[str, Speed] | None = None,
) -> Table:
    """Make a table of networks, one per row.

    Args:
        cards: the networks.
        scale: the factor.
        paper: the paper whose counts stand beside, if any.
        output_size: width and height of the SR image, cut to multiples of the scale; 1280 x 720
            by default.
        speeds: time and memory by model, where measured.

    Raises:
        HarnessError: a network cannot be built.
        UsageError: the SR image is too small.
    """
    from harness.models.cost import OUTPUT_SIZE, whole_multiples

    size = whole_multiples(output_size or OUTPUT_SIZE, scale)
    plots, methods = (paper.plots, paper.methods) if paper else ((), {})
    of_scale = [plot.parameters for plot in plots if plot.scale == scale]
    printed = {methods[name]: count for counts in of_scale for name, count in counts.items()}
    readings = {methods[name] for plot in plots for name in plot.readings}
    facts = []
    for card in cards:
        fact = {"model": card.name, "parameters_printed": printed.get(card.name)}
        fact |= {"reading": card.name in readings} | _counts(card, scale, size)
        if speeds is not None:
            fact["seconds_per_megapixel"] = speeds[card.name].seconds
            fact["bytes_per_megapixel"] = speeds[card.name].bytes
        facts.append(fact)
    columns = _COUNTS if speeds is None else _COUNTS + _SPEEDS
    headers = [header for header, *_ in columns]
    caption = (
        f"Size and work of the networks at x{scale} for an output of {size[0]} x {size[1]} pixels. "
        "MACs are multiply-accumulate operations as PyTorch's own counter has them; a FLOP count "
        "is twice that. Activations are the values that convolutions put out. Where neither code "
        "nor a count was published the network is a reading of its paper."
    )
    if speeds is not None:
        caption += (
            " Time (fastest of three, after a warm-up) and memory (the peak beyond the network) "
            "are of this machine, a megapixel (MP) of output."
        )
    return Table(
        "complexity",
        caption,
        ["Network", "Parameters printed", "Parameters", *headers, "Where thop differs"],
        [_row(fact, columns) for fact in facts],
        pd.DataFrame(facts),
    )


_COUNTS = (
    ("MACs (G)", "macs", 1e9, 2),
    ("FLOPs (G)", "flops", 1e9, 2),
    ("Activations (M)", "activations", 1e6, 1),
    ("MACs by thop (G)", "thop_macs", 1e9, 2),
)
_SPEEDS = (("s/MP", "seconds_per_megapixel", 1, 2), ("MB/MP", "bytes_per_megapixel", 1e6, 0))
"""The header, fact, unit and decimals of columns."""


def _counts(card: ModelCard, scale: int, size: tuple[int, int]) -> dict[str, Any]:
    """Collect the counts for an output size, and those of thop."""
    from harness.models.cost import disagreements, measure_complexity, thop_macs

    counted = measure_complexity(card, scale, {}, size)
    facts: dict[str, Any] = {
        "parameters": counted.parameters,
        "macs": counted.macs,
        "flops": None if counted.macs is None else 2 * counted.macs,
        "activations": counted.activations,
        "input_width": counted.input_size[0],
        "input_height": counted.input_size[1],
        "thop_macs": None,
        "thop_differs": "",
        "obstacle": counted.obstacle,
    }
    if counted.by_kind is not None:
        by_thop = thop_macs(card, scale, {}, *counted.input_size)
        differing = disagreements(counted.by_kind, by_thop)
        facts["thop_macs"] = sum(by_thop.values())
        facts["thop_differs"] = "; ".join(
            f"{kind} {gap / 1e9:+.2f} G: {reason}" for kind, (gap, reason) in differing.items()
        )
    return facts


def _row(fact: Mapping[str, Any], columns: Sequence[tuple[str, str, float, int]]) -> list[str]:
    counts = [(fact[name], unit, decimals) for _, name, unit, decimals in columns]
    return [
        fact["model"],
        short_count(fact["parameters_printed"]) if fact["parameters_printed"] else "",
        f"{fact['parameters']:,}" + " (a reading)" * fact["reading"],
        *("" if count is None else f"{count / unit:,.{n}f}" for count, unit, n in counts),
        f"not counted: {fact['obstacle']}" if fact["obstacle"] else fact["thop_differs"],
    ]
