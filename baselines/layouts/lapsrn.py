"""The authors' MATLAB file of LapSRN (Lai et al.): a MatConvNet DagNN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cards import FileLayout

if TYPE_CHECKING:
    from harness.cards import AnyArray


def layouts() -> tuple[FileLayout, ...]:
    """The layouts of LapSRN's published weights."""
    return (FileLayout("mat", _is_lapsrn, _read),)


def _is_lapsrn(content: Mapping[str, Any]) -> bool:
    """Whether a file holds a MatConvNet network with the layers of LapSRN."""
    try:
        names = {row["name"] for row in content["net"]["params"]}
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return {"input_conv_f", "level1_img_up_f"} <= names


def _read(content: Mapping[str, Any]) -> Iterator[tuple[str, AnyArray]]:
    """Yield names and arrays; filters are ``(H, W, in, out)`` without axes of length 1.

    Transposed convolutions are ``(H, W, out, in)``; PyTorch swaps these two axes as well.
    """
    values = {row["name"]: np.asarray(row["value"]) for row in content["net"]["params"]}
    levels = max(int(name[5]) for name in values if name.startswith("level"))
    for name, value in values.items():
        layer, kind = name.rsplit("_", 1)
        target = _own_name(layer, levels)
        if kind == "b":
            yield f"{target}.bias", value.reshape(-1)
            continue
        # Only the layers that output an image have one channel; their last axis is missing.
        last = 1 if layer.endswith(("residual_conv", "img_up")) else value.shape[-1]
        shaped = value.reshape(*value.shape[:2], -1, last)
        yield f"{target}.weight", shaped.transpose(3, 2, 0, 1)


def _own_name(layer: str, levels: int) -> str:
    """``level2_conv3`` of two levels is ``levels.0.body.4``; level 1 is the last."""
    if layer == "input_conv":
        return "head.0"
    level, part = layer.removeprefix("level").split("_", 1)
    names = {"upconv": "enlarge", "residual_conv": "residual", "img_up": "enlarge_image"}
    inner = names.get(part) or f"body.{2 * int(part.removeprefix('conv')) - 2}"
    return f"levels.{levels - int(level)}.{inner}"
