"""The paper's claims and what has become of them, as a report."""

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
        """The table, then one paragraph a claim; as CSV, one row a claim with everything."""
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
    said = {name: escape_markdown(str(value)) for name, value in claim.items()}
    runs = f"\n\nRuns: {said['runs']}" if said["runs"] else ""
    return (
        f"\n### {said['claim']}: {said['verdict']}\n\n"
        f"> {markdown_paragraph(claim['statement'])} ({said['where']})\n\n"
        f"{markdown_paragraph(claim['evidence'])}{runs}\n"
    )


def _html(claim: Mapping[Any, Any]) -> str:
    said = {name: escape_html(str(value)) for name, value in claim.items()}
    runs = f"<p>Runs: {said['runs']}</p>\n" if said["runs"] else ""
    return (
        f"<h2>{said['claim']}: {said['verdict']}</h2>\n"
        f"<blockquote>{said['statement']} ({said['where']})</blockquote>\n"
        f"<p>{said['evidence']}</p>\n{runs}"
    )


def _latex(claim: Mapping[Any, Any]) -> str:
    said = {name: escape_latex(str(value)) for name, value in claim.items()}
    runs = f" Runs: {said['runs']}." if said["runs"] else ""
    return (
        f"\\item[{{{said['claim']}: {said['verdict']}}}] "
        f"``{said['statement']}'' ({said['where']}). {said['evidence']}{runs}\n"
    )


@register_report("claims")
def claims(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None = None) -> Table:
    """Every claim of the paper with its verdict and evidence.

    Args:
        runs: what `ResultStore.load` gives; may be empty.
        paper: what `harness.paper.schema.paper` gives.
        grey: without influence; claims are judged from the runs under both rules.
    """
    return claims_table(judge(runs, paper), paper)


def claims_table(judgements: Sequence[Judgement], paper: Mapping[str, Any]) -> Table:
    """Judgements as a report."""
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
