"""Training a network: one loop for one CPU, one GPU or many."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, sentence
from harness.models.inference import build_network
from harness.run.checkpoints import load_checkpoint, require_same, save_checkpoint
from harness.run.clock import Clock, Mark
from harness.run.devices import (
    all_finite,
    batch_that_fits,
    is_memory,
    numerics_kept,
    training_numerics,
)
from harness.run.interrupts import interrupts_held
from harness.run.patches import PatchSampler
from harness.run.processes import agreed, leave_together, process, summed
from harness.run.train_log import Row, TrainLog
from harness.run.training import Training, validate


class TrainListener(Protocol):
    """Who is told how training goes."""

    def started(self, training: Training, step: int) -> None:
        """Training begins, or goes on after a step."""

    def logged(self, training: Training, row: Row, progress: float) -> None:
        """A line was added to the log."""

    def told(self, sentence: str) -> None:
        """Something that the user should know."""


INTERRUPTED = "Interrupted, the step under way is finished and saved (Ctrl-C again ends at once)"


@dataclass
class State:
    """Everything that changes while training."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf


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
        self.rank, self.world = process(training.device)
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
        self._begun = False

    def run(self) -> nn.Module:
        """Train until the budget is spent; returns the average network, on the CPU.

        Raises:
            HarnessError: loss or weights are not finite, memory runs out, or the disk is full; the
                last good checkpoint is kept.
            KeyboardInterrupt: Ctrl-C; the steps until then are saved.
        """
        if self.rank == 0:
            self.log = TrainLog(self.training.folder / "log.csv", self.state.step)
            self.listener.started(self.training, self.state.step)
        with training_numerics(), interrupts_held(self.listener.told, INTERRUPTED) as stop:
            self._loop(stop.is_set)
        leave_together()
        return self.average.cpu()

    def _loop(self, interrupted: Callable[[], bool]) -> None:
        clock = Clock(self.state.seconds)
        loss_sum, since = torch.zeros((), device=self.device), Mark(clock, self.state.step)
        saved = validated = clock.seconds
        ending = self._progress(clock.seconds) >= 1
        while not ending:
            progress = self._progress(clock.seconds)
            loss_sum += self._step(progress, clock)
            self.state.step += 1
            ending = self._progress(clock.seconds) >= 1
            # Several processes must stop at the same step: they agree where they talk anyway.
            stopped = interrupted()
            pause = ending or (stopped and self.world == 1)
            if not pause and self.state.step % self.training.log_steps:
                continue
            first_clock = clock.seconds if self.rank == 0 else 0.0
            self.state.seconds, any_stopped = agreed(first_clock, stopped, device=self.device)
            row = self._row(since, loss_sum, progress, clock)
            with clock.stopped():
                if ending or self.state.seconds - validated >= self.training.val_seconds:
                    self._validate(row)
                    validated = self.state.seconds
                self._tell(row)
                pause = ending or bool(any_stopped)
                if pause or self.state.seconds - saved >= self.training.save_seconds:
                    self._save("last")
                    saved = self.state.seconds
            if any_stopped and not ending:
                self._tell_how_to_resume()
                return
            loss_sum.zero_()
            since = Mark(clock, self.state.step)

    def _tell(self, row: Row) -> None:
        if self.rank == 0:
            self.log.add(row)
            self.listener.logged(self.training, row, self._progress(self.state.seconds))

    def _tell_how_to_resume(self) -> None:
        if self.rank == 0:
            self.listener.told(
                f"Step {self.state.step} is in {self._path('last')}: go on with --resume"
            )

    def _progress(self, seconds: float) -> float:
        """The share of the budget that is spent."""
        recipe = self.training.recipe
        if recipe.minutes:
            return min(1.0, self._agreed_seconds(seconds) / (60 * recipe.minutes))
        return min(1.0, self.state.step / recipe.steps)

    def _agreed_seconds(self, seconds: float) -> float:
        """Several processes go by the clock reading that they last agreed on."""
        return seconds if self.world == 1 else self.state.seconds

    def _step(self, progress: float, clock: Clock) -> Tensor:
        """One optimiser step; returns the loss without waiting for it."""
        try:
            with clock.waiting():
                batch = self._batch(self.training.recipe.batch, self._share)
            loss = self._optimise(self._forward, progress, *batch)
            self._begun = True
            return loss
        except Exception as error:  # what a network or its compiler raises may be anything
            failure = self._failure(error)
            if failure is None:
                raise
        # Out of the except clause, what the failed step held is free again.
        raise HarnessError(failure or self._what_fits(progress))

    def _batch(self, size: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        return self.sampler.batch(self.state.step, size, share)

    def _optimise(
        self, forward: nn.Module, progress: float, given: Tensor, target: Tensor
    ) -> Tensor:
        recipe = self.training.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(self.state.step, progress)
        bf16 = torch.autocast(self.device.type, torch.bfloat16)
        with bf16 if recipe.precision == "bf16" else nullcontext():
            output = forward(given)
        loss = _LOSSES[recipe.loss](output.float(), target)
        self.optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip, foreach=True)
        self.optimizer.step()
        self._update_average()
        return loss.detach()

    def _failure(self, error: Exception) -> str | None:
        """What to say of an error of a step; empty where it is to be found out, None if unknown."""
        if is_memory(error):
            if self.device.type == "cuda":
                return ""
            return "The memory of this machine is full: use a smaller --batch or --patch."
        if self.training.compile and not self._begun:
            said = " ".join(sentence(error).split())[:200]
            return f"{self.training.card.name} cannot be compiled ({said}): leave out --compile."
        return None

    def _what_fits(self, progress: float) -> str:
        """Which batch would fit; the weights are worth nothing afterwards."""

        def step(size: int) -> None:
            self.optimizer.zero_grad()
            self._optimise(self.network, progress, *self._batch(size))

        size = batch_that_fits(step, self.training.recipe.batch // self.world)
        advice = f"--batch {size * self.world} would fit" if size else "use a smaller --patch"
        return f"The memory of {self.device} is full: {advice}."

    def _update_average(self) -> None:
        """Move the average towards the weights; early on it follows them closely."""
        step = self.state.step
        decay = min(self.training.recipe.ema, (1 + step) / (10 + step))
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(ours, theirs, 1 - decay)
            # Statistics of batch normalisation are averages already.
            pairs = zip(self.average.buffers(), self.network.buffers(), strict=True)
            for ours_too, theirs_too in pairs:
                ours_too.copy_(theirs_too)

    def _row(self, since: Mark, loss_sum: Tensor, progress: float, clock: Clock) -> Row:
        """The log's next line; waits for the device."""
        steps = max(1, self.state.step - since.step)
        loss = float(summed(loss_sum)) / self.world / steps
        if not math.isfinite(loss):
            raise HarnessError(self._diverged("loss"))
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
        self._require_finite()
        with numerics_kept():
            row.psnr, row.ssim = validate(self.training, self.average)
        if row.psnr > self.state.best:
            self.state.best = row.psnr
            self._save("best")

    def _save(self, name: str) -> None:
        if self.rank != 0:
            return
        self._require_finite()
        state = {
            "facts": self.training.facts,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.state.step,
            "seconds": self.state.seconds,
            "best": self.state.best,
            "random": torch.get_rng_state(),
        }
        save_checkpoint(self._path(name), state)

    def _require_finite(self) -> None:
        """A checkpoint, or a score, of what is not finite would be worth nothing."""
        moments = [m for state in self.optimizer.state.values() for m in state.values()]
        networks = (self.network, self.average)
        values = [value for one in networks for value in one.state_dict().values()]
        if not all_finite([*values, *moments]):
            raise HarnessError(self._diverged("state"))

    def _diverged(self, what: str) -> str:
        """That something is not finite, and what is left."""
        last = self._path("last")
        kept = f"the last good checkpoint is {last}" if last.exists() else "nothing was saved yet"
        return (
            f"The {what} of step {self.state.step} is not finite; {kept}: train anew with a lower "
            "--lr or --set clip=1, and another --out."
        )

    def _restore(self, saved: dict[str, Any]) -> None:
        require_same(saved["facts"], self.training.facts)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state = State(saved["step"], saved["seconds"], saved["best"])
        torch.set_rng_state(saved["random"])

    def _path(self, name: str) -> Path:
        return self.training.folder / f"{name}.pt"

    def _wrapped(self) -> nn.Module:
        """The network as the forward pass calls it: compiled, and shared by several processes."""
        wrapped = self.network
        if self.training.compile:
            wrapped = torch.compile(wrapped)  # type: ignore[assignment]
        if self.world > 1:
            gpu = [self.device.index] if self.device.type == "cuda" else None
            wrapped = nn.parallel.DistributedDataParallel(wrapped, device_ids=gpu)
        return wrapped


_LOSSES = {"l1": nn.functional.l1_loss, "l2": nn.functional.mse_loss}
