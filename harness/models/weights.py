"""Weights: where they lie, what they are, and loading them strictly.

They are stored as safetensors, named ``<model>-x<scale>.<tag>.safetensors``, with their source in
the file's metadata. They are looked for in this order: the user cache, where ``harness weights
import`` puts them; the roots of ``HARNESS_WEIGHTS``, where files of the registry are known by
their SHA-256; the folder ``weights`` beside the plug-in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.catalogue import registry_rows
from harness.data.download import cache_root
from harness.errors import HarnessError, UsageError
from harness.models.importers import import_tensors
from harness.specs import WeightsInfo, digest, file_digest

if TYPE_CHECKING:
    from torch import nn

    from harness.specs import AnyArray, ModelCard


_ORDER = {"official": 0, "repro": 1}


class WeightsMissing(HarnessError):
    """A network has no weights on this machine."""


@dataclass(frozen=True)
class Weights:
    """A network's values.

    Attributes:
        info: where they came from.
        tensors: parameter names and arrays.
        hyper: the arguments the network must be built with.
    """

    info: WeightsInfo
    tensors: Mapping[str, AnyArray]
    hyper: Mapping[str, Any] = field(default_factory=dict)


def find_weights(
    card: ModelCard, scale: int, *, path: Path | None = None, tag: str | None = None
) -> Weights | None:
    """The weights a run is to use; None for a model that has no parameters.

    Args:
        card: the model.
        scale: the factor.
        path: a file that decides it.
        tag: ``official`` or ``repro``; without it, whichever is found first.

    Raises:
        WeightsMissing: there are none, with what to do.
        HarnessError: a file is broken or of another network.
    """
    if card.params == 0:
        return None
    if path:
        return read_weights(card, scale, path)
    for found, found_tag in installed(card, scale):
        if tag in (None, found_tag):
            return read_weights(card, scale, found, tag=found_tag)
    wanted = f"{card.name}:{tag}" if tag else card.name
    official = any(row["model"] == card.name for row in registry_rows("weights"))
    advice = (
        f"put the authors' file under a root named in HARNESS_WEIGHTS, or run "
        f"harness weights import {card.name} FILE"
        if official
        else f"name a file with --weights {card.name}=FILE"
        + (", or declare params=0 if it has none" if card.params is None else "")
    )
    raise WeightsMissing(f"There are no weights for {wanted} at x{scale}: {advice}.")


def installed(card: ModelCard, scale: int) -> list[tuple[Path, str]]:
    """Every weights file of a model on this machine, first choice first, with its tag.

    The authors' come first, then those trained by this project, then others; among equals the
    order of the places decides.

    Raises:
        HarnessError: a folder cannot be read.
    """
    try:
        return sorted(_candidates(card, scale), key=lambda found: _ORDER.get(found[1], 2))
    except OSError as error:
        raise HarnessError(f"The weights of {card.name} cannot be looked for ({error}).") from error


def _candidates(card: ModelCard, scale: int) -> Iterator[tuple[Path, str]]:
    yield from _stored(cache_root() / "weights", card, scale)
    for root in _roots():
        yield from _stored(root, card, scale)
        yield from ((path, "official") for path in _official(root, card, scale))
    if card.sources:
        yield from _stored(card.sources[0].parent / "weights", card, scale)


def _roots() -> list[Path]:
    return [Path(p) for p in os.environ.get("HARNESS_WEIGHTS", "").split(os.pathsep) if p]


def _stored(folder: Path, card: ModelCard, scale: int) -> Iterator[tuple[Path, str]]:
    start = f"{card.name}-x{scale}."
    for path in sorted(folder.glob(f"{start}*.safetensors")):
        yield path, path.name.removeprefix(start).removesuffix(".safetensors")


def _official(root: Path, card: ModelCard, scale: int) -> Iterator[Path]:
    """Files below a root that are, byte for byte, the authors' weights of a model."""
    for row in registry_rows("weights"):
        if row["model"] != card.name or str(scale) not in row["scales"].split():
            continue
        expected = root / row["file"]
        others = (path for path in sorted(root.rglob(f"*{expected.suffix}")) if path.is_file())
        of_size = (path for path in others if path.stat().st_size == int(row["bytes"]))
        for path in [expected, *of_size]:
            if path.is_file() and file_digest(path) == row["sha256"]:
                yield path
                break


def read_weights(card: ModelCard, scale: int, path: Path, tag: str = "file") -> Weights:
    """Read a weights file of any known kind.

    Raises:
        HarnessError: it is missing, broken, of another network or scale, or not finite.
    """
    if path.suffix == ".safetensors":
        weights = _read_safetensors(card, scale, path, tag)
    else:
        tensors = import_tensors(card.name, path)
        source = file_digest(path)
        rows = registry_rows("weights")
        known = next((row for row in rows if row["sha256"] == source), None)
        if known and str(scale) not in known["scales"].split():
            made_for = " and ".join(f"x{s}" for s in known["scales"].split())
            raise HarnessError(f"{path} holds weights for {made_for}, not for x{scale}.")
        info = WeightsInfo(
            "official" if known else tag,
            path.name,
            source,
            tensors_digest(tensors),
            known["licence"] if known else "not stated",
        )
        weights = Weights(info, tensors)
    bad = next((name for name, v in weights.tensors.items() if not np.isfinite(v).all()), None)
    if bad:
        raise HarnessError(f"{path} has values that are not finite in {bad}: it is damaged.")
    return weights


def _read_safetensors(card: ModelCard, scale: int, path: Path, tag: str) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        hyper = json.loads(metadata.get("hyper", "{}"))
        if not isinstance(hyper, dict):
            raise TypeError(f"hyper is {hyper!r}")
    except FileNotFoundError:
        raise HarnessError(f"There is no weights file {path}.") from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise HarnessError(f"{path} is not a readable safetensors file ({error}).") from error
    owner, made_for = metadata.get("model", card.name), metadata.get("scale", str(scale))
    if (owner, made_for) != (card.name, str(scale)):
        raise HarnessError(
            f"{path} holds weights of {owner} at x{made_for}, not of {card.name} at x{scale}."
        )
    info = WeightsInfo(
        metadata.get("tag", tag),
        metadata.get("file") or path.name,
        metadata.get("source_sha256") or file_digest(path),
        tensors_digest(tensors),
        metadata.get("licence", "not stated"),
    )
    return Weights(info, tensors, hyper)


def save_weights(weights: Weights, card: ModelCard, scale: int, folder: Path) -> Path:
    """Write weights as safetensors with their source, by rename; returns the path.

    Raises:
        HarnessError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = folder / f"{card.name}-x{scale}.{weights.info.tag}.safetensors"
    facts = asdict(weights.info) | {"model": card.name, "scale": str(scale)}
    facts["hyper"] = json.dumps(dict(weights.hyper))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: np.ascontiguousarray(v) for k, v in weights.tensors.items()}, partial, facts)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise HarnessError(f"{path} cannot be written ({error}).") from error
    return path


def relabel(weights: Weights, tag: str | None, licence: str | None) -> Weights:
    """The same weights under another tag or licence, where given.

    Raises:
        UsageError: the tag is no word.
    """
    if tag is not None and not re.fullmatch(r"[\w-]+", tag):
        raise UsageError(f"A tag has letters, digits, '_' and '-' only, unlike {tag!r}.")
    info = weights.info
    info = replace(info, tag=tag or info.tag, licence=licence or info.licence)
    return replace(weights, info=info)


def store_weights(weights: Weights, card: ModelCard, scale: int) -> Path:
    """Keep weights in the user cache, where runs find them; returns the path.

    Raises:
        HarnessError: other weights have the tag already, or the cache cannot be written.
    """
    tag = weights.info.tag
    for path, taken in _stored(cache_root() / "weights", card, scale):
        held = read_weights(card, scale, path, taken).info.tensors_sha256
        if taken == tag and held != weights.info.tensors_sha256:
            raise HarnessError(f"Other weights are stored as {path}: choose another --tag.")
    return save_weights(weights, card, scale, cache_root() / "weights")


def tensors_digest(tensors: Mapping[str, AnyArray]) -> str:
    """SHA-256 over names, dtypes, shapes and values, independent of the file that held them."""
    rows = [
        (
            name,
            str(value.dtype),
            list(value.shape),
            hashlib.sha256(np.ascontiguousarray(value).data).hexdigest(),
        )
        for name, value in sorted(tensors.items())
    ]
    return digest(rows)


def load_into(network: nn.Module, weights: Weights, model: str) -> None:
    """Give a network its values; every name and shape must fit.

    Raises:
        HarnessError: they do not, naming what differs.
    """
    import torch

    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.tensors.items()}
    wrong = {
        "missing": sorted(own.keys() - given.keys()),
        "unknown": sorted(given.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & given.keys() if own[n] != given[n]),
    }
    said = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if said:
        raise HarnessError(f"{weights.info.file} does not fit {model}: {'; '.join(said)}.")
    tensors = {name: torch.from_numpy(value.copy()) for name, value in weights.tensors.items()}
    network.load_state_dict(tensors, strict=True)
