"""The networks of the paper, one file each; found through the entry point like any plug-in."""

from harness.registry import declare_package

declare_package(__name__)
