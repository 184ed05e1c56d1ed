"""Run records for the page: what a number rests on, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from harness.paper.select import foreign_origin
from harness.protocol.protocols import USUAL_GREY, protocol
from harness.registry import DATASETS

if TYPE_CHECKING:
    from harness.record import RunRecord


class RecordCard(NamedTuple):
    """A record to be looked up.

    Attributes:
        anchor: what links point to.
        title: which model on which set, by which rules.
        scores: the means, or why the run broke, as text.
        command: what makes the run again.
        facts: names and values, the important ones.
        text: the record as JSON, without its images, whose scores the page draws.
    """

    id: str
    anchor: str
    title: str
    scores: str
    command: str
    facts: tuple[tuple[str, str], ...]
    text: str


def record_cards(records: Iterable[RunRecord], methods: Mapping[str, str]) -> list[RecordCard]:
    """A card for each record; ``methods`` says what the paper calls the models."""
    return [_card(record, methods) for record in records]


def anchor(run: str) -> str:
    """The id of the element that shows a record."""
    return f"run-{run[:12]}"


def _card(record: RunRecord, methods: Mapping[str, str]) -> RecordCard:
    identity = record.identity
    dataset = identity.dataset
    title = DATASETS.get(dataset).title if dataset in DATASETS else dataset
    ensemble = "+" if identity.self_ensemble else ""
    origin = foreign_origin(record)
    method = f"{identity.model} of {origin}" if origin else methods.get(identity.model)
    name = f"{method or identity.model}{ensemble} on {title}"
    shown = {key: value for key, value in record.to_json().items() if key != "images"}
    done = record.status == "finished"
    return RecordCard(
        identity.id,
        anchor(identity.id),
        f"{name}, {identity.protocol}",
        _means(record) if done else f"failed: {record.error}",
        command(record),
        tuple(_facts(record).items()),
        json.dumps(shown, indent=1, ensure_ascii=False),
    )


def _facts(record: RunRecord) -> dict[str, str]:
    identity, weights, made = record.identity, record.weights, record.provenance
    pixels = "as published" if record.verified else "not verified against published pixels"
    return {
        "run": identity.id,
        "file": f"x{identity.scale}/{identity.dataset}/{identity.model}-{identity.id[:12]}.json",
        "weights": f"{weights.tag}, {weights.file}" if weights else "none",
        "weights' SHA-256": weights.source_sha256 if weights else "–",
        "test set": f"{identity.dataset}, {len(record.images)} images, {pixels}",
        "test set's SHA-256": identity.dataset_sha256,
        "protocol": identity.protocol,
        "protocol's SHA-256": identity.protocol_sha256,
        "network's SHA-256": identity.source_sha256,
        "made": f"{made.get('utc', 'unknown')}, on {record.execution.device}",
    }


def command(record: RunRecord) -> str:
    """The ``harness run`` that makes a run again.

    Raises:
        UsageError: the record names a protocol that this harness does not know.
    """
    identity, weights = record.identity, record.weights
    rules = protocol(identity.protocol)
    given = weights is not None and weights.tag == "file"
    model = f"{identity.model}:{weights.tag}" if weights and not given else identity.model
    words = ["harness", "run", "--models", model, "--datasets", identity.dataset]
    if weights and given:
        words += ["--weights", f"{identity.model}={weights.file}"]
    options = {
        "--scale": (rules.scale, 4),
        "--grey": (rules.grey, USUAL_GREY[rules.pipeline]),
        "--border": (rules.border, "replicate"),
        "--tile": (identity.tile, None),
    }
    for option, (value, default) in options.items():
        if value != default:
            words += [option, str(value)]
    words += ["--self-ensemble"] * identity.self_ensemble + ["--float-lr"] * rules.float_lr
    words += ["--float-y"] * rules.float_y
    if identity.lr_sha256:
        words += ["--lr-images", record.provenance.get("lr_images", "DIR")]
    for metric in identity.metrics[2:]:
        words += ["--metric", metric]
    return shlex.join(words)


def _means(record: RunRecord) -> str:
    means, infinite = record.means, record.infinite.get("psnr")
    left_out = f" ({infinite} infinite left out)" if infinite else ""
    return f"{means['psnr']:.4f} dB{left_out} / {means['ssim']:.6f}"
