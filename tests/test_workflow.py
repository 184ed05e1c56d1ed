"""The commands of the GitHub workflow do what it promises."""

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import main

ROOT = Path(__file__).parents[1]
WORKFLOW = (ROOT / ".github/workflows/check.yml").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"- run: harness (.+)", WORKFLOW)]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_its_commands_parse(words: list[str]) -> None:
    parent = click.Context(main, **main.context_settings)
    main.commands[words[0]].make_context(words[0], words[1:], parent)


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
