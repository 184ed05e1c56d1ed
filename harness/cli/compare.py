"""The verb that compares two networks, or two checkpoints of one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    examples,
    fill_registries,
    json_option,
    open_results,
    plugin_option,
    reference_option,
    refuse_ignored,
    results_option,
    words_option,
)
from harness.cli.progress import echo, echo_lines, note
from harness.errors import MismatchError, UsageError
from harness.text import json_text, listed

if TYPE_CHECKING:
    from harness.paper.evidence import Evidence
    from harness.report.table import Table
    from harness.run.statistics import Comparison, OverWeights, RunsBySet
    from harness.run.store import Records

    Side = Mapping[int, Mapping[str, RunsBySet]]


@click.command(epilog=examples("compare drfn edsr-baseline --datasets set5"))
@click.argument("a")
@click.argument("b")
@words_option("--datasets", default=("all",), show_default=True, help="Names or globs.")
@click.option(
    "--format", "form", type=click.Choice(["md", "tex", "csv"]), default="md", show_default=True
)
@results_option("results/local", several=True)
@reference_option
@plugin_option
@json_option
def compare(
    a: str,
    b: str,
    datasets: list[str],
    form: Any,
    results: tuple[Path, ...],
    reference: Path,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare two networks or checkpoints image by image, with a 95 % interval.

    A and B are models (mine, edsr, bicubic), checkpoints (mine:a), several ('mine:seed*', for mean
    and standard deviation over trainings), or ids of runs. Their runs are searched in --results,
    and in the reference records as well.
    """
    from harness.paper.evidence import Evidence

    if as_json:
        refuse_ignored("a table without --json", "form")
    fill_registries(plugins)
    records = open_results(*(one for one in results if one.is_dir()), reference)
    evidence = Evidence(records.table(), None)
    sides = [_named(word, evidence, records) for word in (a, b)]
    _require_two(a, b, sides)
    table = comparison_table((a, b), sides, datasets)
    rows = table.tidy.astype(object).where(table.tidy.notna(), None).to_dict("records")
    echo_lines(json_text(rows) if as_json else table.render(form), nl=as_json)


def _named(word: str, evidence: Evidence, records: Records) -> Side:
    """Find the runs that a name or the beginning of an id stands for.

    Raises:
        UsageError: there are none, or they are of several networks.
    """
    from harness.run.store import find_run

    if found := evidence.runs_named(word):
        models = dict.fromkeys(one.partition(":")[0] for side in found.values() for one in side)
        if len(models) > 1:
            raise UsageError(
                f"{word!r} stands for several networks, {listed([*models])}: name one, such as "
                f"'{next(iter(models))}:*' for all its checkpoints."
            )
        if ":" not in word:
            _note_choice(word, found, evidence)
        return found
    if re.fullmatch("[0-9a-f]{4,64}", word):
        _, run = find_run(word, [records])
        identity = run.identity
        return {identity.scale: {f"{identity.model} ({word[:12]})": {identity.dataset: [run]}}}
    known = dict.fromkeys(name for by_name in evidence.runs_named("*").values() for name in by_name)
    there_are = listed(_near(word, [*known])) or "nothing"
    of_file = (
        " A file is compared after harness run, by the name that it gives the checkpoint, such as "
        "mine:a for mine=a.pth."
    )
    raise UsageError(
        f"No run has the name {word!r}: there are runs of {there_are}." + of_file * _is_file(word)
    )


def _note_choice(word: str, found: Side, evidence: Evidence) -> None:
    """Say which checkpoint the name of a model stands for, if there are others."""
    model, ensemble = word.rstrip("+"), "+" * word.endswith("+")
    every = evidence.runs_named(f"{model}:*{ensemble}")
    chosen = dict.fromkeys(name for by_name in found.values() for name in by_name)
    others = dict.fromkeys(name for by_name in every.values() for name in by_name)
    if left := [name for name in others if name not in chosen]:
        note(f"Note: {word} stands for {listed([*chosen])}; its other checkpoints: {listed(left)}.")


def _near(word: str, names: Sequence[str]) -> list[str]:
    """Return the names of the networks that a word may mean; all if none is near."""
    from harness.registry import near_names

    model = re.split("[:=]", word.rstrip("+"))[0].lower()
    models = dict.fromkeys(name.partition(":")[0] for name in names)
    near = [name for name in models if model and name.lower().startswith(model)]
    near = near or near_names(model, models)[:1]
    return [name for name in names if name.partition(":")[0] in near] or [*names]


def _is_file(word: str) -> bool:
    """Whether a word names a file of weights, as harness run takes it."""
    from harness.models.formats import CHECKPOINTS

    return "=" in word or Path(word).suffix in {*CHECKPOINTS, ".safetensors"}


def _require_two(a: str, b: str, sides: Sequence[Side]) -> None:
    """Refuse to compare runs with themselves.

    Raises:
        UsageError: both names stand for the same runs.
    """
    first, second = (
        {
            run.identity.id
            for by_name in side.values()
            for one in by_name.values()
            for runs in one.values()
            for run in runs
        }
        for side in sides
    )
    if first == second:
        raise UsageError(f"{a} and {b} are the same runs: name two networks or checkpoints.")


def comparison_table(
    words: tuple[str, str], sides: Sequence[Side], datasets: Sequence[str]
) -> Table:
    """Compare two sides in a table, a row for each set, protocol and metric.

    Raises:
        UsageError: the two have no set in common, or none of the wanted sets.
    """
    import pandas as pd

    from harness.registry import DATASETS, is_glob
    from harness.report.table import Table
    from harness.run.compare import matching
    from harness.run.statistics import compare_weights

    first, second = sides
    found: list[Comparison] = []
    for scale in sorted(first.keys() & second.keys()):
        for one in compare_weights([*first[scale].values()], [*second[scale].values()]):
            if isinstance(one, MismatchError):
                echo(f"Left out: {one}", err=True)
            else:
                found.append(one)
    if not found:
        ran = [listed(_sets(side)) or "no set" for side in sides]
        raise UsageError(
            f"{words[0]} ran on {ran[0]}, and {words[1]} on {ran[1]}: run both on one set."
        )
    order = [*DATASETS]
    found.sort(key=lambda one: order.index(one.dataset) if one.dataset in order else len(order))
    wanted = matching("The comparison has no numbers on", [one.dataset for one in found], datasets)
    found = [one for one in found if one.dataset in wanted]
    names = [_name(word, side) for word, side in zip(words, sides, strict=True)]
    headers = [
        "Set",
        "Scale",
        "Rules",
        "Images",
        "Metric",
        *names,
        "Difference",
        "95 % interval",
        "Verdict",
    ]
    tidy = pd.DataFrame([_facts(names, one) for one in found])
    several = [is_glob(word) for word in words]
    rows = [_row(names, several, one) for one in found]
    return Table("compare", _caption(names, found), headers, rows, tidy)


def _sets(side: Side) -> list[str]:
    return sorted(
        {f"{dataset} x{scale}" for scale in side for one in side[scale].values() for dataset in one}
    )


def _name(word: str, side: Side) -> str:
    """Name a side by its only checkpoint, else by the word for several."""
    names = list(dict.fromkeys(name for by_name in side.values() for name in by_name))
    return names[0] if len(names) == 1 else word


def _row(names: Sequence[str], several: Sequence[bool], one: Comparison) -> list[Any]:
    from harness.paper.schema import title

    digits = _digits(one.metric)
    interval = one.interval
    return [
        title(one.dataset),
        f"x{one.scale}",
        " / ".join(dict.fromkeys(one.rules)),
        one.images,
        one.metric.upper(),
        *(_mean(side, digits, of) for side, of in zip((one.a, one.b), several, strict=True)),
        f"{one.difference:+.{digits}f}",
        f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]" if interval else "",
        verdict(names, one),
    ]


def _digits(metric: str) -> int:
    from harness.paper.schema import SCORES

    return SCORES[metric].measured if metric in SCORES else 6


def _mean(side: OverWeights, digits: int, several: bool) -> str:
    """Write a mean; for a group of checkpoints, with standard deviation and their number."""
    spread = "" if side.sd is None else f" ± {side.sd:.{digits}f}"
    count = f" ({side.number} checkpoint{'s' * (side.number > 1)})" * several
    return f"{side.mean:.{digits}f}{spread}{count}"


def verdict(names: Sequence[str], one: Comparison) -> str:
    """Say in words which of the two is better, or of unknown metrics higher; or if none is."""
    from harness.paper.schema import SCORES

    if one.equal:
        return "equal"
    if not one.sign:
        return "no difference shown"
    word = "better" if one.metric in SCORES else "higher"
    return f"{names[0] if one.sign > 0 else names[1]} is {word}"


def _facts(names: Sequence[str], one: Comparison) -> dict[str, Any]:
    interval = one.interval
    return {
        "a": names[0],
        "b": names[1],
        "dataset": one.dataset,
        "scale": one.scale,
        "protocol_a": one.rules[0],
        "protocol_b": one.rules[1],
        "images": one.images,
        "metric": one.metric,
        **{f"{key}_a": value for key, value in one.a._asdict().items()},
        **{f"{key}_b": value for key, value in one.b._asdict().items()},
        "difference": one.difference,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "verdict": verdict(names, one),
    }


FEW = 10
"""Below this number of images, a bootstrap interval is much too narrow."""


def _caption(names: Sequence[str], found: Sequence[Comparison]) -> str:
    from harness.paper.schema import title

    text = (
        f"{names[0]} minus {names[1]}, with the 95 % interval of a paired bootstrap over the "
        "images (10,000 resamples, seed 0). An interval that contains 0 leaves open which one is "
        "better."
    )
    few = {title(one.dataset): one.images for one in found if one.images < FEW}
    if few:
        sets = listed([f"{name} ({images} images)" for name, images in few.items()])
        text += f" So few images say little, and their interval is too narrow: {sets}."
    if any(len(set(one.rules)) > 1 for one in found):
        text += (
            " Where two protocols are named, the two did not run under the same one: that alone "
            "changes a mean by some hundredths of a dB. Grey images that they score by different "
            "rules are left out."
        )
    if any(side.sd is not None for one in found for side in (one.a, one.b)):
        text += (
            " ±: standard deviation over the checkpoints (n - 1). The interval is of their mean; a "
            "difference must also exceed twice its standard error over the checkpoints."
        )
    return text
