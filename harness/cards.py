"""What plug-ins declare of models and test sets, and the types that all layers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    ByteArray = NDArray[np.uint8]
    FloatArray = NDArray[np.float64]
    AnyArray = NDArray[Any]
    Tensors = dict[str, AnyArray]
    """Parameter names and values."""
    Shapes = Mapping[str, tuple[int, ...]]
    """Parameter names and shapes."""


DISTRIBUTION = "drfn-harness"
"""What the harness is installed as."""

Pipeline = Literal["y", "rgb"]
"""``y``: luma alone, degraded in double; ``rgb``: colour, degraded in uint8, scored on float Y."""

NetworkInput = Literal["lr", "bicubic"]
"""``lr``: the network takes the LR image; ``bicubic``: its bicubic enlargement to the SR size."""

Border = Literal["replicate", "symmetric"]
"""How an image goes on beyond its edge when it is resized.

``replicate`` repeats the last pixel (LR images of SelfExSR, RDN, RCAN); ``symmetric`` mirrors with
the edge repeated (IMDN, SwinIR, DPSR, DBPN).
"""

GreyRule = Literal["full-range", "as-rgb"]
"""How a grey image is scored: its stored values, or those of its RGB copy's luma (16 to 235)."""


@dataclass(frozen=True)
class ModelCard:
    """What a plug-in declares of a network.

    Attributes:
        name: what the command line calls it.
        build: returns the network; takes ``scale`` and the network's own keyword arguments.
        pipeline: how its input is made and its output compared.
        input: what it takes; the network maps ``(N, C, H, W)`` in [0, 1] to the same range.
        scales: the factors it is defined for.
        paper: where it was published.
        params: trainable values at its largest scale, or None when no count is claimed.
        global_pooling: it looks at the whole image at once, so that tiles change its output.
        layouts: ``module:function`` that returns the `CheckpointLayout` and `FileLayout` of its
            published weights; not imported with the network.
        stand_in: a smaller model that runs in its place, and says so, where it has no weights.
        origin: the module or file the plug-in came from.
        source: the file that registers it.
    """

    name: str
    build: Callable[..., nn.Module]
    pipeline: Pipeline
    input: NetworkInput
    scales: tuple[int, ...]
    paper: str = ""
    params: int | None = None
    global_pooling: bool = False
    stand_in: str = ""
    layouts: str = ""
    origin: str = ""
    source: Path | None = None

    @property
    def channels(self) -> int:
        """Channels of its input and output: 1 in the ``y`` pipeline, 3 in ``rgb``."""
        return 1 if self.pipeline == "y" else 3

    def input_scale(self, scale: int) -> int:
        """Output size over input size: 1 when the enlargement was made before the network."""
        return scale if self.input == "lr" else 1


@dataclass(frozen=True)
class CheckpointLayout:
    """The names that a published PyTorch implementation gives to the values of a network.

    Attributes:
        mark: a name by which the layout is known.
        rules: beginnings of names and what they become here; the first that fits decides. ``#``
            stands for a number, ``{top}`` for the highest one after ``counted``, ``{next}`` for
            one more.
        counted: the list whose numbers those are.
        range: the largest value of its images; a network of convolutions and ReLU on [0, 255] is
            one on [0, 1] with biases 255 times smaller.
        constants: values that are stored there and that the network here makes itself, by name:
            they must be equal, and are not read.
    """

    mark: str
    rules: tuple[tuple[str, str], ...]
    counted: str = ""
    range: int = 1
    constants: Mapping[str, AnyArray] = field(default_factory=dict)

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """What names of the layout are here, without those of constants."""
        kept = [name for name in names if not self.is_constant(name)]
        numbers = [
            int(found[1])
            for name in kept
            if self.counted and (found := re.match(re.escape(self.counted) + r"(\d+)\.", name))
        ]
        top = max(numbers, default=0)
        rules = [
            (old.format(top=top, next=top + 1), new.format(top=top, next=top + 1))
            for old, new in self.rules
        ]
        return {name: _rename(name, rules) for name in kept}

    def is_constant(self, name: str) -> bool:
        """Whether a name is in a layer whose values the network here makes itself."""
        layers = {one.rpartition(".")[0] for one in self.constants}
        return name.startswith(tuple(f"{layer}." for layer in layers))


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\#", r"(\d+)")
        if found := re.match(pattern, name):
            numbers = iter(found.groups())
            return re.sub("#", lambda _: next(numbers), new) + name[found.end() :]  # noqa: B023
    return name


NCNN_HALF = (0x01306B47).to_bytes(4, "little")
"""What stands in an ncnn file before weights that are stored in fp16."""


@dataclass(frozen=True)
class FileLayout:
    """How the authors of a network laid out a file that is no PyTorch checkpoint.

    Attributes:
        kind: of file: ``mat``, whose content is what SciPy reads, variables by name; or ``ncnn``,
            whose content is an array of 16-bit words.
        fits: whether the content of a file is of this network.
        read: gives the names and arrays of the network's values, as they are called here.
    """

    kind: Literal["mat", "ncnn"]
    fits: Callable[[Any], bool]
    read: Callable[[Any], Iterable[tuple[str, AnyArray]]]


@dataclass(frozen=True)
class RemoteFile:
    """A file of a public repository, pinned by commit, size and SHA-256."""

    repository: str
    commit: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class KnownImage:
    """An image a published set consists of, known by the SHA-256 of its decoded pixels.

    Attributes:
        width: of the published file, which is cropped to multiples of 4.
        height: likewise.
        original: width and height before the crop, or None where they are not known.
    """

    name: str
    width: int
    height: int
    pixels_sha256: str
    file: RemoteFile
    original: tuple[int, int] | None = None


@dataclass(frozen=True)
class DatasetCard:
    """A test set.

    Attributes:
        name: what the command line calls it.
        title: what papers call it.
        count: how many images it has; 0 when any number will do.
        folders: the names its folder goes by.
        known: its images, where their pixels are pinned.
        column: it is a column of the paper's Table 2.
        obtain: how to get it where it cannot be downloaded.
        root: the folder it lies in, for sets that bring their own.
    """

    name: str
    title: str
    count: int = 0
    folders: tuple[str, ...] = ()
    known: tuple[KnownImage, ...] = ()
    column: bool = False
    obtain: str = ""
    root: Path | None = None
    origin: str = ""
