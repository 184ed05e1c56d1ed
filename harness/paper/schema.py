"""A paper as data: its tables, ablations, plots, doubts and claims, read from TOML."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_type_hints

from msgspec import Meta, Struct, ValidationError, convert, field
from msgspec.structs import fields

from harness.cards import CardName
from harness.errors import UsageError
from harness.files import TEXT, regular
from harness.protocol.rules import PRESETS, Preset
from harness.registry import DATASETS, PAPERS

S = TypeVar("S", bound=Struct)

DEFAULT = "drfn2020"
"""The paper of the command line's reports if none is named."""

Quantity = Literal["parameters", "macs", "depth", "receptive_field", "narrowest_1x1"]
"""What can be counted on a network: see `harness.paper.claims.QUANTITIES`."""


class Score(NamedTuple):
    """How a score is written.

    Attributes:
        name: the metric's name.
        title: its title with the unit.
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


Scale = Annotated[int, Meta(ge=1, le=99)]
Amount = Annotated[float, Meta(ge=0, le=1e18)]


class _Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML."""


class Source(_Data, frozen=True, kw_only=True):
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


class PrintedCells(_Data, frozen=True, kw_only=True):
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
        rows = [row for line in self.cells.strip().splitlines() if (row := line.strip())]
        parsed = [self._line(row) for row in rows]
        seen: set[tuple[int, str]] = set()
        for scale, method, _ in parsed:
            if (scale, method) in seen:
                raise ValueError(f"x{scale} | {method} has two rows")
            seen.add((scale, method))
        return parsed

    def _line(self, row: str) -> tuple[int, str, dict[tuple[str, str], float]]:
        scale, *cells = (cell.strip() for cell in row.split("|"))
        if not re.fullmatch(r"x[1-9]\d?", scale):
            raise ValueError(f"the row {row!r} does not begin with a scale, such as x4")
        if len(cells) != 1 + len(self.columns):
            raise ValueError(
                f"the row {row!r} has {len(cells) - 1} cells for {len(self.columns)} columns"
            )
        numbers: dict[tuple[str, str], float] = {}
        for dataset, cell in zip(self.columns, cells[1:], strict=True):
            if set(cell) <= set("-/ "):
                continue
            values = cell.split("/")
            if len(values) != len(self.scores):
                form = "/".join(self.scores)
                raise ValueError(f"{cell!r} in the row {row!r} is not of the form {form}")
            for metric, value in zip(self.scores, values, strict=True):
                if value.strip() != "-":
                    numbers[dataset, metric] = _number(value, row)
        return int(scale[1:]), cells[0], numbers


def _number(text: str, row: str) -> float:
    if not re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", text):
        raise ValueError(f"{text.strip()!r} in the row {row!r} is not a number")
    return float(text)


class Table(PrintedCells, frozen=True, kw_only=True):
    """A printed table of results.

    Attributes:
        id: the name of its report.
        title: as the paper calls it, such as ``Table 2``.
        degradation: how the LR images were made; the harness makes ``BI``, bicubic.
        border: pixels left out of the scores on each side; None for as many as the scale.
        rules: the preset of rules that its numbers follow; see `harness.protocol.rules.PRESETS`.
        exceptions: the preset of single methods, for all sets or by set.
        read_from: the public documents that the numbers were read from, if not from the paper.
    """

    id: CardName
    title: str
    degradation: str = "BI"
    border: Annotated[int, Meta(ge=0)] | None = None
    rules: str = "usual"
    exceptions: dict[str, str | dict[str, str]] = {}
    read_from: tuple[str, ...] = ()

    def preset(self, method: str, dataset: str) -> Preset:
        """Return the rules of a cell."""
        own = self.exceptions.get(method, self.rules)
        return PRESETS[own if isinstance(own, str) else own.get(dataset, self.rules)]

    def obstacle(self, scale: int) -> str:
        """Say why the harness cannot measure the cells of a scale; empty if it can."""
        if self.degradation != "BI":
            return f"the harness makes LR images by bicubic (BI), not by {self.degradation}"
        if self.border not in (None, scale):
            return f"the harness leaves out a border of {scale} pixels, not of {self.border}"
        return ""


class Ablation(_Data, frozen=True, kw_only=True):
    """A printed ablation: one network without some of its parts.

    Attributes:
        model: the registered network.
        whole: the variant that is the network itself.
        variants: the network's arguments for each variant.
        psnr: in dB, in the order of the printed columns.
        readings: which variant each column is; the first is the one the harness takes. By default
            the order of ``variants``.
        titles: the names of variants in print.
        rules: the preset of rules that its numbers follow.
    """

    id: CardName
    title: str
    model: str
    set: str
    scale: Scale
    whole: str
    variants: dict[str, dict[str, Any]]
    psnr: tuple[Amount, ...]
    readings: tuple[tuple[str, ...], ...] = ()
    titles: dict[str, str] = {}
    rules: str = "usual"
    note: str = ""

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


class Plot(_Data, frozen=True, kw_only=True):
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
    parameters: dict[str, Amount] = {}
    readings: tuple[str, ...] = ()
    caption: str = ""


DoubtKind = Literal["print", "measurement", "unusual"]


class Doubt(_Data, frozen=True, kw_only=True):
    """A printed number that looks wrong.

    Attributes:
        cell: such as ``x4 | VDSR | b100 | ssim``; see `Paper.places`.
        seen: it contradicts other printed numbers (``print``); the authors' weights give another
            number under the table's rules, and the printed one under others (``measurement``); or
            it is odd and contradicts nothing (``unusual``).
        reason: a sentence.
    """

    cell: str
    seen: DoubtKind
    reason: str


class ClaimTest(_Data, frozen=True, kw_only=True):
    """How a claim is judged; the first field of each test names it."""


class Count(ClaimTest, frozen=True, kw_only=True):
    """A count on a network is about a printed number, or at least some number.

    Attributes:
        count: the quantity.
        of: the registered network; by default the subject's.
        readings: networks that are other readings of the same text: one of all must fit.
        about: as printed, such as ``5.2M``: a count fits if it rounds to these digits.
        at_least: the smallest count that fits.
        leaves_room: the text is open to networks that were not counted: it cannot be refuted.
    """

    count: Quantity
    of: str = ""
    readings: tuple[str, ...] = ()
    about: str = ""
    at_least: Amount | None = None
    leaves_room: bool = False


class Compare(ClaimTest, frozen=True, kw_only=True):
    """A test of a row against other rows of a table.

    Attributes:
        method: the row; by default the paper's subject.
        table: the id of the table; by default the first with the method.
        sets: the columns; by default all.
        metrics: by default PSNR.
    """

    method: str = ""
    table: str = ""
    sets: tuple[str, ...] = ()
    metrics: Annotated[tuple[str, ...], Meta(min_length=1)] = ("psnr",)


class Beats(Compare, frozen=True, kw_only=True):
    """The method is better than others in every column.

    Attributes:
        beats: the other methods; empty for all.
        by: at least by so much.
        self_ensemble: with self-ensemble, for which the table prints no row.
    """

    beats: tuple[str, ...]
    by: Amount = 0.0
    self_ensemble: bool = False


class Within(Compare, frozen=True, kw_only=True):
    """The method is at most a margin behind others, or behind with less of something.

    Attributes:
        within: the other methods.
        of: the margin.
        lead_over: instead of ``of``: the margin is the method's largest lead over this one, which
            the paper calls superior to.
        fewer: what the method must have less of than the others.
    """

    within: Annotated[tuple[str, ...], Meta(min_length=1)]
    of: Amount | None = None
    lead_over: str = ""
    fewer: Quantity | None = None


class Rank(Compare, frozen=True, kw_only=True):
    """The method stands in the upper half of every column, or is the first.

    Attributes:
        rank: ``first`` or ``upper half``.
        by: ``scores``, or a quantity of the networks, the largest first.
    """

    rank: Literal["first", "upper half"]
    by: Literal["scores"] | Quantity = "scores"


class Pareto(Compare, frozen=True, kw_only=True):
    """No other method is better in a column with no more of something.

    Attributes:
        pareto: what the networks may not have more of.
        readings: networks that are other readings of the method, to be told beside.
    """

    pareto: Quantity
    readings: tuple[str, ...] = ()


class Equals(ClaimTest, frozen=True, kw_only=True):
    """Two printed numbers are the same.

    Attributes:
        equals: two of: a cell such as ``x4 | DRFN | set14 | psnr``; a variant of an ablation such
            as ``table1 | both``; the key of a number of the text.
    """

    equals: tuple[str, str]


class Gain(ClaimTest, frozen=True, kw_only=True):
    """In an ablation, the first variant of each pair is better than the second.

    Attributes:
        ablation: its id; by default the first.
    """

    gain: Annotated[tuple[tuple[str, str], ...], Meta(min_length=1)]
    ablation: str = ""


class Outlier(ClaimTest, frozen=True, kw_only=True):
    """A cell is in line: against another row, it stands on the same side as in other columns.

    Attributes:
        outlier: the cell, such as ``x4 | VDSR | b100``.
        against: the other method.
    """

    outlier: str
    against: str


class Spread(ClaimTest, frozen=True, kw_only=True):
    """Printed numbers follow one of several ways to score, not a mix of them.

    Attributes:
        spread: models that stand for the ways, such as one interpolation in each pipeline; or
            rules for grey images.
        cells: the row (a method) or column (a set) whose numbers are compared with each way.
        metric: the score.
        rules: with models: the preset of their runs.
    """

    spread: Annotated[tuple[str, ...], Meta(min_length=2)]
    cells: str
    metric: str = "psnr"
    rules: str = "usual"


class Plugin(ClaimTest, frozen=True, kw_only=True):
    """A function judges: ``module:function``, called with the findings and the claim.

    Attributes:
        options: its further arguments, by name.
    """

    plugin: Annotated[str, Meta(pattern=r"\A[\w.]+:\w+\Z")]
    options: dict[str, Any] = {}


TESTS: Mapping[str, type[ClaimTest]] = {
    "count": Count,
    "beats": Beats,
    "within": Within,
    "rank": Rank,
    "pareto": Pareto,
    "equals": Equals,
    "gain": Gain,
    "outlier": Outlier,
    "spread": Spread,
    "plugin": Plugin,
}


class Claim(_Data, frozen=True, kw_only=True):
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
        """Return the test; None for a claim that is judged by hand."""
        if not self.test:
            return None
        kind = next((name for name in TESTS if name in self.test), "")
        _require("test", [kind or next(iter(self.test))], TESTS)
        return _converted(self.test, TESTS[kind])


class Number(_Data, frozen=True, kw_only=True):
    """A number of the running text; ``value`` is what the quotation literally says."""

    value: float | tuple[float, ...]
    where: str
    quote: str


class Ambiguity(_Data, frozen=True, kw_only=True):
    """What the text leaves open: its readings, the one the harness takes, and why."""

    key: str
    where: str
    quote: str
    question: str
    readings: tuple[str, ...]
    default: str
    evidence: str


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
        """A word that names the method: that of its model, or made from its printed name."""
        word = self.model or re.sub(r"[^\w.+-]+", "-", self.method).strip("-").lower()
        return f"{word}+" if self.self_ensemble and not word.endswith("+") else word

    @property
    def sets(self) -> list[str]:
        """The sets with a printed number, in the order of the columns."""
        return list(dict.fromkeys(dataset for dataset, _ in self.printed))


class Printed(NamedTuple):
    """A printed number, or several; where it stands, in words; and its largest rounding error."""

    value: float | tuple[float, ...]
    said: str
    rounding: float = 0.0


class Place(NamedTuple):
    """A cell of a printed table, or one of its numbers if it has a metric."""

    row: Row
    dataset: str
    metric: str


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
            row, dataset, metric = self.place(doubt.cell)
            for name in [metric] if metric else row.table.scores:
                key = (row.table.id, row.scale, row.method, dataset, name)
                if doubted.setdefault(key, doubt) is not doubt:
                    raise ValueError(f"{doubt.cell!r} is doubted twice")
        return doubted

    def network(self, method: str) -> tuple[str, bool]:
        """Return the registered network of a method, and whether it runs with self-ensemble.

        Raises:
            ValueError: the paper's ``methods`` lack it.
        """
        if method not in self.methods:
            raise ValueError(_unknown("method", method, self.methods))
        model = self.methods[method]
        return model.removesuffix("+"), model.endswith("+")

    def place(self, text: str) -> Place:
        """Find a cell: table, scale, method, set and metric in any order, with bars between.

        Table and scale may be left out where the paper has only one.

        Raises:
            ValueError: a word is none of these, or no such cell is printed.
        """
        known = {
            "table": [table.id for table in self.tables],
            "scale": [f"x{row.scale}" for row in self.rows],
            "method": [row.method for row in self.rows],
            "set": [dataset for table in self.tables for dataset in table.columns],
            "metric": [metric for table in self.tables for metric in table.scores],
        }
        found: dict[str, str] = {}
        for word in (part.strip() for part in text.split("|")):
            kind = next((kind for kind, words in known.items() if word in words), None)
            if kind is None:
                words = (word for words in known.values() for word in words)
                raise ValueError(_unknown("part of a cell", word, dict.fromkeys(words)))
            if kind in found:
                raise ValueError(f"{text!r} has two parts that are a {kind}")
            found[kind] = word
        rows = [
            row
            for row in self.rows
            if found.get("table", row.table.id) == row.table.id
            and found.get("scale", f"x{row.scale}") == f"x{row.scale}"
            and found.get("method") == row.method
            and any(
                (found.get("set"), found.get("metric", metric)) == (dataset, metric)
                for dataset, metric in row.printed
            )
        ]
        if len(rows) != 1:
            count = "no printed cell" if not rows else "several printed cells"
            raise ValueError(f"{text!r} is {count}: write table | x4 | method | set | metric")
        return Place(rows[0], found["set"], found.get("metric", ""))

    def table_of(self, test: Compare) -> Table:
        """Return the table that a test compares methods in.

        Raises:
            ValueError: there is no such table, or no row of the method.
        """
        method = test.method or self.subject
        tables = [row.table for row in self.rows if row.method == method]
        if test.table:
            tables = [table for table in tables if table.id == test.table]
        if not tables:
            raise ValueError(f"no table{' ' * bool(test.table)}{test.table} has a row {method}")
        return tables[0]

    def ablation(self, name: str = "") -> Ablation:
        """Return an ablation by its id, by default the first.

        Raises:
            ValueError: there is no such ablation.
        """
        found = [one for one in self.ablations if name in ("", one.id)]
        if not found:
            raise ValueError(_unknown("ablation", name, [one.id for one in self.ablations]))
        return found[0]

    def number(self, text: str) -> Printed:
        """Find a printed number: of a cell, of a variant of an ablation, or of the text.

        Raises:
            ValueError: there is no such number.
        """
        if text in self.numbers:
            number = self.numbers[text]
            return Printed(number.value, f"{number.where} has {number.quote!r}")
        table, _, variant = (part.strip() for part in text.partition("|"))
        for ablation in self.ablations:
            if ablation.id == table and variant in ablation.printed:
                psnr, called = ablation.printed[variant], ablation.called(variant)
                said = f"{ablation.title} has {psnr:.2f} dB for {called}"
                return Printed(psnr, said, SCORES["psnr"].rounding)
        place = self.place(text)
        if not place.metric:
            raise ValueError(f"{text!r} names no metric")
        row, dataset, metric = place
        value = row.printed[dataset, metric]
        form = score(metric, row.table.scores[metric])
        where = f"{row.method} on {title(dataset)} ({metric.upper()})"
        said = f"{row.table.title} has {form.as_printed(value)} for {where}"
        return Printed(value, said, form.rounding)


def read_paper(path: Path) -> Paper:
    """Read a paper's TOML file.

    Raises:
        UsageError: it cannot be read or has a mistake; the message names the key.
    """
    try:
        data = tomllib.loads(regular(path, TEXT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no paper file {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"The paper {path} cannot be read ({error}).") from error
    try:
        paper = _converted(data, Paper)
        for where, check in _checks(paper):
            try:
                check()
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
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
        raise ValueError(_explained(error, kind, data)) from error


def _explained(error: ValidationError, kind: type[Struct], data: Mapping[str, Any]) -> str:
    """Write an error of msgspec in plain English, with its place and the near name of a word.

    Args:
        error: what `convert` raised.
        kind: what it was to convert to.
        data: what it was to convert: a table of the TOML.
    """
    text, _, path = str(error).rstrip("`").partition(" - at `$")
    places = []
    if kind is Paper and (part := re.match(r"\.(\w+)(?:\[(\d+)\])?", path)):
        kind, path = _PARTS.get(part[1], Paper), path[part.end() :]
        places = [f"[{part[1]}]"]
        if part[2]:
            own = data[part[1]][int(part[2])]
            names = (own[key] for key in ("id", "key", "cell") if own.get(key))
            places = [f"[[{part[1]}]] {next(names, int(part[2]) + 1)}"]
    places += re.findall(r"\w+", re.sub(r"\d+", lambda index: str(int(index[0]) + 1), path))
    return f"{', '.join(places)}: " * bool(places) + _in_words(text, kind, path)


def _in_words(text: str, kind: type[Struct], path: str) -> str:
    """Write a message of msgspec in plain English."""
    if word := re.match("Object contains unknown field `([^`]*)", text):
        return _unknown("key", word[1], [one.encode_name for one in fields(kind)])
    if word := re.match("Invalid enum value '(.*)'", text):
        options = re.findall("'(.*?)'", str(get_type_hints(kind)[path.strip(".")]))
        return _unknown("value", word[1], options)
    for pattern, words in _WORDS.items():
        text = re.sub(pattern, words, text)
    return text


_WORDS = {
    r"Object missing required field `([^`]*)`?": r"the key \1 is missing",
    r".* regex .*:.*": "it must be module:function",
    r".* regex .*": "it must be a word of letters, digits, '.', '_' and '-'",
    "Number out of range": "the number is too large",
    r"of length >= (\d+)": r"of length \1 or more",
    "` >= ": "` of at least ",
    "` <= ": "` of at most ",
    "^Expected ": "it must be ",
    ", got ": ", not ",
    r" \| null": "",
    r" \| ": "` or `",
    "`str`": "text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
    "`(date|datetime|time)`": r"a \1",
}
"""What takes the place of msgspec's words, in this order."""


def _unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """Say that a word is not known, and which is near or what there is."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(words) or 'none'}"
    return f"no {kind} is called {word!r}: {hint}"


def _require(kind: str, words: Iterable[str], known: Iterable[str]) -> None:
    """Refuse words that are not known."""
    names = list(known)
    for word in words:
        if word not in names:
            raise ValueError(_unknown(kind, word, names))


def _checks(paper: Paper) -> Iterator[tuple[str, Callable[[], object]]]:
    """List the parts of a paper with a function that raises an error if they contradict others."""
    yield "[paper]", partial(paper.network, paper.subject)
    yield "[methods]", partial(_require_different, [one for one in paper.methods.values() if one])
    for table in paper.tables:
        yield f"[[table]] {table.id}", partial(_check_table, paper, table)
    for ablation in paper.ablations:
        yield f"[[ablation]] {ablation.id}", partial(_check_ablation, ablation)
    for plot in paper.plots:
        yield f"[[plot]] {plot.id}", partial(_check_plot, paper, plot)
    for doubt in paper.doubts:
        yield f"[[doubt]] {doubt.cell}", partial(paper.place, doubt.cell)
    yield "[[doubt]]", lambda: paper.doubted
    for ambiguity in paper.ambiguities:
        default = partial(_require, "reading", [ambiguity.default], ambiguity.readings)
        yield f"[[ambiguity]] {ambiguity.key}", default
    names = [table.id for table in paper.tables] + [one.id for one in paper.ablations]
    names += [plot.id for plot in paper.plots] + [claim.key for claim in paper.claims]
    yield "ids and keys", partial(_require_different, names)
    for claim in paper.claims:
        yield f"[[claim]] {claim.key}", partial(_check_claim, paper, claim)


def _require_different(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"{twice} is there twice")


def _check_table(paper: Paper, table: Table) -> None:
    _require_different(table.columns)
    if not table.lines():
        raise ValueError("there are no rows in cells")
    for _, method, _ in table.lines():
        paper.network(method)
    named: dict[tuple[int, str], str] = {}
    for row in (row for row in paper.rows if row.table is table):
        other = named.setdefault((row.scale, row.key), row.method)
        if other != row.method:
            raise ValueError(f"{other} and {row.method} at x{row.scale} are both {row.key}")
    _require("method", table.exceptions, paper.methods)
    _require("preset of rules", [table.rules], PRESETS)
    for own in table.exceptions.values():
        _require("preset of rules", [own] if isinstance(own, str) else own.values(), PRESETS)
        _require("set", [] if isinstance(own, str) else own, table.columns)


def _check_ablation(ablation: Ablation) -> None:
    _require("preset of rules", [ablation.rules], PRESETS)
    _require("variant", [ablation.whole, *ablation.titles], ablation.variants)
    for reading in ablation.readings or (ablation.columns,):
        if sorted(reading) != sorted(ablation.variants) or len(reading) != len(ablation.psnr):
            raise ValueError("variants, readings and psnr do not have the same length and names")


def _check_plot(paper: Paper, plot: Plot) -> None:
    _require("method", [*plot.parameters, *plot.readings], paper.methods)
    _require("set", [plot.set], [name for table in paper.tables for name in table.columns])
    if not any(row.scale == plot.scale and (plot.set, "psnr") in row.printed for row in paper.rows):
        raise ValueError(f"no table has a PSNR on {plot.set} at x{plot.scale}")


def _check_claim(paper: Paper, claim: Claim) -> None:
    """Refuse a test that names what the paper does not have."""
    match paper.tests[claim.key]:
        case Compare() as test:
            _check_compare(paper, test)
        case Count(about=about, at_least=least):
            if bool(about) == (least is not None):
                raise ValueError("the test count needs either about or at_least")
            rounded(1.0, about or "1")
        case Equals(equals=two):
            paper.number(two[0]), paper.number(two[1])
        case Gain(ablation=name, gain=pairs):
            ablation = paper.ablation(name)
            _require("variant", [one for pair in pairs for one in pair], ablation.variants)
        case Outlier() as outlier:
            _check_outlier(paper, outlier)
        case Spread() as spread:
            _require("preset of rules", [spread.rules], PRESETS)
            if PRESETS.keys() & set(spread.spread):
                _require("preset of rules", spread.spread, PRESETS)
            sets = [name for table in paper.tables for name in table.columns]
            _require("method or set", [spread.cells], [*paper.methods, *sets])
            scores = [name for table in paper.tables for name in table.scores]
            _require("metric", [spread.metric], scores)


def _check_compare(paper: Paper, test: Compare) -> None:
    """Refuse a comparison of rows that are not there or have no number in the same column."""
    table, method = paper.table_of(test), test.method or paper.subject
    _require("set", test.sets, table.columns)
    _require("metric", test.metrics, table.scores)
    columns: dict[str, set[tuple[int, str, str]]] = {}
    for row in (row for row in paper.rows if row.table is table):
        columns.setdefault(row.method, set()).update(
            (row.scale, dataset, metric)
            for dataset, metric in row.printed
            if metric in test.metrics and dataset in (test.sets or table.columns)
        )
    others = [*getattr(test, "beats", ()), *getattr(test, "within", ())]
    others += [lead] if (lead := getattr(test, "lead_over", "")) else []
    _require("other method", others, [one for one in columns if one != method])
    for other in others or [method]:
        if not columns[method] & columns[other]:
            raise ValueError(f"{method} and {other} have no numbers in the same column")
    if isinstance(test, Within) and (test.of is None) == (not test.lead_over):
        raise ValueError("the test within needs either of or lead_over")


def _check_outlier(paper: Paper, test: Outlier) -> None:
    row, dataset, _ = paper.place(test.outlier)
    _require("method", [test.against], paper.methods)
    shared = {
        name
        for other in paper.rows
        if (other.table, other.scale, other.method) == (row.table, row.scale, test.against)
        for name in row.sets
        if name in other.sets and other is not row
    }
    if not {dataset} < shared:
        raise ValueError(f"{test.against} has no number in this column and another of the row")


def rounded(value: float, about: str) -> tuple[float, float]:
    """Round a value to the digits of a printed number such as ``5.2M``; return both.

    Raises:
        ValueError: the text is not a number, or one with k, M or G.
    """
    match = re.fullmatch(r"(\d+)(\.\d+)?([kMG]?)", about)
    if not match:
        raise ValueError(f"{about!r} is not a number such as 4, 57.3k or 5.2M")
    unit = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}[match[3]]
    return round(value / unit, len(match[2] or ".") - 1), float(about.rstrip("kMG"))


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
