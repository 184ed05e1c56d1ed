"""The verbs accept and check, and the formats of a check: Markdown, JUnit XML, JSON, GitHub."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree

import click

from harness.cards import GreyRule
from harness.cli.options import (
    LOCAL,
    REFERENCE,
    PathOption,
    all_words,
    examples,
    fill_registries,
    folder_to_read,
    json_option,
    note_left_out,
    note_read,
    open_results,
    paper_option,
    plugin_option,
    published_records,
    reference_option,
    refuse_ignored,
    required_paper,
    results_option,
    weights_of,
    words_option,
)
from harness.cli.progress import echo, echo_lines, note
from harness.errors import HarnessError, MismatchError, UsageError, printable
from harness.files import write_file
from harness.text import escape_markdown, json_text, listed, markdown_table

if TYPE_CHECKING:
    from harness.record import RunRecord
    from harness.run.compare import CellKey, CheckRow
    from harness.run.store import Records


@click.command(epilog=examples("accept 3f2a 77b0", "accept all"))
@click.argument("ids", nargs=-1, required=True, callback=all_words)
@click.option(
    "--results",
    type=PathOption,
    callback=folder_to_read,
    default=LOCAL,
    show_default=True,
    help="The folder to move the records from.",
)
@click.option(
    "--reference",
    type=PathOption,
    default=REFERENCE,
    show_default=True,
    help="The folder to move them to.",
)
def accept(ids: tuple[str, ...], results: Path, reference: Path) -> None:
    """Move local records to the reference records: IDS are ids, their first digits, or all.

    All leaves out the runs of harness run --limit, which are of the first images of a set.
    """
    from harness.run.store import ResultStore, accept_records, is_of_first_images

    open_results(results)
    local, theirs = ResultStore(results), ResultStore(reference)
    hides_published = not REFERENCE.is_dir()  # else that folder is read already
    moved = accept_records(ids, local, theirs)
    for path in moved:
        echo(path)
    note(f"The records are no longer in {results}: before harness check, run the networks again.")
    if hides_published and REFERENCE.is_dir():
        echo(
            f"Warning: {REFERENCE} is new: harness check and report in this folder now read it "
            f"instead of the package's records in {published_records()}.",
            err=True,
        )
    left = local.read().finished().values() if "all" in ids else ()
    if limited := [run.identity.id[:12] for run in left if is_of_first_images(run)]:
        note(
            f"Left out, because they are runs of --limit: {listed(limited)}. Accept them by their "
            "ids."
        )
    records = theirs.read().sound
    accepted = {records[path].identity.model for path in moved if path in records}
    for model, paths in several_weights(records, accepted):
        echo(
            f"Warning: the reference has runs of {model} with several weights, and harness check "
            f"passes each: delete the records of old ones among {listed([*map(str, paths)])}.",
            err=True,
        )


def several_weights(
    reference: Mapping[Path, RunRecord], models: Collection[str]
) -> Iterator[tuple[str, list[Path]]]:
    """Yield models that the reference has with several weights, with the paths of these records."""
    from harness.run.compare import cell_of

    cells: dict[CellKey, dict[Path, str]] = {}
    for path, run in reference.items():
        if run.identity.weights_sha256:
            cells.setdefault(cell_of(run), {})[path] = run.identity.weights_sha256
    for model in sorted(models):
        several = [
            path
            for (name, *_), paths in cells.items()
            if name == model and len({*paths.values()}) > 1
            for path in paths
        ]
        if several:
            yield model, several


@click.command(
    epilog=examples(
        "check --models bicubic --datasets demo --require --junit check.xml",
        "check --against paper",
    )
)
@click.option(
    "--against",
    type=click.Choice(["reference", "paper"]),
    default="reference",
    show_default=True,
    help="The reference records, or the numbers that a paper prints.",
)
@paper_option()
@words_option(
    "--models",
    default=("all",),
    show_default=True,
    help="Names of models, or of checkpoints such as mine:a; globs, too.",
)
@words_option("--datasets", default=("all",), show_default=True, help="Names or globs.")
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="With --against paper: use the runs with this rule for grey images.  [default: the "
    "table's own rule]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    metavar="DB",
    help="With --against reference: one PSNR tolerance for all runs.",
)
@click.option(
    "--retrained",
    is_flag=True,
    help="With --against reference: accept other weights than the reference's within the "
    "tolerances of retrained weights.  [default: they fail]",
)
@click.option(
    "--require",
    is_flag=True,
    help="Fail for numbers that were not run; of the reference, those under the default rules.",
)
@click.option("--verbose", "-v", is_flag=True, help="Print all numbers, not only the failures.")
@click.option("--junit", type=PathOption, metavar="FILE", help="Write JUnit XML, for CI.")
@results_option("results/local", several=True)
@reference_option
@weights_of("With --against paper: use")
@plugin_option
@json_option
def check(
    against: str,
    paper_name: str,
    models: list[str],
    datasets: list[str],
    grey: Any,
    weights_of: list[str],
    tolerance: float | None,
    retrained: bool,
    require: bool,
    verbose: bool,
    junit: Path | None,
    results: tuple[Path, ...],
    reference: Path,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare run records with the reference records or a paper; exit code 3 if they differ.

    The check fails, too, if a run failed; if nothing was compared: at all, or for a word of
    --models or --datasets; and if a run has other weights than the reference's, unless --retrained
    accepts them.

    With --against paper, each printed number has the verdict of harness claims. It fails if it is
    refuted, if the authors' weights miss both the print and the reference records, or if its run
    failed; what is undecided does not fail.
    """
    from harness.paper.check import against_paper
    from harness.paper.findings import Findings
    from harness.run.compare import (
        against_reference,
        bad_rows,
        of_checkpoints,
        restrict,
        uncompared,
        with_tolerance,
    )
    from harness.run.store import ResultStore

    if against == "paper":
        refuse_ignored("--against reference", "retrained", "tolerance")
    else:
        refuse_ignored("--against paper", "grey", "paper_name", "weights_of")
    fill_registries(plugins)
    local = open_results(*results)
    references = ResultStore(reference).read()
    note_read(references)
    rows = bad_rows(local.bad | references.bad)
    chosen = local._replace(sound=of_checkpoints(local.sound, models))
    if against == "paper":
        paper = required_paper(paper_name, "harness check --against paper")
        if not any(row.printed for row in paper.rows):
            raise UsageError(f"The paper {paper.source.id} prints no numbers in a table.")
        findings = Findings(chosen.table(), paper, grey, weights_of)
        note_left_out(findings.left_out(paper.models))
        rows += against_paper(findings, Findings(references.table(), paper))
    elif references.sound or not references.bad:
        runs = chosen.sound.values(), references.sound.values()
        compared = against_reference(*runs, retrained=retrained)
        rows += compared if tolerance is None else with_tolerance(compared, tolerance)
    rows = restrict(rows, models, datasets, against)
    failing = [row for row in rows if row.violates(require)]
    text = check_markdown(rows if verbose else failing, rows, against)
    echo_lines(check_json(rows) if as_json else text)
    if junit:
        write_file(junit, junit_xml(rows, against, require), "file")
    missing = uncompared(rows, models, datasets, local.sound.values())
    fault = _fault(rows, failing, missing, local)
    tell_github(text, failing, fault)
    if fault:
        raise MismatchError(fault)


def _fault(
    rows: Sequence[CheckRow], failing: Sequence[CheckRow], missing: Sequence[str], local: Records
) -> str:
    """Say in a sentence why the check fails; empty if it passes.

    Args:
        rows: all numbers.
        failing: those that fail.
        missing: the words of the request for which nothing was compared.
        local: the records that were compared.
    """
    if all(row.measured is None for row in rows):
        return f"Nothing was compared: {_why_nothing(rows, local)}."
    if failing:
        absent = sum(row.verdict == "not run" for row in failing)
        others = sum(row.other_weights for row in failing)
        failed = [row.record for row in failing if row.broken and row.record]
        paths = [str(p) for p, run in local.sound.items() if run.identity.id[:12] in failed]
        text = f"{len(failing)} of {len(rows)} {_unit(rows)} fail the check"
        text += f", {absent} of them because they were not run" * bool(absent)
        if failed:
            text += f", {len(failed)} of them because of failed runs"
            text += f" (repeat these, or delete {listed(paths)})"
        text += f", {others} of them for other weights (--retrained accepts these)" * bool(others)
        return f"{text}.{_beside_right_ones(rows, failing, local.sound)}"
    if missing:
        return f"Nothing was compared for {listed(missing)}: run it, or leave it out."
    return ""


def _beside_right_ones(
    rows: Sequence[CheckRow], failing: Sequence[CheckRow], records: Mapping[Path, RunRecord]
) -> str:
    """Say what to do about runs that fail where others of the same cell of the reference pass.

    They may be left over from an earlier fault, or be of a checkpoint that is not meant.
    """
    from harness.run.compare import cell_of
    from harness.run.names import all_tags, checkpoint_of

    fail = {row.record for row in failing if not row.broken}
    ok = {row.record for row in rows if row.reference and row.verdict == "ok"} - fail
    passing = {cell_of(run): run for run in records.values() if run.identity.id[:12] in ok}
    beside = {
        path: (checkpoint_of(run), checkpoint_of(passing[cell_of(run)]))
        for path, run in records.items()
        if run.identity.id[:12] in fail and cell_of(run) in passing
    }
    if not beside:
        return ""
    names = all_tags(records.values())
    right = next(right for _, right in beside.values())
    named = f", or name the checkpoint, as in --models {right[0]}:{names[right][0]}"
    others = all(wrong != right for wrong, right in beside.values())
    paths = listed([str(path) for path in beside])
    return (
        " Other runs of the same networks and sets pass: if those that fail are left over, delete "
        f"{paths}{named * others}."
    )


def _why_nothing(rows: Sequence[CheckRow], local: Records) -> str:
    if not (local.sound or local.bad):
        return (
            f"there are no run records in {local.folders}; make them with harness run, or give "
            "their folder with --results"
        )
    if any(row.broken for row in rows):
        return "the runs failed, or their records are damaged; repeat these runs"
    return (
        f"no run record in {local.folders} is of these models and sets under these rules; harness "
        "list runs shows the records, and harness check --verbose the numbers to compare with"
    )


def tell_github(text: str, failing: Sequence[CheckRow], fault: str) -> None:
    """Show the result of the check in GitHub Actions, if that is where it runs.

    Appends Markdown to the file ``GITHUB_STEP_SUMMARY``. If ``GITHUB_ACTIONS`` is ``true``, prints
    an annotation for each failure to standard error, which the runner reads as well.

    Args:
        text: the failures as Markdown.
        failing: the numbers that fail.
        fault: why the check fails; empty if it passes.

    Raises:
        HarnessError: the file cannot be written.
    """
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        title = "failed" if fault else "passed"
        parts = [f"### harness check {title}", text, escape_markdown(fault)]
        try:
            with open(path, "a", encoding="utf-8") as stream:
                stream.write("\n\n".join(filter(None, parts)) + "\n\n")
        except OSError as error:
            raise HarnessError(
                f"The summary {path} cannot be written ({error.strerror})."
            ) from error
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for row in failing:
            echo(
                _annotation(f"{row.model} on {row.dataset}: {row.metric}", _sentence(row)), err=True
            )
        if fault and not failing:
            echo(_annotation("harness check", fault), err=True)


def _annotation(title: str, message: str) -> str:
    """Write an error of GitHub Actions, with the escapes of its workflow commands."""
    title, message = (printable(text).replace("%", "%25") for text in (title, message))
    return f"::error title={title.replace(':', '%3A').replace(',', '%2C')}::{message}"


def check_markdown(shown: Sequence[CheckRow], rows: Sequence[CheckRow], against: str) -> str:
    """Format some rows as a Markdown table, and count the verdicts of all in a sentence."""
    text = _summary(rows, against)
    if not shown:
        return text
    facts = [_facts(row) for row in shown]
    right = ("measured", "expected", "difference", "tolerance")
    headers = [name for name in facts[0] if name != "table" or any(row.place for row in shown)]
    cells = [[fact[name] for name in headers] for fact in facts]
    table = markdown_table(headers, cells, ["right" if n in right else "left" for n in headers])
    return f"{table}\n\n{text}"


def _summary(rows: Sequence[CheckRow], against: str) -> str:
    counts = Counter(row.verdict for row in rows)
    retrained = sum(row.verdict == "ok" and row.tier == "retrained" for row in rows)
    parts = [
        f"{n} {'is' if n == 1 else 'are'} {verdict}"
        for verdict, n in sorted(counts.items())
        if verdict not in ("ok", "FAIL", "not run")
    ]
    if n := counts["not run"]:
        parts.append(f"{n} {'was' if n == 1 else 'were'} not run")
    of = {"numbers": "of", "comparisons": "with"}[unit := _unit(rows)]
    text = f"Of {len(rows)} {unit} {of} the {against}, {counts['ok']} are ok"
    text += f" ({retrained} of them with other weights)" * bool(retrained)
    text = ", ".join([text, f"{counts['FAIL']} FAIL", *parts])
    impossible = sum(row.impossible for row in rows)
    return f"{text}, {impossible} of them because they cannot be." if impossible else f"{text}."


def _unit(rows: Sequence[CheckRow]) -> str:
    """Say what the rows are: several runs may be compared with one number, or a run with none."""
    numbers = {
        (row.reference or place, row.metric)
        for place, row in enumerate(rows)
        if row.expected is not None
    }
    return "numbers" if len(numbers) == len(rows) else "comparisons"


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
        "tolerance": "" if row.tolerance is None else f"{row.tolerance:g} ({row.tier})",
        "run": row.run,
        "record": row.record,
        "verdict": _verdict(row),
    }


def _score(metric: str, value: float, sign: str = "") -> str:
    """Format a score, or a difference with the sign ``+``; six digits for unknown metrics."""
    form = {"psnr": ".4f", "ssim": ".6f"}.get(metric, ".6g")
    return f"{value:{sign}{form}}"


def _verdict(row: CheckRow) -> str:
    """Return the verdict with its reason; a number that agrees with a suspicious one has none."""
    if row.verdict == "ok" and row.place:
        return row.verdict
    reasons = [row.reason] if row.reason else []
    if row.tolerance is not None and not abs(row.apart) <= row.tolerance:
        reasons.append(f"{row.image} is off by {_score(row.metric, row.apart, '+')}")
    return ": ".join([row.verdict, *(["; ".join(reasons)] if reasons else [])])


def junit_xml(rows: Sequence[CheckRow], against: str, require: bool) -> str:
    """Format the rows as JUnit XML.

    There is one test case per row: violations fail, other numbers that were not run are skipped.
    Several runs that differ in their ids alone have these in the names of their cases.
    """

    def name_of(row: CheckRow) -> str:
        return " ".join(filter(None, (row.model, row.metric, row.place, row.run)))

    count = Counter((row.dataset, name_of(row)) for row in rows)
    suite = ElementTree.Element("testsuite", {"name": f"harness check --against {against}"})
    for row in rows:
        several = count[row.dataset, name_of(row)] > 1
        name = f"{name_of(row)} {row.record}" if several and row.record else name_of(row)
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
    names = ("measured", "expected", "difference", "tolerance")
    numbers = [f"{name} {facts[name]}" for name in names if facts[name]]
    return f"{facts['verdict']} ({', '.join(numbers)})"


def check_json(rows: Sequence[CheckRow]) -> str:
    """Format the rows with their verdicts as JSON; empty fields are null."""
    facts = [asdict(row) | {"difference": row.difference, "verdict": row.verdict} for row in rows]
    return json_text(
        [{key: None if value == "" else value for key, value in fact.items()} for fact in facts]
    )
