"""The table of results for a user's own paper: chosen methods, sets and metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import UsageError
from harness.models.cost import OUTPUT_SIZE, measure_complexity
from harness.paper.schema import SCORES, title
from harness.paper.select import is_by_the_authors, without_grey
from harness.registry import DATASETS, METRICS, MODELS
from harness.report.legend import (
    FAILED,
    PUBLISHED,
    TRAINED_HERE,
    Shown,
    dagger,
    dagger_note,
    grey_note,
)
from harness.report.plot import short_count
from harness.report.results import Number, best_two, pipeline_of
from harness.report.table import BEST, Table
from harness.run.provenance import weights_file
from harness.text import Marked, listed

if TYPE_CHECKING:
    from harness.paper.findings import Findings
    from harness.paper.schema import Paper, Row
    from harness.paper.verdicts import JudgedCell, JudgedRow
    from harness.record import RunRecord

ABSENT = "-"
"""Shown where a method has no number."""

PRINTED = "*"
"""The mark of a method whose numbers are those that the paper prints."""

COLUMNS = ("params", "macs")
"""The columns that a table can have beside its scores."""


@dataclass(frozen=True)
class OwnTable:
    """What a user wants in a table; names are those of `harness list models`, or globs.

    Attributes:
        models: the methods, in their order in the table; all that have runs if empty.
        datasets: the sets, in the order of the columns; all that have runs if empty.
        printed: the methods whose numbers are taken from the paper instead of from runs.
        scale: the only scale; None for all that the methods have runs of.
        metrics: the metrics, in their order within a cell.
        digits: the decimals of each metric; by default those of papers.
        columns: further columns, of `COLUMNS`.
        renamed: other names for methods, by name.
        caption: replaces the description of the scores; the marks are explained after it.
        label: the LaTeX label; without ``tab:`` it is the stem of the files.
    """

    models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    printed: Sequence[str] = ()
    scale: int | None = None
    metrics: Sequence[str] = ("psnr", "ssim")
    digits: Sequence[int] = ()
    columns: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    label: str = "tab:own-table"


@dataclass(frozen=True, eq=False)
class _Line:
    """A method at one scale: the row of the paper, or the judged row of its runs."""

    printed: Row | None = None
    judged: JudgedRow | None = None

    @property
    def row(self) -> Row:
        row = self.printed or (self.judged and self.judged.row)
        assert row
        return row

    @property
    def names(self) -> set[str]:
        """What a user may call it: the registered model, or the name in the paper."""
        return {self.row.word, self.row.method}

    def matches(self, words: Iterable[str]) -> bool:
        """Whether one of the words is its name, ``all`` or a glob; case does not matter.

        The name of a model also stands for each of its checkpoints, such as ``mine:a``.
        """
        names = {name.lower() for name in self.names}
        ensemble = "+" * self.row.self_ensemble
        names |= {name.partition(":")[0] + ensemble for name in names if ":" in name}
        patterns = ["*" if word.lower() == "all" else word.lower() for word in words]
        return any(fnmatchcase(name, pattern) for name, pattern in product(names, patterns))

    def cell(self, dataset: str, metric: str) -> JudgedCell | None:
        cells = self.judged.cells if self.judged else ()
        return next((one for one in cells if (one.dataset, one.metric) == (dataset, metric)), None)

    def value(self, dataset: str, metric: str) -> float | None:
        """The number that is shown; None without one."""
        if self.printed:
            return self.printed.printed.get((dataset, metric))
        cell = self.cell(dataset, metric)
        return cell.value if cell else None

    def failed(self, dataset: str) -> bool:
        """Whether the run on a set failed, and no other is finished."""
        cells = self.judged.cells if self.judged else ()
        return any(one.failed for one in cells if one.dataset == dataset)

    def runs(self, datasets: Sequence[str]) -> list[RunRecord]:
        """The runs that the numbers are from."""
        cells = self.judged.cells if self.judged else ()
        return [one.shown for one in cells if one.shown and one.dataset in datasets]


def own_table(findings: Findings, wanted: OwnTable) -> Table:
    """Make a table with a line for each method that the user names, in that order.

    Raises:
        UsageError: a method has no runs or is not printed, or a set, metric or column is unknown.
    """
    _check(wanted)
    ran = _ran(findings, wanted)
    wanted = replace(
        wanted,
        models=[*map(ran.spelling, wanted.models)],
        renamed={ran.spelling(name): text for name, text in wanted.renamed.items()},
    )
    datasets = _datasets(findings.paper, ran, wanted)
    lines = _lines(findings.paper, ran, wanted, datasets)
    renamed = _renamed(lines, wanted)
    write = _writer(wanted)
    marks = best_two(number for line in lines for number in _numbers(line, datasets, wanted, write))
    scales = {line.row.scale for line in lines}
    headers = ["Method", *["Scale"] * (len(scales) > 1), *map(_HEADERS.__getitem__, wanted.columns)]
    rows = []
    for line in lines:
        cells = [_cell(line, dataset, wanted, write, marks) for dataset in datasets]
        scale = [f"x{line.row.scale}"] * (len(scales) > 1)
        costs = [_cost(line, column, datasets) for column in wanted.columns]
        rows.append([_name(line, renamed), *scale, *costs, *cells])
    places = product(lines, datasets, wanted.metrics)
    tidy = pd.DataFrame([_facts(*place) for place in places])
    return Table(
        wanted.label.removeprefix("tab:").replace(":", "-"),
        _caption(findings.paper, wanted, lines, datasets),
        [*headers, *map(title, datasets)],
        rows,
        tidy,
        label=wanted.label,
        remarks=_remarks(ran, lines, datasets, renamed),
        for_a_paper=True,
    )


def left_out(findings: Findings, wanted: OwnTable) -> list[str]:
    """Say which checkpoints of its networks a table does not show, see `Evidence.left_out`."""
    words = [word.rstrip("+") for word in wanted.models or ["*"] if word not in wanted.printed]
    models = ["*" if word.lower() == "all" else word for word in words if ":" not in word]
    return [*_ran(findings, wanted).left_out(models)]


def _ran(findings: Findings, wanted: OwnTable) -> Findings:
    """The runs without the paper, whose table may lack sets, metrics and scales of them."""
    tagged = [word for word in wanted.models if ":" in word]
    return replace(findings, paper=None, weights_of=(*tagged, *findings.weights_of))


_HEADERS = {"params": "Params", "macs": "MACs (G)"}


def _check(wanted: OwnTable) -> None:
    """Refuse a metric, a column, decimals and a label that cannot be."""
    for metric in wanted.metrics:
        METRICS.get(metric)
    if unknown := [name for name in wanted.columns if name not in COLUMNS]:
        raise UsageError(f"No column is called {unknown[0]!r}: there are {' and '.join(COLUMNS)}.")
    if wanted.digits and len(wanted.digits) != len(wanted.metrics):
        raise UsageError(
            f"--digits needs a number of decimals for each of {', '.join(wanted.metrics)}: "
            f"{len(wanted.digits)} were given."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:_.-]*", wanted.label):
        raise UsageError(
            f"--label {wanted.label!r} is no LaTeX label: use letters, digits, ':', '.', '_', '-'."
        )


def _datasets(paper: Paper | None, ran: Findings, wanted: OwnTable) -> list[str]:
    """Return the sets that are asked for, among those of the runs and of the paper."""
    (of_runs,) = ran.tables
    of_paper = [name for row in (paper.rows if paper else ()) for name in row.sets]
    known = list(dict.fromkeys([*of_runs.columns, *of_paper]))
    chosen: dict[str, None] = dict.fromkeys([] if wanted.datasets else of_runs.columns or known)
    for word in wanted.datasets:
        pattern = "*" if word.lower() == "all" else word.lower()
        found = [name for name in known if fnmatchcase(name.lower(), pattern)]
        if not found:
            raise _unknown("set", word, [*known, *DATASETS], "there is no number on it")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _lines(
    paper: Paper | None, ran: Findings, wanted: OwnTable, datasets: Sequence[str]
) -> list[_Line]:
    """Return the lines that are asked for, by scale and then in the order of the request."""
    of_paper = [_Line(row) for row in _printed_rows(paper)]
    for word in wanted.printed:
        if not any(line.matches([word]) for line in of_paper):
            name = paper.source.id if paper else "none"
            names = {name for line in of_paper for name in line.names}
            raise _unknown("method", word, names, f"the --paper {name} prints no number of it")
    printed = [line for line in of_paper if line.matches(wanted.printed)]
    measured = [
        line
        for line in (_Line(judged=_placed(row, paper, ran.rows)) for row in ran.rows)
        if not line.matches(wanted.printed) and _has_run(line, datasets)
    ]
    chosen: dict[_Line, None] = {}
    for word in wanted.models or ["all"]:
        found = [line for line in (*printed, *measured) if line.matches([word])]
        if not found:
            raise _missing(word, of_paper, ran)
        if ":" in word:  # of several checkpoints, the order of the records says nothing
            found.sort(key=lambda line: line.row.word)
        chosen |= dict.fromkeys(found)
    if left := [word for word in wanted.printed if not any(x.matches([word]) for x in chosen)]:
        raise UsageError(f"--printed names {left[0]}, which is not among the --models: add it.")
    scales = {line.row.scale for line in measured if line in chosen} or {
        line.row.scale for line in chosen
    }
    if wanted.scale:
        scales = {wanted.scale}
    lines = [line for line in chosen if line.row.scale in scales]
    if not lines:
        raise UsageError(f"None of these methods has a number at x{wanted.scale}: correct --scale.")
    return sorted(lines, key=lambda line: line.row.scale)


def _printed_rows(paper: Paper | None) -> Iterator[Row]:
    """Yield a row for each method and scale, with its numbers of all tables under this protocol."""
    rows: dict[tuple[int, str], Row] = {}
    for row in paper.rows if paper else ():
        if not row.table.obstacle(row.scale):
            known = rows.setdefault((row.scale, row.method), row)
            rows[row.scale, row.method] = replace(known, printed={**row.printed, **known.printed})
    yield from rows.values()


def _placed(judged: JudgedRow, paper: Paper | None, rows: Sequence[JudgedRow]) -> JudgedRow:
    """Call the network of a row of runs as the paper does, if it has it."""
    row = judged.row
    if paper is None or row.model not in paper.models:
        return judged
    plain = replace(row, tag="").word
    authors = [
        one
        for one in rows
        if _is_by_authors(one)
        and (replace(one.row, tag="").word, one.row.scale) == (plain, row.scale)
    ]
    # The paper's name without a tag stands for the authors' weights, if there is one set of them.
    word = plain if authors == [judged] else row.word
    method = paper.names.get(row.model, row.model) + word.removeprefix(row.model)
    return replace(judged, row=replace(row, method=method, in_paper=True))


def _is_by_authors(judged: JudgedRow) -> bool:
    runs = [cell.shown for cell in judged.cells if cell.shown]
    return bool(runs) and all(map(is_by_the_authors, runs))


def _has_run(line: _Line, datasets: Sequence[str]) -> bool:
    return bool(line.runs(datasets)) or any(map(line.failed, datasets))


def _missing(word: str, of_paper: Sequence[_Line], ran: Findings) -> UsageError:
    """Say what to do about a method that has no number to show."""
    print_it = any(line.matches([word]) for line in of_paper)
    has_run = any(_Line(judged=row).matches([word]) for row in ran.rows)
    model = word.partition(":")[0]
    if print_it or has_run or model in MODELS:
        printed = f", or show the paper's numbers with --printed {word}" * print_it
        return UsageError(
            f"There is no run of {word} on these sets in the run records: make it with harness run "
            f"--models {model}, or add the folder that has it with a further --results{printed}."
        )
    names = {name for row in ran.rows for name in (row.row.word, row.row.method)}
    return _unknown("method", word, [*names, *MODELS], "there are no run records of it")


def _unknown(kind: str, word: str, known: Iterable[str], reason: str) -> UsageError:
    names = sorted(set(known))
    near = get_close_matches(word.lower(), names, 1) or get_close_matches(word, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}."
    return UsageError(f"The {kind} {word!r} is not known ({reason}): {hint}")


Writer = Callable[["_Line", str, float], str]
"""Writes a line's value of a metric."""


def _writer(wanted: OwnTable) -> Writer:
    """Return the function that writes numbers: printed ones get no digits that print lacks."""
    digits = dict(zip(wanted.metrics, wanted.digits, strict=False))

    def write(line: _Line, metric: str, value: float) -> str:
        of_table = line.row.table.scores.get(metric, 3)
        usual = SCORES[metric].printed if metric in SCORES else of_table
        chosen = digits.get(metric, usual)
        return f"{value:.{min(chosen, of_table) if line.printed else chosen}f}"

    return write


def _numbers(
    line: _Line, datasets: Sequence[str], wanted: OwnTable, write: Writer
) -> Iterator[Number]:
    """Yield the numbers of a line as they are shown."""
    for dataset, metric in product(datasets, wanted.metrics):
        value = line.value(dataset, metric)
        if value is not None:
            yield line.row.scale, dataset, metric, write(line, metric, value)


def _cell(
    line: _Line, dataset: str, wanted: OwnTable, write: Writer, marks: Mapping[Number, str]
) -> str:
    """Write the numbers of a method on a set, the best ones marked."""
    texts = {number[2]: number for number in _numbers(line, [dataset], wanted, write)}
    if not texts:
        return FAILED if line.failed(dataset) else ABSENT
    parts = []
    for metric in wanted.metrics:
        number = texts.get(metric)
        parts += [("/", ""), (number[-1], marks.get(number, "")) if number else (ABSENT, "")]
    daggers = (dagger(run, line.row) for run in line.runs([dataset]))
    return Marked([*parts[1:], (max(daggers, default=""), "")])


def _renamed(lines: Sequence[_Line], wanted: OwnTable) -> dict[_Line, str]:
    """Return the user's names of lines; at several scales, a method has one line for each.

    Raises:
        UsageError: a name of ``--rename`` stands for no method of the table, or for several.
    """
    renamed: dict[_Line, str] = {}
    for name, text in wanted.renamed.items():
        found = [line for line in lines if line.matches([name])]
        words = dict.fromkeys(line.row.word for line in found or lines)
        if not found or len(words) > 1:
            several = "several methods of" if found else "no method of"
            raise UsageError(f"--rename {name} stands for {several} the table: {listed([*words])}.")
        renamed |= dict.fromkeys(found, text)
    return renamed


def _name(line: _Line, renamed: Mapping[_Line, str]) -> str:
    """Name a method as the user, the paper or the record does, with the mark of printed ones."""
    return renamed.get(line, line.row.method) + PRINTED * bool(line.printed)


def _cost(line: _Line, column: str, datasets: Sequence[str]) -> str:
    """Write the parameters or MACs of the network that ran, else of the registered one."""
    run = next((run for run in line.runs(datasets) if run.parameters is not None), None)
    params, macs = (run.parameters, run.macs) if run else (None, None)
    if not run and line.row.model in MODELS:
        card = MODELS.get(line.row.model)
        if card.params != 0 and line.row.scale in card.scales:
            counted = measure_complexity(card, line.row.scale, {})
            params, macs = counted.parameters, counted.macs
    if not params:
        return ABSENT
    if column == "params":
        return short_count(params)
    return ABSENT if macs is None else f"{macs / 1e9:,.2f}"


def _facts(line: _Line, dataset: str, metric: str) -> dict[str, Any]:
    """Collect a number for the CSV, with all digits and the run that it is from."""
    value, cell = line.value(dataset, metric), line.cell(dataset, metric)
    run = cell.shown if cell and value is not None else None
    return {
        "model": line.row.word,
        "scale": line.row.scale,
        "dataset": dataset,
        "metric": metric,
        "value": None if value is None else round(value, 6),
        "source": "" if value is None else "printed" if line.printed else "measured",
        "protocol": run.identity.protocol if run else "",
        "run": run.identity.id if run else "",
    }


def _caption(
    paper: Paper | None, wanted: OwnTable, lines: Sequence[_Line], datasets: Sequence[str]
) -> str:
    """Describe the numbers to the readers of a paper, then explain the marks in use."""
    several = len({line.row.scale for line in lines}) > 1
    text = wanted.caption.rstrip()
    end = "" if text.endswith((".", "!", "?")) else "."
    parts = [text + end if text else _description(wanted, lines), BEST[several]]
    if "macs" in wanted.columns:
        parts.append(f"MACs for an output of {OUTPUT_SIZE[0]} x {OUTPUT_SIZE[1]} pixels.")
    if any(line.printed for line in lines) and paper:
        of = {line.row.table.read_from for line in lines if line.printed}
        documents = sorted({document for some in of for document in some})
        read = f" (read from {listed(documents)})" if documents else ""
        parts.append(f'{PRINTED} As printed in "{paper.source.title}"{read}.')
    marks = {dagger(run, line.row) for line in lines for run in line.runs(datasets)}
    return " ".join([*parts, *(text for mark, text in _DAGGERS.items() if mark in marks)])


_DAGGERS = {
    TRAINED_HERE: f"{TRAINED_HERE} Not the authors' weights of this network.",
    PUBLISHED: f"{PUBLISHED} Scored on SR images that were made elsewhere.",
}


def _description(wanted: OwnTable, lines: Sequence[_Line]) -> str:
    """Describe the scores."""
    on_rgb = [name for name in wanted.metrics if METRICS.get(name).on == "rgb"]
    titles = [_TITLES.get(name, name.upper()) for name in wanted.metrics]
    scales = sorted({line.row.scale for line in lines})
    border = f"{scales[0]} px" if len(scales) == 1 else "as many pixels as the scale"
    colour = f" ({listed([name.upper() for name in on_rgb])} on RGB)" if on_rgb else ""
    return (
        f"{' / '.join(titles)} on luma{colour}, {listed([f'x{scale}' for scale in scales])}, "
        f"bicubic degradation, border of {border} left out."
    )


_TITLES = {"psnr": "PSNR (dB)"}


def _remarks(
    ran: Findings, lines: Sequence[_Line], datasets: Sequence[str], renamed: Mapping[_Line, str]
) -> list[str]:
    """Tell the author of a paper under which rules, and with which weights, the numbers came."""
    runs = [run for line in lines for run in line.runs(datasets)]
    measured = [line for line in lines if line.judged]
    texts = {"y": "luma, degraded in double and compared in uint8"}
    texts["rgb"] = "colour, degraded in uint8 and compared in float luma"
    parts = ["Degraded as by MATLAB's imresize; luma of BT.601."] if measured else []
    for name, text in texts.items():
        of = [one for one in measured if one.judged and pipeline_of(one.judged) == name]
        names = dict.fromkeys(_name(line, renamed) for line in of)
        parts += [f"Pipeline {name} ({text}): {', '.join(names)}."] if names else []
    if not all(map(without_grey, runs)):
        parts.append(f"{grey_note(ran.rules, ran.tables[0])}.")
    weights = {
        f"{_name(line, renamed)} {Path(weights_file(run) or run.weights.file).name} "
        f"({run.identity.weights_sha256[:8]})": None
        for line in measured
        for run in line.runs(datasets)
        if run.weights and run.identity.weights_sha256
    }
    parts += [f"Weights, with digits of their SHA-256: {listed([*weights])}."] if weights else []
    if unverified := sorted({run.identity.dataset for run in runs if not run.verified}):
        parts.append(f"Not verified against published pixels: {', '.join(unverified)}.")
    shown = (
        Shown(_name(line, renamed), line.row, run) for line in lines for run in line.runs(datasets)
    )
    return [*parts, *filter(None, [dagger_note(shown)])]
