"""The report on the paper's claims and their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd

from harness.paper.verdicts import Judgement, Verdict
from harness.registry import register_report
from harness.report.table import (
    Format,
    Table,
    escape_html,
    escape_latex,
    html_file,
    markdown_paragraph,
)

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper


@dataclass(frozen=True)
class ClaimsTable(Table):
    """A table of verdicts, followed by the paper's words and the evidence for each."""

    def render(self, form: Format) -> str:
        """Render the table, then a paragraph per claim; as CSV, only a full row per claim."""
        table = super().render(form)
        if form == "csv":
            return table
        entries = "".join(_entry(claim, form) for claim in self.tidy.to_dict("records"))
        if form == "tex":
            return f"{table}\n\\begin{{description}}\\sloppy\n{entries}\\end{{description}}\n"
        return html_file(self, entries) if form == "html" else table + entries


_ENTRIES: Mapping[Format, tuple[Callable[[str], str], str, str]] = {
    "md": (
        markdown_paragraph,
        "\n### {claim}: {verdict}\n\n> {statement} ({where})\n\n{evidence}{runs}\n",
        "\n\nRuns: {}",
    ),
    "tex": (
        escape_latex,
        "\\item[{{{claim}: {verdict}}}] ``{statement}'' ({where}). {evidence}{runs}\n",
        " Runs: {}.",
    ),
    "html": (
        escape_html,
        "<h2>{claim}: {verdict}</h2>\n<blockquote>{statement} ({where})</blockquote>\n"
        "<p>{evidence}</p>\n{runs}",
        "<p>Runs: {}</p>\n",
    ),
}
"""How text is escaped, a claim is written, and the runs behind it, if there are any."""


def _entry(claim: Mapping[Any, Any], form: Format) -> str:
    """Write a claim below the table."""
    escape, entry, runs = _ENTRIES[form]
    escaped = {name: escape(str(value)) for name, value in claim.items()}
    escaped["runs"] = runs.format(escaped["runs"]) if claim["runs"] else ""
    return entry.format(**escaped)


@register_report("claims")
def claims(findings: Findings) -> list[Table]:
    """Report every claim of the paper with its verdict and evidence.

    The grey rule is ignored: claims are judged from the runs under all rules.
    """
    return [claims_table(findings.claims, findings.paper)] if findings.paper else []


def claims_table(judgements: Sequence[Judgement], paper: Paper) -> Table:
    """Make a report of judgements."""
    count = Counter(judgement.verdict for judgement in judgements)
    numbers = ", ".join(f"{count[verdict]} {verdict}" for verdict in get_args(Verdict))
    caption = (
        f'What "{paper.source.title}" claims, judged from run records, from the networks '
        f"themselves and from the printed tables: {numbers}. Reproduced: the evidence agrees. "
        "Refuted: it does not. Inconsistent in print: printed numbers contradict each other. "
        "Undecided: the evidence can neither confirm nor refute. Not measured: evidence is "
        "missing, or no number decides."
    )
    rows = [[one.claim, one.where, one.verdict] for one in judgements]
    tidy = pd.DataFrame(
        [asdict(one) | {"runs": " ".join(run[:12] for run in one.runs)} for one in judgements]
    )
    return ClaimsTable("claims", caption, ["Claim", "Where", "Verdict"], rows, tidy)
