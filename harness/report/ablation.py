"""The ablations of a paper, printed and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.cards import PRESETS
from harness.paper.ablations import MeasuredAblation
from harness.paper.schema import score, title
from harness.registry import register_report
from harness.report.legend import FAILED, MISSING, grey_rules
from harness.report.table import Table

if TYPE_CHECKING:
    from harness.paper.ablations import JudgedAblation
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper


@register_report("ablation")
def ablation(findings: Findings) -> list[Table]:
    """Report each ablation: printed values, their verdicts, and measured ones, by budget.

    The grey rule is ignored: runs under the ablation's own rules are shown.
    """
    return [_table(judged, findings.paper) for judged in findings.ablations if findings.paper]


def _table(judged: JudgedAblation, paper: Paper) -> Table:
    form, printed = score("psnr", judged.ablation.decimals), judged.ablation.printed
    rows = [
        ["printed", *map(form.as_printed, printed.values())],
        ["verdict", *(judged.verdicts[variant] for variant in printed)],
    ]
    facts = []
    for one in judged.measured or (MeasuredAblation({}),):
        cells = [_cell(judged, one, variant) for variant in printed]
        rows.append([f"measured ({one.budget})" if one.runs else "measured", *cells])
        facts += [
            {
                "variant": variant,
                "printed": printed[variant],
                "verdict": judged.verdicts[variant],
                "measured": one.means(variant).mean(),
                "sd": one.means(variant).std(),
                "budget": str(one.budget) if variant in one.runs else None,
                "decides": not judged.below_floor(one) if variant in one.runs else None,
                "runs": " ".join(run.identity.id for run in one.runs.get(variant, ())) or cell,
            }
            for variant, cell in zip(printed, cells, strict=True)
        ]
    headers = ["", *map(judged.ablation.called, printed)]
    tidy = pd.DataFrame(facts).round(6)
    return Table(judged.ablation.id, _caption(judged, paper), headers, rows, tidy)


def _cell(judged: JudgedAblation, measured: MeasuredAblation, variant: str) -> str:
    """Write ``27.412 (sd 0.021, 3 trainings)``, say, or ``undecided (27.412)``."""
    means = measured.means(variant)
    if means.empty:
        return FAILED if variant in judged.failed else MISSING
    number = f"{means.mean():.3f}"
    several = f"sd {means.std():.3f}, {len(means)} trainings" if len(means) > 1 else ""
    if judged.below_floor(measured):
        return f"undecided ({', '.join(filter(None, [number, several]))})"
    return f"{number} ({several})" if several else number


def _caption(judged: JudgedAblation, paper: Paper) -> str:
    ablation, form = judged.ablation, score("psnr", judged.ablation.decimals)
    network = paper.names.get(ablation.model, ablation.model)
    text = (
        f'{ablation.title} of "{paper.source.title}": PSNR in dB on {title(ablation.set)} at '
        f"x{ablation.scale} of {network}. {ablation.note}".rstrip()
    )
    if ablation.readings:
        text += f" We read the columns as {', '.join(map(ablation.called, ablation.columns))}."
    whole = form.as_printed(ablation.printed[ablation.whole])
    for row in judged.contradicting:
        elsewhere = form.as_printed(row.printed[ablation.set, "psnr"])
        text += f" {row.table.title} prints {elsewhere} dB for the same network, not {whole} dB."
    text += " Weights trained here may reach a printed number and cannot refute one."
    if any(map(judged.below_floor, judged.measured)):
        text += " Undecided: with so little training a variant falls short of the "
        text += f"{form.as_printed(judged.floor)} dB printed for a method without weights, so this "
        text += "budget decides nothing."
    return f"{text} Grey images: {grey_rules(None, PRESETS[ablation.rules])}."
