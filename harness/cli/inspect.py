"""What there is: models, sets, weights, runs, and whether a plug-in keeps the contract."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from harness.cards import DatasetCard
from harness.cli.options import (
    PathOption,
    data_option,
    fill_registries,
    json_option,
    plugin_option,
    read_told,
    results_option,
    scale_option,
)
from harness.cli.progress import (
    Row,
    echo,
    echo_lines,
    flat,
    keep_stdout,
    rows_csv,
    show,
)
from harness.errors import HarnessError, UsageError
from harness.record import WeightsInfo
from harness.registry import DATASETS, FAILURES, MODELS, clashes
from harness.report.table import csv_text

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from harness.models.contract import ContractCheck
    from harness.record import RunRecord
    from harness.run.store import ResultStore


@click.command("list")
@click.argument(
    "what", type=click.Choice(["models", "datasets", "weights", "runs"]), default="models"
)
@scale_option
@results_option("results/local")
@data_option
@plugin_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; of runs, a row a metric.")
@click.option("--images", is_flag=True, help="In the CSV of runs, a row an image and metric.")
def list_(
    what: str,
    scale: int,
    results: Path,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    as_csv: bool,
    images: bool,
) -> None:
    """List models, datasets, weights or runs."""
    if as_csv and as_json:
        raise UsageError("The list is either --csv or --json: name one.")
    if images and not (as_csv and what == "runs"):
        raise UsageError("--images is for harness list runs --csv.")
    fill_registries(plugins)
    match what:
        case "datasets":
            rows = list_datasets(scale, data_root)
        case "weights":
            rows = list_weights(scale)
        case "runs":
            store = read_told(results)
            if as_csv:
                echo_lines(runs_csv(store, images=images), nl=False)
                return
            rows = list_runs(store)
            rows = rows if as_json else brief_runs(rows)
        case _:
            rows = list_models()
    if as_csv:
        echo_lines(rows_csv(rows), nl=False)
    else:
        echo_lines(show(rows, as_json))


@click.command("check-model")
@click.argument("name")
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=300,
    show_default=True,
    help="Seconds, after which a plug-in counts as hanging.",
)
@click.option(
    "--weights",
    "weights_file",
    type=PathOption,
    metavar="FILE",
    help="Its weights: with them it is tested on a photograph, too.  [default: those found]",
)
@scale_option
@plugin_option
def check_model(
    name: str,
    time_limit: float,
    weights_file: Path | None,
    scale: int,
    plugins: tuple[Path, ...],
) -> None:
    """Test a model plug-in against the contract, in a process of its own."""
    failed = 0
    keep_stdout()  # which the process of the check inherits
    words = (name, scale, plugins, weights_file)
    with closing(isolated(_findings, words, time_limit)) as findings:
        for finding in findings:
            failed += finding.fails
            mark = "ok  " if finding.holds else "FAIL" if finding.fails else "WARN"
            echo(f"{mark}  {finding.rule}: {finding.seen}")
    if failed:
        raise HarnessError(f"{name} breaks the contract in {failed} points.")


def _findings(
    name: str, scale: int, plugins: tuple[Path, ...], weights_file: Path | None
) -> Iterator[ContractCheck]:
    from harness.models.contract import check_model as check
    from harness.registry import MODELS

    fill_registries(plugins)
    yield from check(MODELS.get(name), scale, weights_file)


T = TypeVar("T")


def isolated(
    work: Callable[..., Iterator[T]], words: tuple[Any, ...], seconds: float
) -> Generator[T, None, None]:
    """What ``work(*words)`` yields in another process, which is ended when its time is over.

    Whatever processes it has started end with it, and it ends when this process is killed.

    Args:
        work: a function of a module; what it takes and yields can be pickled.
        words: its arguments.
        seconds: from the start of the process, its imports included.

    Raises:
        HarnessError: it was raised there, the process died, the time is over, or this system,
            such as Windows, has no process groups.
    """
    if not hasattr(os, "killpg"):
        raise HarnessError(
            "This system cannot end a check with all its processes: run drfn-harness on Linux, "
            "macOS or WSL."
        )
    fresh = get_context("spawn")
    receiver, sender = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_send, args=(sender, os.getcwd(), work, words), daemon=True)
    process.start()
    sender.close()
    end = time.monotonic() + seconds
    try:
        while receiver.poll(max(0.0, end - time.monotonic())):
            last, value = receiver.recv()
            if isinstance(value, HarnessError):
                raise value
            if last:
                return
            yield value
        raise HarnessError(
            f"The check did not end within {seconds:g} seconds: it hangs, or --time-limit is short."
        )
    except EOFError:
        process.join()
        raise HarnessError(
            f"The process of the check died with exit code {process.exitcode}: fix the plug-in."
        ) from None
    finally:
        _end(process)


def _end(process: SpawnProcess) -> None:
    """Kill a process and those that it has started, which are in its process group."""
    assert process.pid is not None
    with suppress(OSError):  # it has no group yet, or nobody is left in it
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _end_with_parent() -> None:
    """Wait until the process that started this one is gone, then kill this one's group."""
    parent = parent_process()
    if parent:
        parent.join()
    os.kill(0, signal.SIGKILL)


def _send(sender: Connection, folder: str, work: Callable[..., Iterator[T]], words: Any) -> None:
    """In the other process: hand over one value after the other, then the end or an error."""
    os.setsid()  # a group of its own, to be killed as one
    Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)  # a new process starts where the first one was started
    try:
        for value in work(*words):
            sender.send((False, value))
        sender.send((True, None))
    except HarnessError as error:
        sender.send((True, error))
    except Exception as error:  # an outsider's code may raise anything
        sender.send((True, HarnessError(f"{type(error).__name__}: {error}")))


def list_models() -> list[Row]:
    """Registered models, then what was left out of plug-ins, and the plug-ins that failed."""
    rows = [
        {
            "model": card.name,
            "pipeline": card.pipeline,
            "input": card.input,
            "scales": list(card.scales),
            "parameters": card.params,
            "paper": card.paper or None,
            "from": card.origin,
        }
        for card in map(MODELS.get, MODELS)
    ]
    failed = [{"from": name, "error": why} for name, why in FAILURES.items()]
    left_out = [{"from": " and ".join(one.origins), "error": str(one)} for one in clashes()]
    return [*rows, *left_out, *failed]


def list_datasets(scale: int, data_root: Path | None) -> list[Row]:
    """Registered test sets and whether they are on this machine."""
    return [_dataset(name, scale, data_root) for name in DATASETS]


def _dataset(name: str, scale: int, data_root: Path | None) -> Row:
    from harness.data.testsets import DatasetUnavailable, find

    card = DATASETS.get(name)
    row: Row = {"dataset": name, "images": card.count or None, "state": None, "where": None}
    try:
        image_set = find(card, scale, data_root)
    except DatasetUnavailable:
        return row | {"state": "not here"}
    except HarnessError as error:
        others = [
            f"x{other}"
            for other in (2, 3, 4)
            if other != scale and _is_here(card, other, data_root)
        ]
        if others:
            return row | {"state": f"here at {' and '.join(others)} only"}
        return row | {"state": f"broken: {error}"}
    state = "as published" if image_set.verified else "unverified"
    facts = {"images": len(image_set.images), "state": state}
    return row | facts | {"where": str(image_set.images[0].path.parent)}


def _is_here(card: DatasetCard, scale: int, data_root: Path | None) -> bool:
    from harness.data.testsets import find

    try:
        find(card, scale, data_root)
    except HarnessError:
        return False
    return True


def list_training_sets(data_root: Path | None) -> list[Row]:
    """The training and validation sets that are known by name, and whether they are here."""
    from harness.data.trainsets import FOLDERS

    return [_training_set(name, data_root) for name in FOLDERS]


def _training_set(name: str, data_root: Path | None) -> Row:
    from harness.data.trainsets import count_of, training_downloads, training_folder

    row: Row = {"dataset": name, "images": count_of(name)}
    folder, _ = training_folder(name, data_root)
    if folder:
        return row | {"state": "here", "where": str(folder)}
    try:
        training_downloads(name)
    except HarnessError:
        return row | {"state": "not here, not for download", "where": None}
    return row | {"state": f"not here: harness data fetch {name}", "where": None}


def list_weights(scale: int) -> list[Row]:
    """Every weights file of every model, and the models that have none."""
    rows: list[Row] = []
    for card in map(MODELS.get, MODELS):
        if card.params != 0 and scale in card.scales:
            rows += list(_weights(card.name, scale))
    return rows


def _weights(name: str, scale: int) -> Iterator[Row]:
    from harness.models.find_weights import installed, official_rows
    from harness.models.weights import read_weights

    card = MODELS.get(name)
    found = installed(card, scale)
    for path, tag in found:
        try:
            info = read_weights(card, scale, path, tag).info
            yield _file(info, name, str(path), installed=True)
        except HarnessError as error:
            broken = WeightsInfo(tag, path.name, "", "", f"broken: {error}")
            yield _file(broken, name, str(path), installed=True)
    if "official" in (tag for _, tag in found):
        return
    for row in official_rows(card, scale):
        place = f"not here: harness weights fetch {name}"
        info = WeightsInfo("official", row["file"], row["sha256"], "", row["licence"])
        yield _file(info, name, place, installed=False)
        return
    if not found:
        place = f"not here: harness train {name}, or --weights {name}=FILE"
        yield _file(WeightsInfo("none", "", "", "", ""), name, place, installed=False)


def _file(info: WeightsInfo, model: str, where: str, *, installed: bool) -> Row:
    return {
        "model": model,
        "tag": info.tag,
        "source": _source(info) or None,
        "sha256": info.source_sha256 or None,
        "licence": info.licence or None,
        "installed": installed,
        "where": where,
    }


def _source(info: WeightsInfo) -> str:
    """Repository, commit and path of the authors' files; the file's name for others."""
    from harness.data.pinned import pinned_rows

    for row in pinned_rows("weights"):
        if row["sha256"] == info.source_sha256:
            return f"{row['repository']}@{row['commit']}/{row['path']}"
    return info.file


class Run(NamedTuple):
    """The facts of a run, in the order in which the CSV has them; see docs/records.md."""

    id: str
    model: str
    hyper: Mapping[str, Any]
    dataset: str
    dataset_sha256: str
    scale: int
    protocol: str
    pipeline: str
    weights: str | None
    weights_file_sha256: str | None
    self_ensemble: bool
    tile: int | None
    lr_sha256: str | None
    earlier: bool
    foreign: str | None
    status: str
    error: str | None
    verified: bool
    images: int
    parameters: int | None
    macs: int | None
    seconds: float
    device: str
    utc: str | None


def list_runs(store: ResultStore) -> list[Row]:
    """Run records with the means of their metrics; damaged ones are named."""
    from harness.run.store import set_names

    sound = store.sound()
    names = set_names(sound.values())
    rows: list[Row] = []
    for path in store.paths():
        if path in sound:
            facts = _run(sound[path], names)._asdict()
            rows.append(facts | _means_of(sound[path]) | facts)  # whatever its scores are called
        else:
            rows.append({"status": "damaged", "error": str(path)})
    return rows


def brief_runs(rows: Sequence[Row]) -> list[Row]:
    """Those columns of `list_runs` that a terminal has room for."""
    metrics = dict.fromkeys(name for row in rows for name in row if name not in Run._fields)
    first = ("id", "model", "dataset", "protocol", "weights", "how", "status")
    names = (*first, *metrics, "utc", "error")
    return [{name: row.get(name) for name in names} | {"how": _how(row)} for row in rows]


def runs_csv(store: ResultStore, *, images: bool) -> str:
    """One row a run and metric; with ``images`` one a run, image and metric."""
    from harness.run.store import set_names

    records = store.records()
    names = set_names(records)
    lines = _image_lines if images else _mean_lines
    score = ("image", "metric", "value") if images else ("metric", "value", "infinite")
    rows = (line for record in records for line in lines(_run(record, names), record))
    return csv_text((*Run._fields, *score), (map(flat, row) for row in rows))


def _run(record: RunRecord, names: Mapping[tuple[int, str, str], str]) -> Run:
    from harness.paper.select import foreign_origin
    from harness.protocol.protocols import protocol
    from harness.run.store import set_of

    identity, weights = record.identity, record.weights
    return Run(
        id=identity.id,
        model=identity.model,
        hyper=identity.hyper,
        dataset=names[set_of(record)],
        dataset_sha256=identity.dataset_sha256,
        scale=identity.scale,
        protocol=identity.protocol,
        pipeline=protocol(identity.protocol).pipeline,
        weights=weights.tag if weights else None,
        weights_file_sha256=weights.source_sha256 if weights else None,
        self_ensemble=identity.self_ensemble,
        tile=identity.tile,
        lr_sha256=identity.lr_sha256,
        earlier=record.earlier,
        foreign=foreign_origin(record) or None,
        status=record.status,
        error=record.error or None,
        verified=record.verified,
        images=len(record.images),
        parameters=record.parameters,
        macs=record.macs,
        seconds=sum(image.seconds for image in record.images),
        device=record.execution.device,
        utc=record.provenance.get("utc"),
    )


def _means_of(record: RunRecord) -> dict[str, float | None]:
    """The mean of each metric; none of a run that broke, whatever images it finished."""
    done = record.status == "finished"
    return {name: record.means[name] if done else None for name in record.identity.metrics}


def _how(row: Row) -> list[str]:
    """What is unusual about a run, in words."""
    how = ["self-ensemble"] * bool(row.get("self_ensemble"))
    how += [f"tile {row['tile']}"] if row.get("tile") else []
    how += ["given LR images"] * bool(row.get("lr_sha256"))
    how += ["identity of an earlier version"] * bool(row.get("earlier"))
    return how + ([f"code of {row['foreign']}"] if row.get("foreign") else [])


def _mean_lines(run: Run, record: RunRecord) -> Iterator[tuple[object, ...]]:
    for metric, value in _means_of(record).items():
        left_out = 0 if value is None else record.infinite.get(metric, 0)
        yield (*run, metric, value, left_out)


def _image_lines(run: Run, record: RunRecord) -> Iterator[tuple[object, ...]]:
    """A run that broke has one line a metric, without an image."""
    if record.status != "finished":
        yield from ((*run, None, metric, None) for metric in record.identity.metrics)
        return
    for image in record.images:
        own = run._replace(seconds=image.seconds)
        for metric, value in image.scores.items():
            yield (*own, f"{run.dataset}/{image.image}", metric, value)
