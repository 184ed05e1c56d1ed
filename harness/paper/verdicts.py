"""The rule for verdicts, and the verdict on each printed number and row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.data.testsets import grey_images
from harness.errors import UsageError
from harness.files import recorded_path
from harness.models.find_weights import fetch_command, official_rows, training_notes
from harness.models.published import described
from harness.paper.schema import SCORES, Row, Score, Table, score, title
from harness.paper.select import GREY, decides, follows, measurements, of_another_network, rule_sets
from harness.protocol.rules import Protocol, lineage, protocol
from harness.registry import FILES, MODELS
from harness.run.compare import Tier
from harness.run.provenance import command, grey_images_of
from harness.text import listed

if TYPE_CHECKING:
    from harness.cards import GreyRule, Preset
    from harness.paper.schema import Doubt
    from harness.paper.select import Measurement
    from harness.record import RunRecord


PRINTED = Tier("as printed", 0.02, 0.001)
"""The authors' weights, or a model without weights, against the print: two decimals, measured by
others under slightly different protocols (rounding Y costs up to 0.02 dB)."""

BORDER = Tier("border of imresize", 0.01, 0.0001)
"""What the border of imresize can change at most, which is not among the rules in use: up to
0.006 dB and 0.00005 of SSIM were seen on Set5 and Set14. A miss within it refutes nothing."""

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
        return one.finite and self._excess(one) <= 0

    def _excess(self, one: Measurement) -> float:
        """By how much a measurement misses the print beyond the tolerance; negative within it."""
        if self.printed is None:
            return math.inf
        return abs(one.value - self.printed) - self.tolerance

    @property
    def tolerance(self) -> float:
        """`PRINTED`, which holds for the usual decimals; print with fewer is rounded more."""
        tolerance = PRINTED.of(self.metric, self.printed or 0.0)
        if self.metric not in SCORES:
            return max(tolerance, self.score.rounding)
        usual = SCORES[self.metric].rounding
        return tolerance + max(0.0, self.score.rounding - usual)

    def upholds(self, one: Measurement) -> bool:
        """Whether a measurement reproduces the print: other weights than the authors' by reaching.

        Weights or images of another network than the paper's decide nothing.
        """
        # Of metrics other than PSNR and SSIM it is not known whether more is better.
        can_reach = self.metric in SCORES and one.finite and not decides(one.run, self.row.table)
        reaches = can_reach and self.printed is not None and one.value > self.printed
        return (self.agrees(one) or reaches) and not of_another_network(one.run, self.row.table)

    def under(self, rules: Set[str]) -> Measurement | None:
        """Return the measurement under those of some rules that matter to the number, if any."""
        return self._by_rules.get(frozenset(rules & self.rules_known))

    @cached_property
    def _by_rules(self) -> dict[frozenset[str], Measurement]:
        return {frozenset(one.rules): one for one in self.options}

    @cached_property
    def rules_known(self) -> frozenset[str]:
        """The rules other than the table's that the number may follow or was measured under."""
        return frozenset(chain(*self._in_use, *self._tried))

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
        """None without a printed number."""
        if self.printed is None:
            return None
        sound = self.doubt is None or self.doubt.seen != "print"
        one = self.measured
        if one is None:
            return decide(sound, None, False)
        return decide(sound, self.upholds(one), not self.unsettled)

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
        near = BORDER.of(self.metric, 0.0) if self._leaves_border_open else 0.0
        reasons = {
            "another border of imresize could change it by as much as it misses the tolerance": any(
                0 < self._excess(one) <= near for one in self.options
            ),
            "the score of an image is infinite": not all(one.finite for one in self.options),
            "the images are not the published ones": not all(published),
        }
        return [reason for reason, holds in reasons.items() if holds]

    @property
    def _leaves_border_open(self) -> bool:
        """Whether LR images were made here with one border only."""
        runs = [one.run.identity for one in self.options]
        borders = {protocol(identity.protocol).border for identity in runs}
        images = any(identity.sr_sha256 for identity in runs)
        return self.metric in SCORES and len(borders) == 1 and not images

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


def tolerance_text(cells: Iterable[JudgedCell]) -> str:
    """Write the tolerances of PSNR and SSIM; the largest, if the decimals in print differ."""
    largest = {"psnr": PRINTED.psnr, "ssim": PRINTED.ssim}
    for cell in cells:
        if cell.metric in largest and cell.printed is not None:
            largest[cell.metric] = max(largest[cell.metric], cell.tolerance)
    return f"{largest['psnr']:g} dB or {largest['ssim']:g} of SSIM"


def common_rules(cells: Iterable[JudgedCell]) -> list[frozenset[str]]:
    """List the sets of rules under which all of some numbers were measured, fewest rules first.

    A rule that does not concern a number, such as that for grey images on a set without any, leaves
    it as it is.
    """
    cells = list(cells)
    words = sorted({word for cell in cells for word in cell.rules_known})
    choices = chain.from_iterable(combinations(words, count) for count in range(len(words) + 1))
    return [
        frozenset(rules)
        for rules in choices
        if sum(word.startswith(GREY) for word in rules) <= 1
        and all(cell.under(frozenset(rules)) for cell in cells)
    ]


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
        f"{_sets(cells)} are reproduced (tolerance: {tolerance_text(cells)})"
    )
    others = [_comparison(cell) for cell in cells if cell.standing != "reproduced"]
    undecided = [cell for cell in cells if cell.verdict == "undecided"]
    reasons = dict.fromkeys(reason for cell in undecided for reason in cell.cannot_refute)
    open_rules = [cell for cell in undecided if cell.needs_more_rules]
    reasons |= dict.fromkeys(
        f"no single set of rules reproduces all its numbers on {title(dataset)}"
        for dataset in dict.fromkeys(cell.dataset for cell in cells)
        if _needs_several_rules([cell for cell in cells if cell.dataset == dataset])
    )
    if words := dict.fromkeys(word for cell in open_rules for word in cell.not_tried):
        reasons[f"not tried: {listed(list(words))}"] = None
    return " ".join(["; ".join([text, *others, *reasons]) + ".", *how_to_settle(open_rules)])


def _needs_several_rules(cells: Sequence[JudgedCell]) -> bool:
    """Whether numbers of one set are reproduced one by one, and never together."""
    cells = [cell for cell in cells if cell.measured and cell.upholds(cell.measured)]
    together = any(
        all(cell.upholds(one) for cell in cells if (one := cell.under(rules)))
        for rules in common_rules(cells)
    )
    return len(cells) > 1 and not together


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
    return f"with {_OTHER_WEIGHTS} ({training_notes(run)})"


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
