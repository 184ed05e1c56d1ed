"""A run record: the identity of a run, whose hash is the run's id, and its results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal, TypedDict, get_type_hints

from msgspec import convert

from harness.errors import HarnessError
from harness.files import regular


def canonical_json(value: Any) -> str:
    """Serialise a value to JSON in one fixed form: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hexadecimal."""
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
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        HarnessError: the file cannot be read.
    """
    try:
        with regular(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise HarnessError(f"The file {path} cannot be read ({error}).") from error


@dataclass(frozen=True)
class WeightsInfo:
    """Where a network's weights came from.

    Attributes:
        tag: ``official`` (by the authors), ``repro`` (trained by this project), or the name of the
            user's file; a label, see `harness.models.weights.authors_row` for whose they are.
        file: the file's name, without its folder.
        source_sha256: hash of the weights file.
        tensors_sha256: hash of the names, dtypes, shapes and values, whatever the file format.
        licence: the licence as its owner states it.
    """

    tag: str
    file: str
    source_sha256: str
    tensors_sha256: str
    licence: str = "not stated"


@dataclass(frozen=True)
class Identity:
    """Everything that decides a run's numbers; its hash is the run's id.

    A field at its default value does not enter the hash, so that a field added later does not
    change the ids of earlier runs.

    Attributes:
        model: the network's name.
        scale: the factor between LR and HR.
        dataset: the set's name.
        protocol: the rules by name, ``BI-x4/y``, with ``+as-rgb`` or ``+full-range``,
            ``+symmetric``, ``+float-lr`` and ``+float-y`` where they are not the pipeline's own.
        source_sha256: hash of the network's code, see `harness.models.source`; empty for published
            images.
        protocol_sha256: hash of the rules and of the version number of their code.
        dataset_sha256: hash of the names, sizes and decoded pixels of the HR images.
        inference: `harness.models.upscaler.INFERENCE`, the version number of the code that applies
            networks to images, raised by hand when a change of that code changes a score; 0 for
            published images.
        weights_sha256: hash of the names, dtypes, shapes and values of the tensors, if any.
        hyper: the arguments the network was built with.
        self_ensemble: the outputs of eight flips and rotations were averaged; for published images,
            by their authors, as the user states.
        tile: LR pixels a side of the tiles the images were cut into; None for whole images.
        metrics: the metrics that were computed.
        metrics_sha256: hash of the code of plug-in metrics.
        lr_sha256: hash of the pixels of the LR images that the user gave, if any.
        sr_sha256: hash of the names and pixels of the published SR images that were scored in place
            of a network's output, if any.
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
    sr_sha256: str | None = None

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of all fields that are not at their default."""
        defaults = {field.name: _default(field) for field in fields(self)}
        return digest({k: value for k, value in asdict(self).items() if value != defaults[k]})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object for a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Identity:
        """Create an object from the JSON of `to_json`.

        Raises:
            ValidationError: fields are missing or have the wrong type.
        """
        return convert(data, Identity)


@dataclass(frozen=True)
class EarlierIdentity(Identity):
    """The identity of a run that an earlier version of the harness made.

    It never equals that of a current run: the fields hold what is known, in current terms.

    Attributes:
        stored: the identity as stored in the record; its hash is the record's id.
    """

    stored: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of the stored identity."""
        return digest(self.stored)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object for the record, as it was stored."""
        return dict(self.stored)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EarlierIdentity:
        """Read the identity of a record of schema 2, which scored every grey image full-range.

        Raises:
            KeyError, ValidationError: fields are missing or have the wrong type.
        """
        rules, *options = data["protocol"].split("+")
        if rules.endswith("/rgb"):
            as_rgb = "as-rgb" in options
            options = ["full-range"] * (not as_rgb) + [name for name in options if name != "as-rgb"]
        known = {"protocol": "+".join([rules, *options]), "inference": 0, "stored": data}
        return convert({**data, **known}, cls)


@dataclass(frozen=True)
class Execution:
    """How a run was executed; recorded, but not part of its identity.

    Attributes:
        device: as torch names it, such as ``cpu``.
        threads: number of threads; of one worker, if there are several.
        executor: ``serial`` or ``dask``.
    """

    device: str
    threads: int
    executor: str = "serial"


@dataclass(frozen=True)
class ImageResult:
    """One image's scores (psnr in dB), forward time and note.

    Attributes:
        image: the image's name in the set.
        scores: score by metric; infinite if SR and HR are equal.
        seconds: wall time of the network's forward pass alone.
        note: how the image was converted when it was read, or empty.
    """

    image: str
    scores: Mapping[str, float]
    seconds: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a flat row; an infinite score becomes the string ``inf``."""
        scores = {name: _plain(value) for name, value in self.scores.items()}
        row = {"image": self.image, **scores, "seconds": round(self.seconds, 4)}
        return row | ({"note": self.note} if self.note else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ImageResult:
        """Create an object from the JSON of `to_json`.

        Raises:
            ValidationError: fields are missing or have the wrong type.
        """
        others = {name: value for name, value in row.items() if name not in _RESULT}
        scores = convert(others, dict[str, float | Literal["inf", "-inf"]])
        floats = {name: float(value) for name, value in scores.items()}
        return convert({**row, "scores": floats}, cls)


_RESULT = frozenset({"image", "seconds", "note"})
"""Keys of an image's row that are not scores."""

SCHEMA_VERSION, EARLIER_SCHEMA = 3, 2
"""Schema of the records that are written, and the older one that can also be read."""


class PluginFacts(TypedDict, total=False):
    """Where a model, a metric or a test set came from.

    Attributes:
        file: the ``--plugin`` file: its path from the working folder of the run, or its name if it
            is elsewhere.
        module: the module that registers it, if it is not that file.
        distribution: name and version of the distribution that installed the module.
        sha256: hash of the file that registers it.
        packages: versions of the other installed distributions that its code comes from, by name.
        on: ``rgb`` for a metric that is computed on RGB.
    """

    file: str
    module: str
    distribution: str
    sha256: str
    packages: dict[str, str]
    on: str


@dataclass(frozen=True)
class RunRecord:
    """Everything known about one run; see docs/records.md for the JSON.

    Attributes:
        identity: everything that decides the numbers.
        status: ``finished``, or ``error`` for a run that failed.
        images: one result per image, in the set's order.
        execution: how the run was executed.
        provenance: the machine and the software of the run.
        weights: where the network's weights came from; None if it has none.
        parameters: number of trainable values of the network; None for published images.
        macs: multiply-accumulate operations for an input of ``macs_input_size``; FLOPs are twice
            as many.
        macs_input_size: width and height.
        verified: every HR image equals the published one, with the crop of this scale, pixel for
            pixel.
        error: why a failed run failed.
        plugins: where the model and each metric and test set of a plug-in came from, by name.
    """

    identity: Identity
    status: Literal["finished", "error"]
    images: tuple[ImageResult, ...]
    execution: Execution
    provenance: Mapping[str, Any]
    weights: WeightsInfo | None = None
    parameters: int | None = None
    macs: int | None = None
    macs_input_size: tuple[int, int] | None = None
    verified: bool = False
    error: str = ""
    plugins: Mapping[str, PluginFacts] = field(default_factory=dict)

    @property
    def earlier(self) -> bool:
        """Whether an earlier version of the harness made the record."""
        return isinstance(self.identity, EarlierIdentity)

    @property
    def tag(self) -> str:
        """The tag of the weights; ``SR images`` in their place; empty without either."""
        if self.identity.sr_sha256:
            return "SR images"
        return self.weights.tag if self.weights else ""

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the images with a finite score; see `infinite`.

        In a record of an earlier version, one infinite score makes the mean infinite.
        """
        mean = _mean if self.earlier else finite_mean
        return {
            name: mean([image.scores[name] for image in self.images])
            for name in self.identity.metrics
            if self.images
        }

    @property
    def infinite(self) -> dict[str, int]:
        """Number of images with an infinite score, for each metric that has any."""
        counts = {
            name: sum(not math.isfinite(image.scores[name]) for image in self.images)
            for name in self.identity.metrics
        }
        return {name: count for name, count in counts.items() if count}

    def to_json(self) -> dict[str, Any]:
        """Return the record's JSON object; ``sha256`` is the digest of everything else in it."""
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
        """Create an object from the JSON of `to_json`.

        Raises:
            ValueError: fields are missing or have the wrong type, the schema is unknown, the id is
                not the hash of the identity, or names or scores are not valid.
        """
        version = data["schema_version"]
        if version not in (SCHEMA_VERSION, EARLIER_SCHEMA):
            raise ValueError(
                f"schema {version}, this harness reads {EARLIER_SCHEMA} and {SCHEMA_VERSION}"
            )
        missing = {spec.name for spec in fields(cls)} - {*data, "plugins"}
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        reader = EarlierIdentity if version == EARLIER_SCHEMA else Identity
        identity = reader.from_json(convert(data["identity"], dict[str, Any]))
        images = tuple(map(ImageResult.from_json, convert(data["images"], list[dict[str, Any]])))
        others = get_type_hints(cls)
        del others["identity"], others["images"]
        known = {name: convert(data[name], kind) for name, kind in others.items() if name in data}
        record = cls(identity=identity, images=images, **known)
        convert(record.provenance, _Provenance)
        if identity.id != data["id"]:
            raise ValueError("its id is not the hash of its identity")
        _require_names(identity, images)
        _require_scores(identity, images, record.status)
        return record


class _Provenance(TypedDict, total=False):
    """The parts of a record's provenance that reports and commands use."""

    utc: str
    weights_file: str
    weights_key: str
    data_root: str
    lr_images: str
    sr_images: str
    changed_settings: list[str]
    grey_images: list[str]
    checkpoint: dict[str, Any]


def _require_names(identity: Identity, images: Sequence[ImageResult]) -> None:
    """Refuse a record whose names are not safe as part of a path or on a terminal."""
    image_names = [image.image for image in images]
    names = [identity.model, identity.dataset, *image_names]
    wrong = next((name for name in names if not is_plain_name(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not a valid name")
    if len(set(image_names)) < len(image_names):
        raise ValueError("two of its images have the same name")


def _require_scores(identity: Identity, images: Sequence[ImageResult], status: str) -> None:
    """Refuse a record that lacks scores of its metrics."""
    metrics = set(identity.metrics)
    if not {"psnr", "ssim"} <= metrics or any(set(image.scores) != metrics for image in images):
        raise ValueError(f"its images do not have the scores {', '.join(identity.metrics)}")
    if status == "finished" and not images:
        raise ValueError("its run is finished, but it has no images")


def _default(spec: Field[Any]) -> Any:
    """Return a field's default, or a value that equals nothing if it has none."""
    if spec.default_factory is not MISSING:
        return spec.default_factory()
    return spec.default if spec.default is not MISSING else object()


def finite_mean(values: Sequence[float]) -> float:
    """Return the mean of the finite values; infinite if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return _mean(finite) if finite else max(values)


def _mean(values: Sequence[float]) -> float:
    # Not sum(), whose last digit depends on the version of Python: from 3.12 on, it compensates.
    return reduce(add, values) / len(values)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
