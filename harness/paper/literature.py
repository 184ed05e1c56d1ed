"""The same numbers as other public documents print them, beside a paper's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from msgspec import convert

from harness.paper.schema import PrintedCells, score
from harness.paper.select import Measurement, speaks_for_the_authors
from harness.paper.verdicts import Evidence, Finding, JudgedCell, decide
from harness.registry import register_judge

if TYPE_CHECKING:
    from harness.paper.schema import Claim, Score


class Document(PrintedCells, frozen=True, kw_only=True):
    """A public document with scores; its methods are registered models, or words for others.

    Attributes:
        name: what reports call it.
        where: the repository and the file.
        authors_of: the model whose authors wrote it; empty for a secondary source, which copies.
    """

    name: str
    where: str
    authors_of: str = ""


class Elsewhere(NamedTuple):
    """A paper's number as another document prints it.

    Attributes:
        text: the number with the document's decimals.
        same: it is the paper's number, to the digits that both have.
        reached: the measurement that rounds to it, see `measured_as`.
    """

    source: Document
    text: str
    same: bool
    reached: Measurement | None

    def __str__(self) -> str:
        return f"{self.text} ({self.source.name})"


@cache
def documents() -> tuple[Document, ...]:
    """Read the documents that are known: those of authors first."""
    text = files("harness.paper").joinpath("literature.toml").read_text(encoding="utf-8")
    return convert(tomllib.loads(text)["source"], tuple[Document, ...])


_DocumentRow = tuple[Document, Mapping[tuple[str, str], float]]
"""A document, and the numbers of one of its rows by set and metric."""


@cache
def _rows() -> Mapping[tuple[int, str], Sequence[_DocumentRow]]:
    """Group the rows of all documents by scale and model."""
    rows: dict[tuple[int, str], list[_DocumentRow]] = {}
    for source in documents():
        for scale, model, numbers in source.lines():
            rows.setdefault((scale, model), []).append((source, numbers))
    return rows


def elsewhere(cell: JudgedCell) -> list[Elsewhere]:
    """List what other documents print for a paper's number, under the table's degradation.

    A row with self-ensemble is a document's row whose model ends in ``+``.
    """
    row, table = cell.row, cell.row.table
    if cell.printed is None or table.obstacle(row.scale):
        return []
    found = []
    for source, numbers in _rows().get((row.scale, row.word), []):
        value = numbers.get((cell.dataset, cell.metric))
        if value is not None and source.where not in table.read_from:
            form = score(cell.metric, source.scores[cell.metric])
            same = abs(cell.printed - value) <= max(form.rounding, cell.score.rounding)
            reached = measured_as(cell, value, form)
            found.append(Elsewhere(source, form.as_printed(value), same, reached))
    return found


def measured_as(cell: JudgedCell, value: float, form: Score) -> Measurement | None:
    """Find a measurement that rounds to a printed value, the fewest departures first."""
    near = (one for one in official(cell) if one.finite and abs(one.value - value) <= form.rounding)
    return next(near, None)


def official(cell: JudgedCell) -> list[Measurement]:
    """List a cell's measurements with the authors' weights, or of a method without weights."""
    return [one for one in cell.options if speaks_for_the_authors(one.run)]


@register_judge
def all_from(evidence: Evidence, claim: Claim, method: str) -> Finding:
    """Judge the claim that a paper took all numbers of other methods from the authors of one.

    It is false in print if these authors print another number anywhere. Nothing else decides it:
    that a secondary source has the same digits does not say where either took them from.
    """
    assert evidence.paper
    author, _ = evidence.paper.network(method)
    cells = [cell for cell in evidence.cells if cell.row.method != evidence.paper.subject]
    known = [found for cell in cells if (found := elsewhere(cell))]
    same = sum(any(one.same for one in found) for found in known)
    own = [one.same for found in known for one in found if one.source.authors_of == author != ""]
    text = (
        f"Of {len(cells)} numbers of other methods, other documents print {same} in the same "
        f"digits, {len(known) - same} in others only, and {len(cells) - len(known)} not at all. Of "
        f"what the authors of {method} publish, {len(own)} numbers are known here, and {sum(own)} "
        "of them agree."
    )
    return Finding(decide(all(own), None, False), text)
