"""Read a network from a PyTorch checkpoint, whatever else it holds, without running its code."""

from __future__ import annotations

import hashlib
import os
import pickletools
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from harness.errors import HarnessError, UsageError
from harness.files import WEIGHTS, regular

if TYPE_CHECKING:
    from torch import Tensor

    from harness.cards import AnyArray, CheckpointLayout, Shapes, Tensors

_KEYS = (
    *("params_ema", "params", "state_dict", "model", "average"),
    *("model_state_dict", "net", "network", "netG", "generator", "model_ema", "ema"),
)
"""The keys under which checkpoints hold a network, the preferred one first.

The authors of BasicSR score ``params_ema``. ``harness train`` stores the averaged weights under
``average`` and those of the last step under ``network``.
"""
_LARGEST_RATIO = 4
"""The largest size of the tensors relative to the file; a few tensors may share their values."""
_DEEPEST = 4
"""How many levels of nested dictionaries, and of name prefixes, are searched for a network."""


def read_checkpoint(
    path: Path,
    shapes: Shapes,
    key: str = "",
    layouts: Sequence[CheckpointLayout] = (),
    others: Sequence[CheckpointLayout] = (),
) -> tuple[Tensors, str]:
    """Read the weights of a network from a checkpoint; no code in the file is run.

    Args:
        path: the file.
        shapes: the names and shapes of the network's values, by which it is recognised.
        key: the keys that lead to the network, joined by dots; empty to search for it.
        layouts: how published implementations of the network name its values; tried where the
            names in the file are not those of the network.
        others: the layouts of other networks; they serve to name the network that weights which
            do not fit belong to.

    Returns:
        the tensors under this project's names, and a note on where they were, see `find_network`.

    Raises:
        HarnessError: the file cannot be read, holds no network, or would take far more memory than
            its size.
        UsageError: there is nothing under the key, or several networks fit and no key was given.
    """
    return find_network(unpickle(path), path, shapes, key, layouts, others)


def find_network(
    content: object,
    path: Path,
    shapes: Shapes,
    key: str,
    layouts: Sequence[CheckpointLayout],
    others: Sequence[CheckpointLayout] = (),
) -> tuple[Tensors, str]:
    """Find the weights of a network in the content of a file; see `read_checkpoint`.

    If none fit, those that share the most names with the network are returned.

    Returns:
        the tensors, and a sentence on where they were found; empty if the file holds nothing else.
    """
    under_key = _under(key, content, path, (None, *layouts), shapes)
    fitting = [c for c in under_key if c.shapes == shapes]
    if fitting:
        chosen = fitting[0]
        chosen.require_constants(path)
    else:
        foreign = _all_candidates(content, others)
        under_key += [c for c in foreign if c.is_under(key) and c.shapes != shapes]
        chosen = max(under_key, key=lambda c: c.common(shapes))
    _require_plain(chosen.tensors, path)
    rivals = [c for c in fitting if c.differs(chosen)]
    if any(_rank(rival.keys) == _rank(chosen.keys) for rival in rivals):
        fits = _and([chosen.key, *(rival.key for rival in rivals)])
        raise UsageError(f"{path} holds several that fit, {fits}: choose with --weights-key.")
    return chosen.arrays(), _note(chosen, rivals, path)


def whole_networks(
    content: object, path: Path, key: str = ""
) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Yield what may be the weights of a whole network of any kind, the likeliest first.

    Those are all values of a dictionary, without a prefix that all their names share, and the
    values under a prefix that is a usual key, such as ``generator``, or the given key.

    Returns:
        the tensors under the names in the file, and a sentence on where they are, as
        `find_network` returns it.

    Raises:
        HarnessError, UsageError: as `find_network`.
    """
    for found in _under(key, content, path, (None,)):
        whole = len(found.tensors) == len(found.siblings)
        if whole or found.key == key or found.prefix in _KEYS:
            _require_plain(found.tensors, path)
            yield dict(found.tensors), _note(found, (), path)


def _under(
    key: str,
    content: object,
    path: Path,
    layouts: Sequence[CheckpointLayout | None],
    shapes: Shapes | None = None,
) -> list[_Candidate]:
    """List what a file has under a key that may be weights; in all of it if there is no key.

    Raises:
        HarnessError: it holds no tensors.
        UsageError: it holds none under the key; the message lists keys, if possible of a network
            of the given shapes.
    """
    candidates = _all_candidates(content, layouts)
    if not candidates:
        raise HarnessError(f"{path} does not hold a dictionary of tensors{_instead(content)}.")
    found = [c for c in candidates if c.is_under(key)]
    if not found:
        listed = _available(candidates, shapes or {})
        raise UsageError(f"{path} has no tensors under {key}: {listed}.")
    return found


def _all_candidates(
    content: object, layouts: Sequence[CheckpointLayout | None]
) -> list[_Candidate]:
    dictionaries = sorted(_dictionaries(content), key=lambda found: _rank(found[0]))
    return [c for found in dictionaries for c in _candidates(*found, layouts)]


def _dictionaries(content: object) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield the tensors of every dictionary in a file, with the keys that lead to it."""
    import torch

    waiting: deque[tuple[tuple[str, ...], object]] = deque([((), content)])
    visits: Counter[int] = Counter()
    while waiting:
        keys, value = waiting.popleft()
        # An optimizer's tensors are not weights. One dictionary may be stored under several keys,
        # and in a hostile file under any number of them.
        if not isinstance(value, Mapping):
            continue
        if "param_groups" in value or visits[id(value)] == _DEEPEST:
            continue
        visits[id(value)] += 1
        tensors = {str(k): inner for k, inner in value.items() if isinstance(inner, torch.Tensor)}
        if tensors:
            yield keys, tensors
        if len(keys) < _DEEPEST:
            waiting += [((*keys, str(key)), inner) for key, inner in value.items()]


def _rank(keys: Sequence[str]) -> list[int]:
    """The order of preference; the top level of a file comes after the known keys."""
    known = len(_KEYS)
    return [_KEYS.index(key) if key in _KEYS else known + 1 for key in keys] or [known]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Tensors that may be the weights of a network.

    Attributes:
        keys: the keys that lead to their dictionary.
        prefix: the prefix that their names share in the dictionary.
        tensors: the tensors, by their names without the prefix.
        layout: the layout that the names are assumed to follow, if any.
        siblings: all tensors of the dictionary.
    """

    keys: tuple[str, ...]
    prefix: str
    tensors: Mapping[str, Tensor]
    layout: CheckpointLayout | None
    siblings: Mapping[str, Tensor]

    @property
    def key(self) -> str:
        return ".".join(filter(None, (*self.keys, self.prefix)))

    @cached_property
    def names(self) -> dict[str, str]:
        """This project's names, by the names in the file."""
        if self.layout is None:
            return {name: name for name in self.tensors}
        return self.layout.own_names(self.tensors)

    @cached_property
    def shapes(self) -> Shapes:
        return {own: tuple(self.tensors[name].shape) for name, own in self.names.items()}

    def is_under(self, key: str) -> bool:
        """Whether a key, if there is one, leads to the tensors."""
        return not key or f"{self.key}.".startswith(f"{key}.")

    def common(self, shapes: Shapes) -> tuple[int, bool]:
        """How many names it shares with a network, and whether a layout is assumed."""
        return len(self.shapes.keys() & shapes.keys()), self.layout is not None

    def differs(self, other: _Candidate) -> bool:
        """Whether any value differs from that of another candidate for the same network."""
        theirs = {own: other.tensors[name] for name, own in other.names.items()}
        return not all(
            _are_equal(self.tensors[name], theirs[own]) for name, own in self.names.items()
        )

    def arrays(self) -> Tensors:
        """The values under this project's names, for images in [0, 1]."""
        arrays = {own: _array(self.tensors[name]) for name, own in self.names.items()}
        span = self.layout.range if self.layout else 1
        return {own: v / span if own.endswith(".bias") else v for own, v in arrays.items()}

    def require_constants(self, path: Path) -> None:
        """Check that stored constants, such as the mean, equal those the network defines itself.

        Raises:
            HarnessError: one differs.
        """
        import torch

        for name, value in self.tensors.items():
            if self.layout is None or not self.layout.is_constant(name):
                continue
            expected = torch.from_numpy(np.asarray(self.layout.constants.get(name, np.zeros(0))))
            if value.is_floating_point():  # bf16 rounds 111.46 to 111.5
                expected = expected.to(value.dtype)
            stored = value.detach().double()
            same = stored.shape == expected.shape
            if not same or not np.allclose(stored, expected.double(), 0, 0.05):
                raise HarnessError(
                    f"{path} has {name} = {stored.numpy().ravel()}, and the network here has "
                    f"{expected.double().numpy().ravel()}: it cannot take these weights."
                )


def _candidates(
    keys: tuple[str, ...], tensors: Mapping[str, Tensor], layouts: Sequence[CheckpointLayout | None]
) -> Iterator[_Candidate]:
    """Yield the tensors of a dictionary that may be a network: all, or those with one prefix.

    Each comes once for each layout that its names may follow; None leaves the names as they are.
    """
    bare = {_unwrapped(name): tensor for name, tensor in tensors.items()}
    for siblings in (tensors,) if bare.keys() == tensors.keys() else (tensors, bare):
        for prefix, group in _groups(siblings).items():
            for layout in layouts:
                if layout is None or layout.mark in group:
                    yield _Candidate(keys, prefix, group, layout, siblings)


def _groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group tensors by every prefix of their names, up to a dot; keep the rest of the names."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        words = name.split(".")
        for n in range(min(len(words), _DEEPEST + 1)):
            groups.setdefault(".".join(words[:n]), {})[".".join(words[n:])] = tensor
    return groups


_WRAPPERS = ("module", "_orig_mod")
"""Prefixes that ``DataParallel`` and ``torch.compile`` add to the names of a wrapped module."""


def _unwrapped(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _available(candidates: Sequence[_Candidate], shapes: Shapes) -> str:
    """List the keys that fit, or else the keys of all dictionaries, or else name prefixes."""
    keys = (
        [c.key for c in candidates if c.shapes == shapes and c.key]
        or [c.key for c in candidates if not c.prefix and c.key]
        or [c.key for c in candidates if "." not in c.prefix and c.key]
    )
    return f"there are {_and(keys)}" if keys else "the names of its tensors have no prefixes"


def _note(chosen: _Candidate, others: Iterable[_Candidate], path: Path) -> str:
    """Say which tensors of a file are used; empty if the file holds no others."""
    notes = []
    if _unwrapped(chosen.key):
        notes.append(f"the weights are those under {chosen.key}")
    start = f"{chosen.prefix}." if chosen.prefix else ""
    unused = [name.split(".")[0] for name in chosen.siblings if not name.startswith(start)]
    if unused:
        notes.append(f"not used: {_and(unused)}")
    if others:
        keys = _and(other.key for other in others)
        notes.append(f"{keys} would fit, too, with other values (--weights-key)")
    return f"{path.name}: {'; '.join(notes)}." if notes else ""


def _and(words: Iterable[str]) -> str:
    """Join up to ten words, each once."""
    *first, last = [word[:60] for word in dict.fromkeys(words)][:10]
    return f"{', '.join(first)} and {last}" if first else last


def _instead(content: object) -> str:
    """Say what a file without tensors holds instead."""
    advice = "save the network's state_dict()"
    if not isinstance(content, Mapping):
        return f" but {_kind(content)}: {advice}"
    if not content:
        return ": it is empty"
    if "param_groups" in content:
        return f" but the state of an optimizer: {advice}"
    if "_step_count" in content:
        return f" but the state of a learning rate scheduler: {advice}"
    held = [f"{_kind(value)} under {str(key)[:40]}" for key, value in [*content.items()][:10]]
    return f" but {', '.join(held)}{', ...' * (len(content) > 10)}: {advice}"


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a dictionary" if value else "an empty dictionary"
    names = {bool: "a flag", int: "a number", float: "a number", str: "text", list: "a list"}
    names |= {_NumpyValue: "a value of numpy", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")


class _NumpyValue:
    """Takes the place of a numpy value, such as the best PSNR, which is not a weight.

    The numpy value is never created: a hostile file could ask for one of any size.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_NUMPY: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (_NumpyValue, f"numpy{name}")
    for name in (
        *(".dtype", ".ndarray", ".core.multiarray.scalar", ".core.multiarray._reconstruct"),
        *("._core.multiarray.scalar", "._core.multiarray._reconstruct"),  # from numpy 2 on
    )
]


def unpickle(path: Path) -> object:
    """Read what a PyTorch checkpoint holds; no code in the file is run.

    Raises:
        HarnessError: the file cannot be read, or holds more than plain values.
    """
    import torch

    fault = _fault(path)
    if not fault and is_hostile(path):
        fault = "holds deeply nested tuples: refusing to load it"
    if fault:
        raise HarnessError(f"{path} {fault}.")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error
    except Exception as error:  # torch.load raises many kinds of errors
        needed = re.search(r"GLOBAL (\S{1,100})", str(error))
        raise HarnessError(
            f"{path} does not hold plain tensors, and nothing in it was run"
            f"{f' (it needs {needed[1]})' if needed else ''}: save the network's state_dict() "
            "instead."
        ) from error


_DAMAGED = "is damaged, its checksums do not match: copy or download it again"


def _fault(path: Path) -> str:
    """Say what is wrong with an archive, without unpacking it; empty if nothing, or no archive.

    PyTorch checks neither seals nor checksums; files saved under ``set_crc32_options(False)`` have
    no checksums.

    Raises:
        OSError: the file cannot be read.
    """
    sealed = seal_fits(path)
    if sealed is False:
        return _DAMAGED
    try:
        archive = ZipFile(path)
    except Exception:  # files that are damaged or not archives raise many kinds of errors
        return ""
    with archive:
        entries = archive.infolist()
        if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
            return "is a torch.jit archive, which holds code: save the network's state_dict()"
        if any(entry.compress_type != ZIP_STORED for entry in entries):
            return "is compressed, but PyTorch never compresses weights files"
        try:
            unchecked = sealed or not any(entry.CRC for entry in entries)
            return "" if unchecked or archive.testzip() is None else _DAMAGED
        except Exception:
            return _DAMAGED


def _require_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that all tensors are dense tensors of real numbers on the CPU.

    Raises:
        HarnessError: one is not, and the message names the first; or they would take far more
            memory than the file has bytes.
    """
    odd = next((name for name, tensor in tensors.items() if not _is_plain(tensor)), None)
    if odd is not None:
        raise HarnessError(
            f"{path} does not hold a dictionary of tensors of real numbers: {odd} is sparse, "
            "quantized, complex or without values."
        )
    # A small file could hold any number of views of one value.
    if sum(tensor.nbytes for tensor in tensors.values()) > _LARGEST_RATIO * path.stat().st_size:
        raise HarnessError(
            f"{path} would unpack to far more than it holds: it is not a valid weights file."
        )


def _is_plain(tensor: Tensor) -> bool:
    import torch

    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_complex())
    )


def _are_equal(a: Tensor, b: Tensor) -> bool:
    import torch

    if a is b:
        return True
    plain = _is_plain(a) and _is_plain(b)
    return plain and a.dtype == b.dtype and torch.equal(a, b)


def _array(tensor: Tensor) -> AnyArray:
    """Convert floating-point values to float32; leave integers (such as counters) as they are."""
    value = tensor.detach()
    return (value.float() if value.is_floating_point() else value).numpy()


_SEAL = 64
"""Length of the seal: the SHA-256 of all bytes before it, in hexadecimal. It is the comment of the
zip file that PyTorch writes; readers of zip files ignore comments."""

_LENGTH = _SEAL.to_bytes(2, "little")
"""The field of a zip file just before its comment, which states its length; 0 without a comment."""


def seal(stream: BinaryIO) -> None:
    """Write the hash of a zip file, which has no comment yet, into its comment."""
    size = stream.seek(-len(_LENGTH), os.SEEK_END)
    sha256 = _digest(stream, size)
    stream.seek(size)
    stream.write(_LENGTH + sha256)


def seal_fits(path: Path) -> bool | None:
    """Whether the content of a file matches the seal at its end; None if it has no seal.

    Raises:
        OSError: the path is not a regular file, or it cannot be read.
    """
    with regular(path, WEIGHTS).open("rb") as stream:
        size = max(0, stream.seek(0, os.SEEK_END) - len(_LENGTH) - _SEAL)
        stream.seek(size)
        match = re.fullmatch(re.escape(_LENGTH) + rb"([0-9a-f]{%d})" % _SEAL, stream.read())
        return None if match is None else match[1] == _digest(stream, size)


def _digest(stream: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first ``size`` bytes of a file, in hexadecimal."""
    stream.seek(0)
    content = hashlib.sha256()
    while size > 0 and (piece := stream.read(min(size, 1 << 20))):
        content.update(piece)
        size -= len(piece)
    return content.hexdigest().encode()


class _Size(NamedTuple):
    """How deep tuples are nested in a value, and how many values it holds, counting repeats."""

    depth: int = 0
    values: int = 1


_MOST = _Size(100, 100_000)
"""The limits for a tuple. PyTorch nests four levels; Python's random state has 627 values."""

_ZIP = b"PK\x03\x04"
"""The first bytes of a file that PyTorch reads as a zip file, whatever follows."""

_EARLIER_PICKLES = 5
"""How many pickles the older format of PyTorch, which is not a zip file, begins with."""


def is_hostile(path: Path) -> bool:
    """Whether a file holds nested tuples that would crash or hang Python when it hashes them.

    Python hashes the keys of dictionaries: deep nesting overflows the stack, and repeated parts
    take practically forever. The file is not unpickled for this check.
    """
    try:
        return any(size.depth > _MOST.depth or size.values > _MOST.values for size in _tuples(path))
    except Exception:  # torch.load will report what is wrong with the file
        return False


def _tuples(path: Path) -> Iterator[_Size]:
    """Yield the sizes of all tuples in a file."""
    with regular(path, WEIGHTS).open("rb") as stream:
        is_zip = stream.read(len(_ZIP)) == _ZIP
        stream.seek(0)
        if not is_zip:
            for _ in range(_EARLIER_PICKLES):
                yield from _pickled_tuples(stream)
            return
        with ZipFile(stream) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        yield from _pickled_tuples(pickled)


def _pickled_tuples(pickled: IO[bytes]) -> Iterator[_Size]:
    """Yield the sizes of the tuples in a pickle."""
    stack: list[_Size | None] = []  # None is a mark
    memo: dict[object, _Size | None] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "MARK":
            stack.append(None)
        elif opcode.name == "DUP":
            stack.append(stack[-1])
        elif "GET" in opcode.name:
            stack.append(memo[argument])
        elif "PUT" in opcode.name or opcode.name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        else:
            items, size = _pop(stack, opcode), _Size()
            if "TUPLE" in opcode.name:
                depth = max((item.depth for item in items), default=0)
                size = _Size(1 + depth, 1 + sum(item.values for item in items))
                yield size
            stack += [size] * len(opcode.stack_after)


def _pop(stack: list[_Size | None], opcode: pickletools.OpcodeInfo) -> list[_Size]:
    """Pop the operands of an instruction off the stack, down to the last mark if it says so."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        return [size for _ in before if (size := stack.pop())]
    items = []
    while (size := stack.pop()) is not None:
        items.append(size)
    del stack[len(stack) - before.index(pickletools.markobject) :]
    return items
