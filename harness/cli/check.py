"""Holding run records against what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from harness.cards import GreyRule
from harness.cli.options import (
    PathOption,
    json_option,
    reference_option,
    results_option,
    split_words,
    tell_earlier,
    tell_foreign,
    tell_read,
)
from harness.errors import MismatchError, UsageError
from harness.report.console import echo_lines


@click.command()
@click.option(
    "--against",
    type=click.Choice(["reference", "paper"]),
    default="reference",
    show_default=True,
    help="The committed records, or the paper's Table 2.",
)
@click.option("--models", default="all", show_default=True, help="Names or globs.")
@click.option("--datasets", default="all", show_default=True, help="Names or globs.")
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="Hold the runs that scored grey images so against the paper.  [default: each row's own "
    "rule]",
)
@click.option("--tolerance", type=click.FloatRange(0), metavar="DB", help="PSNR, for every tier.")
@click.option("--require", is_flag=True, help="What was not run is a failure.")
@click.option("--junit", type=PathOption, metavar="FILE", help="Write JUnit XML, for CI.")
@results_option("results/local")
@reference_option
@json_option
def check(
    against: str,
    models: str,
    datasets: str,
    grey: Any,
    tolerance: float | None,
    require: bool,
    junit: Path | None,
    results: Path,
    reference: Path,
    as_json: bool,
) -> None:
    """Compare run records with the reference records or with the paper (exit code 3)."""
    from harness.paper.check import (
        against_paper,
        against_reference,
        read_records,
        restrict,
        with_tolerance,
    )
    from harness.paper.schema import paper
    from harness.report import checks
    from harness.run.store import ResultStore

    if not (require or results.is_dir()):
        raise UsageError(
            f"There are no run records in {results} yet: make them with harness run, or name their "
            "folder with --results."
        )
    local, rows = read_records(ResultStore(results))
    tell_read(results, local)
    tell_earlier(local)
    tell_foreign(local)
    if against == "paper":
        rows += against_paper(local, paper(), grey)
    else:
        theirs, bad = read_records(ResultStore(reference))
        tell_read(reference, theirs)
        rows += bad
        if theirs or not bad:
            rows += against_reference(local, theirs)
    rows = restrict(rows, split_words(models), split_words(datasets))
    if tolerance is not None:
        rows = with_tolerance(rows, tolerance)
    echo_lines(checks.check_json(rows) if as_json else checks.check_markdown(rows, against))
    if junit:
        checks.write_junit(rows, against, require, junit)
    violations = [row.verdict for row in rows if row.violates(require)]
    if violations:
        absent = violations.count("not run")
        why = f", {absent} of them because they were not run" if absent else ""
        raise MismatchError(
            f"{len(violations)} of {len(rows)} numbers are not what they must be{why}."
        )
