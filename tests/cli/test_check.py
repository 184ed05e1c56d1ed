"""The verb check, as a step of a workflow runs it."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

from harness.cli.check import _annotation
from tests.run.test_compare import CASES, otherwise, record, shifted, stored

WEIGHTS = Path(__file__).parents[2] / "baselines/weights"


@pytest.fixture
def check(harness) -> Callable[..., Result]:
    theirs = stored([record("bicubic", "set5"), record("vdsr", "set5")], "theirs")

    def check(*words: object) -> Result:
        return harness("check", "--reference", theirs, "--results", "mine", *words)

    return check


class TestInGitHubActions:
    def test_the_summary_is_appended_to_its_file(self, check, monkeypatch) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
        Path("summary.md").write_text("What ran before.\n")
        stored([record("bicubic", "set5"), shifted(record("vdsr", "set5"), 0.02)])
        assert check().exit_code == 3
        assert check("--models", "bicubic").exit_code == 0
        text = Path("summary.md").read_text()
        assert text.startswith("What ran before.\n### harness check failed\n\n| model ")
        assert text.count("| vdsr ") == 1 and "| bicubic " not in text
        assert "0.005 (same weights) |" in text and "tier" not in text
        assert "1 of 4 numbers fail the check." in text
        assert text.endswith(
            "### harness check passed\n\nOf 2 numbers of the reference, 2 are ok, 0 FAIL.\n\n"
        )

    def test_each_failure_is_an_annotation_and_json_stays_json(self, check, monkeypatch) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        stored([shifted(record("bicubic", "set5"), 0.02), shifted(record("vdsr", "set5"), 0.02)])
        shown = check("--json")
        assert [one["verdict"] for one in json.loads(shown.stdout)] == ["FAIL", "ok"] * 2
        errors = [line for line in shown.stderr.splitlines() if line.startswith("::error")]
        titles = [line.split("::")[1] for line in errors]
        assert titles == [f"error title={name} on set5%3A psnr" for name in ("bicubic", "vdsr")]
        assert "difference +0.0200, tolerance 0.0001" in errors[0]
        monkeypatch.setenv("GITHUB_ACTIONS", "false")
        assert "::error" not in check().stderr

    def test_an_empty_check_is_an_annotation_too(self, check, monkeypatch) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        Path("mine").mkdir()
        assert "::error title=harness check::Nothing was compared: " in check().stderr

    def test_a_summary_that_cannot_be_written_is_named(self, check, monkeypatch) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", "theirs")
        stored([record("bicubic", "set5")])
        shown = check()
        assert shown.exit_code == 1 and "The summary theirs cannot be written" in shown.stderr

    def test_annotations_are_escaped_as_the_runner_reads_them(self) -> None:
        """By the rules of actions/toolkit: % in both parts, colon and comma in properties."""
        found = _annotation("a: b, 5 %", "50 %: c, d\n::error::e")
        assert found == "::error title=a%3A b%2C 5 %25::50 %25: c, d ::error::e"


def test_json_and_junit_have_all_numbers(check) -> None:
    stored([record("bicubic", "set5")])
    shown = check("--json", "--junit", "check.xml")
    assert [one["verdict"] for one in json.loads(shown.stdout)] == ["ok"] * 2 + ["not run"] * 2
    assert ElementTree.parse("check.xml").getroot().get("tests") == "4"


def test_two_runs_of_one_number_are_two_comparisons_and_one_number(check) -> None:
    mine = record("vdsr", "set5")
    stored([mine, otherwise(mine, source_sha256="0" * 64)])
    counts = "Of 4 comparisons with 2 numbers of the reference, 4 are ok, 0 FAIL."
    assert check("--models", "vdsr").stdout.strip() == counts
    rows = json.loads(check("--models", "vdsr", "--json").stdout)
    assert {row["reference"] for row in rows} == {mine.identity.id[:12]}
    stored([shifted(otherwise(mine, source_sha256="0" * 64), 0.02)])
    assert "Error: 1 of 4 comparisons fail the check." in check("--models", "vdsr").stderr


class TestAccept:
    """What it says of the next step, and of what it leaves out."""

    @pytest.fixture
    def run(self, harness) -> Callable[..., None]:
        def run(tag: str, *words: object) -> None:
            weights = load_file(WEIGHTS / "fsrcnn-x4.repro.safetensors")
            save_file(weights if tag == "a" else noisy(weights), f"{tag}.safetensors")
            model = f"fsrcnn={tag}.safetensors"
            shown = harness("run", "--models", model, "--datasets", CASES / "cats", *words)
            assert shown.exit_code == 0, shown.output

        return run

    def test_it_says_that_the_records_are_gone_from_where_check_reads_them(
        self, harness, run
    ) -> None:
        run("a")
        shown = harness("accept", "all", "--reference", "my/reference")
        assert len(shown.stdout.splitlines()) == 1
        assert "Moved from results/local: run again before harness check" in shown.stderr
        assert "several weights" not in shown.stderr
        assert not list(Path("results/local").rglob("*.json"))

    def test_two_weights_of_a_network_are_warned_of(self, harness, run) -> None:
        for tag in "ab":
            run(tag)
            shown = harness("accept", "all", "--reference", "my/reference")
        (warning,) = re.findall("Warning: .*", shown.stderr)
        assert "fsrcnn with several weights" in warning
        assert warning.count("my/reference/x4/cats/fsrcnn-") == 2

    def test_runs_of_the_first_images_are_accepted_by_their_ids_alone(self, harness, run) -> None:
        run("a", "--limit", 1)
        accept = ("accept", "--reference", "my/reference")
        none = harness(*accept, "all")
        assert none.exit_code == 2 and "--limit" in none.stderr
        run("a")
        shown = harness(*accept, "all")
        (left,) = Path("results/local").rglob("fsrcnn-*.json")
        number = left.stem.removeprefix("fsrcnn-")
        assert left.parent.name == "cats-first1"
        assert f"Left out, of the first images of a set: {number}." in shown.stderr
        assert harness(*accept, number).exit_code == 0 and not left.exists()


def test_a_copy_of_the_weights_passes_against_the_committed_records(harness) -> None:
    """The values of fsrcnn-x4.repro.safetensors without its metadata, in a file of the user."""
    save_file(load_file(WEIGHTS / "fsrcnn-x4.repro.safetensors"), "same.safetensors")
    words = ("--models", "fsrcnn=same.safetensors", "--datasets", "demo")
    assert harness("run", *words).exit_code == 0
    shown = harness("check", "--models", "fsrcnn", "--datasets", "demo", "--require")
    assert shown.exit_code == 0, shown.output
    assert "Of 2 numbers of the reference, 2 are ok" in shown.stdout


def noisy(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights with one percent of noise."""
    torch.manual_seed(0)
    return {name: one * (1 + 0.01 * torch.randn_like(one)) for name, one in weights.items()}


@pytest.mark.parametrize("model", ["fsrcnn", "edsr-baseline"])
def test_a_checkpoint_with_one_percent_of_noise_fails_against_its_own_reference(
    harness, model: str
) -> None:
    """It costs FSRCNN 0.11 dB on Set5, and EDSR's baseline 0.0007 dB, which only the hash shows."""
    weights = load_file(WEIGHTS / f"{model}-x4.repro.safetensors")
    run = ("run", "--models", f"{model}=mine.pth", "--datasets", CASES / "cats")
    check = ("check", "--reference", "my/reference", "--require")
    torch.save(weights, "mine.pth")
    assert harness(*run).exit_code == 0
    assert harness("accept", "all", "--reference", "my/reference").exit_code == 0
    assert harness(*run).exit_code == 0
    assert harness(*check).exit_code == 0
    (local,) = Path("results/local").rglob("*.json")
    os.remove(local)
    torch.save(noisy(weights), "mine.pth")
    assert harness(*run).exit_code == 0
    shown = harness(*check)
    assert shown.exit_code == 3, shown.output
    assert shown.stdout.count("FAIL: other weights than the reference's") == 2
    shown = harness(*check, "--retrained", "--tolerance", 1, "--verbose")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("ok: other weights than the reference's") == 2
    assert "2 are ok (2 of them with other weights)" in shown.stdout
