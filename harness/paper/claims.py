"""The tests that a paper's claims can name: one function and one sentence for each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from harness.errors import HarnessError, UsageError, sentence
from harness.paper.schema import (
    Beats,
    Compare,
    Count,
    Equals,
    Gain,
    Outlier,
    Pareto,
    Plugin,
    Rank,
    Spread,
    Within,
    listed,
    ordinal,
    rounded,
    score,
    title,
)
from harness.paper.select import speaks_for_the_authors
from harness.paper.statistics import measured_ablations
from harness.paper.tolerances import PRINTED
from harness.paper.verdicts import Evidence, Finding, JudgedCell, Judgement, Verdict, decide
from harness.protocol.rules import PRESETS
from harness.registry import MODELS

if TYPE_CHECKING:
    from harness.paper.schema import Ablation, Claim, ClaimTest, Paper, Quantity, Row
    from harness.record import RunRecord


class Counted(NamedTuple):
    """A quantity of networks: what it is called, how a count is written, and how it is counted."""

    words: str
    write: Callable[[float], str]
    of: Callable[[Evidence, str, int], float | None]


QUANTITIES: Mapping[Quantity, Counted] = {
    "parameters": Counted(
        "parameters",
        "{:,.0f}".format,
        lambda e, model, scale: e.complexity(model, scale).parameters,
    ),
    "macs": Counted(
        "multiply-accumulate operations (in G, for an output of 1280x720)",
        lambda count: f"{count / 1e9:,.0f}",
        lambda e, model, scale: e.complexity(model, scale).macs,
    ),
    "depth": Counted(
        "convolutions on the longest path",
        "{:.0f}".format,
        lambda e, model, scale: e.depth(model, scale).chain,
    ),
    "receptive_field": Counted(
        "LR pixels to each side that its convolutions see",
        "{:.0f}".format,
        lambda e, model, scale: e.receptive_radius(model, scale),
    ),
    "narrowest_1x1": Counted(
        "filters in its narrowest 1x1 convolution",
        "{:.0f}".format,
        lambda e, model, scale: min(
            (out for _, out, side in e.convolutions(model, scale) if side == 1), default=None
        ),
    ),
}
"""What a claim can count on a network; a count is None where it cannot be made."""


def _count_of(quantity: Quantity, evidence: Evidence, model: str) -> float | None:
    """Count on a network at the largest scale of the tables; None where it cannot be made."""
    scale = max((row.scale for row in _paper(evidence).rows), default=4)
    try:
        return QUANTITIES[quantity].of(evidence, model, scale)
    except Exception:  # there is none, or it cannot be built, run or traced
        return None


def _count_method(quantity: Quantity, evidence: Evidence, method: str) -> float | None:
    """Count on a method's network; self-ensemble runs it eight times."""
    model, self_ensemble = _paper(evidence).network(method)
    count = _count_of(quantity, evidence, model)
    return count * 8 if count and self_ensemble and quantity == "macs" else count


def _uncounted(quantity: Quantity, model: str, method: str) -> UsageError:
    """Say why a network that a claim needs was not counted."""
    if not model:
        return UsageError(f"The harness has no network of {method}: add one as a plug-in.")
    try:
        MODELS.get(model)
    except UsageError as error:
        return error
    return UsageError(f"The {QUANTITIES[quantity].words} of {model} cannot be counted.")


def judge_claim(claim: Claim, test: ClaimTest | None, evidence: Evidence) -> Judgement:
    """Judge one claim; it is not measured if no number decides it, or its network is missing."""
    try:
        if test is None:
            finding = Finding("not measured", claim.by_hand)
        elif isinstance(test, Plugin):
            finding = _plugin(test, evidence, claim)
        else:
            finding = _JUDGES[type(test)](test, evidence)
    except UsageError as error:
        finding = Finding("not measured", str(error))
    text = f"{finding.evidence} {claim.note}".rstrip()
    return Judgement(claim.key, claim.quote, claim.where, finding.verdict, text, finding.runs)


def _paper(evidence: Evidence) -> Paper:
    assert evidence.paper is not None, "claims are of a paper"
    return evidence.paper


def _count(test: Count, evidence: Evidence) -> Finding:
    paper = _paper(evidence)
    quantity = QUANTITIES[test.count]
    own = test.of or paper.network(paper.subject)[0]
    counts = {name: _count_of(test.count, evidence, name) for name in (own, *test.readings)}
    known = {name: count for name, count in counts.items() if count is not None}
    holds = any(_fits(test, count) for count in known.values())
    unknown = next((name for name in counts if name not in known), None)
    if unknown is not None and not holds:
        raise _uncounted(test.count, unknown, paper.subject)
    claimed = test.about or f"at least {quantity.write(test.at_least or 0)}"
    text = f"{_amounts(known, quantity)} {quantity.words}; the paper says {claimed}."
    return Finding(decide(True, holds, not test.leaves_room), text)


def _fits(test: Count, count: float) -> bool:
    if test.at_least is not None:
        return count >= test.at_least
    own, claimed = rounded(count, test.about)
    return own == claimed


def _amounts(counts: Mapping[str, float], quantity: Counted) -> str:
    """Write counts, such as ``drfn has 182 and drfn-2conv 310``."""
    parts = [
        f"{name} {'has ' * (i == 0)}{quantity.write(n)}"
        for i, (name, n) in enumerate(counts.items())
    ]
    return listed(parts)


Column = tuple[int, str, str]
"""Scale, set and metric."""
Numbers = Mapping[str, Mapping[Column, float]]
"""The numbers of a table by method and column."""


class Compared(NamedTuple):
    """The numbers that a test compares.

    Attributes:
        method: the row that the claim is about.
        numbers: those of all rows, in the test's columns.
    """

    method: str
    numbers: Numbers

    @property
    def own(self) -> Mapping[Column, float]:
        """The numbers of the row that the claim is about."""
        return self.numbers[self.method]

    def lead(self, other: str) -> dict[Column, float]:
        """Return by how much the row leads another in each column that both have."""
        numbers = self.numbers[other]
        both = (column for column in self.own if column in numbers)
        # Without the rounding error of the subtraction: printed numbers have few decimals.
        return {column: round(self.own[column] - numbers[column], 9) for column in both}


def _cells(test: Compare, evidence: Evidence) -> list[JudgedCell]:
    """Select the printed cells that a test compares."""
    table = _paper(evidence).table_of(test)
    return [
        cell
        for cell in evidence.cells
        if cell.row.table is table
        and cell.metric in test.metrics
        and (not test.sets or cell.dataset in test.sets)
    ]


def _numbers(cells: Iterable[JudgedCell], value: Callable[[JudgedCell], float | None]) -> Numbers:
    numbers: dict[str, dict[Column, float]] = {}
    for cell in cells:
        row = numbers.setdefault(cell.row.method, {})
        if (number := value(cell)) is not None:
            row[cell.row.scale, cell.dataset, cell.metric] = number
    return numbers


T = TypeVar("T", bound=Compare)


def _compare(
    holds: Callable[[T, Evidence, Compared], tuple[bool, str]],
) -> Callable[[T, Evidence], Finding]:
    """Make a judge of a test on numbers: it is applied to print, then to what was measured.

    For the second, the method's measured numbers take the place of printed ones that they do not
    reproduce, and columns in which it was not measured are left out. Of other methods only those
    do that refute the print: weights that were trained too little make no method inferior.
    """

    def judge(test: T, evidence: Evidence) -> Finding:
        method = test.method or _paper(evidence).subject
        cells = _cells(test, evidence)
        in_print, text = holds(test, evidence, Compared(method, _printed(cells)))
        text = f"As printed it {'holds' if in_print else 'does not hold'}: {text}"
        if not in_print:
            return Finding("inconsistent in print", text)
        own = [cell for cell in cells if cell.row.method == method and cell.measured]
        if not own:
            return Finding("not measured", f"{text} {method} was not measured.")
        runs = {cell.measured.run.identity.id: cell.measured.run for cell in own if cell.measured}
        official = all(map(speaks_for_the_authors, runs.values()))
        compared = Compared(method, _numbers(cells, lambda cell: _measured(cell, method)))
        measured, _ = holds(test, evidence, compared)
        where = listed(list(dict.fromkeys(title(cell.dataset) for cell in own)))
        text += f" As measured on {where} it {'holds' if measured else 'does not hold'}"
        text += "." if official else ", with other weights than the authors'."
        can_refute = official and all(cell.verdict != "undecided" for cell in own)
        return Finding(decide(in_print, measured, can_refute), text, tuple(runs))

    return judge


def _printed(cells: Iterable[JudgedCell], *, doubted: bool = True) -> Numbers:
    """Collect printed numbers, with or without those that contradict others."""
    return _numbers(
        cells,
        lambda cell: cell.printed if doubted or cell.verdict != "inconsistent in print" else None,
    )


def _measured(cell: JudgedCell, method: str) -> float | None:
    is_own = cell.row.method == method
    if cell.measured is None:
        return None if is_own else cell.printed
    keeps = cell.verdict == "reproduced" or (cell.verdict == "undecided" and not is_own)
    return cell.printed if keeps else cell.measured.value


def _beats(test: Beats, evidence: Evidence) -> Finding:
    judge = _beats_with_self_ensemble if test.self_ensemble else _compare(_leads)
    return judge(test, evidence)


def _leads(test: Beats, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    others = [name for name in compared.numbers if name != compared.method]
    leads = {name: compared.lead(name) for name in test.beats or others}
    texts = [f"{method} by {_by_column(lead)}" for method, lead in leads.items() if lead]
    margin = f", where {test.by:g} is claimed" if test.by else ""
    holds = all(one > 0 and one >= test.by for lead in leads.values() for one in lead.values())
    return holds, f"{compared.method} leads {'; '.join(texts)}{margin}."


def _beats_with_self_ensemble(test: Beats, evidence: Evidence) -> Finding:
    """Compare the gain that self-ensemble needs to beat others with the gain that it gives."""
    method = test.method or _paper(evidence).subject
    numbers = _printed(_cells(test, evidence))
    own = numbers[method]
    others = [
        row
        for name, row in numbers.items()
        if name != method and (not test.beats or name in test.beats)
    ]
    best = {
        column: max((row[column] for row in others if column in row), default=own[column])
        for column in own
    }
    needed = {column: best[column] + test.by - own[column] for column in own}
    text = f"No such row is printed. Self-ensemble would have to add {_by_column(needed)}"
    pairs = _ensemble_pairs(test, evidence, method)
    if not pairs:
        model = _paper(evidence).network(method)[0]
        advice = f"what it adds is measured by running {model} with and without --self-ensemble"
        return Finding("not measured", f"{text}; {advice}.")
    gains = {
        column: ensemble.means[column[2]] - plain.means[column[2]]
        for column, (plain, ensemble) in pairs.items()
    }
    text = f"{text}; with the weights that were measured it adds {_by_column(gains)}"
    ids = tuple(run.identity.id for pair in pairs.values() for run in pair)
    reached = {
        column: ensemble.means[column[2]] >= best[column] + test.by
        for column, (plain, ensemble) in pairs.items()
        if plain.means[column[2]] >= own[column] - PRINTED.of(column[2])
    }
    if not reached:
        return Finding("undecided", f"{text}, but they do not reach the plain row.", ids)
    official = all(speaks_for_the_authors(run) for pair in pairs.values() for run in pair)
    return Finding(decide(True, all(reached.values()), official), f"{text}.", ids)


def _ensemble_pairs(
    test: Beats, evidence: Evidence, method: str
) -> dict[Column, tuple[RunRecord, RunRecord]]:
    """Pair runs of a method without and with self-ensemble, with the same weights and rules."""
    pairs = {}
    for cell in _cells(test, evidence):
        if cell.row.method == method and (plain := cell.shown):
            wanted = replace(plain.identity, self_ensemble=True, metrics=())
            key = (cell.row.model, cell.dataset, cell.row.scale, True)
            for run in evidence.by_cell.get(key, ()):
                if run.status == "finished" and replace(run.identity, metrics=()) == wanted:
                    pairs[cell.row.scale, cell.dataset, cell.metric] = (plain, run)
                    break
    return pairs


def _within(test: Within, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    gaps = {
        method: {column: -lead for column, lead in compared.lead(method).items()}
        for method in test.within
    }
    texts = [f"{method} by {_by_column(gap)}" for method, gap in gaps.items()]
    text = f"{compared.method} is behind {'; behind '.join(texts)}."
    margin = test.of or 0.0
    if test.lead_over:
        margin = max(compared.lead(test.lead_over).values(), default=0.0)
        text += (
            f" It leads {test.lead_over}, which it is called superior to, by {margin:.2f} at most."
        )
    else:
        text += f" The claim allows {margin:g}."
    holds = all(one <= margin for gap in gaps.values() for one in gap.values())
    if test.fewer:
        counts = _counts(test.fewer, evidence, [compared.method, *test.within], needed=holds)
        own_count = counts.pop(compared.method, None)
        sizes = [
            f"{method} has {count / own_count:.1f} times"
            for method, count in counts.items()
            if own_count
        ]
        text = f"{listed(sizes)} the {QUANTITIES[test.fewer].words}. {text}" if sizes else text
        holds = holds and all(count > (own_count or 0) for count in counts.values())
    return holds, text


def _counts(
    quantity: Quantity, evidence: Evidence, methods: Sequence[str], *, needed: bool
) -> dict[str, float]:
    """Count on the networks of methods; those that cannot be counted are left out.

    Raises:
        UsageError: one cannot be counted, and all are ``needed``.
    """
    counts = {}
    for method in methods:
        count = _count_method(quantity, evidence, method)
        if count is not None:
            counts[method] = count
        elif needed:
            raise _uncounted(quantity, _paper(evidence).network(method)[0], method)
    return counts


def _rank(test: Rank, evidence: Evidence) -> Finding:
    if test.by == "scores":
        return _compare(_rank_by_scores)(test, evidence)
    quantity, paper = QUANTITIES[test.by], _paper(evidence)
    method = test.method or paper.subject
    networks = {
        row.method: row.model
        for row in paper.rows
        if row.method == method or not row.self_ensemble
        if row.model not in MODELS or MODELS.get(row.model).params != 0
    }
    counts = {
        name: count
        for name in networks
        if (count := _count_method(test.by, evidence, name)) is not None
    }
    if method not in counts:
        raise _uncounted(test.by, networks.get(method, ""), method)
    place = 1 + sum(count > counts[method] for count in counts.values())
    unknown = [name for name in networks if name not in counts]

    def holds(place: int) -> bool:
        return place == 1 if test.rank == "first" else place <= len(networks) / 2

    if holds(place) and not holds(place + len(unknown)):
        raise _uncounted(test.by, networks[unknown[0]], unknown[0])
    ordered = dict(sorted(counts.items(), key=lambda entry: -entry[1]))
    amounts = _amounts(ordered, quantity)
    text = f"{method} is {ordinal(place)} of {len(counts)}: {amounts} {quantity.words}."
    return Finding(decide(True, holds(place), can_refute=True), text)


Standing = tuple[int, int]
"""A rank in a column, and the column's length."""


def _rank_by_scores(test: Rank, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    ranks = {column: _standing(compared, column) for column in compared.own}
    first = sum(place == 1 for place, _ in ranks.values())
    holds = all(
        place == 1 if test.rank == "first" else place <= entries / 2
        for place, entries in ranks.values()
    )
    text = f"{compared.method} is {_ranks(ranks)}"
    sound = Compared(compared.method, _printed(_cells(test, evidence), doubted=False))
    clean = {column: _standing(sound, column) for column in ranks if column in sound.own}
    changed = {column: one for column, one in clean.items() if one[0] < ranks[column][0]}
    if changed:
        text += f" (without cells that contradict other printed numbers, {_ranks(changed)})"
    return holds, f"{text}: the best in {first or 'none'} of {len(ranks)} columns."


def _standing(compared: Compared, column: Column) -> Standing:
    values = [row[column] for row in compared.numbers.values() if column in row]
    return 1 + sum(value > compared.own[column] for value in values), len(values)


def _ranks(ranks: Mapping[Column, Standing]) -> str:
    """Write ranks, such as ``3rd of 12 on Set5 and Set14, 2nd of 10 on Manga109 by PSNR``."""
    parts = []
    for metric in dict.fromkeys(metric for _, _, metric in ranks):
        of_metric = [(rank, _set(c, ranks)) for c, rank in ranks.items() if c[2] == metric]
        groups = groupby(of_metric, key=lambda entry: entry[0])
        places = [
            f"{ordinal(place)} of {entries} on {listed([name for _, name in group])}"
            for (place, entries), group in groups
        ]
        parts.append(f"{', '.join(places)} by {metric.upper()}")
    return ", and ".join(parts)


def _set(column: Column, columns: Iterable[Column]) -> str:
    """Name the set of a column, with its scale if there are several."""
    scale, dataset, _ = column
    several = len({one for one, *_ in columns}) > 1
    return f"{title(dataset)} x{scale}" if several else title(dataset)


def _by_column(values: Mapping[Column, float]) -> str:
    """Write values by column, such as ``0.31 on Set5 and 0.19 on Set14 (dB)``."""
    parts = []
    for metric in dict.fromkeys(metric for _, _, metric in values):
        decimals, unit = (2, "dB") if metric == "psnr" else (4, metric.upper())
        of_metric = [
            f"{value:.{decimals}f} on {_set(column, values)}"
            for column, value in values.items()
            if column[2] == metric
        ]
        parts.append(f"{listed(of_metric)} ({unit})")
    return ", and ".join(parts)


def _pareto(test: Pareto, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    quantity = QUANTITIES[test.pareto]
    networks = {method: _paper(evidence).network(method)[0] for method in compared.numbers}
    model = networks[compared.method]
    rows = {  # a network is no rival of its own, with or without self-ensemble
        method: numbers
        for method, numbers in compared.numbers.items()
        if method == compared.method or networks[method] != model
    }
    counts = {
        method: count
        for method in rows
        if (count := _count_method(test.pareto, evidence, method)) is not None
    }
    if compared.method not in counts:
        raise _uncounted(test.pareto, model, compared.method)

    def ahead(limit: float) -> list[str]:
        return [
            f"{method} on {_set(column, compared.own)}"
            for method, numbers in rows.items()
            if method != compared.method and counts.get(method, limit + 1) <= limit
            for column, own in compared.own.items()
            if numbers.get(column, own) > own
        ]

    better = ahead(counts[compared.method])
    unknown = [method for method in rows if method not in counts]
    for method in () if better else unknown:
        if any(rows[method].get(column, own) > own for column, own in compared.own.items()):
            raise _uncounted(test.pareto, networks[method], method)
    ordered = dict(sorted(((k, n) for k, n in counts.items() if n), key=lambda entry: entry[1]))
    amounts = _amounts(ordered, quantity)
    text = f"{_who(better)} {compared.method} with no more {quantity.words}: {amounts}."
    for reading in test.readings:
        count = _count_of(test.pareto, evidence, reading)
        if count is not None:
            text += f" With {reading} ({quantity.write(count)}), {_who(ahead(count))} it."
    text += f" Not known here: {listed(unknown)}." if unknown else ""
    return not better, text


def _who(cells: Sequence[str]) -> str:
    return f"{listed(cells)} {'beat' if len(cells) > 1 else 'beats'}" if cells else "none beats"


def _equals(test: Equals, evidence: Evidence) -> Finding:
    one, other = map(_paper(evidence).number, test.equals)
    text = f"{one.said}; {other.said}"
    if isinstance(one.value, tuple) or isinstance(other.value, tuple):
        return Finding(decide(one.value == other.value, None, False), f"{text}.")
    apart = abs(one.value - other.value)
    text += f": {round(apart, 6):g} apart." if apart else "."
    same = apart <= max(one.rounding, other.rounding)
    return Finding(decide(same, None, False), text)


def _gain(test: Gain, evidence: Evidence) -> Finding:
    ablation = _paper(evidence).ablation(test.ablation)
    text, in_print = "Printed: ", False
    texts = []
    for reading in ablation.readings or (ablation.columns,):
        cells = dict(zip(reading, ablation.psnr, strict=True))
        gains = [cells[more] - cells[less] for more, less in test.gain]
        in_print = in_print or all(gain > 0 for gain in gains)
        columns = f" (columns {', '.join(map(ablation.called, reading))})" * bool(ablation.readings)
        texts.append(f"{listed([f'{gain:+.2f}' for gain in gains])} dB{columns}")
    text += ", or ".join(texts)
    measured = measured_ablations(evidence.runs, ablation)
    needed = {name for pair in test.gain for name in pair}
    best = next((one for one in measured if needed <= one.runs.keys()), None)
    where = title(ablation.set)
    if best is None:
        names = ", ".join(ablation.variants)
        text += (
            f". To measure it, train the variants alike (harness train {ablation.model} --variant "
            f"{names}) and run them on {where}."
        )
        return Finding(decide(in_print, None, False), text)
    intervals = [best.gain(more, less) for more, less in test.gain]
    text += (
        f". Measured on {where} with {best.budget} a variant: {listed(list(map(str, intervals)))} "
        "dB (95 % over images)"
    )
    floor = _floor(evidence, ablation)
    unlearned = [f"{n} ({best.psnr(n):.2f} dB)" for n in sorted(needed) if best.psnr(n) < floor]
    if unlearned:
        text += (
            f"; what still falls short of bicubic interpolation ({floor:.2f} dB) after so little "
            f"training says nothing of a trained network: {listed(unlearned)}"
        )
    holds = not unlearned and all(one.difference > 0 for one in intervals)
    text += "." if holds else "; so short a training cannot refute it."
    return Finding(decide(in_print, holds, False), text, best.ids())


def _floor(evidence: Evidence, ablation: Ablation) -> float:
    """Return the PSNR (dB) of bicubic interpolation as printed, or as measured; 0 if unknown."""
    for cell in evidence.cells:
        place = (cell.row.model, cell.row.scale, cell.dataset, cell.metric)
        if place == ("bicubic", ablation.scale, ablation.set, "psnr"):
            return cell.printed or 0.0
    run = evidence.run("bicubic", ablation.set, ablation.scale, PRESETS[ablation.rules])
    return run.means["psnr"] if run else 0.0


def judge_ablation(evidence: Evidence, ablation: Ablation) -> dict[str, Verdict]:
    """Judge each variant of an ablation; weights trained here may reach its number.

    That of the whole network may contradict the paper's own table of results.
    """
    measured = measured_ablations(evidence.runs, ablation)
    verdicts: dict[str, Verdict] = {}
    for variant, printed in ablation.printed.items():
        scores = [one.psnr(variant) for one in measured if variant in one.runs]
        reached = any(score >= printed - PRINTED.psnr for score in scores) if scores else None
        sound = variant != ablation.whole or not contradicting_rows(_paper(evidence), ablation)
        verdicts[variant] = decide(sound, reached, False)
    return verdicts


def contradicting_rows(paper: Paper, ablation: Ablation) -> list[Row]:
    """Find the rows of tables that print another PSNR for an ablation's whole network."""
    printed = ablation.printed[ablation.whole]

    def differs(row: Row) -> bool:
        rounding = score("psnr", min(row.table.scores.get("psnr", 2), 2)).rounding
        return abs(row.printed.get((ablation.set, "psnr"), printed) - printed) > rounding

    network = (ablation.model, False, ablation.scale)
    rows = [row for row in paper.rows if (row.model, row.self_ensemble, row.scale) == network]
    return list(filter(differs, rows))


def _outlier(test: Outlier, evidence: Evidence) -> Finding:
    place = _paper(evidence).place(test.outlier)
    row = place.row
    metrics = [place.metric] if place.metric else list(row.table.scores)
    others = [
        one for one in _paper(evidence).rows if one.table is row.table and one.scale == row.scale
    ]
    other = next((one for one in others if one.method == test.against), None)
    if other is None:
        raise UsageError(f"{row.table.title} has no row {test.against} at x{row.scale}.")
    texts, is_out = [], False
    for metric in metrics:
        gaps = {
            dataset: row.printed[dataset, metric] - other.printed[dataset, metric]
            for dataset in row.sets
            if (dataset, metric) in row.printed and (dataset, metric) in other.printed
        }
        here = gaps.pop(place.dataset, 0.0)
        texts.append(_by_column({(row.scale, name, metric): gaps[name] for name in gaps}))
        texts[-1] = (
            f"{_by_column({(row.scale, place.dataset, metric): here})}, elsewhere {texts[-1]}"
        )
        is_out |= bool(gaps) and all(gap * here < 0 for gap in gaps.values())
    text = f"{row.method} minus {test.against} is {'; '.join(texts)}."
    cells = [
        cell
        for cell in evidence.cells
        if cell.row is row and cell.dataset == place.dataset and cell.metric in metrics
    ]
    measured = [cell for cell in cells if cell.measured]
    for cell in measured:
        assert cell.measured
        text += f" Measured {cell.metric.upper()}: {cell.score.as_measured(cell.measured.value)}."
    verdicts = {cell.verdict for cell in measured}
    holds = verdicts == {"reproduced"} if verdicts else None
    ids = tuple(dict.fromkeys(cell.measured.run.identity.id for cell in measured if cell.measured))
    return Finding(decide(not is_out, holds, "refuted" in verdicts), text, ids)


def _spread(test: Spread, evidence: Evidence) -> Finding:
    runs = _runs_by_way(test, evidence)
    if not runs:
        return Finding("not measured", f"Nothing was measured in the ways {listed(test.spread)}.")
    follows: dict[str, list[str]] = {}
    effects = []
    for (name, printed), by_way in runs.items():
        values = {way: run.means[test.metric] for way, run in by_way.items()}
        effects.append(max(values.values()) - min(values.values()))
        nearest = min(values, key=lambda way: abs(values[way] - printed))
        if abs(values[nearest] - printed) <= PRINTED.of(test.metric, printed):
            follows.setdefault(nearest, []).append(name)
    decimals = 3 if test.metric == "psnr" else 4
    metric = test.metric.upper()
    text = (
        f"Between {listed(test.spread)}, {metric} differs by {min(effects):.{decimals}f} to "
        f"{max(effects):.{decimals}f}. The printed {metric} of {title(test.cells)} follows "
        f"{listed([f'{way} ({listed(names)})' for way, names in follows.items()]) or 'neither'}."
    )
    ids = tuple(run.identity.id for by_way in runs.values() for run in by_way.values())
    # One number alone cannot be a mix.
    complete = sum(map(len, follows.values())) == len(runs) > 1
    return Finding(decide(len(follows) < 2, complete, False), text, ids)


def _runs_by_way(test: Spread, evidence: Evidence) -> dict[tuple[str, float], dict[str, RunRecord]]:
    """Find the runs of each printed number in every way, where there is one for each.

    The numbers are named by set or method, and the ways are models or rules for grey images.
    """
    found = {}
    by_model = not PRESETS.keys() >= set(test.spread)
    for cell in evidence.cells:
        if cell.metric != test.metric or test.cells not in (cell.row.method, cell.dataset):
            continue
        by_way = {}
        for way in test.spread:
            model, preset = (way, test.rules) if by_model else (cell.row.model, way)
            run = evidence.run(model, cell.dataset, cell.row.scale, PRESETS[preset])
            if run and speaks_for_the_authors(run) and test.metric in run.means:
                by_way[way] = run
        if len(by_way) == len(test.spread) and cell.printed is not None:
            name = title(cell.dataset) if test.cells == cell.row.method else cell.row.method
            found[name, cell.printed] = by_way
    return found


def _plugin(test: Plugin, evidence: Evidence, claim: Claim) -> Finding:
    module, _, name = test.plugin.partition(":")
    try:
        judge: Callable[..., Finding] = getattr(importlib.import_module(module), name)
        return Finding(*judge(evidence, claim, **test.options))
    except HarnessError:
        raise
    except Exception as error:  # a plug-in may raise anything
        raise UsageError(f"The test {test.plugin} failed: {sentence(error)}.") from error


_JUDGES: Mapping[type[ClaimTest], Callable[..., Finding]] = {
    Count: _count,
    Beats: _beats,
    Within: _compare(_within),
    Rank: _rank,
    Pareto: _compare(_pareto),
    Equals: _equals,
    Gain: _gain,
    Outlier: _outlier,
    Spread: _spread,
}
