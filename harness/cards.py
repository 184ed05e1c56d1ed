"""Cards that describe models and test sets, and types that all layers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]
    FloatArray = NDArray[np.float64]
    AnyArray = NDArray[Any]
    Tensors = dict[str, AnyArray]
    """Parameter names and values."""
    Shapes = Mapping[str, tuple[int, ...]]
    """Parameter names and shapes."""


DISTRIBUTION = "drfn-harness"
"""Name of the installed distribution."""

Pipeline = Literal["y", "rgb"]
"""``y``: luma only, degraded in double; ``rgb``: colour, degraded in uint8, scored on float Y."""

NetworkInput = Literal["lr", "bicubic"]
"""``lr``: the network takes the LR image; ``bicubic``: its bicubic enlargement to the SR size."""

Border = Literal["replicate", "symmetric"]
"""How an image is padded beyond its edge when it is resized.

``replicate`` repeats the last pixel (LR images of SelfExSR, RDN, RCAN); ``symmetric`` mirrors with
the edge repeated (IMDN, SwinIR, DPSR, DBPN).
"""

MetricInput = Literal["y", "rgb"]
"""What a metric is computed on: ``y``, the luma of SR and HR image; ``rgb``, the colour images."""

GreyRule = Literal["full-range", "as-rgb"]
"""How a grey image is scored: on its stored values, or on the luma of its RGB copy (16 to 235)."""


@dataclass(frozen=True)
class Preset:
    """Rules under one name, for ``--like`` and for the tables of papers.

    Attributes:
        grey: how grey images are scored; None for each pipeline's own rule.
        border: how imresize pads an image.
        pipeline: the pipeline of the networks that follow these rules; None for any.
    """

    grey: GreyRule | None = None
    border: Border = "replicate"
    pipeline: Pipeline | None = None


PRESETS: Mapping[str, Preset] = {
    "usual": Preset(),
    "full-range": Preset("full-range"),
    "as-rgb": Preset("as-rgb"),
    "edsr": Preset("as-rgb", pipeline="rgb"),
    "imdn": Preset("as-rgb", "symmetric", "rgb"),
    "vdsr": Preset("full-range", pipeline="y"),
}
"""The presets that a paper's tables can name; docs/protocol.md has the evidence for each."""

LINEAGES = {name: preset for name, preset in PRESETS.items() if preset.pipeline}
"""The presets that ``--like`` takes: the rules of published work and of what builds on its code."""


CardName = Annotated[str, Meta(pattern=r"\A[\w-][\w.-]*\Z")]
"""A command-line word that can be part of a path: letters, digits, ``.``, ``_`` and ``-``."""

Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class ModelCard:
    """The description of a network, as its plug-in declares it; the types are checked.

    Attributes:
        name: the network's name on the command line.
        build: returns the network; takes ``scale`` and the network's own keyword arguments.
        pipeline: how the input is made and the output compared.
        input: the input it takes; the network maps ``(N, C, H, W)`` in [0, 1] to the same range.
        scales: the scales it is defined for.
        paper: where it was published.
        params: number of trainable values at its largest scale, or None if no number is claimed.
        global_pooling: the network pools over the whole image, so that tiles change its output.
        layouts: ``module:function`` that returns the `CheckpointLayout` and `FileLayout` of its
            published weights; not imported with the network.
        stand_in: a smaller model that runs instead, with a notice, if there are no weights.
        origin: the module or file of the plug-in.
        source: the file that registers it.
        checkpoint: what is known of a checkpoint that `harness.models.foreign` recognised, which
            the record repeats; empty for a registered network.
    """

    name: CardName
    build: Callable[..., Any]
    pipeline: Pipeline
    input: NetworkInput
    scales: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1)]
    paper: str = ""
    params: Count | None = None
    global_pooling: bool = False
    stand_in: str = ""
    layouts: Annotated[str, Meta(pattern=r"\A([\w.]+:\w+)?\Z")] = ""
    origin: str = ""
    source: Path | None = None
    checkpoint: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def channels(self) -> int:
        """Number of input and output channels: 1 in the ``y`` pipeline, 3 in ``rgb``."""
        return 1 if self.pipeline == "y" else 3

    def input_scale(self, scale: int) -> int:
        """Return output size over input size: 1 if the input is already enlarged."""
        return scale if self.input == "lr" else 1


@dataclass(frozen=True)
class MetricCard:
    """The description of a metric, as `harness.registry.register_metric` takes it.

    Attributes:
        name: the metric's name on the command line and in records.
        compute: ``(sr, hr)``, returns the score of one image.
        on: what it is computed on.
        origin: the module or file that registers it.
    """

    name: CardName
    compute: Callable[..., Any]
    on: MetricInput = "y"
    origin: str = ""


@dataclass(frozen=True)
class CheckpointLayout:
    """The parameter names that a published PyTorch implementation uses for a network.

    Attributes:
        mark: a parameter name that identifies the layout.
        rules: pairs of a name prefix and its replacement here; the first match is used. ``#``
            stands for a number, ``{top}`` for the highest number after ``counted``, ``{next}`` for
            that plus one.
        counted: the prefix before those numbers.
        range: the largest pixel value; a network of convolutions and ReLU on [0, 255] equals one
            on [0, 1] with biases 255 times smaller.
        constants: stored values, by name, that the network here computes itself: they must be
            equal, and are not loaded.
    """

    mark: str
    rules: tuple[tuple[str, str], ...]
    counted: str = ""
    range: int = 1
    constants: Mapping[str, AnyArray] = field(default_factory=dict)

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """Map the layout's names to the names used here, without those of constants."""
        parameters = [name for name in names if not self.is_constant(name)]
        numbers = [
            int(match[1])
            for name in parameters
            if self.counted and (match := re.match(re.escape(self.counted) + r"(\d+)\.", name))
        ]
        top = max(numbers, default=0)
        rules = [
            (old.format(top=top, next=top + 1), new.format(top=top, next=top + 1))
            for old, new in self.rules
        ]
        return {name: _rename(name, rules) for name in parameters}

    def is_constant(self, name: str) -> bool:
        """Whether a name is in a layer whose values the network here computes itself."""
        layers = {constant.rpartition(".")[0] for constant in self.constants}
        return name.startswith(tuple(f"{layer}." for layer in layers))


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\#", r"(\d+)")
        if match := re.match(pattern, name):
            numbers = iter(match.groups())
            return re.sub("#", lambda _: next(numbers), new) + name[match.end() :]  # noqa: B023
    return name


NCNN_HALF = (0x01306B47).to_bytes(4, "little")
"""The tag in an ncnn file before weights stored in fp16."""


@dataclass(frozen=True)
class FileLayout:
    """The layout of a published weights file that is not a PyTorch checkpoint.

    Attributes:
        kind: the file type: ``mat``, with the variables by name as SciPy reads them; or ``ncnn``,
            with an array of 16-bit words.
        fits: whether a file's content belongs to this network.
        read: returns the names, as used here, and arrays of the network's values.
    """

    kind: Literal["mat", "ncnn"]
    fits: Callable[[Any], bool]
    read: Callable[[Any], Iterable[tuple[str, AnyArray]]]


@dataclass(frozen=True)
class RemoteFile:
    """A public file, pinned by its content.

    Attributes:
        repository: ``owner/name`` on GitHub, or the https address of a folder on another host.
        commit: the commit on GitHub; empty on another host.
        path: the path in the repository or folder.
        bytes: the size; None if it was not published.
        pin: ``sha256:`` and the SHA-256, ``sha256-prefix:`` and its first digits, or ``git:`` and
            the id that git gives the content.
    """

    repository: str
    commit: str
    path: str
    bytes: int | None
    pin: str


@dataclass(frozen=True)
class KnownImage:
    """An image of a published set, identified by the SHA-256 of its decoded pixels.

    Attributes:
        width: width of the published file, which is cropped to multiples of 4.
        height: height of the same file.
        original: width and height before the crop, or None if unknown.
        usual_names: what other copies of the set call it, such as ``baby``.
    """

    name: str
    width: int
    height: int
    pixels_sha256: str
    file: RemoteFile
    original: tuple[int, int] | None = None
    usual_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetCard:
    """A test set.

    Attributes:
        name: the set's name on the command line.
        title: the set's name in papers.
        count: the number of images; 0 for any number.
        folders: the names its folder may have.
        known: its images, if their pixels are pinned.
        benchmark: papers report it, so none of its images may be trained on.
        obtain: how to get the set if it cannot be downloaded.
        root: the set's folder, for sets with a folder of their own.
    """

    name: CardName
    title: str
    count: Count = 0
    folders: tuple[str, ...] = ()
    known: tuple[KnownImage, ...] = ()
    benchmark: bool = False
    obtain: str = ""
    root: Path | None = None
    origin: str = ""
