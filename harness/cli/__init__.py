"""The command line: each verb is a function that reads its options, makes one call, and prints.

Verbs import the layers below inside their functions, so that ``harness --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, dropwhile, takewhile
from typing import Any

import click

from harness.cli.check import accept, check
from harness.cli.claims import claims
from harness.cli.compare import compare
from harness.cli.data import data, weights
from harness.cli.explain import bench, explain
from harness.cli.list import list_
from harness.cli.network import check_model, complexity
from harness.cli.options import examples, takes_words
from harness.cli.progress import echo, echo_lines, open_streams
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.train import train
from harness.errors import HarnessError, sentence

_SYNONYMS = {"evaluate": "run", "eval": "run", "score": "run", "benchmark": "bench"}


class Group(click.Group):
    """Prints an error as one sentence and sets the exit code; ``--debug`` shows the traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, with streams that can be printed to even if they are closed."""
        open_streams()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # click itself could not print, for instance a help page
            echo(f"Error: Standard output cannot be written ({error.strerror}).", err=True)
            sys.exit(1)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the verb, and say where one of a verb belongs."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name, options = error.option_name, (one.params for one in self.commands.values())
            if not any(name in option.opts for option in chain.from_iterable(options)):
                raise
            message = f"{error.message} Put {name} after the command."
            raise click.NoSuchOption(name, message, ctx=ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _with_hint(error, ctx.meta[_WORDS]) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError):
                if error.filename is None:
                    raise  # from a stream: `main` reports it, and click ignores a closed pipe
                error = HarnessError(f"{error.filename} cannot be used ({error.strerror}).")
            if ctx.params.get("debug"):
                raise
            expected = isinstance(error, HarnessError)
            hint = "" if expected else " (unexpected; --debug before the verb shows where)"
            echo(f"Error: {sentence(error)}{hint}", err=True)
            ctx.exit(error.exit_code if isinstance(error, HarnessError) else 1)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, and name the one that is meant by the word of the Python interface."""
        ctx.meta[_WORDS] = args
        if args[0] in _SYNONYMS:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {_SYNONYMS[args[0]]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by whom they are for."""
        known = {name for names in VERBS.values() for name in names}
        others = [name for name in self.commands if name not in known]
        limit = formatter.width - 6 - max(map(len, self.commands))
        for title, names in {**VERBS, "Other commands": others}.items():
            rows = [(name, self.commands[name].get_short_help_str(limit)) for name in names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


_WORDS = "harness.words"
"""The key of the words of the command line, from the verb on, in what click passes around."""


def _with_hint(error: click.UsageError, words: Sequence[str]) -> click.UsageError:
    """Return the error of a verb's options or arguments, with what the user probably meant.

    Args:
        error: what click refuses.
        words: the words of the command line, from the verb on.
    """
    first = next((word for word in words[1:2] if not word.startswith("-")), "")
    if isinstance(error, click.NoSuchOption):
        if near := error.possibilities:
            near[:] = [name for name in near if name.startswith(error.option_name)] or near[:1]
    elif isinstance(error, click.MissingParameter):
        option = error.param.opts[0] if isinstance(error.param, click.Option) else ""
        if first and (option or "," in first):
            meant = f"{option} {first}" if option else first.replace(",", " ")
            hint = f"Did you mean harness {words[0]} {meant}?"
            return click.MissingParameter(hint, error.ctx, error.param)
    elif type(error) is click.UsageError and error.ctx:  # of arguments that nothing takes
        for one in filter(takes_words, error.ctx.command.params):
            values = _values(one, words)
            if len(values) > 1:
                hint = f"Did you mean {one.opts[0]} {','.join(values)}?"
                return click.UsageError(f"{error.message}. {hint}", error.ctx)
    return error


def _values(option: click.Parameter, words: Sequence[str]) -> Sequence[str]:
    """Return the words after an option, up to the next one."""
    after = [*dropwhile(lambda word: word not in option.opts, words)][1:]
    return [*takewhile(lambda word: not word.startswith("-"), after)]


START = """\
Start with one of these; harness --help lists all commands:
  harness run --models drfn,edsr-baseline --datasets demo   score networks on a test set
  harness run --models path/to/x.pth --datasets set5        score your own checkpoint
  harness report                                            beside the paper's numbers
  harness list datasets                                     what is on this machine"""
"""What ``harness`` prints if no verb is given."""


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog=examples("run --models drfn,edsr-baseline --datasets demo", "run --help"),
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="drfn-harness", prog_name="harness")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Check the numbers of super-resolution papers, and evaluate your own network the same way."""
    if context.invoked_subcommand is None:
        echo_lines(START)


VERBS = {
    "Evaluate and compare": ["run", "report", "compare", "claims", "check", "explain", "list"],
    "Get images and weights, and train": ["data", "weights", "train"],
    "For authors of plug-ins, and maintainers": ["check-model", "complexity", "bench", "accept"],
}
"""The verbs by whom they are for, as ``harness --help`` shows them."""

_READERS = (report, claims, check, compare, explain, complexity, bench, list_, check_model)
for verb in (run, train, *_READERS, data, weights, accept):
    main.add_command(verb)
