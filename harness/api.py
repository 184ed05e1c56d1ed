"""The Python interface: score networks and images by the rules of the command line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from harness.cards import ModelCard
from harness.errors import HarnessError, UsageError, sentence
from harness.protocol.resize import imresize
from harness.protocol.rules import Protocol, given_sr, make_sample, score
from harness.protocol.rules import protocol as protocol_called
from harness.record import ImageResult, finite_mean
from harness.registry import DATASETS, MODELS

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from harness.cards import AnyArray, ByteArray, NetworkInput
    from harness.models.upscaler import Upscaler
    from harness.run.request import Request
    from harness.run.spec import Run

    Images: TypeAlias = str | os.PathLike[str] | Mapping[str, ByteArray] | Sequence[ByteArray]

__all__ = [
    "Evaluation",
    "HarnessError",
    "Protocol",
    "evaluate",
    "imresize",
    "list_datasets",
    "list_models",
    "load_network",
    "make_lr",
    "psnr",
    "ssim",
]


@dataclass(frozen=True)
class Evaluation:
    """The scores of a network on a set of images.

    Attributes:
        network: the name of the network: its registered name or that of its class.
        dataset: the name of the set; ``arrays`` for images that are given as arrays.
        protocol: the rules of the scores.
        images: the result of each image, in the order of the set.
        notes: what readers of the scores should know, such as files that were left out.
    """

    network: str
    dataset: str
    protocol: Protocol
    images: tuple[ImageResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def means(self) -> dict[str, float]:
        """The mean of each metric over the images with a finite score, as in run records."""
        names = self.images[0].scores
        return {name: finite_mean([one.scores[name] for one in self.images]) for name in names}

    @property
    def psnr(self) -> float:
        """The mean PSNR in dB."""
        return self.means["psnr"]

    @property
    def ssim(self) -> float:
        """The mean SSIM."""
        return self.means["ssim"]

    def to_pandas(self) -> pd.DataFrame:
        """One row per image: its name, a column per metric, and the seconds of the forward pass."""
        import pandas as pd

        rows = [{"image": one.image, **one.scores, "seconds": one.seconds} for one in self.images]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        scores = f"{self.psnr:.4f} dB, SSIM {self.ssim:.4f}"
        return f"{self.network} on {self.dataset} ({self.protocol.name}): {scores}"


def evaluate(
    network: nn.Module | str | os.PathLike[str],
    images: Images,
    *,
    protocol: Protocol | str | None = None,
    scale: int | None = None,
    network_input: NetworkInput = "lr",
    weights: str | os.PathLike[str] | None = None,
    weights_key: str = "",
    metrics: Sequence[str] = (),
    self_ensemble: bool = False,
    tile: int | None = None,
    lr_images: str | os.PathLike[str] | None = None,
    device: str | None = None,
) -> Evaluation:
    """Score a network as ``harness run`` does, and write nothing.

    A module is left as it is: a copy of it is put into evaluation mode and run without gradients.
    Random states and torch's settings are restored, so it can be called inside a training loop.

    Args:
        network: a module that maps ``(N, C, h, w)`` in [0, 1] to the same range, C = 3 or, with a
            protocol of the pipeline ``y``, 1; or what ``--models`` takes: a registered name, also
            with a tag (``name:repro``), or the path of a checkpoint.
        images: a name (``set5``), which is downloaded if it is missing and may be; a folder of HR
            images; or HR images as uint8 arrays, ``(H, W, 3)`` or ``(H, W)``, in a list or by name.
        protocol: the rules or their name, such as ``BI-x4/rgb``; by default those of the network's
            pipeline, and ``rgb`` for a module.
        scale: the factor, instead of a protocol; by default 4, or that of the checkpoint.
        network_input: for a module: ``bicubic`` if it takes the LR image enlarged to the SR size.
        weights: for a registered name, the file of its weights; by default installed ones are used.
        weights_key: the key of the network in that file, such as ``params_ema``.
        metrics: further metrics, see ``harness list metrics``.
        self_ensemble: average over the eight flips and rotations.
        tile: the side of the tiles that images are cut into, in LR pixels; None for whole images.
        lr_images: a folder of LR images, read instead of making them.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``; by default that of the module, or
            ``auto`` for a name.

    Raises:
        UsageError: a name or an option does not fit.
        HarnessError: the set, the weights or an image cannot be used.
    """
    from harness.global_state import settings_restored
    from harness.run.request import Request

    if isinstance(metrics, str):
        raise UsageError(f"metrics is a list of names: give [{metrics!r}].")
    _fill_registries()
    rules = _named(protocol) if protocol else None
    if rules and scale not in (None, rules.scale):
        raise UsageError(f"The protocol {rules.name} is not for x{scale}: give one or the other.")
    with _as_word(images) as (word, names), settings_restored():
        request = Request(
            models=(),
            datasets=(word,),
            scale=rules.scale if rules else scale or Protocol.scale,
            scale_given=bool(rules or scale),
            metrics=tuple(metrics),
            self_ensemble=self_ensemble,
            tile=tile,
            lr_images=Path(lr_images) if lr_images else None,
            weights_key=weights_key,
            strict=True,
        )
        if isinstance(network, str | os.PathLike):
            if network_input != "lr":
                raise UsageError("network_input is for a module: a name has its own input.")
            run, notes = _run_of_name(os.fspath(network), request, rules, weights)
            upscaler = _upscaler_of_name(run, device or "auto")
        else:
            if weights or weights_key:
                raise UsageError("weights are for a name: load those of a module into it.")
            _require_module(network)
            run = _run_of_module(network, request, rules, network_input)
            upscaler, notes = _upscaler_of_module(network, run, device), run.image_set.notes
        results = _results(run, upscaler, names)
    dataset = "arrays" if names else run.image_set.card.name
    return Evaluation(run.card.name, dataset, run.rules, results, tuple(notes))


def load_network(
    name: str | os.PathLike[str],
    *,
    scale: int = Protocol.scale,
    weights: str | os.PathLike[str] | None = None,
    weights_key: str = "",
    device: str = "cpu",
) -> nn.Module:
    """Load a network with its weights, in evaluation mode, without gradients, channels last.

    Args:
        name: a registered name, also with a tag (``name:repro``), or the path of a checkpoint that
            spandrel recognises, whose scale counts.
        scale: the factor of a registered network.
        weights: the file of its weights; by default installed ones are used.
        weights_key: the key of the network in the file, such as ``params_ema``.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Returns:
        a module that maps ``(N, C, h, w)`` in [0, 1] to ``(N, C, H, W)``: C is 1 in the pipeline
        ``y``, and some networks take an image that is enlarged already.

    Raises:
        UsageError: there is no such network.
        HarnessError: there are no weights, or they do not fit.
    """
    from harness.global_state import settings_restored
    from harness.models.find_weights import find_weights
    from harness.models.foreign import recognise
    from harness.models.resources import pick_device
    from harness.models.upscaler import Upscaler

    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"load_network takes a name or a path, not {_kind(name)}.")
    _fill_registries()
    word, _, tag = os.fspath(name).partition(":")
    word = MODELS.spelling(word)
    if word in MODELS or not os.path.exists(name):
        if weights and tag:
            raise UsageError(f"{name} and {weights} both name weights: give one of them.")
        if weights_key and not weights:
            raise UsageError("weights_key is for a weights file: give weights, too.")
        card, file = MODELS.get(word), Path(weights) if weights else None
        loaded = find_weights(card, scale, path=file, tag=tag or None, key=weights_key)
    else:
        if weights:
            raise UsageError(f"{name} is a checkpoint with its weights: leave out weights.")
        card, loaded = recognise(Path(name), Path(name).stem, weights_key)
        scale = card.scales[0]
    with settings_restored():
        return Upscaler(card, scale, loaded, device=pick_device(device)).network


def make_lr(hr: ByteArray, protocol: Protocol | str = "BI-x4/rgb") -> AnyArray:
    """Make the LR image of an HR image, as a protocol does.

    Args:
        hr: uint8 ``(H, W, 3)`` or ``(H, W)``; cropped to multiples of the scale.
        protocol: the rules or their name.

    Returns:
        ``(h, w[, 3])``: uint8 in the pipeline ``rgb``; luma in [0, 1] as float64 in ``y``.

    Raises:
        UsageError: the image is not such an array, or there is no such protocol.
        HarnessError: the image is too small to be scored.
    """
    return make_sample(_checked(hr), _named(protocol)).lr


def psnr(sr: ByteArray, hr: ByteArray, protocol: Protocol | str = "BI-x4/rgb") -> float:
    """Compute the PSNR in dB of an SR image as a protocol does: on luma, without the border.

    Args:
        sr: uint8 ``(H, W, 3)`` or ``(H, W)``; cropped to multiples of the scale, as the HR image.
        hr: the same size.
        protocol: the rules or their name.

    Raises:
        UsageError: the images are not such arrays or differ, or there is no such protocol.
        HarnessError: the images are too small to be scored.
    """
    return _score(sr, hr, protocol, "psnr")


def ssim(sr: ByteArray, hr: ByteArray, protocol: Protocol | str = "BI-x4/rgb") -> float:
    """Compute the SSIM of an SR image as a protocol does; see `psnr`."""
    return _score(sr, hr, protocol, "ssim")


def list_models() -> list[str]:
    """List the registered networks, with those of installed plug-ins."""
    _fill_registries()
    return list(MODELS)


def list_datasets() -> list[str]:
    """List the registered sets of images, whether or not they are on this machine."""
    _fill_registries()
    return list(DATASETS)


@cache
def _fill_registries() -> None:
    """Fill the registries, and warn about folders that do not exist, once per process."""
    from harness.data.pinned import missing_roots
    from harness.data.testsets import register_testsets
    from harness.registry import load_plugins

    for missing in missing_roots():
        warnings.warn(missing, stacklevel=3)
    register_testsets()
    load_plugins()


def _named(rules: Protocol | str) -> Protocol:
    return protocol_called(rules) if isinstance(rules, str) else rules


def _checked(image: ByteArray) -> ByteArray:
    """Return an image if it is one that can be scored.

    Raises:
        UsageError: it has another dtype or shape.
    """
    kind, shape = getattr(image, "dtype", type(image).__name__), np.shape(image)
    if kind != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise UsageError(
            f"An image is {kind} {shape}: give a uint8 array (H, W, 3) or (H, W) in [0, 255]."
        )
    return image


def _score(sr: ByteArray, hr: ByteArray, protocol: Protocol | str, metric: str) -> float:
    _fill_registries()
    rules = _named(protocol)
    sample = make_sample(_checked(hr), rules)
    if _checked(sr).ndim == 2 and hr.ndim == 3:
        raise UsageError("The SR image is grey and the HR image is not: give both in colour.")
    compared = given_sr(sr, hr, rules)
    if compared.shape != sample.hr.shape:
        raise UsageError(f"The SR image is {sr.shape} and the HR image {hr.shape}: give one size.")
    return score(compared, sample, rules, (metric,))[metric]


@contextmanager
def _as_word(images: Images) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield a word for ``--datasets``, and the names of images that are given as arrays.

    Arrays are written to a folder for the time of the block, since each set is read from files.

    Raises:
        UsageError: the images are something else, such as one array.
    """
    if isinstance(images, str):
        yield images, ()
    elif isinstance(images, os.PathLike):
        yield os.path.abspath(images), ()
    elif not isinstance(images, Iterable) or getattr(images, "ndim", 4) < 4:
        raise UsageError(
            f"The images are {_kind(images)}: give the name of a set, a folder, or a list of uint8 "
            "arrays."
        )
    else:
        named = images if isinstance(images, Mapping) else dict(enumerate(images))
        with TemporaryDirectory() as folder:
            for place, image in enumerate(named.values()):
                # Other names could be those of LR images and results, which are left out.
                Image.fromarray(_checked(image)).save(Path(folder, f"{place:06}.png"))
            yield folder, [str(name) for name in named]


def _run_of_name(
    word: str, request: Request, rules: Protocol | None, weights: str | os.PathLike[str] | None
) -> tuple[Run, Sequence[str]]:
    """Plan the run of a registered network, a checkpoint or SR images, with notes for readers.

    Raises:
        HarnessError: it cannot be run.
    """
    from harness.run.plan import plan

    if weights and MODELS.spelling(word.partition(":")[0]) not in MODELS and os.path.exists(word):
        raise UsageError(f"{word} is a checkpoint with its weights: leave out weights.")
    files = {word.partition(":")[0]: (Path(weights),)} if weights else {}
    fields: dict[str, Any] = {}
    if rules:
        names = ("grey", "border", "float_lr", "float_y")
        fields = {name: getattr(rules, name) for name in names}
    planned = plan(replace(request, models=(word,), weight_files=files, **fields))
    if planned.problems:
        raise HarnessError(planned.problems[0])
    if len(planned.runs) != 1:
        raise UsageError("evaluate takes one network and one set: call it for each.")
    (run,) = planned.runs
    if run.asked_for:
        raise HarnessError(
            f"{run.asked_for} has no weights here: harness list weights names them; or evaluate "
            f"{run.card.name}, its smaller sibling."
        )
    if rules and run.rules != rules:
        raise UsageError(
            f"{run.card.name} has the pipeline {run.rules.pipeline}, so {rules.name} does not fit."
        )
    return run, planned.notes


def _upscaler_of_name(run: Run, device: str) -> Upscaler | None:
    """Build a run's network on a device; None for SR images."""
    from harness.models.resources import pick_device
    from harness.run.evaluate import upscaler

    return None if run.published else upscaler(run, pick_device(device))


def _require_module(network: object) -> None:
    """Refuse anything but a built network, such as its class.

    Raises:
        UsageError: it is not a torch module.
    """
    from torch import nn

    if isinstance(network, type):
        raise UsageError(f"Give a network, not its class: {network.__name__}().")
    if not isinstance(network, nn.Module):
        raise UsageError(f"evaluate takes a torch module, a name or a path, not {_kind(network)}.")


def _kind(value: object) -> str:
    """Name the type of a value in an error; of a class, its own name."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _run_of_module(
    network: nn.Module, request: Request, rules: Protocol | None, network_input: NetworkInput
) -> Run:
    """Describe the run of a module that the user has."""
    from harness.data.testsets import select
    from harness.run.plan import find_set
    from harness.run.request import check_lr_images, metrics_of
    from harness.run.spec import Run

    rules = rules or Protocol("rgb", request.scale)
    name = type(network).__name__
    card = ModelCard(name, lambda scale: network, rules.pipeline, network_input, (rules.scale,))
    sets = select(request.datasets)
    check_lr_images(request, sets)
    if len(sets) != 1:
        raise UsageError("evaluate takes one set: call it for each.")
    metrics, image_set = metrics_of(request, [card]), find_set(sets[0], request)
    return Run(card, None, image_set, rules, request.self_ensemble, request.tile, metrics)


def _upscaler_of_module(network: nn.Module, run: Run, device: str | None) -> Upscaler:
    """Copy a module, so that neither its mode nor its buffers nor its parameters change.

    Raises:
        HarnessError: it cannot be copied.
    """
    import torch

    from harness.global_state import random_state_kept
    from harness.models.network import copy_network
    from harness.models.resources import pick_device
    from harness.models.upscaler import Upscaler

    first = next(chain(network.parameters(), network.buffers()), None)
    here = str(first.device) if first is not None else "cpu"
    used = pick_device(device) if device else here
    try:
        copied = copy_network(network)
    except Exception as error:  # a module may hold anything
        raise HarnessError(
            f"{run.card.name} cannot be copied ({sentence(error)}): give the network itself, such "
            "as the module in a DistributedDataParallel."
        ) from error
    with random_state_kept(torch.device(used)):  # for tiles, the network runs once
        return Upscaler(
            run.card,
            run.rules.scale,
            None,
            device=used,
            self_ensemble=run.self_ensemble,
            tile=run.tile,
            network=copied,
        )


def _results(run: Run, upscaler: Upscaler | None, names: Sequence[str]) -> tuple[ImageResult, ...]:
    """Compute the results of all images in the order of the set, or of the given names."""
    import torch

    from harness.global_state import random_state_kept
    from harness.run.evaluate import compute

    images = run.image_set.images
    with random_state_kept(upscaler.device if upscaler else torch.device("cpu")):
        found = {result.image: result for result, _ in compute(run, images, upscaler)}
    if not names:
        return tuple(found[image.name] for image in images)
    written = sorted(images, key=lambda image: image.path.name)
    return tuple(
        replace(found[image.name], image=name) for image, name in zip(written, names, strict=True)
    )
