"""What ``harness list`` and its kin print: rows of facts, as a table or JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.benchmarks import DatasetUnavailable, find
from harness.data.catalogue import registry_rows
from harness.data.training import FOLDERS, count_of, training_downloads, training_folder
from harness.errors import HarnessError
from harness.paper.selection import foreign_origin
from harness.registry import DATASETS, FAILURES, MODELS, clashes
from harness.report.forms import json_text, plain_table
from harness.specs import DatasetCard, WeightsInfo

if TYPE_CHECKING:
    from harness.protocol.claimed import Claim, Rescored
    from harness.run.store import ResultStore
    from harness.specs import RunRecord

Row = dict[str, Any]

_HASHED = ("sha256", "source")
_HASH = re.compile(r"[0-9a-f]{40,64}")


def models() -> list[Row]:
    """Registered models, then what was left out of plug-ins, and the plug-ins that failed."""
    rows = [
        {
            "model": card.name,
            "pipeline": card.pipeline,
            "input": card.input,
            "scales": " ".join(f"x{scale}" for scale in card.scales),
            "parameters": "" if card.params is None else f"{card.params:,}",
            "paper": card.paper,
            "from": card.origin,
        }
        for card in map(MODELS.get, MODELS)
    ]
    rows += [
        {"model": f"(left out: {one.kind} {one.name})", "from": " and ".join(one.origins)}
        for one in clashes()
    ]
    return rows + [{"model": f"(failed: {why})", "from": name} for name, why in FAILURES.items()]


def datasets(scale: int, data_root: Path | None) -> list[Row]:
    """Registered test sets and whether they are on this machine."""
    return [_dataset(name, scale, data_root) for name in DATASETS]


def _dataset(name: str, scale: int, data_root: Path | None) -> Row:
    card = DATASETS.get(name)
    row: Row = {"dataset": name, "images": card.count or "", "state": "", "where": ""}
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
        return row | {"state": "not here, not for download", "where": ""}
    return row | {"state": f"not here: harness data fetch {name}", "where": ""}


def weights(scale: int) -> list[Row]:
    """Every weights file of every model, and the models that have none."""
    rows: list[Row] = []
    for card in map(MODELS.get, MODELS):
        if card.params != 0 and scale in card.scales:
            rows += list(_weights(card.name, scale))
    return rows


def _weights(name: str, scale: int) -> Iterator[Row]:
    from harness.models.installed import installed, official_rows
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
        "source": _source(info),
        "sha256": info.source_sha256,
        "licence": info.licence,
        "installed": "yes" if installed else "no",
        "where": where,
    }


def _source(info: WeightsInfo) -> str:
    """Repository, commit and path of the authors' files; the file's name for others."""
    for row in registry_rows("weights"):
        if row["sha256"] == info.source_sha256:
            return f"{row['repository']}@{row['commit']}/{row['path']}"
    return info.file


def runs(store: ResultStore) -> list[Row]:
    """Run records; damaged ones are named."""
    from harness.run.store import set_names

    sound = store.sound()
    names = set_names(sound.values())
    return [
        _run(sound[path], names) if path in sound else {"id": "", "model": f"(damaged: {path})"}
        for path in store.paths()
    ]


def _run(record: RunRecord, names: Mapping[tuple[int, str, str], str]) -> Row:
    from harness.run.store import set_of

    identity = record.identity
    how = ["self-ensemble"] * identity.self_ensemble + [f"tile {identity.tile}"] * bool(
        identity.tile
    )
    how += ["given LR images"] * bool(identity.lr_sha256)
    how += ["identity of an earlier version"] * record.earlier
    origin = foreign_origin(record)
    how += [f"code of {origin}"] * bool(origin)
    return {
        "id": identity.id[:12],
        "model": identity.model,
        "dataset": names[set_of(record)],
        "protocol": identity.protocol,
        "weights": record.weights.tag if record.weights else "",
        "how": ", ".join(how),
        "status": record.error or record.status,
        **{name: _rounded(value) for name, value in record.means.items()},
        "utc": record.provenance.get("utc", ""),
    }


def rescored(found: Sequence[Rescored], claim: Claim) -> list[Row]:
    """What each convention gives, and how far that is from what is claimed."""
    return [
        {
            "compared": one.convention.channel,
            "border": one.convention.border(one.scale),
            "window": one.convention.window,
            "otherwise": ", ".join(one.convention.oddities),
            "made": ", ".join(one.made) or ("own convention" if one.own else ""),
            "psnr": _rounded(one.psnr),
            "ssim": _rounded(one.ssim),
        }
        | ({} if claim.psnr is None else {"psnr_difference": _rounded(one.psnr - claim.psnr.value)})
        | ({} if claim.ssim is None else {"ssim_difference": _rounded(one.ssim - claim.ssim.value)})
        for one in found
    ]


def _rounded(value: float) -> float | str:
    """Four decimals; infinity as a word, since JSON has none."""
    return round(value, 4) if math.isfinite(value) else str(value)


def show(rows: Sequence[Row], as_json: bool) -> str:
    """Rows as a plain table, with the first digits of hashes, or as JSON."""
    if as_json:
        return json_text(rows)
    if not rows:
        return "There is nothing to list."
    headers = list(dict.fromkeys(name for row in rows for name in row))
    return plain_table(headers, [[_shown(row, name) for name in headers] for row in rows])


def _shown(row: Row, name: str) -> str:
    """A cell, with the first digits of a hash; empty where the row has none."""
    text = str(row.get(name, ""))
    return _HASH.sub(lambda found: found[0][:12], text) if name in _HASHED else text
