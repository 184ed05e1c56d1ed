"""The ablations of a paper, printed and measured, and the readings of its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.cards import PRESETS
from harness.errors import HarnessError, UsageError, sentence
from harness.models.cost import measure_complexity
from harness.paper.ablations import MeasuredAblation
from harness.paper.schema import score, title
from harness.registry import MODELS, register_report
from harness.report.legend import FAILED, MISSING, grey_rules
from harness.report.table import Lines, Note, Table
from harness.text import Marked

if TYPE_CHECKING:
    from harness.paper.ablations import JudgedAblation
    from harness.paper.findings import Findings
    from harness.paper.schema import Ambiguity, Paper, Reading


@register_report("ablation")
def ablation(findings: Findings) -> list[Table]:
    """Report each ablation: printed values, their verdicts, and measured ones, by budget.

    The grey rule is ignored: runs under the ablation's own rules are shown.
    """
    return [_table(judged, findings.paper) for judged in findings.ablations if findings.paper]


def _table(judged: JudgedAblation, paper: Paper) -> Table:
    form, printed = score("psnr", judged.ablation.decimals), judged.ablation.printed
    rows = [
        ["printed", *map(form.as_printed, printed.values())],
        ["verdict", *(judged.verdicts[variant] for variant in printed)],
    ]
    facts = []
    for one in judged.measured or (MeasuredAblation({}),):
        cells = [_cell(judged, one, variant) for variant in printed]
        rows.append([f"measured ({one.budget})" if one.runs else "measured", *cells])
        facts += [
            {
                "variant": variant,
                "printed": printed[variant],
                "verdict": judged.verdicts[variant],
                "measured": one.means(variant).mean(),
                "sd": one.means(variant).std(),
                "budget": str(one.budget) if variant in one.runs else None,
                "decides": not judged.below_floor(one) if variant in one.runs else None,
                "runs": " ".join(run.identity.id for run in one.runs.get(variant, ())) or cell,
            }
            for variant, cell in zip(printed, cells, strict=True)
        ]
    headers = ["", *map(judged.ablation.called, printed)]
    tidy = pd.DataFrame(facts).round(6)
    ablation = judged.ablation
    return Table(ablation.id, _caption(judged, paper), headers, rows, tidy, title=ablation.title)


def _cell(judged: JudgedAblation, measured: MeasuredAblation, variant: str) -> str:
    """Write ``27.412 (sd 0.021, 3 trainings)``, say, or ``undecided (27.412)``."""
    means = measured.means(variant)
    if means.empty:
        return FAILED if variant in judged.failed else MISSING
    number = f"{means.mean():.3f}"
    several = f"sd {means.std():.3f}, {len(means)} trainings" if len(means) > 1 else ""
    if judged.below_floor(measured):
        return f"undecided ({', '.join(filter(None, [number, several]))})"
    return f"{number} ({several})" if several else number


def _caption(judged: JudgedAblation, paper: Paper) -> str:
    ablation, form = judged.ablation, score("psnr", judged.ablation.decimals)
    network = paper.names.get(ablation.model, ablation.model)
    text = (
        f'{ablation.title} of "{paper.source.title}": PSNR in dB on {title(ablation.set)} at '
        f"x{ablation.scale} of {network}. {ablation.note}".rstrip()
    )
    if ablation.readings:
        text += f" We read the columns as {', '.join(map(ablation.called, ablation.columns))}."
    whole = form.as_printed(ablation.printed[ablation.whole])
    for row in judged.contradicting:
        elsewhere = form.as_printed(row.printed[ablation.set, "psnr"])
        text += f" {row.table.title} prints {elsewhere} dB for the same network, not {whole} dB."
    text += " Weights trained here may reach a printed number and cannot refute one."
    if any(map(judged.below_floor, judged.measured)):
        text += " Undecided: with so little training a variant falls short of the "
        text += f"{form.as_printed(judged.floor)} dB printed for a method without weights, so this "
        text += "budget decides nothing."
    return f"{text} Grey images: {grey_rules(None, PRESETS[ablation.rules])}."


@register_report("readings")
def readings(findings: Findings) -> list[Table]:
    """Report what the text leaves open: each reading, the one that is taken, and the evidence.

    Parameters are counted on the networks that can be built, at the paper's largest scale.
    """
    paper = findings.paper
    if paper is None or not paper.ambiguities:
        return []
    caption = (
        f'What the text of "{paper.source.title}" leaves open, and how the harness reads it. '
        f"Parameters: of the network by each reading at x{paper.largest_scale}, where it bears on "
        "them."
    )
    facts = [_facts(paper, ambiguity) for ambiguity in paper.ambiguities]
    rows = [
        [one.key, one.where, _question(one), Lines(map(_line, found))]
        for one, found in zip(paper.ambiguities, facts, strict=True)
    ]
    headers = ["Open", "Where", "Question", "Readings"]
    notes = [_note(one) for one in paper.ambiguities]
    tidy = pd.DataFrame([fact for found in facts for fact in found])
    tidy = tidy.astype({"parameters": "Int64"})
    heading = "What the text leaves open"
    return [Table("readings", caption, headers, rows, tidy, notes, title=heading)]


def _facts(paper: Paper, ambiguity: Ambiguity) -> list[dict[str, Any]]:
    """Collect the readings of an ambiguity, the one that is taken first."""
    about = {"key": ambiguity.key, "where": ambiguity.where, "question": ambiguity.question}
    return [
        about
        | {"taken": reading is ambiguity.taken, "reading": reading.text}
        | {"model": _model(paper, reading), "arguments": _arguments(reading)}
        | {"parameters": _parameters(paper, ambiguity, reading)}
        for reading in ambiguity.readings
    ]


def _model(paper: Paper, reading: Reading) -> str:
    """Name the network that follows a reading; empty if there is none."""
    own, _ = paper.network(paper.subject)
    return reading.model or (own if reading.arguments else "")


def _arguments(reading: Reading) -> str:
    return ", ".join(f"{name}={value}" for name, value in reading.arguments.items())


def _parameters(paper: Paper, ambiguity: Ambiguity, reading: Reading) -> int | None:
    """Count the parameters of a reading's network; None if it is not known.

    Raises:
        UsageError: the network cannot be built with the reading's arguments.
    """
    model, scale = _model(paper, reading), paper.largest_scale
    if model not in MODELS or scale not in MODELS.get(model).scales:
        return reading.parameters
    try:
        return measure_complexity(MODELS.get(model), scale, reading.arguments).parameters
    except HarnessError as error:
        if not reading.arguments:
            raise
        raise UsageError(
            f"[[ambiguity]] {ambiguity.key} of the paper {paper.source.id} has a reading with "
            f"{_arguments(reading)}, with which {model} cannot be built "
            f"({sentence(error.__cause__ or error)}): correct its arguments."
        ) from error


def _question(one: Ambiguity) -> Marked:
    """Write a question; HTML unfolds the quotation and the evidence."""
    return Marked([(one.question, "")], more=f'"{one.quote}" {one.evidence}')


def _line(fact: Mapping[str, Any]) -> str:
    """Write a reading with its network: ``Taken: One (drfn, 5,207,203 parameters).``, say."""
    count = fact["parameters"]
    counted = "" if count is None else f"{count:,} parameters"
    network = ", ".join(filter(None, [fact["model"], fact["arguments"], counted]))
    choice, text = "Taken" if fact["taken"] else "Or", fact["reading"].removesuffix(".")
    return f"{choice}: {text} ({network})." if network else f"{choice}: {text}."


def _note(one: Ambiguity) -> Note:
    return Note(one.key, f"{one.quote} ({one.where})", [one.question, one.evidence])
