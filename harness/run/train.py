"""Training a network: one loop for one CPU, one GPU or many."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.data.training import TrainingImages
from harness.errors import HarnessError, UsageError
from harness.models.inference import Upscaler, build_network
from harness.protocol import protocols
from harness.run.checkpoints import load_checkpoint, require_same, save_checkpoint
from harness.run.clock import Clock, Mark
from harness.run.patches import PatchSampler
from harness.run.recipes import Recipe
from harness.run.train_log import Row
from harness.specs import ModelCard


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how.

    Attributes:
        card: the network.
        scale: the factor.
        hyper: arguments of the network.
        recipe: see `Recipe`.
        images: what patches are cut from.
        validation: samples the average network is scored on; never of a test set.
        folder: gets checkpoints, log and weights.
        device: where it runs; one process of several has its own.
        compile: run the network through ``torch.compile``.
        skip_small: leave out images that are smaller than a patch.
        val_seconds: between validations.
        save_seconds: between checkpoints.
        log_steps: between lines of the log.
    """

    card: ModelCard
    scale: int
    hyper: Mapping[str, Any]
    recipe: Recipe
    images: TrainingImages
    validation: Sequence[protocols.Sample]
    folder: Path
    device: str = "cpu"
    compile: bool = False
    skip_small: bool = False
    val_seconds: float = 300.0
    save_seconds: float = 120.0
    log_steps: int = 50

    @property
    def rules(self) -> protocols.Protocol:
        """The protocol of the network's pipeline."""
        return protocols.Protocol(self.card.pipeline, self.scale)

    @property
    def facts(self) -> dict[str, Any]:
        """What must agree for a checkpoint to be continued."""
        same = {"model": self.card.name, "scale": self.scale, "hyper": dict(self.hyper)}
        values = {f"recipe.{k}": v for k, v in asdict(self.recipe).items()}
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        source = {"source": self.card.source_digest(), "images": self.images.sha256}
        return same | lists | source


class TrainListener(Protocol):
    """Who is told how training goes."""

    def logged(self, training: Training, rows: Sequence[Row], progress: float) -> None:
        """A line was added to the log's rows."""


@dataclass
class State:
    """Everything that changes while training."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    log: list[Row] = field(default_factory=list)


class Trainer:
    """A network under training, resumable at any checkpoint.

    Args:
        training: what to do.
        listener: who is told.
        resume: go on from the folder's last checkpoint.

    Raises:
        HarnessError: the checkpoint cannot be read, or the images are too small.
        UsageError: the checkpoint is of another training.
    """

    def __init__(self, training: Training, listener: TrainListener, *, resume: bool) -> None:
        self.training, self.listener = training, listener
        recipe, self.device = training.recipe, torch.device(training.device)
        self.rank, self.world = process()
        if recipe.batch % self.world:
            raise HarnessError(
                f"A batch of {recipe.batch} cannot be shared by {self.world} processes: "
                "choose a multiple."
            )
        share = recipe.batch // self.world
        self._share = slice(self.rank * share, (self.rank + 1) * share)
        torch.manual_seed(recipe.seed)
        network = build_network(training.card, training.scale, training.hyper)
        network = network.to(self.device).train()
        self.network: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(),
            lr=recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.eps,
            fused=True,
        )
        self.state = State()
        if resume:
            self._restore(load_checkpoint(self._path("last")))
        self.sampler = PatchSampler(
            training.images,
            recipe.patch,
            enlarged=training.card.input == "bicubic",
            device=training.device,
            seed=recipe.seed,
            skip_small=training.skip_small,
        )
        self._forward = self._wrapped()

    def run(self) -> nn.Module:
        """Train until the budget is spent; returns the average network, on the CPU.

        Raises:
            HarnessError: the loss is not finite, memory runs out, or the disk is full; the last
                good checkpoint is kept.
        """
        fast_kernels(self.device)
        clock = Clock(self.state.seconds)
        loss_sum, since = torch.zeros((), device=self.device), Mark(clock, self.state.step)
        saved = validated = clock.seconds
        ending = self._progress(clock.seconds) >= 1
        while not ending:
            progress = self._progress(clock.seconds)
            loss_sum += self._step(progress, clock)
            self.state.step += 1
            ending = self._progress(clock.seconds) >= 1
            if not ending and self.state.step % self.training.log_steps:
                continue
            self.state.seconds = self._agree(clock.seconds)
            row = self._row(since, loss_sum, progress, clock)
            if ending or self.state.seconds - validated >= self.training.val_seconds:
                with clock.stopped():
                    self._validate(row)
                validated = self.state.seconds
            self.state.log.append(row)
            if self.rank == 0:
                self.listener.logged(
                    self.training, self.state.log, self._progress(self.state.seconds)
                )
            if ending or self.state.seconds - saved >= self.training.save_seconds:
                with clock.stopped():
                    self._save("last")
                saved = self.state.seconds
            loss_sum.zero_()
            since = Mark(clock, self.state.step)
        leave_together()
        return self.average.cpu()

    def _progress(self, seconds: float) -> float:
        """The share of the budget that is spent."""
        recipe = self.training.recipe
        if recipe.minutes:
            return min(1.0, self._agreed_seconds(seconds) / (60 * recipe.minutes))
        return min(1.0, self.state.step / recipe.steps)

    def _agreed_seconds(self, seconds: float) -> float:
        """Several processes go by the clock reading that they last agreed on."""
        return seconds if self.world == 1 else self.state.seconds

    def _agree(self, seconds: float) -> float:
        if self.world == 1:
            return seconds
        shared = torch.tensor([seconds], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def _step(self, progress: float, clock: Clock) -> Tensor:
        """One optimiser step; returns the loss without waiting for it."""
        recipe = self.training.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.state.step, progress)
        with clock.waiting():
            given, target = self.sampler.batch(self.state.step, recipe.batch, self._share)
        bf16 = torch.autocast(self.device.type, torch.bfloat16)
        try:
            with bf16 if recipe.precision == "bf16" else nullcontext():
                output = self._forward(given)
            loss = _LOSSES[recipe.loss](output.float(), target)
            self.optimizer.zero_grad()
            loss.backward()
        except torch.OutOfMemoryError as error:
            raise HarnessError(self._what_fits(given, target)) from error
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip, foreach=True)
        self.optimizer.step()
        self._update_average()
        return loss.detach()

    def _update_average(self) -> None:
        """Move the average towards the weights; early on it follows them closely."""
        step = self.state.step
        decay = min(self.training.recipe.ema, (1 + step) / (10 + step))
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(ours, theirs, 1 - decay)

    def _row(self, since: Mark, loss_sum: Tensor, progress: float, clock: Clock) -> Row:
        """The log's next line; waits for the device."""
        loss = float(loss_sum) / max(1, self.state.step - since.step)
        if not math.isfinite(loss):
            raise HarnessError(
                f"The loss is {loss} at step {self.state.step}: the last good checkpoint is "
                f"{self._path('last')}; resume it with another seed, or lower --lr."
            )
        lr = self.training.recipe.rate(self.state.step - 1, progress)
        return Row(
            self.state.step,
            round(self.state.seconds, 2),
            loss * 255,
            lr,
            since.rate(self.state.step),
            since.data_share(),
        )

    def _validate(self, row: Row) -> None:
        """Score the average network with the evaluation code itself, in fp32."""
        if self.rank != 0 or not self.training.validation:
            return
        row.psnr, row.ssim = validate(self.training, self.average)
        fast_kernels(self.device)
        if row.psnr > self.state.best:
            self.state.best = row.psnr
            self._save("best")

    def _save(self, name: str) -> None:
        if self.rank != 0:
            return
        state = {
            "facts": self.training.facts,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.state.step,
            "seconds": self.state.seconds,
            "best": self.state.best,
            "log": [asdict(row) for row in self.state.log],
            "random": torch.get_rng_state(),
        }
        save_checkpoint(self._path(name), state)

    def _restore(self, saved: dict[str, Any]) -> None:
        require_same(saved["facts"], self.training.facts)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        log = [Row(**row) for row in saved["log"]]
        self.state = State(saved["step"], saved["seconds"], saved["best"], log)
        torch.set_rng_state(saved["random"])

    def _path(self, name: str) -> Path:
        return self.training.folder / f"{name}.pt"

    def _wrapped(self) -> nn.Module:
        """The network as the forward pass calls it: compiled, and shared by several processes."""
        wrapped = self.network
        if self.training.compile:
            wrapped = torch.compile(wrapped)  # type: ignore[assignment]
        if self.world > 1:
            wrapped = nn.parallel.DistributedDataParallel(wrapped)
        return wrapped

    def _what_fits(self, given: Tensor, target: Tensor) -> str:
        """Which batch would fit, found by halving it."""
        size = len(given)
        while size > 1:
            size //= 2
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()
            try:
                _LOSSES["l1"](self.network(given[:size]).float(), target[:size]).backward()
            except torch.OutOfMemoryError:
                continue
            batch = size * self.world
            return f"The memory of {self.device} is full: --batch {batch} would fit."
        return f"The memory of {self.device} is full: use a smaller --patch."


_LOSSES = {"l1": nn.functional.l1_loss, "l2": nn.functional.mse_loss}


def validate(training: Training, network: nn.Module) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM of a network on the validation samples."""
    upscaler = Upscaler(
        training.card, training.scale, None, device=training.device, network=network
    )
    rules, enlarged = training.rules, training.card.input == "bicubic"
    scores = []
    for sample in training.validation:
        output = upscaler(protocols.network_input(sample.lr, rules, enlarged=enlarged))
        sr = protocols.sr_image(output, sample)
        scores.append(protocols.score(sr, sample, rules, ("psnr", "ssim")))
    psnr, ssim = (sum(s[name] for s in scores) / len(scores) for name in ("psnr", "ssim"))
    return psnr, ssim


def process() -> tuple[int, int]:
    """Rank and number of the processes that ``torchrun`` started; 0 and 1 without it.

    Joins their group on the first call.

    Raises:
        UsageError: ``WORLD_SIZE`` is no number.
        HarnessError: the group cannot be joined.
    """
    world = _number("WORLD_SIZE", "1")
    if world == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        try:
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        except (ValueError, RuntimeError) as error:
            raise HarnessError(
                f"The {world} processes do not find each other ({error}): start them with torchrun."
            ) from error
    return torch.distributed.get_rank(), world


def leave_together() -> None:
    """Wait for the other processes before their group ends.

    The first process validates and saves last; one that left before it would break its links.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def process_device(device: str) -> str:
    """The device of this process: each of several on one machine has a GPU of its own."""
    if device != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    return f"cuda:{_number('LOCAL_RANK', '0')}"


def _number(variable: str, default: str) -> int:
    """What torchrun says in the environment."""
    text = os.environ.get(variable, default)
    if not text.isdecimal():
        raise UsageError(f"{variable} is {text!r}, no number: unset it, or leave it to torchrun.")
    return int(text)


def fast_kernels(device: torch.device) -> None:
    """Let cuDNN choose its fastest kernels; scoring switches back by itself."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.benchmark = True
