"""The names that published PyTorch implementations give to the values of networks here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError

if TYPE_CHECKING:
    from torch import Tensor


_MEAN = np.array([0.4488, 0.4371, 0.4040])
_SHIFTS = ("sub_mean.", "add_mean.")


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


def find_layout(names: Iterable[str]) -> Layout | None:
    """The published layout that names are in, if any."""
    return next((layout for layout in LAYOUTS if layout.mark in names), None)


def own_names(names: Iterable[str], layout: Layout | None) -> dict[str, str]:
    """What names of a layout are here; mean shifts, which the networks here make, are left out."""
    if layout is None:
        return {name: name for name in names}
    kept = [name for name in names if not name.startswith(_SHIFTS)]
    numbers = [
        int(found[1])
        for name in kept
        if layout.counted and (found := re.match(re.escape(layout.counted) + r"(\d+)\.", name))
    ]
    top = max(numbers, default=0)
    rules = [
        (old.format(top=top, next=top + 1), new.format(top=top, next=top + 1))
        for old, new in layout.rules
    ]
    return {name: _rename(name, rules) for name in kept}


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\#", r"(\d+)")
        if found := re.match(pattern, name):
            numbers = iter(found.groups())
            return re.sub("#", lambda _: next(numbers), new) + name[found.end() :]  # noqa: B023
    return name


def check_shifts(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A mean stored as a layer must be the one that the network here subtracts and adds.

    Raises:
        HarnessError: it is another.
    """
    import torch

    expected = {
        "sub_mean.bias": -255 * _MEAN,
        "add_mean.bias": 255 * _MEAN,
        "sub_mean.weight": np.eye(3).reshape(3, 3, 1, 1),
        "add_mean.weight": np.eye(3).reshape(3, 3, 1, 1),
    }
    for name, value in tensors.items():
        if not name.startswith(_SHIFTS):
            continue
        wanted = torch.from_numpy(expected.get(name, np.zeros(0)))
        if value.is_floating_point():  # bf16 rounds 111.46 to 111.5
            wanted = wanted.to(value.dtype)
        stored = value.detach().double()
        if stored.shape != wanted.shape or not np.allclose(stored, wanted.double(), 0, 0.05):
            raise HarnessError(
                f"{path} shifts colours by {name} = {stored.numpy().ravel()}, not by the mean of "
                "DIV2K at 255 levels: the network here cannot take it."
            )
