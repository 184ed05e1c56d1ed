"""Options that several verbs share, and helpers that load plug-ins and read run records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

import harness
from harness.cli.progress import echo, keep_stdout, note
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.paper.schema import Paper
    from harness.run.store import Records

Command = TypeVar("Command", bound=Callable[..., Any])
PathOption = click.Path(path_type=Path)


def folder_to_read(context: click.Context, parameter: click.Parameter, path: Any) -> Any:
    """Refuse a folder, or one of several, that cannot be read; only a default may be missing.

    Raises:
        UsageError: it is missing, is not a folder, or its permissions forbid reading it.
    """
    named = context.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
    for folder in path if isinstance(path, tuple) else filter(None, [path]):
        if named or os.path.lexists(folder):
            try:
                os.scandir(folder).close()
            except OSError as error:
                raise UsageError(
                    f"The folder {folder} of {parameter.opts[0]} cannot be read "
                    f"({error.strerror}): check the path."
                ) from error
    return path


def is_given(parameter: str) -> bool:
    """Whether the user gave an option, instead of leaving it at its default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is not ParameterSource.DEFAULT


def refuse_ignored(takers: str, *names: str) -> None:
    """Refuse options that the request does not use.

    Args:
        takers: what the options are for, for the message.
        names: the parameters of the options.

    Raises:
        UsageError: the user gave one of them.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise UsageError(f"{parameter.opts[0]} is for {takers}: leave it out.")


plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=PathOption, help="A plug-in file (repeatable)."
)
data_option = click.option(
    "--data-root",
    type=PathOption,
    callback=folder_to_read,
    help="A folder to search for image sets before those of the environment variable HARNESS_DATA "
    f"(several are separated by '{os.pathsep}').",
)
weights_key_option = click.option(
    "--weights-key",
    default="",
    metavar="KEY",
    help="The key of the network in a checkpoint, such as params or state_dict.generator.",
)
scale_option = click.option("--scale", type=click.IntRange(1), default=4, show_default=True)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


REFERENCE, LOCAL = Path("results/reference"), Path("results/local")
PUBLISHED = "reference"
"""What ``--results`` calls the package's own records, if no folder here has that name."""


def published_records() -> Path:
    """Return the folder of the package's own reference records, which the reports rest on."""
    package = Path(harness.__file__).parent
    checkout = package.parent / REFERENCE
    return checkout if checkout.is_dir() else package / "reference"


def reference_records() -> Path:
    """Return the folder of the reference records: the working directory's, else the package's."""
    return REFERENCE if REFERENCE.is_dir() else published_records()


def records_to_report() -> Path:
    """Return the user's own records, ``results/local``, if there are any, else the reference."""
    return LOCAL if any(LOCAL.glob("x*/*/*.json")) else reference_records()


def _results_to_read(context: click.Context, parameter: click.Parameter, path: Any) -> Any:
    """Convert ``--results``: the word `PUBLISHED` is the package's own records.

    Raises:
        UsageError: as `folder_to_read`.
    """

    def meant(one: Path) -> Path:
        return published_records() if one == Path(PUBLISHED) and not one.is_dir() else one

    path = tuple(map(meant, path)) if isinstance(path, tuple) else meant(path)
    return folder_to_read(context, parameter, path)


def results_option(
    default: str = "", *, made: bool = False, several: bool = False
) -> Callable[[Command], Command]:
    """Add the option ``--results DIR``; without a default, it is `records_to_report`.

    Args:
        default: the folder if the user names none.
        made: the verb creates the folder, so it need not exist.
        several: the verb joins the records of several folders.
    """
    joined = " (repeatable: they are joined)" * several
    published = f"; {PUBLISHED}: the package's own, which the published verdicts rest on"
    return click.option(
        "--results",
        type=PathOption,
        callback=None if made else _results_to_read,
        multiple=several,
        default=(lambda: [default or records_to_report()])
        if several
        else default or records_to_report,
        show_default=default or f"{LOCAL} if it has records, else {REFERENCE}",
        help=f"The folder of run records{joined}{'' if made else published}.",
    )


_REFERENCE_DEFAULT = f"{REFERENCE}, or the package's own"
reference_option = click.option(
    "--reference",
    type=PathOption,
    callback=folder_to_read,
    default=reference_records,
    show_default=_REFERENCE_DEFAULT,
    help="The records to compare with.",
)


def default_paper() -> str:
    """Return the name of the paper that is meant if the user names none."""
    from harness.paper.schema import DEFAULT

    return DEFAULT


def paper_option(*, optional: bool = False) -> Callable[[Command], Command]:
    """Add the option ``--paper``; `chosen_paper` and `required_paper` read it.

    Args:
        optional: the verb can do without a paper.
    """
    return click.option(
        "--paper",
        "paper_name",
        default=default_paper,
        show_default="the first of harness list papers",
        metavar="NAME|FILE" + "|none" * optional,
        help="The paper, by name or as a TOML file" + "; none: without one" * optional + ".",
    )


def chosen_paper(name: str) -> Paper | None:
    """Read the paper that ``--paper`` names, after `fill_registries`; None for ``none``.

    Raises:
        UsageError: there is no such paper, or its file has a mistake.
    """
    from harness.paper.schema import paper

    return None if name == "none" else paper(name)


def required_paper(name: str, taker: str) -> Paper:
    """Read the paper that ``--paper`` names, after `fill_registries`.

    Raises:
        UsageError: as `chosen_paper`, or there is none.
    """
    chosen = chosen_paper(name)
    if chosen is None:
        raise UsageError(f"{taker} needs a paper: name it with --paper, see harness list papers.")
    return chosen


def fill_registries(plugins: tuple[Path, ...] = ()) -> None:
    """Fill the registries; warn about plug-ins that fail or are empty, and names that are refused.

    Folders that the environment names and that do not exist get a warning, too.
    From this call on, everything that plug-ins print goes to standard error.
    """
    from harness.data.pinned import missing_roots
    from harness.data.testsets import register_testsets
    from harness.registry import FAILURES, SETTINGS, clashes, load_plugins, without_entries

    keep_stdout()
    for missing in missing_roots():
        echo(f"Warning: {missing}", err=True)
    register_testsets()
    load_plugins(plugins)
    for name, reason in FAILURES.items():
        echo(f"Warning: the plug-in {name} is disabled ({reason}).", err=True)
    for file in without_entries(plugins):
        echo(
            f"Warning: the plug-in {file} registers nothing: use a decorator such as "
            "register_model in it.",
            err=True,
        )
    for clash in clashes():
        echo(f"Warning: {clash}", err=True)
    for name, changed in SETTINGS.items():
        note_changed(f"The plug-in {name}", changed)


def note_changed(owner: str, changed: Collection[str]) -> None:
    """Print which global settings of torch a model's or plug-in's code changed, if any."""
    if changed:
        settings = " and ".join(sorted(changed))
        note(f"Note: {owner} changed torch's global {settings}: restored.")


def open_results(*results: Path) -> Records:
    """Read the run records in some folders, and print what readers of their numbers should know.

    That is which are damaged or contradict each other, how many an earlier version of the harness
    made, and which have a built-in model's name but were made by other code. The default folder
    may not exist yet; then a line says so.
    """
    from harness.run.provenance import foreign_origin
    from harness.run.store import ResultStore

    records = ResultStore(*results).read()
    if not results[0].is_dir():
        echo(f"There are no run records in {results[0]} yet: harness run writes them.", err=True)
        return records
    note_read(records)
    for error in records.bad.values():
        echo(f"Left out: {error}", err=True)
    runs = records.sound.values()
    earlier = sum(record.earlier for record in runs)
    if earlier:
        echo(
            f"Note: run records of an earlier version: {earlier}. Their numbers are shown (harness "
            "list runs marks them); harness run computes them again.",
            err=True,
        )
    origins = [
        (record.identity.model, origin) for record in runs if (origin := foreign_origin(record))
    ]
    if origins:
        names = "; ".join(dict.fromkeys(f"{model} by {origin}" for model, origin in origins))
        echo(
            f"Note: run records of other code under the name of a built-in: {len(origins)} "
            f"({names}). They are not compared with printed numbers.",
            err=True,
        )
    return records


def note_own_runs(results: Collection[Path]) -> None:
    """Say that verdicts rest on the user's own runs alone, unless ``--results`` names these."""
    if not is_given("results") and LOCAL in results:
        note(
            f"Only your own runs are judged. For the published verdicts: --results {PUBLISHED}; "
            f"for both: --results {LOCAL} --results {PUBLISHED}."
        )


def note_read(records: Records) -> None:
    """Print how many valid records were read, and from where."""
    echo(f"Run records read from {records.folders}: {len(records.sound)}.", err=True)


def note_left_out(sentences: Iterable[str]) -> None:
    """Print which checkpoints tables and verdicts leave out, see `Evidence.left_out`."""
    for sentence in sentences:
        note(f"Note: {sentence}")


def split_words(text: str) -> list[str]:
    """Split a list at commas and white space into its words.

    A path that exists is one word, also after ``NAME=``, whatever characters it has.
    """
    words = []
    for part in [text] if _is_path(text) else text.split(","):
        words += [part.strip()] if _is_path(part) else part.split()
    return words


def split_pairs(texts: Iterable[str]) -> list[str]:
    """Split lists of pairs ``NAME=TEXT`` at the commas that a further ``NAME=`` follows.

    A pair whose text is a path that exists is one, whatever characters it has.
    """
    return [
        pair
        for text in texts
        for pair in ([text] if _is_path(text) else re.split(r",\s*(?=[^\s,=]+=)", text))
    ]


def _is_path(text: str) -> bool:
    """Whether a text, or what follows the one word ``NAME=``, is the path of a file or folder."""
    named = re.fullmatch(r"[^\s,=]+=(.+)", text := text.strip(), re.DOTALL)
    return any(map(os.path.exists, filter(None, (text, named and named[1]))))


def all_words(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[str]:
    """Split the values of a repeatable option or argument, see `split_words`."""
    return [word for text in texts for word in split_words(text)]


def words_option(*names: str, help: str, **settings: Any) -> Callable[[Command], Command]:  # noqa: A002
    """Add an option that takes words: separated by commas or spaces, or repeated."""
    return click.option(*names, multiple=True, callback=all_words, help=help, **settings)


def takes_words(option: click.Parameter) -> bool:
    """Whether an option is one of `words_option`."""
    return option.callback is all_words


def weights_of(use: str = "Use") -> Callable[[Command], Command]:
    """Add the option ``--weights-of``; its help begins with ``use``."""
    return words_option(
        "--weights-of",
        metavar="MODEL:TAG,...",
        help=f"{use} these weights for the model's row, such as mine:a; 'mine:*' gives each "
        "checkpoint that has a number a row.",
    )


weights_of_option = weights_of()


def examples(*commands: str) -> str:
    """Write the end of a help text: commands that can be typed as they stand."""
    lines = "\n".join(f"  harness {command}" for command in commands)
    return f"\b\nExample{'s' * (len(commands) > 1)}:\n{lines}"
