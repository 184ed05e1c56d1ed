"""The verb report, which writes what run records say into files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from harness.cards import GreyRule
from harness.cli.claims import print_claims
from harness.cli.options import (
    Command,
    PathOption,
    chosen_paper,
    data_option,
    default_paper,
    examples,
    fill_registries,
    folder_to_read,
    note_left_out,
    note_own_runs,
    open_results,
    paper_option,
    plugin_option,
    published_records,
    reference_records,
    refuse_ignored,
    results_option,
    split_pairs,
    split_words,
    weights_of_option,
    words_option,
)
from harness.cli.progress import echo, echo_lines, note
from harness.errors import HarnessError, UsageError
from harness.report.build import FIXED_RULES
from harness.text import listed

if TYPE_CHECKING:
    from harness.report.crops import Region
    from harness.report.own_table import OwnTable


def _decimals(text: str) -> list[int]:
    """Convert ``--digits``."""
    words = split_words(text)
    if not all(word.isdecimal() and int(word) < 10 for word in words):
        raise UsageError(f"--digits takes the decimals of each metric, such as 2,4, not {text!r}.")
    return [int(word) for word in words]


def _new_names(_: object, parameter: object, texts: tuple[str, ...]) -> dict[str, str]:
    """Convert the pairs of ``--rename``."""
    names = {}
    for pair in split_pairs(texts):
        name, _, text = pair.partition("=")
        if not name or not text:
            raise UsageError(f"--rename takes NAME=TEXT, such as mine=Ours, not {pair!r}.")
        names[name] = text
    return names


def own_table_options(command: Command) -> Command:
    """Add the options that only a table of the user's own has, see `OwnTable`."""
    options = [
        words_option(
            "--datasets",
            metavar="NAME,...",
            help="Own table: the sets, in this order.  [default: all with runs]",
        ),
        words_option(
            "--printed",
            metavar="NAME,...",
            help="Own table: the methods whose numbers are those that --paper prints.",
        ),
        click.option(
            "--scale",
            type=click.IntRange(1),
            help="Own table: the scale.  [default: all with runs]",
        ),
        words_option(
            "--metrics",
            metavar="NAME,...",
            help="Own table: the metrics of a cell.  [default: psnr,ssim]",
        ),
        click.option(
            "--digits",
            type=_decimals,
            default="",
            metavar="N,...",
            help="Own table: the decimals of each metric.  [default: 2,4]",
        ),
        words_option(
            "--columns", metavar="params,macs", help="Own table: the size of each network, too."
        ),
        click.option(
            "--rename",
            "renamed",
            multiple=True,
            callback=_new_names,
            metavar="NAME=TEXT,...",
            help="Own table: call methods so, such as mine:a=Ours,mine:b=Ablation (repeatable; a "
            "comma ends a TEXT only if a further NAME= follows).",
        ),
        click.option(
            "--caption",
            default="",
            metavar="TEXT",
            help="Own table: the caption, before the meaning of marks.",
        ),
        click.option(
            "--label",
            default="",
            metavar="tab:NAME",
            help="Own table: the LaTeX label; NAME also names the files.  [default: tab:own-table]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "report table2 --format md,tex",
        "report results --models bicubic,edsr --printed edsr --format tex",
        "report crops --image set14/img_005 --box 60,40,60,45",
    )
)
@click.argument("name", default="all")
@words_option(
    "--format",
    "formats",
    metavar="md,tex,csv,html,png,svg,pdf",
    help="Formats to write, where a report has them; json, for claims alone, is printed.  "
    "[default: all]",
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
@weights_of_option
@paper_option(optional=True)
@results_option(several=True)
@click.option(
    "--out",
    type=PathOption,
    help="The reports' folder.  [default: reports in the first --results folder; ./reports for "
    "the package's records; another --paper than the default has a folder in it]",
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
@words_option(
    "--models",
    metavar="NAME,...",
    help="The models of crops, or the methods of your own table, by names or globs, in this "
    "order.  [default: all with runs]",
)
@own_table_options
@data_option
@plugin_option
def report(
    name: str,
    formats: list[str],
    grey: Any,
    no_marks: bool,
    weights_of: list[str],
    paper_name: str,
    results: tuple[Path, ...],
    out: Path | None,
    images: Path | None,
    image: str | None,
    box: str | None,
    models: list[str],
    data_root: Path | None,
    plugins: tuple[Path, ...],
    **choices: Any,
) -> None:
    """Rebuild a paper's tables and figures, and the page, from run records.

    NAME is a report: results (the paper's tables), ablation, plot, rules, differences, literature,
    claims, readings, complexity, crops, page, or one of a plug-in; or what the paper's file calls
    one of its tables, ablations or plots; or a glob, or all, which leaves out what the paper lacks.

    With --models, --datasets and the options after them, results is a table of your own, with a
    line for each method; --printed takes those of a method from the paper.
    """
    from harness.paper.findings import Findings
    from harness.registry import MODELS, PAPERS, REPORTS
    from harness.report.build import build, build_one, selected, takes_pictures
    from harness.report.crops import Pictures
    from harness.report.own_table import left_out, own_table

    fill_registries(plugins)
    name, paper_name = name.lower(), PAPERS.spelling(paper_name)
    paper = chosen_paper(paper_name)
    own_request = _own_request(name, models, choices)
    if not any(map(takes_pictures, selected(name, paper))):
        takers = [*filter(takes_pictures, REPORTS)]
        refuse_ignored(f"the reports {listed(takers)}", "images", "image", "box", "data_root")
        if not own_request:
            refuse_ignored(f"the reports {listed(['results', *takers])}", "models")
    if set(selected(name, paper)) <= {*FIXED_RULES}:
        refuse_ignored(f"reports other than {listed(FIXED_RULES)}", "grey")
    if name == "claims" and formats == ["json"] and not out:
        refuse_ignored("reports in other formats than json", "no_marks")
        print_claims(results, paper_name, "json", weights_of, taker="harness report claims")
        return
    if not out:
        of_package = {reference_records().resolve(), published_records().resolve()}
        of_reference = len(results) == 1 and results[0].resolve() in of_package
        out = Path() if of_reference else results[0]
        own = paper.source.id if paper else "runs"
        is_taken = own in PAPERS and own not in (paper_name, default_paper())
        if paper and (is_taken or own == "runs"):
            raise UsageError(f"The folder reports/{own} is not this paper's: name one with --out.")
        out = out / "reports" / ("" if paper_name == default_paper() else own)
    findings = Findings(open_results(*results).table(), paper, grey, weights_of)
    if paper and not own_request:
        note_own_runs(results)
    marks = {"with_marks": not no_marks}
    if own_request:
        table = own_table(findings, own_request)
        note_left_out(left_out(findings, own_request))
        written = build_one(table, formats, findings, out, **marks)
        echo_lines(written.shown, nl=False)
        echo(f"Written: {', '.join(map(str, written.paths))}", err=True)
        return
    region = _region(image, box)
    pictures = Pictures(
        images or results[0], data_root, region, [MODELS.spelling(word) for word in models]
    )
    note_left_out(findings.left_out())
    failed = False
    for result in build(name, formats, findings, out, pictures, **marks):
        if isinstance(result, HarnessError):
            failed = True
            echo(f"Error: {result}", err=True)
        elif result.paths:
            if name != "all":  # hundreds of lines
                echo_lines(result.shown, nl=bool(result.shown))
            echo(f"Written: {', '.join(map(str, result.paths))}", err=True)
    if paper and name == "results":
        note(
            f"These are the tables of {paper.source.id}. For a table of your own, add "
            "--models NAME,..."
        )
    if failed:
        sys.exit(1)


def _own_request(name: str, models: Sequence[str], choices: Mapping[str, Any]) -> OwnTable | None:
    """Collect the options of a table of the user's own; None if there are none.

    Raises:
        UsageError: another report is asked for, or an option cannot be read.
    """
    from harness.report.own_table import OwnTable

    if name != "results":
        refuse_ignored("harness report results", *choices)
        return None
    given = {key: value for key, value in choices.items() if value}
    if not (given or models):
        return None
    return OwnTable(models=models, **given)


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
