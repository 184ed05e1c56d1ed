"""Checkpoints of MSRN from its authors, whose code is built on EDSR-PyTorch."""

from __future__ import annotations

from harness.cards import CheckpointLayout

from .edsr import EDSR_PYTORCH


def layouts() -> tuple[CheckpointLayout, ...]:
    """The layouts of MSRN's published weights."""
    return (EDSR_PYTORCH,)
