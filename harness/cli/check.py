"""The verb check, and the formats of its result: Markdown, JUnit XML and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree

import click

from harness.cards import GreyRule
from harness.cli.options import (
    PathOption,
    fill_registries,
    json_option,
    note_read,
    open_results,
    paper_option,
    plugin_option,
    reference_option,
    refuse_ignored,
    required_paper,
    results_option,
    split_words,
)
from harness.cli.progress import echo_lines
from harness.errors import MismatchError, UsageError, printable
from harness.files import write_file
from harness.text import json_text, markdown_table

if TYPE_CHECKING:
    from harness.run.compare import CheckRow


@click.command()
@click.option(
    "--against",
    type=click.Choice(["reference", "paper"]),
    default="reference",
    show_default=True,
    help="The committed records, or the numbers that a paper prints.",
)
@paper_option()
@click.option("--models", default="all", show_default=True, help="Names or globs.")
@click.option("--datasets", default="all", show_default=True, help="Names or globs.")
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="With --against paper: use the runs with this rule for grey images.  [default: the "
    "table's own rule]",
)
@click.option(
    "--tolerance", type=click.FloatRange(0), metavar="DB", help="PSNR tolerance for every tier."
)
@click.option("--require", is_flag=True, help="Count numbers that were not run as failures.")
@click.option("--junit", type=PathOption, metavar="FILE", help="Write JUnit XML, for CI.")
@results_option("results/local", several=True)
@reference_option
@plugin_option
@json_option
def check(
    against: str,
    paper_name: str,
    models: str,
    datasets: str,
    grey: Any,
    tolerance: float | None,
    require: bool,
    junit: Path | None,
    results: tuple[Path, ...],
    reference: Path,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare run records with the reference records or a paper; exit code 3 if they differ.

    With --against paper, the authors' weights may miss a printed number that other printed numbers
    contradict, that they give under other rules, or for which not every rule was tried: such a
    difference is no failure if the reference records have it, too.
    """
    from harness.paper.check import against_paper
    from harness.paper.findings import Findings
    from harness.run.compare import against_reference, bad_rows, restrict, with_tolerance
    from harness.run.store import ResultStore

    if against != "paper":
        refuse_ignored("--against paper", "grey", "paper_name")
    fill_registries(plugins)
    if not (require or results[0].is_dir()):
        raise UsageError(
            f"There are no run records in {results[0]} yet: make them with harness run, or give "
            "their folder with --results."
        )
    local = open_results(*results)
    references = ResultStore(reference).read()
    note_read(references)
    rows = bad_rows(local.bad | references.bad)
    if against == "paper":
        paper = required_paper(paper_name, "harness check --against paper")
        if not any(row.printed for row in paper.rows):
            raise UsageError(f"The paper {paper.source.id} prints no numbers in a table.")
        findings = Findings(local.table(), paper, grey)
        rows += against_paper(findings, Findings(references.table(), paper))
    elif references.sound or not references.bad:
        rows += against_reference(local.sound.values(), references.sound.values())
    rows = restrict(rows, split_words(models), split_words(datasets))
    if tolerance is not None:
        rows = with_tolerance(rows, tolerance)
    echo_lines(check_json(rows) if as_json else check_markdown(rows, against))
    if junit:
        write_file(junit, junit_xml(rows, against, require), "file")
    violations = [row.verdict for row in rows if row.violates(require)]
    if violations:
        absent = violations.count("not run")
        reason = f", {absent} of them because they were not run" if absent else ""
        raise MismatchError(f"{len(violations)} of {len(rows)} numbers fail the check{reason}.")


def check_markdown(rows: Sequence[CheckRow], against: str) -> str:
    """Format the rows as a Markdown table, and count the verdicts in a sentence."""
    facts = [_facts(row) for row in rows]
    right = ("measured", "expected", "difference", "tolerance")
    headers = [name for name in facts[0] if name != "table" or any(row.place for row in rows)]
    cells = [[fact[name] for name in headers] for fact in facts]
    table = markdown_table(headers, cells, ["right" if n in right else "left" for n in headers])
    counts = Counter(row.verdict for row in rows)
    undecided = f"{n} are undecided, " if (n := counts["undecided"]) else ""
    impossible = sum(row.impossible for row in rows)
    text = (
        f"{table}\n\n"
        f"Of {len(rows)} numbers of the {against}, {counts['ok']} are ok, {counts['FAIL']} FAIL, "
        f"{counts['known misprint']} are known misprints, {counts['other rules']} match the "
        f"printed ones under other rules, "
        f"{undecided}{counts['not run']} were not run"
    )
    return f"{text}, {impossible} of them because they cannot be." if impossible else f"{text}."


def _facts(row: CheckRow) -> dict[str, str]:
    """Format a row, by the headers of the table."""

    def score(value: float | None, sign: str = "") -> str:
        return "" if value is None else _score(row.metric, value, sign)

    return {
        "model": row.model,
        "set": row.dataset,
        "metric": row.metric,
        "table": row.place,
        "measured": score(row.measured),
        "expected": score(row.expected),
        "difference": score(row.difference, "+"),
        "tolerance": "" if row.tolerance is None else f"{row.tolerance:g}",
        "tier": row.tier,
        "run": row.run,
        "record": row.record,
        "verdict": _verdict(row),
    }


def _score(metric: str, value: float, sign: str = "") -> str:
    """Format a score, or a difference with the sign ``+``; six digits for unknown metrics."""
    form = {"psnr": ".4f", "ssim": ".6f"}.get(metric, ".6g")
    return f"{value:{sign}{form}}"


def _verdict(row: CheckRow) -> str:
    """Return the verdict with its reason."""
    if row.verdict == "ok":
        return row.verdict
    reasons = [row.reason] if row.reason else []
    if row.tolerance is not None and not abs(row.apart) <= row.tolerance:
        reasons.append(f"{row.image} is off by {_score(row.metric, row.apart, '+')}")
    return ": ".join([row.verdict, *(["; ".join(reasons)] if reasons else [])])


def junit_xml(rows: Sequence[CheckRow], against: str, require: bool) -> str:
    """Format the rows as JUnit XML.

    There is one test case per row: violations fail, other numbers that were not run are skipped.
    """
    suite = ElementTree.Element("testsuite", {"name": f"harness check --against {against}"})
    for row in rows:
        name = " ".join(filter(None, (row.model, row.metric, row.place, row.run)))
        where = {"classname": f"{against}.{row.dataset}", "name": name}
        case = ElementTree.SubElement(suite, "testcase", where)
        if row.violates(require):
            ElementTree.SubElement(case, "failure", {"message": _sentence(row)})
        elif row.verdict == "not run":
            ElementTree.SubElement(case, "skipped", {"message": _sentence(row)})
        else:
            ElementTree.SubElement(case, "system-out").text = _sentence(row)
    for name, kind in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(kind))))
    for element in suite.iter():
        # XML has no control characters, not even escaped ones.
        element.attrib |= {key: printable(text) for key, text in element.items()}
        element.text = printable(element.text or "")
    ElementTree.indent(suite)
    body = ElementTree.tostring(suite, "unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _sentence(row: CheckRow) -> str:
    facts = _facts(row)
    names = ("measured", "expected", "difference", "tolerance", "tier")
    numbers = [f"{name} {facts[name]}" for name in names if facts[name]]
    return f"{facts['verdict']} ({', '.join(numbers)})"


def check_json(rows: Sequence[CheckRow]) -> str:
    """Format the rows with their verdicts as JSON; empty fields are null."""
    facts = [asdict(row) | {"difference": row.difference, "verdict": row.verdict} for row in rows]
    return json_text(
        [{key: None if value == "" else value for key, value in fact.items()} for fact in facts]
    )
