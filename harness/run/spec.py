"""Types of runs: the run itself, what runs share, their listener and their executor."""

from __future__ import annotations

import typing
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.cards import ModelCard
from harness.errors import HarnessError
from harness.models.source import metrics_digest, network_digest, network_source, plugins
from harness.protocol.rules import Protocol
from harness.record import Execution, Identity, ImageResult, RunRecord
from harness.run.store import ResultStore

if TYPE_CHECKING:
    from harness.data.identify import ImageSet
    from harness.models.cost import Complexity
    from harness.models.published import PublishedImages
    from harness.models.weights import Weights
    from harness.record import PluginFacts


@dataclass(frozen=True)
class Run:
    """One model on one set under one protocol: everything that determines the scores.

    Attributes:
        weights: None for a model without parameters.
        published: the SR images that are scored in place of a network's output, if any.
        metrics: registered names, ``psnr`` and ``ssim`` first.
        asked_for: the requested model, if this model runs in its place.
        tag: that of the weights, if a plan has several weights of the model.
    """

    card: ModelCard
    weights: Weights | None
    image_set: ImageSet
    rules: Protocol
    self_ensemble: bool = False
    tile: int | None = None
    metrics: tuple[str, ...] = ("psnr", "ssim")
    asked_for: str = ""
    published: PublishedImages | None = None
    tag: str = ""

    @property
    def name(self) -> str:
        """The model, with the tag of its weights if there are several, such as ``mine:a``."""
        return f"{self.card.name}:{self.tag}" if self.tag else self.card.name

    @property
    def title(self) -> str:
        """The title of the run in messages."""
        return f"{self.name} on {self.image_set.card.title} ({self.rules.name})"

    @cached_property
    def identity(self) -> Identity:
        """The identity in the record of the run."""
        if self.published:
            return self._identity("", 0, sr_sha256=self.published.sha256)
        from harness.models.upscaler import INFERENCE

        hyper = dict(self.weights.hyper) if self.weights else {}
        return self._identity(
            network_digest(self.card, self.rules.scale, hyper, self.weights),
            INFERENCE,
            weights_sha256=self.weights.info.tensors_sha256 if self.weights else None,
            hyper=hyper,
            tile=self.tile,
            lr_sha256=self.image_set.lr_sha256,
        )

    def _identity(self, source_sha256: str, inference: int, **others: Any) -> Identity:
        """Make an identity from what made the images, and from what they are scored by."""
        return Identity(
            model=self.card.name,
            scale=self.rules.scale,
            dataset=self.image_set.card.name,
            protocol=self.rules.name,
            source_sha256=source_sha256,
            protocol_sha256=self.rules.sha256,
            dataset_sha256=self.image_set.sha256,
            inference=inference,
            self_ensemble=self.self_ensemble,
            metrics=self.metrics,
            metrics_sha256=metrics_digest(self.metrics),
            **others,
        )

    def plugins(self) -> dict[str, PluginFacts]:
        """Where the model, the metrics and the set came from, for the record of the run."""
        hyper = self.identity.hyper
        source = network_source(self.card, self.rules.scale, hyper, self.weights)
        return plugins(self.card, source, self.metrics, self.image_set.card.name)

    def complexity(self) -> Complexity:
        """Parameters and MACs of the network; cached, because counting can take seconds."""
        from harness.models.cost import measure_complexity

        hyper, source = self.identity.hyper, self.identity.source_sha256
        return measure_complexity(self.card, self.rules.scale, hyper, source_sha256=source)


class Listener(typing.Protocol):
    """Receives the progress of runs; several may be in progress at once."""

    def notify(self, sentence: str) -> None:
        """Receive a sentence for the user."""

    def started(self, run: Run, total: int, known: int) -> None:
        """A run begins; ``known`` of its ``total`` images are already computed."""

    def image(self, run: Run, result: ImageResult) -> None:
        """An image is finished."""


class WorkersError(HarnessError):
    """The workers cannot be reached or used, so no run can go on."""


@dataclass(frozen=True)
class RunContext:
    """What all runs of a command share; nothing here changes their scores.

    Attributes:
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        force: compute finished runs again.
        save_images: the folder for SR images, saved in ``x<scale>/<set>/<model>-<id12>`` below it.
        unsaved: the first error of each run whose SR images could not all be saved, by its id.
    """

    store: ResultStore
    listener: Listener
    device: str = "auto"
    force: bool = False
    save_images: Path | None = None
    unsaved: dict[str, str] = field(default_factory=dict)


Outcomes: TypeAlias = Generator[RunRecord | HarnessError, None, None]
"""The record or the error of each run, as the runs end."""


class Executor(typing.Protocol):
    """Carries out runs: in this process, or on the workers of a cluster."""

    def execution(self) -> Execution:
        """The device and threads of a process that carries out runs.

        Raises:
            UsageError: the device does not exist.
            WorkersError: there are no workers.
        """

    def free_bytes(self) -> int | None:
        """The free memory for such a process on its device; None if unknown."""

    def carry_out(self, runs: Sequence[Run]) -> Outcomes:
        """Carry out runs; if one fails, its record states the error and the others go on.

        Runs that another process carries out come last.
        """
