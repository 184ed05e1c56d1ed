"""The rule for verdicts, and the verdict on each printed number and row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.data.pinned import pinned_rows
from harness.data.testsets import sets_without_grey
from harness.models.cost import (
    convolution_shapes,
    measure_complexity,
    measure_depth,
    receptive_radius,
)
from harness.models.find_weights import training_notes
from harness.paper.schema import SCORES, Row, Score, Table, listed, score, title
from harness.paper.select import (
    WHOLE,
    Measurement,
    follows,
    measured_under,
    measurements,
    runs_by_cell,
    speaks_for_the_authors,
)
from harness.paper.tolerances import PRINTED
from harness.protocol.rules import Preset, protocol
from harness.registry import DATASETS, METRICS, MODELS

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule, ModelCard
    from harness.models.cost import Complexity, Depth
    from harness.paper.schema import Doubt, Paper
    from harness.paper.select import CellKey
    from harness.record import RunRecord


Verdict = Literal["reproduced", "refuted", "inconsistent in print", "undecided", "not measured"]
"""``reproduced``: measured, and it holds; ``refuted``: it does not, with the authors' weights under
every rule in use, or by counting; ``inconsistent in print``: other printed numbers contradict it;
``undecided``: measured, but what was measured can neither confirm nor refute it."""


def decide(in_print: bool, measured: bool | None, can_refute: bool) -> Verdict:
    """Give the verdict on a number or claim: the one rule for all.

    Args:
        in_print: no other printed number contradicts it.
        measured: whether it holds as measured; None if nothing was measured.
        can_refute: what was measured can refute it.
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
        claim: short key, such as ``parameters``.
        statement: the paper's words or numbers.
        where: section or table.
        verdict: see `Verdict`.
        evidence: one to three sentences with the figures.
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
        printed: as printed; None for a network or set that the paper does not print.
        shown: the run under the rules that are shown; None if there is none.
        failed: the latest failed run under these rules, where none is finished.
        options: the measurements under every set of rules, fewest departures first.
        measured: among the options that agree with the print, the first; the nearest if none does.
        verdict: None without a printed number.
        broken: the latest failed run, where none is finished under any rules.
        obstacle: why the harness cannot measure it; empty if it can.
        doubt: what looks wrong with the printed number.
    """

    row: Row
    dataset: str
    metric: str
    printed: float | None
    shown: RunRecord | None = None
    failed: RunRecord | None = None
    options: tuple[Measurement, ...] = ()
    measured: Measurement | None = None
    verdict: Verdict | None = None
    broken: RunRecord | None = None
    obstacle: str = ""
    doubt: Doubt | None = None

    @property
    def model(self) -> str:
        """The registered network of the row, or a word for its method."""
        return self.row.key

    @property
    def score(self) -> Score:
        """How its numbers are written."""
        return score(self.metric, self.row.table.scores.get(self.metric, 4))

    @property
    def value(self) -> float | None:
        """The mean of the run that is shown."""
        return self.shown.means.get(self.metric) if self.shown else None

    @property
    def difference(self) -> float | None:
        """Measured minus printed, where both are known."""
        both = self.value is not None and self.printed is not None
        return self.value - self.printed if both else None  # type: ignore[operator]

    def agrees(self, one: Measurement) -> bool:
        """Whether a measurement agrees with the print, which may have few decimals."""
        if self.printed is None:
            return False
        tolerance = max(PRINTED.of(self.metric, self.printed), self.score.rounding)
        return abs(one.value - self.printed) <= tolerance

    @property
    def standing(self) -> CellStatus | None:
        """The verdict, and whether it depends on other rules than the table's."""
        other_rules = self.verdict == "reproduced" and self.measured and self.measured.rules
        return "reproduced under other rules" if other_rules else self.verdict


@dataclass(frozen=True)
class JudgedRow:
    """A row of a table with its cells."""

    row: Row
    cells: tuple[JudgedCell, ...]

    def of(self, metric: str) -> list[JudgedCell]:
        """Return the cells of a metric."""
        return [cell for cell in self.cells if cell.metric == metric]


@dataclass(frozen=True)
class Evidence:
    """What verdicts rest on: the runs, the printed numbers, and counts of the networks.

    Attributes:
        runs: the output of `Records.table`.
        paper: the paper; None for tables of the runs alone.
        rules: the rule for grey images of all runs that are shown; None for each table's own.

    The methods that count on a network raise `UsageError` if none is registered under the name.
    """

    runs: pd.DataFrame
    paper: Paper | None
    rules: GreyRule | None = None

    @cached_property
    def by_cell(self) -> dict[CellKey, list[RunRecord]]:
        """See `runs_by_cell`."""
        return runs_by_cell(self.runs)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The paper's tables; without a paper, one of all sets that have runs."""
        if self.paper:
            return self.paper.tables
        sets = dict.fromkeys(dataset for _, dataset, *_ in self.by_cell)
        known = [name for name in DATASETS if name in sets]
        columns = (*known, *sorted(sets.keys() - set(known)))
        return (Table(id="results", title="Results", columns=columns, cells=""),)

    @cached_property
    def rows(self) -> tuple[JudgedRow, ...]:
        """The rows of all tables: the printed ones, then networks that only runs have."""
        printed = list(self.paper.rows) if self.paper else []
        rows = []
        for table in self.tables:
            of_table = [row for row in printed if row.table is table]
            scales = {row.scale for row in of_table} or {scale for _, _, scale, _ in self.by_cell}
            for scale in sorted(scales):
                of_scale = [row for row in of_table if row.scale == scale]
                rows += [*of_scale, *self._others(table, scale, of_scale)]
        return tuple(map(self._judged, rows))

    def _others(self, table: Table, scale: int, printed: Sequence[Row]) -> list[Row]:
        """Make rows for the networks that have runs at a scale and no printed row."""
        if table.obstacle(scale):  # the runs have other LR images or another border
            return []
        taken = {(row.model, row.self_ensemble) for row in printed}
        ran = {
            (model, ensemble)
            for model, dataset, run_scale, ensemble in self.by_cell
            # A paper prints a row of its own for self-ensemble, or none.
            if dataset in table.columns and run_scale == scale and not (self.paper and ensemble)
        }
        return [
            Row(table, scale, self.names.get(model, model) + "+" * ensemble, model, ensemble, {})
            for model, ensemble in sorted(ran - taken)
        ]

    def _judged(self, row: Row) -> JudgedRow:
        cells = [
            self._cell(row, dataset, metric)
            for dataset in row.table.columns
            for metric in row.table.scores
        ]
        return JudgedRow(row, tuple(cells))

    def _cell(self, row: Row, dataset: str, metric: str) -> JudgedCell:
        printed = row.printed.get((dataset, metric))
        doubt = self.doubts.get((row.table.id, row.scale, row.method, dataset, metric))
        cell = JudgedCell(row, dataset, metric, printed, doubt=doubt)
        preset = row.table.preset(row.method, dataset)
        runs = self._runs(row, dataset)
        finished = [run for run in runs if run.status == "finished"]
        following = self.following(row, dataset)
        ran = any(metric in run.means for run in finished)
        obstacle = _obstacle(cell, ran) if printed is not None else ""
        if not obstacle:
            done = [run for run in following if run.status == "finished"]
            cell = replace(
                cell,
                shown=done[0] if done else None,
                failed=None if done else _latest(following),
                options=tuple(measurements(finished, metric, preset)),
                broken=None if finished else _latest(runs),
            )
        return _judge(replace(cell, obstacle=obstacle)) if printed is not None else cell

    def _runs(self, row: Row, dataset: str) -> list[RunRecord]:
        key = (row.model, dataset, row.scale, row.self_ensemble)
        return self.by_cell.get(key, [])

    def following(self, row: Row, dataset: str) -> list[RunRecord]:
        """List the runs of a cell under the rules that are shown."""
        own = row.table.preset(row.method, dataset)
        shown = Preset(self.rules or own.grey, own.border)
        return [run for run in self._runs(row, dataset) if follows(run, shown)]

    @cached_property
    def doubts(self) -> Mapping[tuple[str, int, str, str, str], Doubt]:
        """See `Paper.doubted`."""
        return self.paper.doubted if self.paper else {}

    @property
    def names(self) -> Mapping[str, str]:
        """See `Paper.names`; empty without a paper."""
        return self.paper.names if self.paper else {}

    @property
    def cells(self) -> tuple[JudgedCell, ...]:
        """All printed numbers with their verdicts, row by row."""
        return tuple(cell for row in self.rows for cell in row.cells if cell.printed is not None)

    def run(self, model: str, dataset: str, scale: int, preset: Preset) -> RunRecord | None:
        """Return the run of a network that speaks under a preset, without self-ensemble."""
        runs = self.by_cell.get((model, dataset, scale, False), ())
        done = (run for run in runs if run.status == "finished" and follows(run, preset))
        return next(done, None)

    def shown(self, scale: int) -> dict[tuple[str, str], RunRecord]:
        """Return the runs that reports show at a scale, by model and set, without self-ensemble.

        On sets of the tables they are those of the cells; on others, those under the usual rules.
        """
        rows = [one for one in self.rows if one.row.scale == scale and not one.row.self_ensemble]
        cells = [((cell.model, cell.dataset), cell.shown) for one in rows for cell in one.cells]
        runs = {place: run for place, run in reversed(cells) if run}  # the first table's
        tabled = dict(cells).keys()
        for model, dataset, run_scale, ensemble in self.by_cell:
            if run_scale == scale and not ensemble and (model, dataset) not in tabled:
                run = self.run(model, dataset, scale, Preset(self.rules))
                runs |= {(model, dataset): run} if run else {}
        return runs

    def complexity(self, model: str, scale: int) -> Complexity:
        """Count the size and work of a network."""
        return _once(measure_complexity, MODELS.get(model), scale)

    def depth(self, model: str, scale: int) -> Depth:
        """Count the layers of a network."""
        return _once(measure_depth, MODELS.get(model), scale)

    def receptive_radius(self, model: str, scale: int) -> int:
        """Count the LR pixels to each side that convolutions can carry to an output pixel."""
        card = MODELS.get(model)
        pixels = _once(receptive_radius, card, scale)
        return -(-pixels * card.input_scale(scale) // scale)

    def convolutions(self, model: str, scale: int) -> Counter[tuple[int, int, int]]:
        """Count the convolutions of a network by input width, output width and kernel side."""
        return Counter(_once(convolution_shapes, MODELS.get(model), scale))


@cache
def _once(count: Callable[..., Any], card: ModelCard, scale: int) -> Any:
    """Count once per process: counting takes half a second if the cache on disk has no result."""
    return count(card, scale, {})


def _latest(runs: Iterable[RunRecord]) -> RunRecord | None:
    """Return the last of the failed runs, None if one is finished."""
    ordered = sorted(runs, key=lambda one: (one.provenance.get("utc", ""), one.identity.id))
    if any(run.status == "finished" for run in ordered):
        return None
    return ordered[-1] if ordered else None


def _obstacle(cell: JudgedCell, ran: bool) -> str:
    """Say why the harness cannot measure a printed number; empty if it can, or has done so."""
    if reason := cell.row.table.obstacle(cell.row.scale):
        return reason
    if cell.row.scale not in (2, 3, 4):
        return f"the harness makes LR images for x2, x3 and x4, not for x{cell.row.scale}"
    if cell.metric not in METRICS and not ran:
        return f"the harness has no metric {cell.metric}: add it as a plug-in"
    if cell.dataset not in DATASETS and not ran:
        return f"the harness has no test set {cell.dataset}: add it as a plug-in"
    return ""


def _judge(cell: JudgedCell) -> JudgedCell:
    """Judge a printed number; weights trained here can reproduce it by reaching it."""
    printed, options = cell.printed, cell.options
    assert printed is not None
    sound = cell.doubt is None or cell.doubt.seen != "print"
    if not options:
        return replace(cell, verdict=decide(sound, None, False))

    nearest = min(options, key=lambda one: abs(one.value - printed))
    best = next(filter(cell.agrees, options), nearest)
    official = speaks_for_the_authors(best.run)
    holds = cell.agrees(best) or (not official and best.value > printed)
    can_refute = official and _untried(cell) == set()
    return replace(cell, measured=best, verdict=decide(sound, holds, can_refute))


def _untried(cell: JudgedCell) -> set[str]:
    """List the rules in use under which a number was not measured: each can be its rule."""
    pipeline = protocol(cell.options[0].run.identity.protocol).pipeline
    needed = {"luma not rounded" if pipeline == "y" else "LR images not rounded"}
    needed |= {WHOLE} if cell.metric == "ssim" else set()
    tried = {word for one in cell.options for word in one.rules}
    if cell.dataset not in sets_without_grey() and not any("grey" in word for word in tried):
        needed.add("the other rule for grey images")
    return needed - tried


def row_name(row: Row, tables: Iterable[Row]) -> str:
    """Name a row as a claim: ``table2-drfn``, or ``table2-x2-drfn`` if there are several scales."""
    scales = {other.scale for other in tables if other.table is row.table}
    return "-".join([row.table.id, *([f"x{row.scale}"] if len(scales) > 1 else []), row.key])


def judge_row(judged: JudgedRow, name: str) -> Judgement:
    """Judge a row from its cells."""
    row = judged.row
    cells = [cell for cell in judged.cells if cell.printed is not None]
    numbers = ", ".join(f"{title(name)} {_printed(cells, name)}" for name in row.sets)
    runs = {cell.measured.run.identity.id: cell.measured.run for cell in cells if cell.measured}
    if not runs:
        finding = _not_run(row, cells)
    elif all(map(speaks_for_the_authors, runs.values())):
        finding = Finding(_together(cells), _measured_again(cells))
    else:
        finding = Finding(_together(cells), _trained_here(cells, list(runs.values())))
    ids = finding.runs or tuple(runs)
    statement = f"{row.method}: {numbers}"
    return Judgement(name, statement, row.table.title, finding.verdict, finding.evidence, ids)


def _printed(cells: Sequence[JudgedCell], dataset: str) -> str:
    of_set = [cell for cell in cells if cell.dataset == dataset]
    return "/".join(cell.score.as_printed(cell.printed or 0.0) for cell in of_set)


def _together(cells: Sequence[JudgedCell]) -> Verdict:
    """Join the verdicts of cells that were measured; those that contradict print do not count."""
    verdicts = {cell.verdict for cell in cells if cell.measured}
    if "refuted" in verdicts:
        return "refuted"
    return "undecided" if "undecided" in verdicts else "reproduced"


def _not_run(row: Row, cells: Sequence[JudgedCell]) -> Finding:
    broken = {cell.dataset: cell.broken for cell in cells if cell.broken}
    obstacles = list(dict.fromkeys(cell.obstacle for cell in cells if cell.obstacle))
    if broken:
        reasons = [f"on {title(name)} ({run.error.rstrip('.')})" for name, run in broken.items()]
        ids = tuple(run.identity.id for run in broken.values())
        return Finding("not measured", f"Its run failed {listed(reasons)}.", ids)
    if all(cell.obstacle for cell in cells):
        text = "; ".join(obstacles)
        return Finding("not measured", f"{text[0].upper()}{text[1:]}.")
    return Finding("not measured", _how_to_measure(row))


def _how_to_measure(row: Row) -> str:
    model = row.model
    if model not in MODELS:
        return "The harness has no network of this name: add one as a plug-in."
    if MODELS.get(model).params == 0:
        return f"It has no weights: run harness run --models {model}."
    if any(known["model"] == model for known in pinned_rows("weights")):
        return (
            f"Put the authors' weights under a root of HARNESS_WEIGHTS and run harness run "
            f"--models {model}."
        )
    return (
        f"No authors' weights of it are known to the harness: train it (harness train {model}) or "
        f"name a file (harness run --weights {model}=FILE)."
    )


def _one_set_of_rules(cells: Sequence[JudgedCell]) -> str:
    """Describe the one set of rules under which more of a row agrees than under the table's.

    Empty if there is none. With separate rules for each number, some would agree by chance.
    """

    def gaps(rules: tuple[str, ...]) -> list[tuple[str, float]]:
        pairs = [(cell, measured_under(cell.options, rules)) for cell in cells]
        return [
            (cell.metric, abs(one.value - (cell.printed or 0.0)))
            for cell, one in pairs
            if one and cell.agrees(one)
        ]

    def fit(rules: tuple[str, ...]) -> tuple[int, float]:
        return len(gaps(rules)), -sum(gap / PRINTED.of(metric) for metric, gap in gaps(rules))

    best = max(sorted({one.rules for cell in cells for one in cell.options}), key=fit)
    if len(gaps(best)) == len(gaps(())):
        return ""
    largest: dict[str, float] = {}
    for metric, gap in sorted(gaps(best), key=lambda entry: entry[1]):
        largest[metric] = gap
    within = [
        f"{name.upper()} {score.as_measured(largest[name])}"
        for name, score in SCORES.items()
        if name in largest
    ]
    return (
        f"; under one set of rules ({', '.join(best)}) {len(gaps(best))} do, the farthest "
        f"{listed(within)} off"
    )


def _measured_again(cells: Sequence[JudgedCell]) -> str:
    """Describe a row measured with the authors' weights, or with a method without weights."""
    measured = [cell for cell in cells if cell.measured]
    agree = [cell for cell in measured if cell.verdict == "reproduced"]
    disagree = [cell for cell in measured if cell.verdict != "reproduced"]
    weights = any(cell.measured and cell.measured.run.weights for cell in measured)
    how = "With the authors' weights" if weights else "Computed again"
    text = (
        f"{how}, {len(agree)} of {len(measured)} numbers on {_sets(measured)} agree within "
        f"{PRINTED.psnr:g} dB / {PRINTED.ssim:g}"
    )
    by_rules: dict[str, list[str]] = {}
    for cell in agree:
        if cell.measured and cell.measured.rules:
            by_rules.setdefault(cell.measured.rules_text, []).append(_name(cell))
    if by_rules:
        rules = [f"{listed(names)} under {rule}" for rule, names in by_rules.items()]
        text += f" ({'; '.join(rules)})"
    text += _one_set_of_rules(measured)
    if disagree:
        text += f"; outside: {listed([_gap(cell) for cell in disagree])}"
    open_rules = {
        word for cell in disagree if cell.verdict == "undecided" for word in _untried(cell)
    }
    if open_rules:
        text += f"; not tried: {listed(sorted(open_rules))}"
    for word, missing in (
        ("Not measured", [cell for cell in cells if not (cell.measured or cell.broken)]),
        ("Failed", [cell for cell in cells if cell.broken]),
    ):
        text += f". {word}: {_sets(missing)}" if missing else ""
        obstacles = dict.fromkeys(cell.obstacle for cell in missing if cell.obstacle)
        text += f" ({'; '.join(obstacles)})" if obstacles else ""
    return f"{text}."


def _trained_here(cells: Sequence[JudgedCell], runs: Sequence[RunRecord]) -> str:
    """Describe a row measured with other weights than the authors'."""
    scores = [
        f"{cell.score.as_printed(cell.measured.value)} of {cell.score.as_printed(cell.printed)} dB "
        f"on {title(cell.dataset)}"
        for cell in cells
        if cell.measured and cell.printed is not None and cell.metric == "psnr"
    ]
    budgets = listed(sorted({str(training_notes(run)) for run in runs}))
    text = f"With weights trained here ({budgets}) it gives {listed(scores)}"
    if _together(cells) == "reproduced":
        return f"{text}."
    return f"{text}; weights trained with less cannot refute the row."


def _sets(cells: Sequence[JudgedCell]) -> str:
    return listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))


def _name(cell: JudgedCell) -> str:
    return f"{cell.metric.upper()} of {title(cell.dataset)}"


def _gap(cell: JudgedCell) -> str:
    one = cell.measured
    rules = f" ({one.rules_text})" if one and one.rules else ""
    value = cell.score.as_measured(one.value) if one else ""
    return f"{_name(cell)} {value} for {cell.score.as_printed(cell.printed or 0.0)}{rules}"
