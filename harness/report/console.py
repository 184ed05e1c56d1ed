"""How a run is shown while it goes: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import click

from harness.data.download import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from harness.run.evaluate import Run
    from harness.specs import ImageResult, RemoteFile, RunRecord


def listener() -> Lines:
    """Bars when standard error is a terminal, plain lines otherwise."""
    return Bars() if sys.stderr.isatty() else Lines()


def download(files: Sequence[tuple[RemoteFile, Path]]) -> None:
    """Download files like `harness.data.download.fetch`, and show how it goes."""
    missing = [(file, path) for file, path in files if not path.exists()]
    if not missing:
        return
    size = sum(file.bytes for file, _ in missing) / 1e6
    title = f"{len(missing)} files of {missing[0][0].repository}, {size:.0f} MB"
    if not sys.stderr.isatty():
        click.echo(f"Downloading {title}", err=True)
        fetch(missing)
        return
    with _bar() as progress:
        task = progress.add_task(f"Downloading {title}", total=len(missing))
        fetch(missing, lambda path: progress.advance(task))


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _title(run: Run) -> str:
    return f"{run.card.name} on {run.benchmark.card.title} ({run.rules.name})"


def _outcome(record: RunRecord, computed: int) -> str:
    if record.status != "finished":
        return f"failed: {record.error}"
    scores = ", ".join(f"{name} {value:.4f}" for name, value in record.means.items())
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

    def started(self, run: Run, total: int, known: int) -> None:
        """Say what begins, unless all of it is known."""
        if known < total:
            resumed = f", {known} known already" if known else ""
            click.echo(f"{_title(run)}: {_images(total)}{resumed}", err=True)

    def image(self, run: Run, result: ImageResult) -> None:
        """Say how an image was converted."""
        if result.note:
            click.echo(f"  {result.image}: {result.note}", err=True)

    def ended(self, run: Run, record: RunRecord, computed: int) -> None:
        """Say how it ended."""
        click.echo(f"{_title(run)}: {_outcome(record, computed)}", err=True)


class Bars(Lines):
    """A progress bar a run, with images a second and the time left."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def started(self, run: Run, total: int, known: int) -> None:
        """Show a bar."""
        if known == total:
            return
        self._progress = _bar()
        self._task = self._progress.add_task(_title(run), total=total, completed=known)
        self._progress.start()

    def image(self, run: Run, result: ImageResult) -> None:
        """Advance the bar."""
        if self._progress and self._task is not None:
            self._progress.advance(self._task)
        super().image(run, result)

    def ended(self, run: Run, record: RunRecord, computed: int) -> None:
        """Replace the bar by the outcome."""
        self.__exit__()
        super().ended(run, record, computed)

    def __exit__(self, *error: object) -> None:
        """Take the bar away, also after an interruption."""
        if self._progress:
            self._progress.stop()
            self._progress = None
