"""Weights: reading them from any known file, storing them, and loading them strictly.

They are stored as safetensors, named ``<model>-x<scale>.<tag>.safetensors``, with their source in
the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.pinned import pinned_rows
from harness.errors import HarnessError, UsageError
from harness.files import WEIGHTS, regular, write_atomically
from harness.models.formats import checkpoint_layouts, read_tensors
from harness.record import WeightsInfo, canonical_json, digest, file_digest

if TYPE_CHECKING:
    from torch import nn

    from harness.cards import AnyArray, ModelCard, Shapes, Tensors


PART = re.compile(r"(.+\.safetensors)\.(\d{1,3})of(\d{1,3})")
"""The name of a part of weights, see `harness.models.weights.split_weights`."""


_TAG = r"[\w-]+"

PART_BYTES = 15 << 20
"""The most that a part of a weights file may have, see `split_weights`."""


@dataclass(frozen=True)
class Weights:
    """A network's values.

    Attributes:
        info: where they came from.
        tensors: parameter names and arrays.
        hyper: the arguments the network must be built with.
        note: where in a file of several things they were, for the user to read.
    """

    info: WeightsInfo
    tensors: Mapping[str, AnyArray]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def read_weights(
    card: ModelCard, scale: int, path: Path, tag: str = "file", key: str = ""
) -> Weights:
    """Read a weights file of any known kind, or one in parts of which any is named.

    Args:
        card: the network.
        scale: the factor.
        path: the file.
        tag: what they are called where the file does not say.
        key: where a checkpoint has them, dots between words; empty to look for them.

    Raises:
        HarnessError: it is missing, broken, of another network or scale, or not finite.
        UsageError: the key does not fit the file, or it needs one.
    """
    if PART.fullmatch(path.name):
        with TemporaryDirectory() as folder:
            return read_weights(card, scale, join_weights(path, Path(folder)), tag, key)
    if path.suffix == ".safetensors":
        weights = _read_safetensors(card, scale, path, tag, key)
    else:
        shapes = partial(_own_shapes, card, scale)
        tensors, note = read_tensors(card.name, path, shapes, key)
        source = file_digest(path)
        rows = pinned_rows("weights")
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
        weights = Weights(info, tensors, note=note)
    bad = next((name for name, v in weights.tensors.items() if not np.isfinite(v).all()), None)
    if bad:
        raise HarnessError(f"{path} has values that are not finite in {bad}: it is damaged.")
    return weights


def _own_shapes(card: ModelCard, scale: int) -> Shapes:
    """The names and shapes of a network; empty where it cannot be built, as the run will say."""
    from harness.models.network import network_shapes

    try:
        return network_shapes(card, scale, {})
    except HarnessError:
        return {}


def _read_safetensors(card: ModelCard, scale: int, path: Path, tag: str, key: str) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(regular(path, WEIGHTS), framework="numpy") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: _stored(path, stream, name) for name in stream.keys()}  # noqa: SIM118
        sha256 = tensors_digest(tensors)
        metadata = _sealed(metadata, sha256, path)
        hyper = json.loads(metadata.get("hyper", "{}"))
        if not isinstance(hyper, dict):
            raise TypeError(f"hyper is {hyper!r}")
        canonical_json(hyper)  # JSON's readers let NaN pass, and no identity can hold it
    except FileNotFoundError:
        raise HarnessError(f"There is no weights file {path}.") from None
    except AttributeError as error:  # safetensors asks numpy for a dtype that it has not
        raise HarnessError(
            f"{path} holds values of a kind that is not read (such as F8): convert it to fp32."
        ) from error
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise HarnessError(f"{path} is not a readable safetensors file ({error}).") from error
    strange = next((key for key, value in metadata.items() if not value.isprintable()), None)
    if strange or not re.fullmatch(_TAG, metadata.get("tag", "file")):
        raise HarnessError(f"{path} says of itself what is no {strange or 'tag'}: refused.")
    owner, made_for = metadata.get("model", card.name), metadata.get("scale", str(scale))
    if (owner, made_for) != (card.name, str(scale)):
        raise HarnessError(
            f"{path} holds weights of {owner} at x{made_for}, not of {card.name} at x{scale}."
        )
    note = ""
    if key or not metadata:  # not written here
        tensors, note = _of_stranger(card, scale, path, tensors, key)
        sha256 = tensors_digest(tensors)
    info = WeightsInfo(
        metadata.get("tag", tag),
        metadata.get("file") or path.name,
        metadata.get("source_sha256") or file_digest(path),
        sha256,
        metadata.get("licence", "not stated"),
    )
    return Weights(info, tensors, hyper, note)


def _stored(path: Path, stream: Any, name: str) -> AnyArray:
    """A tensor of a safetensors file; bf16, which numpy has not, as fp32."""
    from safetensors import safe_open

    if stream.get_slice(name).get_dtype() != "BF16":
        return stream.get_tensor(name)
    with safe_open(path, framework="pt") as exact:
        return exact.get_tensor(name).float().numpy()


def _of_stranger(
    card: ModelCard, scale: int, path: Path, tensors: Tensors, key: str
) -> tuple[Tensors, str]:
    """The network in a safetensors file that is laid out like a checkpoint; see `find_network`."""
    import torch

    from harness.models.formats.checkpoints import find_network

    shapes = _own_shapes(card, scale)
    if not key and {name: value.shape for name, value in tensors.items()} == shapes:
        return tensors, ""
    content = {name: torch.from_numpy(value) for name, value in tensors.items()}
    return find_network(content, path, shapes, key, checkpoint_layouts(card.name))


_FACTS = frozenset({*(one.name for one in fields(WeightsInfo)), "model", "scale", "hyper"})
"""What `save_weights` writes about weights beside their seal, ``sha256``."""


def _sealed(metadata: Mapping[str, str], tensors_sha256: str, path: Path) -> Mapping[str, str]:
    """The metadata of a file that `save_weights` wrote; none of a file that others wrote.

    Raises:
        HarnessError: it is not what was written, or the values are not.
    """
    # Others may write a word of ours; of what is damaged, most words are left.
    if len(_FACTS & metadata.keys()) <= len(_FACTS) / 2:
        return {}
    facts = {name: value for name, value in metadata.items() if name != "sha256"}
    # Earlier versions wrote no seal.
    whole = metadata.get("sha256") == digest(facts) or metadata.keys() == _FACTS
    if not whole or facts.get("tensors_sha256") != tensors_sha256:
        raise HarnessError(
            f"{path} is damaged, it is not what was written: remove it, and fetch, import or train "
            "the weights again."
        )
    return facts


def save_weights(weights: Weights, card: ModelCard, scale: int, folder: Path) -> Path:
    """Write weights as safetensors with their source, by rename; returns the path.

    Raises:
        HarnessError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    path = folder / f"{card.name}-x{scale}.{weights.info.tag}.safetensors"
    facts = asdict(weights.info) | {"model": card.name, "scale": str(scale)}
    facts["hyper"] = json.dumps(dict(weights.hyper))
    facts["sha256"] = digest(facts)
    # Not ascontiguousarray, which gives single values, such as counts of batches, an axis.
    tensors = {name: np.asarray(value, order="C") for name, value in weights.tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not its own save_file, whose files only their owner may read.
        write_atomically(path, save(tensors, facts))
    except (OSError, SafetensorError) as error:
        raise HarnessError(f"{path} cannot be written ({error}).") from error
    return path


def split_weights(path: Path, most: int = PART_BYTES) -> list[Path]:
    """Copy a weights file in parts, for transfers that take small files only.

    Returns:
        the parts beside it: ``<file>.1of3`` and so on.

    Raises:
        HarnessError: they cannot be written.
    """
    content = regular(path, WEIGHTS).read_bytes()
    pieces = [content[start : start + most] for start in range(0, len(content), most)]
    parts = []
    try:
        for number, piece in enumerate(pieces, start=1):
            parts.append(path.with_name(f"{path.name}.{number}of{len(pieces)}"))
            write_atomically(parts[-1], piece)
    except OSError as error:
        raise HarnessError(f"{parts[-1]} cannot be written ({error}).") from error
    return parts


def join_weights(part: Path, folder: Path) -> Path:
    """The file that `split_weights` has cut, put together in a folder.

    Args:
        part: any of the parts; the others lie beside it.
        folder: gets the file.

    Raises:
        HarnessError: a part is missing or cannot be read.
    """
    found = PART.fullmatch(part.name)
    assert found, part
    count = int(found[3])
    if not 1 <= int(found[2]) <= count:
        raise HarnessError(f"{part} is called as no part of weights is: such as .1of{count or 1}.")
    parts = [part.with_name(f"{found[1]}.{n + 1}of{found[3]}") for n in range(count)]
    try:
        with (folder / found[1]).open("wb") as whole_file:
            for one in parts:
                whole_file.write(regular(one, WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise HarnessError(
            f"The part {error.filename} is missing: all {len(parts)} must lie in one folder."
        ) from error
    except OSError as error:
        raise HarnessError(f"The parts of {found[1]} cannot be joined ({error}).") from error
    return folder / found[1]


def relabel(weights: Weights, tag: str | None, licence: str | None) -> Weights:
    """The same weights under another tag or licence, where given.

    Raises:
        UsageError: the tag is no word.
    """
    if tag is not None and not re.fullmatch(_TAG, tag):
        raise UsageError(f"A tag has letters, digits, '_' and '-' only, unlike {tag!r}.")
    info = weights.info
    info = replace(info, tag=tag or info.tag, licence=licence or info.licence)
    return replace(weights, info=info)


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

    from harness.models.network import differences, owner

    state = network.state_dict()
    own = {name: tuple(tensor.shape) for name, tensor in state.items()}
    given = {name: tuple(value.shape) for name, value in weights.tensors.items()}
    wrong = {
        "missing": sorted(own.keys() - given.keys()),
        "unknown": sorted(given.keys() - own.keys()),
        "of another shape": sorted(
            f"{name} {_shape(given[name])} instead of {_shape(own[name])}"
            for name in own.keys() & given.keys()
            if own[name] != given[name]
        ),
        "not of floating point": sorted(
            name
            for name in own.keys() & given.keys()
            if state[name].is_floating_point() and weights.tensors[name].dtype.kind != "f"
        ),
    }
    said = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in wrong.items() if names]
    if said:
        theirs = owner(given, model, weights.hyper) if given != own else ""
        reasons = [theirs] if theirs else [*differences(given, own), *said]
        raise HarnessError(f"{weights.info.file} does not fit {model}: {'; '.join(reasons)}.")
    tensors = {name: torch.from_numpy(value.copy()) for name, value in weights.tensors.items()}
    network.load_state_dict(tensors, strict=True)


def _shape(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides)) or "single value"


def _listed(names: Sequence[str], most: int = 10) -> str:
    """Names after one another, and how many are left out."""
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


@contextmanager
def no_larger_than(weights: Weights | None) -> Iterator[None]:
    """Stop a network from growing beyond the values it is to get.

    The arguments that come with weights are as little to be trusted as the weights, and few of them
    ask for all the memory there is.

    Raises:
        HarnessError: it grows beyond them.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    if weights is None or not weights.hyper:
        yield
        return
    left = sum(value.size for value in weights.tensors.values())
    seen: dict[int, nn.Parameter] = {}  # by id: a layer may enter its own more than once

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and id(parameter) not in seen:
            seen[id(parameter)] = parameter
            left -= parameter.numel()
        if left < 0:
            raise HarnessError(
                f"{weights.info.file} holds fewer values than the network it asks for: it is no "
                "weights file."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
