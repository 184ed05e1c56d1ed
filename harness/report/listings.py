"""What ``harness list`` and its kin print: rows of facts, as a table or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.benchmarks import DatasetUnavailable, find
from harness.errors import HarnessError
from harness.registry import DATASETS, FAILURES, MODELS

if TYPE_CHECKING:
    from harness.protocol.conventions import Claim, Rescored
    from harness.specs import RunRecord

Row = dict[str, Any]


def models() -> list[Row]:
    """Registered models, then the plug-ins that failed."""
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
        return row | {"state": f"broken: {error}"}
    state = "as published" if benchmark.verified else "unverified"
    facts = {"images": len(benchmark.images), "state": state}
    return row | facts | {"where": str(benchmark.images[0].path.parent)}


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
            yield _file(name, tag, str(path), info.source_sha256, info.licence)
        except HarnessError as error:
            yield _file(name, tag, str(path), licence=f"broken: {error}")
    if "official" in (tag for _, tag in found):
        return
    for row in official_rows(card, scale):
        place = f"not here: harness weights fetch {name}"
        yield _file(name, "official", place, row["sha256"], row["licence"])
        return
    if not found:
        yield _file(name, "none", f"not here: harness train {name}, or --weights {name}=FILE")


def _file(model: str, tag: str, where: str, sha256: str = "", licence: str = "") -> Row:
    return {"model": model, "tag": tag, "sha256": sha256[:12], "licence": licence, "where": where}


def runs(results: Path) -> list[Row]:
    """Run records below a folder; damaged ones are named."""
    from harness.run.store import ResultStore, read_record

    rows: list[Row] = []
    for path in ResultStore(results).paths():
        try:
            rows.append(_run(read_record(path)))
        except HarnessError:
            rows.append({"id": "", "model": f"(damaged: {path})"})
    return rows


def _run(record: RunRecord) -> Row:
    identity = record.identity
    how = ["self-ensemble"] * identity.self_ensemble + [f"tile {identity.tile}"] * bool(
        identity.tile
    )
    return {
        "id": identity.id[:12],
        "model": identity.model,
        "dataset": identity.dataset,
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
            "made": one.made or ("own convention" if one.own else ""),
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
    """Rows as a plain table or as JSON."""
    if as_json:
        return json.dumps(rows, indent=1)
    if not rows:
        return "There is nothing to list."
    from tabulate import tabulate

    return tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)
