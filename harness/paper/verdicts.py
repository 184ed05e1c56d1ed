"""The rule for verdicts, and the verdict on each printed number and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import chain, product
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec import structs

from harness.data.testsets import grey_images
from harness.errors import UsageError
from harness.files import recorded_path
from harness.models.find_weights import fetch_command, official_rows, training_notes
from harness.models.published import described
from harness.models.weights import OWN_TAGS
from harness.paper.schema import SCORES, Row, Score, Table, decimals, score, title
from harness.paper.select import (
    decides,
    follows,
    is_comparable,
    measurements,
    of_another_network,
    rank,
    rule_sets,
)
from harness.protocol.rules import Protocol, lineage
from harness.registry import DATASETS, FILES, METRICS, MODELS, is_glob
from harness.run.compare import Tier
from harness.run.names import all_tags, checkpoint_of, checkpoints_called
from harness.run.provenance import command, grey_images_of
from harness.text import listed

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule, Preset
    from harness.paper.schema import Column, Compared, Doubt, Paper
    from harness.paper.select import Measurement
    from harness.record import RunRecord
    from harness.run.names import Checkpoint
    from harness.run.statistics import RunsBySet


PRINTED = Tier("as printed", 0.02, 0.001)
"""The authors' weights, or a model without weights, against the print: two decimals, measured by
others under slightly different protocols (rounding Y costs up to 0.02 dB)."""

PRINTED_TEXT = f"{PRINTED.psnr:g} dB or {PRINTED.ssim:g} of SSIM"
"""`PRINTED` in words."""

_OTHER_WEIGHTS = "other weights than the authors'"

Verdict = Literal["reproduced", "refuted", "inconsistent in print", "undecided", "not measured"]
"""The verdict on a number, a row or a claim; see `decide`."""


def decide(in_print: bool, measured: bool | None, can_refute: bool) -> Verdict:
    """Give the verdict on a number or claim: the one rule for all.

    Args:
        in_print: no other printed number contradicts it.
        measured: whether it holds as measured; None if nothing was measured.
        can_refute: what was measured can refute it: the authors' weights or images under every set
            of rules in use, or a count.
    """
    if not in_print:
        return "inconsistent in print"
    if measured is None:
        return "not measured"
    if measured:
        return "reproduced"
    return "refuted" if can_refute else "undecided"


@dataclass(frozen=True)
class Judgement:
    """A claim of the paper and its verdict.

    Attributes:
        claim: its key in the paper's file, or the row's name.
        statement: the paper's words or numbers.
        where: section or table.
        evidence: what the verdict rests on, with the figures.
        runs: ids of the run records used as evidence.
    """

    claim: str
    statement: str
    where: str
    verdict: Verdict
    evidence: str
    runs: tuple[str, ...] = ()


class Finding(NamedTuple):
    """A verdict with its evidence, not yet joined with its claim."""

    verdict: Verdict
    evidence: str
    runs: tuple[str, ...] = ()


CellStatus = Literal[Verdict, "reproduced under other rules"]
"""The verdict on a printed number; see `JudgedCell.standing`."""


@dataclass(frozen=True)
class JudgedCell:
    """A number of a table: printed, measured, or both.

    Attributes:
        row, dataset, metric: its place.
        obstacle: why the harness cannot measure the printed number; empty if it can.
        runs: of one checkpoint of this network on this set under all rules, in the order of `rank`,
            then failed ones of others; none if there is an obstacle.
        grey: the rule for grey images of the run that is shown; None for the table's own.
        doubt: what looks wrong with the printed number.
    """

    row: Row
    dataset: str
    metric: str
    obstacle: str = ""
    runs: Sequence[RunRecord] = ()
    grey: GreyRule | None = None
    doubt: Doubt | None = None

    @property
    def model(self) -> str:
        """The registered network of the row, or a word for its method."""
        return self.row.key

    @property
    def score(self) -> Score:
        """How its numbers are written."""
        return score(self.metric, self.row.table.scores[self.metric])

    @property
    def printed(self) -> float | None:
        """The number as printed; None for a network or set that the paper does not print."""
        return self.row.printed.get((self.dataset, self.metric))

    @property
    def printed_text(self) -> str:
        """The number as it stands in print; ``-`` if the paper does not print it."""
        return "-" if self.printed is None else self.score.as_printed(self.printed)

    @property
    def preset(self) -> Preset:
        """The table's rules."""
        return self.row.table.preset(self.row.method, self.dataset)

    @cached_property
    def following(self) -> list[RunRecord]:
        """The runs under the rules that are shown, finished or not."""
        preset = replace(self.preset, grey=self.grey or self.preset.grey)
        return [run for run in self.runs if follows(run, preset)]

    @cached_property
    def shown(self) -> RunRecord | None:
        """The finished run that speaks under the rules that are shown, with the metric if any."""
        finished = [run for run in self.following if run.status == "finished"]
        return max(finished, key=lambda run: self.metric in run.means, default=None)

    @property
    def failed(self) -> RunRecord | None:
        """A failed run under the rules that are shown, where none is finished."""
        return None if self.shown else next(iter(self.following), None)

    @property
    def value(self) -> float | None:
        """The mean of the run that is shown."""
        return self.shown.means.get(self.metric) if self.shown else None

    @property
    def difference(self) -> float | None:
        """Measured minus printed, where both are known."""
        value, printed = self.value, self.printed
        return None if value is None or printed is None else value - printed

    @cached_property
    def options(self) -> list[Measurement]:
        """The measurements under every set of rules, fewest departures from the table's first."""
        return measurements(self.runs, self.metric, self.preset)

    def agrees(self, one: Measurement) -> bool:
        """Whether a measurement agrees with the print, which may have few decimals."""
        if self.printed is None or not one.finite:
            return False
        tolerance = max(PRINTED.of(self.metric, self.printed), self.score.rounding)
        return abs(one.value - self.printed) <= tolerance

    @cached_property
    def measured(self) -> Measurement | None:
        """The first of the options that agree with the print; the nearest if none does."""
        printed = self.printed
        if printed is None or not self.options:
            return None
        nearest = min(self.options, key=lambda one: abs(one.value - printed))
        return next(filter(self.agrees, self.options), nearest)

    @cached_property
    def verdict(self) -> Verdict | None:
        """None without a printed number; other weights can reproduce one by reaching it.

        Weights or images of another network than the paper's decide nothing.
        """
        if self.printed is None:
            return None
        sound = self.doubt is None or self.doubt.seen != "print"
        one = self.measured
        if one is None:
            return decide(sound, None, False)
        # Of metrics other than PSNR and SSIM it is not known whether more is better.
        can_reach = self.metric in SCORES and one.finite and not decides(one.run, self.row.table)
        reaches = can_reach and one.value > self.printed
        holds = (self.agrees(one) or reaches) and not of_another_network(one.run, self.row.table)
        return decide(sound, holds, not self.unsettled)

    @property
    def standing(self) -> CellStatus | None:
        """The verdict, and whether it depends on other rules than the table's."""
        other_rules = self.verdict == "reproduced" and self.measured and self.measured.rules
        return "reproduced under other rules" if other_rules else self.verdict

    @property
    def unsettled(self) -> list[str]:
        """Why what was measured of the number cannot refute it; empty if it can."""
        rules = f"{self.tried}; not tried: {listed(self.not_tried)}"
        return [rules] * self.needs_more_rules + self.cannot_refute

    @property
    def cannot_refute(self) -> list[str]:
        """Why the runs cannot refute it under any rules."""
        runs = [one.run for one in self.options]
        for run in runs:
            if another := of_another_network(run, self.row.table):
                return [another]
            if not decides(run, self.row.table):
                images = described(run.identity) if run.identity.sr_sha256 else ""
                return [f"{images or _OTHER_WEIGHTS} cannot refute it"]
        published = [run.verified or run.identity.dataset not in grey_images() for run in runs]
        reasons = {
            "the score of an image is infinite": not all(one.finite for one in self.options),
            "the images are not the published ones": not all(published),
        }
        return [reason for reason, holds in reasons.items() if holds]

    @property
    def needs_more_rules(self) -> bool:
        """Whether the authors' weights or images were measured, but not under all rules in use."""
        runs = [one.run for one in self.options]
        authors = all(decides(run, self.row.table) for run in runs)
        return bool(runs) and authors and bool(self.not_tried)

    @property
    def tried(self) -> str:
        """How many sets of rules in use were measured, such as ``2 of 4 rule sets tried``."""
        left = [rules for rules in self._in_use if rules not in self._tried]
        return f"{len(self._in_use) - len(left)} of {len(self._in_use)} rule sets tried"

    @property
    def not_tried(self) -> list[str]:
        """The rules in use that no measurement follows; else the combinations without any."""
        left = [rules for rules in self._in_use if rules not in self._tried]
        new = dict.fromkeys(word for word in chain(*left) if word not in chain(*self._tried))
        own = ["the table's own rules"] * (() in left)
        return [*own, *new] or [" with ".join(rules) for rules in left]

    @cached_property
    def _in_use(self) -> list[tuple[str, ...]]:
        first = next(iter(self.options), None)
        return rule_sets(first.run, self.metric, self.preset) if first else []

    @cached_property
    def _tried(self) -> set[tuple[str, ...]]:
        return {one.rules for one in self.options}


@dataclass(frozen=True)
class JudgedRow:
    """A row of a table with its cells."""

    row: Row
    cells: tuple[JudgedCell, ...]

    @property
    def sets_shown(self) -> frozenset[str]:
        """The sets with a finished run under the rules that are shown."""
        return frozenset(cell.dataset for cell in self.cells if cell.shown)


Network = tuple[str, int, bool]
"""A model, its scale, and whether it ran with self-ensemble."""

_RESULTS = Table(id="results", title="Results", columns=(), cells="")
"""A table of runs that no paper prints."""


@dataclass(frozen=True)
class Evidence:
    """What verdicts rest on: the runs and the printed numbers.

    A row of a table is about one checkpoint: its numbers are never of several.

    Attributes:
        runs: the output of `Records.table`.
        paper: the paper; None for tables of the runs alone.
        rules: the rule for grey images of all runs that are shown; None for each table's own.
        weights_of: checkpoints that get rows before others, such as ``mine:a`` or ``mine:*``.

    Raises:
        UsageError: no checkpoint has a name in ``weights_of``.
    """

    runs: pd.DataFrame
    paper: Paper | None
    rules: GreyRule | None = None
    weights_of: Sequence[str] = ()

    def __post_init__(self) -> None:
        for word, found in zip(self.weights_of, self._chosen, strict=True):
            if not found:
                names = [
                    f"{model}:{tags[0]}" for (model, *_), tags in self._tags.items() if tags[0]
                ]
                model = word.partition(":")[0].lower()
                known = [name for name in names if name.lower().startswith(f"{model}:")] or names
                raise UsageError(
                    f"No run has the weights {word}: there are runs of "
                    f"{listed(sorted(set(known))) or 'no weights'}."
                )

    @cached_property
    def _counted(self) -> list[tuple[RunRecord, str]]:
        """The comparable runs of networks with default arguments, with their sets, by `rank`."""
        records = self.runs.get("record", ())
        sets = dict(zip(map(id, records), self.runs.get("dataset", ()), strict=True))
        runs = (run for run in records if is_comparable(run) and not run.identity.hyper)
        return [(run, sets[id(run)]) for run in rank(runs)]

    @cached_property
    def _by_checkpoint(self) -> dict[Network, dict[Checkpoint, dict[str, list[RunRecord]]]]:
        """The same runs by network, checkpoint and set."""
        found: dict[Network, dict[Checkpoint, dict[str, list[RunRecord]]]] = {}
        for run, dataset in self._counted:
            identity = run.identity
            network = (identity.model, identity.scale, identity.self_ensemble)
            by_set = found.setdefault(network, {}).setdefault(checkpoint_of(run), {})
            by_set.setdefault(dataset, []).append(run)
        return found

    @cached_property
    def _tags(self) -> dict[Checkpoint, list[str]]:
        """See `all_tags`."""
        return all_tags(run for run, _ in self._counted)

    @cached_property
    def checkpoints(self) -> dict[Network, list[Checkpoint]]:
        """The checkpoints of each network; the first one is that of the network's row.

        It is the first of ``weights_of``; else the authors' weights, or images that they published;
        else the one with the most numbers in the tables; else the first in the order of `rank`. One
        without any number comes last.
        """
        return {
            network: sorted(found, key=partial(self._preference, network), reverse=True)
            for network, found in self._by_checkpoint.items()
        }

    def _preference(self, network: Network, checkpoint: Checkpoint) -> tuple[int, bool, int, int]:
        runs = [run for runs in self._by_checkpoint[network][checkpoint].values() for run in runs]
        ranks = (
            decides(run, row.table) * (2 - bool(run.identity.sr_sha256))
            for run, row in product(runs, self._rows_of(network))
        )
        authors = max(ranks, default=0)  # a paper may have no tables
        numbers = self._numbers[network, checkpoint]
        return -self._place(checkpoint), numbers > 0, authors, numbers

    def _place(self, checkpoint: Checkpoint) -> int:
        """The place of the word in ``weights_of`` that names a checkpoint; behind all if none."""
        places = (place for place, found in enumerate(self._chosen) if checkpoint in found)
        return next(places, len(self.weights_of))

    @cached_property
    def _chosen(self) -> list[list[Checkpoint]]:
        """The checkpoints that each word of ``weights_of`` names."""
        return [checkpoints_called(word, self._tags) for word in self.weights_of]

    @cached_property
    def _numbers(self) -> dict[tuple[Network, Checkpoint], int]:
        """Count the numbers of the tables that each checkpoint has under any rule in use.

        The rule for grey images of what is shown does not matter: it changes no verdict.
        """
        return {
            (network, checkpoint): sum(
                bool(cell.options)
                for row in self._rows_of(network)
                for cell in self._judged(row, by_set).cells
            )
            for network, checkpoints in self._by_checkpoint.items()
            for checkpoint, by_set in checkpoints.items()
        }

    def _rows_of(self, network: Network) -> Iterator[Row]:
        """Yield the row of a network in each table, the printed one if there is one."""
        rows = self.paper.rows if self.paper else ()
        for table in self.tables:
            own = (row for row in rows if row.table is table and _network(row) == network)
            yield next(own, None) or self._unprinted(table, network)

    def row_of(self, model: str, scale: int) -> Row:
        """Return the row of a network: one that is printed, else one for its runs."""
        network = (model, scale, False)
        rows = [*self._rows_of(network)] or [self._unprinted(_RESULTS, network)]
        return max(rows, key=lambda row: bool(row.printed))

    def _unprinted(
        self, table: Table, network: Network, checkpoint: Checkpoint | None = None
    ) -> Row:
        """Make a row for a network that a table does not print, or for one checkpoint of it."""
        model, scale, ensemble = network
        tag = self._tags[checkpoint][0] if checkpoint else ""
        name = self.names.get(model, model) + f":{tag}" * bool(tag) + "+" * ensemble
        in_paper = self.paper is not None and model in self.paper.models
        return Row(table, scale, name, model, ensemble, {}, tag, in_paper)

    @cached_property
    def _rows_of_runs(self) -> dict[Network, dict[str, list[RunRecord]]]:
        """The runs for each network's row: those of its first checkpoint, by set.

        Failed runs of the others follow, so that no failure is hidden.
        """
        found: dict[Network, dict[str, list[RunRecord]]] = {}
        for network, (first, *others) in self.checkpoints.items():
            by_checkpoint = self._by_checkpoint[network]
            by_set = {dataset: [*runs] for dataset, runs in by_checkpoint[first].items()}
            for dataset, runs in chain.from_iterable(by_checkpoint[one].items() for one in others):
                if failed := [run for run in runs if run.status != "finished"]:
                    by_set.setdefault(dataset, []).extend(failed)
            found[network] = by_set
        return found

    @cached_property
    def by_cell(self) -> dict[tuple[str, str, int, bool], list[RunRecord]]:
        """The runs for the row of each network, by model, set, scale and self-ensemble."""
        return {
            (model, dataset, scale, ensemble): runs
            for (model, scale, ensemble), by_set in self._rows_of_runs.items()
            for dataset, runs in by_set.items()
        }

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The paper's tables; without a paper, one of all sets and metrics that have runs."""
        if self.paper:
            return self.paper.tables
        ran = {dataset for _, dataset in self._counted}
        columns = dict.fromkeys(name for name in [*DATASETS, *sorted(ran)] if name in ran)
        scores = {name: one.printed for name, one in SCORES.items()} | self._further_scores()
        return (structs.replace(_RESULTS, columns=tuple(columns), scores=scores),)

    def _further_scores(self) -> dict[str, int]:
        """Return the decimals of the metrics besides PSNR and SSIM that have runs."""
        means: dict[str, list[float]] = {}
        for run, _ in self._counted:
            for metric in run.means.keys() - SCORES if run.status == "finished" else ():
                means.setdefault(metric, []).append(run.means[metric])
        return {metric: decimals(means[metric]) for metric in sorted(means)}

    @cached_property
    def rows(self) -> tuple[JudgedRow, ...]:
        """The rows of all tables by scale: the printed ones, then those that only runs have."""
        rows: list[JudgedRow] = []
        for table in self.tables:
            printed = [row for row in self.paper.rows if row.table is table] if self.paper else []
            judged = [
                self._judged(row, self._rows_of_runs.get(_network(row), {})) for row in printed
            ]
            own = {_network(one.row): one for one in judged}
            for network in sorted(self.checkpoints, key=lambda network: (network[1], network)):
                if network in own:
                    judged += self._others(table, network, own[network])
                elif self._has_place(table, network, {row.scale for row in printed}):
                    of = self.checkpoints[network][0] if self._is_ambiguous(network) else None
                    first = self._judged(
                        self._unprinted(table, network, of), self._rows_of_runs[network]
                    )
                    judged += [first, *self._others(table, network, first)]
            rows += sorted(judged, key=lambda one: one.row.scale)
        return tuple(rows)

    def _has_place(self, table: Table, network: Network, scales: Set[int]) -> bool:
        """Whether a table gets a row for a network that it does not print."""
        model, scale, ensemble = network
        has_runs = any((model, one, scale, ensemble) in self.by_cell for one in table.columns)
        # A paper prints a row of its own for self-ensemble, or none.
        is_alike = not self.paper or (scale in scales and not ensemble)
        return has_runs and is_alike and not table.obstacle(scale)

    def _is_ambiguous(self, network: Network) -> bool:
        """Whether several checkpoints of a model at a scale have numbers in the tables."""
        return (
            len({one for (_, one), n in self._numbers.items() if n and one[:2] == network[:2]}) > 1
        )

    def _others(self, table: Table, network: Network, first: JudgedRow) -> Iterator[JudgedRow]:
        """Yield the rows of checkpoints that have a set which no row above has, or were named."""
        shown = first.sets_shown
        for checkpoint in self.checkpoints[network][1:]:
            row = self._unprinted(table, network, checkpoint)
            judged = self._judged(row, self._by_checkpoint[network][checkpoint])
            named = self._place(checkpoint) < len(self.weights_of)
            if judged.sets_shown and (named or judged.sets_shown - shown):
                shown |= judged.sets_shown
                yield judged

    def _judged(self, row: Row, by_set: Mapping[str, Sequence[RunRecord]]) -> JudgedRow:
        doubts = self.paper.doubted if self.paper else {}
        cells = []
        for dataset, metric in product(row.table.columns, row.table.scores):
            runs = by_set.get(dataset, ())
            obstacle = _obstacle(row, dataset, metric, runs)
            doubt = doubts.get((row.table.id, row.scale, row.method, dataset, metric))
            runs = () if obstacle else runs
            cells.append(JudgedCell(row, dataset, metric, obstacle, runs, self.rules, doubt))
        return JudgedRow(row, tuple(cells))

    def runs_named(self, word: str) -> dict[int, dict[str, RunsBySet]]:
        """List the runs that a name stands for, by scale, checkpoint and set.

        ``mine`` is the checkpoint of the network's row, ``mine:a`` one checkpoint, ``mine:seed*``
        several; a ``+`` at the end stands for self-ensemble.

        Raises:
            UsageError: a name that is no glob stands for several checkpoints.
        """
        name = word.rstrip("+").lower()
        called = checkpoints_called(name, self._tags)
        found: dict[int, dict[str, RunsBySet]] = {}
        for network, checkpoints in self.checkpoints.items():
            model, scale, ensemble = network
            if word.endswith("+") != ensemble:
                continue
            for checkpoint in checkpoints:
                tag = self._tags[checkpoint][0]
                is_row = checkpoint == checkpoints[0] and (
                    name == model.lower() if tag else fnmatchcase(model.lower(), name)
                )
                if is_row or checkpoint in called:
                    own = (f"{model}:{tag}" if tag else model) + "+" * ensemble
                    found.setdefault(scale, {})[own] = self._by_checkpoint[network][checkpoint]
        return found

    def left_out(self, models: Sequence[str] = ("*",)) -> Iterator[str]:
        """Yield a sentence for each network whose checkpoints are not all shown in the tables.

        Networks that only have checkpoints of the authors and of this project are skipped, and
        those of which the user chose one.

        Args:
            models: names or globs of the networks.
        """
        for network, checkpoints in self.checkpoints.items():
            model, scale, ensemble = network
            tags = [self._tags[one] for one in checkpoints if self._numbers[network, one]]
            shown = {one.row.tag for one in self.rows if _network(one.row) == network}
            names = [one[0] for one in tags]
            seen = [name for name in names if name in {*names[:1], *shown}]
            own = any(not {*OWN_TAGS, "images"} & {*one} for one in tags)
            chosen = self._place(checkpoints[0]) < len(self.weights_of)
            named = any(fnmatchcase(model.lower(), word.lower()) for word in models)
            if own and named and not chosen and len(seen) < len(names):
                other = next(name for name in names if name not in seen)
                yield (
                    f"{model}{'+' * ensemble} has {len(names)} checkpoints at x{scale} "
                    f"({', '.join(names)}); shown: {', '.join(seen)}. Others are shown with "
                    f"--weights-of {model}:{other}, all with --weights-of '{model}:*'."
                )

    def spelling(self, word: str) -> str:
        """Return the name in tables of the checkpoint that a name stands for, else the name."""
        found = [] if is_glob(word) else checkpoints_called(word.rstrip("+"), self._tags)
        names = {f"{one[0]}:{self._tags[one][0]}" + "+" * word.endswith("+") for one in found}
        return names.pop() if len(names) == 1 else word

    @property
    def names(self) -> Mapping[str, str]:
        """See `Paper.names`; empty without a paper."""
        return self.paper.names if self.paper else {}

    @property
    def cells(self) -> tuple[JudgedCell, ...]:
        """All printed numbers with their verdicts, row by row."""
        return tuple(cell for row in self.rows for cell in row.cells if cell.printed is not None)

    def cells_of(self, compared: Compared, method: str) -> dict[Column, JudgedCell]:
        """Return a method's cells in the columns that are compared."""
        return {
            column: cell
            for cell in self.cells
            if cell.row.table is compared.table and cell.row.method == method
            if (column := (cell.row.scale, cell.dataset, cell.metric)) in compared.numbers[method]
        }

    def with_self_ensemble(self, cell: JudgedCell) -> JudgedCell:
        """Return a cell with the runs of its network with self-ensemble in place of its own."""
        row = replace(cell.row, self_ensemble=True)
        runs = self.by_cell.get((row.model, cell.dataset, row.scale, True), [])
        return replace(cell, row=row, runs=runs)

    def run(
        self, model: str, dataset: str, scale: int, preset: Preset, self_ensemble: bool = False
    ) -> RunRecord | None:
        """Return the run of a network that speaks under a preset."""
        runs = self.by_cell.get((model, dataset, scale, self_ensemble), ())
        done = (run for run in runs if run.status == "finished" and follows(run, preset))
        return next(done, None)


def _network(row: Row) -> Network:
    return row.model, row.scale, row.self_ensemble


def _obstacle(row: Row, dataset: str, metric: str, runs: Sequence[RunRecord]) -> str:
    """Say why the harness cannot measure a number; empty if it can, has, or none is printed."""
    reason = row.table.obstacle(row.scale)
    if reason or (dataset, metric) not in row.printed:
        return reason
    if row.scale not in (2, 3, 4):
        return f"the harness makes LR images for x2, x3 and x4, not for x{row.scale}"
    if any(run.status == "finished" and metric in run.means for run in runs):
        return ""
    if metric not in METRICS:
        return f"the harness has no metric {metric}: add it as a plug-in"
    if dataset not in DATASETS:
        return f"the harness has no test set {dataset}: add it as a plug-in"
    return ""


def judge_row(judged: JudgedRow, name: str) -> Judgement:
    """Judge a row from its cells; numbers that contradict other printed ones do not count."""
    row = judged.row
    cells = [cell for cell in judged.cells if cell.printed is not None]
    sound = {cell.verdict for cell in cells} - {"inconsistent in print"}
    known = sound - {"not measured"}
    holds = known == {"reproduced"} if known else None
    verdict = decide(bool(sound), holds, "refuted" in known)
    numbers = [
        f"{title(dataset)} {'/'.join(one.printed_text for one in cells if one.dataset == dataset)}"
        for dataset in row.sets
    ]
    text = f"{row.method}: {', '.join(numbers)}"
    runs = [cell.measured.run if cell.measured else cell.failed for cell in cells]
    ids = tuple(dict.fromkeys(run.identity.id for run in runs if run))
    return Judgement(name, text, row.table.title, verdict, _evidence(row, cells), ids)


def _evidence(row: Row, cells: Sequence[JudgedCell]) -> str:
    measured = [cell for cell in cells if cell.measured]
    sentences = [_agreement(measured)] if measured else []
    reasons: dict[str, list[JudgedCell]] = {}
    for cell in cells:
        if not cell.measured:
            reason = cell.failed.error if cell.failed else cell.obstacle
            reasons.setdefault(reason, []).append(cell)
    sets = {cell.dataset for cell in measured}
    for reason, others in reasons.items():
        names = [_name(one) if one.dataset in sets else title(one.dataset) for one in others]
        because = f" ({reason})" if reason else ""
        sentences.append(f"Not measured: {listed(list(dict.fromkeys(names)))}{because}.")
    if "" in reasons and not measured:
        sentences.append(_how_to_measure(row))
    return " ".join(sentences)


def _agreement(cells: Sequence[JudgedCell]) -> str:
    """Say how many measured numbers are reproduced, which are not, and which need other rules."""
    reproduced = sum(cell.verdict == "reproduced" for cell in cells)
    weights = dict.fromkeys(
        made_with(cell.measured.run, cell.row.table) for cell in cells if cell.measured
    )
    text = (
        f"Measured {listed(list(weights))}: {reproduced} of {len(cells)} numbers on "
        f"{_sets(cells)} are reproduced (tolerance: {PRINTED_TEXT})"
    )
    others = [_comparison(cell) for cell in cells if cell.standing != "reproduced"]
    undecided = [cell for cell in cells if cell.verdict == "undecided"]
    reasons = dict.fromkeys(reason for cell in undecided for reason in cell.cannot_refute)
    open_rules = [cell for cell in undecided if cell.needs_more_rules]
    if words := dict.fromkeys(word for cell in open_rules for word in cell.not_tried):
        reasons[f"not tried: {listed(list(words))}"] = None
    return " ".join(["; ".join([text, *others, *reasons]) + ".", *how_to_settle(open_rules)])


def how_to_settle(cells: Sequence[JudgedCell]) -> list[str]:
    """Name the command that runs cells of one row under the rules not tried; none without cells."""
    if not cells:
        return []
    runs = [cell.options[0].run for cell in cells]
    plugins = {name: facts for run in runs for name, facts in run.plugins.items()}
    sets = list(dict.fromkeys(run.identity.dataset for run in runs))
    run = replace(runs[0], plugins=plugins)
    words = command(run, datasets=sets, all_rules_of=cells[0].preset)
    # A record of an earlier version is reused otherwise, and does not say which images are grey.
    again = any(grey_images_of(run) is None for run in runs)
    return [f"To settle it: {words}{' --force' * again}."]


def made_with(run: RunRecord, table: Table) -> str:
    """Say whose weights or images a run has, such as ``with the authors' weights``.

    ``table`` has the numbers that it was measured for.
    """
    if run.identity.sr_sha256:
        return f"on {described(run.identity)}"
    if run.weights is None:
        return "without weights"
    if decides(run, table):
        return "with the authors' weights"
    if of_another_network(run, table):
        return "with weights of another network"
    return f"with other weights than the authors' ({training_notes(run)})"


def _comparison(cell: JudgedCell) -> str:
    """Write a number's verdict, such as ``PSNR of Set14 27.900 for 28.02 (refuted)``."""
    assert cell.measured
    value = cell.score.as_measured(cell.measured.value)
    rules = f" under {cell.measured.rules_text}" if cell.measured.rules else ""
    open_rules = cell.verdict == "undecided" and cell.needs_more_rules
    verdict = f"{cell.verdict}, {cell.tried}" if open_rules else cell.verdict
    return f"{_name(cell)} {value} for {cell.printed_text}{rules} ({verdict})"


def _name(cell: JudgedCell) -> str:
    return f"{cell.metric.upper()} of {title(cell.dataset)}"


def _sets(cells: Sequence[JudgedCell]) -> str:
    return listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))


def _how_to_measure(row: Row) -> str:
    if not row.model:
        return "The paper's file names no network for it: add one as a plug-in."
    try:
        card = MODELS.get(row.model)
    except UsageError as error:
        return f"{error} Other networks come from plug-ins (--plugin FILE)."
    network = f"{row.model} --scale {row.scale}"
    preset = row.table.preset(row.method, row.sets[0])
    rules = Protocol(card.pipeline, row.scale, preset.border, preset.grey)  # type: ignore[arg-type]
    file = FILES.get(MODELS.origin(row.model))
    plugin = f" --plugin {recorded_path(file)}" if file else ""
    run = f"harness run --models {network}{plugin}" + " --self-ensemble" * row.self_ensemble
    if rules != Protocol(card.pipeline, row.scale):
        like = lineage(rules)
        run += f" --like {like}" if like else f" --grey {rules.grey} --border {rules.border}"
    if card.params == 0:
        return f"To measure it: {run}."
    if official := official_rows(card, row.scale):
        note = official[0]["note"]
        of_others = f" These weights are of {note}." if note else ""
        return f"To measure it: {fetch_command(card, row.scale)}, then {run}.{of_others}"
    own = "The harness knows no weights of the authors. To measure others"
    return f"{own}: harness train {network}{plugin}, then {run}."
