"""The rows of a check: one number beside the one that is expected."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.errors import UsageError

Known = Literal["", "known misprint", "other rules"]
Verdict = Literal["ok", "FAIL", "not run", "known misprint", "other rules"]


@dataclass(frozen=True)
class Row:
    """One number beside the one that is expected.

    Attributes:
        model: its name.
        dataset: the set.
        metric: its name, such as ``psnr`` (in dB); ``record`` for a local record that is not sound.
        expected: what the reference or the paper says; None for a record that is not sound.
        run: how the number was made: the protocol, what was unusual, the kind of weights; empty
            where the paper's cell has no run.
        record: the beginning of the run's id; empty without a run.
        measured: mean over the set; None where there is no finished run with this metric.
        tolerance: how far the two may differ; None where nothing is measured.
        tier: the name of the tolerance's tier.
        known: what excuses a number that is not as printed: a misprint, by the paper's other
            numbers, or other rules, under which the authors' weights give what is printed.
        broken: the run broke, or its record is not sound.
        reason: what is known of a printed number, what is wrong with the run or its record, or what
            the record does not share with its reference.
        image: the image whose score is farthest from the reference's, where both runs have the same
            weights and images; a mean can hide it. With other weights, one whose score is infinite
            in one of the runs only; beside a printed number, one whose score is infinite.
        apart: how far that image's score is from the reference's.
    """

    model: str
    dataset: str
    metric: str
    expected: float | None = None
    run: str = ""
    record: str = ""
    measured: float | None = None
    tolerance: float | None = None
    tier: str = ""
    known: Known = ""
    broken: bool = False
    reason: str = ""
    image: str = ""
    apart: float = 0.0

    @property
    def difference(self) -> float | None:
        """Measured minus expected; 0 where both are infinite."""
        if self.measured is None or self.expected is None:
            return None
        return distance(self.measured, self.expected)

    @property
    def verdict(self) -> Verdict:
        """What came of it; a number that agrees with what looks wrong is ok."""
        if self.broken:
            return "FAIL"
        if self.difference is None or self.tolerance is None:
            return "not run"
        if all(abs(off) <= self.tolerance for off in (self.difference, self.apart)):
            return "ok"
        return self.known or "FAIL"

    def violates(self, require: bool) -> bool:
        """Whether the check fails for it; with ``require``, also where there is no run.

        A run without a metric that its reference has fails in any case.
        """
        return self.verdict == "FAIL" or (self.verdict == "not run" and (require or self.lacking))

    @property
    def lacking(self) -> bool:
        """There is a finished run, and it lacks the metric."""
        return bool(self.record) and self.measured is None and not self.broken


def distance(one: float, other: float) -> float:
    """One score minus another; 0 where both are infinite."""
    return 0.0 if one == other else one - other


def restrict(rows: Sequence[Row], models: Sequence[str], datasets: Sequence[str]) -> list[Row]:
    """The rows of some models and sets: names, globs or ``all``.

    Raises:
        UsageError: a word fits none, so that a check of it would pass unseen.
    """
    for kind, words in (("model", models), ("dataset", datasets)):
        names = list(dict.fromkeys(getattr(row, kind) for row in rows))
        kept: set[str] = set()
        for word in words:
            found = names if word == "all" else fnmatch.filter(names, word)
            if not found:
                there = ", ".join(names) or "nothing"
                raise UsageError(f"No {kind} {word!r} is among what is expected: {there}.")
            kept |= set(found)
        rows = [row for row in rows if getattr(row, kind) in kept]
    return list(rows)


def with_tolerance(rows: Iterable[Row], psnr: float) -> list[Row]:
    """The rows with one PSNR tolerance (dB) in the place of every tier's."""
    return [
        replace(row, tolerance=psnr) if row.metric == "psnr" and row.tier else row for row in rows
    ]
