"""A reproducibility benchmark harness for single-image super-resolution."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import (
        Evaluation,
        HarnessError,
        Protocol,
        evaluate,
        imresize,
        list_datasets,
        list_models,
        load_network,
        make_lr,
        psnr,
        ssim,
    )

__all__ = [
    "Evaluation",
    "HarnessError",
    "Protocol",
    "evaluate",
    "imresize",
    "list_datasets",
    "list_models",
    "load_network",
    "make_lr",
    "psnr",
    "ssim",
]

STARTED = time.monotonic()
"""When this process started, not counting the start of Python itself."""


def _lies_in_checkout() -> bool:
    """Whether this package is in a checkout of the project, beside the networks."""
    here = Path(__file__).parent
    project = here.with_name("pyproject.toml")
    return (
        not (here / "baselines/__init__.py").is_file()
        and project.is_file()
        and 'name = "drfn-harness"' in project.read_text(encoding="utf-8")
    )


if _lies_in_checkout():  # once installed, the networks are part of this package
    __path__.append(str(Path(__file__).parents[1]))


if not TYPE_CHECKING:  # else a type checker would accept every name

    def __getattr__(name: str) -> Any:
        """Import the Python interface at its first use: ``import harness`` alone stays fast."""
        if name in __all__:
            from harness import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
