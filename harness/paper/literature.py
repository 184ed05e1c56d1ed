"""The same numbers as other public documents print them, beside a paper's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from msgspec import convert

from harness.paper.schema import PrintedCells, score
from harness.paper.select import Measurement, speaks_for_the_authors
from harness.paper.verdicts import Evidence, Finding, JudgedCell, decide
from harness.registry import register_judge

if TYPE_CHECKING:
    from harness.paper.schema import Claim


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
    note: str = ""


class Elsewhere(NamedTuple):
    """A number as a document prints it."""

    source: Document
    value: float
    decimals: int

    def __str__(self) -> str:
        return f"{self.value:.{self.decimals}f}"


@cache
def documents() -> tuple[Document, ...]:
    """Read the documents that are known: those of authors first."""
    text = files("harness.paper").joinpath("literature.toml").read_text(encoding="utf-8")
    return convert(tomllib.loads(text)["source"], tuple[Document, ...])


@cache
def _by_number() -> Mapping[tuple[str, int, str, str], list[Elsewhere]]:
    found: dict[tuple[str, int, str, str], list[Elsewhere]] = {}
    for source in documents():
        for scale, model, numbers in source.lines():
            for (dataset, metric), value in numbers.items():
                one = Elsewhere(source, value, source.scores[metric])
                found.setdefault((model, scale, dataset, metric), []).append(one)
    return found


def printed_elsewhere(model: str, scale: int, dataset: str, metric: str) -> list[Elsewhere]:
    """List what other documents print for a score; a model with self-ensemble ends in ``+``."""
    return _by_number().get((model, scale, dataset, metric), [])


def elsewhere(cell: JudgedCell) -> list[Elsewhere]:
    """List what other documents print for a paper's number, under the table's degradation."""
    table = cell.row.table
    if cell.printed is None or table.obstacle(cell.row.scale):
        return []
    found = printed_elsewhere(cell.row.word, cell.row.scale, cell.dataset, cell.metric)
    return [one for one in found if one.source.where not in table.read_from]


def as_printed(cell: JudgedCell, one: Elsewhere) -> bool:
    """Whether a document prints a paper's number, to the digits that both have."""
    assert cell.printed is not None
    rounding = score(cell.metric, min(cell.score.printed, one.decimals)).rounding
    return abs(cell.printed - one.value) <= rounding


def measured_as(cell: JudgedCell, value: float, decimals: int) -> Measurement | None:
    """Find a measurement that rounds to a printed value, the fewest departures first.

    Only those with the authors' weights, or of a method without weights, are compared.
    """
    rounding = score(cell.metric, decimals).rounding
    return next((one for one in measured(cell) if abs(one.value - value) <= rounding), None)


def measured(cell: JudgedCell) -> list[Measurement]:
    """List a cell's measurements that speak for the authors, the fewest departures first."""
    return [one for one in cell.options if speaks_for_the_authors(one.run)]


@register_judge
def all_from(evidence: Evidence, claim: Claim, method: str) -> Finding:
    """Judge the claim that a paper took all numbers of other methods from the authors of one.

    It is false in print if these authors print another number anywhere. Nothing else decides it:
    that a secondary source has the same digits does not say where either took them from.
    """
    assert evidence.paper is not None
    author = evidence.paper.network(method)[0]
    cells = [cell for cell in evidence.cells if cell.row.method != evidence.paper.subject]
    known = [(cell, found) for cell in cells if (found := elsewhere(cell))]
    differing = [cell for cell, found in known if not any(as_printed(cell, one) for one in found)]
    own = [
        as_printed(cell, one)
        for cell, found in known
        for one in found
        if author and one.source.authors_of == author
    ]
    text = (
        f"Of {len(cells)} numbers of other methods, other documents print "
        f"{len(known) - len(differing)} in the same digits, {len(differing)} in others only, "
        f"and {len(cells) - len(known)} not at all. Of what the authors "
        f"of {method} publish, {len(own)} numbers are known here, and {sum(own)} of them agree."
    )
    return Finding(decide(all(own), None, False), text)
