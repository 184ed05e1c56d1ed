"""PyTorch checkpoints, in the layouts that networks of this field were published in."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from harness.errors import HarnessError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.specs import AnyArray, Tensors

_NESTED = ("params_ema", "params", "state_dict", "model", "average")
_LARGEST_RATIO = 4
"""Tensors over file size: values may be stored once and used twice, and no more than that."""
_MEAN = np.array([0.4488, 0.4371, 0.4040])


def read_checkpoint(path: Path) -> Tensors:
    """The tensors of a checkpoint, under this project's names, without running any code in it.

    Understood are a plain state_dict, one nested under ``params_ema``, ``params``, ``state_dict``,
    ``model`` or ``average`` (that of ``harness train``, at work), and the ``module.`` that parallel
    training puts before names.

    Raises:
        HarnessError: it cannot be read, holds anything but tensors, or would take more memory than
            its own size calls for.
    """
    content = _unpickle(path)
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not _all_plain(content.values()):
        raise HarnessError(f"{path} does not hold a dictionary of tensors{_instead(content)}.")
    # Views of one value, repeated without end, would fit into a small file.
    if sum(tensor.nbytes for tensor in content.values()) > _LARGEST_RATIO * path.stat().st_size:
        raise HarnessError(f"{path} would unpack to far more than it holds: it is no weights file.")
    tensors = {
        str(name).removeprefix("module."): _array(tensor) for name, tensor in content.items()
    }
    layout = next((layout for layout in LAYOUTS if layout.mark in tensors), None)
    return _translate(tensors, layout, path) if layout else tensors


def _instead(content: object) -> str:
    """What a checkpoint holds where no known key has the tensors."""
    if not isinstance(content, Mapping) or not content:
        return ": it is no weights file"
    keys = [str(key)[:40] for key in content]
    named = ", ".join(filter(str.isprintable, keys[:10])) + ", ..." * (len(keys) > 10)
    return f" but {named}: save the network's own under {' or '.join(_NESTED)}, or alone"


def _unpickle(path: Path) -> object:
    import torch

    if _is_packed(path):
        raise HarnessError(f"{path} is compressed, as no weights file of PyTorch is.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error
    except Exception as error:  # the reader meets what it does not know in many ways
        raise HarnessError(
            f"{path} does not hold plain tensors, and nothing in it was run: save the network's "
            "state_dict() instead."
        ) from error


def _is_packed(path: Path) -> bool:
    """Whether a file is an archive that unpacks to more than itself; nothing is unpacked."""
    try:
        with ZipFile(path) as archive:
            return any(entry.compress_type != ZIP_STORED for entry in archive.infolist())
    except (BadZipFile, OSError):
        return False


def _all_plain(values: Iterable[object]) -> bool:
    """Whether all are tensors of real numbers, one after the other in memory."""
    import torch

    return all(
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
        for value in values
    )


def _array(tensor: Tensor) -> AnyArray:
    """Floating values as float32; whole numbers (counters of layers) as they are."""
    value = tensor.detach()
    return (value.float() if value.is_floating_point() else value).numpy()


@dataclass(frozen=True)
class Layout:
    """Names that a published implementation gives to parameters.

    Attributes:
        mark: a name by which the layout is known.
        rules: beginnings of names and what they become here; the first that fits decides. ``#``
            stands for a number, ``{top}`` for the highest one after ``counted``, ``{next}`` for
            one more.
        counted: the list whose numbers those are.
        range: the largest value of its images; a network of convolutions and ReLU on [0, 255] is
            one on [0, 1] with biases 255 times smaller.
    """

    mark: str
    rules: tuple[tuple[str, str], ...]
    counted: str = ""
    range: int = 1


LAYOUTS = (
    # EDSR and MSRN as their authors publish them (EDSR-PyTorch and code built on it).
    Layout(
        "head.0.weight",
        (("head.0.", "body.head."), ("body.", "body.body."), ("tail.", "body.tail.")),
    ),
    # EDSR of BasicSR.
    Layout(
        "conv_after_body.weight",
        (
            ("conv_first.", "body.head."),
            ("body.#.conv1.", "body.body.#.body.0."),
            ("body.#.conv2.", "body.body.#.body.2."),
            ("conv_after_body.", "body.body.{next}."),
            ("upsample.", "body.tail.0."),
            ("conv_last.", "body.tail.1."),
        ),
        counted="body.",
    ),
    # RDN of EDSR-PyTorch, whose images are in [0, 255] and not centred.
    Layout(
        "SFENet1.weight",
        (
            ("SFENet#.", "shallow#."),
            ("RDBs.#.convs.#.conv.0.", "blocks.#.convs.#."),
            ("RDBs.#.LFF.", "blocks.#.fusion."),
            ("GFF.", "fusion."),
            ("UPNet.{top}.", "tail.1."),
            ("UPNet.", "tail.0."),
        ),
        counted="UPNet.",
        range=255,
    ),
    # RDN of RDN-pytorch and of MMEditing.
    Layout(
        "sfe1.weight",
        (
            ("sfe#.", "shallow#."),
            ("rdbs.#.layers.#.conv.", "blocks.#.convs.#."),
            ("rdbs.#.lff.", "blocks.#.fusion."),
            ("gff.", "fusion."),
            ("upscale.", "tail.0."),
            ("output.", "tail.1."),
        ),
    ),
)


def _translate(tensors: Tensors, layout: Layout, path: Path) -> Tensors:
    """Names, range and mean of a published layout in this project's terms."""
    shifts = {name: v for name, v in tensors.items() if name.startswith(("sub_mean.", "add_mean."))}
    _check_shifts(shifts, path)
    numbers = [
        int(found[1])
        for name in tensors
        if layout.counted and (found := re.match(re.escape(layout.counted) + r"(\d+)\.", name))
    ]
    top = max(numbers, default=0)
    rules = [
        (old.format(top=top, next=top + 1), new.format(top=top, next=top + 1))
        for old, new in layout.rules
    ]
    return {
        _rename(name, rules): value / layout.range if name.endswith(".bias") else value
        for name, value in tensors.items()
        if name not in shifts
    }


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\#", r"(\d+)")
        if found := re.match(pattern, name):
            numbers = iter(found.groups())
            return re.sub("#", lambda _: next(numbers), new) + name[found.end() :]  # noqa: B023
    return name


def _check_shifts(shifts: Tensors, path: Path) -> None:
    """A mean stored as a layer must be the one that the network here subtracts and adds.

    Raises:
        HarnessError: it is another.
    """
    expected = {
        "sub_mean.bias": -255 * _MEAN,
        "add_mean.bias": 255 * _MEAN,
        "sub_mean.weight": np.eye(3).reshape(3, 3, 1, 1),
        "add_mean.weight": np.eye(3).reshape(3, 3, 1, 1),
    }
    for name, value in shifts.items():
        wanted = expected.get(name)
        if wanted is None or value.shape != wanted.shape or not np.allclose(value, wanted, 0, 0.05):
            raise HarnessError(
                f"{path} shifts colours by {name} = {value.ravel()}, not by the mean of DIV2K at "
                "255 levels: the network here cannot take it."
            )
