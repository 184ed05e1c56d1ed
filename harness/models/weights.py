"""Read weights from any known kind of file, store them, and load them strictly.

Weights are stored as safetensors files named ``<model>-x<scale>.<tag>.safetensors``, with their
source in the metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.data.pinned import matches, pinned_rows, remote_file
from harness.errors import HarnessError, UsageError
from harness.files import WEIGHTS, regular, write_atomically
from harness.models.formats import checkpoint_layouts, read_tensors
from harness.record import WeightsInfo, digest, file_digest

if TYPE_CHECKING:
    from torch import nn

    from harness.cards import AnyArray, ModelCard, Tensors

PART = re.compile(r"(.+\.safetensors)\.(\d{1,3})of(\d{1,3})")
"""The file name of one part of split weights, see `split_weights`."""

_TAG = r"[\w-]+"

OFFICIAL, REPRO = "official", "repro"
OWN_TAGS = {OFFICIAL: "the authors' weights", REPRO: "weights trained by this project"}
"""The tags that say whose weights are, the preferred one first: no other weights can have them."""

PART_BYTES = 15 << 20
"""The largest size of one part of a weights file, see `split_weights`."""


@dataclass(frozen=True)
class Weights:
    """The weights of a network.

    Attributes:
        info: where they came from.
        tensors: parameter names and arrays.
        hyper: the arguments the network must be built with.
        note: tells the user which part of a checkpoint was read; may be empty.
        given: the file that the user gave, as records name it, and the key in it; empty if the
            weights were searched for.
    """

    info: WeightsInfo
    tensors: Mapping[str, AnyArray]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    given: tuple[str, str] = ("", "")


def read_weights(card: ModelCard, scale: int, path: Path, tag: str = "", key: str = "") -> Weights:
    """Read a weights file of any known kind.

    Args:
        card: the network.
        scale: the factor.
        path: the file, or any part of a split one.
        tag: the tag of the weights if the file does not state one; empty for its `file_tag`; see
            `authors_row` for ``official``.
        key: the keys that lead to the weights in a checkpoint, joined by dots; empty to search.

    Raises:
        HarnessError: the file is broken, for another network or scale, or not finite.
        UsageError: the file is missing, the key does not fit it, or it needs a key.
    """
    tag = tag or file_tag(path)
    if PART.fullmatch(path.name):
        with TemporaryDirectory() as folder:
            return read_weights(card, scale, join_weights(path, Path(folder)), tag, key)
    if path.suffix == ".safetensors":
        weights = _read_safetensors(card, scale, path, tag, key)
    else:
        tensors, note = read_tensors(card, scale, path, key)
        info = WeightsInfo(tag, path.name, file_digest(path), tensors_digest(tensors))
        weights = Weights(info, tensors, note=note)
    require_finite(weights.tensors, path)
    return replace(weights, info=_with_earned_tag(weights.info, card, scale, path))


def _with_earned_tag(info: WeightsInfo, card: ModelCard, scale: int, path: Path) -> WeightsInfo:
    """Call weights ``official`` if they are the authors', whatever the file says, and only then.

    Raises:
        HarnessError: they are the authors' for another scale.
    """
    rows = [row for row in authors_rows() if row["model"] == card.name]
    found = [row for row in rows if _has_values(row, info) or is_official(row, path)]
    row = next((row for row in found if str(scale) in row["scales"].split()), None)
    if found and not row:
        made_for = " and ".join(f"x{s}" for s in found[0]["scales"].split())
        raise HarnessError(f"{path} holds weights for {made_for}, not for x{scale}.")
    if row:
        stated = row["licence"] if info.licence == "not stated" else info.licence
        return replace(info, tag=OFFICIAL, licence=stated)
    return replace(info, tag=file_tag(path)) if info.tag.lower() == OFFICIAL else info


@cache
def authors_rows() -> Sequence[Mapping[str, str]]:
    """Return the rows of the authors' weights in ``harness/data/pins/weights.csv``."""
    return tuple(pinned_rows("weights"))


def authors_row(model: str, scale: int, info: WeightsInfo) -> Mapping[str, str] | None:
    """Return the row of the authors' weights that weights are; None for all others.

    Their values decide, in any file and under any tag. Where no row has the values, because nobody
    here has seen the file, it is the tag ``official``, which only `read_weights` gives, after it
    has checked the file's pin; what the record of a run holds of the file must agree with the pin.
    """
    for row in authors_rows():
        own = row["model"] == model and str(scale) in row["scales"].split()
        if own and (_has_values(row, info) or _is_of_checked_file(row, info)):
            return row
    return None


def _has_values(row: Mapping[str, str], info: WeightsInfo) -> bool:
    return row["tensors_sha256"] == info.tensors_sha256 != ""


def _is_of_checked_file(row: Mapping[str, str], info: WeightsInfo) -> bool:
    if row["tensors_sha256"] or info.tag != OFFICIAL:
        return False
    kind, _, digits = row["pin"].partition(":")
    if kind == "git":  # of which a record holds nothing
        return info.file == Path(row["file"]).name
    return info.source_sha256.startswith(digits)


def file_tag(path: Path, others: Iterable[Path] = ()) -> str:
    """Make the tag of the weights in a user's file from its name, such as ``last`` for last.pth.

    If others have the same name, the tag begins with the name of a folder that tells them apart.
    No file is called like the kinds of weights that the harness knows: ``official`` is by the
    authors, and official.pth has the tag ``file-official``.
    """
    twins = [one.resolve() for one in others if one.stem == path.stem and one != path]
    levels = zip(path.resolve().parents, *(twin.parents for twin in twins), strict=False)
    apart = (own.name for own, *theirs in levels if own.name not in {one.name for one in theirs})
    match = PART.fullmatch(path.name)
    words = [next(apart, "")] * bool(twins) + [Path(match[1] if match else path.name).stem]
    tag = re.sub(r"[^\w-]+", "-", "-".join(filter(None, words))).strip("-") or "file"
    return f"file-{tag}" if tag.lower() in OWN_TAGS else tag


def require_finite(tensors: Mapping[str, AnyArray], path: Path) -> None:
    """Refuse weights with values that are infinite or not a number.

    Raises:
        HarnessError: the message names the first tensor that has such a value.
    """
    bad = next((name for name, value in tensors.items() if not np.isfinite(value).all()), None)
    if bad:
        raise HarnessError(f"{path} has values that are not finite in {bad}: it is damaged.")


def is_official(row: Mapping[str, str], path: Path) -> bool:
    """Whether a file is the one that a row of the pinned weights describes.

    It may have any name if its size is pinned, too; otherwise it needs the published name.
    """
    named = bool(row["bytes"]) or path.name == Path(row["file"]).name
    return named and matches(remote_file(row), path)


def _read_safetensors(card: ModelCard, scale: int, path: Path, tag: str, key: str) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(regular(path, WEIGHTS), framework="numpy") as stream:
            metadata = stream.metadata() or {}
            names = stream.keys()
            tensors = {name: _read_tensor(path, stream, name) for name in names}
        sha256 = tensors_digest(tensors)
        metadata = _verified(metadata, sha256, path)
        # Unlike json, msgspec refuses NaN, which no identity can hold.
        hyper = msgspec.json.decode(metadata.get("hyper", "{}"), type=dict[str, Any])
    except FileNotFoundError:
        raise UsageError(f"There is no weights file {path}: correct the path.") from None
    except AttributeError as error:  # safetensors asks numpy for a dtype that numpy lacks
        raise HarnessError(
            f"{path} holds values of a dtype that cannot be read (such as F8): convert it to fp32."
        ) from error
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise HarnessError(f"{path} is not a readable safetensors file ({error}).") from error
    invalid = next((field for field, text in metadata.items() if not text.isprintable()), None)
    if invalid or not re.fullmatch(_TAG, metadata.get("tag", "file")):
        raise HarnessError(
            f'The metadata field "{invalid or "tag"}" of {path} is not valid: refusing to load it.'
        )
    owner, made_for = metadata.get("model", card.name), metadata.get("scale", str(scale))
    if (owner, made_for) != (card.name, str(scale)):
        raise HarnessError(
            f"{path} holds weights of {owner} at x{made_for}, not of {card.name} at x{scale}."
        )
    note = ""
    if key or not metadata:  # not written by save_weights
        tensors, note = _find_foreign(card, scale, path, tensors, key)
        sha256 = tensors_digest(tensors)
    info = WeightsInfo(
        metadata.get("tag", tag),
        metadata.get("file") or path.name,
        metadata.get("source_sha256") or file_digest(path),
        sha256,
        metadata.get("licence", "not stated"),
    )
    return Weights(info, tensors, hyper, note)


def _read_tensor(path: Path, stream: Any, name: str) -> AnyArray:
    """Read a tensor of a safetensors file; bf16, which numpy lacks, becomes fp32."""
    from safetensors import safe_open

    if stream.get_slice(name).get_dtype() != "BF16":
        return stream.get_tensor(name)
    with safe_open(path, framework="pt") as torch_stream:
        return torch_stream.get_tensor(name).float().numpy()


def _find_foreign(
    card: ModelCard, scale: int, path: Path, tensors: Tensors, key: str
) -> tuple[Tensors, str]:
    """Find the network in a safetensors file that others wrote; see `find_network`."""
    import torch

    from harness.models.formats.checkpoints import find_network
    from harness.models.network import network_shapes

    shapes = network_shapes(card, scale, {})
    if not key and {name: value.shape for name, value in tensors.items()} == shapes:
        return tensors, ""
    content = {name: torch.from_numpy(value) for name, value in tensors.items()}
    return find_network(content, path, shapes, key, *checkpoint_layouts(card.name))


_FIELDS = frozenset({*(field.name for field in fields(WeightsInfo)), "model", "scale", "hyper"})
"""The metadata fields that `save_weights` writes, apart from their checksum ``sha256``."""


def _verified(metadata: Mapping[str, str], tensors_sha256: str, path: Path) -> Mapping[str, str]:
    """Check the metadata of a file that `save_weights` wrote; empty for a file that others wrote.

    Raises:
        HarnessError: the metadata or the values do not match their checksums.
    """
    # Other programs may use some of these names; a damaged file still has most of them.
    if len(_FIELDS & metadata.keys()) <= len(_FIELDS) / 2:
        return {}
    facts = {name: value for name, value in metadata.items() if name != "sha256"}
    # Earlier versions wrote no checksum.
    intact = metadata.get("sha256") == digest(facts) or metadata.keys() == _FIELDS
    if not intact or facts.get("tensors_sha256") != tensors_sha256:
        raise HarnessError(
            f"{path} is damaged, its checksums do not match: remove it, and fetch, import or train "
            "the weights again."
        )
    return facts


def save_weights(weights: Weights, card: ModelCard, scale: int, folder: Path) -> Path:
    """Write weights and their source to a safetensors file, by rename; return the path.

    Raises:
        HarnessError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    path = folder / f"{card.name}-x{scale}.{weights.info.tag}.safetensors"
    facts = asdict(weights.info) | {"model": card.name, "scale": str(scale)}
    facts["hyper"] = json.dumps(dict(weights.hyper))
    facts["sha256"] = digest(facts)
    # Not ascontiguousarray, which adds an axis to scalars, such as num_batches_tracked.
    tensors = {name: np.asarray(value, order="C") for name, value in weights.tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not safetensors' save_file, which makes files that only their owner may read.
        write_atomically(path, save(tensors, facts))
    except (OSError, SafetensorError) as error:
        raise HarnessError(f"{path} cannot be written ({error}).") from error
    return path


def split_weights(path: Path) -> list[Path]:
    """Copy a weights file into parts, for transfers that accept only small files.

    Returns:
        the parts, which are written beside the file: ``<file>.1of3`` and so on.

    Raises:
        HarnessError: the parts cannot be written.
    """
    content = regular(path, WEIGHTS).read_bytes()
    starts = range(0, len(content), PART_BYTES)
    parts = [path.with_name(f"{path.name}.{n + 1}of{len(starts)}") for n in range(len(starts))]
    for part, start in zip(parts, starts, strict=True):
        try:
            write_atomically(part, content[start : start + PART_BYTES])
        except OSError as error:
            raise HarnessError(f"{part} cannot be written ({error}).") from error
    return parts


def join_weights(part: Path, folder: Path) -> Path:
    """Write the file that `split_weights` has split, from any part and those beside it.

    Returns:
        the path of the file, in the given folder.

    Raises:
        HarnessError: a part is missing or cannot be read.
    """
    match = PART.fullmatch(part.name)
    assert match, part
    count = int(match[3])
    if not 1 <= int(match[2]) <= count:
        raise HarnessError(
            f"{part} is not a valid name for a part of weights: it must end like .1of{count or 1}."
        )
    parts = [part.with_name(f"{match[1]}.{n + 1}of{match[3]}") for n in range(count)]
    try:
        with (folder / match[1]).open("wb") as whole_file:
            for path in parts:
                whole_file.write(regular(path, WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise HarnessError(
            f"The part {error.filename} is missing: all {len(parts)} must be in one folder."
        ) from error
    except OSError as error:
        raise HarnessError(f"The parts of {match[1]} cannot be joined ({error}).") from error
    return folder / match[1]


def relabel(weights: Weights, tag: str | None, licence: str | None) -> Weights:
    """Return the weights with another tag or licence, where one is given.

    Raises:
        UsageError: the tag is not valid, or says whose weights these are, see `OWN_TAGS`.
    """
    if tag is not None and not re.fullmatch(_TAG, tag):
        raise UsageError(f"A tag has letters, digits, '_' and '-' only, unlike {tag!r}.")
    info = weights.info
    own = OWN_TAGS.get((tag or "").lower())
    if own and tag != info.tag:
        raise UsageError(
            f"These are not {own}, which alone have the tag {tag}: choose another --tag."
        )
    if tag and info.tag == OFFICIAL != tag:
        raise UsageError(
            f"These are {OWN_TAGS[OFFICIAL]}, which keep the tag {OFFICIAL}: leave --tag out."
        )
    info = replace(info, tag=tag or info.tag, licence=licence or info.licence)
    return replace(weights, info=info)


def tensors_digest(tensors: Mapping[str, AnyArray]) -> str:
    """SHA-256 over names, dtypes, shapes and values, independent of the file they came from."""
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
    """Load weights into a network; every name and shape must fit.

    Raises:
        HarnessError: they do not fit; the message names the differences.
    """
    import torch

    from harness.models.network import differences, owner

    state = network.state_dict()
    own = {name: tuple(tensor.shape) for name, tensor in state.items()}
    given = {name: tuple(value.shape) for name, value in weights.tensors.items()}
    common = sorted(own.keys() & given.keys())
    misfits = {
        "missing": sorted(own.keys() - given.keys()),
        "unknown": sorted(given.keys() - own.keys()),
        "of another shape": [
            f"{name} {_shape(given[name])} instead of {_shape(own[name])}"
            for name in common
            if own[name] != given[name]
        ],
        "not floating-point": [
            name
            for name in common
            if state[name].is_floating_point() and weights.tensors[name].dtype.kind != "f"
        ],
    }
    problems = [
        f"{len(names)} parameter{'s' * (len(names) != 1)} {what} ({_listed(names)})"
        for what, names in misfits.items()
        if names
    ]
    if problems:
        match = owner(given, model, weights.hyper) if given != own else ""
        strange = ["it seems to be of another network"] if 2 * len(common) < len(own) else []
        reasons = [match] if match else [*(differences(given, own) or strange), *problems]
        raise HarnessError(f"{weights.info.file} does not fit {model}: {'; '.join(reasons)}.")
    tensors = {name: torch.from_numpy(value.copy()) for name, value in weights.tensors.items()}
    network.load_state_dict(tensors, strict=True)


def _shape(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides)) or "single value"


def _listed(names: Sequence[str], most: int = 10) -> str:
    """Join names with commas; say how many are left out."""
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


@contextmanager
def no_larger_than(weights: Weights | None) -> Iterator[None]:
    """Refuse to build a network with more parameters than the weights have values.

    The arguments stored with weights are as untrusted as the weights, and a few of them can ask for
    all the memory of the machine.

    Raises:
        HarnessError: the network has more parameters.
    """
    if weights is None or not weights.hyper:
        yield
        return
    with at_most(sum(value.size for value in weights.tensors.values()), weights.info.file):
        yield


@contextmanager
def at_most(left: int, file: str) -> Iterator[None]:
    """Refuse to build a network with more parameters than ``left``, for which a file asks.

    Raises:
        HarnessError: the network has more parameters.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    seen: dict[int, nn.Parameter] = {}  # by id: a layer may register a parameter more than once

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and id(parameter) not in seen:
            seen[id(parameter)] = parameter
            left -= parameter.numel()
        if left < 0:
            raise HarnessError(
                f"{file} holds fewer values than the network it asks for: it is not a "
                "valid weights file."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
