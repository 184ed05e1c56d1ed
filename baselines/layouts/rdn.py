"""Checkpoints of RDN from EDSR-PyTorch, and from RDN-pytorch and MMEditing."""

from __future__ import annotations

from harness.cards import CheckpointLayout

# Its images are in [0, 255] and not centred.
_EDSR_PYTORCH = CheckpointLayout(
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
)

_RDN_PYTORCH = CheckpointLayout(
    "sfe1.weight",
    (
        ("sfe#.", "shallow#."),
        ("rdbs.#.layers.#.conv.", "blocks.#.convs.#."),
        ("rdbs.#.lff.", "blocks.#.fusion."),
        ("gff.", "fusion."),
        ("upscale.", "tail.0."),
        ("output.", "tail.1."),
    ),
)


def layouts() -> tuple[CheckpointLayout, ...]:
    """The layouts of RDN's published weights."""
    return (_EDSR_PYTORCH, _RDN_PYTORCH)
