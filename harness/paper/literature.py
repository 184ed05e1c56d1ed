"""The same numbers as other public documents print them, beside a paper's own."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from msgspec import Meta, convert

from harness.cards import CardName
from harness.errors import UsageError
from harness.paper.evidence import Evidence
from harness.paper.schema import DEFAULT, SCORES, Paper, PrintedCells, read_paper, score
from harness.paper.select import Measurement, decides, is_comparable
from harness.paper.verdicts import Finding, JudgedCell, decide
from harness.paper.vocabulary import Data, Scale
from harness.registry import PAPERS, register_judge
from harness.text import plain_table

if TYPE_CHECKING:
    from harness.paper.schema import Claim, Compared, Score
    from harness.record import RunRecord


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


class LoggedImage(Data, frozen=True, kw_only=True):
    """A line of a log: the scores of one image.

    Attributes:
        model: a registered model, with a ``+`` for self-ensemble.
        image: the image's name in the set of the harness.
        called: its name in the log.
        psnr: in dB.
    """

    scale: Scale
    model: str
    dataset: CardName
    image: str
    called: str
    psnr: float
    ssim: float

    @property
    def scores(self) -> dict[str, float]:
        """The scores by metric."""
        return {"psnr": self.psnr, "ssim": self.ssim}


class Log(Data, frozen=True, kw_only=True):
    """A log with the scores of single images, published by the authors of a method.

    It is evidence between a measurement and print: it is shown, and gives no verdict.

    Attributes:
        name: what reports call it.
        where: the repository and the file.
        authors_of: the model whose authors published it.
        file: a CSV file in the folder ``logs``, a `LoggedImage` a line, in the order of the sets.
        note: a sentence on the network and the weights.
        date: year and month in which it was published; empty if not known.
    """

    name: str
    where: str
    authors_of: str
    file: Annotated[str, Meta(pattern=r"\A[\w-]+\.csv\Z")]
    note: str
    date: Annotated[str, Meta(pattern=r"\A(\d{4}-\d\d)?\Z")] = ""
    scores: ClassVar[Mapping[str, int]] = {"psnr": 6, "ssim": 6}

    @property
    def source(self) -> str:
        """Where and when it was published."""
        return ", ".join(filter(None, [self.where, self.date]))

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"

    def sets(self) -> dict[tuple[int, str, str], LoggedSet]:
        """Read the log: its images by scale, model and set."""
        text = files("harness.paper").joinpath("logs", self.file).read_text(encoding="utf-8")
        lines = convert(list(csv.DictReader(text.splitlines())), list[LoggedImage], strict=False)
        groups = groupby(lines, lambda line: (line.scale, line.model, line.dataset))
        return {place: LoggedSet(self, tuple(images)) for place, images in groups}

    def lines(self) -> list[tuple[int, str, dict[tuple[str, str], float]]]:
        """Return the means as `Document.lines` does."""
        return [
            (scale, model, {(dataset, metric): mean for metric, mean in one.means.items()})
            for (scale, model, dataset), one in self.sets().items()
        ]


class LoggedSet(NamedTuple):
    """The images of a log for one scale, model and set."""

    log: Log
    images: Sequence[LoggedImage]

    @property
    def means(self) -> dict[str, float]:
        """The mean of each score over the images, with the decimals of the log."""
        return {
            metric: round(fmean(image.scores[metric] for image in self.images), decimals)
            for metric, decimals in self.log.scores.items()
        }


class Elsewhere(NamedTuple):
    """A paper's number as another document prints it.

    Attributes:
        text: the number with the document's decimals.
        same: it is the paper's number, to the digits that both have.
        reached: the measurement that rounds to it, see `measured_as`.
    """

    source: Document | Log
    text: str
    same: bool
    reached: Measurement | None

    def __str__(self) -> str:
        return f"{self.text} ({self.source.name})"


@cache
def documents() -> tuple[Document | Log, ...]:
    """Read the documents and logs that are known: those of authors first."""
    text = files("harness.paper").joinpath("literature.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    found: list[Document | Log] = [
        *convert(data["source"], list[Document]),
        *convert(data["log"], list[Log]),
    ]
    return tuple(sorted(found, key=lambda source: not source.authors_of))


@cache
def _logged_sets() -> Mapping[tuple[int, str, str], LoggedSet]:
    """Join the sets of all logs; what several have is taken from the first."""
    logs = [source.sets() for source in documents() if isinstance(source, Log)]
    return {place: one for sets in reversed(logs) for place, one in sets.items()}


def logged(cell: JudgedCell) -> LoggedSet | None:
    """Return what its authors logged of a row's network on a cell's set, under its degradation.

    None if the table was read from that log.
    """
    row, table = cell.row, cell.row.table
    found = _logged_sets().get((row.scale, row.key, cell.dataset))
    is_source = found is not None and found.log.where in table.read_from
    return None if is_source or table.obstacle(row.scale) else found


def by_logs(compared: Compared, others: Iterable[str], evidence: Evidence) -> tuple[str, Compared]:
    """Compare a method with the logs that authors of others had published by the paper's year.

    Returns what is to be said, empty without such a log, and the comparison with the means of the
    logs in place of printed numbers.
    """
    assert evidence.paper is not None, "papers compare methods"
    text, method, numbers = "", compared.method, dict(compared.numbers)
    for other in others:
        cells = evidence.cells_of(compared, other).items()
        logs = {column: one for column, cell in cells if (one := logged(cell))}
        means = {column: one.means[column[2]] for column, one in logs.items()}
        by_log = compared._replace(numbers={method: compared.own, other: means})
        leads, printed = by_log.leads([other])[other], compared.leads([other])[other]
        log = logs[next(iter(leads))].log if leads else None
        if log is None or not "" < log.date <= f"{evidence.paper.source.year}-12":
            continue
        text += (
            f" {method} leads {other} in {sum(printed[column] > 0 for column in leads)} of the "
            f"{len(leads)} printed numbers that are also in {log}, and in "
            f"{sum(lead > 0 for lead in leads.values())} of them by the log: {method} minus the "
            f"log is {compared.by_column(leads)}. {log.note}"
        )
        numbers[other] = {**numbers[other], **means}
    return text, compared._replace(numbers=numbers)


def beside_log(record: RunRecord) -> str:
    """Write the scores of a run's images beside those that the authors logged, as a table.

    Empty if there is no log of its model and set, or none of its images is in it.
    """
    identity = record.identity
    model = identity.model + "+" * identity.self_ensemble
    found = _logged_sets().get((identity.scale, model, identity.dataset))
    if found is None or identity.hyper or not is_comparable(record):
        return ""
    lines = {line.image: line for line in found.images}
    pairs = [(one, lines[one.image]) for one in record.images if one.image in lines]
    if not pairs:
        return ""
    rows = [
        [line.image, line.called, one.scores["psnr"], line.psnr, one.scores["ssim"], line.ssim]
        for one, line in pairs
    ]
    one, line = max(pairs, key=lambda pair: abs(pair[0].scores["psnr"] - pair[1].psnr))
    apart = one.scores["psnr"] - line.psnr
    table = plain_table(["Image", "Called", "PSNR", "Log", "SSIM", "Log"], rows)
    largest = f"Largest difference: {apart:+z.4f} dB on {line.image} ({line.called})."
    return f"Beside {found.log}:\n{table}\n{largest}"


_DocumentRow = tuple[Document | Log, Mapping[tuple[str, str], float]]
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
    return [one for one in cell.options if decides(one.run, cell.row.table)]


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
        f"Of the paper's {len(cells)} numbers of other methods, other documents print {same} with "
        f"the same digits, {len(known) - same} only with other digits, and "
        f"{len(cells) - len(known)} not at all. The harness knows {len(own)} numbers that the "
        f"authors of {method} published; {sum(own)} of them agree."
    )
    return Finding(decide(all(own), None, False), text)


def printed_numbers(records: Iterable[RunRecord]) -> dict[str, tuple[str, str]]:
    """Find what papers print for runs: PSNR and SSIM as printed, and the paper, by the run's id.

    The default paper comes first, then the others; one whose file has a mistake is left out.
    """
    papers: dict[str, Paper] = {}
    for name in sorted(PAPERS, key=lambda name: name != DEFAULT):
        with suppress(UsageError):
            papers[name] = read_paper(PAPERS.get(name))
    found: dict[str, tuple[str, str]] = {}
    for record in records:
        identity = record.identity
        if not is_comparable(record) or identity.hyper:
            continue
        place = (identity.model, identity.self_ensemble, identity.scale, identity.dataset)
        for name, paper in papers.items():
            if numbers := paper.printed(*place):
                text = "/".join(numbers.get(metric, "-") for metric in SCORES)
                found.setdefault(identity.id, (text, name))
    return found
