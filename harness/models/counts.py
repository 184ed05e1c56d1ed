"""Counts of what networks consist of, kept in the user's cache.

To count the layers or operations of a network takes up to seconds, and torch, which takes two
seconds to import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from harness.data.pinned import cache_root
from harness.files import TEXT, regular, whole
from harness.models.source import network_digest, unbuilt_digest
from harness.record import digest, file_digest
from harness.syntax import NETWORKS

if TYPE_CHECKING:
    from harness.cards import ModelCard

Count = TypeVar("Count")

_COUNTING = ("complexity.py", "depth.py", "inference.py")
"""The files beside this one whose code counts: one that changes may count otherwise."""

_COUNTED_WITH = ("torch", "thop")
"""The distributions that count."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A file of the cache.

    Attributes:
        count: the JSON of what was counted.
        sha256: of the key and the count.
    """

    count: msgspec.Raw
    sha256: str


def kept(
    kind: type[Count],
    count: Callable[[], Count],
    asked: Sequence[object],
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    source_sha256: str | None = None,
) -> Count:
    """What is counted of a network, or what was counted of the same code before.

    An error is not kept, and a file that is not as it was written is not used.

    Args:
        kind: the type of the count.
        count: counts it.
        asked: what is counted, and for what size.
        card: the network.
        scale: the factor.
        hyper: the arguments it is built with.
        source_sha256: what `harness.models.source.network_digest` gave, if it was asked already.

    Raises:
        Exception: what ``count`` raises.
    """
    try:
        key = _key(asked, card, scale, hyper, source_sha256)
    except Exception:  # it cannot be built on shapes alone, say
        return count()
    path = cache_root() / "counts" / f"{key}.json"
    with suppress(OSError, ValueError, RecursionError):  # it is missing, or damaged
        return _read(path, key, kind)
    counted = count()
    with suppress(OSError):
        _write(path, key, counted)
    return counted


def _key(
    asked: Sequence[object],
    card: ModelCard,
    scale: int,
    hyper: Mapping[str, Any],
    source_sha256: str | None,
) -> str:
    """SHA-256 of everything that decides a count."""
    declared = [card.name, card.pipeline, card.input, card.scales]
    code = _code(card, scale, hyper, source_sha256)
    return digest([asked, declared, scale, hyper, code, _counting()])


@cache
def _counting() -> list[str]:
    """The versions of what counts."""
    ours = [file_digest(Path(__file__).with_name(name)) for name in _COUNTING]
    return [*ours, *map(version, _COUNTED_WITH)]


def _code(card: ModelCard, scale: int, hyper: Mapping[str, Any], source_sha256: str | None) -> str:
    """A hash of a network's code, and of the layers of a network that others wrote.

    Theirs may read a width, say, from elsewhere; ours import all they are made of.
    """
    if card.origin.startswith(f"{NETWORKS}."):
        known = card.name, card.source
        if known not in _codes:
            _codes[known] = unbuilt_digest(card)
        return source_sha256 or _codes[known]
    import torch

    from harness.models.inference import build_network

    with torch.device("meta"):
        network = build_network(card, scale, hyper)
    shapes = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    layers = re.sub(" at 0x[0-9a-f]+", "", str(network))  # where something is in memory
    return digest([source_sha256 or network_digest(card, scale, hyper), shapes, layers])


_codes: dict[tuple[str, Path | None], str] = {}
"""The code of networks before they were imported: what is edited after that does not run."""


def _read(path: Path, key: str, kind: type[Count]) -> Count:
    """A count that was kept.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError, RecursionError: it is not as it was written.
    """
    entry = msgspec.json.decode(regular(path, TEXT).read_bytes(), type=_Entry)
    if entry.sha256 != digest([key, bytes(entry.count).decode()]):
        raise ValueError(f"{path} was altered")
    return msgspec.json.decode(entry.count, type=kind)


def _write(path: Path, key: str, counted: object) -> None:
    raw = msgspec.json.encode(counted)
    entry = _Entry(msgspec.Raw(raw), digest([key, raw.decode()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_bytes(msgspec.json.encode(entry))
