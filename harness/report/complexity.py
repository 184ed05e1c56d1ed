"""The report on the size and work of the networks, with the paper's parameter counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.models import cost
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
    output_size: tuple[int, int] = cost.OUTPUT_SIZE,
    speeds: Mapping[str, Speed] | None = None,
) -> Table:
    """Make a table of networks, one per row, with the counts that the paper prints at this scale.

    ``output_size`` is width and height of the SR image, cut to multiples of the scale; ``speeds``
    has time and memory by model, where measured.

    Raises:
        HarnessError: a network cannot be built.
        UsageError: the SR image is too small.
    """
    size = cost.whole_multiples(output_size, scale)
    plots, methods = (paper.plots, paper.methods) if paper else ((), {})
    of_scale = [plot.parameters for plot in plots if plot.scale == scale]
    printed = {methods[name]: count for counts in of_scale for name, count in counts.items()}
    readings = {methods[name] for plot in plots for name in plot.readings}
    facts = []
    for card in cards:
        fact = {"model": card.name, "parameters_printed": printed.get(card.name)}
        fact |= {"reading": card.name in readings} | _counts(card, scale, size)
        facts.append(fact | (asdict(speeds[card.name]) if speeds else {}))
    columns = _COUNTS + _SPEEDS if speeds else _COUNTS
    headers = ["Network", "Parameters printed", "Parameters", *(header for header, *_ in columns)]
    caption = (
        f"Size and work of the networks at x{scale} for an output of {size[0]} x {size[1]} pixels. "
        "MACs are multiply-accumulate operations, each two FLOPs, by PyTorch's own counter; "
        "activations are the values that convolutions put out. Where neither code nor a count was "
        "published the network is a reading of its paper."
    )
    if speeds:
        caption += (
            " Time (fastest of three, after a warm-up) and memory (the peak beyond the network) "
            "are of this machine, a megapixel (MP) of output."
        )
    rows = [_row(fact, columns) for fact in facts]
    headers, tidy = [*headers, "Where thop differs"], pd.DataFrame(facts)
    return Table("complexity", caption, headers, rows, tidy, title="Parameters and operations")


_COUNTS = (
    ("MACs (G)", "macs", 1e9, 2),
    ("Activations (M)", "activations", 1e6, 1),
    ("MACs by thop (G)", "thop_macs", 1e9, 2),
)
_SPEEDS = (("s/MP", "seconds", 1.0, 2), ("MB/MP", "bytes", 1e6, 0))
"""The header, fact, unit and decimals of columns."""


def _counts(card: ModelCard, scale: int, size: tuple[int, int]) -> dict[str, Any]:
    """Collect the counts for an output size, and those of thop."""
    counted = cost.measure_complexity(card, scale, {}, size)
    width, height = counted.input_size
    facts: dict[str, Any] = {
        "parameters": counted.parameters,
        "macs": counted.macs,
        "activations": counted.activations,
        "input_width": width,
        "input_height": height,
    }
    if counted.by_kind is None:
        return facts | {"thop_macs": None, "thop_differs": f"not counted: {counted.obstacle}"}
    by_thop = cost.thop_macs(card, scale, {}, width, height)
    gaps = cost.disagreements(counted.by_kind, by_thop)
    said = [f"{kind} {gap / 1e9:+.2f} G: {reason}" for kind, (gap, reason) in gaps.items()]
    return facts | {"thop_macs": sum(by_thop.values()), "thop_differs": "; ".join(said)}


def _row(fact: Mapping[str, Any], columns: Sequence[tuple[str, str, float, int]]) -> list[str]:
    counts = [(fact[name], unit, decimals) for _, name, unit, decimals in columns]
    return [
        fact["model"],
        short_count(fact["parameters_printed"]) if fact["parameters_printed"] else "",
        f"{fact['parameters']:,}" + " (a reading)" * fact["reading"],
        *("" if count is None else f"{count / unit:,.{n}f}" for count, unit, n in counts),
        fact["thop_differs"],
    ]
