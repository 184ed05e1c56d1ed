"""The report on the paper's claims and their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from textwrap import shorten
from typing import TYPE_CHECKING, get_args

import pandas as pd

from harness.models.published import weights_label
from harness.paper.schema import title
from harness.paper.verdicts import Judgement, Verdict
from harness.registry import register_report
from harness.report.legend import table_name
from harness.report.table import Note, Table
from harness.text import listed, markdown_table, readable

if TYPE_CHECKING:
    from harness.paper.findings import Findings


@register_report("claims")
def claims(findings: Findings) -> list[Table]:
    """Report every claim of the paper with its verdict, its words and the evidence, by weight.

    The grey rule is ignored: claims are judged from the runs under all rules.
    """
    return [claims_table(findings, findings.claim_names)] if findings.paper else []


def claims_table(findings: Findings, names: Sequence[str]) -> Table:
    """Report some claims of the paper, by name."""
    paper, judgements = findings.paper, [findings.judge(name) for name in names]
    assert paper is not None, "claims are of a paper"
    caption = (
        f'What "{paper.source.title}" claims, judged from run records, from the networks '
        f"themselves and from the printed tables: {verdict_counts(judgements)}. "
        "Reproduced: the evidence agrees. Refuted: the evidence contradicts the claim. "
        "Inconsistent in print: printed numbers contradict each other. Undecided: the evidence can "
        "neither confirm nor refute. "
        "Not measured: evidence is missing, or no number decides."
    )
    if copied := [table_name(table) for table in paper.tables if table.read_from]:
        caption += f" The numbers of {listed(copied)} are not from the paper itself."
    rows = [[one.claim, one.where, one.verdict] for one in judgements]
    columns = [field.name for field in fields(Judgement)]
    tidy = pd.DataFrame([asdict(one) | {"runs": _runs(one)} for one in judgements], columns=columns)
    notes = [claim_note(one) for one in judgements]
    headers = ["Claim", "Where", "Verdict"]
    return Table("claims", caption, headers, rows, tidy, notes, title="Claims and their verdicts")


def verdict_counts(judgements: Iterable[Judgement]) -> str:
    """Count the claims of each verdict in words."""
    count = Counter(one.verdict for one in judgements)
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in get_args(Verdict))


def brief(one: Judgement, width: int) -> str:
    """Write a verdict, the claim's name and its first words in a line of at most ``width``."""
    longest = max(map(len, get_args(Verdict)))
    start = f"{one.verdict:<{longest}}  {one.claim}: "
    return start + shorten(one.statement, max(width - len(start), 20), placeholder=" ...")


def claim_note(one: Judgement) -> Note:
    """Write a claim with its verdict and evidence as a note, as it stands below the table."""
    runs = [f"Runs: {_runs(one)}"] if one.runs else []
    quote = f"{one.statement} ({one.where})"
    return Note(f"{one.claim}: {one.verdict}", quote, [one.evidence, *runs])


def runs_of(findings: Findings, one: Judgement) -> str:
    """List the runs that a verdict rests on, with their scores, as a Markdown table."""
    records = {record.identity.id: record for record in findings.runs.get("record", ())}
    rows = [
        [
            run[:12],
            records[run].identity.model,
            title(records[run].identity.dataset),
            records[run].identity.protocol,
            weights_label(records[run]),
            *(readable(records[run].means.get(metric)) for metric in ("psnr", "ssim")),
        ]
        for run in one.runs
    ]
    return markdown_table(["Run", "Model", "Set", "Rules", "Weights", "PSNR (dB)", "SSIM"], rows)


def _runs(one: Judgement) -> str:
    return " ".join(run[:12] for run in one.runs)
