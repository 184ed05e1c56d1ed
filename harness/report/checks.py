"""What ``harness check`` found, for people, for CI and for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from harness.errors import HarnessError, printable
from harness.files import write_atomically
from harness.paper.schema import SCORES
from harness.report.table import json_text, markdown_table

if TYPE_CHECKING:
    from pathlib import Path

    from harness.paper.check import CheckRow

_HEADERS = (
    "model",
    "set",
    "metric",
    "measured",
    "expected",
    "difference",
    "tolerance",
    "tier",
    "run",
    "record",
    "verdict",
)


def check_markdown(rows: Sequence[CheckRow], against: str) -> str:
    """The rows as a Markdown table, and how many numbers had which verdict as a sentence."""
    align = ("left",) * 3 + ("right",) * 4 + ("left",) * 4
    table = markdown_table(_HEADERS, [_cells(row) for row in rows], align)
    counts = Counter(row.verdict for row in rows)
    return (
        f"{table}\n\n"
        f"Of {len(rows)} numbers of the {against}, {counts['ok']} are ok, {counts['FAIL']} FAIL, "
        f"{counts['known misprint']} are known misprints, {counts['other rules']} are as printed "
        f"under other rules, {counts['not run']} were not run."
    )


def _cells(row: CheckRow) -> list[str]:
    numbers = [
        "" if value is None else _shown(row.metric, value, sign)
        for value, sign in ((row.measured, ""), (row.expected, ""), (row.difference, "+"))
    ]
    tolerance = "" if row.tolerance is None else f"{row.tolerance:g}"
    where = [row.model, row.dataset, row.metric]
    return [*where, *numbers, tolerance, row.tier, row.run, row.record, _said(row)]


def _shown(metric: str, value: float, sign: str = "") -> str:
    """A score, or with the sign ``+`` a difference; six digits where the scale is unknown."""
    form = f".{SCORES[metric].exact}f" if metric in SCORES else ".6g"
    return f"{value:{sign}{form}}"


def _said(row: CheckRow) -> str:
    """The verdict with its reason."""
    if row.verdict == "ok":
        return row.verdict
    reasons = [row.reason] if row.reason else []
    if row.tolerance is not None and not abs(row.apart) <= row.tolerance:
        reasons.append(f"{row.image} is off by {_shown(row.metric, row.apart, '+')}")
    return ": ".join([row.verdict, *(["; ".join(reasons)] if reasons else [])])


def write_junit(rows: Sequence[CheckRow], against: str, require: bool, path: Path) -> None:
    """Write the rows as JUnit XML.

    Raises:
        HarnessError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _junit(rows, against, require))
    except OSError as error:
        raise HarnessError(f"The file {path} cannot be written ({error}).") from error


def _junit(rows: Sequence[CheckRow], against: str, require: bool) -> str:
    """One test case a row: violations fail, other numbers that were not run are skipped."""
    suite = ElementTree.Element("testsuite", {"name": f"harness check --against {against}"})
    for row in rows:
        name = " ".join(filter(None, (row.model, row.metric, row.run)))
        where = {"classname": f"{against}.{row.dataset}", "name": name}
        case = ElementTree.SubElement(suite, "testcase", where)
        if row.violates(require):
            ElementTree.SubElement(case, "failure", {"message": _sentence(row)})
        elif row.verdict == "not run":
            ElementTree.SubElement(case, "skipped", {"message": _sentence(row)})
        else:
            ElementTree.SubElement(case, "system-out").text = _sentence(row)
    for name, kind in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(kind))))
    for one in suite.iter():
        # XML has no control characters, not even escaped ones.
        one.attrib |= {key: printable(text) for key, text in one.items()}
        one.text = printable(one.text or "")
    ElementTree.indent(suite)
    body = ElementTree.tostring(suite, "unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _sentence(row: CheckRow) -> str:
    facts = zip(_HEADERS, _cells(row), strict=True)
    shown = [f"{name} {text}" for name, text in list(facts)[3:8] if text]
    return f"{_said(row)} ({', '.join(shown)})"


def check_json(rows: Sequence[CheckRow]) -> str:
    """The rows with their verdicts as JSON; null where there is nothing to say."""
    facts = [asdict(row) | {"difference": row.difference, "verdict": row.verdict} for row in rows]
    return json_text(
        [{key: None if value == "" else value for key, value in one.items()} for one in facts]
    )
