"""The verbs that look closer: explain, at the scores of a run, and bench, at its speed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    PathOption,
    data_option,
    device_option,
    examples,
    fill_registries,
    is_given,
    json_option,
    open_results,
    plugin_option,
    reference_option,
    refuse_ignored,
    results_option,
    scale_option,
    weights_key_option,
)
from harness.cli.progress import Row, echo, echo_lines, show
from harness.cli.run import datasets_option, models_option, print_plan
from harness.errors import UsageError, own_error
from harness.text import json_text, markdown_table

if TYPE_CHECKING:
    from harness.protocol.conventions import ClaimedNumbers, Number, Rescored
    from harness.run.bench import Bench, Roof


def _number(text: str) -> Number:
    from harness.protocol.conventions import Number

    try:
        return Number.read(text)
    except ValueError as error:
        raise UsageError(f"{error}: give a number, such as 30.56.") from error


MAX_ROWS = 30
"""The number of rows in the table of ``explain``; the closest conventions come first."""


@click.command(
    epilog=examples(
        "explain 3f2a --claimed 30.72 --claimed-ssim 0.8660",
        "explain sr.png hr.png --claimed 31.96",
    )
)
@click.argument("what", nargs=-1, required=True, metavar="RUN | SR HR")
@click.option(
    "--claimed", metavar="DB", type=_number, help="The claimed PSNR, with all its printed digits."
)
@click.option(
    "--claimed-ssim", metavar="S", type=_number, help="The claimed SSIM, with all its digits."
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Try every way of making the images, even if one gives the claimed numbers.",
)
@scale_option
@click.option(
    "--weights",
    type=PathOption,
    metavar="PATH",
    help="The run's weights file, or the folder of its published images.",
)
@weights_key_option
@device_option
@results_option("results/local", several=True)
@reference_option
@data_option
@plugin_option
@json_option
def explain(
    what: tuple[str, ...],
    claimed: Number | None,
    claimed_ssim: Number | None,
    every: bool,
    scale: int,
    weights: Path | None,
    weights_key: str,
    device: str,
    results: tuple[Path, ...],
    reference: Path,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Score a run's images, or an SR and an HR file, under other conventions.

    RUN is a run's id or the first digits of it, see harness list runs; --scale is for two files.
    With --claimed, the command names the convention that gives that number, rounded to the
    given digits: 30.9 is any PSNR from 30.85 to 30.95. If no convention gives it, the run's images
    are also made with the other border, rounding and grey rule, in all combinations, and scored
    again. If the network's authors published a log, its scores stand beside those of the run.
    """
    from harness.paper.literature import beside_log
    from harness.protocol.conventions import ClaimedNumbers, rank
    from harness.run.explain import explain_images, explain_run, rebuild
    from harness.run.store import ResultStore, find_run

    fill_registries(plugins)
    claim = ClaimedNumbers(claimed, claimed_ssim)
    log = ""
    if len(what) == 2:
        of_runs = ("every", "weights", "weights_key", "device", "results", "reference", "data_root")
        refuse_ignored("a run", *of_runs)
        if missing := [path for path in what if not os.path.exists(path)]:
            raise UsageError(f"There is no image {missing[0]}: correct the path.")
        scored = explain_images(Path(what[0]), Path(what[1]), scale, claim.conventions)
    elif len(what) == 1:
        refuse_ignored("two images", "scale")
        places = [open_results(*results), ResultStore(reference).read()]
        path, record = find_run(what[0], places)
        echo(f"The run record is {path}.", err=True)
        run = rebuild(record, weights, data_root, weights_key)
        scored = explain_run(record, run, claim, device, partial(echo, err=True), every=every)
        log = beside_log(record)
    else:
        raise UsageError("Name a run, or an SR image and its HR image.")
    ranked = rank(scored, claim)
    shown = ranked if as_json else ranked[:MAX_ROWS]
    echo_lines(show(rescored(shown, claim), as_json))
    if as_json:
        return
    if len(shown) < len(ranked):
        echo(f"{len(shown)} of {len(ranked)} conventions are shown; --json lists all.")
    if log:
        echo_lines("\n" + log)
    if claim != ClaimedNumbers():
        echo_lines("\n" + claim.explain(ranked))


def rescored(results: Sequence[Rescored], claim: ClaimedNumbers) -> list[Row]:
    """List the scores under each convention, and their differences from the claimed numbers."""
    return [
        {
            "compared": result.convention.channel,
            "border": result.convention.border(result.scale),
            "window": result.convention.window,
            "otherwise": list(result.convention.oddities),
            "made": list(result.made),
            "like": result.like,
            "own": result.own,
            "psnr": result.psnr,
            "ssim": result.ssim,
        }
        | ({} if claim.psnr is None else {"psnr_difference": result.psnr - claim.psnr.value})
        | ({} if claim.ssim is None else {"ssim_difference": result.ssim - claim.ssim.value})
        for result in results
    ]


@click.command(epilog=examples("bench --models srcnn --datasets demo --rounds 1"))
@models_option
@datasets_option(default=("set14",))
@click.option("--against", type=click.Choice(["naive"]), help="Also time a plain script.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@device_option
@scale_option
@data_option
@plugin_option
@json_option
def bench(
    against: str | None,
    rounds: int,
    device: str,
    plugins: tuple[Path, ...],
    as_json: bool,
    **request: Any,
) -> None:
    """Measure the speed of this machine, of the bare networks, and of whole runs."""
    from harness.models.resources import pick_device
    from harness.run.bench import measure, measure_roof
    from harness.run.plan import plan
    from harness.run.request import Request

    fill_registries(plugins)
    planned = plan(Request(**request, scale_given=is_given("scale")))
    images = next((run.card.name for run in planned.runs if run.published), None)
    if images:
        raise UsageError(f"bench measures networks, and {images} names a folder of images.")
    print_plan(planned)
    torch_device = pick_device(device)
    roof = measure_roof(torch_device)
    benches = []
    for run in planned.runs:
        try:
            benches.append(measure(run, torch_device, rounds, naive=against == "naive"))
        except Exception as error:  # from a plug-in; the other runs go on
            planned.problems.append(str(own_error(error, run.title)))
            echo(f"Error: {planned.problems[-1]}", err=True)
    if as_json:
        echo_lines(json_text({"roof": asdict(roof), "benches": [asdict(b) for b in benches]}))
    else:
        echo_lines(bench_markdown(roof, benches))
    if planned.problems or not benches:
        sys.exit(1)


def bench_markdown(roof: Roof, benches: Sequence[Bench]) -> str:
    """Format the machine's peak speed as a sentence, and a table with one line per run."""
    rows = [_bench_row(roof, bench) for bench in benches]
    table = markdown_table(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""
    return (
        f"The roof of this machine: {roof.flops / 1e9:.0f} GFLOP/s in fp32 matrix products, "
        f"{roof.bandwidth / 1e9:.1f} GB/s of memory.\n\n{table}"
    )


def _bench_row(roof: Roof, bench: Bench) -> dict[str, str]:
    row = {
        "model": bench.model,
        "set": bench.dataset,
        "images": str(bench.images),
        "forward (s)": f"{bench.forward:.2f} ({bench.layout})",
        "harness (s)": f"{bench.harness:.2f}",
        "harness / forward": f"{bench.over_forward:.3f}",
        "MP/s": f"{bench.megapixels / bench.harness:.2f}",
        "GFLOP/s": "" if bench.flops is None else f"{bench.flops / 1e9:.0f}",
        "of roof": "" if bench.flops is None else f"{bench.flops / roof.flops:.0%}",
        "peak (MB)": "" if bench.peak_bytes is None else f"{bench.peak_bytes / 1e6:.0f}",
    }
    if bench.naive is not None:
        row |= {
            "naive (s)": f"{bench.naive:.2f}",
            "naive / harness": f"{bench.naive_over:.2f}",
            "PSNR differs (dB)": f"{bench.difference:.0e}",
        }
    return row
