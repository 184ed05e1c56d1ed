"""The networks of the paper, one file each."""

from harness.registry import declare_package

declare_package(__name__)
