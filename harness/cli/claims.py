"""The verb that prints the verdicts on a paper's claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    examples,
    fill_registries,
    note_left_out,
    note_own_runs,
    open_results,
    paper_option,
    plugin_option,
    refuse_ignored,
    required_paper,
    results_option,
    weights_of_option,
)
from harness.cli.progress import echo_lines, note
from harness.errors import UsageError
from harness.text import json_text

if TYPE_CHECKING:
    from harness.paper.findings import Findings


@click.command(
    epilog=examples(
        "claims --results reference", "claims superior", "claims --paper rdn2018 --format csv"
    )
)
@click.argument("name", default="")
@paper_option()
@results_option(several=True)
@click.option("--verbose", "-v", is_flag=True, help="Print the evidence of every claim.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json", "csv"]),
    default="text",
    show_default=True,
    help="text prints each claim as soon as it is judged; the others begin when all are.",
)
@weights_of_option
@plugin_option
def claims(
    name: str,
    paper_name: str,
    results: tuple[Path, ...],
    verbose: bool,
    form: Any,
    weights_of: list[str],
    plugins: tuple[Path, ...],
) -> None:
    """Print the verdict on each claim of the paper, a line each; with NAME or -v, the evidence.

    With NAME, a claim's name or a part of it: its words, its evidence, and the scores of the runs
    that it rests on. Without it, a line for each claim, the weightiest first; harness report claims
    writes all of them with their evidence into files.
    """
    if form != "text":
        refuse_ignored("--format text", "verbose")
    fill_registries(plugins)
    print_claims(results, paper_name, form, weights_of, name, verbose=verbose)


def print_claims(
    results: Sequence[Path],
    paper_name: str,
    form: Any,
    weights_of: Sequence[str] = (),
    name: str = "",
    *,
    verbose: bool = False,
    taker: str = "harness claims",
) -> None:
    """Print a paper's claims and their verdicts, judged from the records in some folders.

    Args:
        results: the folders.
        paper_name: the paper, by name or as a file.
        form: ``text``, ``md``, ``json`` or ``csv``.
        weights_of: the checkpoints that speak for their models, as ``model:tag``.
        name: one claim; by default all.
        verbose: print the evidence of all as text, too.
        taker: what errors call the command.

    Raises:
        UsageError: there is no such paper or claim.
    """
    from harness.paper.findings import Findings
    from harness.report.claims import claims_table

    paper = required_paper(paper_name, taker)
    findings = Findings(open_results(*results).table(), paper, weights_of=weights_of)
    note_own_runs(results)
    names = [_near(name, findings.claim_names)] if name else findings.claim_names
    if form == "json":
        echo_lines(json_text([asdict(findings.judge(one)) for one in names]))
    elif form != "text":
        echo_lines(claims_table(findings, names).render(form), nl=False)
    elif name:
        _print_claim(findings, *names)
    else:
        _print_verdicts(findings, names, verbose=verbose)
    note_left_out(findings.left_out(paper.models))  # last: it needs all rows


def _print_claim(findings: Findings, name: str) -> None:
    """Print one claim with its evidence and the scores of its runs."""
    from harness.report.claims import claim_note, runs_of
    from harness.report.table import markdown_note

    judged = findings.judge(name)
    echo_lines(f"{markdown_note(claim_note(judged))}\n")
    if judged.runs:
        echo_lines(runs_of(findings, judged))


def _print_verdicts(findings: Findings, names: Sequence[str], *, verbose: bool) -> None:
    """Print each claim as soon as it is judged, then how many have which verdict."""
    from harness.report.claims import brief, claim_note, verdict_counts
    from harness.report.table import markdown_note

    width = get_terminal_size((100, 0)).columns
    for name in names:
        judged = findings.judge(name)
        echo_lines(f"{markdown_note(claim_note(judged))}\n" if verbose else brief(judged, width))
    counts = verdict_counts(map(findings.judge, names))
    echo_lines("\n" * (not verbose) + f"Of {len(names)} claims: {counts}.")
    if names and not verbose:
        note(f"The evidence of one: harness claims NAME, such as {names[0]}; of all: -v.")


def _near(word: str, names: Sequence[str]) -> str:
    """Find the name that is meant: a whole one, or the only one with that part or near it.

    Raises:
        UsageError: there is none, or there are several.
    """
    if word in names:
        return word
    part = word.lower()
    near = [name for name in names if part in name] or get_close_matches(part, names)
    if len(near) != 1:
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}."
        raise UsageError(f"No claim is called {word!r}: {hint}")
    return near[0]
