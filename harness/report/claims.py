"""The report on the paper's claims and their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from harness.paper.claims import Judgement, Verdict, judge
from harness.registry import register_report
from harness.report.table import (
    Format,
    Table,
    escape_html,
    escape_latex,
    escape_markdown,
    html_file,
    markdown_paragraph,
)

if TYPE_CHECKING:
    from harness.cards import GreyRule


@dataclass(frozen=True)
class ClaimsTable(Table):
    """A table of verdicts, followed by the paper's words and the evidence for each."""

    def render(self, form: Format) -> str:
        """Render the table, then a paragraph per claim; as CSV, only a full row per claim."""
        table = super().render(form)
        claims = self.tidy.to_dict("records")
        if form == "md":
            return table + "".join(_markdown(claim) for claim in claims)
        if form == "tex":
            items = "".join(_latex(claim) for claim in claims)
            return f"{table}\n\\begin{{description}}\\sloppy\n{items}\\end{{description}}\n"
        if form == "html":
            return html_file(self, "".join(_html(claim) for claim in claims))
        return table


def _markdown(claim: Mapping[Any, Any]) -> str:
    escaped = {name: escape_markdown(str(value)) for name, value in claim.items()}
    runs = f"\n\nRuns: {escaped['runs']}" if escaped["runs"] else ""
    return (
        f"\n### {escaped['claim']}: {escaped['verdict']}\n\n"
        f"> {markdown_paragraph(claim['statement'])} ({escaped['where']})\n\n"
        f"{markdown_paragraph(claim['evidence'])}{runs}\n"
    )


def _html(claim: Mapping[Any, Any]) -> str:
    escaped = {name: escape_html(str(value)) for name, value in claim.items()}
    runs = f"<p>Runs: {escaped['runs']}</p>\n" if escaped["runs"] else ""
    return (
        f"<h2>{escaped['claim']}: {escaped['verdict']}</h2>\n"
        f"<blockquote>{escaped['statement']} ({escaped['where']})</blockquote>\n"
        f"<p>{escaped['evidence']}</p>\n{runs}"
    )


def _latex(claim: Mapping[Any, Any]) -> str:
    escaped = {name: escape_latex(str(value)) for name, value in claim.items()}
    runs = f" Runs: {escaped['runs']}." if escaped["runs"] else ""
    return (
        f"\\item[{{{escaped['claim']}: {escaped['verdict']}}}] "
        f"``{escaped['statement']}'' ({escaped['where']}). {escaped['evidence']}{runs}\n"
    )


@register_report("claims")
def claims(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Report every claim of the paper with its verdict and evidence.

    Args:
        runs: the output of `ResultStore.load`; may be empty.
        paper: the output of `harness.paper.schema.paper`.
        grey: ignored; claims are judged from the runs under both rules.
    """
    return claims_table(judge(runs, paper), paper)


def claims_table(judgements: Sequence[Judgement], paper: Mapping[str, Any]) -> Table:
    """Make a report of judgements."""
    count = Counter(judgement.verdict for judgement in judgements)
    numbers = ", ".join(f"{count[verdict]} {verdict}" for verdict in get_args(Verdict))
    caption = (
        f'What "{paper["source"]["title"]}" claims, judged from run records, from the networks '
        f"themselves and from the printed tables: {numbers}. Reproduced: the evidence agrees. "
        "Refuted: it does not. Inconsistent in print: printed numbers contradict each other. Not "
        "measured: evidence is missing or cannot decide."
    )
    rows = [[one.claim, one.where, one.verdict] for one in judgements]
    tidy = pd.DataFrame(
        [asdict(one) | {"runs": " ".join(run[:12] for run in one.runs)} for one in judgements]
    )
    return ClaimsTable("claims", caption, ["Claim", "Where", "Verdict"], rows, tidy)
