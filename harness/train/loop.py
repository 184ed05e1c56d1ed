"""The training loop: steps, log lines, validations and checkpoints."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, sentence
from harness.global_state import (
    interrupts_held,
    random_state,
    random_state_kept,
    seed_all,
    set_random_state,
    settings_guarded,
    training_numerics,
)
from harness.models.network import build_network, copy_network
from harness.models.resources import is_memory
from harness.models.weights import load_into
from harness.train.checkpoint import (
    FORMAT,
    Checkpoint,
    LogRow,
    TrainLog,
    load_checkpoint,
    network_values,
    require_same,
    save_checkpoint,
    scored,
)
from harness.train.distributed import (
    Progress,
    SyncSchedule,
    failures_named,
    gathered,
    leave_together,
    process,
    shared_by_processes,
    sharing_notes,
    unused_parameters,
)
from harness.train.export import finish
from harness.train.patches import PatchSampler
from harness.train.spec import (
    Scores,
    State,
    Training,
    TrainListener,
    ValidationError,
    ValidationImages,
    validation_change,
)
from harness.train.step import (
    Acceleration,
    Step,
    accelerate,
    all_finite,
    batch_that_fits,
    keep_ends_in_fp32,
    repeated_blocks,
)


class Clock:
    """Counts the seconds of training, also of earlier processes, and of waiting for patches."""

    def __init__(self, before: float) -> None:
        self._start = time.perf_counter() - before
        self.waited = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, without validation and saving."""
        return time.perf_counter() - self._start

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Do not count the time in this block."""
        begin = time.perf_counter()
        yield
        self._start += time.perf_counter() - begin

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in this block as waiting."""
        begin = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begin


class Lap(NamedTuple):
    """Where training was at the last line of the log: the step, and what its clock showed."""

    step: int
    seconds: float
    waited: float


Result = TypeVar("Result")

SLOW_SECONDS = 1.0
"""If the first step takes longer, the user is told when to expect the first log line."""

COMPILE_SECONDS = 120
"""Blocks are compiled only if a training on a GPU lasts longer than this."""

INTERRUPTED = "Interrupted, the current step will be finished and saved (Ctrl-C again ends at once)"

DEBOUNCE_SECONDS = 1.0
"""Signals within this time count as one: torchrun forwards Ctrl-C a second time."""


def _network(training: Training) -> nn.Module:
    """Build the network at its start, on its device, in channels_last."""
    network = build_network(training.card, training.request.scale, training.request.hyper)
    if training.start:
        load_into(network, training.start, training.card.name)
    network = network.to(training.device).train()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Trainer:
    """Trains a network; can resume from the last checkpoint in the folder of the training.

    Raises:
        HarnessError: the checkpoint cannot be read, or the images are too small.
        UsageError: the checkpoint belongs to another training.
    """

    def __init__(self, training: Training, listener: TrainListener, *, resume: bool) -> None:
        self.training, self.listener = training, listener
        self._checkpoint = training.folder / "last.pt"
        recipe, self.device = training.recipe, torch.device(training.device)
        self.rank, self.world = process(training.device)
        if recipe.batch % self.world:
            raise HarnessError(
                f"A batch of {recipe.batch} cannot be shared by {self.world} processes: "
                "choose a multiple."
            )
        share = recipe.batch // self.world
        self._share = slice(self.rank * share, (self.rank + 1) * share)
        seed_all(recipe.seed)
        self.network = _network(training)
        self.average = copy_network(self.network).requires_grad_(False)
        if self.world > 1 and self.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        alone_on_gpu = self.device.type == "cuda" and self.world == 1
        self.step = Step(self.network, self.average, recipe, replayable=alone_on_gpu)
        self.state, self.acceleration = State(), Acceleration()
        self._validated_on = training.validated_on
        self._interrupted: Callable[[], bool] = bool
        if self.rank:  # each process needs its own random values
            seed_all(recipe.seed + self.rank)
        if resume:
            self._resume()
        enlarged, seed = training.card.input == "bicubic", recipe.seed
        self.sampler = PatchSampler(
            training.images, recipe.patch, enlarged=enlarged, device=training.device, seed=seed
        )
        if self.world > 1:
            self.step.forward = self._shared()
        self.progress = Progress(self.training.recipe, self.device)

    def run(self) -> nn.Module:
        """Train until the budget or the time is used up; return the average network, on the CPU.

        Raises:
            HarnessError: loss or weights are not finite, memory runs out, or the disk is full; the
                last good checkpoint is kept.
            KeyboardInterrupt: the user pressed Ctrl-C; the steps until then are saved.
        """
        if self.rank == 0:
            self.log = TrainLog(self.training.folder, self.state.step)
            # The checkpoint was written before the validation of its step: add that score.
            rows = scored(self.log.rows, self.state.validated_from)
            scores = [row.psnr or 0 for row in rows if row.step == self.state.step]
            self.state.best = max(self.state.best, *scores, -math.inf)
            self.listener.started(self.training, self.state.step)
        signals = [signal.SIGINT, signal.SIGTERM]  # batch systems send SIGTERM
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else under nohup
            signals.append(signal.SIGHUP)
        interrupts = interrupts_held(self._notify, INTERRUPTED, signals, debounce=DEBOUNCE_SECONDS)
        try:
            with training_numerics(), interrupts as stop:
                self._interrupted = stop.is_set
                self._train()
        finally:
            if self.rank == 0 and not self.state.step:  # a save that only measured the time
                self._checkpoint.unlink(missing_ok=True)
        if not self.state.step:
            raise HarnessError(
                f"No step was taken in {self.training.recipe.stop_after:.0f} s: use a longer "
                "--stop-after."
            )
        return self.average.cpu()

    def _train(self) -> None:
        if not self._begin():
            self._accelerate()
            self._loop()
        stopped = self._agree(self.state.seconds)
        if self.rank == 0:
            self._close(stopped=stopped)
        leave_together()
        if stopped:
            raise KeyboardInterrupt

    def how(self) -> dict[str, Any]:
        """How steps were carried out, for the provenance of the weights."""
        acceleration = self.acceleration
        return {
            "compiled": bool(acceleration.compiled),
            "compiled_blocks": acceleration.compiled,
            "replayed": acceleration.replayed,
            "plain_step_ms": acceleration.plain_ms,
            "step_ms": acceleration.ms,
            "processes": self.world,
            "threads": torch.get_num_threads(),
        }

    def _accelerate(self) -> None:
        """Make steps as fast as the device allows; on a CPU, only if the user asked to compile."""
        cuda = self.device.type == "cuda"
        if cuda and self.training.recipe.precision == "bf16":
            keep_ends_in_fp32(self.network, self._batch(1)[0])
        replay = cuda and self.world == 1
        if self._is_over() or not (replay or self.training.request.compile):
            return
        self.acceleration = self._guarded(
            lambda: accelerate(
                self.step,
                self._batch(self.training.recipe.batch, self._share),
                # At the highest rate, to detect steps that change nothing.
                lambda ahead: self._rates(ahead, 0.0),
                blocks=self._to_compile,
                replay=replay,
                notify=self._notify,
            )
        )
        self._notify(str(self.acceleration))

    def _to_compile(self, seconds: float) -> list[nn.Module]:
        """The modules to compile, given the seconds of a plain step."""
        compiling = self.training.request.compile
        if compiling is None:
            left = self.progress.seconds_left(self.state.step, self.state.seconds, seconds)
            compiling = self.world == 1 and left > COMPILE_SECONDS
        blocks = repeated_blocks(self.network) if compiling else []
        return blocks or [self.network] * bool(self.training.request.compile)

    def _begin(self) -> bool:
        """Try a validation and a save before the first step, so that errors lose no work.

        Return whether training was interrupted.
        """
        first = self.rank == 0 and bool(self.training.validation)
        if self._is_over():
            last = self.log.rows[-1] if first and self.log.rows else None
            if last and last.step == self.state.step and last.psnr is None:
                self._validate(last)  # the last validation was stopped
            return self._agree(self.state.seconds)
        if first:
            self._validate_first()
        if self.training.recipe.stop_after:
            self._save()  # measures how long a save takes
        return self._agree(self.state.seconds)

    def _loop(self) -> None:
        """Take steps until the budget is spent, or until training is interrupted."""
        clock, request = Clock(self.state.seconds), self.training.request
        loss_sum = torch.zeros((), device=self.device)
        since = Lap(self.state.step, clock.seconds, clock.waited)
        saved = validated = self.state.seconds
        schedule = SyncSchedule(self.state.step, self.state.seconds, alone=self.world == 1)
        cuda = self.device.type == "cuda"
        stopped, ending = self._agree(clock.seconds), self._is_over()
        while not (ending or stopped):
            progress = self.progress.share(self.state.step, self.state.seconds)
            loss_sum += self._step(progress, clock)
            self.state.step += 1
            if self.state.step == 1:
                self._announce_pace(clock.seconds)
            line = self.state.step % request.log_every == 0
            if line or schedule.due(self.state.step) or self._is_over():
                stopped = self._agree(clock.seconds)
                schedule.done(self.state.step, self.state.seconds)
            ending = self._is_over()
            if not (line or ending or stopped):
                if cuda and self.training.recipe.stop_after and not self.state.step % 10:
                    torch.cuda.synchronize(self.device)  # else queued steps pile up
                continue
            row = self._row(since, loss_sum, progress, clock)
            with clock.stopped():
                seconds = self.state.seconds
                due = not stopped and seconds - validated >= request.validate_every
                validating = ending or due
                if validating or stopped or seconds - saved >= request.save_every:
                    self._save()
                    saved = seconds
                if validating:
                    validated = seconds
                self._log(row, validating=validating)
            loss_sum.zero_()
            since = Lap(self.state.step, clock.seconds, clock.waited)

    def _agree(self, seconds: float) -> bool:
        """Use the clock of the first process; return whether any process was interrupted."""
        self.state.seconds, stopped = self.progress.agree(seconds, stopped=self._interrupted())
        return stopped

    def _is_over(self) -> bool:
        return self.progress.is_over(self.state.step, self.state.seconds)

    def _log(self, row: LogRow, *, validating: bool) -> None:
        """Add a line to the log, with scores if a validation is due."""
        if self.rank != 0:
            return
        self.log.add(row)
        try:
            if validating and self.training.validation:
                self._validate(row)
        finally:
            share = self.progress.share(self.state.step, self.state.seconds)
            self.listener.logged(self.training, row, share)

    def _notify(self, sentence: str) -> None:
        """Show a sentence to the user, from the first process only."""
        if self.rank == 0:
            self.listener.notify(sentence)

    def _announce_pace(self, seconds: float) -> None:
        """On a slow CPU, tell the user when to expect the first line of the log."""
        steps, lines = self.training.recipe.steps, self.training.request.log_every
        if seconds < SLOW_SECONDS or 0 < steps <= lines or self.device.type != "cpu":
            return
        total = f", all {steps:,} in {steps * seconds / 3600:.1f} h" if steps else ""
        self._notify(
            f"The first step took {seconds:.1f} s: the first line of the log, after {lines} steps, "
            f"comes in about {lines * seconds / 60:.1f} min{total}"
        )

    def _close(self, *, stopped: bool) -> None:
        """Close the log; if training is not complete, tell the user how to resume."""
        self.log.close()
        incomplete = stopped or self.progress.share(self.state.step, self.state.seconds) < 1
        if incomplete and self.state.step:
            self.listener.notify(
                f"Step {self.state.step} is in {self._checkpoint}: go on with --resume and "
                "otherwise the same options"
            )

    def _step(self, progress: float, clock: Clock) -> Tensor:
        """Carry out one optimiser step; return the loss without waiting for the device."""

        def step() -> Tensor:
            with clock.waiting():
                batch = self._batch(self.training.recipe.batch, self._share)
            return self.step(*batch, *self._rates(0, progress))

        return self._guarded(step)

    def _guarded(self, action: Callable[[], Result]) -> Result:
        """Call an action; errors of the network and a lack of memory become a `HarnessError`."""
        try:
            with failures_named():
                return action()
        except HarnessError:
            raise
        except Exception as error:  # a network may raise anything
            if not is_memory(error):
                patch = self.training.recipe.patch
                raise HarnessError(
                    f"A step fails on patches of {patch} LR pixels ({sentence(error)}): fix the "
                    "plug-in, or use another --patch."
                ) from error
        # Outside of the except clause, the memory of the failed step is free again.
        raise HarnessError(self._what_fits())

    def _batch(self, size: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        return self.sampler.batch(self.state.step, size, share)

    def _rates(self, ahead: int, progress: float) -> tuple[float, float]:
        """Learning rate and decay of the average, at this step or ``ahead`` steps later."""
        recipe, step = self.training.recipe, self.state.step + ahead
        return recipe.rate(step, progress), recipe.decay(step)

    def _what_fits(self) -> str:
        """Say which batch size would fit; the trial steps spoil the weights."""
        if self.device.type != "cuda" or self.world > 1:  # a trial needs all processes
            where = self.device if self.device.type == "cuda" else "this machine"
            return f"The memory of {where} is full: use a smaller --batch or --patch."
        self.step.release()
        self.step.forward = self.network

        def step(size: int) -> None:
            self.step.optimizer.zero_grad()
            self.step(*self._batch(size), *self._rates(0, 0.0))

        size = batch_that_fits(step, self.training.recipe.batch)
        advice = f"--batch {size} would fit" if size else "use a smaller --patch"
        return f"The memory of {self.device} is full: {advice}."

    def _row(self, since: Lap, loss_sum: Tensor, progress: float, clock: Clock) -> LogRow:
        """The next line of the log; waits for the device."""
        steps = self.state.step - since.step
        loss = sum(gathered(float(loss_sum))) / self.world / steps
        if not math.isfinite(loss):
            raise HarnessError(self._diverged("loss"))
        spent = max(clock.seconds - since.seconds, 1e-9)
        return LogRow(
            step=self.state.step,
            seconds=round(self.state.seconds, 2),
            loss=loss * self.training.recipe.loss_factor,
            lr=self.training.recipe.rate(self.state.step - 1, progress),
            rate=steps / spent,
            data_share=(clock.waited - since.waited) / spent,
        )

    def _validate(self, row: LogRow) -> None:
        """Score the average network, and keep it if it is the best so far."""
        self._require_finite()
        scores = self._scores()
        self._exclude_infinite(scores, self.state.step - 1)
        means = scores.means(self.state.left_out) if scores else None
        if scores is None or means is None:
            return
        self.state.scores = self.state.step, scores
        row.psnr, row.ssim = means
        self.log.score(row)
        if row.psnr > self.state.best:
            self.state.best = row.psnr
            with self.progress.measured("saving"):
                rows = self.log.rows
                finish(self.training, self.average, self.state, rows, self.how(), best=True)
        with self.progress.measured("drawing"):
            self.listener.validated(self.training, self.log.rows)

    def _validate_first(self) -> None:
        """Tell the user the scores at the start; turn validation off if it takes too long."""
        count = len(self.training.validation)
        self._notify(f"First, the network is scored on {count} image{'' if count == 1 else 's'}")
        scores = self._scores()
        if scores and (means := scores.means()):
            psnr, ssim = means
            self._notify(f"The network starts at {psnr:.3f} dB / {ssim:.4f}")
        seconds = self.progress.longest["validation"]
        if self.training.validation and self.progress.left() < 2 * seconds:
            self._stop_validating(f"A validation takes {seconds:.0f} s, too long for the time left")
        self._exclude_infinite(scores, self.state.step)

    def _scores(self) -> Scores | None:
        """Score the average network with the evaluation code, in fp32.

        Returns:
            the scores; None if training was interrupted, or if memory ran out.

        Raises:
            HarnessError: the network cannot be scored on one of the images.
        """
        try:
            with (
                settings_guarded(set()),
                random_state_kept(self.device),
                self.progress.measured("validation"),
            ):
                # A copy: scoring may move the network, and a CUDA graph needs its addresses.
                return self.training.validate(copy_network(self.average), self._interrupted)
        except ValidationError as error:
            step = self.state.step  # that of the last checkpoint
            advice = f"step {step} is saved, go on with --resume and" if step else "use"
            raise HarnessError(
                f"{error}: {advice} other images (--val-data) or none (--set val_images=0)."
            ) from error
        except Exception as error:  # a network may raise anything
            if not is_memory(error):
                raise
            image = f" on {error}" if isinstance(error, MemoryError) else ""
            self._stop_validating(f"The memory of {self.device} is too small to validate{image}")
        return None

    def _stop_validating(self, why: str) -> None:
        self.progress.longest.pop("validation", None)
        self.training = replace(self.training, validation=ValidationImages())
        self._notify(f"{why}: training goes on without validation")

    def _exclude_infinite(self, scores: Scores | None, before: int) -> None:
        """Exclude images with an infinite PSNR from all later means.

        Means over different images cannot be compared, so the best weights are then chosen among
        the validations after step ``before``.
        """
        new = scores.infinite - self.state.left_out if scores else frozenset()
        if scores and new:
            self.state.left_out |= new
            self.state.best, self.state.validated_from = -math.inf, before
            names = ", ".join(scores.images[number][0] for number in sorted(new))
            self._notify(f"The PSNR of {names} is infinite: left out of the mean from now on")

    def _save(self) -> None:
        """Write a checkpoint, from which training can resume."""
        random_states = gathered(random_state(self.device))
        if self.rank != 0:
            return
        self._require_finite()
        origin = self.training.origin
        state: Checkpoint = {
            "format": FORMAT,
            "facts": self.training.facts,
            "recipe": asdict(self.training.recipe),
            "validated_on": self._validated_on,
            "network": network_values(self.network, self.average),
            "average": self.average.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "step": self.state.step,
            "seconds": self.state.seconds,
            "best": self.state.best,
            "validated_from": self.state.validated_from,
            "left_out": sorted(self.state.left_out),
            "origin": dict(origin) if origin else None,
            "acceleration": asdict(self.acceleration),
            "random": random_states,
        }
        with self.progress.measured("saving"):
            save_checkpoint(self._checkpoint, state)

    def _require_finite(self) -> None:
        """Raise an error if weights or moments are not finite, before a save or a validation."""
        networks = (self.network, self.average)
        values = [value for network in networks for value in network.state_dict().values()]
        if not all_finite([*values, *self.step.moments()]):
            raise HarnessError(self._diverged("state"))

    def _diverged(self, what: str) -> str:
        """The message for a loss or state that is not finite."""
        last = self._checkpoint
        saved = f"the last good checkpoint is {last}" if last.exists() else "nothing was saved yet"
        return (
            f"The {what} of step {self.state.step} is not finite; {saved}: train again with a "
            "lower --lr or --set clip=1, and another --out."
        )

    def _resume(self) -> None:
        saved = load_checkpoint(self._checkpoint)
        try:
            self._restore(saved)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise HarnessError(
                f"The checkpoint {self._checkpoint} is not as training wrote it "
                f"({sentence(error)}): remove it and start the training again."
            ) from error

    def _restore(self, saved: Checkpoint) -> None:
        recipe, facts = self.training.recipe, saved["facts"]
        if not (recipe.steps or recipe.minutes):
            # With a time limit only, the budget is that of the checkpoint.
            budget = {name: facts[f"recipe.{name}"] for name in ("steps", "minutes")}
            self.training = replace(self.training, recipe=replace(recipe, **budget))
        require_same(facts, self.training.facts)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.step.load_moments(saved["optimizer"])
        self.state = State(
            saved["step"],
            saved["seconds"],
            saved["best"],
            saved["validated_from"],
            frozenset(saved["left_out"]),
        )
        self.training = replace(self.training, origin=saved["origin"])
        self.acceleration = Acceleration(**saved["acceleration"])
        if self.rank < len(saved["random"]):
            set_random_state(saved["random"][self.rank], self.device)
        changed = validation_change(saved["validated_on"], self._validated_on)
        if changed:
            self.state.best, self.state.validated_from = -math.inf, self.state.step
            self.state.left_out = frozenset()
            self._notify(changed)

    def _shared(self) -> nn.Module:
        """The network, shared by the processes; adds notes for the user."""
        with random_state_kept(self.device):
            # Two patches: batch normalisation after global pooling fails on a batch of one.
            unused = self._guarded(lambda: unused_parameters(self.network, self._batch(2)))
        # If layers are dropped at random, processes see different ones and must agree.
        unused = list(dict.fromkeys(name for names in gathered(unused) for name in names))
        share = self.training.recipe.batch // self.world
        notes = sharing_notes(self.network, unused, share)
        self.training = replace(self.training, notes=(*self.training.notes, *notes))
        return shared_by_processes(self.network, self.device, some_unused=bool(unused))
