"""The points of Figure 5: which there are, and what is written at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from harness.paper.schema import listed
from harness.paper.select import choose_runs
from harness.report.labels import Label
from harness.report.marks import TRAINED_HERE, dagger, dagger_note

if TYPE_CHECKING:
    import pandas as pd

    from harness.cards import GreyRule

Kind = Literal["printed", "declared", "reading", "measured", "trained"]
KINDS: Mapping[Kind, str] = {
    "printed": "printed: both numbers are in the paper",
    "declared": "PSNR printed; parameters not: those of the network as published",
    "reading": "PSNR printed; parameters not: those of the network as it is read here",
    "measured": "measured here",
    "trained": f"measured here, not with the authors' weights ({TRAINED_HERE})",
}
MEASURED: frozenset[Kind] = frozenset({"measured", "trained"})
SUBJECT = "drfn"


@dataclass(frozen=True)
class Point:
    """One network on the plane.

    Attributes:
        method: as the paper writes it, with a dagger where other weights than the authors' ran.
        parameters: trainable values.
        psnr: on Set14, in dB.
        run: the id of the run that measured it, or empty.
    """

    model: str
    method: str
    kind: Kind
    parameters: float
    psnr: float
    run: str = ""


def points(runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None) -> list[Point]:
    """Printed points, then measured ones.

    Where the paper prints no parameter count, that of the network as published is taken.
    """
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    found = []
    for point in paper["figure5"]["points"]:
        model, counted = point["model"], point["parameters"]
        kind: Kind = "printed" if point["parameters_printed"] else "declared"
        kind = "reading" if point.get("reading") else kind
        found.append(Point(model, methods[model], kind, counted, point["psnr"]))
    for model, run in _measured(runs, paper, grey).items():
        own = dagger(run["record"])
        kind = "trained" if own else "measured"
        method, count = methods.get(model, model) + own, int(run["parameters"])
        found.append(Point(model, method, kind, count, float(run["psnr"]), run["id"]))
    return found


def _measured(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None
) -> dict[str, pd.Series[Any]]:
    """The run on the figure's set of each model that has parameters and a finite mean."""
    chosen = choose_runs(runs, paper["figure5"]["scale"], grey).items()
    return {
        model: run
        for (model, dataset), run in chosen
        if dataset == paper["figure5"]["set"]
        and (run["parameters"] or 0) > 0  # a stranger's record need not say
        and isfinite(run["psnr"])
    }


def footnotes(
    runs: pd.DataFrame, paper: Mapping[str, Any], grey: GreyRule | None, drawn: Sequence[Point]
) -> list[str]:
    """What has no place in the figure, and what its dagger means."""
    methods = {row["model"]: row["method"] for row in paper["table2"]["rows"]}
    absent = unplaced(paper, drawn)
    said = [f"Not placed, having no parameters or no known count: {listed(absent)}."]
    records = [run["record"] for run in _measured(runs, paper, grey).values()]
    return [*(said if absent else []), *filter(None, [dagger_note(records, methods)])]


def unplaced(paper: Mapping[str, Any], drawn: Sequence[Point]) -> list[str]:
    """Methods of Table 2 that have no place: no parameters, or no count that is known."""
    models = {point.model for point in drawn}
    return [row["method"] for row in paper["table2"]["rows"] if row["model"] not in models]


def described(drawn: Sequence[Point]) -> str:
    """What the figure shows, in words."""
    said = ["Trainable parameters, on a logarithmic axis, against PSNR on Set14 at x4."]
    for kind, label in KINDS.items():
        some = [
            f"{point.method} {short_count(point.parameters)}, {point.psnr:.2f} dB"
            for point in drawn
            if point.kind == kind
        ]
        said += [f"{label[0].upper()}{label[1:]}: {'; '.join(some)}."] if some else []
    return " ".join(said)


def named(drawn: Sequence[Point]) -> dict[int, str]:
    """Names by point: of all but those that a named one of their network all but covers."""
    chosen: dict[int, str] = {}
    for index, point in enumerate(drawn):
        twins = (drawn[i] for i in chosen if drawn[i].model == point.model)
        if not any(_close(point, twin, 0.1, 1.25) for twin in twins):
            chosen[index] = point.method
    return chosen


def key_order(drawn: Sequence[Point]) -> list[int]:
    """The points that get a name in the order of a numbered key: from left to right."""
    return sorted(named(drawn), key=lambda index: (drawn[index].parameters, -drawn[index].psnr))


def numbered(drawn: Sequence[Point]) -> dict[int, str]:
    """Numbers in the key by point, such as 7, or 7–9 at the first of three in one place."""
    order, numbers, first = key_order(drawn), {}, 0
    for place, index in enumerate(order):
        if not _close(drawn[index], drawn[order[first]], 0.01, 1.01):
            first = place
        numbers[order[first]] = "–".join(dict.fromkeys([str(first + 1), str(place + 1)]))
    return numbers


def room_for(count: int) -> float:
    """Height of the plot for a number of names, as a multiple of its usual height."""
    return min(max(1.0, count / 50), 2.5)


def links(drawn: Sequence[Point]) -> list[tuple[int, int]]:
    """Which printed point belongs to which measured one."""
    printed = {point.model: i for i, point in enumerate(drawn) if point.kind not in MEASURED}
    return [
        (printed[point.model], i)
        for i, point in enumerate(drawn)
        if point.kind in MEASURED and point.model in printed
    ]


def _close(one: Point, other: Point, psnr: float, ratio: float) -> bool:
    larger, smaller = sorted((one.parameters, other.parameters), reverse=True)
    return abs(one.psnr - other.psnr) < psnr and larger < ratio * smaller


def is_named(labels: Sequence[Label], drawn: Sequence[Point]) -> bool:
    """Whether labels are names; else they are numbers."""
    return all(label.text == named(drawn)[label.point] for label in labels)


def short_count(value: float) -> str:
    """A count in three digits, in thousands or millions where it has more: ``57.3k``, ``5.21M``."""
    rounded = float(f"{value:.3g}")
    size, letter = next((s for s in ((1e6, "M"), (1e3, "k")) if rounded >= s[0]), (1, ""))
    return f"{rounded / size:g}{letter}"
