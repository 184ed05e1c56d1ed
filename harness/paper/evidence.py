"""The evidence of verdicts: the runs that fill the rows of a paper's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import chain, product
from typing import TYPE_CHECKING

from msgspec import structs

from harness.errors import UsageError
from harness.models.find_weights import training_notes
from harness.paper.schema import SCORES, Row, Table, decimals
from harness.paper.select import decides, follows, is_by_the_authors, is_comparable, rank
from harness.paper.verdicts import JudgedCell, JudgedRow
from harness.registry import DATASETS, METRICS, is_glob
from harness.run.names import all_tags, checkpoint_of, checkpoints_called
from harness.text import listed

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule, Preset
    from harness.paper.schema import Column, Compared, Paper
    from harness.record import RunRecord
    from harness.run.names import Checkpoint
    from harness.run.statistics import RunsBySet


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
            by_set = found.setdefault(_network_of(run), {}).setdefault(checkpoint_of(run), {})
            by_set.setdefault(dataset, []).append(run)
        return found

    @cached_property
    def _tags(self) -> dict[Checkpoint, list[str]]:
        """See `all_tags`."""
        return all_tags(run for run, _ in self._counted)

    @property
    def tags_of_runs(self) -> dict[str, str]:
        """The tags that tables give to the weights of the runs in them, by the runs' ids."""
        return {run.identity.id: self._tags[checkpoint_of(run)][0] for run, _ in self._counted}

    @property
    def names_of_runs(self) -> dict[str, tuple[str, str]]:
        """What tables of runs call their networks and sets, by the runs' ids."""
        return {
            run.identity.id: (self._word(_network_of(run), checkpoint_of(run)), dataset)
            for run, dataset in self._counted
        }

    def _word(self, network: Network, checkpoint: Checkpoint) -> str:
        """Return what `Row.word` is for a checkpoint: with its tag, if there are several."""
        tagged = checkpoint if network[:2] in self._ambiguous else None
        return self._unprinted(_RESULTS, network, tagged).word

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
                    of = self.checkpoints[network][0] if network[:2] in self._ambiguous else None
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

    @cached_property
    def _ambiguous(self) -> set[tuple[str, int]]:
        """The models and scales with several checkpoints that have numbers in the tables."""
        shown = {checkpoint for (_, checkpoint), count in self._numbers.items() if count}
        count = Counter((model, scale) for model, scale, _ in shown)
        return {place for place, number in count.items() if number > 1}

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
        called = checkpoints_called(word, self._tags)
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

    def left_out(self, models: Collection[str] = ("*",)) -> Iterator[str]:
        """Yield a sentence for each network whose checkpoints are not all shown in the tables.

        Networks that only have checkpoints of their authors and those whose training notes the
        harness ships are skipped, and those of which the user chose one.

        Args:
            models: names or globs of the networks.
        """
        for network, checkpoints in self.checkpoints.items():
            model, scale, ensemble = network
            with_numbers = [one for one in checkpoints if self._numbers[network, one]]
            shown = {one.row.tag for one in self.rows if _network(one.row) == network}
            names = [self._tags[one][0] for one in with_numbers]
            seen = [name for name in names if name in {*names[:1], *shown}]
            own = any(self._is_own(network, one) for one in with_numbers)
            chosen = self._place(checkpoints[0]) < len(self.weights_of)
            named = any(fnmatchcase(model.lower(), word.lower()) for word in models)
            if own and named and not chosen and len(seen) < len(names):
                other = next(name for name in names if name not in seen)
                yield (
                    f"{model}{'+' * ensemble} has {len(names)} checkpoints at x{scale} "
                    f"({', '.join(names)}); shown: {', '.join(seen)}. To see another one: "
                    f"--weights-of {model}:{other}."
                )

    def _is_own(self, network: Network, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is the user's: neither its authors' nor one with shipped notes."""
        run = next(chain.from_iterable(self._by_checkpoint[network][checkpoint].values()))
        return not (is_by_the_authors(run) or training_notes(run).key)

    def spelling(self, word: str) -> str:
        """Return the name in tables of the checkpoint that a name stands for, else the name."""
        found = [] if is_glob(word) else checkpoints_called(word, self._tags)
        names = {
            self._word((model, scale, word.endswith("+")), (model, scale, sha256))
            for model, scale, sha256 in found
        }
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


def _network_of(run: RunRecord) -> Network:
    return run.identity.model, run.identity.scale, run.identity.self_ensemble


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
