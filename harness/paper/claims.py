"""The verdict on each claim: one function and one sentence for each test that it can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec import ValidationError, convert

from harness.errors import HarnessError, UsageError, sentence
from harness.paper.ablations import measured_ablations, runs_of_variants
from harness.paper.schema import DEFAULT, Row, Table, listed, ordinal, score, title
from harness.paper.select import Measurement, speaks_for_the_authors
from harness.paper.verdicts import Evidence, Finding, JudgedCell, Judgement, Verdict, decide
from harness.paper.vocabulary import (
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
)
from harness.protocol.rules import PRESETS
from harness.registry import MODELS, PAPERS, function_of_plugin

if TYPE_CHECKING:
    from harness.paper.schema import Ablation, Claim, Column, Compared, Paper
    from harness.paper.vocabulary import ClaimTest, Quantity
    from harness.record import RunRecord


def _macs(evidence: Evidence, model: str, scale: int) -> float:
    counted = evidence.complexity(model, scale)
    if counted.macs is None:
        raise HarnessError(f"The operations of {model} cannot be counted ({counted.obstacle}).")
    return counted.macs


def _narrowest(evidence: Evidence, model: str, scale: int) -> float:
    widths = [out for _, out, side in evidence.convolutions(model, scale) if side == 1]
    if not widths:
        raise HarnessError(f"{model} has no 1x1 convolution.")
    return min(widths)


class Counted(NamedTuple):
    """A quantity of networks.

    Attributes:
        words: what it is called.
        unit: in which counts are written.
        of: counts it for the evidence, a model and a scale; raises `HarnessError`.
    """

    words: str
    unit: float
    of: Callable[[Evidence, str, int], float]

    def written(self, count: float) -> str:
        """Write a count in the unit."""
        return f"{count / self.unit:,.0f}"


QUANTITIES: Mapping[Quantity, Counted] = {
    "parameters": Counted("parameters", 1, lambda e, *of: e.complexity(*of).parameters),
    "macs": Counted("multiply-accumulate operations (in G, for an output of 1280x720)", 1e9, _macs),
    "depth": Counted("convolutions on the longest path", 1, lambda e, *of: e.depth(*of).chain),
    "receptive_field": Counted(
        "LR pixels to each side that its convolutions see", 1, Evidence.receptive_radius
    ),
    "narrowest_1x1": Counted("filters in the narrowest 1x1 convolution", 1, _narrowest),
}
"""What a claim can count on a network."""


def _counts(
    quantity: Quantity, evidence: Evidence, networks: Mapping[str, tuple[str, bool]]
) -> tuple[dict[str, float], dict[str, HarnessError]]:
    """Count on networks at the largest scale of the tables that can be measured.

    Args:
        quantity: what is counted.
        evidence: counts.
        networks: by name, as `Paper.network` returns them: self-ensemble runs them eight times.

    Returns:
        the counts, and for the other networks why they have none.
    """
    counts: dict[str, float] = {}
    obstacles: dict[str, HarnessError] = {}
    scale = _paper(evidence).largest_scale
    for name, (model, self_ensemble) in networks.items():
        try:
            if not model:
                raise UsageError(f"The harness has no network of {name}: add one as a plug-in.")
            count = QUANTITIES[quantity].of(evidence, model, scale)
            counts[name] = 8 * count if self_ensemble and quantity == "macs" else count
        except HarnessError as error:
            obstacles[name] = error
    return counts, obstacles


def _amounts(counts: Mapping[str, float], quantity: Quantity) -> str:
    """Write counts, such as ``drfn has 182 and drfn-2conv 310 convolutions``."""
    counted = QUANTITIES[quantity]
    amounts = [
        f"{name} {'has ' * (i == 0)}{counted.written(count)}"
        for i, (name, count) in enumerate(counts.items())
    ]
    return f"{listed(amounts)} {counted.words}"


def judge_claim(claim: Claim, test: ClaimTest | None, evidence: Evidence) -> Judgement:
    """Judge one claim; it is not measured if no number decides it, or its network is missing."""
    try:
        if test is None:
            finding = Finding("not measured", claim.by_hand)
        elif isinstance(test, Plugin):
            finding = _plugin(test, evidence, claim)
        else:
            finding = _JUDGES[type(test)](test, evidence)
    except HarnessError as error:
        finding = Finding("not measured", str(error))
    text = f"{finding.evidence} {claim.note}".rstrip()
    return Judgement(claim.key, claim.quote, claim.where, finding.verdict, text, finding.runs)


def _paper(evidence: Evidence) -> Paper:
    assert evidence.paper is not None, "claims are of a paper"
    return evidence.paper


def _count(test: Count, evidence: Evidence) -> Finding:
    paper = _paper(evidence)
    own = test.of or paper.network(paper.subject)[0]
    networks = {own or paper.subject: (own, False)}
    networks |= {name: (name, False) for name in test.readings}
    counts, obstacles = _counts(test.count, evidence, networks)
    holds = any(map(test.fits, counts.values()))
    if obstacles and not holds:
        raise next(iter(obstacles.values()))
    claimed = test.about or f"at least {QUANTITIES[test.count].written(test.at_least or 0)}"
    text = f"{_amounts(counts, test.count)}; the paper says {claimed}."
    return Finding(decide(True, holds, not test.leaves_room), text)


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
        compared = _paper(evidence).compared(test)
        in_print, text = holds(test, evidence, compared)
        text = f"As printed it {'holds' if in_print else 'does not hold'}: {text}"
        if not in_print:
            return Finding("inconsistent in print", text)
        cells = _cells(compared, evidence)
        own = [cells[compared.method, column] for column in compared.own]
        if not (runs := _runs(own)):
            return Finding("not measured", f"{text} {compared.method} was not measured.")
        known = {
            name: {
                column: number
                for column in row
                if (number := _known(cells[name, column], compared.method)) is not None
            }
            for name, row in compared.numbers.items()
        }
        measured, _ = holds(test, evidence, compared._replace(numbers=known))
        return _as_measured(text, measured, [cell for cell in own if cell.measured], runs)

    return judge


def _cells(compared: Compared, evidence: Evidence) -> dict[tuple[str, Column], JudgedCell]:
    """Return the cells of a table by method and column."""
    return {
        (cell.row.method, (cell.row.scale, cell.dataset, cell.metric)): cell
        for cell in evidence.cells
        if cell.row.table is compared.table
    }


def _runs(cells: Iterable[JudgedCell]) -> dict[str, RunRecord]:
    """Return the runs that speak for cells, by id."""
    return {cell.measured.run.identity.id: cell.measured.run for cell in cells if cell.measured}


def _known(cell: JudgedCell, method: str) -> float | None:
    """Return the number that stands for a cell once some were measured; None for none."""
    if cell.row.method == method:
        if cell.measured is None or cell.verdict == "reproduced":
            return cell.printed if cell.measured else None
        return cell.measured.value
    refuted = cell.verdict in ("refuted", "inconsistent in print")
    if refuted and cell.measured and speaks_for_the_authors(cell.measured.run):
        return cell.measured.value
    return cell.printed


def _as_measured(
    text: str, holds: bool, cells: Sequence[JudgedCell], runs: Mapping[str, RunRecord]
) -> Finding:
    """Give the verdict on a comparison that holds in print, from cells that were measured."""
    official = all(map(speaks_for_the_authors, runs.values()))
    where = listed(list(dict.fromkeys(title(cell.dataset) for cell in cells)))
    text += f" As measured on {where} it {'holds' if holds else 'does not hold'}"
    text += "." if official else ", with other weights than the authors'."
    can_refute = official and all(cell.verdict != "undecided" for cell in cells)
    return Finding(decide(True, holds, can_refute), text, tuple(runs))


def _leads(test: Beats, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    leads = compared.leads(test.beats or compared.others)
    texts = [f"{method} by {_by_column(lead)}" for method, lead in leads.items() if lead]
    margin = f", where {test.by:g} is claimed" if test.by else ""
    holds = all(one > 0 and one >= test.by for lead in leads.values() for one in lead.values())
    return holds, f"{compared.method} leads {'; '.join(texts)}{margin}."


def _beats(test: Beats, evidence: Evidence) -> Finding:
    if not test.self_ensemble:
        return _compare(_leads)(test, evidence)
    compared = _paper(evidence).compared(test)
    cells = _cells(compared, evidence)
    needed: dict[Column, float] = {}
    for lead in compared.leads(test.beats or compared.others).values():
        for column, ahead in lead.items():
            needed[column] = max(test.by - ahead, needed.get(column, test.by - ahead))
    text = f"No such row is printed. Self-ensemble would have to add {_by_column(needed)}"
    own = {column: cells[compared.method, column] for column in needed}
    pairs = {column: pair for column, cell in own.items() if (pair := _ensemble(cell, evidence))}
    if not pairs:
        model = _paper(evidence).network(compared.method)[0]
        advice = f"what it adds is measured by running {model} with and without --self-ensemble"
        return Finding("not measured", f"{text}; {advice}.")
    means = {column: tuple(run.means[column[2]] for run in pair) for column, pair in pairs.items()}
    gains = {column: ensemble - plain for column, (plain, ensemble) in means.items()}
    text += f"; with the weights that were measured it adds {_by_column(gains)}."
    ensembles = {column: ensemble for column, (_, ensemble) in means.items()}
    numbers = {**compared.numbers, compared.method: ensembles}
    holds, _ = _leads(test, evidence, compared._replace(numbers=numbers))
    runs = {run.identity.id: run for pair in pairs.values() for run in pair}
    return _as_measured(text, holds, [own[column] for column in pairs], runs)


def _ensemble(cell: JudgedCell, evidence: Evidence) -> tuple[RunRecord, RunRecord] | None:
    """Pair the run under a cell's rules with one with self-ensemble, and the same weights."""
    place = (cell.row.model, cell.dataset, cell.row.scale)
    plain = evidence.run(*place, cell.row.table.preset(cell.row.method, cell.dataset))
    if plain is None or cell.obstacle:
        return None
    wanted = replace(plain.identity, self_ensemble=True, metrics=())
    for run in evidence.by_cell.get((*place, True), ()):
        if run.status == "finished" and replace(run.identity, metrics=()) == wanted:
            means = [one.means.get(cell.metric, math.inf) for one in (plain, run)]
            return (plain, run) if all(map(math.isfinite, means)) else None
    return None


def _within(test: Within, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    gaps = {
        method: {column: -lead for column, lead in leads.items()}
        for method, leads in compared.leads(test.within).items()
    }
    texts = [f"{method} by {_by_column(gap)}" for method, gap in gaps.items()]
    text = f"{compared.method} is behind {'; behind '.join(texts)}."
    margin = test.of or 0.0
    if test.lead_over:
        # As printed even where not all of its columns were measured: a part has a smaller margin.
        printed = _paper(evidence).compared(test)
        margin = max(printed.leads([test.lead_over])[test.lead_over].values())
        text += (
            f" It leads {test.lead_over}, which it is called superior to, by {margin:.2f} at most."
        )
    else:
        text += f" The claim allows {margin:g}."
    holds = all(one <= margin for gap in gaps.values() for one in gap.values())
    if test.fewer:
        paper = _paper(evidence)
        networks = {name: paper.network(name) for name in (compared.method, *test.within)}
        counts, obstacles = _counts(test.fewer, evidence, networks)
        if obstacles and holds:
            raise next(iter(obstacles.values()))
        own = counts.pop(compared.method, 0)
        sizes = [f"{name} has {count / own:.1f} times" for name, count in counts.items() if own]
        if sizes:
            text = f"{listed(sizes)} the {QUANTITIES[test.fewer].words}. {text}"
        holds = holds and all(count > own for count in counts.values())
    return holds, text


Standing = tuple[int, int]
"""A rank in a column, and the column's length."""


def _standing(own: float, values: Iterable[float]) -> Standing:
    values = list(values)
    return 1 + sum(value > own for value in values), len(values)


def _is_high(test: Rank, place: int, entries: int) -> bool:
    return place == 1 if test.rank == "first" else place <= entries / 2


def _rank(test: Rank, evidence: Evidence) -> Finding:
    if test.by == "scores":
        return _compare(_rank_by_scores)(test, evidence)
    paper = _paper(evidence)
    method = test.method or paper.subject
    networks = {
        row.method: (row.model, row.self_ensemble)
        for row in paper.rows
        if row.method == method or not row.self_ensemble
        if not _is_without_weights(row.model)
    }
    counts, obstacles = _counts(test.by, evidence, networks)
    if method not in counts:
        raise obstacles.get(method, UsageError(f"{method} has no parameters."))
    place, entries = _standing(counts[method], counts.values())
    holds = _is_high(test, place, len(networks))
    if holds and not _is_high(test, place + len(obstacles), len(networks)):
        raise next(iter(obstacles.values()))
    ordered = dict(sorted(counts.items(), key=lambda entry: -entry[1]))
    text = f"{method} is {ordinal(place)} of {entries}: {_amounts(ordered, test.by)}."
    return Finding(decide(True, holds, True), text)


def _rank_by_scores(test: Rank, evidence: Evidence, compared: Compared) -> tuple[bool, str]:
    rows = compared.numbers.values()
    ranks = {
        column: _standing(own, [row[column] for row in rows if column in row])
        for column, own in compared.own.items()
    }
    first = sum(place == 1 for place, _ in ranks.values())
    text = f"{compared.method} is {_ranks(ranks)}: the best in {first or 'none'} of {len(ranks)}"
    return all(_is_high(test, *one) for one in ranks.values()), f"{text} columns."


def _ranks(ranks: Mapping[Column, Standing]) -> str:
    """Write ranks, such as ``3rd of 12 on Set5 and Set14, 2nd of 10 on Manga109 by PSNR``."""
    parts = []
    for metric in dict.fromkeys(metric for _, _, metric in ranks):
        columns = [column for column in ranks if column[2] == metric]
        places = [
            f"{ordinal(place)} of {entries} on {listed([_set(one, ranks) for one in group])}"
            for (place, entries), group in groupby(columns, key=ranks.__getitem__)
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
    networks = {method: _paper(evidence).network(method) for method in compared.numbers}
    model, _ = own = networks.pop(compared.method)
    # A network is no rival of its own, with or without self-ensemble.
    rivals = {method: network for method, network in networks.items() if network[0] != model}
    counts, obstacles = _counts(test.pareto, evidence, {compared.method: own} | rivals)
    if compared.method in obstacles:
        raise obstacles[compared.method]
    ahead = {
        method: [column for column, lead in leads.items() if lead < 0]
        for method, leads in compared.leads(rivals).items()
    }
    better = [
        f"{method} on {_set(column, compared.own)}"
        for method, columns in ahead.items()
        if method in counts and counts[method] <= counts[compared.method]
        for column in columns
    ]
    for method, obstacle in obstacles.items():
        if ahead[method] and not better:
            raise obstacle
    ordered = dict(sorted(((k, n) for k, n in counts.items() if n), key=lambda entry: entry[1]))
    who = f"{listed(better)} {'beat' if len(better) > 1 else 'beats'}" if better else "none beats"
    text = f"{who} {compared.method} with as few or fewer: {_amounts(ordered, test.pareto)}."
    text += f" Not known here: {listed(list(obstacles))}." if obstacles else ""
    return not better, text


def _equals(test: Equals, evidence: Evidence) -> Finding:
    one, other = map(_paper(evidence).number, test.equals)
    text = f"The paper prints {one.said} and {other.said}"
    if isinstance(one.value, tuple) or isinstance(other.value, tuple):
        return Finding(decide(one.value == other.value, None, False), f"{text}.")
    apart = abs(one.value - other.value)
    text += f": {round(apart, 6):g} apart." if apart else "."
    same = apart <= max(one.rounding, other.rounding)
    return Finding(decide(same, None, False), text)


def _gain(test: Gain, evidence: Evidence) -> Finding:
    ablation = _paper(evidence).ablation(test.ablation)
    in_print, text = _printed_gains(test, ablation)
    if not in_print:
        return Finding(decide(False, None, False), f"{text}.")
    where = title(ablation.set)
    needed = {name for pair in test.gain for name in pair}
    measured = measured_ablations(evidence.runs, ablation)
    best = next((one for one in measured if needed <= one.runs.keys()), None)
    if best is None:
        name = _paper(evidence).source.id
        paper = f" --paper {name if name in PAPERS else 'FILE'}" * (name != DEFAULT)
        text += (
            f". To measure it, train all variants alike, such as harness train {ablation.model} "
            f"--variant {test.gain[0][0]} --scale {ablation.scale}{paper}, and run them on {where}."
        )
        return Finding("not measured", text)
    intervals = [best.gain(more, less) for more, less in test.gain]
    budget = f"{best.budget} a variant" if best.budget.key else "trainings of unknown length"
    text += (
        f". Measured on {where} with {budget}: {listed(list(map(str, intervals)))} dB (95 % over "
        "images)"
    )
    model, floor = _floor(evidence, ablation)
    unlearned = [f"{n} ({best.psnr(n):.2f} dB)" for n in sorted(needed) if best.psnr(n) < floor]
    holds = not unlearned and all(one.difference > 0 for one in intervals)
    if unlearned:
        text += (
            f"; {listed(unlearned)} fall short of {model} ({floor:.2f} dB), which needs no "
            "training: so little training decides nothing"
        )
    elif not holds:
        text += "; other trainings may gain more"
    text += "."
    return Finding(decide(True, holds, False), text, best.ids())


def _printed_gains(test: Gain, ablation: Ablation) -> tuple[bool, str]:
    """Whether each gain is one in any reading of the printed columns, and the gains in words."""
    holds, texts = False, []
    for reading in ablation.readings or (ablation.columns,):
        cells = dict(zip(reading, ablation.psnr, strict=True))
        gains = [cells[more] - cells[less] for more, less in test.gain]
        holds = holds or all(gain > 0 for gain in gains)
        columns = f" (columns {', '.join(map(ablation.called, reading))})" * bool(ablation.readings)
        texts.append(f"{listed([f'{gain:+.{ablation.decimals}f}' for gain in gains])} dB{columns}")
    return holds, f"Printed: {', or '.join(texts)}"


def _floor(evidence: Evidence, ablation: Ablation) -> tuple[str, float]:
    """Return a model without weights, and its PSNR (dB) as printed or measured; 0 for none."""
    place = (ablation.set, ablation.scale)
    floors = [
        (cell.row.model, cell.printed or 0.0)
        for cell in evidence.cells
        if (cell.dataset, cell.row.scale) == place and cell.metric == "psnr" and not cell.obstacle
    ]
    floors += [
        (model, run.means["psnr"])
        for model, *of, _ in evidence.by_cell
        if tuple(of) == place and (run := evidence.run(model, *place, PRESETS[ablation.rules]))
    ]
    return next((one for one in floors if _is_without_weights(one[0])), ("", 0.0))


def _is_without_weights(model: str) -> bool:
    return model in MODELS and MODELS.get(model).params == 0


def judge_ablation(evidence: Evidence, ablation: Ablation) -> dict[str, Verdict]:
    """Judge each variant of an ablation; weights trained here may reach its number.

    That of the whole network may contradict the paper's own table of results.
    """
    runs = runs_of_variants(evidence.runs, ablation)
    table = Table(
        id=ablation.id,
        title=ablation.title,
        columns=(ablation.set,),
        cells="",
        scores={"psnr": ablation.decimals},
        rules=ablation.rules,
    )
    verdicts: dict[str, Verdict] = {}
    for variant, psnr in ablation.printed.items():
        numbers = {(ablation.set, "psnr"): psnr}
        row = Row(table, ablation.scale, variant, ablation.model, False, numbers)
        cell = JudgedCell(row, ablation.set, "psnr", runs=runs.get(variant, []))
        verdicts[variant] = cell.verdict or "not measured"
    if contradicting_rows(_paper(evidence), ablation):
        verdicts[ablation.whole] = "inconsistent in print"
    return verdicts


GREY_EFFECT = 0.1
"""The PSNR (dB) by which numbers under two presets may differ: the grey rules, the largest of their
effects, change the mean of Set14 by 0.09 dB (`harness.protocol.rules.Protocol`)."""


def contradicting_rows(paper: Paper, ablation: Ablation) -> list[Row]:
    """Find the rows of tables that print another PSNR for an ablation's whole network."""
    printed, place = ablation.printed[ablation.whole], (ablation.set, "psnr")

    def differs(row: Row) -> bool:
        decimals = min(row.table.scores["psnr"], ablation.decimals)
        alike = row.table.preset(row.method, ablation.set) == PRESETS[ablation.rules]
        allowed = max(score("psnr", decimals).rounding, 0.0 if alike else GREY_EFFECT)
        return abs(row.printed[place] - printed) > allowed

    network = (ablation.model, False, ablation.scale)
    rows = [row for row in paper.rows if (row.model, row.self_ensemble, row.scale) == network]
    known = [row for row in rows if place in row.printed and not row.table.obstacle(row.scale)]
    return list(filter(differs, known))


def _outlier(test: Outlier, evidence: Evidence) -> Finding:
    (row, dataset, metrics), gaps = _paper(evidence).gaps(test)
    texts, is_out = [], False
    for metric in metrics:
        elsewhere = {column: gap for column, gap in gaps.items() if column[2] == metric}
        here = {(row.scale, dataset, metric): elsewhere.pop((row.scale, dataset, metric))}
        texts.append(f"{_by_column(here)}, elsewhere {_by_column(elsewhere)}")
        is_out |= all(gap * other < 0 for gap in here.values() for other in elsewhere.values())
    text = f"{row.method} minus {test.against} is {'; '.join(texts)}."
    cells = [
        cell
        for cell in evidence.cells
        if cell.row is row and cell.dataset == dataset and cell.metric in metrics
    ]
    verdicts = set()
    for cell in cells:
        if cell.measured:
            value = cell.score.as_measured(cell.measured.value)
            text += f" Measured {cell.metric.upper()}: {value}."
            verdicts.add(cell.verdict)
    holds = verdicts == {"reproduced"} if verdicts else None
    finding = decide(not is_out, holds, "refuted" in verdicts)
    return Finding(finding, text, tuple(_runs(cells)))


def _spread(test: Spread, evidence: Evidence) -> Finding:
    found = _by_way(test, evidence)
    if not found:
        text = f"No printed number was measured in each of the ways {listed(test.spread)}."
        return Finding("not measured", text)
    scales = {scale for scale, *_ in found}
    follows: dict[str, list[str]] = {}
    effects = []
    for (scale, name, printed), (cell, by_way) in found.items():
        values = [one.value for one in by_way.values()]
        effects.append(max(values) - min(values))
        nearest = min(by_way, key=lambda way: abs(by_way[way].value - printed))
        if cell.agrees(by_way[nearest]):
            name += f" x{scale}" * (len(scales) > 1)
            follows.setdefault(nearest, []).append(name)
    decimals = 3 if test.metric == "psnr" else 4
    metric = test.metric.upper()
    text = (
        f"Between {listed(test.spread)}, {metric} differs by {min(effects):.{decimals}f} to "
        f"{max(effects):.{decimals}f}. The printed {metric} of {title(test.cells)} follows "
        f"{listed([f'{way} ({listed(names)})' for way, names in follows.items()]) or 'neither'}."
    )
    runs = [one.run.identity.id for _, by_way in found.values() for one in by_way.values()]
    # One number alone cannot be a mix.
    complete = sum(map(len, follows.values())) == len(found) > 1
    return Finding(decide(len(follows) < 2, complete, False), text, tuple(dict.fromkeys(runs)))


def _by_way(
    test: Spread, evidence: Evidence
) -> dict[tuple[int, str, float], tuple[JudgedCell, dict[str, Measurement]]]:
    """Measure each printed number in every way, where there is a run for each.

    The numbers are named by scale and set or method; the ways are models or rules for grey images.
    """
    found = {}
    by_model = not PRESETS.keys() >= set(test.spread)
    for cell in evidence.cells:
        row, here = cell.row, test.cells in (cell.row.method, cell.dataset)
        if cell.metric != test.metric or not here or cell.obstacle or cell.printed is None:
            continue
        by_way: dict[str, Measurement] = {}
        for way in test.spread:
            model, preset = (way, test.rules) if by_model else (row.model, way)
            place = (model, cell.dataset, row.scale)
            run = evidence.run(*place, PRESETS[preset], row.self_ensemble)
            if run and speaks_for_the_authors(run):
                value = run.means.get(test.metric, math.inf)
                if math.isfinite(value):
                    by_way[way] = Measurement(value, (), run, finite=True)
        if len(by_way) == len(test.spread):
            name = title(cell.dataset) if test.cells == row.method else row.method
            found[row.scale, name, cell.printed] = (cell, by_way)
    return found


def _plugin(test: Plugin, evidence: Evidence, claim: Claim) -> Finding:
    judge = function_of_plugin(test.plugin)
    try:
        finding = Finding(*judge(evidence, claim, **test.options))
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in may raise anything, and exit
        raise UsageError(f"The test {test.plugin} failed: {sentence(error)}.") from error
    try:
        return convert(tuple(finding), Finding)
    except ValidationError as error:
        raise UsageError(
            f"The test {test.plugin} did not return a verdict, a text and ids of runs ({error})."
        ) from error


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
