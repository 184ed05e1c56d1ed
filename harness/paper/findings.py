"""What is found about a paper, computed once: every report is a view of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from harness.errors import MismatchError, UsageError
from harness.paper.ablations import MeasuredAblation, broken_variants, measured_ablations
from harness.paper.claims import judge_ablation, judge_claim
from harness.paper.select import speaks_for_the_authors
from harness.paper.verdicts import Evidence, Judgement, Verdict, judge_row
from harness.paper.vocabulary import Beats, Within
from harness.run.statistics import Interval, compare_runs

if TYPE_CHECKING:
    from harness.paper.schema import Ablation, Table
    from harness.paper.verdicts import JudgedCell
    from harness.record import RunRecord


@dataclass(frozen=True)
class JudgedAblation:
    """A printed ablation with its measurements.

    Attributes:
        measured: by training budget, the most complete first.
        verdicts: by variant.
        broken: the variants whose runs all failed.
    """

    ablation: Ablation
    measured: tuple[MeasuredAblation, ...]
    verdicts: Mapping[str, Verdict]
    broken: frozenset[str]


@dataclass(frozen=True)
class Difference:
    """The difference of PSNR (dB) between two rows of a table on one set.

    Attributes:
        better, worse: the methods; the difference is the first minus the second.
        printed: as printed.
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
        """The verdict on every claim of the paper, then on every row of its tables."""
        if self.paper is None:
            return ()
        claims = [
            judge_claim(claim, self.paper.tests[claim.key], self) for claim in self.paper.claims
        ]
        printed = [one for one in self.rows if one.row.printed]
        return (*claims, *(judge_row(one, self.paper.row_name(one.row)) for one in printed))

    @cached_property
    def ablations(self) -> tuple[JudgedAblation, ...]:
        """The paper's ablations."""
        printed = self.paper.ablations if self.paper else ()
        return tuple(
            JudgedAblation(
                one,
                measured_ablations(self.runs, one, self.rules),
                judge_ablation(self, one),
                broken_variants(self.runs, one, self.rules),
            )
            for one in printed
        )

    def differences(self, table: Table) -> list[Difference]:
        """Compare neighbours by printed PSNR among the measured rows, then pairs that claims name.

        Rows with other weights than the authors' are not compared.
        """
        columns: dict[tuple[int, str], list[JudgedCell]] = {}
        for cell in self.cells:
            if cell.row.table is table and cell.metric == "psnr":
                columns.setdefault((cell.row.scale, cell.dataset), []).append(cell)
        places = sorted(columns, key=lambda place: (place[0], table.columns.index(place[1])))
        return [one for place in places for one in self._differences(*place, columns[place])]

    def _differences(
        self, scale: int, dataset: str, cells: Sequence[JudgedCell]
    ) -> list[Difference]:
        """Compare the cells of one column."""
        printed = {cell.row.method: cell.printed or 0.0 for cell in cells}
        runs = {
            cell.row.method: cell.shown
            for cell in cells
            if cell.shown and speaks_for_the_authors(cell.shown)
        }
        ordered = sorted(runs, key=lambda method: -printed[method])
        argued = [pair for pair in self.argued if printed.keys() >= set(pair)]
        neighbours = dict.fromkeys(pairwise(ordered))
        pairs = [*neighbours, *(one for one in argued if not {one, one[::-1]} & neighbours.keys())]
        intervals = {
            pair: _interval(runs[pair[0]], runs[pair[1]])
            for pair in pairs
            if runs.keys() >= set(pair)
        }
        widths = [interval.half_width for interval in intervals.values() if interval]
        typical = median(widths) if widths else None
        found = []
        for better, worse in pairs:
            interval = intervals.get((better, worse))
            apart = round(printed[better] - printed[worse], 6)
            width = interval.half_width if interval else typical
            found.append(Difference(scale, dataset, better, worse, apart, interval, width))
        return found

    @cached_property
    def argued(self) -> tuple[tuple[str, str], ...]:
        """The pairs of methods that the paper's claims compare, the better in print first."""
        pairs: dict[tuple[str, str], None] = {}
        for test in self.paper.tests.values() if self.paper else ():
            if isinstance(test, Within | Beats):
                subject = test.method or self.paper.subject  # type: ignore[union-attr]
                ahead = [test.lead_over] if isinstance(test, Within) and test.lead_over else []
                ahead += test.beats if isinstance(test, Beats) else ()
                behind = test.within if isinstance(test, Within) else ()
                named = [*((subject, one) for one in ahead), *((one, subject) for one in behind)]
                pairs |= dict.fromkeys(pair for pair in named if pair[::-1] not in pairs)
        return tuple(pairs)


def _interval(better: RunRecord, worse: RunRecord) -> Interval | None:
    """Measure a difference; None where the two runs cannot be compared."""
    try:
        return compare_runs(better, worse)
    except (MismatchError, UsageError):  # other images, or too few
        return None
