"""The verdict on each claim: one function for each test that it can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from msgspec import convert

from harness.cards import LINEAGES, PRESETS
from harness.errors import HarnessError, UsageError, sentence
from harness.models import cost
from harness.models.find_weights import official_rows
from harness.paper import vocabulary
from harness.paper.ablations import is_without_weights, judge_ablation
from harness.paper.evidence import Evidence
from harness.paper.literature import by_logs
from harness.paper.schema import column_title, title
from harness.paper.select import Measurement, decides, of_another_network, same_network
from harness.paper.verdicts import (
    Finding,
    JudgedCell,
    Judgement,
    common_rules,
    decide,
    how_to_settle,
    made_with,
)
from harness.registry import MODELS, function_of_plugin
from harness.text import listed, ordinal

if TYPE_CHECKING:
    from harness.paper.schema import Claim, Column, Compared, Paper, Row
    from harness.paper.vocabulary import Quantity
    from harness.record import RunRecord


def judge_claim(claim: Claim, test: vocabulary.ClaimTest | None, evidence: Evidence) -> Judgement:
    """Judge one claim; it is not measured if no number decides it, or its network is missing."""
    assert evidence.paper is not None, "claims are of a paper"
    try:
        if test is None:
            finding = Finding("not measured", claim.by_hand)
        elif isinstance(test, vocabulary.Plugin):
            finding = _plugin(test, evidence, claim)
        else:
            finding = _JUDGES[type(test)](test, evidence.paper, evidence)
    except HarnessError as error:
        finding = Finding("not measured", str(error))
    text = f"{finding.evidence} {claim.note}".rstrip()
    runs = tuple(dict.fromkeys(finding.runs))
    return Judgement(claim.key, claim.quote, claim.where, finding.verdict, text, runs)


def place_of_row(paper: Paper, row: Row) -> int:
    """Return the place of a printed row among the claims, see `place_of`."""
    return 0 if _is_subject(paper, row.method) else 4


def place_of(paper: Paper, test: vocabulary.ClaimTest | None) -> int:
    """Return the place of a claim in the order of weight, from the kind of its test.

    The rows of the paper's subject come first (0), then its comparisons with other methods (1),
    ablations (2), other numbers that print contradicts or confirms (3), the rows of other methods
    (4), claims that no number decides (5), and counts on networks (6).
    """
    match test:
        case None:
            return 5
        case vocabulary.Count():
            return 6
        case vocabulary.Rank() if test.by != "scores":
            return 6
        case vocabulary.Gain():
            return 2
        case vocabulary.Compare() if _is_subject(paper, test.method or paper.subject):
            return 1
    return 3


def _is_subject(paper: Paper, method: str) -> bool:
    """Whether a method is the paper's subject, with or without self-ensemble."""
    model, _ = paper.network(method)
    return method == paper.subject or model == paper.network(paper.subject)[0] != ""


QUANTITIES: Mapping[Quantity, str] = {
    "parameters": "parameters",
    "macs": "multiply-accumulate operations (in G, for an output of 1280x720)",
    "depth": "convolutions on the longest path",
    "receptive_field": "receptive field of the convolutions (in LR pixels to each side)",
    "narrowest_1x1": "filters in the narrowest 1x1 convolution",
}
"""What a claim can count on a network, in words; ``macs`` are written in G (1e9)."""


def _count_on(name: str, quantity: Quantity, paper: Paper) -> float:
    """Count on a method of the paper, or a registered network, at the largest measurable scale.

    Raises:
        HarnessError: there is no such network, or it cannot be counted.
    """
    model, self_ensemble = paper.network(name) if name in paper.methods else (name, False)
    if not model:
        raise UsageError(f"The paper's file names no network for {name}: add one as a plug-in.")
    card, scale = MODELS.get(model), paper.largest_scale
    match quantity:
        case "parameters":
            return cost.measure_complexity(card, scale, {}).parameters
        case "macs":
            counted = cost.measure_complexity(card, scale, {})
            if counted.macs is None:
                raise HarnessError(f"{model} cannot be counted ({counted.obstacle}).")
            return counted.macs * (8 if self_ensemble else 1)  # it runs eight times
        case "depth":
            return cost.measure_depth(card, scale, {}).chain
        case "receptive_field":
            pixels = cost.receptive_radius(card, scale, {})  # of the input, perhaps interpolated
            return -(-pixels * card.input_scale(scale) // scale)
        case "narrowest_1x1":
            shapes = cost.convolution_shapes(card, scale, {})
            return min((out for _, out, side in shapes if side == 1), default=0)


def _has_known_weights(name: str, paper: Paper) -> bool:
    """Whether a network is known to be the authors': their weights fit it, or it has none.

    Others are readings of a text, whose counts may be wrong.
    """
    model, _ = paper.network(name) if name in paper.methods else (name, False)
    card = MODELS.get(model)
    rows = chain.from_iterable(official_rows(card, scale) for scale in card.scales)
    return card.params == 0 or any(not row["note"] for row in rows)


def _ordered(quantity: Quantity, counts: Mapping[str, float]) -> str:
    """Write counts in their order, such as ``parameters: DRFN 5,207,203 and RDN 22,271,107``."""
    names = sorted(counts, key=counts.__getitem__)
    texts = [f"{name} {_written(quantity, counts[name])}" for name in names]
    return f"{QUANTITIES[quantity]}: {listed(texts)}"


def _written(quantity: Quantity, count: float) -> str:
    count /= 1e9 if quantity == "macs" else 1
    return f"{count:,.0f}" if count >= 10 or count == round(count) else f"{count:.2f}"


def _count(test: vocabulary.Count, paper: Paper, evidence: Evidence) -> Finding:
    names = [test.of or paper.subject, *test.readings]
    counts = {name: _count_on(name, test.count, paper) for name in names}
    claimed = test.about or f"at least {_written(test.count, test.at_least or 0.0)}"
    text = f"Counted {_ordered(test.count, counts)}; the paper says {claimed}."
    can_refute = not test.leaves_room and all(_has_known_weights(name, paper) for name in counts)
    return Finding(decide(True, any(map(test.fits, counts.values())), can_refute), text)


class _Outcome(NamedTuple):
    """Whether a comparison holds with some numbers, and why.

    Attributes:
        smaller: the methods whose counts alone make it false: none has more than its subject.
    """

    holds: bool
    text: str
    smaller: tuple[str, ...] = ()


def _compare(
    holds: Callable[..., _Outcome], test: vocabulary.Compare, paper: Paper, evidence: Evidence
) -> Finding:
    """Judge a test on numbers: it is applied to print, then to what was measured."""
    compared = paper.compared(test)
    outcome = holds(test, paper, compared)
    told, with_logs = by_logs(compared, test.others or compared.others, evidence)
    text = f"In print, the claim {_holds(outcome.holds)}: {outcome.text}{told}"
    with suppress(HarnessError):  # a network that only this comparison counts may be unknown
        if told:
            by_log = holds(test, paper, with_logs).holds
            text += f" With the numbers of the log, it {_holds(by_log)}."
    if outcome.smaller:
        sure = [name for name in outcome.smaller if _has_known_weights(name, paper)]
        known = bool(sure) and _has_known_weights(compared.method, paper)
        # A better rival is so by print: with sure counts, the paper's numbers contradict the claim.
        in_print = not (known and isinstance(test, vocabulary.Pareto))
        return Finding(decide(in_print, False, known), text)
    if not outcome.holds:
        return Finding("inconsistent in print", text)
    return _compare_measured(text, partial(holds, test, paper), compared, evidence, test.others)


def _compare_measured(
    text: str,
    holds: Callable[[Compared], _Outcome],
    compared: Compared,
    evidence: Evidence,
    others: Sequence[str],
) -> Finding:
    """Judge a comparison that holds in print by what was measured of its methods.

    Args:
        text: the evidence in print.
        holds: whether it holds with some numbers.
        compared: the printed numbers.
        evidence: what was measured.
        others: the methods that the claim names; empty if it is about all.
    """
    cells = [
        cell for cell in evidence.cells_of(compared, compared.method).values() if cell.measured
    ]
    if not cells:
        return Finding("not measured", f"{text} {compared.method} was not measured.")
    rivals = _measured_rivals(compared, evidence, others or compared.others, cells)
    rules = _best_fitting([*cells, *rivals])
    if rules is None:
        text += " The methods were not run under the same rules."
        lacking = [cell for cell in (*cells, *rivals) if cell.needs_more_rules]
        return Finding(decide(True, False, False), text + _left_open(lacking, may_hold=False))
    still_holds = holds(_like_for_like(compared, cells, rivals, rules)).holds
    still_holds &= all(one.finite for cell in (*cells, *rivals) if (one := cell.under(rules)))
    # Under other rules the numbers are others: it is false only if no rules in use make it true.
    may_hold = holds(_most_favourable(compared, cells, rivals)).holds
    # The print of a reproduced number stands, under whatever rules.
    false = [cell for cell in rivals if cell.verdict in _FALSE]
    unsettled = [
        cell for cell in (*cells, *false) if cell.verdict != "reproduced" and cell.unsettled
    ]
    if not still_holds:  # it may hold under rules that some rivals lack
        unsettled += [cell for cell in rivals if cell.needs_more_rules]
    measured = [(cell, one.run) for cell in cells if (one := cell.under(rules))]
    finding = _as_measured(text, still_holds, measured, unsettled, may_hold, listed(sorted(rules)))
    # The runs of all methods of a table are too many to name.
    runs = [one.run.identity.id for cell in rivals if others and (one := cell.under(rules))]
    return finding._replace(runs=tuple(dict.fromkeys([*finding.runs, *runs])))


_FALSE = ("refuted", "inconsistent in print")
"""The verdicts on numbers whose print is false."""


def _holds(whether: bool) -> str:
    return "holds" if whether else "does not hold"


def _best_fitting(cells: Sequence[JudgedCell]) -> frozenset[str] | None:
    """Return the one set of rules that fits most of some printed numbers, the fewest rules first.

    None if the numbers have no rules in common. Misprints have no say.
    """
    sound = [cell for cell in cells if cell.verdict != "inconsistent in print"]

    def misfit(rules: frozenset[str]) -> tuple[int, int, float]:
        ones = [(cell, one) for cell in sound if (one := cell.under(rules))]
        misses = sum(not cell.upholds(one) for cell, one in ones)
        return misses, len(rules), sum(abs(one.value - (cell.printed or 0)) for cell, one in ones)

    return min(common_rules(cells), key=misfit, default=None)


def _like_for_like(
    compared: Compared,
    own: Sequence[JudgedCell],
    rivals: Sequence[JudgedCell],
    rules: frozenset[str],
) -> Compared:
    """Put what was measured under one set of rules in place of print that it does not reproduce.

    Columns in which the method was not measured are left out. While the print of another method is
    not settled, the higher of both numbers counts.
    """
    numbers = _in_measured_columns(compared, own)
    for cell in (*own, *rivals):
        one = cell.under(rules)
        if one and (cell.verdict == "inconsistent in print" or not cell.upholds(one)):
            of_method, column = numbers[cell.row.method], _column(cell)
            is_open = cell.row.method != compared.method and cell.verdict == "undecided"
            of_method[column] = max(of_method[column], one.value) if is_open else one.value
    return compared._replace(numbers=numbers)


def _most_favourable(
    compared: Compared, own: Sequence[JudgedCell], rivals: Sequence[JudgedCell]
) -> Compared:
    """Choose what speaks most for the method: of print that is not false, and under any rules."""
    numbers = _in_measured_columns(compared, own)
    for cells, best in ((own, max), (rivals, min)):
        for cell in cells:
            values = [one.value for one in cell.options]
            if cell.verdict not in _FALSE:
                values.append(cell.row.printed[cell.dataset, cell.metric])
            numbers[cell.row.method][_column(cell)] = best(values)
    return compared._replace(numbers=numbers)


def _in_measured_columns(
    compared: Compared, own: Iterable[JudgedCell]
) -> dict[str, dict[Column, float]]:
    """Copy the printed numbers, of the method those that were measured."""
    measured = {*map(_column, own)}
    numbers = {method: dict(row) for method, row in compared.numbers.items()}
    numbers[compared.method] = {
        column: number for column, number in compared.own.items() if column in measured
    }
    return numbers


def _column(cell: JudgedCell) -> Column:
    return cell.row.scale, cell.dataset, cell.metric


def _measured_rivals(
    compared: Compared, evidence: Evidence, methods: Iterable[str], own: Iterable[JudgedCell]
) -> list[JudgedCell]:
    """List what was measured with other authors' weights or images in the method's columns."""
    columns = {*map(_column, own)}
    return [
        cell
        for method in methods
        for column, cell in evidence.cells_of(compared, method).items()
        if column in columns and cell.measured and decides(cell.measured.run, compared.table)
    ]


def _as_measured(
    text: str,
    holds: bool,
    measured: Sequence[tuple[JudgedCell, RunRecord]],
    unsettled: Sequence[JudgedCell],
    may_hold: bool,
    rules: str = "",
) -> Finding:
    """Give the verdict on a comparison that holds in print, from runs of some cells.

    Args:
        text: the evidence in print.
        holds: whether it holds as measured.
        measured: the method's own cells and runs.
        unsettled: the cells with measured numbers that cannot refute anything.
        may_hold: whether it holds under the most favourable of the rules that were tried.
        rules: those under which it was judged, if they are others than the table's.
    """
    where = listed(list(dict.fromkeys(title(cell.dataset) for cell, _ in measured)))
    ways = listed(list(dict.fromkeys(made_with(run, cell.row.table) for cell, run in measured)))
    others = {of_another_network(run, cell.row.table): None for cell, run in measured}
    others.pop("", None)
    text += f" Measured {ways}, on {where}, it {_holds(holds)}" + f" ({rules})" * bool(rules)
    text = "; ".join([text, *others]) + "."
    authors = all(decides(run, cell.row.table) for cell, run in measured)
    verdict = decide(True, holds and not others, authors and not unsettled and not may_hold)
    if verdict == "undecided" and authors:
        text += _left_open(unsettled, may_hold)
    return Finding(verdict, text, tuple(run.identity.id for _, run in measured))


def _left_open(unsettled: Sequence[JudgedCell], may_hold: bool) -> str:
    """Say what the authors' weights leave open, and how to settle it."""
    by_row: dict[tuple[str, int], list[JudgedCell]] = {}
    for cell in unsettled:
        if cell.needs_more_rules:
            by_row.setdefault((cell.row.method, cell.row.scale), []).append(cell)
    told = [sentence for cells in by_row.values() for sentence in how_to_settle(cells)]
    if may_hold:
        told.insert(0, "Under other rules that were tried, it may hold.")
    return "".join(f" {sentence}" for sentence in told)


def _leads(test: vocabulary.Beats, paper: Paper, compared: Compared) -> _Outcome:
    leads = compared.leads(test.beats or compared.others)
    texts = [f"{method} is {compared.by_column(lead)}" for method, lead in leads.items() if lead]
    margin = f", where {test.by:g} is claimed" if test.by else ""
    holds = all(one > 0 and one >= test.by for lead in leads.values() for one in lead.values())
    return _Outcome(holds, f"{compared.method} minus {'; minus '.join(texts)}{margin}.")


def _beats(test: vocabulary.Beats, paper: Paper, evidence: Evidence) -> Finding:
    if not test.self_ensemble:
        return _compare(_leads, test, paper, evidence)
    compared = paper.compared(test)
    leads = compared.leads(test.beats or compared.others).values()
    needed = {
        column: max(0.0, test.by - min(lead[column] for lead in leads if column in lead))
        for column in compared.own
    }
    told, _ = by_logs(compared, test.beats or compared.others, evidence)
    text = f"For this claim, self-ensemble must add {compared.by_column(needed)}.{told}"
    gains, ensembles, best, measured, cells = {}, {}, {}, [], []
    for column, cell in evidence.cells_of(compared, compared.method).items():
        place = (cell.row.model, cell.dataset, cell.row.scale, cell.preset)
        plain, ensemble = (evidence.run(*place, one) for one in (False, True))
        if not (cell.measured and plain and ensemble):
            continue
        finite = cell.metric not in {*plain.infinite, *ensemble.infinite}
        if finite and same_network(plain, ensemble):
            ensembles[column] = ensemble.means[cell.metric]
            gains[column] = ensembles[column] - plain.means[cell.metric]
            measured += [(cell, plain), (cell, ensemble)]
            cells.append(evidence.with_self_ensemble(cell))
            best[column] = max(one.value for one in cells[-1].options)
    if not measured:
        return Finding("not measured", f"{text} No network was run with and without it.")
    text += f" With the measured weights, it adds {compared.by_column(gains)}."
    own = ({**compared.numbers, compared.method: values} for values in (ensembles, best))
    holds, may_hold = (_leads(test, paper, compared._replace(numbers=one)).holds for one in own)
    unsettled = [cell for cell in cells if cell.unsettled]
    return _as_measured(text, holds, measured, unsettled, may_hold)


def _within(test: vocabulary.Within, paper: Paper, compared: Compared) -> _Outcome:
    leads = compared.leads(test.within)
    gaps = {name: {column: -one for column, one in lead.items()} for name, lead in leads.items()}
    margin, source = test.of or 0.0, ""
    if test.lead_over:
        # In all printed columns, measured or not: the largest lead in a part of them is smaller.
        everywhere = {**compared.numbers, compared.method: paper.compared(test).own}
        lead = compared._replace(numbers=everywhere)
        margin = max(lead.leads([test.lead_over])[test.lead_over].values())
        source = f", {compared.method}'s largest lead over {test.lead_over}"
    texts = [
        f"{name} minus {compared.method} is {compared.by_column(gap)}" for name, gap in gaps.items()
    ]
    text = f"{'; '.join(texts)}. The test allows {margin:g}{source}."
    holds = all(one <= margin for gap in gaps.values() for one in gap.values())
    if not test.fewer:
        return _Outcome(holds, text)
    own = _count_on(compared.method, test.fewer, paper)
    counts = {name: _count_on(name, test.fewer, paper) for name in test.within}
    sizes = [f"{name} has {count / own:.1f} times" for name, count in counts.items() if own]
    text = f"{listed(sizes)} the {QUANTITIES[test.fewer]}. {text}"
    no_more = [name for name, count in counts.items() if count <= own]
    return _Outcome(holds and not no_more, text, tuple(no_more) if holds else ())


def _rank(test: vocabulary.Rank, paper: Paper, evidence: Evidence) -> Finding:
    if test.by == "scores":
        return _compare(_ranks_high, test, paper, evidence)
    method = test.method or paper.subject
    counts = {
        name: _count_on(name, test.by, paper)
        for name, model in paper.methods.items()
        if name == method or not (model.endswith("+") or is_without_weights(model))
    }
    place = 1 + sum(count > counts[method] for count in counts.values())
    text = f"{method} is {ordinal(place)} of {len(counts)}. Counted {_ordered(test.by, counts)}."
    can_refute = all(_has_known_weights(name, paper) for name in counts)
    return Finding(decide(True, _is_high(test, place, len(counts)), can_refute), text)


def _is_high(test: vocabulary.Rank, place: int, entries: int) -> bool:
    return place == 1 if test.rank == "first" else place <= entries / 2


def _ranks_high(test: vocabulary.Rank, paper: Paper, compared: Compared) -> _Outcome:
    holds = True
    columns: dict[str, list[str]] = {}
    for column, own in compared.own.items():
        values = [row[column] for row in compared.numbers.values() if column in row]
        place = 1 + sum(value > own for value in values)
        holds &= _is_high(test, place, len(values))
        rank = f"{ordinal(place)} of {len(values)} by {column[2].upper()}"
        columns.setdefault(rank, []).append(column_title(column, compared.own))
    texts = [f"{rank} on {listed(sets)}" for rank, sets in columns.items()]
    return _Outcome(holds, f"{compared.method} is {'; '.join(texts)}.")


def _pareto(test: vocabulary.Pareto, paper: Paper, compared: Compared) -> _Outcome:
    own = _count_on(compared.method, test.pareto, paper)
    counts, better, unknown = {compared.method: own}, {}, []
    for method, leads in compared.leads(compared.others).items():
        ahead = [column_title(column, compared.own) for column, lead in leads.items() if lead < 0]
        # A network is no rival of its own, with or without self-ensemble.
        if not ahead or paper.network(method)[0] == paper.network(compared.method)[0]:
            continue
        try:
            counts[method] = _count_on(method, test.pareto, paper)
        except HarnessError as error:
            unknown.append(error)
            continue
        if counts[method] <= own:
            better[method] = f"{method} on {listed(ahead)}"
    if unknown and not better:
        raise unknown[0]
    quantity, _, _ = QUANTITIES[test.pareto].partition(" (")
    whose = listed([*better.values()]) or "no method"
    text = f"{whose} {'beat' if len(better) > 1 else 'beats'} {compared.method} with no more "
    text += f"{quantity}. Counted {_ordered(test.pareto, counts)}."
    return _Outcome(not better, text, tuple(better))


def _equals(test: vocabulary.Equals, paper: Paper, evidence: Evidence) -> Finding:
    one, other = map(paper.number, test.equals)
    text = f"The paper prints {one.said} and {other.said}"
    if isinstance(one.value, tuple) or isinstance(other.value, tuple):
        return Finding(decide(one.value == other.value, None, False), f"{text}.")
    apart = abs(one.value - other.value)
    same = apart <= max(one.rounding, other.rounding)
    return Finding(decide(same, None, False), f"{text}: {apart:.6g} apart.")


def _gain(test: vocabulary.Gain, paper: Paper, evidence: Evidence) -> Finding:
    ablation = paper.ablation(test.ablation)
    texts, in_print = [], False
    for columns in ablation.readings or (ablation.columns,):
        psnr = dict(zip(columns, ablation.psnr, strict=True))
        printed = [psnr[more] - psnr[less] for more, less in test.gain]
        texts.append(listed([f"{gain:+.{ablation.decimals}f} dB" for gain in printed]))
        in_print |= min(printed) > 0
    text = f"The printed gains are {', or in another reading of the columns '.join(texts)}."
    if not in_print:
        return Finding("inconsistent in print", text)
    needed = set(chain(*test.gain))
    judged = judge_ablation(evidence.runs, paper, ablation)
    best = next((one for one in judged.measured if one.runs.keys() >= needed), None)
    if best is None:
        return Finding("not measured", f"{text} Its variants were not all trained alike and run.")
    gains = [best.gain(more, less) for more, less in test.gain]
    text += f" Measured on {title(ablation.set)} after {best.budget}, the gains are "
    text += f"{listed(list(map(str, gains)))} dB (95 % intervals over the images)."
    low = judged.below_floor(best)
    if low:
        short = listed([f"{ablation.called(one)} ({mean:.2f} dB)" for one, mean in low.items()])
        text += f" This training is too short to decide: {short} score less than a method without "
        text += f"weights ({judged.floor:.2f} dB)."
    holds = not low and all(one.difference > 0 for one in gains)
    ids = tuple(run.identity.id for runs in best.runs.values() for run in runs)
    return Finding(decide(True, holds, False), text, ids)


def _outlier(test: vocabulary.Outlier, paper: Paper, evidence: Evidence) -> Finding:
    compared = paper.compared(test)
    gaps = compared.leads([test.against])[test.against]
    told, _ = by_logs(compared, test.others, evidence)
    text = f"{compared.method} minus {test.against} is {compared.by_column(gaps)}.{told}"
    is_out = any(_stands_out(column, gaps) for column in gaps if column[1] == test.outlier)
    verdicts, runs = set(), []
    for cell in evidence.cells_of(compared, compared.method).values():
        if cell.dataset == test.outlier and cell.measured:
            value = cell.score.as_measured(cell.measured.value)
            text += f" Measured {cell.metric.upper()}: {value}."
            verdicts.add(cell.verdict)
            runs.append(cell.measured.run.identity.id)
    holds = verdicts == {"reproduced"} if verdicts else None
    return Finding(decide(not is_out, holds, "refuted" in verdicts), text, tuple(runs))


def _stands_out(column: Column, gaps: Mapping[Column, float]) -> bool:
    """Whether a gap has another sign than all others of its scale and metric."""
    scale, dataset, metric = column
    others = [
        gap for other, gap in gaps.items() if other[::2] == (scale, metric) and other[1] != dataset
    ]
    return bool(others) and all(gaps[column] * gap < 0 for gap in others)


def _spread(test: vocabulary.Spread, paper: Paper, evidence: Evidence) -> Finding:
    ways = listed(test.spread)
    concerned = [cell for cell in evidence.cells if _is_about(test, cell)]
    every = [(cell, _ways(test, evidence, cell)) for cell in concerned]
    found = [(cell, by_way) for cell, by_way in every if by_way]
    if not found:
        return Finding("not measured", f"No printed number was measured in each of {ways}.")
    follows: dict[str, list[str]] = {}
    effects, runs = [], []
    for cell, by_way in found:
        values = [one.value for one in by_way.values()]
        effects.append(max(values) - min(values))
        runs += [one.run.identity.id for one in by_way.values()]
        printed = cell.row.printed[cell.dataset, cell.metric]
        nearest = min(by_way, key=lambda way: abs(by_way[way].value - printed))
        if cell.agrees(by_way[nearest]):
            follows.setdefault(nearest, []).append(_place_in(test, cell))
    metric, write = test.metric.upper(), found[0][0].score.as_measured
    texts = [f"{way} ({listed(names)})" for way, names in follows.items()]
    text = (
        f"Between {ways}, {metric} differs by {write(min(effects))} to {write(max(effects))}. "
        f"The printed {metric} of {title(test.cells)} follows {listed(texts) or 'none of them'}."
    )
    if others := [_place_in(test, cell) for cell, by_way in every if not by_way]:
        text += f" Not measured in each: {listed(others)}."
    # One number alone cannot be a mix.
    complete = sum(map(len, follows.values())) == len(found) > 1
    return Finding(decide(len(follows) < 2, complete, False), text, tuple(runs))


def _is_about(test: vocabulary.Spread, cell: JudgedCell) -> bool:
    names = (cell.row.method, cell.dataset)
    return cell.metric == test.metric and test.cells in names and not cell.obstacle


def _place_in(test: vocabulary.Spread, cell: JudgedCell) -> str:
    """Name a cell of the row or the column that a test is about."""
    return title(cell.dataset) if test.cells == cell.row.method else cell.row.method


def _ways(test: vocabulary.Spread, evidence: Evidence, cell: JudgedCell) -> dict[str, Measurement]:
    """Measure a number that a test is about in every way; empty if one of them was not run."""
    row, by_way = cell.row, {}
    # The names of lineages are also names of networks: here, they are these.
    presets = PRESETS.keys() - LINEAGES
    for way in test.spread:
        model, preset = (row.model, way) if way in presets else (way, test.rules)
        run = evidence.run(model, cell.dataset, row.scale, PRESETS[preset], row.self_ensemble)
        if not run or not decides(run, row.table):
            return {}
        if test.metric not in run.means.keys() - run.infinite:
            return {}
        by_way[way] = Measurement(run.means[test.metric], (), run, finite=True)
    return by_way


def _plugin(test: vocabulary.Plugin, evidence: Evidence, claim: Claim) -> Finding:
    judge = function_of_plugin(test.plugin)
    try:
        return convert(tuple(judge(evidence, claim, **test.options)), Finding)
    except (Exception, SystemExit) as error:  # a plug-in may raise anything, and exit
        raise UsageError(f"The test {test.plugin} failed: {sentence(error)}.") from error


_JUDGES: Mapping[type[vocabulary.ClaimTest], Callable[..., Finding]] = {
    vocabulary.Count: _count,
    vocabulary.Beats: _beats,
    vocabulary.Within: partial(_compare, _within),
    vocabulary.Rank: _rank,
    vocabulary.Pareto: partial(_compare, _pareto),
    vocabulary.Equals: _equals,
    vocabulary.Gain: _gain,
    vocabulary.Outlier: _outlier,
    vocabulary.Spread: _spread,
}
