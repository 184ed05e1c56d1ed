"""Folders that the user names and that are not there, or that cannot be written to."""

import ctypes
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.run.store import ResultStore
from tests.records import record

ROOT = Path(__file__).parents[1]


@contextmanager
def read_only(folder: Path, mode: int = 0o555) -> Iterator[None]:
    """Let nobody write to a folder and what is below, root included."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in folders}
    for path in folders:
        path.chmod(mode)
    try:
        with _bound_by_permissions():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@contextmanager
def _bound_by_permissions() -> Iterator[None]:
    """Take from root, for this thread, what lets it read and write anywhere (CAP_DAC_...)."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("nothing binds root here")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of 32 each, twice
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] = before & ~(1 << 1 | 1 << 2)
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@pytest.mark.parametrize(
    "words",
    [
        "list runs --results",
        "report rules --results",
        "report crops --images",
        "claims --results",
        "check --results",
        "check --results mine --reference",
        "explain 123 --results",
        "explain 123 --reference",
        "accept all --results",
        "weights ship w.safetensors --results",
        "run --models bicubic --data-root",
        "train fsrcnn --data-root",
        "data where --data-root",
    ],
)
def test_a_folder_that_is_to_be_read_and_is_none_is_named(harness, words: str) -> None:
    ResultStore(Path("mine")).write(record("bicubic"))
    Path("file").touch()
    os.mkfifo("fifo")
    before = sorted(Path().rglob("*"))
    for place, why in {"mispelt": "No such file", "file": "Not a dir", "fifo": "Not a dir"}.items():
        shown = harness(*words.split(), place)
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert shown.stderr.startswith(f"Error: The folder {place} of {words.split()[-1]} ")
        assert shown.stderr.count("\n") == 1 and why in shown.stderr
    assert sorted(Path().rglob("*")) == before


def test_a_folder_that_may_not_be_looked_into_is_named(harness) -> None:
    Path("closed").mkdir()
    with read_only(Path("closed"), 0o333):
        shown = harness("list", "runs", "--results", "closed")
    assert shown.exit_code == 2
    assert "closed of --results cannot be read (Permission denied)" in shown.stderr


def test_before_the_first_run_there_is_nothing_to_list_and_nothing_to_check(harness) -> None:
    listed = harness("list", "runs")
    assert (listed.exit_code, listed.stdout) == (0, "There is nothing to list.\n")
    assert listed.stderr.startswith("There are no run records in results/local yet: harness run ")
    assert harness("list", "runs", "--json").stdout == "[]\n"
    for words in (["check"], ["check", "--against", "paper"]):
        shown = harness(*words)
        assert shown.exit_code == 3 and " 0 are ok, 0 FAIL, " in shown.stdout
        assert "Nothing was compared: there are no run records in results/local" in shown.stderr
    shown = harness("accept", "all")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "There are no run records in results/local yet" in shown.stderr
    assert not Path("results").exists()


class TestRecordsThatAreReported:
    """Reports show the user's own runs where there are any, else the reference records."""

    def reported(self, harness, *words: str) -> tuple[str, str]:
        """The folders that a report of the claims was read from and written to."""
        shown = harness("report", "claims", "--format", "csv", *words)
        assert shown.exit_code == 0, shown.output
        read, *notes, written = shown.stderr.splitlines()
        own = "read from results/local" in read and not words
        assert [note.partition(".")[0] for note in notes] == ["Only your own runs are judged"] * own
        return read, written

    def test_the_reference_is_reported_before_the_first_run(self, harness) -> None:
        ResultStore(Path("results/reference")).write(record("bicubic"))
        assert self.reported(harness) == (
            "Run records read from results/reference: 1.",
            "Written: reports/claims.csv",
        )
        assert "read from results/reference: 1." in harness("claims").stderr

    def test_own_runs_are_reported_beside_themselves(self, harness) -> None:
        ResultStore(Path("results/reference")).write(record("bicubic"))
        ResultStore(Path("results/local")).write(record("srcnn"))
        assert self.reported(harness) == (
            "Run records read from results/local: 1.",
            "Written: results/local/reports/claims.csv",
        )
        assert "read from results/local: 1." in harness("claims").stderr
        assert not Path("reports").exists()

    def test_the_reference_is_reported_by_name_whatever_was_run(self, harness) -> None:
        ResultStore(Path("results/reference")).write(record("bicubic"))
        ResultStore(Path("results/local")).write(record("srcnn"))
        for folder in ("results/reference", str(Path("results/reference").resolve())):
            read, written = self.reported(harness, "--results", folder)
            assert read == f"Run records read from {folder}: 1."
            assert written == "Written: reports/claims.csv"

    def test_the_word_reference_means_the_packages_own_records(self, harness) -> None:
        ResultStore(Path("results/reference")).write(record("bicubic"))
        ResultStore(Path("results/local")).write(record("srcnn"))
        (said,) = re.findall("verdicts: (--results .*);", harness("claims").stderr)
        read, written = self.reported(harness, *said.split())
        assert read.startswith(f"Run records read from {ROOT / 'results/reference'}: ")
        assert written == "Written: reports/claims.csv"
        assert Path("reports/claims.csv").read_text() == (ROOT / "reports/claims.csv").read_text()

    def test_a_folder_of_that_name_comes_first(self, harness) -> None:
        ResultStore(Path("reference")).write(record("bicubic"))
        read, _ = self.reported(harness, "--results", "reference")
        assert read == "Run records read from reference: 1."

    def test_a_folder_without_records_is_no_run(self, harness) -> None:
        ResultStore(Path("results/reference")).write(record("bicubic"))
        Path("results/local/x4/set5").mkdir(parents=True)
        assert "read from results/reference: 1." in self.reported(harness)[0]


@pytest.fixture
def finished(harness, photos: Path) -> tuple[object, ...]:
    """The words of a run that is finished, its record in ``results/local``."""
    words = ("run", "--models", "bicubic", "--datasets", photos)
    assert harness(*words, "--save-images", "sr").exit_code == 0
    return words


def test_finished_runs_in_a_read_only_folder_are_shown(harness, finished) -> None:
    (path,) = Path("results").rglob("*.json")
    for suffix in (".lock", ".journal"):  # of a process that was killed at the very end
        path.with_suffix(suffix).touch()
    with read_only(Path("results")), read_only(Path("sr")):
        shown = harness(*finished, "--save-images", "sr", "--json")
        assert shown.exit_code == 0, shown.output
        assert "already finished" in shown.stderr
        (made,) = json.loads(shown.stdout)
        assert harness("list", "runs").exit_code == 0
        assert harness("explain", made["id"]).exit_code == 0
        words = ("report", "table2", "--results", "results/local")
        assert harness(*words, "--out", "elsewhere").exit_code == 0
        beside = harness(*words)
        assert beside.exit_code == 1
        assert "reports' folder results/local/reports cannot be written" in beside.stderr
        assert "choose another with --out" in beside.stderr
    assert Path("elsewhere/table2.md").exists()


def test_what_is_left_to_do_needs_a_folder_that_can_be_written(harness, finished) -> None:
    with read_only(Path("results")):
        for more in (["--force"], ["--self-ensemble"], ["--save-images", "other"]):
            shown = harness(*finished, *more)
            assert shown.exit_code == 1
            assert "choose another with --results" in shown.stderr
    assert not Path("other").exists()
    assert len(list(Path("results").rglob("*.*"))) == 1


def test_where_pictures_cannot_be_saved_no_work_begins(harness, photos: Path) -> None:
    words = ("run", "--models", "bicubic", "--datasets", photos, "--save-images")
    Path("taken").touch()
    Path("closed").mkdir()
    for place in ("taken", "taken/below", "closed"):
        with read_only(Path("closed")):
            shown = harness(*words, place)
        assert shown.exit_code == 1
        assert f"pictures' folder {place} cannot be written" in shown.stderr
        assert "Errno" not in shown.stderr, "nobody asked for the name of a temporary file"
        assert "choose another with --save-images" in shown.stderr
        assert not list(Path("results").rglob("*.json"))


def test_pictures_that_cannot_be_saved_any_more_cost_no_record(harness, photos: Path) -> None:
    words = ["run", "--models", "bicubic,bicubic-rgb", "--datasets", photos]
    # Where the pictures of one run should go, there is a file all of a sudden.
    harness(*words, "--results", "first", "--save-images", "sr")
    (folder,) = Path("sr").glob("x4/photos/bicubic-rgb-*")
    shutil.rmtree(folder)
    folder.touch()
    shown = harness(*words, "--save-images", "sr", "--json")
    assert shown.exit_code == 1
    (said,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    # Images are done side by side, and any may be the first.
    assert f"The picture {folder}/" in said and "cannot be written" in said
    assert [one["status"] for one in json.loads(shown.stdout)] == ["finished"] * 2
    assert {one.status for one in ResultStore(Path("results/local")).records()} == {"finished"}
    folder.unlink()
    again = harness(*words, "--save-images", "sr")
    assert again.exit_code == 0 and again.stderr.count("3 images computed") == 1
    assert len(list(folder.iterdir())) == 3


def test_where_the_cache_cannot_be_written_the_variable_that_moves_it_is_named(
    harness, photos: Path, random_weights, monkeypatch
) -> None:
    Path("full").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("full").absolute()))
    stored = random_weights("srcnn", folder=Path("w"))
    training = ("--train-data", photos, "--set", "val_images=0", "--steps", 1, "--patch", 8)
    for words in (("weights", "import", "srcnn", stored), ("train", "fsrcnn", *training)):
        with read_only(Path("full")):
            shown = harness(*words)
        assert shown.exit_code == 1
        assert "full/drfn-harness" in shown.stderr and "XDG_CACHE_HOME" in shown.stderr
