"""The ablations of a paper, printed and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.paper.claims import contradicting_rows
from harness.paper.schema import listed, score, title
from harness.protocol.rules import PRESETS
from harness.registry import register_report
from harness.report.legend import FAILED, MISSING, grey_rules
from harness.report.table import Table

if TYPE_CHECKING:
    from harness.paper.ablations import MeasuredAblation
    from harness.paper.findings import Findings, JudgedAblation
    from harness.paper.schema import Ablation, Score


@register_report("ablation")
def ablation(findings: Findings) -> list[Table]:
    """Report each ablation: printed values, their verdicts, and measured ones, by budget."""
    return [_table(judged, findings) for judged in findings.ablations]


def _table(judged: JudgedAblation, findings: Findings) -> Table:
    printed, order = judged.ablation.printed, judged.ablation.columns
    empty = {name: FAILED if name in judged.broken else MISSING for name in order}
    rows = [
        ["printed", *(_form(judged.ablation).as_printed(printed[name]) for name in order)],
        ["verdict", *(judged.verdicts[name] for name in order)],
    ]
    for one in judged.measured:
        cells = (_mean(one, name) if name in one.runs else empty[name] for name in order)
        rows.append([f"measured ({one.budget})", *cells])
    if not judged.measured:
        rows.append(["measured", *empty.values()])
    facts = [
        {"variant": name, "printed": printed[name], "verdict": judged.verdicts[name]}
        | _tidy(one, name, empty[name])
        for one in judged.measured or (None,)
        for name in order
    ]
    headers = ["", *map(judged.ablation.called, order)]
    return Table(judged.ablation.id, _caption(judged, findings), headers, rows, pd.DataFrame(facts))


def _form(ablation: Ablation) -> Score:
    return score("psnr", ablation.decimals)


def _mean(measured: MeasuredAblation, variant: str) -> str:
    """Write ``27.412 (sd 0.021, 3 trainings)``, say, or ``27.412``."""
    sd, trainings = measured.sd(variant), len(measured.runs[variant])
    deviation = f" (sd {sd:.3f}, {trainings} trainings)" if sd is not None else ""
    return f"{measured.psnr(variant):.3f}{deviation}"


def _tidy(measured: MeasuredAblation | None, variant: str, empty: str) -> dict[str, Any]:
    """Collect what was measured of a variant, or ``empty`` for its runs."""
    known = measured if measured and variant in measured.runs else None
    return {
        "measured": known and round(known.psnr(variant), 6),
        "sd": known and known.sd(variant),
        "budget": known and str(known.budget),
        "runs": " ".join(run.identity.id for run in known.runs[variant]) if known else empty,
    }


def _caption(judged: JudgedAblation, findings: Findings) -> str:
    assert findings.paper
    ablation, paper = judged.ablation, findings.paper
    names = [ablation.called(variant) for variant in ablation.columns]
    text = (
        f'{ablation.title} of "{paper.source.title}": PSNR in dB on {title(ablation.set)} at '
        f"x{ablation.scale} of {paper.names.get(ablation.model, ablation.model)} in the variants "
        f"{listed(names)}. {ablation.note}".rstrip()
    )
    if ablation.readings:
        text += f" We read the columns as {', '.join(names)}."
    whole = ablation.printed[ablation.whole]
    for row in contradicting_rows(paper, ablation):
        full = row.printed[ablation.set, "psnr"]
        text += (
            f" The {_form(ablation).as_printed(whole)} dB of {ablation.called(ablation.whole)} "
            f"contradict the {score('psnr', row.table.scores['psnr']).as_printed(full)} dB of "
            f"{row.table.title} for the same network, set and scale by "
            f"{_form(ablation).as_printed(abs(full - whole))} dB."
        )
    text += " Weights trained here may reach a printed number and cannot refute one."
    return f"{text} Grey images: {grey_rules(findings.rules, PRESETS[ablation.rules])}."
