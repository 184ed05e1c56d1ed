"""The paper as data: every printed number, read from ``drfn2020.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def paper() -> dict[str, Any]:
    """The paper's numbers as printed, typographical errors included."""
    text = files("harness.paper").joinpath("drfn2020.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
