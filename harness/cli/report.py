"""The verbs that read run records: report, claims, check, accept; and complexity."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree

import click

from harness.cards import GreyRule
from harness.cli.options import (
    REFERENCE,
    PathOption,
    all_words,
    chosen_paper,
    data_option,
    default_paper,
    device_option,
    examples,
    fill_registries,
    folder_to_read,
    is_given,
    json_option,
    note_read,
    open_results,
    paper_option,
    plugin_option,
    reference_option,
    reference_records,
    refuse_ignored,
    required_paper,
    results_option,
    scale_option,
    split_words,
    words_option,
)
from harness.cli.progress import echo, echo_lines
from harness.errors import HarnessError, MismatchError, UsageError, printable
from harness.files import write_file
from harness.report.build import FIXED_RULES
from harness.text import json_text, listed, markdown_table

if TYPE_CHECKING:
    from harness.report.crops import Region
    from harness.run.compare import CheckRow


@click.command(
    epilog=examples(
        "report table2 --format md,tex",
        "report results --paper none --results results/local",
        "report crops --image set14/img_005 --box 60,40,60,45",
    )
)
@click.argument("name", default="all")
@words_option(
    "--format",
    "formats",
    metavar="md,tex,csv,html,png,svg,pdf",
    help="Formats to write, where a report has them; json alone prints claims.  [default: all]",
)
@click.option(
    "--grey",
    type=click.Choice(get_args(GreyRule)),
    help="Show the runs with this rule for grey images, in files named after it; the reports "
    f"{listed(FIXED_RULES)} do not depend on it.  [default: each row's own rule]",
)
@click.option(
    "--no-marks", is_flag=True, help="Do not mark the best and second best numbers of tables."
)
@paper_option(optional=True)
@results_option(several=True)
@click.option(
    "--out",
    type=PathOption,
    help="The reports' folder.  [default: reports; with --results other than the reference, "
    "the folder reports in the first one; in it, a folder for each other --paper]",
)
@click.option(
    "--images",
    type=PathOption,
    callback=folder_to_read,
    metavar="DIR",
    help="The folder that harness run --save-images wrote, for crops and page.  [default: the "
    "first folder of run records]",
)
@click.option("--image", metavar="SET/IMAGE", help="The image of crops.")
@click.option("--box", metavar="X,Y,W,H", help="The part of it to enlarge, in HR pixels.")
@words_option("--models", help="The models of crops.  [default: all with runs]")
@data_option
@plugin_option
def report(
    name: str,
    formats: list[str],
    grey: Any,
    no_marks: bool,
    paper_name: str,
    results: tuple[Path, ...],
    out: Path | None,
    images: Path | None,
    image: str | None,
    box: str | None,
    models: list[str],
    data_root: Path | None,
    plugins: tuple[Path, ...],
) -> None:
    """Rebuild a paper's tables and figures, and the page, from run records.

    NAME is a report: results (the paper's tables), ablation, plot, rules, differences, literature,
    claims, complexity, crops, page, or one of a plug-in; or what the paper's file calls
    one of its tables, ablations or plots; or a glob, or all, which leaves out what the paper lacks.
    """
    from harness.paper.findings import Findings
    from harness.registry import MODELS, PAPERS, REPORTS
    from harness.report.build import build, selected, takes_pictures
    from harness.report.crops import Pictures

    fill_registries(plugins)
    name, paper_name = name.lower(), PAPERS.spelling(paper_name)
    paper = chosen_paper(paper_name)
    if not any(map(takes_pictures, selected(name, paper))):
        takers = " and ".join(filter(takes_pictures, REPORTS))
        refuse_ignored(f"the reports {takers}", "images", "image", "box", "models", "data_root")
    if name == "claims" and formats == ["json"] and not out:
        print_claims(results, paper_name, "json")
        return
    if not out:
        out = Path() if results == (reference_records(),) else results[0]
        own = paper.source.id if paper else "runs"
        is_taken = own in PAPERS and own not in (paper_name, default_paper())
        if paper and (is_taken or own == "runs"):
            raise UsageError(f"The folder reports/{own} is not this paper's: name one with --out.")
        out = out / "reports" / ("" if paper_name == default_paper() else own)
    if set(selected(name, paper)) <= {*FIXED_RULES}:
        refuse_ignored(f"reports other than {listed(FIXED_RULES)}", "grey")
    region = _region(image, box)
    pictures = Pictures(
        images or results[0], data_root, region, [MODELS.spelling(word) for word in models]
    )
    findings = Findings(open_results(*results).table(), paper, grey)
    failed = False
    for result in build(name, formats, findings, out, pictures, with_marks=not no_marks):
        if isinstance(result, HarnessError):
            failed = True
            echo(f"Error: {result}", err=True)
        elif result.paths:
            echo_lines(result.shown, nl=bool(result.shown))
            echo(f"Written: {', '.join(map(str, result.paths))}", err=True)
    if failed:
        sys.exit(1)


def _region(image: str | None, box: str | None) -> Region | None:
    """Parse ``--image`` and ``--box``."""
    from harness.report.crops import Box, Region

    if not image:
        if box:
            raise UsageError("--box needs the --image to cut it from.")
        return None
    dataset, slash, stem = image.partition("/")
    if not slash or not stem:
        raise UsageError(f"--image takes SET/IMAGE, such as set14/img_005, not {image!r}.")
    numbers = split_words(box or "")
    if box and (len(numbers) != 4 or not all(number.isdecimal() for number in numbers)):
        raise UsageError(f"--box takes x,y,width,height in HR pixels, not {box!r}.")
    return Region(dataset.lower(), stem, Box(*map(int, numbers)) if box else None)


@click.command(epilog=examples("accept 3f2a 77b0", "accept all"))
@click.argument("ids", nargs=-1, required=True, callback=all_words)
@results_option("results/local")
@click.option("--reference", type=PathOption, default=REFERENCE, show_default=True)
def accept(ids: tuple[str, ...], results: Path, reference: Path) -> None:
    """Move local records to the reference records: IDS are ids, their first digits, or all."""
    from harness.run.store import ResultStore, accept_records

    open_results(results)
    for path in accept_records(ids, ResultStore(results), ResultStore(reference)):
        echo(path)


@click.command(epilog=examples("claims", "claims --paper rdn2018 --format csv"))
@paper_option()
@results_option(several=True)
@click.option(
    "--format", "form", type=click.Choice(["md", "json", "csv"]), default="md", show_default=True
)
@plugin_option
def claims(
    paper_name: str, results: tuple[Path, ...], form: Any, plugins: tuple[Path, ...]
) -> None:
    """Print every claim of the paper: its words, the evidence, a verdict.

    The same as harness report claims, which also writes files.
    """
    fill_registries(plugins)
    print_claims(results, paper_name, form)


def print_claims(results: Sequence[Path], paper_name: str, form: Any) -> None:
    """Print a paper's claims and their verdicts, judged from the records in some folders."""
    from harness.paper.findings import Findings
    from harness.report.claims import claims as claims_report

    paper = required_paper(paper_name, "harness claims")
    findings = Findings(open_results(*results).table(), paper)
    if form == "json":
        echo_lines(json_text([asdict(judgement) for judgement in findings.claims]))
    else:
        (table,) = claims_report(findings)
        echo_lines(table.render(form), nl=False)


@click.command(
    epilog=examples("complexity drfn edsr", "complexity RealESRGAN_x4.pth --time --format csv")
)
@click.argument("models", nargs=-1, callback=all_words)
@words_option("--models", "more", metavar="NAME,...", help="The same as MODELS.")
@click.option(
    "--output-size", default="1280x720", show_default=True, help="Size of the SR image for counts."
)
@click.option("--time", "timed", is_flag=True, help="Also measure time and memory.")
@click.option(
    "--time-size", default="640x360", show_default=True, help="Size of the SR image for times."
)
@device_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "tex", "csv", "json"]),
    default="md",
    show_default=True,
)
@scale_option
@paper_option(optional=True)
@plugin_option
def complexity(
    models: list[str],
    more: list[str],
    output_size: str,
    timed: bool,
    time_size: str,
    device: str,
    form: Any,
    scale: int,
    paper_name: str,
    plugins: tuple[Path, ...],
) -> None:
    """Count parameters, operations and activations of MODELS, by default of all.

    MODELS are names, globs, and checkpoints that spandrel recognises.
    """
    from harness.report.complexity import complexity_table
    from harness.run.plan import networks
    from harness.run.request import Request

    fill_registries(plugins)
    words = [*models, *more] or ["all"]
    named, scale = networks(Request(words, scale=scale, scale_given=is_given("scale")))
    cards = [card for card in named if scale in card.scales and card.params != 0]
    if not cards:
        raise UsageError(f"None of these models has parameters at x{scale}.")
    speeds = None
    if not timed:
        refuse_ignored("--time", "time_size", "device")
    else:
        from harness.models.resources import measure_speed, pick_device

        torch_device, size = pick_device(device), _size(time_size)
        speeds = {card.name: measure_speed(card, scale, torch_device, size) for card in cards}
    table = complexity_table(cards, scale, chosen_paper(paper_name), _size(output_size), speeds)
    if form == "json":
        echo_lines(json_text(json.loads(table.tidy.to_json(orient="records"))))
    else:
        echo_lines(table.render(form))


def _size(text: str) -> tuple[int, int]:
    """Parse a size such as ``1280x720`` into width and height."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"A size is WIDTHxHEIGHT, such as 1280x720, not {text!r}.")
    return int(width), int(height)


@click.command(
    epilog=examples("check --models drfn --datasets demo", "check --against paper --require")
)
@click.option(
    "--against",
    type=click.Choice(["reference", "paper"]),
    default="reference",
    show_default=True,
    help="The committed records, or the numbers that a paper prints.",
)
@paper_option()
@words_option("--models", default=("all",), show_default=True, help="Names or globs.")
@words_option("--datasets", default=("all",), show_default=True, help="Names or globs.")
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
    models: list[str],
    datasets: list[str],
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
    rows = restrict(rows, models, datasets)
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
