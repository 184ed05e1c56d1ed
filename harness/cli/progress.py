"""Printing: lines, tables, and the progress of runs and trainings, with bars on a terminal."""

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


class _LenientStderr:
    """Standard error that drops text it cannot write (closed pipe, full disk).

    So a run does not fail because of it, and a wrong request keeps its exit code.
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
    """Set up the standard streams so that printing works even if they are closed (``2>&-``)."""
    global _stdout
    _stdout = None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # otherwise the next file to be opened would get this descriptor
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or _open_devnull()
    sys.stderr = sys.stderr or _open_devnull()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold undecodable bytes
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast(TextIO, _LenientStderr(sys.stderr))


_stdout: TextIO | None = None
"""The real standard output, once `keep_stdout` has reserved it for `echo`."""


def keep_stdout() -> None:
    """Reserve standard output for `echo`: all other code prints to standard error from now on.

    Plug-ins may print when they are imported and when they run, and so may the processes that
    they or the harness start. Therefore the file descriptor itself is redirected.
    """
    global _stdout
    if _stdout is None:
        _stdout, sys.stdout = _redirect(sys.stdout), sys.stderr


def _redirect(stream: TextIO) -> TextIO:
    """Point file descriptor 1 at standard error; return a stream to the real standard output.

    A stream that is not file descriptor 1, such as one that a test captures, is returned as it is.
    """
    try:
        number = stream.fileno()
    except OSError:
        return stream
    if number != 1:
        return stream
    stream.flush()
    copy = os.fdopen(os.dup(1), "w", encoding=stream.encoding, errors=stream.errors)
    os.dup2(2, 1)
    return copy


def _open_devnull() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def echo(line: object, *, err: bool = False) -> None:
    """Print one line, with control characters and line breaks escaped.

    Raises:
        HarnessError: standard output cannot be written.
    """
    _print(printable(str(line)), err=err)


def echo_lines(text: str, *, nl: bool = True) -> None:
    """Print several lines, such as a table, with control characters escaped.

    Raises:
        HarnessError: standard output cannot be written.
    """
    _print("\n".join(map(printable, text.split("\n"))), nl=nl)


def _print(text: str, *, err: bool = False, nl: bool = True) -> None:
    try:
        click.echo(text, None if err else _stdout, err=err, nl=nl)
    except BrokenPipeError:
        raise  # click exits without a message
    except OSError as error:
        sys.stdout = _open_devnull()  # otherwise Python tries to flush it again on exit
        raise HarnessError(f"Standard output cannot be written ({error.strerror}).") from error


def listener() -> Lines:
    """Return `Bars` if standard error is a terminal, else `Lines`."""
    return Bars() if sys.stderr.isatty() else Lines()


def download(files: Sequence[tuple[RemoteFile, Path]]) -> None:
    """Download files like `harness.data.pinned.fetch`, and show the progress."""
    missing = unsound(files)
    if not missing:
        return
    damaged = [str(path) for _, path in missing if path.exists()]
    if damaged:
        more = f" and {len(damaged) - 1} more" if damaged[1:] else ""
        echo(f"Truncated or altered, downloading again: {damaged[0]}{more}.", err=True)
    size = sum(file.bytes for file, _ in missing) / 1e6
    title = f"{len(missing)} files of {missing[0][0].repository}, {size:.1f} MB"
    if not sys.stderr.isatty():
        echo(f"Downloading {title}", err=True)
        fetch(missing)
        return
    with _count_bar() as progress:
        task = progress.add_task(f"Downloading {title}", total=len(missing))
        fetch(missing, lambda path: progress.advance(task))


def _count_bar() -> Progress:
    """Make a progress bar that shows a count, such as 3/10, and the time left."""
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    return _progress(MofNCompleteColumn(), TimeRemainingColumn())


def _progress(*columns: ProgressColumn) -> Progress:
    """Make a progress bar with a description, in which brackets and colons are plain text."""
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
    done = f"{_image_count(computed)} computed" if computed else "already finished"
    return f"{scores} ({done})"


def _image_count(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


class Lines:
    """Prints a line when a run starts, when an image has a note, and when the run ends.

    Use it in a ``with`` statement, which restores the terminal.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: plain lines need no cleanup."""

    def waiting(self, reason: str) -> None:
        """Print what the command waits for."""
        echo(f"{reason}: waiting.", err=True)

    def started(self, run: Run, total: int, known: int) -> None:
        """Print that the run starts, unless all its images are finished already."""
        if known < total:
            resumed = f", {known} already finished" if known else ""
            echo(f"{run.title}: {_image_count(total)}{resumed}", err=True)

    def image(self, run: Run, result: ImageResult) -> None:
        """Print the image's note, such as how its file was converted, if there is one."""
        if result.note:
            echo(f"  {result.image}: {result.note}", err=True)

    def ended(self, run: Run, record: RunRecord, computed: int) -> None:
        """Print the scores of the run, or its error."""
        echo(f"{run.title}: {_outcome(record, computed)}", err=True)


class Bars(Lines):
    """Shows a progress bar for each active run, with the finished images and the time left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def started(self, run: Run, total: int, known: int) -> None:
        """Show a bar for the run."""
        if known == total:
            return
        if self._progress is None:
            self._progress = _count_bar()
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
        """Replace the run's bar with its result."""
        task = self._tasks.pop(run.identity.id, None)
        if not self._tasks:
            self.__exit__()
        elif self._progress and task is not None:
            self._progress.remove_task(task)
        super().ended(run, record, computed)

    def __exit__(self, *error: object) -> None:
        """Remove the bars, also after an interruption."""
        if self._progress:
            self._progress.stop()
            self._progress = None


def images_bar(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the paths, and show the progress: a bar on a terminal, one line elsewhere."""
    images = list(paths)
    if not sys.stderr.isatty():
        echo(f"Preparing {_image_count(len(images))}", err=True)
        yield from images
        return
    with _count_bar() as progress:
        yield from progress.track(images, description="Preparing images")


class TrainLines:
    """Prints one line for each row of the training log.

    Args:
        shown: whether to print at all; of several processes, only one prints.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: plain lines need no cleanup."""

    def started(self, training: Training, step: int) -> None:
        """Print the training's notes, then that it starts."""
        for sentence in training.notes:
            self.told(sentence)
        resumed = f", continuing from step {step}" if step else ""
        images = _image_count(len(training.images.names))
        self._show(f"{training.card.name} x{training.scale}: {images}{resumed}", 0.0, keep=False)

    def logged(self, training: Training, row: LogRow, progress: float) -> None:
        """Print the row."""
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
        """Redraw the training curve; if it cannot be written, print why and go on."""
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
    """Shows a bar with loss, rate and time left; validation lines stay on the screen."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = _fraction_bar()
        self._task = self._progress.add_task("", total=1.0)
        self._progress.start()

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self._progress.stop()

    def told(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        self._progress.print(printable(sentence.rstrip(".") + "."))

    def _show(self, text: str, progress: float, *, keep: bool) -> None:
        if keep:
            self._progress.print(printable(text))
        self._progress.update(self._task, description=printable(text), completed=progress)


def _fraction_bar() -> Progress:
    """Make a progress bar that shows a percentage."""
    from rich.progress import TextColumn

    return _progress(TextColumn("{task.percentage:.0f}%"))


def train_listener(*, shown: bool = True) -> TrainLines:
    """Return a `TrainBar` if standard error is a terminal, else `TrainLines`."""
    return TrainBar() if shown and sys.stderr.isatty() else TrainLines(shown=shown)


Row = dict[str, Any]

_HASH_COLUMNS = ("id", "sha256", "source")
_HASH = re.compile(r"[0-9a-f]{40,64}")


def show(rows: Sequence[Row], as_json: bool) -> str:
    """Format rows as JSON or as a plain table.

    The table leaves out empty columns and shortens hashes. In JSON every row has all keys.
    """
    names = _column_names(rows)
    if as_json:
        return json_text([{name: row.get(name) for name in names} for row in rows])
    if not rows:
        return "There is nothing to list."
    headers = [name for name in names if any(row.get(name) not in (None, "", []) for row in rows)]
    return plain_table(headers, [[_short_cell(row, name) for name in headers] for row in rows])


def _short_cell(row: Row, name: str) -> object:
    """Return a cell's value, with hashes cut to 12 digits."""
    value = row.get(name)
    if name in _HASH_COLUMNS and isinstance(value, str):
        return _HASH.sub(lambda match: match[0][:12], value)
    return value


def rows_csv(rows: Sequence[Row]) -> str:
    """Format rows as CSV, with lists and objects as JSON."""
    names = _column_names(rows)
    return csv_text(names, ([flat(row.get(name)) for name in names] for row in rows))


def flat(value: object) -> object:
    """Convert a value to a CSV cell: lists and objects become JSON."""
    return canonical_json(value) if isinstance(value, list | Mapping) else value


def _column_names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
