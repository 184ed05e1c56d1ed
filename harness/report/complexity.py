"""The report on the size and work of the networks, with the paper's parameter counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.registry import MODELS, register_report
from harness.report.table import Table

if TYPE_CHECKING:
    from harness.cards import ModelCard
    from harness.models.cost import Complexity
    from harness.models.resources import Speed
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper


@register_report("complexity")
def complexity(findings: Findings) -> Table:
    """Report parameters, operations and activations of every registered network.

    They are counted on the networks, at the largest scale of the paper's tables.
    """
    scale = max((row.scale for row in findings.paper.rows), default=4) if findings.paper else 4
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
    from harness.models.cost import OUTPUT_SIZE, measure_complexity, whole_multiples

    size = whole_multiples(output_size or OUTPUT_SIZE, scale)
    printed: dict[str, float] = {}
    readings: set[str] = set()
    if paper:
        readings = {paper.methods[name] for plot in paper.plots for name in plot.readings}
        of_scale = [plot.parameters for plot in paper.plots if plot.scale == scale]
        printed = {paper.methods[name]: n for counts in of_scale for name, n in counts.items()}
    facts = []
    for card in cards:
        counted = measure_complexity(card, scale, {}, size)
        row = {"model": card.name, "parameters_printed": printed.get(card.name)}
        row["reading"] = card.name in readings
        if speeds is not None:
            timed = (speeds[card.name].seconds, speeds[card.name].bytes)
            row |= dict(zip(_TIMED, timed, strict=True))
        facts.append(row | _counts(card, scale, counted))
    columns = [one for one in _COLUMNS if speeds is not None or one[1] not in _TIMED]
    titles = [title for title, *_ in columns]
    headers = ["Network", "Parameters printed", "Parameters", *titles, "Where thop differs"]
    rows = [_row(fact, columns) for fact in facts]
    caption = (
        f"Size and work of the networks at x{scale} for an output of {size[0]} x {size[1]} pixels. "
        "MACs are multiply-accumulate operations as PyTorch's own counter has them; a FLOP count "
        "is twice that. Activations are the values that convolutions put out. thop counts some "
        "layers otherwise; where and why stands in the last column. Where neither "
        "code nor a count was published the network is a reading of its paper."
    )
    if speeds is not None:
        caption += (
            " Time (fastest of three, after a warm-up) and memory (the peak beyond the network) "
            "are of this machine, a megapixel (MP) of output."
        )
    return Table("complexity", caption, headers, rows, pd.DataFrame(facts))


_TIMED = ("seconds_per_megapixel", "bytes_per_megapixel")
_COLUMNS = (
    ("MACs (G)", "macs", 1e9, 2),
    ("FLOPs (G)", "flops", 1e9, 2),
    ("Activations (M)", "activations", 1e6, 1),
    ("s/MP", _TIMED[0], 1, 2),
    ("MB/MP", _TIMED[1], 1e6, 0),
    ("MACs by thop (G)", "thop_macs", 1e9, 2),
)
"""The header, fact, unit and decimals of each column of counts."""


def _counts(card: ModelCard, scale: int, counted: Complexity) -> dict[str, Any]:
    """Collect the counts, and those of thop."""
    from harness.models.cost import disagreements, thop_macs

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
    printed, differs = fact["parameters_printed"] or 0, fact["thop_differs"] or "nowhere"
    size, letter = (1e6, "M") if printed >= 1e6 else (1e3, "k")
    return [
        fact["model"],
        f"{printed / size:.1f}{letter}" if printed else "",
        f"{fact['parameters']:,}" + " (a reading)" * fact["reading"],
        *(
            "" if fact[name] is None else f"{fact[name] / unit:,.{decimals}f}"
            for _, name, unit, decimals in columns
        ),
        f"not counted: {fact['obstacle']}" if fact["obstacle"] else differs,
    ]
