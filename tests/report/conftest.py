"""Networks are counted once for all tests of reports: a count that is kept changes no report."""

from pathlib import Path

import pytest

from harness.models import cost


@pytest.fixture(autouse=True)
def kept_counts(
    clean_slate: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The user cache, shared by these tests, for counts alone."""
    cache = tmp_path_factory.getbasetemp() / "kept"
    monkeypatch.setattr(cost, "cache_root", lambda: cache / "drfn-harness")
    return cache
