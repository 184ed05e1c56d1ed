"""Count networks once for all report tests: a cached count does not change a report."""

from pathlib import Path

import pytest

from harness.models import cost


@pytest.fixture(autouse=True)
def kept_counts(
    clean_slate: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache for counts, shared by these tests."""
    cache = tmp_path_factory.getbasetemp() / "kept"
    monkeypatch.setattr(cost, "cache_root", lambda: cache / "drfn-harness")
    return cache
