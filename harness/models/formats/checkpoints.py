"""PyTorch checkpoints: the network among all that a trainer stored, read without running code."""

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
from zipfile import ZIP_STORED, ZipFile, ZipInfo

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
"""Where checkpoints hold a network, first choice first.

``params_ema`` is what the authors of BasicSR score. ``average`` is of ``harness train``, which has
the last step under ``network``.
"""
_LARGEST_RATIO = 4
"""Tensors over file size: values may be stored once and used twice, and no more than that."""
_DEEPEST = 4
"""Dictionaries within dictionaries, and words before the names of a network, that are looked at."""


def read_checkpoint(
    path: Path, shapes: Shapes, key: str = "", layouts: Sequence[CheckpointLayout] = ()
) -> tuple[Tensors, str]:
    """The values of a network in a checkpoint; nothing in the file is run.

    Args:
        path: the file.
        shapes: the names and shapes of the network, which tell it from what lies beside it.
        key: where it is, dots between words; empty to look for it.
        layouts: how published implementations name the values of networks.

    Returns:
        its tensors, under this project's names, and where they were found, see `find_network`.

    Raises:
        HarnessError: it cannot be read, holds no network, or would take more memory than its own
            size calls for.
        UsageError: there is nothing under the key, or several networks fit and no key was given.
    """
    return find_network(_unpickle(path), path, shapes, key, layouts)


def find_network(
    content: object, path: Path, shapes: Shapes, key: str, layouts: Sequence[CheckpointLayout]
) -> tuple[Tensors, str]:
    """The values of a network in what a file holds; see `read_checkpoint`.

    Where none fits, those are given that have most names in common with the network.

    Returns:
        the tensors, and a sentence on where they were found; empty where the file holds no more.
    """
    readings = [
        reading
        for place, tensors in sorted(_places(content), key=lambda found: _rank(found[0]))
        for reading in _readings(place, tensors, layouts)
    ]
    if not readings:
        raise HarnessError(f"{path} does not hold a dictionary of tensors{_instead(content)}.")
    named = [one for one in readings if not key or f"{one.key}.".startswith(f"{key}.")]
    if not named:
        raise UsageError(f"{path} has no tensors under {key}: {_there(readings, shapes)}.")
    fitting = [one for one in named if one.shapes == shapes]
    chosen = fitting[0] if fitting else max(named, key=lambda one: one.common(shapes))
    _require_plain(chosen.tensors, path)
    # Views of one value, repeated without end, would fit into a small file.
    if sum(t.nbytes for t in chosen.tensors.values()) > _LARGEST_RATIO * path.stat().st_size:
        raise HarnessError(f"{path} would unpack to far more than it holds: it is no weights file.")
    others = [one for one in fitting if one.differs(chosen)]
    if any(_rank(one.place) == _rank(chosen.place) for one in others):
        keys = _and([chosen.key, *(one.key for one in others)])
        raise UsageError(f"{path} holds several that fit, {keys}: choose with --weights-key.")
    return chosen.arrays(path), _note(chosen, others, path)


def _places(content: object) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The dictionaries with tensors in them, by the keys that lead there."""
    import torch

    waiting: deque[tuple[tuple[str, ...], object]] = deque([((), content)])
    seen: Counter[int] = Counter()
    while waiting:
        place, found = waiting.popleft()
        # The tensors of an optimizer are none of a network. One dictionary may stand under several
        # keys, and in a hostile file under any number.
        if not isinstance(found, Mapping) or "param_groups" in found or seen[id(found)] == _DEEPEST:
            continue
        seen[id(found)] += 1
        tensors = {str(k): value for k, value in found.items() if isinstance(value, torch.Tensor)}
        if tensors:
            yield place, tensors
        if len(place) < _DEEPEST:
            waiting += [((*place, str(key)), value) for key, value in found.items()]


def _rank(place: Sequence[str]) -> list[int]:
    """The order of preference; a file's own top level comes after the known keys."""
    known = len(_KEYS)
    return [_KEYS.index(key) if key in _KEYS else known + 1 for key in place] or [known]


@dataclass(frozen=True, eq=False)
class _Reading:
    """Tensors that may be a network's.

    Attributes:
        place: the keys that lead to their dictionary.
        prefix: what stands before their names there.
        tensors: by the rest of their names.
        layout: that of the names, if any is assumed.
        among: all tensors of the dictionary.
    """

    place: tuple[str, ...]
    prefix: str
    tensors: Mapping[str, Tensor]
    layout: CheckpointLayout | None
    among: Mapping[str, Tensor]

    @property
    def key(self) -> str:
        return ".".join(filter(None, (*self.place, self.prefix)))

    @cached_property
    def names(self) -> dict[str, str]:
        """What the names are here."""
        if self.layout is None:
            return {name: name for name in self.tensors}
        return self.layout.own_names(self.tensors)

    @cached_property
    def shapes(self) -> Shapes:
        return {own: tuple(self.tensors[name].shape) for name, own in self.names.items()}

    def common(self, shapes: Shapes) -> tuple[int, bool]:
        """How much of a network's names are here."""
        return len(self.shapes.keys() & shapes.keys()), self.layout is not None

    def differs(self, other: _Reading) -> bool:
        """Whether any value is another, of two readings that fit one network."""
        theirs = {own: other.tensors[name] for name, own in other.names.items()}
        return not all(
            _are_equal(self.tensors[name], theirs[own]) for name, own in self.names.items()
        )

    def arrays(self, path: Path) -> Tensors:
        """The values under this project's names, in its range."""
        made = {own: _array(self.tensors[name]) for name, own in self.names.items()}
        if self.layout is None:
            return made
        _require_constants(self.layout, self.tensors, path)
        span = self.layout.range
        return {own: v / span if own.endswith(".bias") else v for own, v in made.items()}


def _readings(
    place: tuple[str, ...], tensors: Mapping[str, Tensor], layouts: Sequence[CheckpointLayout]
) -> Iterator[_Reading]:
    """The tensors of a dictionary that may be a network's: all, or those of one prefix."""
    bare = {_unwrapped(name): tensor for name, tensor in tensors.items()}
    for named in (tensors,) if bare.keys() == tensors.keys() else (tensors, bare):
        for prefix, group in _groups(named).items():
            layout = next((one for one in layouts if one.mark in group), None)
            for one in (layout, None) if layout else (None,):
                yield _Reading(place, prefix, group, one, named)


def _require_constants(layout: CheckpointLayout, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse stored values that differ from those that the network here makes itself.

    Raises:
        HarnessError: one differs.
    """
    import torch

    for name, value in tensors.items():
        if not layout.is_constant(name):
            continue
        wanted = torch.from_numpy(np.asarray(layout.constants.get(name, np.zeros(0))))
        if value.is_floating_point():  # bf16 rounds 111.46 to 111.5
            wanted = wanted.to(value.dtype)
        stored = value.detach().double()
        if stored.shape != wanted.shape or not np.allclose(stored, wanted.double(), 0, 0.05):
            raise HarnessError(
                f"{path} has {name} = {stored.numpy().ravel()}, and the network here has "
                f"{wanted.double().numpy().ravel()}: it cannot take these weights."
            )


def _groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by what their names begin with, up to the dot, and by the rest of the name."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        words = name.split(".")
        for n in range(min(len(words), _DEEPEST + 1)):
            groups.setdefault(".".join(words[:n]), {})[".".join(words[n:])] = tensor
    return groups


_WRAPPERS = ("module", "_orig_mod")
"""What ``DataParallel`` and ``torch.compile`` put before the names of what they wrap."""


def _unwrapped(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _there(readings: Sequence[_Reading], shapes: Shapes) -> str:
    """The keys of a file: of what fits, or else of its dictionaries, or the beginnings of names."""
    keys = (
        [one.key for one in readings if one.shapes == shapes and one.key]
        or [one.key for one in readings if not one.prefix and one.key]
        or [one.key for one in readings if "." not in one.prefix and one.key]
    )
    return f"there are {_and(keys)}" if keys else "its names have no beginnings"


def _note(chosen: _Reading, others: Iterable[_Reading], path: Path) -> str:
    """Which of a file's tensors were taken; empty where there are no others."""
    said = []
    if _unwrapped(chosen.key):
        said.append(f"the weights are those under {chosen.key}")
    start = f"{chosen.prefix}." if chosen.prefix else ""
    left = [name.split(".")[0] for name in chosen.among if not name.startswith(start)]
    if left:
        said.append(f"not used: {_and(left)}")
    if others:
        keys = _and(other.key for other in others)
        said.append(f"{keys} would fit, too, with other values (--weights-key)")
    return f"{path.name}: {'; '.join(said)}." if said else ""


def _and(words: Iterable[str]) -> str:
    """Up to ten words, each once."""
    *most, last = [word[:60] for word in dict.fromkeys(words)][:10]
    return f"{', '.join(most)} and {last}" if most else last


def _instead(content: object) -> str:
    """What a file holds that has no tensors."""
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
    """Stands for a value of numpy, such as the best PSNR so far, which is no weight and not made.

    A hostile file could ask numpy for one of any size.
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


def _unpickle(path: Path) -> object:
    import torch

    if any(Path(entry.filename).name == "constants.pkl" for entry in _entries(path)):
        raise HarnessError(
            f"{path} is an archive of torch.jit, which is code: save the network's state_dict()."
        )
    if _is_packed(path):
        raise HarnessError(f"{path} is compressed, as no weights file of PyTorch is.")
    if _is_damaged(path):
        raise HarnessError(
            f"{path} is damaged, its checksums do not fit: copy or download it again."
        )
    if is_hostile(path):
        raise HarnessError(f"{path} holds tuples within tuples, as no weights file does: refused.")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error
    except Exception as error:  # the reader meets what it does not know in many ways
        raise HarnessError(
            f"{path} does not hold plain tensors, and nothing in it was run{_needed(error)}: save "
            "the network's state_dict() instead."
        ) from error


def _needed(error: Exception) -> str:
    """The code that a file cannot be read without, as far as the reader says it."""
    found = re.search(r"GLOBAL (\S{1,100})", str(error))
    return f" (it needs {found[1]})" if found else ""


def _is_packed(path: Path) -> bool:
    """Whether a file is an archive that unpacks to more than itself; nothing is unpacked."""
    return any(entry.compress_type != ZIP_STORED for entry in _entries(path))


def _is_damaged(path: Path) -> bool:
    """Whether a file is not what its seal or its checksums say, at which PyTorch does not look.

    There are no checksums in files that are saved under ``set_crc32_options(False)``.
    """
    if is_sealed(path):
        return not seal_fits(path)
    if not any(entry.CRC for entry in _entries(path)):
        return False
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is not None
    except Exception:  # what is damaged is met in many ways
        return True


def _entries(path: Path) -> list[ZipInfo]:
    """What an archive says it holds; nothing for other files."""
    try:
        with ZipFile(path) as archive:
            return archive.infolist()
    except Exception:  # what is none, or damaged, is met in many ways
        return []


def _require_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors but those of real numbers, one after the other in memory.

    Raises:
        HarnessError: there are others, naming the first.
    """
    odd = next((name for name, tensor in tensors.items() if not _is_plain(tensor)), None)
    if odd is not None:
        raise HarnessError(
            f"{path} does not hold a dictionary of tensors of real numbers: {odd} is sparse, "
            "quantized, complex or without values."
        )


def _is_plain(tensor: Tensor) -> bool:
    import torch

    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_complex())
    )


def _are_equal(one: Tensor, other: Tensor) -> bool:
    import torch

    if one is other:
        return True
    plain = _is_plain(one) and _is_plain(other)
    return plain and one.dtype == other.dtype and torch.equal(one, other)


def _array(tensor: Tensor) -> AnyArray:
    """Floating values as float32; whole numbers (counters of layers) as they are."""
    value = tensor.detach()
    return (value.float() if value.is_floating_point() else value).numpy()


_SEAL = 64
"""SHA-256 of all that comes before, in hexadecimal: the comment of the zip file that PyTorch
writes, which readers of zip files pass over."""

_LENGTH = _SEAL.to_bytes(2, "little")
"""How a zip file states the length of its comment, just before it; 0 where it has none."""


def seal(stream: BinaryIO) -> None:
    """Put the hash of a zip file without a comment into its comment."""
    size = stream.seek(-len(_LENGTH), os.SEEK_END)
    stated = _digest(stream, size)
    stream.seek(size)
    stream.write(_LENGTH + stated)


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a seal, be it right or not.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    with regular(path, WEIGHTS).open("rb") as stream:
        return _stated(stream) is not None


def seal_fits(path: Path) -> bool:
    """Whether a sealed file is what its seal says.

    Raises:
        OSError: it is no file, or cannot be read.
    """
    with regular(path, WEIGHTS).open("rb") as stream:
        stated = _stated(stream)
        return stated == _digest(stream, stream.tell() - len(_LENGTH) - _SEAL)


def _stated(stream: BinaryIO) -> bytes | None:
    """The hash at the end of a file, which is read to its end; None where there is none."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - len(_LENGTH) - _SEAL))
    found = re.fullmatch(re.escape(_LENGTH) + rb"([0-9a-f]{%d})" % _SEAL, stream.read())
    return found[1] if found else None


def _digest(stream: BinaryIO, size: int) -> bytes:
    """SHA-256 of a file's first bytes, in hexadecimal."""
    stream.seek(0)
    content = hashlib.sha256()
    while size > 0 and (piece := stream.read(min(size, 1 << 20))):
        content.update(piece)
        size -= len(piece)
    return content.hexdigest().encode()


class _Size(NamedTuple):
    """How deep tuples nest in a value, and how many values it holds, each as often as it does."""

    depth: int = 0
    values: int = 1


_MOST = _Size(100, 100_000)
"""Of a tuple. PyTorch nests four; the state of Python's random numbers has 627 values."""

_ZIP = b"PK\x03\x04"
"""How a file begins that PyTorch reads as a zip file, whatever follows."""

_EARLIER_PICKLES = 5
"""How many pickles a file begins with that is not a zip file, as PyTorch wrote them once."""


def is_hostile(path: Path) -> bool:
    """Whether a file makes tuples of tuples that end the process when they are hashed.

    Python hashes the keys of dictionaries, and follows their nesting until the stack overflows, or
    repeated parts until the end of time. Nothing is made of the file.
    """
    try:
        return any(size.depth > _MOST.depth or size.values > _MOST.values for size in _tuples(path))
    except Exception:  # PyTorch says what is wrong with a file
        return False


def _tuples(path: Path) -> Iterator[_Size]:
    """The sizes of all tuples that a file makes."""
    with regular(path, WEIGHTS).open("rb") as stream:
        is_zip = stream.read(len(_ZIP)) == _ZIP
        stream.seek(0)
        if not is_zip:
            for _ in range(_EARLIER_PICKLES):
                yield from _made(stream)
            return
        with ZipFile(stream) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        yield from _made(pickled)


def _made(pickled: IO[bytes]) -> Iterator[_Size]:
    """The sizes of the tuples that a pickle makes."""
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
            taken, size = _taken(stack, opcode), _Size()
            if "TUPLE" in opcode.name:
                depth = max((one.depth for one in taken), default=0)
                size = _Size(1 + depth, 1 + sum(one.values for one in taken))
                yield size
            stack += [size] * len(opcode.stack_after)


def _taken(stack: list[_Size | None], opcode: pickletools.OpcodeInfo) -> list[_Size]:
    """What an instruction takes off the stack, all down to the last mark where it says so."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        return [size for _ in before if (size := stack.pop())]
    taken = []
    while (size := stack.pop()) is not None:
        taken.append(size)
    del stack[len(stack) - before.index(pickletools.markobject) :]
    return taken
