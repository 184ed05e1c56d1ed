"""What ``harness list`` and its kin print: rows of facts, as a table or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cards import DatasetCard
from harness.data.pinned import pinned_rows
from harness.data.testsets import DatasetUnavailable, find
from harness.data.trainsets import FOLDERS, count_of, training_downloads, training_folder
from harness.errors import HarnessError
from harness.record import WeightsInfo, canonical_json
from harness.registry import DATASETS, FAILURES, MODELS, clashes
from harness.report.table import csv_text, json_text, plain_table

if TYPE_CHECKING:
    from harness.protocol.conventions import Claim, Rescored

Row = dict[str, Any]

_HASHED = ("id", "sha256", "source")
_HASH = re.compile(r"[0-9a-f]{40,64}")


def models() -> list[Row]:
    """Registered models, then what was left out of plug-ins, and the plug-ins that failed."""
    rows = [
        {
            "model": card.name,
            "pipeline": card.pipeline,
            "input": card.input,
            "scales": list(card.scales),
            "parameters": card.params,
            "paper": card.paper or None,
            "from": card.origin,
        }
        for card in map(MODELS.get, MODELS)
    ]
    failed = [{"from": name, "error": why} for name, why in FAILURES.items()]
    left_out = [{"from": " and ".join(one.origins), "error": str(one)} for one in clashes()]
    return [*rows, *left_out, *failed]


def datasets(scale: int, data_root: Path | None) -> list[Row]:
    """Registered test sets and whether they are on this machine."""
    return [_dataset(name, scale, data_root) for name in DATASETS]


def _dataset(name: str, scale: int, data_root: Path | None) -> Row:
    card = DATASETS.get(name)
    row: Row = {"dataset": name, "images": card.count or None, "state": None, "where": None}
    try:
        benchmark = find(card, scale, data_root)
    except DatasetUnavailable:
        return row | {"state": "not here"}
    except HarnessError as error:
        others = [
            f"x{other}"
            for other in (2, 3, 4)
            if other != scale and _is_here(card, other, data_root)
        ]
        if others:
            return row | {"state": f"here at {' and '.join(others)} only"}
        return row | {"state": f"broken: {error}"}
    state = "as published" if benchmark.verified else "unverified"
    facts = {"images": len(benchmark.images), "state": state}
    return row | facts | {"where": str(benchmark.images[0].path.parent)}


def _is_here(card: DatasetCard, scale: int, data_root: Path | None) -> bool:
    try:
        find(card, scale, data_root)
    except HarnessError:
        return False
    return True


def training_sets(data_root: Path | None) -> list[Row]:
    """The training and validation sets that are known by name, and whether they are here."""
    return [_training_set(name, data_root) for name in FOLDERS]


def _training_set(name: str, data_root: Path | None) -> Row:
    row: Row = {"dataset": name, "images": count_of(name)}
    folder, _ = training_folder(name, data_root)
    if folder:
        return row | {"state": "here", "where": str(folder)}
    try:
        training_downloads(name)
    except HarnessError:
        return row | {"state": "not here, not for download", "where": None}
    return row | {"state": f"not here: harness data fetch {name}", "where": None}


def weights(scale: int) -> list[Row]:
    """Every weights file of every model, and the models that have none."""
    rows: list[Row] = []
    for card in map(MODELS.get, MODELS):
        if card.params != 0 and scale in card.scales:
            rows += list(_weights(card.name, scale))
    return rows


def _weights(name: str, scale: int) -> Iterator[Row]:
    from harness.models.find_weights import installed, official_rows
    from harness.models.weights import read_weights

    card = MODELS.get(name)
    found = installed(card, scale)
    for path, tag in found:
        try:
            info = read_weights(card, scale, path, tag).info
            yield _file(info, name, str(path), installed=True)
        except HarnessError as error:
            broken = WeightsInfo(tag, path.name, "", "", f"broken: {error}")
            yield _file(broken, name, str(path), installed=True)
    if "official" in (tag for _, tag in found):
        return
    for row in official_rows(card, scale):
        place = f"not here: harness weights fetch {name}"
        info = WeightsInfo("official", row["file"], row["sha256"], "", row["licence"])
        yield _file(info, name, place, installed=False)
        return
    if not found:
        place = f"not here: harness train {name}, or --weights {name}=FILE"
        yield _file(WeightsInfo("none", "", "", "", ""), name, place, installed=False)


def _file(info: WeightsInfo, model: str, where: str, *, installed: bool) -> Row:
    return {
        "model": model,
        "tag": info.tag,
        "source": _source(info) or None,
        "sha256": info.source_sha256 or None,
        "licence": info.licence or None,
        "installed": installed,
        "where": where,
    }


def _source(info: WeightsInfo) -> str:
    """Repository, commit and path of the authors' files; the file's name for others."""
    for row in pinned_rows("weights"):
        if row["sha256"] == info.source_sha256:
            return f"{row['repository']}@{row['commit']}/{row['path']}"
    return info.file


def rescored(found: Sequence[Rescored], claim: Claim) -> list[Row]:
    """What each convention gives, and how far that is from what is claimed."""
    return [
        {
            "compared": one.convention.channel,
            "border": one.convention.border(one.scale),
            "window": one.convention.window,
            "otherwise": list(one.convention.oddities),
            "made": list(one.made),
            "own": one.own,
            "psnr": one.psnr,
            "ssim": one.ssim,
        }
        | ({} if claim.psnr is None else {"psnr_difference": one.psnr - claim.psnr.value})
        | ({} if claim.ssim is None else {"ssim_difference": one.ssim - claim.ssim.value})
        for one in found
    ]


def show(rows: Sequence[Row], as_json: bool) -> str:
    """Rows as a plain table, without empty columns and with the first digits of hashes; or as JSON.

    In JSON every row has all names.
    """
    names = _names(rows)
    if as_json:
        return json_text([{name: row.get(name) for name in names} for row in rows])
    if not rows:
        return "There is nothing to list."
    headers = [name for name in names if any(row.get(name) not in (None, "", []) for row in rows)]
    return plain_table(headers, [[_short(row, name) for name in headers] for row in rows])


def _short(row: Row, name: str) -> object:
    """A cell, with the first digits of a hash."""
    value = row.get(name)
    if name in _HASHED and isinstance(value, str):
        return _HASH.sub(lambda found: found[0][:12], value)
    return value


def csv(rows: Sequence[Row]) -> str:
    """Rows as CSV, in which lists are written as JSON."""
    names = _names(rows)
    return csv_text(names, ([flat(row.get(name)) for name in names] for row in rows))


def flat(value: object) -> object:
    """What goes into a cell of a CSV: lists and objects as JSON."""
    return canonical_json(value) if isinstance(value, list | Mapping) else value


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
