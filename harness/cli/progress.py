"""What is printed: lines, lists of facts, and how a run or training goes; bars on a terminal."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

import click

from harness.data.pinned import fetch, unsound
from harness.errors import HarnessError, printable
from harness.record import canonical_json
from harness.report.table import csv_text, json_text, plain_table

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from harness.cards import RemoteFile
    from harness.record import ImageResult, RunRecord
    from harness.run.spec import Run
    from harness.train.checkpoint import LogRow
    from harness.train.spec import Training


class _Unread:
    """Standard error: what cannot be written, since nobody reads it or its disk is full, is lost.

    A run does not fail for that, and a wrong request keeps its exit code.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_streams() -> None:
    """Make standard streams that can be printed to in any case, be they closed (``2>&-``)."""
    global _kept
    _kept = None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # or else the next file that is opened would be the stream
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast(TextIO, _Unread(sys.stderr))


_kept: TextIO | None = None
"""Standard output, once `keep_stdout` has taken it from everyone else."""


def keep_stdout() -> None:
    """Keep standard output for `echo`: what anyone else prints goes to standard error from now on.

    Plug-ins print when they are imported and at work, and so may the processes that they or the
    harness start, which is why the file descriptor itself is turned.
    """
    global _kept
    if _kept is None:
        _kept, sys.stdout = _taken(sys.stdout), sys.stderr


def _taken(stream: TextIO) -> TextIO:
    """Another handle on standard output, whose own becomes one on standard error.

    A stream of another kind, such as one that a test reads, is nobody else's.
    """
    try:
        number = stream.fileno()
    except OSError:
        return stream
    if number != 1:
        return stream
    stream.flush()
    own = os.fdopen(os.dup(1), "w", encoding=stream.encoding, errors=stream.errors)
    os.dup2(2, 1)
    return own


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def echo(line: object, *, err: bool = False) -> None:
    """Print one line: what a terminal would obey is shown, and no text begins another line.

    Raises:
        HarnessError: standard output cannot be written.
    """
    _print(printable(str(line)), err=err)


def echo_lines(text: str, *, nl: bool = True) -> None:
    """Print text of several lines, such as a table, whose cells keep to theirs.

    Raises:
        HarnessError: standard output cannot be written.
    """
    _print("\n".join(map(printable, text.split("\n"))), nl=nl)


def _print(text: str, *, err: bool = False, nl: bool = True) -> None:
    try:
        click.echo(text, None if err else _kept, err=err, nl=nl)
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        sys.stdout = _nowhere()  # or else Python tries again at its end
        raise HarnessError(f"Standard output cannot be written ({error.strerror}).") from error


def listener() -> Lines:
    """Bars when standard error is a terminal, plain lines otherwise."""
    return Bars() if sys.stderr.isatty() else Lines()


def download(files: Sequence[tuple[RemoteFile, Path]]) -> None:
    """Download files like `harness.data.pinned.fetch`, and show how it goes."""
    missing = unsound(files)
    if not missing:
        return
    damaged = [str(path) for _, path in missing if path.exists()]
    if damaged:
        more = f" and {len(damaged) - 1} more" if damaged[1:] else ""
        echo(f"Truncated or altered, and downloaded again: {damaged[0]}{more}.", err=True)
    size = sum(file.bytes for file, _ in missing) / 1e6
    title = f"{len(missing)} files of {missing[0][0].repository}, {size:.1f} MB"
    if not sys.stderr.isatty():
        echo(f"Downloading {title}", err=True)
        fetch(missing)
        return
    with _bar() as progress:
        task = progress.add_task(f"Downloading {title}", total=len(missing))
        fetch(missing, lambda path: progress.advance(task))


def _bar() -> Progress:
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    return _progress(MofNCompleteColumn(), TimeRemainingColumn())


def _progress(*columns: ProgressColumn) -> Progress:
    """Bars after the name of what is done, in which brackets and colons have no meaning."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False, emoji=False)
    name = TextColumn("{task.description}", markup=False)
    return Progress(name, BarColumn(), *columns, console=console, transient=True)


def _outcome(record: RunRecord, computed: int) -> str:
    from harness.report.table import readable

    if record.status != "finished":
        return f"failed: {record.error}"
    scores = ", ".join(f"{name} {readable(value)}" for name, value in record.means.items())
    return f"{scores} ({f'{_images(computed)} computed' if computed else 'already finished'})"


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


class Lines:
    """A line when a run starts, one for whatever is odd, and one when it ends.

    Use it in a ``with`` statement, which leaves the terminal as it was.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left on the screen."""

    def waiting(self, reason: str) -> None:
        """Say why nothing happens."""
        echo(f"{reason}: waiting.", err=True)

    def started(self, run: Run, total: int, known: int) -> None:
        """Say what begins, unless all of it is known."""
        if known < total:
            resumed = f", {known} known already" if known else ""
            echo(f"{run.title}: {_images(total)}{resumed}", err=True)

    def image(self, run: Run, result: ImageResult) -> None:
        """Say how an image was converted."""
        if result.note:
            echo(f"  {result.image}: {result.note}", err=True)

    def ended(self, run: Run, record: RunRecord, computed: int) -> None:
        """Say how it ended."""
        echo(f"{run.title}: {_outcome(record, computed)}", err=True)


class Bars(Lines):
    """A progress bar for each run under way, with the images that are done and the time left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def started(self, run: Run, total: int, known: int) -> None:
        """Show a bar."""
        if known == total:
            return
        if self._progress is None:
            self._progress = _bar()
            self._progress.start()
        self._tasks[run.identity.id] = self._progress.add_task(
            printable(run.title), total=total, completed=known
        )

    def image(self, run: Run, result: ImageResult) -> None:
        """Advance the bar."""
        if self._progress:
            self._progress.advance(self._tasks[run.identity.id])
        super().image(run, result)

    def ended(self, run: Run, record: RunRecord, computed: int) -> None:
        """Replace the bar by the outcome."""
        task = self._tasks.pop(run.identity.id, None)
        if not self._tasks:
            self.__exit__()
        elif self._progress and task is not None:
            self._progress.remove_task(task)
        super().ended(run, record, computed)

    def __exit__(self, *error: object) -> None:
        """Take the bars away, also after an interruption."""
        if self._progress:
            self._progress.stop()
            self._progress = None


def images_bar(paths: Iterable[Path]) -> Iterator[Path]:
    """Pass images on, with a bar on a terminal and a line elsewhere."""
    everything = list(paths)
    if not sys.stderr.isatty():
        echo(f"Preparing {_images(len(everything))}", err=True)
        yield from everything
        return
    with _bar() as progress:
        yield from progress.track(everything, description="Preparing images")


class TrainLines:
    """One line for each line of the training log.

    Args:
        shown: whether anything is said; one process of several speaks.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left on the screen."""

    def started(self, training: Training, step: int) -> None:
        """Say what begins, after what the user should know of it."""
        for sentence in training.notes:
            self.told(sentence)
        begun = f", from step {step} on" if step else ""
        images = _images(len(training.images.names))
        self._show(f"{training.card.name} x{training.scale}: {images}{begun}", 0.0, keep=False)

    def logged(self, training: Training, row: LogRow, progress: float) -> None:
        """Print the line."""
        left = row.seconds * (1 - progress) / progress if progress else 0
        score = f", validation {row.psnr:.3f} dB / {row.ssim:.4f}" if row.psnr else ""
        self._show(
            f"step {row.step}: loss {row.loss:.3f} {training.recipe.loss_unit}, "
            f"{row.rate:.2f} steps/s, "
            f"data {row.data_share:.1%}, {left / 60:.1f} min left{score}",
            progress,
            keep=bool(score),
        )

    def validated(self, training: Training, rows: Sequence[LogRow]) -> None:
        """Draw the curve anew; one that cannot be written costs nothing."""
        from harness.train.export import draw_training

        try:
            draw_training(rows, training.recipe.loss_unit, training.folder / "curve.png")
        except HarnessError as error:
            self.told(str(error))

    def told(self, sentence: str) -> None:
        """Print a sentence."""
        if self._shown:
            echo(f"{sentence.rstrip('.')}.", err=True)

    def _show(self, text: str, progress: float, *, keep: bool) -> None:
        if self._shown:
            echo(text, err=True)


class TrainBar(TrainLines):
    """A bar with loss, rate and time left; validations stay on the screen."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = _fraction_bar()
        self._task = self._progress.add_task("", total=1.0)
        self._progress.start()

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self._progress.stop()

    def told(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        self._progress.print(printable(sentence.rstrip(".") + "."))

    def _show(self, text: str, progress: float, *, keep: bool) -> None:
        if keep:
            self._progress.print(printable(text))
        self._progress.update(self._task, description=printable(text), completed=progress)


def _fraction_bar() -> Progress:
    """A bar for what is no count: it shows the share that is done."""
    from rich.progress import TextColumn

    return _progress(TextColumn("{task.percentage:.0f}%"))


def train_listener(*, shown: bool = True) -> TrainLines:
    """A bar when standard error is a terminal, plain lines otherwise."""
    return TrainBar() if shown and sys.stderr.isatty() else TrainLines(shown=shown)


Row = dict[str, Any]

_HASHED = ("id", "sha256", "source")
_HASH = re.compile(r"[0-9a-f]{40,64}")


def show(rows: Sequence[Row], as_json: bool) -> str:
    """Rows as a plain table, without empty columns and with the first digits of hashes; or as JSON.

    In JSON every row has all names.
    """
    names = _names(rows)
    if as_json:
        return json_text([{name: row.get(name) for name in names} for row in rows])
    if not rows:
        return "There is nothing to list."
    headers = [name for name in names if any(row.get(name) not in (None, "", []) for row in rows)]
    return plain_table(headers, [[_short(row, name) for name in headers] for row in rows])


def _short(row: Row, name: str) -> object:
    """A cell, with the first digits of a hash."""
    value = row.get(name)
    if name in _HASHED and isinstance(value, str):
        return _HASH.sub(lambda found: found[0][:12], value)
    return value


def rows_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV, in which lists are written as JSON."""
    names = _names(rows)
    return csv_text(names, ([flat(row.get(name)) for name in names] for row in rows))


def flat(value: object) -> object:
    """What goes into a cell of a CSV: lists and objects as JSON."""
    return canonical_json(value) if isinstance(value, list | Mapping) else value


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
