"""The verbs about a network: check-model and complexity."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    PathOption,
    all_words,
    chosen_paper,
    device_option,
    examples,
    fill_registries,
    is_given,
    paper_option,
    plugin_option,
    refuse_ignored,
    scale_option,
    words_option,
)
from harness.cli.progress import echo, echo_lines, keep_stdout
from harness.errors import HarnessError, UsageError, sentence
from harness.registry import MODELS
from harness.text import json_text

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess


@click.command(
    "check-model", epilog=examples("check-model mine --plugin mine.py --weights mine.pth")
)
@click.argument("name")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=300,
    show_default=True,
    help="Seconds after which the check is stopped as hanging.",
)
@click.option(
    "--weights",
    "weights_file",
    type=PathOption,
    metavar="FILE",
    help="Its weights, to test it on a photograph too.  [default: the installed weights]",
)
@scale_option
@plugin_option
def check_model(
    name: str, time_limit: float, weights_file: Path | None, scale: int, plugins: tuple[Path, ...]
) -> None:
    """Test a model plug-in against the contract, in a separate process."""
    keep_stdout()  # the check's process inherits the redirected descriptor
    end, failed = time.monotonic() + time_limit, 0
    with _check_process(os.getcwd(), name, scale, plugins, weights_file) as (process, results):
        try:
            while results.poll(max(0.0, end - time.monotonic())):
                result = results.recv()
                if isinstance(result, HarnessError):
                    raise result
                if result is None:
                    break
                failed += result.fails
                mark = "ok  " if result.holds else "FAIL" if result.fails else "WARN"
                echo(f"{mark}  {result.rule}: {result.seen}")
            else:
                raise HarnessError(
                    f"The check did not end within {time_limit:g} seconds: the plug-in hangs, or "
                    "needs a longer --time-limit."
                )
        except EOFError:
            process.join()
            raise HarnessError(
                f"The process of the check died with exit code {process.exitcode}: fix the plug-in."
            ) from None
    if failed:
        raise HarnessError(f"{name} breaks the contract: failed checks: {failed}.")


@contextmanager
def _check_process(*arguments: object) -> Iterator[tuple[SpawnProcess, Connection]]:
    """Start `_check_contract`; at the end, kill it with all processes that it has started.

    Raises:
        HarnessError: this system, such as Windows, has no process groups.
    """
    if not hasattr(os, "killpg"):
        raise HarnessError(
            "This system cannot end a check with all its processes: run drfn-harness on Linux, "
            "macOS or WSL."
        )
    context = get_context("spawn")
    results, sender = context.Pipe(duplex=False)
    process = context.Process(target=_check_contract, args=(sender, *arguments), daemon=True)
    process.start()
    sender.close()
    assert process.pid is not None
    try:
        yield process, results
    finally:
        with suppress(OSError):  # the group does not exist yet, or is empty
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _check_contract(
    sender: Connection,
    folder: str,
    name: str,
    scale: int,
    plugins: tuple[Path, ...],
    weights_file: Path | None,
) -> None:
    """Run in the new process: send the result of each check, then None or the error."""
    os.setsid()  # a process group of its own, so that all of it can be killed at once
    Thread(target=_die_with_parent, daemon=True).start()
    os.chdir(folder)  # a spawned process starts in the first process's original folder
    try:
        fill_registries(plugins)
        from harness.models.contract import check_model as check

        for result in check(MODELS.get(MODELS.spelling(name)), scale, weights_file):
            sender.send(result)
        sender.send(None)
    except Exception as error:  # a plug-in may raise anything
        sender.send(error if isinstance(error, HarnessError) else HarnessError(sentence(error)))


def _die_with_parent() -> None:
    """Wait until the parent process ends, then kill this process and its group."""
    parent = parent_process()
    if parent:
        parent.join()
    os.kill(0, signal.SIGKILL)


@click.command(
    epilog=examples("complexity drfn edsr", "complexity RealESRGAN_x4.pth --time --format csv")
)
@click.argument("models", nargs=-1, callback=all_words)
@words_option("--models", "more", metavar="NAME,...", help="The same as MODELS.")
@click.option(
    "--output-size", default="1280x720", show_default=True, help="Size of the SR image for counts."
)
@click.option("--time", "timed", is_flag=True, help="Also measure time and memory.")
@click.option(
    "--time-size", default="640x360", show_default=True, help="Size of the SR image for times."
)
@device_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "tex", "csv", "json"]),
    default="md",
    show_default=True,
)
@scale_option
@paper_option(optional=True)
@plugin_option
def complexity(
    models: list[str],
    more: list[str],
    output_size: str,
    timed: bool,
    time_size: str,
    device: str,
    form: Any,
    scale: int,
    paper_name: str,
    plugins: tuple[Path, ...],
) -> None:
    """Count parameters, operations and activations of MODELS, by default of all.

    MODELS are names, globs, and checkpoints that spandrel recognises.
    """
    from harness.report.complexity import complexity_table
    from harness.run.plan import networks
    from harness.run.request import Request

    fill_registries(plugins)
    words = [*models, *more] or ["all"]
    named, scale = networks(Request(words, scale=scale, scale_given=is_given("scale")))
    cards = [card for card in named if scale in card.scales and card.params != 0]
    if not cards:
        raise UsageError(f"None of these models has parameters at x{scale}.")
    speeds = None
    if not timed:
        refuse_ignored("--time", "time_size", "device")
    else:
        from harness.models.resources import measure_speed, pick_device

        torch_device, size = pick_device(device), _size(time_size)
        speeds = {card.name: measure_speed(card, scale, torch_device, size) for card in cards}
    table = complexity_table(cards, scale, chosen_paper(paper_name), _size(output_size), speeds)
    if form == "json":
        echo_lines(json_text(json.loads(table.tidy.to_json(orient="records"))))
    else:
        echo_lines(table.render(form))


def _size(text: str) -> tuple[int, int]:
    """Parse a size such as ``1280x720`` into width and height."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"A size is WIDTHxHEIGHT, such as 1280x720, not {text!r}.")
    return int(width), int(height)
