"""What pip installs: every package, and the records that claims are judged from."""

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import harness
from harness.run.provenance import source_digest

ROOT = Path(harness.__file__).parents[1]


def test_every_package_is_installed() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("harness/**/*.py")}
    names = {".".join(folder.parts) for folder in folders}
    assert set(declared["packages"]) - set(declared["package-dir"]) == names
    assert declared["package-dir"]["harness.baselines"] == "baselines"


def test_outside_a_checkout_the_claims_have_the_verdicts_of_the_committed_report(
    tmp_path: Path, monkeypatch
) -> None:
    source = tmp_path / "source"  # building leaves files
    unneeded = shutil.ignore_patterns(".*", "build", "tests", "reports", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=unneeded)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))

    def shown(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", *words]
        return subprocess.run(command, cwd=tmp_path / "empty", capture_output=True, text=True)

    judged = shown("claims", "--format", "json")
    with (ROOT / "reports/claims.csv").open(newline="") as stream:
        committed = {row["claim"]: row["verdict"] for row in csv.DictReader(stream)}
    assert {one["claim"]: one["verdict"] for one in json.loads(judged.stdout)} == committed
    assert str(tmp_path / "installed/harness/reference") in judged.stderr
    assert "There are no reference records" not in shown("check").stderr
    installed = str(tmp_path / "installed/harness/baselines")
    listed = json.loads(shown("list", "weights", "--json").stdout)
    assert {row["where"] for row in listed if row["tag"] == "repro"} == {
        str(path) for path in Path(installed).glob("weights/*.safetensors")
    }
    assert not list((tmp_path / "empty").iterdir())
    digest = "from harness.run.provenance import source_digest as d; print(d())"
    command = [sys.executable, "-c", digest]
    printed = subprocess.run(command, cwd=tmp_path / "empty", capture_output=True, text=True)
    assert printed.stdout.strip() == source_digest()
