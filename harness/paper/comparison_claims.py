"""Claims that set DRFN against other methods, which rest on its printed row."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from harness.paper.print_claims import PSNR, table1_rivals
from harness.paper.schema import SCORES, listed, ordinal, title
from harness.paper.verdicts import Finding, row_verdict
from harness.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.paper.findings import Evidence

Rank = tuple[int, int]
"""A place in a column, and the column's length."""


def holds_in_print(evidence: Evidence, said: str) -> Finding:
    """What holds as printed; it is reproduced no sooner than DRFN's own row."""
    if row_verdict(evidence, "drfn") == "reproduced":
        return Finding("reproduced", f"As printed it holds: {said}")
    ending = "DRFN's own row is not reproduced, so print is all there is."
    return Finding("not measured", f"As printed it holds: {said} {ending}")


def superior(evidence: Evidence) -> Finding:
    """DRFN's rank in every printed column of Table 2."""
    columns = [(dataset, metric) for metric in SCORES for dataset in evidence.sets]
    ranks = {column: _rank(evidence, *column, misprints=True) for column in columns}
    clean = {column: _rank(evidence, *column, misprints=False) for column in columns}
    changed = {column: clean[column] for column in columns if clean[column][0] < ranks[column][0]}
    first = sum(rank == 1 for rank, _ in ranks.values())
    most = all(rank <= entries / 2 for rank, entries in ranks.values())
    said = (
        f"DRFN is {_ranks(ranks, 'psnr')} by PSNR, and {_ranks(ranks, 'ssim')} by SSIM"
        f"{_without_misprints(changed)}: {'ahead' if most else 'not ahead'} of most methods in "
        f"every column, and the best in {first or 'none'} of {len(ranks)}. "
    )
    psnr, rivals = table1_rivals(evidence)
    said += (
        f"With the {psnr:.2f} dB that Table 1 has for the same network it would stand behind "
        f"{len(rivals)} methods on Set14."
    )
    if not most:
        return Finding("inconsistent in print", f"As printed it does not hold: {said}")
    return holds_in_print(evidence, said)


def _rank(evidence: Evidence, dataset: str, metric: str, *, misprints: bool) -> Rank:
    """DRFN's place in a column, with the cells that contradict other printed numbers or without."""
    place = list(SCORES).index(metric)
    column = [
        row[dataset][place]
        for model, row in evidence.table2.items()
        if dataset in row and (misprints or (model, dataset, metric) not in evidence.misprints)
    ]
    own = evidence.table2["drfn"][dataset][place]
    return 1 + sum(value > own for value in column), len(column)


def _ranks(ranks: Mapping[tuple[str, str], Rank], metric: str) -> str:
    """Such as ``3rd of 12 on Set5 and Set14, 2nd of 10 on Manga109``."""
    column = [(place, title(dataset)) for (dataset, one), place in ranks.items() if one == metric]
    groups = groupby(column, key=lambda entry: entry[0])
    return ", ".join(
        f"{ordinal(rank)} of {entries} on {listed([name for _, name in group])}"
        for (rank, entries), group in groups
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
    """What is called similar to RDN, against what is called superior."""
    return _similar(evidence, "rdn")


def fewer_parameters(evidence: Evidence) -> Finding:
    """What is called similar to RDN and EDSR, against what is called superior."""
    return _similar(evidence, "rdn", "edsr")


def _similar(evidence: Evidence, *rivals: str) -> Finding:
    own, msrn = evidence.table2["drfn"], evidence.table2["msrn"]
    sizes, gaps, least = [], [], []
    for name in rivals:
        row = evidence.table2[name]
        behind = {one: row[one][PSNR] - own[one][PSNR] for one in evidence.sets if one in row}
        ratio = evidence.complexity(name).parameters / evidence.complexity("drfn").parameters
        sizes.append(f"{row['method']} has {ratio:.1f} times the parameters")
        by_set = listed([f"{gap:.2f} on {title(one)}" for one, gap in behind.items()])
        gaps.append(f"{row['method']} by {by_set}")
        least.append(min(behind.values()))
    leads = [own[name][PSNR] - msrn[name][PSNR] for name in evidence.sets]
    lead, ahead = max(leads), sum(one > 0 for one in leads)
    said = (
        f"{listed(sizes)}, so that half holds. As printed, DRFN is behind {'; behind '.join(gaps)} "
        f"(dB). Section 4.3 calls it superior to most current methods; MSRN, behind it on {ahead} "
        f"of {len(leads)} sets, it leads by {lead:.2f} dB at most: less than all that is called "
        "similar here."
    )
    if min(least) > lead:
        return Finding("inconsistent in print", said)
    return holds_in_print(evidence, said)


def computing_power(evidence: Evidence) -> Finding:
    """Who does better in print with no more multiplications."""
    readings = ("drfn", "drfn-2conv")
    names = [name for name in evidence.table2 if name in MODELS]
    work = {name: evidence.complexity(name).macs for name in (*names, *readings)}
    known = {name: macs for name, macs in work.items() if macs is not None}
    one, two = (_better_for_less(evidence, known, name) for name in readings)
    amounts = [
        f"{evidence.table2[name]['method']} {macs / 1e9:,.0f}"
        for name, macs in sorted(known.items(), key=lambda entry: entry[1])
        if name in evidence.table2 and macs
    ]
    twice = f"two convolutions a residual block ({known['drfn-2conv'] / 1e9:,.0f} G)"
    said = (
        f"{_who(one)} DRFN in print with no more multiplications (for an output of 1280x720, in G: "
        f"{listed(amounts)}). "
        + (f"With {twice} it fails: {_who(two)} it." if two else f"With {twice}, too.")
    )
    unknown = [row["method"] for name, row in evidence.table2.items() if name not in known]
    if unknown:
        said += f" Not known here: {listed(unknown)}."
    if one:
        return Finding("refuted", f"As printed it does not hold: {said}")
    return holds_in_print(evidence, said)


def _better_for_less(evidence: Evidence, macs: Mapping[str, int], reading: str) -> list[str]:
    """Cells of Table 2 above DRFN's, by networks that do not need more multiplications."""
    own = evidence.table2["drfn"]
    return [
        f"{row['method']} on {title(dataset)}"
        for name, row in evidence.table2.items()
        if name != "drfn" and name in macs and macs[name] <= macs[reading]
        for dataset in evidence.sets
        if dataset in row and row[dataset][PSNR] > own[dataset][PSNR]
    ]


def _who(cells: Sequence[str]) -> str:
    return f"{listed(cells)} {'beat' if len(cells) > 1 else 'beats'}" if cells else "none beats"
