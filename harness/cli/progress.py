"""Printing: lines, tables, and the progress of runs and trainings, with bars on a terminal."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from harness.data.pinned import fetch, unsound
from harness.errors import HarnessError, printable
from harness.record import canonical_json
from harness.text import csv_text, json_text, plain_table, readable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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
    global _stdout, _quiet
    _stdout, _quiet = None, False
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


_quiet = False
"""Whether `note` prints nothing, see `keep_quiet`."""


def keep_quiet() -> None:
    """Print no notes from now on, only results and errors."""
    global _quiet
    _quiet = True


def note(line: object) -> None:
    """Print a line on standard error that is no error, see `echo`; nothing after `keep_quiet`."""
    if not _quiet:
        echo(line, err=True)


_stdout: TextIO | None = None
"""The real standard output, once `keep_stdout` has reserved it for `echo`."""


def keep_stdout() -> None:
    """Reserve standard output for `echo`: all other code prints to standard error from now on.

    Plug-ins may print when they are imported and when they run, and so may the processes that
    they or the harness start. Therefore the file descriptor itself is redirected.
    """
    global _stdout
    if _stdout is not None:
        return
    _stdout, sys.stdout = sys.stdout, sys.stderr
    with suppress(OSError):  # a stream in memory has no descriptor
        if _stdout.fileno() == 1:
            _stdout.flush()
            _stdout = os.fdopen(os.dup(1), "w", encoding=_stdout.encoding, errors=_stdout.errors)
            os.dup2(2, 1)


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
        # Named here, so that it is the stream that prints above the bars while there are any.
        click.echo(text, sys.stderr if err else _stdout, nl=nl)
    except BrokenPipeError:
        raise  # click exits without a message
    except OSError as error:
        sys.stdout = _open_devnull()  # otherwise Python tries to flush it again on exit
        raise HarnessError(f"Standard output cannot be written ({error.strerror}).") from error


@contextmanager
def bars(*columns: str, shown: bool = True) -> Iterator[Progress]:
    """Show progress bars while the block runs, if standard error is a terminal.

    Args:
        columns: what stands behind each bar; by default a count, such as 3/10, and the time left.
        shown: show bars at all; of several processes, only one does.
    """
    from rich import progress
    from rich.console import Console

    shown = shown and sys.stderr.isatty()
    made = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        *(columns or (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())),
        console=Console(stderr=True, markup=False, emoji=False),
        transient=True,
        disable=not shown,
    )
    with made if shown else nullcontext():  # some versions print a line for a disabled one
        yield made


def download(files: Sequence[tuple[RemoteFile, Path]]) -> None:
    """Download files like `harness.data.pinned.fetch`, and show the progress."""
    missing = unsound(files)
    if not missing:
        return
    damaged = [str(path) for _, path in missing if path.exists()]
    if damaged:
        more = f" and {len(damaged) - 1} more" if damaged[1:] else ""
        note(f"Truncated or altered, downloading again: {damaged[0]}{more}.")
    sizes = [file.bytes for file, _ in missing]
    size = f"{sum(filter(None, sizes)) / 1e6:.1f} MB" if all(sizes) else "of unknown size"
    count = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    title = f"Downloading {count} of {missing[0][0].repository}, {size}"
    with bars(shown=not _quiet) as progress:
        task = progress.add_task(title, total=len(missing))
        if progress.disable:
            note(title)
        fetch(missing, lambda path: progress.advance(task))


def prepare_images(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the paths, and show the progress: a bar on a terminal, one line elsewhere."""
    images = list(paths)
    with bars() as progress:
        if progress.disable:
            echo(f"Preparing {_image_count(len(images))}", err=True)
        yield from progress.track(images, description="Preparing images")


def _image_count(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def notify(sentence: str) -> None:
    """Print a sentence on standard error, see `note`."""
    note(f"{sentence.rstrip('.')}.")


class RunProgress:
    """Shows a bar for each active run on a terminal, else a line; then the outcome of the run."""

    notify = staticmethod(notify)

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._active: dict[str, tuple[TaskID, int]] = {}

    def started(self, run: Run, total: int, known: int) -> None:
        """Show that the run starts, unless all its images are finished already."""
        if known == total:
            return
        task = self._bars.add_task(printable(run.title), total=total, completed=known)
        self._active[run.identity.id] = task, total - known
        if self._bars.disable:
            resumed = f", {known} already finished" if known else ""
            note(f"{run.title}: {_image_count(total)}{resumed}")

    def image(self, run: Run, result: ImageResult) -> None:
        """Advance the bar, and print a note on the image, such as how its file was converted."""
        task, _ = self._active[run.identity.id]
        self._bars.advance(task)
        if result.note:
            note(f"  {result.image}: {result.note}")

    def ended(self, run: Run, record: RunRecord) -> None:
        """Replace the bar with the scores of the run, or its error."""
        done = "already finished"
        if run.identity.id in self._active:
            task, computed = self._active.pop(run.identity.id)
            self._bars.refresh()  # the last images may have come since it was drawn
            self._bars.remove_task(task)
            done = f"{_image_count(computed)} computed"
        scores = ", ".join(f"{name} {readable(mean)}" for name, mean in record.means.items())
        if record.status == "finished":
            note(f"{run.title}: {scores} ({done})")
        else:
            echo(f"{run.title}: failed: {record.error}", err=True)


class TrainProgress:
    """Shows the rows of the training log: as lines, or beside a bar on a terminal."""

    notify = staticmethod(notify)

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=1.0)

    def started(self, training: Training, step: int) -> None:
        """Print the training's notes, then that it starts."""
        for sentence in training.notes:
            notify(sentence)
        resumed = f", continuing from step {step}" if step else ""
        images = _image_count(len(training.images.paths))
        self._show(f"{training.card.name} x{training.request.scale}: {images}{resumed}", 0.0)

    def logged(self, training: Training, row: LogRow, progress: float) -> None:
        """Show the row; one with the scores of a validation stays on a terminal too."""
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
            notify(str(error))

    def _show(self, text: str, progress: float, *, keep: bool = False) -> None:
        if keep or self._bars.disable:
            echo(text, err=True)
        self._bars.update(self._task, description=printable(text), completed=progress)


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
