"""What a source distribution and a wheel hold, and what works where they are unpacked."""

import csv
import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import harness
from harness.run.provenance import source_digest

ROOT = Path(harness.__file__).parents[1]
UNSHARED = {
    "reports/crops-set14-img_002.png",
    "results/local/x4/set5/bicubic-81d403cf33f6.json",
    "results/reference/x4/demo/bicubic-81d403cf33f6/astronaut.png",
    "results/reference/x4/set5/bicubic-81d403cf33f6/baby.png",
    "tests/__pycache__/test_cli.cpython-311.pyc",
}
"""What lies about where one works, and is not handed on."""


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)", text)


def done(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    shown = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown


def built(kind: str, source: Path, folder: Path) -> Path:
    """Build with the installed setuptools, as pip does; a warning is an error."""
    build = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    done(sys.executable, "-W", "error", "-c", build, cwd=source)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    source = tmp_path_factory.mktemp("source") / "copy"  # building leaves files
    unneeded = (".git", ".venv", ".*_cache", ".hypothesis", "build", "dist", "local", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*unneeded))
    for name in UNSHARED:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built("sdist", source, tmp_path_factory.mktemp("sdist"))) as archive:
        archive.extractall(folder, filter="data")
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a wheel, built from the source distribution, is installed into."""
    wheel = built("wheel", sdist, tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("installed") / "mit Lücke"
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile")
    done(*pip, "--target", folder, wheel, cwd=folder.parent)
    return folder


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where Python finds the installation and not this project."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    folder = tmp_path / "empty"
    folder.mkdir()
    found = done(sys.executable, "-c", "import harness; print(harness.__file__)", cwd=folder)
    assert Path(found.stdout.strip()).is_relative_to(installed)
    return folder


def test_every_package_is_installed() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("harness/**/*.py")}
    folders.add(Path("harness/baselines/layouts"))  # within the folder of the networks
    names = {".".join(folder.parts) for folder in folders}
    assert set(declared["packages"]) - set(declared["package-dir"]) == names
    assert declared["package-dir"]["harness.baselines"] == "baselines"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_the_source_distribution_holds_what_git_knows(sdist: Path) -> None:
    git = ("git", "-c", "safe.directory=*", "ls-files", "-z")
    listed = done(*git, cwd=ROOT).stdout.split("\0")
    assert {name for name in listed if (ROOT / name).is_file()} - files(sdist) == set()


def test_pictures_and_records_of_ones_own_are_not_in_the_source_distribution(sdist: Path) -> None:
    assert files(sdist) & UNSHARED == set()


def test_every_file_that_a_document_links_to_is_there(sdist: Path) -> None:
    for document in (sdist / "README.md", *sdist.glob("docs/*.md")):
        for link in links(document.read_text()):
            target = document.parent / link.partition("#")[0]
            assert link.startswith("https://") or target.exists(), (document, link)


def test_on_a_package_index_no_link_is_dead(sdist: Path) -> None:
    text = str(email.message_from_string((sdist / "PKG-INFO").read_text()).get_payload())
    assert [link for link in links(text) if not link.startswith("https://")] == []
    assert "`docs/plugins.md` has" in text and "figure5" not in text
    assert "DRFN (`baselines/weights/drfn-x4.repro.json`)" in text


def test_the_wheel_holds_the_packages_alone(installed: Path) -> None:
    held = files(installed)
    tops = {name.partition("/")[0] for name in held if ".dist-info/" not in name}
    assert tops <= {"bin", "harness"}
    assert {Path(name).suffix for name in held}.isdisjoint({".pyc", ".png"})


def test_an_installation_makes_the_reference_numbers_again(
    installed: Path, elsewhere: Path
) -> None:
    before = files(installed)
    run = (sys.executable, "-m", "harness", "run", "--models", "drfn,edsr", "--datasets", "demo")
    done(*run, cwd=elsewhere)
    check = ("check", "--models", "drfn,edsr-baseline", "--datasets", "demo", "--require")
    shown = done(sys.executable, "-m", "harness", *check, cwd=elsewhere)
    assert "4 are ok" in shown.stdout
    assert files(installed) == before


def test_an_installation_is_the_same_code_as_its_source(installed: Path, elsewhere: Path) -> None:
    digest = "from harness.run.provenance import source_digest as d; print(d())"
    assert done(sys.executable, "-c", digest, cwd=elsewhere).stdout.strip() == source_digest()
    listed = (sys.executable, "-m", "harness", "list", "weights", "--json")
    found = {row["where"] for row in json.loads(done(*listed, cwd=elsewhere).stdout)}
    shipped = list((installed / "harness/baselines/weights").glob("*.safetensors"))
    assert {str(path) for path in shipped} <= found and len(shipped) == 3


def test_outside_a_checkout_the_claims_have_the_verdicts_of_the_committed_report(
    installed: Path, elsewhere: Path
) -> None:
    claims = (sys.executable, "-m", "harness", "claims", "--format", "json")
    judged = done(*claims, cwd=elsewhere)
    named = done(*claims, "--results", "reference", cwd=elsewhere)
    assert (named.stdout, named.stderr) == (judged.stdout, judged.stderr)
    with (ROOT / "reports/claims.csv").open(newline="") as stream:
        committed = {row["claim"]: row["verdict"] for row in csv.DictReader(stream)}
    assert {one["claim"]: one["verdict"] for one in json.loads(judged.stdout)} == committed
    assert str(installed / "harness/reference") in judged.stderr
    assert not list(elsewhere.iterdir())


def test_in_the_unpacked_source_distribution_the_tests_are_found_and_pass(sdist: Path) -> None:
    tests = (sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider")
    done(*tests, "-k", "test_workflow or test_the_numbers_it_shows", cwd=sdist)
