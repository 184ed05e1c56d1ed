"""The verb check, as a step of a workflow runs it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file

from harness.cli.check import _annotation
from tests.run.test_compare import CASES, record, shifted, stored

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
