"""The verb check, as a step of a workflow runs it."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

from harness.cli.check import _annotation
from tests.records import record as made
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


def test_two_runs_of_one_number_are_two_comparisons(check) -> None:
    mine = record("vdsr", "set5")
    stored([mine, otherwise(mine, source_sha256="0" * 64)])
    counts = "Of 4 comparisons with the reference, 4 are ok, 0 FAIL."
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
        assert "no longer in results/local: before harness check, run the networks" in shown.stderr
        assert "Warning" not in shown.stderr
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
        assert f"Left out, because they are runs of --limit: {number}." in shown.stderr
        assert harness(*accept, number).exit_code == 0 and not left.exists()

    def test_the_word_for_the_package_s_records_is_a_plain_folder_here(
        self, harness, monkeypatch
    ) -> None:
        published = stored([record("bicubic", "set5")], "package/reference")
        monkeypatch.setattr("harness.cli.options.published_records", lambda: published)
        assert "1" in harness("list", "runs", "--results", "reference", "--json").stdout
        words = ("accept", "all", "--results", "reference", "--reference", "elsewhere")
        shown = harness(*words)
        assert shown.exit_code == 2 and "The folder reference of --results" in shown.stderr
        assert len(list(published.rglob("*.json"))) == 1 and not Path("elsewhere").exists()
        stored([record("vdsr", "set5")], "reference")
        assert harness(*words).exit_code == 0
        assert [path.name[:5] for path in Path("elsewhere").rglob("*.json")] == ["vdsr-"]
        assert "package" not in harness("accept", "--help").stdout

    def test_a_reference_that_hides_the_package_s_is_warned_of_once(self, harness) -> None:
        for model, warnings in (("bicubic", 1), ("vdsr", 0)):
            stored([record(model, "set5")], "results/local")
            shown = harness("accept", "all")
            assert shown.exit_code == 0
            assert shown.stderr.count("Warning: results/reference is new: ") == warnings
        stored([record("bicubic", "set5")], "results/local")
        assert "Warning" not in harness("accept", "all", "--reference", "mine").stderr


class TestSeveralCheckpoints:
    """A folder that is used again has records of other weights beside the right ones."""

    A = made("mine", "set5", [30.0] * 2, tag="a", weights="a" * 64)
    B = made("mine", "set5", [29.0] * 2, tag="b", weights="b" * 64)

    @pytest.fixture
    def check(self, harness) -> Callable[..., Result]:
        stored([self.A], "theirs")

        def check(*words: object) -> Result:
            return harness("check", "--reference", "theirs", "--results", "mine", *words)

        return check

    def test_other_weights_have_no_tolerance_in_any_format(self, check, monkeypatch) -> None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        stored([self.B])
        shown = check("--junit", "check.xml")
        texts = (shown.output, Path("check.xml").read_text())
        assert all("other weights than" in text and "0.005" not in text for text in texts)
        rows = json.loads(check("--json").stdout)
        assert {(row["tolerance"], row["tier"]) for row in rows} == {(None, None)}

    def test_records_of_other_weights_beside_the_right_ones_are_named(self, check) -> None:
        stored([self.B])
        assert "delete" not in check().stderr, "the weights changed: there is nothing to delete"
        stored([self.A])
        shown = check()
        assert shown.exit_code == 3
        (wrong,) = Path("mine").rglob(f"mine-{self.B.identity.id[:12]}.json")
        (last,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
        expected = f"left over, delete {wrong}, or name the checkpoint, as in --models mine:a."
        assert last.endswith(expected)
        assert check("--models", "mine:a", "--require").exit_code == 0
        wrong.unlink()
        assert check().exit_code == 0

    def test_a_fault_that_was_mended_in_the_code_leaves_a_record_too(self, check) -> None:
        wrong = otherwise(shifted(self.A, 1), source_sha256="1" * 64)
        stored([self.A, wrong])
        shown = check()
        assert shown.exit_code == 3
        assert f"left over, delete mine/x4/set5/mine-{wrong.identity.id[:12]}.json." in shown.stderr

    @pytest.mark.parametrize(
        ("words", "compared", "code"),
        [
            ("mine:a", "a", 0),
            ("MINE:A", "a", 0),
            ("mine:b", "b", 3),
            ("mine:*", "ab", 3),
            ("*:a", "a", 0),
            ("mine:a,mine:b", "ab", 3),
            ("mine:a,mine", "ab", 3),
        ],
    )
    def test_checkpoints_are_chosen_by_name(self, check, words, compared, code) -> None:
        stored([self.A, self.B])
        shown = check("--models", words, "--json")
        assert shown.exit_code == code
        of = {one.identity.id[:12]: one.tag for one in (self.A, self.B)}
        assert {of[row["record"]] for row in json.loads(shown.stdout)} == {*compared}

    def test_a_set_that_another_checkpoint_ran_is_not_run_by_this_one(self, check) -> None:
        """Its row must not vanish with that of the checkpoint that is left out."""
        stored([otherwise(self.A, dataset="b100")], "theirs")
        stored([self.A, otherwise(self.B, dataset="b100")])
        shown = check("--models", "mine:a", "--require")
        assert shown.exit_code == 3 and "2 were not run" in shown.stdout

    @pytest.mark.parametrize("words", ["mine:a,mine:c", "mine:c"])
    def test_a_checkpoint_that_nobody_ran_is_no_pass(self, check, words: str) -> None:
        stored([self.A])
        shown = check("--models", words)
        assert shown.exit_code == 3 and "Nothing was compared" in shown.stderr

    def test_two_files_of_one_name_are_told_apart(self, check) -> None:
        stored([self.A, replace(self.B, weights=self.A.weights)])
        shown = check()
        name = f"mine:a-{'a' * 8}"
        assert f"as in --models {name}." in shown.stderr
        assert check("--models", name).exit_code == 0
        shown = check("--models", "mine:a")
        assert shown.exit_code == 2 and "'mine:a' stands for 2 checkpoints" in shown.stderr

    def test_each_case_of_junit_has_a_name_of_its_own(self, check) -> None:
        stored([self.A, replace(self.B, weights=self.A.weights)])
        check("--junit", "check.xml")
        cases = [(case.get("classname"), case.get("name")) for case in junit("check.xml")]
        assert len(cases) == 4 == len({*cases})
        check("--junit", "check.xml", "--models", f"mine:a-{'a' * 8}")
        names = [str(case.get("name")) for case in junit("check.xml")]
        assert names == [f"mine {metric} BI-x4/y, weights a" for metric in ("psnr", "ssim")]

    def test_a_failed_run_fails_and_a_selection_leaves_it_out(self, check) -> None:
        broken = made("drfn", "set5", [30.0] * 2, tag="a", weights="c" * 64)
        broken = replace(broken, status="error", images=(), error="no memory")
        stored([self.A, broken])
        shown = check()
        path = f"mine/x4/set5/drfn-{broken.identity.id[:12]}.json"
        expected = f"1 of them because of failed runs (repeat these, or delete {path})."
        assert shown.exit_code == 3 and expected in shown.stderr
        assert check("--models", "mine").exit_code == 0
        assert "has no numbers of srcnn; it has mine." in check("--models", "srcnn").stderr


def junit(path: str) -> Iterator[ElementTree.Element]:
    """The test cases of a file."""
    return ElementTree.parse(path).getroot().iter("testcase")


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
