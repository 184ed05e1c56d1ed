"""Judges claims that compare DRFN with other methods; they depend on its printed row."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from harness.paper.print_claims import PSNR, table1_rivals
from harness.paper.schema import SCORES, listed, ordinal, title
from harness.paper.verdicts import Finding, row_verdict
from harness.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.paper.verdicts import Evidence

Rank = tuple[int, int]
"""A rank in a column, and the column's length."""


def holds_in_print(evidence: Evidence, text: str) -> Finding:
    """Judge a claim that holds as printed: reproduced only if DRFN's own row is."""
    if row_verdict(evidence, "drfn") == "reproduced":
        return Finding("reproduced", f"As printed it holds: {text}")
    ending = "DRFN's own row is not reproduced, so print is all there is."
    return Finding("not measured", f"As printed it holds: {text} {ending}")


def superior(evidence: Evidence) -> Finding:
    """Rank DRFN in every printed column of Table 2."""
    columns = [(dataset, metric) for metric in SCORES for dataset in evidence.sets]
    ranks = {column: _rank(evidence, *column, misprints=True) for column in columns}
    clean = {column: _rank(evidence, *column, misprints=False) for column in columns}
    changed = {column: clean[column] for column in columns if clean[column][0] < ranks[column][0]}
    first = sum(rank == 1 for rank, _ in ranks.values())
    ahead = all(rank <= entries / 2 for rank, entries in ranks.values())
    text = (
        f"DRFN is {_ranks(ranks, 'psnr')} by PSNR, and {_ranks(ranks, 'ssim')} by SSIM"
        f"{_without_misprints(changed)}: {'ahead' if ahead else 'not ahead'} of most methods in "
        f"every column, and the best in {first or 'none'} of {len(ranks)}. "
    )
    psnr, rivals = table1_rivals(evidence)
    text += (
        f"With the {psnr:.2f} dB that Table 1 has for the same network it would stand behind "
        f"{len(rivals)} methods on Set14."
    )
    if not ahead:
        return Finding("inconsistent in print", f"As printed it does not hold: {text}")
    return holds_in_print(evidence, text)


def _rank(evidence: Evidence, dataset: str, metric: str, *, misprints: bool) -> Rank:
    """Rank DRFN in a column, with or without the cells that contradict other printed numbers."""
    place = list(SCORES).index(metric)
    column = [
        row[dataset][place]
        for model, row in evidence.table2.items()
        if dataset in row and (misprints or (model, dataset, metric) not in evidence.misprints)
    ]
    drfn_score = evidence.table2["drfn"][dataset][place]
    return 1 + sum(value > drfn_score for value in column), len(column)


def _ranks(ranks: Mapping[tuple[str, str], Rank], metric: str) -> str:
    """Write ranks, such as ``3rd of 12 on Set5 and Set14, 2nd of 10 on Manga109``."""
    column = [(rank, title(dataset)) for (dataset, name), rank in ranks.items() if name == metric]
    groups = groupby(column, key=lambda entry: entry[0])
    return ", ".join(
        f"{ordinal(place)} of {entries} on {listed([name for _, name in group])}"
        for (place, entries), group in groups
    )


def _without_misprints(changed: Mapping[tuple[str, str], Rank]) -> str:
    if not changed:
        return ""
    by_metric = [
        f"{_ranks(changed, metric)} by {metric.upper()}"
        for metric in SCORES
        if any(one == metric for _, one in changed)
    ]
    return f" (without cells that contradict other printed numbers, {listed(by_metric)})"


def similar_performance(evidence: Evidence) -> Finding:
    """Compare the gap to RDN, called similar, with the lead that the paper calls superior."""
    return _similar(evidence, "rdn")


def fewer_parameters(evidence: Evidence) -> Finding:
    """Compare the gaps to RDN and EDSR, called similar, with the lead called superior."""
    return _similar(evidence, "rdn", "edsr")


def _similar(evidence: Evidence, *rivals: str) -> Finding:
    drfn, msrn = evidence.table2["drfn"], evidence.table2["msrn"]
    sizes, gaps, smallest = [], [], []
    for name in rivals:
        row = evidence.table2[name]
        behind = {key: row[key][PSNR] - drfn[key][PSNR] for key in evidence.sets if key in row}
        ratio = evidence.complexity(name).parameters / evidence.complexity("drfn").parameters
        sizes.append(f"{row['method']} has {ratio:.1f} times the parameters")
        by_set = listed([f"{gap:.2f} on {title(key)}" for key, gap in behind.items()])
        gaps.append(f"{row['method']} by {by_set}")
        smallest.append(min(behind.values()))
    leads = [drfn[name][PSNR] - msrn[name][PSNR] for name in evidence.sets]
    lead, ahead = max(leads), sum(one > 0 for one in leads)
    text = (
        f"{listed(sizes)}, so that half holds. As printed, DRFN is behind {'; behind '.join(gaps)} "
        f"(dB). Section 4.3 calls it superior to most current methods; MSRN, behind it on {ahead} "
        f"of {len(leads)} sets, it leads by {lead:.2f} dB at most: less than all that is called "
        "similar here."
    )
    if min(smallest) > lead:
        return Finding("inconsistent in print", text)
    return holds_in_print(evidence, text)


def computing_power(evidence: Evidence) -> Finding:
    """Find the networks that are better in print with no more multiplications."""
    readings = ("drfn", "drfn-2conv")
    names = [name for name in evidence.table2 if name in MODELS]
    work = {name: evidence.complexity(name).macs for name in (*names, *readings)}
    counted = {name: macs for name, macs in work.items() if macs is not None}
    better, with_two = (_better_for_less(evidence, counted, name) for name in readings)
    amounts = [
        f"{evidence.table2[name]['method']} {macs / 1e9:,.0f}"
        for name, macs in sorted(counted.items(), key=lambda entry: entry[1])
        if name in evidence.table2 and macs
    ]
    twice = f"two convolutions a residual block ({counted['drfn-2conv'] / 1e9:,.0f} G)"
    text = (
        f"{_who(better)} DRFN in print with no more multiplications (for an output of 1280x720, "
        f"in G: {listed(amounts)}). "
        + (f"With {twice} it fails: {_who(with_two)} it." if with_two else f"With {twice}, too.")
    )
    unknown = [row["method"] for name, row in evidence.table2.items() if name not in counted]
    if unknown:
        text += f" Not known here: {listed(unknown)}."
    if better:
        return Finding("refuted", f"As printed it does not hold: {text}")
    return holds_in_print(evidence, text)


def _better_for_less(evidence: Evidence, macs: Mapping[str, int], reading: str) -> list[str]:
    """List the cells of Table 2 above DRFN's, from networks with no more multiplications."""
    drfn = evidence.table2["drfn"]
    return [
        f"{row['method']} on {title(dataset)}"
        for name, row in evidence.table2.items()
        if name != "drfn" and name in macs and macs[name] <= macs[reading]
        for dataset in evidence.sets
        if dataset in row and row[dataset][PSNR] > drfn[dataset][PSNR]
    ]


def _who(cells: Sequence[str]) -> str:
    return f"{listed(cells)} {'beat' if len(cells) > 1 else 'beats'}" if cells else "none beats"
