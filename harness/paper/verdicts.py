"""The rule for verdicts, and the verdict on each printed number and row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.errors import UsageError
from harness.models.cost import (
    convolution_shapes,
    measure_complexity,
    measure_depth,
    receptive_radius,
)
from harness.models.find_weights import official_rows, training_notes
from harness.paper.schema import SCORES, Row, Score, Table, listed, score, title
from harness.paper.select import (
    WHOLE,
    follows,
    measured_under,
    measurements,
    of_published_images,
    runs_by_cell,
    speaks_for_the_authors,
    weights_rank,
    without_grey,
)
from harness.protocol.rules import USUAL_GREY, Preset, protocol
from harness.registry import DATASETS, METRICS, MODELS
from harness.run.compare import Tier

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule, ModelCard
    from harness.models.cost import Complexity, Depth
    from harness.paper.schema import Doubt, Paper
    from harness.paper.select import CellKey, Measurement
    from harness.record import RunRecord


PRINTED = Tier("as printed", 0.02, 0.001)
"""The authors' weights, or a model without weights, against the print: two decimals, measured by
others under slightly different protocols (rounding Y costs up to 0.02 dB)."""

PRINTED_TEXT = f"{PRINTED.psnr:g} dB or {PRINTED.ssim:g} of SSIM"
"""`PRINTED` in words."""

OTHER_WEIGHTS = "other weights than the authors'"
"""Weights of which it is not known who trained them, in words."""

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
        obstacle: why the harness cannot measure the printed number; empty if it can.
        runs: of this network and set under all rules, those that speak first; none if there is an
            obstacle.
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
        return score(self.metric, self.row.table.scores.get(self.metric, 4))

    @property
    def printed(self) -> float | None:
        """The number as printed; None for a network or set that the paper does not print."""
        return self.row.printed.get((self.dataset, self.metric))

    @cached_property
    def following(self) -> list[RunRecord]:
        """The runs under the rules that are shown, finished or not."""
        own = self.row.table.preset(self.row.method, self.dataset)
        preset = replace(own, grey=self.grey or own.grey)
        return [run for run in self.runs if follows(run, preset)]

    @cached_property
    def shown(self) -> RunRecord | None:
        """The finished run that speaks under the rules that are shown, with the metric if any."""
        finished = [run for run in self.following if run.status == "finished"]
        with_metric = (run for run in finished if self.metric in run.means)
        return next(with_metric, next(iter(finished), None))

    @property
    def failed(self) -> RunRecord | None:
        """The latest failed run under these rules, where none is finished."""
        return _latest_failed(self.following)

    @property
    def broken(self) -> RunRecord | None:
        """The latest failed run, where none is finished under any rules."""
        return _latest_failed(self.runs)

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
        preset = self.row.table.preset(self.row.method, self.dataset)
        finished = [run for run in self.runs if run.status == "finished"]
        return measurements(finished, self.metric, preset)

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
        """None without a printed number; other weights can reproduce one by reaching it."""
        if self.printed is None:
            return None
        sound = self.doubt is None or self.doubt.seen != "print"
        if self.measured is None:
            return decide(sound, None, False)
        one = self.measured
        # Other weights reach a number by more of it; of other metrics it is not known whether
        # more is better.
        can_reach = self.metric in SCORES and one.finite and not speaks_for_the_authors(one.run)
        reaches = can_reach and one.value > self.printed
        return decide(sound, self.agrees(one) or reaches, not unsettled([self]))

    @property
    def standing(self) -> CellStatus | None:
        """The verdict, and whether it depends on other rules than the table's."""
        other_rules = self.verdict == "reproduced" and self.measured and self.measured.rules
        return "reproduced under other rules" if other_rules else self.verdict

    @property
    def untried(self) -> set[str]:
        """The rules in use under which the authors' weights were not run: each can be its rule.

        There are none for other weights, which are compared under the table's rules alone.
        """
        if self.measured is None or not speaks_for_the_authors(self.measured.run):
            return set()
        pipeline = protocol(self.measured.run.identity.protocol).pipeline
        # The other border of imresize changes 0.002 to 0.004 dB, less than the tolerance: a run
        # with it may agree, and none is needed.
        needed = {"luma not rounded" if pipeline == "y" else "LR images not rounded"}
        needed |= {WHOLE} if self.metric == "ssim" else set()
        tried = {word for one in self.options for word in one.rules}
        if not without_grey(self.measured.run) and not any("grey" in word for word in tried):
            needed.add("the other rule for grey images")
        if self.options[0].rules:
            needed.add("the table's own rules")
        return needed - tried


def unsettled(cells: Iterable[JudgedCell]) -> list[str]:
    """Say why what was measured of some numbers cannot refute them; empty if it can."""
    cells = list(cells)
    options = [one for cell in cells for one in cell.options]
    untried = sorted({word for cell in cells for word in cell.untried})
    tags = {one.run.weights.tag for one in options if one.run.weights} - {"official"}
    weights = "weights trained with less" if tags == {"repro"} else OTHER_WEIGHTS
    reasons = {
        f"not tried: {listed(untried)}": untried,
        "the score of an image is infinite": not all(one.finite for one in options),
        "the images are not the published ones": not all(
            of_published_images(one.run) for one in options
        ),
        f"{weights} cannot refute the row": tags,
    }
    return [reason for reason, holds in reasons.items() if holds]


def _latest_failed(runs: Iterable[RunRecord]) -> RunRecord | None:
    """Return the last of the failed runs, None if one is finished."""
    ordered = sorted(runs, key=lambda one: (one.provenance.get("utc", ""), one.identity.id))
    if any(run.status == "finished" for run in ordered):
        return None
    return ordered[-1] if ordered else None


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
        cells = []
        for dataset, metric in product(row.table.columns, row.table.scores):
            runs = self.by_cell.get((row.model, dataset, row.scale, row.self_ensemble), [])
            obstacle = _obstacle(row, dataset, metric, runs)
            doubt = self.doubts.get((row.table.id, row.scale, row.method, dataset, metric))
            runs = [] if obstacle else runs
            cells.append(JudgedCell(row, dataset, metric, obstacle, runs, self.rules, doubt))
        return JudgedRow(row, tuple(cells))

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

    def run(
        self, model: str, dataset: str, scale: int, preset: Preset, self_ensemble: bool = False
    ) -> RunRecord | None:
        """Return the run of a network that speaks under a preset."""
        runs = self.by_cell.get((model, dataset, scale, self_ensemble), ())
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
    """Judge a row from its cells."""
    row = judged.row
    cells = [cell for cell in judged.cells if cell.printed is not None]
    found = _measured(cells) if any(cell.measured for cell in cells) else _not_run(row, cells)
    # Numbers that contradict other printed ones do not count.
    sound = [cell.verdict for cell in cells if cell.verdict != "inconsistent in print"]
    known = [verdict for verdict in sound if verdict != "not measured"]
    holds = all(verdict == "reproduced" for verdict in known) if known else None
    verdict = decide(bool(sound), holds, "refuted" in known)
    numbers = [
        f"{title(dataset)} {'/'.join(_printed(cell) for cell in cells if cell.dataset == dataset)}"
        for dataset in row.sets
    ]
    return Judgement(name, f"{row.method}: {', '.join(numbers)}", row.table.title, verdict, *found)


def _printed(cell: JudgedCell) -> str:
    return cell.score.as_printed(cell.printed or 0.0)


def _not_run(row: Row, cells: Sequence[JudgedCell]) -> tuple[str, tuple[str, ...]]:
    """Say why a row was not measured, and name its failed runs."""
    broken = {cell.dataset: cell.broken for cell in cells if cell.broken}
    if broken:
        reasons = [f"on {title(name)} ({run.error.rstrip('.')})" for name, run in broken.items()]
        ids = tuple(run.identity.id for run in broken.values())
        return f"Its run failed {listed(reasons)}.", ids
    if all(cell.obstacle for cell in cells):
        text = "; ".join(dict.fromkeys(cell.obstacle for cell in cells))
        return f"{text[0].upper()}{text[1:]}.", ()
    return _how_to_measure(row), ()


def _how_to_measure(row: Row) -> str:
    if not row.model:
        return "The harness has no network of this name: add one as a plug-in."
    try:
        card = MODELS.get(row.model)
    except UsageError as error:
        return f"{error} Other networks come from plug-ins (--plugin FILE)."
    at = f" --scale {row.scale}" if row.scale != 4 else ""  # the default of the command line
    sets: dict[str, list[str]] = {}
    for name in row.sets:
        sets.setdefault(_options(row, name), []).append(name)
    options = [
        f"{at}{words}" + f" --datasets {','.join(names)}" * (len(sets) > 1)
        for words, names in sets.items()
    ]
    runs = listed([f"harness run --models {row.model}{words}" for words in options])
    if card.params == 0:
        return f"It has no weights: run {runs}."
    if official_rows(card, row.scale):
        return (
            f"Get the authors' weights (harness weights fetch {row.model}{at}, or put the file "
            f"under a root of HARNESS_WEIGHTS) and run {runs}."
        )
    files = listed([f"harness run --weights {row.model}=FILE{words}" for words in options])
    return (
        f"No authors' weights of it at x{row.scale} are known to the harness: train it (harness "
        f"train {row.model}{at}) or name a file ({files})."
    )


def _options(row: Row, dataset: str) -> str:
    """Write the options of ``harness run`` for what is unusual about a row on a set."""
    preset = row.table.preset(row.method, dataset)
    own = USUAL_GREY[MODELS.get(row.model).pipeline]
    words = {
        " --self-ensemble": row.self_ensemble,
        f" --border {preset.border}": preset.border != Preset().border,
        f" --grey {preset.grey}": preset.grey not in (None, own),
    }
    return "".join(word for word, needed in words.items() if needed)


def _measured(cells: Sequence[JudgedCell]) -> tuple[str, tuple[str, ...]]:
    """Say how many cells of a row agree, under which rules, and which do not; name their runs."""
    measured = [cell for cell in cells if cell.measured]
    runs = {cell.measured.run.identity.id: cell.measured.run for cell in cells if cell.measured}
    official = all(map(speaks_for_the_authors, runs.values()))
    agree = [cell for cell in measured if cell.verdict == "reproduced"]
    outside = [cell for cell in measured if cell.verdict != "reproduced"]
    parts = [
        f"{_made_with(runs.values())}, {len(agree)} of {len(measured)} numbers on "
        f"{_sets(measured)} {'agree' if official else 'are reached'} within {PRINTED.psnr:g} dB / "
        f"{PRINTED.ssim:g}{_other_rules(agree)}"
    ]
    parts += _one_set_of_rules(measured)
    if outside:
        parts.append(f"outside: {listed(list(map(_gap, outside)))}")
    parts += unsettled(cell for cell in outside if cell.verdict == "undecided")
    sentences = ["; ".join(parts)]
    if missing := [cell for cell in cells if not (cell.measured or cell.broken)]:
        reasons = "; ".join(dict.fromkeys(cell.obstacle for cell in missing if cell.obstacle))
        sentences.append(f"Not measured: {_sets(missing)}" + f" ({reasons})" * bool(reasons))
    if broken := [cell for cell in cells if cell.broken]:
        sentences.append(f"Failed: {_sets(broken)}")
    return f"{'. '.join(sentences)}.", tuple(runs)


_KINDS = {"official": "the authors' weights", "repro": "weights trained here"}
"""Kinds of weights in words; all others are `OTHER_WEIGHTS`."""


def _made_with(runs: Iterable[RunRecord]) -> str:
    """Say which weights gave the numbers."""
    budgets: dict[str, set[str]] = {}
    for run in sorted(runs, key=weights_rank):
        if run.weights:
            found = budgets.setdefault(_KINDS.get(run.weights.tag, OTHER_WEIGHTS), set())
            found |= set() if speaks_for_the_authors(run) else {str(training_notes(run))}
    names = [f"{kind} ({listed(sorted(of))})" if of else kind for kind, of in budgets.items()]
    return f"With {listed(names)}" if names else "Computed again"


def _other_rules(agree: Iterable[JudgedCell]) -> str:
    """Name the numbers that agree under other rules than the table's, in brackets."""
    by_rules: dict[str, list[str]] = {}
    for cell in agree:
        if cell.measured and cell.measured.rules:
            by_rules.setdefault(cell.measured.rules_text, []).append(_name(cell))
    texts = [f"{listed(names)} under {rules}" for rules, names in by_rules.items()]
    return f" ({'; '.join(texts)})" if texts else ""


def _one_set_of_rules(cells: Sequence[JudgedCell]) -> list[str]:
    """Name the one set of rules under which more of a row agrees than under the table's, if any.

    With separate rules for each number, some would agree by chance.
    """

    def agreeing(rules: tuple[str, ...]) -> int:
        found = [(cell, measured_under(cell.options, rules)) for cell in cells]
        return sum(one is not None and cell.agrees(one) for cell, one in found)

    every = {one.rules for cell in cells for one in cell.options}
    best = max(sorted(every, key=lambda rules: (len(rules), rules)), key=agreeing)
    if agreeing(best) == agreeing(()):
        return []
    return [f"under one set of rules ({', '.join(best)}) {agreeing(best)} do"]


def _sets(cells: Sequence[JudgedCell]) -> str:
    return listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))


def _name(cell: JudgedCell) -> str:
    return f"{cell.metric.upper()} of {title(cell.dataset)}"


def _gap(cell: JudgedCell) -> str:
    """Write a measured and a printed number, such as ``PSNR of Set14 27.900 for 28.02``."""
    assert cell.measured
    rules = f" ({cell.measured.rules_text})" if cell.measured.rules else ""
    value = cell.score.as_measured(cell.measured.value)
    return f"{_name(cell)} {value} for {_printed(cell)}{rules}"
