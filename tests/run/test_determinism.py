"""The same run gives the same numbers in every process and with any number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def measured(photos: Path, random_weights, tmp_path: Path):
    """Run a model in a separate process with ``threads`` threads; return its record's JSON."""
    files = {model: random_weights(model) for model in ("fsrcnn", "edsr-baseline")}

    def measure(model: str, threads: int, *more: str) -> dict[str, Any]:
        folder = tmp_path / f"results-{len(list(tmp_path.iterdir()))}"
        command = [sys.executable, "-m", "harness", "run", "--models", model, "--json"]
        weights = ["--weights", f"{model}={files[model]}", "--results", str(folder)]
        shown = subprocess.run(
            [*command, *weights, "--datasets", str(photos), *more],
            capture_output=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        (record,) = json.loads(shown.stdout)
        return record

    return measure


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the fields on how and when it was computed."""
    for image in record["images"]:
        del image["seconds"]
    del record["execution"], record["provenance"]["utc"], record["sha256"]
    return record


@pytest.mark.parametrize("model", ["fsrcnn", "edsr-baseline"])
def test_two_runs_give_identical_records_but_for_execution_and_time(measured, model: str) -> None:
    assert lasting(measured(model, 1)) == lasting(measured(model, 1))


@pytest.mark.parametrize(("model", "more"), [("fsrcnn", []), ("edsr-baseline", ["--tile", "8"])])
def test_the_number_of_threads_changes_no_score_by_a_ten_thousandth_of_a_decibel(
    measured, model: str, more: list[str]
) -> None:
    one, two = measured(model, 1, *more), measured(model, 2, *more)
    assert (one["execution"]["threads"], two["execution"]["threads"]) == (1, 2)
    assert one["id"] == two["id"]
    for a, b in zip(one["images"], two["images"], strict=True):
        assert a["psnr"] == pytest.approx(b["psnr"], abs=1e-4)
        assert a["ssim"] == pytest.approx(b["ssim"], abs=1e-6)
