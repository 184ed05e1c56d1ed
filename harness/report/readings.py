"""The report on what a paper's text leaves open, and how the harness reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.models.cost import measure_complexity
from harness.registry import MODELS, register_report
from harness.report.table import Lines, Note, Table
from harness.text import Marked

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Ambiguity, Paper, Reading


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
    return [Table("readings", caption, headers, rows, tidy, notes)]


def _facts(paper: Paper, ambiguity: Ambiguity) -> list[dict[str, Any]]:
    """Collect the readings of an ambiguity, the one that is taken first."""
    about = {"key": ambiguity.key, "where": ambiguity.where, "question": ambiguity.question}
    return [
        about
        | {"taken": reading is ambiguity.taken, "reading": reading.text}
        | {"model": _model(paper, reading), "arguments": _arguments(reading)}
        | {"parameters": _parameters(paper, reading)}
        for reading in ambiguity.readings
    ]


def _model(paper: Paper, reading: Reading) -> str:
    """Name the network that follows a reading; empty if there is none."""
    own, _ = paper.network(paper.subject)
    return reading.model or (own if reading.arguments else "")


def _arguments(reading: Reading) -> str:
    return ", ".join(f"{name}={value}" for name, value in reading.arguments.items())


def _parameters(paper: Paper, reading: Reading) -> int | None:
    """Count the parameters of a reading's network; None if it is not known."""
    model, scale = _model(paper, reading), paper.largest_scale
    if model not in MODELS or scale not in MODELS.get(model).scales:
        return reading.parameters
    return measure_complexity(MODELS.get(model), scale, reading.arguments).parameters


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
    return Note(f"{one.key}: {one.question}", f"{one.quote} ({one.where})", [one.evidence])
