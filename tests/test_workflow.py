"""What the GitHub workflow runs is there, and does what it promises."""

import re
import shlex
from pathlib import Path

import pytest

from harness.run.compare import EXACT, FROZEN, RETRAINED, RETRAINED_ELSEWHERE
from tests.commands import parse

ROOT = Path(__file__).parents[1]
WORKFLOW = (ROOT / ".github/workflows/check.yml").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"- run: harness (.+)", WORKFLOW)]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_its_commands_parse(words: list[str]) -> None:
    assert parse(words).command_path == f"harness {words[0]}"


def test_the_tests_that_it_names_are_there_and_all_run_as_here() -> None:
    (words,) = re.findall(r"- run: pytest (.+)", WORKFLOW)
    missing = [word for word in words.split() if not (ROOT / word).exists()]
    assert missing == []
    assert "- run: .ci/run\n" in WORKFLOW
    # Coverage is asked for there and not in pyproject.toml: a part of the tests passes by itself.
    assert "--cov-fail-under=90" in (ROOT / ".ci/run").read_text()
    assert "--cov" not in (ROOT / "pyproject.toml").read_text()


def test_the_documentation_shows_the_same_steps() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    assert shown in WORKFLOW and all(shlex.join(words) in shown for words in COMMANDS)


def test_the_documentation_shows_the_tolerances() -> None:
    text = (ROOT / "docs/ci.md").read_text()
    rows = re.findall(r"\| ([\d.e-]+) dB \| ([\d.e-]+) \| ([\d.]+) % \|", text)
    tiers = [EXACT, FROZEN, RETRAINED_ELSEWHERE, RETRAINED["set14"], RETRAINED["b100"]]
    assert RETRAINED["set5"] == RETRAINED_ELSEWHERE
    assert [(float(psnr), float(ssim)) for psnr, ssim, _ in rows] == [
        (tier.psnr, tier.ssim) for tier in tiers
    ]
    shares = [f"{100 * tier.of('another metric', 1):.2g}" for tier in tiers]
    assert [share for *_, share in rows] == shares


def test_it_passes_on_a_fresh_clone_and_fails_where_a_cell_was_not_run(harness) -> None:
    run, check = ([word.replace(",edsr-baseline", "") for word in words] for words in COMMANDS)
    check += ["--reference", str(ROOT / "results/reference")]
    assert harness(*check).exit_code == 3, "nothing was run yet"
    assert harness(*run).exit_code == 0
    passed = harness(*check)
    assert passed.exit_code == 0, passed.output
    assert "2 are ok" in passed.output
    assert Path("check.xml").exists() and "path: check.xml" in WORKFLOW
    assert harness(*COMMANDS[1], *check[-2:]).exit_code == 3, "edsr-baseline was not run"
