"""What is found about a paper, computed once: every report is a view of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations, pairwise, product
from operator import itemgetter
from statistics import median
from typing import TYPE_CHECKING

from harness.errors import MismatchError, UsageError
from harness.paper.ablations import JudgedAblation, judge_ablation
from harness.paper.claims import judge_claim, place_of, place_of_row
from harness.paper.evidence import Evidence
from harness.paper.select import decides
from harness.paper.verdicts import Judgement, judge_row
from harness.paper.vocabulary import Beats, Within
from harness.run.statistics import Interval, compare_runs

if TYPE_CHECKING:
    from harness.paper.schema import Table
    from harness.record import RunRecord


@dataclass(frozen=True)
class Difference:
    """The difference of PSNR (dB) between two rows of a table on one set.

    Attributes:
        interval: measured over the images; None where the runs cannot be compared or are missing.
        half_width: half the interval's length, else the set's median; None where nothing was
            measured.
    """

    scale: int
    dataset: str
    better: str
    worse: str
    printed: float
    interval: Interval | None
    half_width: float | None


@dataclass(frozen=True)
class Findings(Evidence):
    """The runs, the paper, and all that follows from them, each computed when it is first used."""

    @cached_property
    def claims(self) -> tuple[Judgement, ...]:
        """The verdicts on every claim of the paper and every row of its tables, by weight."""
        return tuple(map(self.judge, self.claim_names))

    @property
    def claim_names(self) -> tuple[str, ...]:
        """The keys of the claims and the names of the rows, those of most weight first."""
        return tuple(self._judges)

    def judge(self, name: str) -> Judgement:
        """Judge one of `claim_names`, when it is first asked for."""
        if name not in self._verdicts:
            self._verdicts[name] = self._judges[name]()
        return self._verdicts[name]

    @cached_property
    def _verdicts(self) -> dict[str, Judgement]:
        return {}

    @cached_property
    def _judges(self) -> Mapping[str, Callable[[], Judgement]]:
        """What judges each claim and row, in the order of `place_of`, then in that of the file."""
        paper = self.paper
        if paper is None:
            return {}
        placed: list[tuple[int, str, Callable[[], Judgement]]] = []
        for claim in paper.claims:
            test = paper.tests[claim.key]
            judge = partial(judge_claim, claim, test, self)
            placed.append((place_of(paper, test), claim.key, judge))
        for one in self.rows:
            if one.row.printed:
                name = paper.row_name(one.row)
                placed.append((place_of_row(paper, one.row), name, partial(judge_row, one, name)))
        return {name: judge for _, name, judge in sorted(placed, key=itemgetter(0))}

    @cached_property
    def ablations(self) -> tuple[JudgedAblation, ...]:
        """The paper's ablations."""
        if self.paper is None:
            return ()
        return tuple(judge_ablation(self.runs, self.paper, one) for one in self.paper.ablations)

    def differences(self, table: Table) -> list[Difference]:
        """Compare neighbours by printed PSNR among the measured rows, then pairs that claims name.

        Rows with other weights than the authors' are not compared.
        """
        if self.paper is None:
            return []
        subject = self.paper.subject
        tests = [test for test in self.paper.tests.values() if isinstance(test, Beats | Within)]
        argued = {frozenset((test.method or subject, one)) for test in tests for one in test.others}
        scales = sorted({row.scale for row in self.paper.rows if row.table is table})
        places = product(scales, table.columns)
        return [one for place in places for one in self._differences(table, *place, argued)]

    def _differences(
        self, table: Table, scale: int, dataset: str, argued: Set[frozenset[str]]
    ) -> list[Difference]:
        """Compare the cells of one column."""
        place = (scale, dataset, "psnr")
        printed: dict[str, float] = {}
        runs: dict[str, RunRecord] = {}
        for cell in self.cells:
            row = cell.row
            if row.table is table and (row.scale, cell.dataset, cell.metric) == place:
                printed[row.method] = row.printed[dataset, "psnr"]
                if cell.shown and decides(cell.shown, table):
                    runs[row.method] = cell.shown
        order = sorted(printed, key=printed.__getitem__, reverse=True)
        neighbours = pairwise(method for method in order if method in runs)
        named = [pair for pair in combinations(order, 2) if frozenset(pair) in argued]
        intervals: dict[tuple[str, str], Interval | None] = dict.fromkeys([*neighbours, *named])
        for better, worse in intervals:
            if better in runs and worse in runs:
                with suppress(MismatchError, UsageError):  # other images, or too few
                    intervals[better, worse] = compare_runs(runs[better], runs[worse])
        widths = [interval.half_width for interval in intervals.values() if interval]
        typical = median(widths) if widths else None
        found = []
        for (better, worse), interval in intervals.items():
            apart = round(printed[better] - printed[worse], 6)
            width = interval.half_width if interval else typical
            found.append(Difference(scale, dataset, better, worse, apart, interval, width))
        return found
