"""A paper as data: its tables, ablations, plots, doubts and claims, read from TOML."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from msgspec import Meta, Struct, ValidationError, convert, field
from msgspec.structs import fields

from harness.cards import CardName
from harness.errors import UsageError
from harness.files import PAPER, regular
from harness.paper.vocabulary import (
    TESTS,
    Amount,
    ClaimTest,
    Compare,
    Data,
    Equals,
    Gain,
    Outlier,
    Rank,
    Scale,
    Spread,
)
from harness.protocol.rules import PRESETS, Preset
from harness.registry import DATASETS, MODELS, PAPERS

S = TypeVar("S", bound=Struct)

Tag = Annotated[str, Meta(pattern=r"\A[\w-]+\Z")]
"""A part of the tag of weights: letters, digits, ``_`` and ``-``."""

DEFAULT = "drfn2020"
"""The paper of the command line's reports if none is named."""


class Score(NamedTuple):
    """How a score is written.

    Attributes:
        title: its name with the unit.
        printed: decimals in the paper.
        measured: decimals of a measured number next to a printed one.
        exact: decimals that show the difference between two runs.
    """

    name: str
    title: str
    printed: int
    measured: int
    exact: int

    @property
    def rounding(self) -> float:
        """Half a unit of the last decimal in print, with what a float adds to it."""
        return 0.5 * 10**-self.printed + 1e-9

    def as_printed(self, value: float) -> str:
        """Format a value with the paper's decimals."""
        return f"{value:.{self.printed}f}"

    def as_measured(self, value: float) -> str:
        """Format a value with the decimals of a measured number."""
        return f"{value:.{self.measured}f}"


SCORES: Mapping[str, Score] = {
    "psnr": Score("psnr", "PSNR in dB", 2, 3, 4),
    "ssim": Score("ssim", "SSIM", 4, 4, 6),
}
"""The scores of every run, with the decimals of most papers."""


def score(metric: str, decimals: int) -> Score:
    """Return how a metric is written that a paper prints with some decimals."""
    usual = SCORES.get(metric, Score(metric, metric.upper(), decimals, decimals + 1, 6))
    return usual._replace(printed=decimals, measured=max(usual.measured, decimals))


class Source(Data, frozen=True, kw_only=True):
    """The paper itself.

    Attributes:
        id: its name on the command line.
        subject: the method that it proposes, as it writes the name.
    """

    id: CardName
    title: str
    subject: str
    authors: str = ""
    year: int = 0
    venue: str = ""
    doi: str = ""


class PrintedCells(Data, frozen=True, kw_only=True):
    """A block of printed numbers.

    Attributes:
        columns: the sets.
        cells: a line a row as it stands in print: the scale, the method, and for each set the
            scores with slashes between them, or ``-``; bars separate the cells.
        scores: the decimals of each score, in their order within a cell.
    """

    columns: Annotated[tuple[CardName, ...], Meta(min_length=1)]
    cells: str
    scores: Annotated[dict[str, Annotated[int, Meta(ge=0, le=9)]], Meta(min_length=1)] = field(
        default_factory=lambda: {"psnr": 2, "ssim": 4}
    )

    def lines(self) -> list[tuple[int, str, dict[tuple[str, str], float]]]:
        """Parse the block: scale, method, and numbers by set and metric of each row.

        Raises:
            ValueError: a row is not complete or a number cannot be read.
        """
        return [self._line(row.strip()) for row in self.cells.splitlines() if row.strip()]

    def _line(self, row: str) -> tuple[int, str, dict[tuple[str, str], float]]:
        scale, *cells = (cell.strip() for cell in row.split("|"))
        if not re.fullmatch(r"x[1-9]\d?", scale):
            raise ValueError(f"the row {row!r} does not begin with a scale, such as x4")
        if len(cells) != 1 + len(self.columns):
            count = f"{len(cells) - 1} cells for {len(self.columns)} columns"
            raise ValueError(f"the row {row!r} has {count}")
        numbers: dict[tuple[str, str], float] = {}
        for dataset, cell in zip(self.columns, cells[1:], strict=True):
            if set(cell) <= set("-/ "):
                continue
            values = [value.strip() for value in cell.split("/")]
            if len(values) != len(self.scores):
                form = "/".join(self.scores)
                raise ValueError(f"{cell!r} in the row {row!r} is not of the form {form}")
            for metric, value in zip(self.scores, values, strict=True):
                if not re.fullmatch(r"\d{1,9}(\.\d+)?|-", value):
                    raise ValueError(f"{value!r} in the row {row!r} is not a number")
                if value != "-":
                    numbers[dataset, metric] = float(value)
        return int(scale[1:]), cells[0], numbers


class Table(PrintedCells, frozen=True, kw_only=True):
    """A printed table of results.

    Attributes:
        id: the name of its report.
        title: as the paper calls it, such as ``Table 2``.
        degradation: how the LR images were made; the harness makes ``BI``, bicubic.
        border: pixels left out of the scores on each side; None for as many as the scale.
        rules: the preset of rules that its numbers follow; see `harness.protocol.rules.PRESETS`.
        exceptions: the preset of a method, or of one of its cells, such as ``SRMDNF | set14``.
        read_from: the public documents that the numbers were read from, if not from the paper.
    """

    id: CardName
    title: str
    degradation: str = "BI"
    border: Annotated[int, Meta(ge=0)] | None = None
    rules: str = "usual"
    exceptions: dict[str, str] = {}
    read_from: tuple[str, ...] = ()

    def preset(self, method: str, dataset: str) -> Preset:
        """Return the rules of a cell."""
        of_method = self.exceptions.get(method, self.rules)
        return PRESETS[self.exceptions.get(f"{method} | {dataset}", of_method)]

    def obstacle(self, scale: int) -> str:
        """Say why the harness cannot measure the cells of a scale; empty if it can."""
        if self.degradation != "BI":
            return f"the harness makes LR images by bicubic (BI), not by {self.degradation}"
        if self.border not in (None, scale):
            return f"the harness leaves out a border of {scale} pixels, not of {self.border}"
        return ""


class Ablation(Data, frozen=True, kw_only=True):
    """A printed ablation: one network without some of its parts.

    Attributes:
        model: the registered network.
        whole: the variant that is the network itself.
        variants: the network's arguments for each variant.
        psnr: in dB, in the order of the printed columns.
        readings: which variant each column is; the first is the one the harness takes. By default
            the order of ``variants``.
        titles: the names of variants in print.
        decimals: of the numbers in print.
        rules: the preset of rules that its numbers follow.
    """

    id: Tag
    title: str
    model: str
    set: str
    scale: Scale
    whole: str
    variants: dict[Tag, dict[str, Any]]
    psnr: tuple[Amount, ...]
    readings: tuple[tuple[str, ...], ...] = ()
    titles: dict[str, str] = {}
    decimals: Annotated[int, Meta(ge=0, le=9)] = 2
    rules: str = "usual"
    note: str = ""

    def __post_init__(self) -> None:
        _require("preset of rules", [self.rules], PRESETS)
        _require("variant", [self.whole, *self.titles], self.variants)
        for reading in self.readings or (self.columns,):
            if sorted(reading) != sorted(self.variants) or len(reading) != len(self.psnr):
                raise ValueError(
                    "variants, readings and psnr do not have the same length and names"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The variant of each printed column."""
        return self.readings[0] if self.readings else tuple(self.variants)

    @property
    def printed(self) -> dict[str, float]:
        """The printed PSNR (dB) of each variant."""
        return dict(zip(self.columns, self.psnr, strict=True))

    def called(self, variant: str) -> str:
        """Return the name of a variant in print."""
        return self.titles.get(variant, variant)

    def arguments(self, variant: str) -> dict[str, Any]:
        """Return the network's arguments for a variant, empty for the whole network.

        Raises:
            UsageError: there is no such variant.
        """
        if variant not in self.variants:
            known = ", ".join(self.variants)
            raise UsageError(f"No variant is called {variant!r}: there are {known}.")
        return {} if variant == self.whole else dict(self.variants[variant])


class Plot(Data, frozen=True, kw_only=True):
    """A printed plot of parameters against PSNR; the PSNRs are those of the paper's tables.

    Attributes:
        set, scale: what the PSNR is of.
        parameters: the counts that the paper prints, by method.
        readings: methods without published code or count: their networks are readings of a paper.
    """

    id: CardName
    title: str
    set: str
    scale: Scale
    parameters: dict[str, Annotated[float, Meta(gt=0, le=1e18)]] = {}
    readings: tuple[str, ...] = ()
    caption: str = ""


DoubtKind = Literal["print", "measurement", "unusual"]


class Doubt(Data, frozen=True, kw_only=True):
    """A printed number that looks wrong.

    Attributes:
        cell: such as ``x4 | VDSR | b100 | ssim``; see `Paper.place`.
        seen: it contradicts other printed numbers (``print``); the authors' weights give another
            number under the table's rules, and the printed one under others (``measurement``); or
            it is odd and contradicts nothing (``unusual``).
        reason: a sentence.
    """

    cell: str
    seen: DoubtKind
    reason: str


class Claim(Data, frozen=True, kw_only=True):
    """A claim of the paper.

    Attributes:
        quote: the paper's words; ``x4`` stands for its times sign.
        test: one of `TESTS`, as a table.
        by_hand: instead of a test: a reader's judgement of a claim that no number decides.
        note: a reader's remark, which follows the evidence.
    """

    key: CardName
    where: str
    quote: str
    test: dict[str, Any] = {}
    by_hand: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if bool(self.test) == bool(self.by_hand):
            raise ValueError("it needs either a test or a judgement by_hand")

    def parsed(self) -> ClaimTest | None:
        """Return the test; None for a claim that is judged by hand.

        Raises:
            ValueError: it has a mistake.
        """
        if not self.test:
            return None
        kind = next((name for name in TESTS if name in self.test), "")
        _require("test", [kind or next(iter(self.test))], TESTS)
        return _converted(self.test, TESTS[kind])


Finite = Annotated[float, Meta(ge=-1e18, le=1e18)]


class Number(Data, frozen=True, kw_only=True):
    """A number of the running text; ``value`` is what the quotation literally says."""

    value: Finite | tuple[Finite, ...]
    where: str
    quote: str


class Ambiguity(Data, frozen=True, kw_only=True):
    """What the text leaves open: its readings, the one the harness takes, and why."""

    key: str
    where: str
    quote: str
    question: str
    readings: tuple[str, ...]
    default: str
    evidence: str

    def __post_init__(self) -> None:
        _require("reading", [self.default], self.readings)


@dataclass(frozen=True)
class Row:
    """A row of a printed table.

    Attributes:
        model: the registered network; empty if there is none.
        self_ensemble: the row is of the network with self-ensemble.
        printed: the numbers by set and metric.
    """

    table: Table
    scale: int
    method: str
    model: str
    self_ensemble: bool
    printed: Mapping[tuple[str, str], float]

    @property
    def key(self) -> str:
        """A word that names the method: that of its model, or ``~`` and `word`."""
        # No model's name begins with ~: runs of a model of this name are not of the method.
        return self.word if self.model else f"~{self.word}"

    @property
    def word(self) -> str:
        """The model, or a word made from the printed name."""
        word = self.model or re.sub(r"[^\w.+-]+", "-", self.method).strip("-").lower()
        return f"{word}+" if self.self_ensemble and not word.endswith("+") else word

    @property
    def sets(self) -> list[str]:
        """The sets with a printed number, in the order of the columns."""
        return list(dict.fromkeys(dataset for dataset, _ in self.printed))


class Place(NamedTuple):
    """A cell of a printed table, with those of its scores that are meant."""

    row: Row
    dataset: str
    metrics: tuple[str, ...]


class Printed(NamedTuple):
    """A printed number, or several: with the place in words, and its largest rounding error."""

    value: float | tuple[float, ...]
    said: str
    rounding: float = 0.0


_CELL = "write table | x4 | method | set | metric"

Column = tuple[int, str, str]
"""Scale, set and metric."""


class Compared(NamedTuple):
    """The numbers of a table that a test compares, by method and column.

    Attributes:
        method: the row that the test is about.
    """

    table: Table
    method: str
    numbers: Mapping[str, Mapping[Column, float]]

    @property
    def own(self) -> Mapping[Column, float]:
        """The numbers of the row that the test is about."""
        return self.numbers[self.method]

    @property
    def others(self) -> tuple[str, ...]:
        """The other methods."""
        return tuple(name for name in self.numbers if name != self.method)

    def leads(self, others: Iterable[str]) -> dict[str, dict[Column, float]]:
        """Return by how much the row leads others in the columns that both have."""
        # Without the rounding error of the subtraction: printed numbers have few decimals.
        return {
            name: {
                column: round(number - self.numbers[name][column], 9)
                for column, number in self.own.items()
                if column in self.numbers[name]
            }
            for name in others
        }


class Paper(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A paper: what it prints and claims.

    Attributes:
        methods: the registered network of each method, as the paper writes its name; empty where
            there is none, and with a ``+`` for self-ensemble.
    """

    source: Source = field(name="paper")
    methods: dict[Annotated[str, Meta(min_length=1)], str]
    tables: tuple[Table, ...] = field(name="table", default=())
    ablations: tuple[Ablation, ...] = field(name="ablation", default=())
    plots: tuple[Plot, ...] = field(name="plot", default=())
    doubts: tuple[Doubt, ...] = field(name="doubt", default=())
    claims: tuple[Claim, ...] = field(name="claim", default=())
    numbers: dict[str, Number] = {}
    ambiguities: tuple[Ambiguity, ...] = field(name="ambiguity", default=())

    @property
    def subject(self) -> str:
        """The method that the paper proposes."""
        return self.source.subject

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all tables."""
        return tuple(
            Row(table, scale, method, *self.network(method), numbers)
            for table in self.tables
            for scale, method, numbers in table.lines()
        )

    @property
    def largest_scale(self) -> int:
        """The largest scale of the tables that the harness can measure; 4 without any."""
        return max((row.scale for row in self.rows if row.scale in (2, 3, 4)), default=4)

    def row_name(self, row: Row) -> str:
        """Name a row as a claim: ``table2-drfn``, or ``table2-x2-drfn`` if there are more scales.

        The others are those of the same table.
        """
        at = [f"x{row.scale}"] * (len(self._scales[row.table.id]) > 1)
        return "-".join([row.table.id, *at, row.word])

    @cached_property
    def _scales(self) -> dict[str, set[int]]:
        scales: dict[str, set[int]] = {}
        for row in filter(lambda row: row.printed, self.rows):
            scales.setdefault(row.table.id, set()).add(row.scale)
        return scales

    @cached_property
    def _cells(self) -> dict[str, dict[tuple[int, str, str], Row]]:
        """The printed numbers by each part of their place, with the number of their row."""
        cells: dict[str, dict[tuple[int, str, str], Row]] = {}
        for number, row in enumerate(self.rows):
            for dataset, metric in row.printed:
                for part in (row.table.id, f"x{row.scale}", row.method, dataset, metric):
                    cells.setdefault(part, {})[number, dataset, metric] = row
        return cells

    @cached_property
    def names(self) -> dict[str, str]:
        """The methods as the paper writes them, by model; those with self-ensemble end in +."""
        return {model: method for method, model in self.methods.items() if model}

    @cached_property
    def tests(self) -> dict[str, ClaimTest | None]:
        """The test of each claim."""
        return {claim.key: claim.parsed() for claim in self.claims}

    @cached_property
    def doubted(self) -> dict[tuple[str, int, str, str, str], Doubt]:
        """The doubts by table, scale, method, set and metric.

        Raises:
            ValueError: a doubt is of no printed number, or of one that has another doubt.
        """
        doubted: dict[tuple[str, int, str, str, str], Doubt] = {}
        for doubt in self.doubts:
            row, dataset, metrics = self.place(doubt.cell)
            for metric in metrics:
                key = (row.table.id, row.scale, row.method, dataset, metric)
                if doubted.setdefault(key, doubt) is not doubt:
                    raise ValueError(f"{doubt.cell!r} is doubted twice")
        return doubted

    def network(self, method: str) -> tuple[str, bool]:
        """Return the registered network of a method, and whether it runs with self-ensemble.

        Raises:
            ValueError: the paper's ``methods`` lack it.
        """
        _require("method", [method], self.methods)
        model = self.methods[method]
        return model.removesuffix("+"), model.endswith("+")

    def place(self, text: str) -> Place:
        """Find a cell: table, scale, method, set and metric in any order, with bars between.

        What only one cell has may be left out; without a metric, all scores are meant.

        Raises:
            ValueError: a word is none of these, or no cell or several cells are printed.
        """
        words = [part.strip() for part in text.split("|")]
        _require("part of a cell", words, self._cells)
        fewest, *others = sorted((self._cells[word] for word in words), key=len)
        found = [
            (row, *cell[1:])
            for cell, row in fewest.items()
            if all(cell in other for other in others)
        ]
        if not found:
            raise ValueError(f"{text!r} is no printed cell: {_CELL}")
        row, dataset, _ = found[0]
        if any((one, name) != (row, dataset) for one, name, _ in found):
            raise ValueError(f"{text!r} is several printed cells: {_CELL}")
        return Place(row, dataset, tuple(metric for *_, metric in found))

    def number(self, text: str) -> Printed:
        """Find a printed number: of a cell, of a variant of an ablation, or of the text.

        Args:
            text: the cell as `place` takes it; the ablation's id and the variant, such as
                ``table1 | both``; or the key of one of the ``numbers``.

        Raises:
            ValueError: there is no such number.
        """
        if text in self.numbers:
            number = self.numbers[text]
            return Printed(number.value, f'"{number.quote}" ({number.where})')
        table, _, variant = (part.strip() for part in text.partition("|"))
        for ablation in self.ablations:
            if ablation.id == table and variant in ablation.printed:
                psnr, called = ablation.printed[variant], ablation.called(variant)
                form = score("psnr", ablation.decimals)
                said = f"{form.as_printed(psnr)} dB for {called} ({ablation.title})"
                return Printed(psnr, said, form.rounding)
        row, dataset, metrics = self.place(text)
        if len(metrics) > 1:
            raise ValueError(f"{text!r} names no metric")
        (metric,) = metrics
        value, form = row.printed[dataset, metric], score(metric, row.table.scores[metric])
        where = f"{row.method} on {title(dataset)} ({row.table.title}, {form.name.upper()})"
        return Printed(value, f"{form.as_printed(value)} for {where}", form.rounding)

    def ablation(self, name: str = "") -> Ablation:
        """Return an ablation by its id, by default the first.

        Raises:
            ValueError: there is no such ablation.
        """
        ids = [one.id for one in self.ablations]
        _require("ablation", [name or next(iter(ids), "")], ids)
        return self.ablations[ids.index(name) if name else 0]

    def compared(self, test: Compare) -> Compared:
        """Return the printed numbers that a test compares.

        Raises:
            ValueError: there is no such table, set, metric or method, or no common column, or it
                is not known which way a metric is better.
        """
        own = test.method or self.subject
        tables = [row.table for row in self.rows if row.method == own]
        table = next((one for one in tables if test.table in ("", one.id)), None)
        if table is None:
            raise ValueError(f"no table{' ' * bool(test.table)}{test.table} has a row {own}")
        _require("set", test.sets, table.columns)
        _require("metric", test.metrics, table.scores)
        if other := next((one for one in test.metrics if one not in SCORES), ""):
            raise ValueError(f"whether more or less {other} is better is not known to the harness")
        numbers: dict[str, dict[Column, float]] = {}
        for row in (row for row in self.rows if row.table is table):
            numbers.setdefault(row.method, {}).update(
                ((row.scale, dataset, metric), value)
                for (dataset, metric), value in row.printed.items()
                if metric in test.metrics and dataset in (test.sets or table.columns)
            )
        compared = Compared(table, own, numbers)
        _require("other method", test.others, compared.others)
        for other in test.others:
            if not numbers[own].keys() & numbers[other]:
                raise ValueError(f"{own} and {other} have no numbers in the same column")
        if isinstance(test, Rank) and test.by != "scores":  # it compares networks
            return compared
        # A column in which it is alone decides nothing.
        rivals = {column for name in test.others or compared.others for column in numbers[name]}
        numbers[own] = {column: numbers[own][column] for column in numbers[own] if column in rivals}
        if not numbers[own]:
            raise ValueError(f"{own} and other methods have no numbers in the same column")
        return compared

    def gaps(self, test: Outlier) -> tuple[Place, dict[Column, float]]:
        """Subtract another row from that of a cell, in each column that both have.

        Raises:
            ValueError: there is no such cell or row, or it has no number in the cell's column, or
                in no other.
        """
        place = self.place(test.outlier)
        row, dataset, metrics = place
        compared = self.compared(Compare(method=row.method, table=row.table.id, metrics=metrics))
        _require("other method", [test.against], compared.others)
        lead = compared.leads([test.against])[test.against]
        gaps = {column: gap for column, gap in lead.items() if column[0] == row.scale}
        for metric in metrics:
            sets = [name for _, name, score in gaps if score == metric]
            if dataset not in sets or len(sets) < 2:
                raise ValueError(f"{test.against} has no number in this and another column")
        return place, gaps


def read_paper(path: Path) -> Paper:
    """Read a paper's TOML file.

    Raises:
        UsageError: it cannot be read or has a mistake; the message names the key.
    """
    try:
        data = tomllib.loads(regular(path, PAPER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no paper file {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"The paper {path} cannot be read ({error}).") from error
    try:
        paper = _converted(data, Paper)
        _check(paper)
    except ValueError as error:
        end = "" if str(error).endswith("?") else "."
        raise UsageError(f"The paper {path} has a mistake: {error}{end}") from error
    return paper


def _converted(data: Mapping[str, Any], kind: type[S]) -> S:
    """Convert a table of the TOML.

    Raises:
        ValueError: it has a mistake.
    """
    try:
        return convert(data, kind)
    except ValidationError as error:
        raise ValueError(_explained(str(error), kind, data)) from error


_PARTS: Mapping[str, type[Struct]] = {
    "paper": Source,
    "table": Table,
    "ablation": Ablation,
    "plot": Plot,
    "doubt": Doubt,
    "claim": Claim,
    "numbers": Number,
    "ambiguity": Ambiguity,
}


def _explained(message: str, kind: type[Struct], data: Mapping[str, Any]) -> str:
    """Complete a message of msgspec by the place in the file and the near name of a word.

    Args:
        message: such as ``Expected `str`, got `int` - at `$.table[0].title```.
        kind: what the data could not be converted to.
        data: a table of the TOML.
    """
    for own in data:  # such a message ends without a place, and any key may look like one
        if message == f"Object contains unknown field `{own}`":
            return _unknown("key", own, kind.__struct_encode_fields__)
    message = message.replace(" - at `key` in `$", " - at `$")
    text, *paths = message.rstrip("`").rsplit(" - at `$", 1)
    place, path = "", "".join(paths)
    if kind is Paper and (part := re.match(r"\.(\w+)(?:\[(\d+)\])?", path)):
        kind, path = _PARTS.get(part[1], Paper), path[part.end() :]
        place = f"[{part[1]}]"
        if part[2]:
            own, names = data[part[1]][int(part[2])], ["id", "key", "cell"]
            called = [own[name] for name in names if own.get(name)] if isinstance(own, dict) else []
            place = f"[[{part[1]}]] {(called or [int(part[2]) + 1])[0]}"
    key = path.replace("[...]", "").strip(".")  # any key of a table
    if word := re.match("Object contains unknown field `([^`]*)", text):
        text = _unknown("key", word[1], kind.__struct_encode_fields__)
    elif word := re.match("Invalid enum value '(.*)'", text):
        (types,) = (str(one.type) for one in fields(kind) if one.encode_name == key)
        text = _unknown("value", word[1], re.findall("'(.*?)'", types))
    elif word := re.match("Object missing required field `([^`]*)", text):
        text = f"the key {word[1]} is missing"
    elif "matching regex" in text:
        dot = "'.', " if "." in text else ""
        form = "module:function" if ":" in text else f"a word of letters, digits, {dot}'_' and '-'"
        text = f"it must be {form}"
    return ": ".join(filter(None, [", ".join(filter(None, [place, key])), text]))


def _unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """Say that a word is not known, and which is near or what there is."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(words) or 'none'}"
    return f"no {kind} is called {word!r}: {hint}"


def _require(kind: str, words: Iterable[str], known: Collection[str]) -> None:
    """Refuse words that are not known."""
    for word in words:
        if word not in known:
            raise ValueError(_unknown(kind, word, known))


def _require_different(names: Iterable[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice:
        raise ValueError(f"{twice} is there twice")


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Put the place in the file before the message of an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _check(paper: Paper) -> None:
    """Refuse parts of a paper that name what another part does not have, or contradict it."""
    with _at("[paper]"):
        paper.network(paper.subject)
    with _at("[methods]"):
        _require_different([one for one in paper.methods.values() if one])
    for table in paper.tables:
        with _at(f"[[table]] {table.id}"):
            _check_table(paper, table)
    with _at("[methods]"):
        taken: dict[str, str] = {}
        for row in paper.rows:
            if (other := taken.setdefault(row.key, row.method)) != row.method:
                raise ValueError(f"{other} and {row.method} are too alike: change one")
    sets = {name: None for table in paper.tables for name in table.columns}
    places = {(row.scale, *cell) for row in paper.rows for cell in row.printed}
    for plot in paper.plots:
        with _at(f"[[plot]] {plot.id}"):
            _require("method", [*plot.parameters, *plot.readings], paper.methods)
            _require("set", [plot.set], sets)
            if (plot.scale, plot.set, "psnr") not in places:
                raise ValueError(f"no table has a PSNR on {plot.set} at x{plot.scale}")
    with _at("[[doubt]]"):
        assert paper.doubted is not None
    with _at("ids and keys"):
        parts: list[Table | Ablation | Plot] = [*paper.tables, *paper.ablations, *paper.plots]
        printed = [row for row in paper.rows if row.printed]
        names = [*[claim.key for claim in paper.claims], *map(paper.row_name, printed)]
        _require_different([one.id for one in parts] + names)
    for claim in paper.claims:
        with _at(f"[[claim]] {claim.key}"):
            _check_test(paper, claim.parsed())


def _check_table(paper: Paper, table: Table) -> None:
    _require_different(table.columns)
    _require("preset of rules", [table.rules, *table.exceptions.values()], PRESETS)
    for cell in table.exceptions:
        method, *datasets = cell.split(" | ", 1)
        _require("method", [method], paper.methods)
        _require("set", datasets, table.columns)
    taken: dict[tuple[int, str], str] = {}
    for scale, method, numbers in table.lines():
        key = Row(table, scale, method, *paper.network(method), numbers).word
        if (scale, key) in taken:
            both = f"{taken[scale, key]} and {method}"
            raise ValueError(f"x{scale} has two rows of {key}: {both}")
        taken[scale, key] = method
    if not taken:
        raise ValueError("there are no rows in cells")


def _check_test(paper: Paper, test: ClaimTest | None) -> None:
    """Refuse a test that names what the paper does not have."""
    match test:
        case Compare():
            paper.compared(test)
        case Gain():
            variants = [one for pair in test.gain for one in pair]
            _require("variant", variants, paper.ablation(test.ablation).variants)
        case Outlier():
            paper.gaps(test)
        case Equals():
            for number in test.equals:
                paper.number(number)
        case Spread():
            _require("preset of rules", [test.rules], PRESETS)
            MODELS.load_built_ins()
            models = {*MODELS, *(paper.network(name)[0] for name in paper.methods)}
            _require("preset of rules or model", test.spread, models | PRESETS.keys())
            if not PRESETS.keys() >= set(test.spread):
                _require("model", test.spread, models)
            sets = [name for table in paper.tables for name in table.columns]
            _require("method or set", [test.cells], [*paper.methods, *sets])
            scores = [name for table in paper.tables for name in table.scores]
            _require("metric", [test.metric], scores)


def paper(word: str) -> Paper:
    """Return a paper by its registered name or the path of its TOML file.

    Raises:
        UsageError: there is no such paper, or it has a mistake.
    """
    return read_paper(Path(word).resolve() if word.endswith(".toml") else PAPERS.get(word))


def title(dataset: str) -> str:
    """Return the name that papers use for a set."""
    return DATASETS.get(dataset).title if dataset in DATASETS else dataset


def listed(words: Sequence[str]) -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def ordinal(rank: int) -> str:
    """Format a rank: ``1st``, ``2nd``, ``3rd``, ``4th``, up to ``20th``."""
    return f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank, 'th') }"


with as_file(files("harness.paper") / "papers") as _folder:
    for _path in sorted(_folder.glob("*.toml")):
        PAPERS.add(_path.stem, _path, __name__)
