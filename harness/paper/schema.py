"""A paper as data: its tables, ablations, plots, readings, doubts and claims, from TOML."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr, replace

from harness.cards import PRESETS, CardName, Preset
from harness.errors import UsageError
from harness.files import PAPER, regular
from harness.paper import vocabulary
from harness.paper.toml import at_place, converted, parse, require
from harness.paper.vocabulary import TESTS, Amount, ClaimTest, Compare, Data, Rules, Scale
from harness.registry import DATASETS, METRICS, MODELS, PAPERS, REPORTS, near_names, spelled
from harness.text import listed

Tag = Annotated[str, Meta(pattern=r"\A[\w-]+\Z")]
"""A part of the tag of weights: letters, digits, ``_`` and ``-``."""

Decimals = Annotated[int, Meta(ge=0, le=9)]

DEFAULT = "drfn2020"
"""The paper of the command line's reports if none is named."""


class Score(NamedTuple):
    """How a score is written.

    Attributes:
        title: its name with the unit.
        printed: decimals in the paper.
        measured: decimals of a measured number next to a printed one.
    """

    title: str
    printed: int
    measured: int

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


SCORES: Mapping[str, Score] = {"psnr": Score("PSNR in dB", 2, 3), "ssim": Score("SSIM", 4, 4)}
"""The scores of every run, of which more is better, with the decimals of most papers."""


def score(metric: str, decimals: int) -> Score:
    """Return how a metric is written that a paper prints with some decimals."""
    usual = SCORES.get(metric, Score(metric.upper(), decimals, decimals + 1))
    return usual._replace(printed=decimals, measured=max(usual.measured, decimals))


def decimals(means: Iterable[float]) -> int:
    """Return the decimals that show three significant digits of the smallest of some means."""
    sizes = [abs(mean) for mean in means if mean and math.isfinite(mean)]
    return max(0, 2 - math.floor(math.log10(min(sizes)))) if sizes else 3


class Source(Data, frozen=True, kw_only=True):
    """The paper itself; ``subject`` is the method that it proposes, as it writes the name."""

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
        scores: the decimals of each score, in their order within a cell; each number must have
            them, since they decide how exactly it is compared.
    """

    columns: Annotated[tuple[CardName, ...], Meta(min_length=1)]
    cells: str
    scores: Annotated[dict[str, Decimals], Meta(min_length=1)] = field(
        default_factory=lambda: {"psnr": 2, "ssim": 4}
    )

    def __post_init__(self) -> None:
        force_setattr(self, "columns", tuple(map(set_name, self.columns)))
        scores = {spelled(metric, SCORES): digits for metric, digits in self.scores.items()}
        force_setattr(self, "scores", scores)

    def lines(self) -> list[tuple[int, str, dict[tuple[str, str], float]]]:
        """Parse the block: scale, method, and numbers by set and metric of each row.

        Raises:
            ValueError: a row is not complete, or a number cannot be read, has other decimals than
                `scores`, or is no SSIM.
        """
        return [self._line(row) for row in self.cells.splitlines() if row.strip()]

    def _line(self, row: str) -> tuple[int, str, dict[tuple[str, str], float]]:
        scale, *cells = (cell.strip() for cell in row.split("|"))
        if not re.fullmatch(r"x[1-9]\d?", scale) or len(cells) != 1 + len(self.columns):
            form = f"a scale such as x4, a method and {len(self.columns)} cells"
            raise ValueError(f"the row {row.strip()!r} is not {form}")
        method, *cells = cells
        numbers: dict[tuple[str, str], float] = {}
        for dataset, cell in zip(self.columns, cells, strict=True):
            with at_place(f"{method} on {title(dataset)}"):
                numbers |= {(dataset, name): value for name, value in self._numbers(cell).items()}
        return int(scale[1:]), method, numbers

    def _numbers(self, cell: str) -> dict[str, float]:
        """Parse the scores of one cell; those that are not printed are left out."""
        if cell == "-":
            return {}
        form = r"\s*/\s*".join([r"(\d+(?:\.\d+)?|-)"] * len(self.scores))
        match = re.fullmatch(form, cell)
        if not match:
            order = "/".join(self.scores)
            raise ValueError(f"{cell!r} is not of the form {order}: {self._hint(cell)}")
        printed = zip(self.scores, match.groups(), strict=True)
        texts = {name: text for name, text in printed if text != "-"}
        self._require_decimals(texts)
        return {name: float(text) for name, text in texts.items()}

    def _require_decimals(self, texts: Mapping[str, str]) -> None:
        """Refuse scores with other decimals than the table's, and an SSIM above 1."""
        if "ssim" in texts and float(texts["ssim"]) > 1:
            order = "/".join(self.scores)
            raise ValueError(f"{texts['ssim']} is no SSIM, which is at most 1: a cell is {order}")
        written = {name: len(text.partition(".")[2]) for name, text in texts.items()}
        own = ", ".join(f"{name} = {count}" for name, count in (self.scores | written).items())
        for name, count in written.items():
            if count != self.scores[name]:
                raise ValueError(
                    f"{texts[name]} has {count} decimal{'s' * (count != 1)}, and the table has "
                    f"{self.scores[name]} of {name}: write it as printed, or set scores = "
                    f"{{ {own} }} (a row with other decimals goes into a [[table]] of its own)"
                )

    def _hint(self, cell: str) -> str:
        """Say how to write a cell that cannot be read."""
        if re.search(r"\d,\d", cell):
            return "write numbers with a point"
        if re.fullmatch(r"\d+\.\d+", cell):
            first = next(iter(self.scores))
            digits = len(cell.partition(".")[2])
            return f"set scores = {{ {first} = {digits} }} if the table has no other score"
        return f"write {'/'.join('-' for _ in self.scores)} where nothing is printed"


class Table(PrintedCells, frozen=True, kw_only=True):
    """A printed table of results.

    Attributes:
        degradation: how the LR images were made: ``BI`` or ``bicubic`` is MATLAB's bicubic.
        border: pixels left out of the scores on each side; by default as many as the scale.
        exceptions: other presets than ``rules``, by method, or by cell such as ``SRMDNF | set14``.
        read_from: the documents that the numbers were read from, if not from the paper itself.
    """

    id: CardName
    title: str
    degradation: str = "BI"
    border: Annotated[int, Meta(ge=0)] | None = None
    rules: Rules = "usual"
    exceptions: dict[str, Rules] = {}
    read_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.degradation.lower() in ("bi", "bicubic"):
            force_setattr(self, "degradation", "BI")
        cells = ([part.strip() for part in cell.split("|")] for cell in self.exceptions)
        names = [" | ".join([method, *map(set_name, sets)]) for method, *sets in cells]
        force_setattr(self, "exceptions", dict(zip(names, self.exceptions.values(), strict=True)))

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
        whole: the variant that is the network itself.
        variants: the network's arguments for each variant.
        psnr: in dB, in the order of the printed columns.
        readings: which variant each column is; the first is the one the harness takes. By default
            the order of ``variants``.
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
    decimals: Decimals = 2
    rules: Rules = "usual"
    note: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "set", set_name(self.set))
        require("variant", [self.whole, *self.titles], self.variants)
        for reading in self.readings or (self.columns,):
            if sorted(reading) != sorted(self.variants) or len(reading) != len(self.psnr):
                raise ValueError("variants, readings and psnr differ in length or names")

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
        return {} if variant == self.whole else self.variants[variant]


class Plot(Data, frozen=True, kw_only=True):
    """A printed plot of parameters against PSNR; the PSNRs are those of the paper's tables.

    Attributes:
        parameters: the counts that the paper prints, by method.
        readings: methods without published code or count: their networks are readings of a paper.
    """

    id: CardName
    title: str
    set: str
    scale: Scale
    parameters: dict[str, Annotated[float, Meta(gt=0, le=1e18)]] = {}
    readings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "set", set_name(self.set))


class Reading(Data, frozen=True, kw_only=True):
    """One way to understand a text that leaves something open.

    Attributes:
        model: the registered network that follows it, if there is one; with ``arguments`` alone it
            is that of the paper's subject.
        arguments: of the network.
        parameters: the count of a network that cannot be built; for others it is counted.
    """

    text: str
    model: str = ""
    arguments: dict[str, Any] = {}
    parameters: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.parameters and (self.model or self.arguments):
            raise ValueError("the parameters of a network that can be built are counted")


class Ambiguity(Data, frozen=True, kw_only=True):
    """What the text leaves open, and how it is read here.

    Attributes:
        quote: the paper's words, as in `Claim`.
        taken: the reading of the harness.
        others: the other readings.
        evidence: what speaks for one or the other.
    """

    key: CardName
    where: str
    quote: str
    question: str
    taken: Reading
    others: Annotated[tuple[Reading, ...], Meta(min_length=1)]
    evidence: str

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The readings, first the one that is taken."""
        return (self.taken, *self.others)


class Doubt(Data, frozen=True, kw_only=True):
    """A printed number that looks wrong.

    Attributes:
        cell: such as ``x4 | VDSR | b100 | ssim``; see `Paper.scores`.
        seen: it contradicts other printed numbers (``print``), or the authors' weights under the
            table's rules (``measurement``); or it is odd and contradicts nothing (``unusual``).
    """

    cell: str
    seen: Literal["print", "measurement", "unusual"]
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
        """Return the test that one of the keys names; None for a claim that is judged by hand."""
        if not self.test:
            return None
        name = next((key for key in self.test if key in TESTS), next(iter(self.test)))
        require("test", [name], TESTS)
        return converted(self.test, TESTS[name])


class Number(Data, frozen=True, kw_only=True):
    """A number of the running text; ``value`` is what the quotation literally says."""

    value: float | tuple[float, ...]
    where: str
    quote: str

    @property
    def rounding(self) -> float:
        """Half a unit of its last decimal in the quotation, else of the value; 0 for several."""
        if isinstance(self.value, tuple):
            return 0.0
        quoted = re.findall(r"\d+(?:\.\d+)?", self.quote)
        texts = [text for text in quoted if float(text) == self.value]
        plain = f"{self.value:.9f}".rstrip("0")
        return score("", max(len(one.partition(".")[2]) for one in texts or [plain])).rounding


@dataclass(frozen=True)
class Row:
    """A row of a printed table.

    Attributes:
        model: the registered network; empty if there is none.
        printed: the numbers by set and metric.
        tag: of the weights that the row is about; empty for a printed row, and for a network that
            ran with one set of weights.
        in_paper: the network is that of a method of the paper, of which this table may print no
            number.
    """

    table: Table
    scale: int
    method: str
    model: str
    self_ensemble: bool
    printed: Mapping[tuple[str, str], float]
    tag: str = ""
    in_paper: bool = False

    @property
    def word(self) -> str:
        """The model with the tag and a ``+`` for self-ensemble, or the printed name as a word."""
        if self.model:
            return self.model + f":{self.tag}" * bool(self.tag) + "+" * self.self_ensemble
        return re.sub(r"[^\w.+-]+", "-", self.method).strip("-").lower()

    @property
    def key(self) -> str:
        """The `word`, after a ``~`` if there is no model: runs of that name are not of the row."""
        return self.word if self.model else f"~{self.word}"

    @property
    def sets(self) -> list[str]:
        """The sets with a printed number, in the order of the columns."""
        return list(dict.fromkeys(dataset for dataset, _ in self.printed))


class Printed(NamedTuple):
    """A printed number, or several: with the place in words, and its largest rounding error."""

    value: float | tuple[float, ...]
    said: str
    rounding: float = 0.0


Column = tuple[int, str, str]
"""Scale, set and metric."""


class Compared(NamedTuple):
    """The numbers of a table by method and column, and the method that a test is about."""

    table: Table
    method: str
    numbers: Mapping[str, Mapping[Column, float]]

    @property
    def own(self) -> Mapping[Column, float]:
        """The numbers of the method that the test is about."""
        return self.numbers[self.method]

    @property
    def others(self) -> tuple[str, ...]:
        """The other methods."""
        return tuple(name for name in self.numbers if name != self.method)

    def leads(self, others: Iterable[str]) -> dict[str, dict[Column, float]]:
        """Return by how much the method leads others in the columns that both have."""
        # Without the rounding error of the subtraction: printed numbers have few decimals.
        return {
            name: {
                column: round(number - self.numbers[name][column], 9)
                for column, number in self.own.items()
                if column in self.numbers[name]
            }
            for name in others
        }

    def by_column(self, values: Mapping[Column, float]) -> str:
        """Write values by column, such as ``0.31 dB on Set5 and 0.19 dB on Set14``."""
        units = {"psnr": "dB", "ssim": "of SSIM"}
        texts = [
            f"{value:.{decimals}f} {units[metric]} on {column_title(column, values)}"
            for metric, decimals in self.table.scores.items()
            for column, value in values.items()
            if column[2] == metric
        ]
        return listed(texts)


class Paper(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A paper: what it prints and claims.

    The ``methods``, as the paper writes them, have their registered network as value: empty where
    there is none, and with a ``+`` for self-ensemble. Functions that look up words of the file
    raise `ValueError`, with the near name, if there is nothing of this name.
    """

    source: Source = field(name="paper")
    methods: dict[str, str]
    tables: tuple[Table, ...] = field(name="table", default=())
    ablations: tuple[Ablation, ...] = field(name="ablation", default=())
    plots: tuple[Plot, ...] = field(name="plot", default=())
    ambiguities: tuple[Ambiguity, ...] = field(name="ambiguity", default=())
    doubts: tuple[Doubt, ...] = field(name="doubt", default=())
    claims: tuple[Claim, ...] = field(name="claim", default=())
    numbers: dict[str, Number] = {}

    @property
    def subject(self) -> str:
        """The method that the paper proposes."""
        return spelled(self.source.subject, self.methods)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all tables."""
        rows: list[Row] = []
        for table in self.tables:
            with at_place(f"[[table]] {table.id}"):
                for scale, word, numbers in table.lines():
                    method = spelled(word, self.methods)
                    network = self.network(method)
                    rows.append(Row(table, scale, method, *network, numbers, in_paper=True))
        return tuple(rows)

    @property
    def largest_scale(self) -> int:
        """The largest scale of the tables that the harness can measure; 4 without any."""
        return max((row.scale for row in self.rows if row.scale in (2, 3, 4)), default=4)

    def row_name(self, row: Row) -> str:
        """Name a row as a claim: ``table2-drfn``, or ``table2-x2-drfn`` beside other scales."""
        scales = {one.scale for one in self.rows if one.table is row.table}
        at = [f"x{row.scale}"] * (len(scales) > 1)
        return "-".join([row.table.id, *at, row.word])

    @cached_property
    def models(self) -> frozenset[str]:
        """The registered networks of the methods."""
        return frozenset(self.network(method)[0] for method in self.methods) - {""}

    @cached_property
    def names(self) -> dict[str, str]:
        """The methods as the paper writes them, by model; those with self-ensemble end in +."""
        networks = {method: self.network(method) for method in self.methods}
        return {
            model + "+" * ensemble: method
            for method, (model, ensemble) in networks.items()
            if model
        }

    @cached_property
    def tests(self) -> dict[str, ClaimTest | None]:
        """The test of each claim."""
        return {claim.key: self.test(claim) for claim in self.claims}

    def test(self, claim: Claim) -> ClaimTest | None:
        """Return the test of a claim, with names as the tables have them, in whatever case."""
        test = claim.parsed()
        if not isinstance(test, Compare | vocabulary.Spread):
            return test
        known = chain(*((row.table.id, row.method, *chain(*row.printed)) for row in self.rows))
        names = list(dict.fromkeys(known))
        words = {key: getattr(test, key) for key in _NAMES & {*test.__struct_fields__}}
        return replace(
            test,
            **{
                key: _in_table(word, names)
                if isinstance(word, str)
                else tuple(_in_table(one, names) for one in word)
                for key, word in words.items()
            },
        )

    @cached_property
    def doubted(self) -> dict[tuple[str, int, str, str, str], Doubt]:
        """The doubts by table, scale, method, set and metric."""
        return {
            (row.table.id, row.scale, row.method, dataset, metric): doubt
            for doubt in self.doubts
            for row, dataset, metric in self.scores(doubt.cell)
        }

    def network(self, method: str) -> tuple[str, bool]:
        """Return the registered network of a method, and whether it runs with self-ensemble."""
        require("method", [method], self.methods)
        model = self.methods[method]
        return MODELS.spelling(model.removesuffix("+")), model.endswith("+")

    def printed(self, model: str, ensemble: bool, scale: int, dataset: str) -> dict[str, str]:
        """Return a network's PSNR and SSIM on a set as they stand in print.

        Those of tables under other rules than the harness's count as not printed.
        """
        numbers: dict[str, str] = {}
        for row in self.rows:
            place = (row.model, row.self_ensemble, row.scale)
            if place != (model, ensemble, scale) or row.table.obstacle(scale):
                continue
            for metric in SCORES.keys() & row.table.scores.keys():
                value = row.printed.get((dataset, metric))
                if value is not None:
                    text = score(metric, row.table.scores[metric]).as_printed(value)
                    numbers.setdefault(metric, text)
        return numbers

    def scores(self, text: str) -> list[tuple[Row, str, str]]:
        """Find the row, set and metric of each score of a cell.

        The text has the table, scale, method, set and metric in any order, with bars between. What
        only one cell has may be left out; without a metric, all scores are meant.
        """
        scores = {
            (row.table.id, f"x{row.scale}", row.method, dataset, metric): (row, dataset, metric)
            for row in self.rows
            for dataset, metric in row.printed
        }
        known = list(dict.fromkeys(chain(*scores)))
        words = {_in_table(word.strip(), known) for word in text.split("|")}
        require("part of a cell", words, known)
        found = [parts for parts in scores if words.issubset(parts)]
        if len({parts[:4] for parts in found}) != 1:
            count = "several printed cells" if found else "no printed cell"
            raise ValueError(f"{text!r} is {count}: write table | x4 | method | set | metric")
        return [scores[parts] for parts in found]

    def number(self, text: str) -> Printed:
        """Find a printed number: a cell as `scores` takes it, a variant, or one of the text.

        A variant stands after its ablation's id, such as ``table1 | both``.
        """
        if text in self.numbers:
            number = self.numbers[text]
            said = f'"{number.quote}" ({number.where})'
            return Printed(number.value, said, number.rounding)
        for ablation in self.ablations:
            for variant, psnr in ablation.printed.items():
                if text == f"{ablation.id} | {variant}":
                    form = score("psnr", ablation.decimals)
                    called = ablation.called(variant)
                    said = f"{form.as_printed(psnr)} dB for {called} ({ablation.title})"
                    return Printed(psnr, said, form.rounding)
        (row, dataset, metric), *others = self.scores(text)
        if others:
            raise ValueError(f"{text!r} names no metric")
        value, form = row.printed[dataset, metric], score(metric, row.table.scores[metric])
        where = f"{row.method} on {title(dataset)} ({row.table.title}, {metric.upper()})"
        return Printed(value, f"{form.as_printed(value)} for {where}", form.rounding)

    def ablation(self, name: str = "") -> Ablation:
        """Return an ablation by its id, by default the first."""
        by_id = {one.id: one for one in self.ablations}
        name = name or next(iter(by_id), "")
        require("ablation", [name], by_id)
        return by_id[name]

    def compared(self, test: Compare) -> Compared:
        """Return the printed numbers that a test compares.

        A column that only its own method has decides nothing and is left out.
        """
        own = test.method or self.subject
        rows = [row for row in self.rows if test.table in ("", row.table.id)]
        table = next((row.table for row in rows if row.method == own), None)
        if table is None:
            raise ValueError(f"{own} has no row in {test.table or 'any table'}")
        require("set", test.sets, table.columns)
        better = [metric for metric in table.scores if metric in SCORES]
        require("metric of which more is better", test.metrics, better)
        numbers: dict[str, dict[Column, float]] = {}
        for row in (row for row in rows if row.table is table):
            columns = numbers.setdefault(row.method, {})
            for (dataset, metric), value in row.printed.items():
                if metric in test.metrics and dataset in (test.sets or table.columns):
                    columns[row.scale, dataset, metric] = value
        compared = Compared(table, own, numbers)
        require("other method", test.others, compared.others)
        leads = compared.leads(test.others or compared.others).values()
        if not (all(leads) if test.others else any(leads)):
            others = " or ".join(test.others) or "other methods"
            raise ValueError(f"{own} and {others} have no numbers in the same column")
        shared = set(chain(*leads))
        of_own = {column: one for column, one in numbers[own].items() if column in shared}
        return compared._replace(numbers=numbers | {own: of_own})


def read_paper(path: Path) -> Paper:
    """Read a paper's TOML file; a `UsageError` names the key that has a mistake."""
    try:
        paper = converted(
            parse(regular(path, PAPER).read_text(encoding="utf-8-sig")), Paper, _PARTS
        )
        _check(paper)
    except FileNotFoundError:
        raise UsageError(f"There is no paper file {path}.") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        how = "" if path.suffix == ".toml" else ": give a TOML file, see docs/papers.md"
        raise UsageError(f"The paper {path} cannot be read ({error}){how}.") from error
    return paper


_PARTS: Mapping[str, type[Struct]] = {
    "paper": Source,
    "table": Table,
    "ablation": Ablation,
    "plot": Plot,
    "ambiguity": Ambiguity,
    "ambiguity.taken": Reading,
    "ambiguity.others": Reading,
    "doubt": Doubt,
    "claim": Claim,
    "numbers": Number,
}


_NAMES = {
    *("method", "table", "sets", "metrics", "beats", "within", "lead_over", "outlier", "against"),
    *("cells", "metric"),
}
"""The keys of tests whose values are names in a table."""


def _in_table(word: str, names: Iterable[str]) -> str:
    """Return the name that a word means, in any case, also by another name of a set."""
    known = list(names)
    own = spelled(word, known)
    return own if own in known or set_name(word) not in known else set_name(word)


def _check(paper: Paper) -> None:
    """Refuse parts of a paper that name what another part does not have, or contradict it."""
    with at_place("[paper]"):
        paper.network(paper.subject)
    _check_names(paper)
    for table in paper.tables:
        cells = [f"{method} | {name}" for method in paper.methods for name in table.columns]
        with at_place(f"[[table]] {table.id}"):
            require("method or cell", table.exceptions, [*paper.methods, *cells])
    for plot in paper.plots:
        sets = [name for row in paper.rows if row.scale == plot.scale for name in row.sets]
        with at_place(f"[[plot]] {plot.id}"):
            require("method", [*plot.parameters, *plot.readings], paper.methods)
            require(f"set with numbers at x{plot.scale}", [plot.set], sets)
    for doubt in paper.doubts:
        with at_place(f"[[doubt]] {doubt.cell}"):
            paper.scores(doubt.cell)
    for claim in paper.claims:
        with at_place(f"[[claim]] {claim.key}"):
            _check_test(paper, paper.test(claim))


def _check_names(paper: Paper) -> None:
    """Refuse what has the name of another part, or an id that is the name of another report."""
    parts = [("table", one.id, "results") for one in paper.tables]
    parts += [("ablation", one.id, "ablation") for one in paper.ablations]
    parts += [("plot", one.id, "plot") for one in paper.plots]
    for part, name, report in parts:
        if name != report and REPORTS.is_built_in(name):
            raise ValueError(f"[[{part}]] {name}: a report has this name: choose another id")
    names = [(name, f"[[{part}]] {name}") for part, name, _ in parts]
    names += [(one.key, f"[[claim]] {one.key}") for one in paper.claims]
    names += [
        (paper.row_name(row), f"the row {row.method} at x{row.scale} of {row.table.id}")
        for row in paper.rows
    ]
    for table in paper.tables:
        names += [(f"{table.id} | {one}", f"column {one} of {table.id}") for one in table.columns]
    names += [(f"? {one.key}", f"[[ambiguity]] {one.key}") for one in paper.ambiguities]
    seen: dict[str, str] = {}
    for name, part in names:
        if seen.get(name) == part:
            raise ValueError(f"{part} stands twice")
        if name in seen:
            raise ValueError(f"{seen[name]} and {part} have one name, {name}: change one")
        seen[name] = part


def _check_test(paper: Paper, test: ClaimTest | None) -> None:
    """Refuse a test that names what the paper does not have."""
    match test:
        case vocabulary.Outlier():
            sets = [dataset for _, dataset, _ in paper.compared(test).own]
            require("set with numbers of both", [test.outlier], sets)
        case Compare():
            paper.compared(test)
        case vocabulary.Gain():
            require("variant", chain(*test.gain), paper.ablation(test.ablation).variants)
        case vocabulary.Equals():
            for number in test.equals:
                paper.number(number)
        case vocabulary.Spread():
            known = chain(*((row.method, *place) for row in paper.rows for place in row.printed))
            require("method, set or metric", [test.cells, test.metric], known)


def paper(word: str) -> Paper:
    """Return a paper by its registered name or the path of its TOML file.

    Raises:
        UsageError: there is no such paper, or it has a mistake.
    """
    name = PAPERS.spelling(word)
    is_path = word.endswith(".toml") or os.sep in word or os.path.exists(word)
    is_file = name not in PAPERS and is_path
    return read_paper(Path(word).resolve() if is_file else PAPERS.get(name))


def remarks(paper: Paper) -> list[str]:
    """Say what in a paper is likely a mistake, though plug-ins or other readings may make it right.

    These are names that are not registered, numbers that cannot be measured, and cells of doubts
    without a metric.
    """
    METRICS.load_built_ins()
    networks = {paper.network(method)[0] for method in paper.methods} - {""}
    sets = [name for table in paper.tables for name in table.columns]
    sets += [one.set for one in paper.ablations] + [one.set for one in paper.plots]
    metrics = [name for table in paper.tables for name in table.scores]
    found = []
    for registry, names in ((MODELS, sorted(networks)), (DATASETS, sets), (METRICS, metrics)):
        for name in dict.fromkeys(names):
            if name not in registry:
                near = near_names(name, registry)[:1]
                hint = f"did you mean {near[0]}, or" if near else "it needs"
                end = "?" if near else "."
                found.append(f"no {registry.kind} is called {name}: {hint} a plug-in{end}")
    for table in paper.tables:
        scales = dict.fromkeys(row.scale for row in paper.rows if row.table is table)
        reasons = dict.fromkeys(filter(None, map(table.obstacle, scales)))
        found += [f"[[table]] {table.id}: not measured, since {reason}." for reason in reasons]
    for one in paper.ablations:
        if one.decimals and all(round(psnr, one.decimals - 1) == psnr for psnr in one.psnr):
            fewer = f"if the PSNRs have not {one.decimals} decimals in print, set decimals."
            found.append(f"[[ablation]] {one.id}: {fewer}")
    for doubt in paper.doubts:
        metrics = [metric for _, _, metric in paper.scores(doubt.cell)]
        if len(metrics) > 1:
            found.append(f"[[doubt]] {doubt.cell}: without a metric, it is of {listed(metrics)}.")
    return found


def set_name(word: str) -> str:
    """Return the registered test set that a name, title or folder means in any case.

    The word itself if it means none.
    """
    if word in DATASETS:
        return word
    cards = map(DATASETS.get, DATASETS)
    means = [
        card.name
        for card in cards
        if word.lower() in {one.lower() for one in (card.name, card.title, *card.folders)}
    ]
    return means[0] if len(means) == 1 else word


def title(dataset: str) -> str:
    """Return the name that papers use for a set."""
    return DATASETS.get(dataset).title if dataset in DATASETS else dataset


def column_title(column: Column, columns: Iterable[Column]) -> str:
    """Name the set of a column, with its scale if the columns have several."""
    several = len({scale for scale, *_ in columns}) > 1
    return title(column[1]) + f" x{column[0]}" * several


with as_file(files("harness.paper") / "papers") as _folder:
    for _path in sorted(_folder.glob("*.toml")):
        PAPERS.add(_path.stem, _path, __name__)
