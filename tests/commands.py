"""Read the commands that documents show, and parse them without running them."""

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence

import click

from harness.cli import main

_NUMBERS = {"N": "64", "SECONDS": "60", "DB": "30.56"}
_FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def parse(words: Sequence[str]) -> click.Context:
    """Parse a command line of the harness, from its verb to its last word.

    Raises:
        ClickException: a verb, an option, a value or an argument is wrong or missing.
    """
    command: click.Command = main
    context, rest = main.make_context("harness", list(words)), list(words)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert name and found
        command, context = found, found.make_context(name, rest, context)
    return context


def verbs(group: click.Group = main, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words of every verb, such as ``("data", "verify")``."""
    for name, command in group.commands.items():
        words = (*before, name)
        yield from verbs(command, words) if isinstance(command, click.Group) else [words]


def in_blocks(text: str) -> Iterator[list[str]]:
    """Give the harness's commands in the code blocks of a document, as words."""
    for language, block in _FENCE.findall(text):
        if language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                yield from _commands(re.sub(r"\$\(\(.*?\)\)", "1", line))


def _commands(line: str) -> Iterator[list[str]]:
    """Give the commands of a line of bash that run the harness, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts = itertools.groupby(lexer, lambda word: set(word) <= set("();<>|&"))
    for words in (list(part) for between, part in parts if not between):
        if words[0] == "harness" or ["-m", "harness"] in map(list, itertools.pairwise(words)):
            yield words[words.index("harness") + 1 :]


def in_text(text: str) -> Iterator[list[str]]:
    """Give the commands and options in the text of a document, as words.

    Each of the words ``md|json`` gives a command of its own; N, SECONDS and DB stand for numbers.
    """
    for span in re.findall(r"`([^`]+)`", _FENCE.sub("", text)):
        words = [_NUMBERS.get(word, word) for word in span.replace("\\|", "|").split()]
        if (words[0] == "harness" and words[1:]) or words[0].startswith("--"):
            yield from map(list, itertools.product(*(word.split("|") for word in words)))
