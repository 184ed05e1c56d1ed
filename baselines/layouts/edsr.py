"""Checkpoints of EDSR from its authors and from BasicSR."""

from __future__ import annotations

import numpy as np

from harness.cards import CheckpointLayout

_MEAN = np.array([0.4488, 0.4371, 0.4040])
"""The RGB mean of DIV2K, which our network subtracts and adds itself."""

EDSR_PYTORCH = CheckpointLayout(
    "head.0.weight",
    (("head.0.", "body.head."), ("body.", "body.body."), ("tail.", "body.tail.")),
    constants={
        "sub_mean.bias": -255 * _MEAN,
        "add_mean.bias": 255 * _MEAN,
        "sub_mean.weight": np.eye(3).reshape(3, 3, 1, 1),
        "add_mean.weight": np.eye(3).reshape(3, 3, 1, 1),
    },
)
"""The layout of EDSR-PyTorch and of code built on it; its images are in [0, 255]."""

_BASICSR = CheckpointLayout(
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
)


def layouts() -> tuple[CheckpointLayout, ...]:
    """The layouts of EDSR's published weights."""
    return (EDSR_PYTORCH, _BASICSR)
