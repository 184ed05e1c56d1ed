"""A reproducibility benchmark harness for single-image super-resolution."""

import time
from pathlib import Path

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
