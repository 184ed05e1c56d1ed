"""The report on the paper's claims and their verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

import pandas as pd

from harness.paper.verdicts import Judgement, Verdict
from harness.registry import register_report
from harness.report.legend import table_name
from harness.report.table import Note, Table
from harness.text import listed

if TYPE_CHECKING:
    from harness.paper.findings import Findings


@register_report("claims")
def claims(findings: Findings) -> list[Table]:
    """Report every claim of the paper with its verdict, its words and the evidence.

    The grey rule is ignored: claims are judged from the runs under all rules.
    """
    paper, judgements = findings.paper, findings.claims
    if paper is None:
        return []
    count = Counter(judgement.verdict for judgement in judgements)
    numbers = ", ".join(f"{count[verdict]} {verdict}" for verdict in get_args(Verdict))
    caption = (
        f'What "{paper.source.title}" claims, judged from run records, from the networks '
        f"themselves and from the printed tables: {numbers}. Reproduced: the evidence agrees. "
        "Refuted: it does not. Inconsistent in print: printed numbers contradict each other. "
        "Undecided: the evidence can neither confirm nor refute. Not measured: evidence is "
        "missing, or no number decides."
    )
    if copied := [table_name(table) for table in paper.tables if table.read_from]:
        caption += f" The numbers of {listed(copied)} are not from the paper itself."
    rows = [[one.claim, one.where, one.verdict] for one in judgements]
    tidy = pd.DataFrame([asdict(one) | {"runs": _runs(one)} for one in judgements])
    notes = [_note(one) for one in judgements]
    return [Table("claims", caption, ["Claim", "Where", "Verdict"], rows, tidy, notes)]


def _note(one: Judgement) -> Note:
    runs = [f"Runs: {_runs(one)}"] if one.runs else []
    quote = f"{one.statement} ({one.where})"
    return Note(f"{one.claim}: {one.verdict}", quote, [one.evidence, *runs])


def _runs(one: Judgement) -> str:
    return " ".join(run[:12] for run in one.runs)
