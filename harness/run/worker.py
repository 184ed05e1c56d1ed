"""What a worker of a cluster does: it finds the network and a device of its own, and scores images.

A worker writes nothing: results, and pictures where they are wanted, go back to the client.
"""

from __future__ import annotations

import platform
import re
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, sentence
from harness.record import canonical_json
from harness.registry import MODELS, load_plugins
from harness.run.evaluate import Run, compute
from harness.run.provenance import packages, provenance, source_digest
from harness.run.underway import ClusterError
from harness.run.upscaling import upscaler

if TYPE_CHECKING:
    from harness.data.identify import SetImage
    from harness.models.upscaler import Upscaler
    from harness.models.weights import Weights
    from harness.record import ImageResult

    Facts = Mapping[str, Any]
    """What processes must have in common to give the same numbers: software, device, threads."""

HAND_BACK_SECONDS = 5.0
"""After so long a worker hands back what it has of a shard; a lost one loses no more than that."""

_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads still has one device."""

_networks: dict[str, Upscaler] = {}
"""The network of the last run, by the run's id."""

_sources: dict[tuple[str, ...], tuple[str | None, ...]] = {}
"""Hashes of the files of networks and metrics when they were first used here, by their names."""


@dataclass(frozen=True)
class Parcel:
    """What a worker needs to know of a run; code is found by its name or path.

    Attributes:
        id: of the run's identity.
        model: the network's name.
        weights: where its values come from.
        fields: the other fields of the `Run`.
        plugins: files that are loaded first.
        device: as the user named it; ``auto`` is what the worker has.
        facts: what the worker must have in common with the others.
        pictures: SR images are wanted.
    """

    id: str
    model: str
    weights: Weights | None
    fields: Mapping[str, Any]
    plugins: tuple[Path, ...]
    device: str
    facts: Facts
    pictures: bool


@dataclass(frozen=True)
class Handed:
    """What a worker hands back of a shard.

    Attributes:
        made: the result of each of the first images, and its picture where one is wanted.
        error: why the worker broke off, or empty when the shard or the time was up.
        provenance: of the worker.
    """

    made: tuple[tuple[ImageResult, bytes | None], ...]
    error: str
    provenance: Mapping[str, Any]


def software() -> Facts:
    """Versions of what takes part in a number."""
    return {**packages(), "harness": source_digest()[:12]}


def differences(here: Facts, wanted: Facts) -> str:
    """What is not as wanted, such as ``torch 2.12.0, not 2.13.0``; empty if all is."""
    return "; ".join(f"{k} {here[k]}, not {wanted[k]}" for k in wanted if here[k] != wanted[k])


def hold(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values of weights, kept by a worker for other tasks."""
    return tensors


def dask_setup(worker: object) -> None:
    """Leave interruptions from the terminal, which reach every process, to the client."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def survey(device: str) -> tuple[Facts, Mapping[str, Any]]:
    """This worker's facts and provenance, as they were when it was first asked.

    Raises:
        UsageError: it has no such device.
    """
    import torch

    from harness.global_state import apply_settings
    from harness.models.network import pick_device

    apply_settings()
    facts = {"device": pick_device(device), "threads": torch.get_num_threads()}
    return {**facts, **software()}, provenance(own_device(device))


def own_device(wanted: str) -> str:
    """The device of this worker.

    Of several GPUs it takes the one that the number at the end of its name says, counted around:
    with four GPUs, workers 0 to 3 and ``node-4`` to ``node-7`` get one each.
    """
    import torch

    from harness.models.network import pick_device

    picked = pick_device(wanted)
    # A port at the end of an address, which is the name of a worker without one, says nothing.
    number = re.search(r"(?:^|[^:\d])(\d+)$", _name())
    if picked != "cuda" or not number:
        return picked
    return f"cuda:{int(number[1]) % torch.cuda.device_count()}"


def work_off(
    parcel: Parcel, tensors: Mapping[str, Any] | None, images: Sequence[SetImage]
) -> Handed:
    """Score images of a run, one at least, for `HAND_BACK_SECONDS` or until it breaks.

    Args:
        parcel: the run.
        tensors: the values of its weights.
        images: of its set.

    Raises:
        ClusterError: this worker would give other numbers than the others, or none.
    """
    facts, origin = survey(parcel.device)
    unlike = differences(facts, parcel.facts)
    if unlike:
        raise ClusterError(
            f"The worker {_here()} is unlike the first one ({unlike}): "
            "give all the same environment."
        )
    made: list[tuple[ImageResult, bytes | None]] = []
    error = ""
    with _ONE_AT_A_TIME:
        run = _unpack(parcel, tensors)
        _require_visible(images)
        try:
            network = _network(run, own_device(parcel.device))
            until = time.monotonic() + HAND_BACK_SECONDS
            made += compute(
                run,
                images,
                network,
                pictures=parcel.pictures,
                enough=lambda: time.monotonic() > until,
            )
        except Exception as broken:  # a plug-in may raise anything
            error = sentence(broken)
        changed = _networks[parcel.id].changed if parcel.id in _networks else set()
        origin = {**origin, **({"changed_settings": sorted(changed)} if changed else {})}
    return Handed(tuple(made), error, origin)


def _unpack(parcel: Parcel, tensors: Mapping[str, Any] | None) -> Run:
    """The run, with the network as this worker knows it."""
    try:
        _load(parcel.plugins)
        card = MODELS.get(parcel.model)
    except HarnessError as error:
        raise ClusterError(f"The worker {_here()} lacks a plug-in: {error}") from error
    weights = parcel.weights and replace(parcel.weights, tensors=tensors or {})
    run = Run(card, weights, **parcel.fields)
    # A file that changed since it was imported is not what this process runs.
    identity = run.identity
    names = (run.card.name, str(identity.scale), canonical_json(identity.hyper), *run.metrics)
    files = (identity.source_sha256, identity.metrics_sha256)
    if identity.id != parcel.id or _sources.setdefault(names, files) != files:
        raise ClusterError(
            f"The worker {_here()} knows another {parcel.model}, or other rules: "
            "give it the files that the client has, and restart it."
        )
    return run


@cache
def _load(plugins: tuple[Path, ...]) -> None:
    load_plugins(plugins)


def _require_visible(images: Sequence[SetImage]) -> None:
    files = [image.path for image in images] + [image.lr.path for image in images if image.lr]
    for folder in {path.parent for path in files}:
        if not folder.exists():
            raise ClusterError(
                f"The worker {_here()} does not see {folder}: "
                "keep images in a folder that the client and all workers share."
            )


def _network(run: Run, device: str) -> Upscaler:
    """The run's network, kept until another run comes."""
    if run.identity.id not in _networks:
        _networks.clear()
        _networks[run.identity.id] = upscaler(run, device)
    return _networks[run.identity.id]


def _name() -> str:
    from distributed import get_worker

    return str(get_worker().name)


def _here() -> str:
    return f"{_name()} on {platform.node()}"
