"""Table 1 of the paper, printed and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.schema import title
from harness.paper.statistics import Ablation, ablations, broken_variants
from harness.paper.verdicts import Evidence, judge_table1
from harness.registry import register_report
from harness.report.legend import FAILED, MISSING
from harness.report.table import Table

if TYPE_CHECKING:
    from harness.cards import GreyRule


_COLUMNS = ["variant", "printed", "verdict", "measured", "sd", "budget", "runs"]
_TITLES = {"none": "neither", "ff": "FF", "lsc": "LSC", "both": "both"}


@register_report("table1")
def ablation(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Report Table 1: printed values, their verdicts, and measured ones, one line per budget."""
    reading = paper["table1"]["readings"][0]
    order: Sequence[str] = reading["variants"]
    printed = dict(zip(order, paper["table1"]["psnr"], strict=True))
    verdicts = judge_table1(Evidence(runs, paper))
    measured = ablations(runs, paper, grey)
    broken = broken_variants(runs, paper, grey)
    empty = {name: FAILED if name in broken else MISSING for name in order}
    rows = [
        ["printed", *(f"{printed[name]:.2f}" for name in order)],
        ["verdict", *(verdicts[name] for name in order)],
        *([_label(one), *(_mean(one, name) or empty[name] for name in order)] for one in measured),
    ]
    if not measured:
        rows.append(["measured", *empty.values()])
    facts = [
        {"variant": name, "printed": printed[name], "verdict": verdicts[name]}
        | (_tidy(one, name) or {"runs": empty[name]})
        for one in measured or (None,)
        for name in order
    ]
    tidy = pd.DataFrame(facts, columns=_COLUMNS)
    headers = ["", *(_TITLES[name] for name in order)]
    return Table("table1", _caption(paper, grey), headers, rows, tidy)


def _label(measured: Ablation) -> str:
    return f"measured ({measured.budget})"


def _mean(measured: Ablation, variant: str) -> str:
    """Write ``27.412 (sd 0.021, 3 trainings)``, say, or ``27.412``; empty without a run."""
    if variant not in measured.runs:
        return ""
    mean, sd = measured.psnr(variant), measured.sd(variant)
    trainings = len(measured.runs[variant])
    return f"{mean:.3f}" + (f" (sd {sd:.3f}, {trainings} trainings)" if sd is not None else "")


def _tidy(measured: Ablation | None, variant: str) -> dict[str, Any]:
    """Collect the measurements of a variant; empty without a run."""
    if measured is None or variant not in measured.runs:
        return {}
    return {
        "measured": round(measured.psnr(variant), 6),
        "sd": measured.sd(variant),
        "budget": str(measured.budget),
        "runs": " ".join(run.identity.id for run in measured.runs[variant]),
    }


def _caption(paper: Mapping[str, Any], grey: GreyRule | None) -> str:
    table = paper["table1"]
    both = table["psnr"][table["readings"][0]["variants"].index("both")]
    rows = {row["model"]: row for row in paper["table2"]["rows"]}
    full = rows["drfn"][table["set"]][0]
    return (
        f'Table 1 of "{paper["source"]["title"]}": PSNR in dB on {title(table["set"])} at '
        f"x{table['scale']} of DRFN with feature fusion (FF), with long and short connections "
        "(LSC), with both and with neither. Our copy of the text lacks some ticks of the "
        f"columns; we read them as {table['readings'][0]['name']}. The {both:.2f} dB of both "
        f"contradict the {full:.2f} dB of Table 2 for the same network, set and scale by "
        f"{full - both:.2f} dB. Weights trained here may reach a printed number and cannot refute "
        f"one. Grey images: {grey or table['grey']}."
    )
