"""Broken and malicious input gets one sentence and the right exit code.

Each case makes its files in an empty folder and runs one command there. None may hang, take a
gigabyte of extra memory, or run code from a file.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from harness.data import pinned
from tests.hostile import images, papers, plugins, records, weights, words
from tests.hostile.case import Case
from tests.hostile.files import SPRUNG, saved

KINDS = (images, weights, records, plugins, papers, words)
CASES = [case for kind in KINDS for case in kind.CASES]


def peak() -> float:
    """The peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a case does to the environment and the registry."""
    monkeypatch.setattr(pinned, "files", pinned.files)
    with patch.dict(os.environ):
        yield


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_hostile_or_broken_gets_one_sentence(case: Case, harness, undone: None) -> None:
    saved("a.png")
    Path("set").rename("good")
    case.make()
    memory, begin = peak(), time.monotonic()
    shown = harness(*case.words.split(" "))
    assert shown.exit_code == case.code, shown.output
    assert case.said in shown.output
    assert not any(word in shown.output for word in ("Traceback", "(unexpected", "Warning: /"))
    around = [*Path().rglob(f"{SPRUNG}*"), *(up / SPRUNG for up in Path.cwd().parents)]
    assert not any(path.exists() for path in around), "what a file brings along was run"
    assert time.monotonic() - begin < 60
    assert peak() - memory < 1
