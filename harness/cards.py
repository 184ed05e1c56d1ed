"""What plug-ins declare of models and test sets, and the types that all layers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
