"""A run record: the identity of a run, whose hash is its id, and what the run gave."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypedDict

from msgspec import convert

from harness.errors import HarnessError
from harness.files import regular


def canonical_json(value: Any) -> str:
    """One string per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def is_plain_name(value: object) -> bool:
    """Whether a value can be part of a path and be printed: text on one line, no separators."""
    return (
        isinstance(value, str)
        and value.isprintable()
        and value not in ("", ".", "..")
        and not set(value) & {"/", "\\"}
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        HarnessError: it cannot be read.
    """
    try:
        with regular(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise HarnessError(f"The file {path} cannot be read ({error}).") from error


@dataclass(frozen=True)
class WeightsInfo:
    """Where a network's values came from.

    Attributes:
        tag: ``official`` (the authors'), ``repro`` (trained by this project), ``file`` (given).
        file: the file's name, without its folder.
        source_sha256: of the file they were read from.
        tensors_sha256: of the names, shapes and values, whatever file carries them.
        licence: as its owner states it.
    """

    tag: str
    file: str
    source_sha256: str
    tensors_sha256: str
    licence: str = "not stated"


@dataclass(frozen=True)
class Identity:
    """Everything that decides a run's numbers; its hash is the run's name.

    A field with a default enters the hash only where it has another value, so that a field that is
    added later leaves the ids of earlier runs as they are.

    Attributes:
        source_sha256: of the network's code, see `harness.models.source`.
        protocol_sha256: of the rules, with the number that stands for their code.
        dataset_sha256: of the names, sizes and pixels of the HR images.
        inference: `harness.models.upscaler.INFERENCE`, which stands for the code that applies
            networks to images.
        weights_sha256: of the names, shapes and values of the tensors.
        metrics_sha256: of the code of metrics that the harness does not define.
        lr_sha256: of LR images that were given; None where the protocol made them.
    """

    model: str
    scale: int
    dataset: str
    protocol: str
    source_sha256: str
    protocol_sha256: str
    dataset_sha256: str
    inference: int
    weights_sha256: str | None = None
    hyper: Mapping[str, Any] = field(default_factory=dict)
    self_ensemble: bool = False
    tile: int | None = None
    metrics: tuple[str, ...] = ("psnr", "ssim")
    metrics_sha256: str | None = None
    lr_sha256: str | None = None

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of the fields that are not at their default."""
        usual = {field.name: _default(field) for field in fields(self)}
        return digest({k: value for k, value in asdict(self).items() if value != usual[k]})

    def to_json(self) -> dict[str, Any]:
        """The object of a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Identity:
        """The inverse of `to_json`.

        Raises:
            ValidationError: fields are missing or of another kind.
        """
        return convert(data, Identity)


@dataclass(frozen=True)
class EarlierIdentity(Identity):
    """What an earlier version of the harness took for a run's identity.

    It is never that of a run of today: the fields say what is known, in today's words.

    Attributes:
        stored: as the record has it; its hash is the record's id.
    """

    stored: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of what is stored."""
        return digest(self.stored)

    def to_json(self) -> dict[str, Any]:
        """The object of the record."""
        return dict(self.stored)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EarlierIdentity:
        """The identity of a record of schema 2, which scored every grey image full-range.

        Raises:
            KeyError, ValidationError: fields are missing or of another kind.
        """
        rules, *options = data["protocol"].split("+")
        if rules.endswith("/rgb"):
            as_rgb = "as-rgb" in options
            options = ["full-range"] * (not as_rgb) + [one for one in options if one != "as-rgb"]
        known = {"protocol": "+".join([rules, *options]), "inference": 0, "stored": data}
        return convert({**data, **known}, cls)


@dataclass(frozen=True)
class Execution:
    """How a run was carried out; recorded, and without influence on its identity."""

    device: str
    threads: int
    executor: str = "serial"


@dataclass(frozen=True)
class ImageResult:
    """One image's scores (psnr in dB), the seconds its forward pass took, and what is to be said.

    Attributes:
        image: its name in the set.
        scores: by metric; infinite where SR and HR are equal.
        seconds: of the network alone.
        note: how the image was converted when it was read, or empty.
    """

    image: str
    scores: Mapping[str, float]
    seconds: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A flat row; an infinite score becomes the string ``inf``."""
        scores = {name: _plain(value) for name, value in self.scores.items()}
        row = {"image": self.image, **scores, "seconds": round(self.seconds, 4)}
        return row | ({"note": self.note} if self.note else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ImageResult:
        """The inverse of `to_json`.

        Raises:
            ValidationError: fields are missing or of another kind.
        """
        others = {name: value for name, value in row.items() if name not in _RESULT}
        scores = convert(others, dict[str, float | Literal["inf", "-inf"]])
        floats = {name: float(value) for name, value in scores.items()}
        return convert({**row, "scores": floats}, cls)


_RESULT = frozenset({"image", "seconds", "note"})
"""What stands in the row of an image beside its scores."""

SCHEMA_VERSION, EARLIER_SCHEMA = 3, 2
"""Of the records that are written, and of those that can be read as well."""


@dataclass(frozen=True)
class RunRecord:
    """Everything that is known of one run; see docs/records.md for the JSON.

    Attributes:
        identity: what decides the numbers.
        status: ``finished``, or ``error`` for a run that broke.
        images: one result an image, in the set's order.
        execution: how it was carried out.
        provenance: the machine and software it was carried out with.
        weights: where the network's values came from.
        parameters: trainable values of the network.
        macs: multiply-accumulate operations for an input of ``macs_input_size``.
        macs_input_size: width and height.
        verified: every HR image is pixel for pixel the published one.
        error: why a broken run broke.
        plugins: the file or distribution, with a hash, that each of the model and the metrics
            which the harness does not define came from, by name.
    """

    identity: Identity
    status: str
    images: tuple[ImageResult, ...]
    execution: Execution
    provenance: Mapping[str, Any]
    weights: WeightsInfo | None = None
    parameters: int | None = None
    macs: int | None = None
    macs_input_size: tuple[int, int] | None = None
    verified: bool = False
    error: str = ""
    plugins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def earlier(self) -> bool:
        """Its identity is one of an earlier version of the harness."""
        return isinstance(self.identity, EarlierIdentity)

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the images whose score is finite; see `infinite`.

        In a record of an earlier version one infinite score makes the mean infinite.
        """
        mean = _mean if self.earlier else finite_mean
        return {
            name: mean([image.scores[name] for image in self.images])
            for name in self.identity.metrics
            if self.images
        }

    @property
    def infinite(self) -> dict[str, int]:
        """How many images have an infinite score, for each metric that has some."""
        counts = {
            name: sum(not math.isfinite(image.scores[name]) for image in self.images)
            for name in self.identity.metrics
        }
        return {name: count for name, count in counts.items() if count}

    def to_json(self) -> dict[str, Any]:
        """The record's JSON object; ``sha256`` is the digest of everything else in it."""
        content = {
            "schema_version": EARLIER_SCHEMA if self.earlier else SCHEMA_VERSION,
            "id": self.identity.id,
            "status": self.status,
            "error": self.error,
            "means": {name: _plain(value) for name, value in self.means.items()},
            "identity": self.identity.to_json(),
            **({} if self.earlier else {"plugins": self.plugins}),
            "weights": asdict(self.weights) if self.weights else None,
            "verified": self.verified,
            "parameters": self.parameters,
            "macs": self.macs,
            "macs_input_size": self.macs_input_size,
            "execution": asdict(self.execution),
            "provenance": dict(self.provenance),
            "images": [image.to_json() for image in self.images],
        }
        return content | {"sha256": digest(content)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        """The inverse of `to_json`.

        Raises:
            ValueError: fields are missing or of another kind, the schema is another, the id is not
                the hash of the identity, or names or scores are none.
        """
        stored = convert(data, _Stored)
        if data["schema_version"] not in (SCHEMA_VERSION, EARLIER_SCHEMA):
            raise ValueError(
                f"schema {data['schema_version']}, this harness reads {EARLIER_SCHEMA} and "
                f"{SCHEMA_VERSION}"
            )
        earlier = data["schema_version"] == EARLIER_SCHEMA
        identity = (EarlierIdentity if earlier else Identity).from_json(data["identity"])
        if identity.id != data["id"]:
            raise ValueError("its id is not the hash of its identity")
        images = tuple(ImageResult.from_json(row) for row in stored.images)
        _require_names(identity, images)
        _require_scores(identity, images, stored.status)
        return cls(
            identity,
            stored.status,
            images,
            stored.execution,
            stored.provenance,
            stored.weights,
            stored.parameters,
            stored.macs,
            stored.macs_input_size,
            stored.verified,
            stored.error,
            stored.plugins,
        )


@dataclass(frozen=True)
class _Stored:
    """The types of a record's fields, see `RunRecord`."""

    status: Literal["finished", "error"]
    error: str
    identity: dict[str, Any]
    weights: WeightsInfo | None
    verified: bool
    parameters: int | None
    macs: int | None
    macs_input_size: tuple[int, int] | None
    execution: Execution
    provenance: dict[str, Any]
    images: list[dict[str, Any]]
    plugins: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        convert(self.provenance, _Provenance)


class _Provenance(TypedDict, total=False):
    """Those parts of a record's provenance that reports and commands use."""

    utc: str
    lr_images: str
    changed_settings: list[str]


def _require_names(identity: Identity, images: Sequence[ImageResult]) -> None:
    """Refuse a record whose names would lead elsewhere as parts of a path, or garble a terminal."""
    shown = [image.image for image in images]
    names = [identity.model, identity.dataset, *shown]
    wrong = next((name for name in names if not is_plain_name(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no name")
    if len(set(shown)) < len(shown):
        raise ValueError("two of its images have one name")


def _require_scores(identity: Identity, images: Sequence[ImageResult], status: str) -> None:
    """Refuse a record that lacks the scores it should have."""
    metrics = set(identity.metrics)
    if not {"psnr", "ssim"} <= metrics or any(set(one.scores) != metrics for one in images):
        raise ValueError(f"its images do not have the scores {', '.join(identity.metrics)}")
    if status == "finished" and not images:
        raise ValueError("it is of a finished run, and has no images")


def _default(one: Field[Any]) -> Any:
    """A field's default; a value that nothing equals where it has none."""
    if one.default_factory is not MISSING:
        return one.default_factory()
    return one.default if one.default is not MISSING else object()


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite ones of some scores; infinite where none is."""
    finite = [value for value in values if math.isfinite(value)]
    return _mean(finite) if finite else max(values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
