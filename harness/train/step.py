"""One optimiser step: run eagerly, with compiled blocks, or replayed from a CUDA graph.

Each faster way is tried on one batch before it is used: its losses must be those of the plain step,
or it is left out with a sentence.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import sentence
from harness.global_state import host_random_state, random_state_kept
from harness.models.network import copy_network, require_images
from harness.train.distributed import agreed
from harness.train.recipe import Recipe

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": nn.functional.l1_loss,
    "l2": nn.functional.mse_loss,
}


class Step:
    """Forward pass, loss, backward pass, clipped gradients, Adam, running average.

    Args:
        network: what is trained, on its device.
        average: a copy of it that follows its weights.
        recipe: loss, precision, clipping and Adam's values.
        replayable: keep learning rate and decay as tensors, which a CUDA graph reads anew at each
            replay; otherwise they are numbers.
    """

    def __init__(
        self, network: nn.Module, average: nn.Module, recipe: Recipe, *, replayable: bool
    ) -> None:
        self.network, self.average, self.recipe = network, average, recipe
        self.forward: Callable[[Tensor], object] = network
        self.device = next(network.parameters()).device
        self._replayable = replayable
        self._rate, self._move = (torch.zeros((), device=self.device) for _ in range(2))
        self._replay: Callable[[Tensor, Tensor], Tensor] | None = None
        self.optimizer = torch.optim.Adam(
            network.parameters(),
            lr=self._rate if replayable else recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.eps,
            fused=True,
            capturable=replayable,
        )
        # Steps that are tried before they are recorded would make it warn.
        self.optimizer._warned_capturable_if_run_uncaptured = True

    def __call__(self, given: Tensor, target: Tensor, rate: float, decay: float) -> Tensor:
        """Change the weights once.

        Args:
            given: what the network is given.
            target: the images it should make of it.
            rate: the learning rate.
            decay: of the running average.

        Returns:
            the loss before the step, without waiting for it. A replayed step overwrites it.

        Raises:
            HarnessError: the network makes something else than images of the target's size.
        """
        if not self._replayable:
            return self._run(given, target, rate, 1 - decay)
        self._rate.fill_(rate)
        self._move.fill_(1 - decay)
        if self._replay is None:
            return self._run(given, target, self._rate, self._move)
        return self._replay(given, target)

    def load_moments(self, saved: Mapping[str, Any]) -> None:
        """Go on with the moments of a checkpoint, whichever way its steps were taken.

        Args:
            saved: the state of the optimizer.
        """
        own = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(dict(saved))
        for group, values in zip(self.optimizer.param_groups, own, strict=True):
            group |= values

    def capture(self, given: Tensor, target: Tensor) -> None:
        """Record the step once, to be replayed from now on for batches of this shape.

        The step must have run on such a batch before, so that its kernels are chosen.

        Raises:
            RuntimeError: something in the step cannot be recorded.
        """
        first, second = (torch.empty_like(one).copy_(one) for one in (given, target))
        replay, loss = record(lambda: self._run(first, second, self._rate, self._move))

        def run(given: Tensor, target: Tensor) -> Tensor:
            first.copy_(given)
            second.copy_(target)
            replay()
            return loss

        self._replay = run

    def release(self) -> None:
        """Run eagerly from now on."""
        self._replay = None

    @contextmanager
    def on_trial(self) -> Iterator[None]:
        """Whatever steps in here change is taken back, in the same memory."""
        kept = [(value, value.detach().clone()) for value in self._values()]
        fresh = not self.optimizer.state
        try:
            with random_state_kept(self.device):
                yield
        finally:
            self.optimizer.zero_grad()
            with torch.no_grad():
                for value, before in kept:
                    value.copy_(before)
                for state in self.optimizer.state.values() if fresh else ():
                    for value in state.values():
                        value.zero_()

    def _values(self) -> list[Tensor]:
        """Everything that a step changes."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*_tensors(self.network), *_tensors(self.average), *moments]

    def _run(
        self, given: Tensor, target: Tensor, rate: float | Tensor, move: float | Tensor
    ) -> Tensor:
        """The step as a function of tensors: nothing in it waits for the device."""
        recipe, cuda = self.recipe, self.device.type == "cuda"
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Casts that a graph has cached would be lost memory at its replay.
        bf16 = torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=recipe.precision == "bf16",
            cache_enabled=not cuda,
        )
        with bf16:
            factor = target.shape[-1] // given.shape[-1]
            output = require_images(self.forward(given), given, factor, "The network")
        loss = _LOSSES[recipe.loss](output.float(), target)
        self.optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip, foreach=True)
        self.optimizer.step()
        self._update_average(move)
        return loss.detach()

    def _update_average(self, move: float | Tensor) -> None:
        """Move the average towards the weights."""
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        with torch.no_grad():
            if isinstance(move, Tensor):
                change = torch._foreach_sub(theirs, ours)
                torch._foreach_mul_(change, move)
                torch._foreach_add_(ours, change)
            else:
                torch._foreach_lerp_(ours, theirs, move)
            # Statistics of batch normalisation are averages already. A buffer that is new, or of
            # another shape, is one that the network makes anew for each size of image.
            known = dict(self.average.named_buffers())
            for name, value in self.network.named_buffers():
                if name in known and known[name].shape == value.shape:
                    known[name].copy_(value)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def record(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Record the kernels of a call in a CUDA graph, without running them.

    Returns:
        what runs them all, and the result they write anew each time.
    """
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            result = run()
    finally:
        torch.cuda.set_stream(before)  # where recording breaks off, it leaves its own
    return graph.replay, result


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Work on a stream of its own, as what is recorded later must have run before."""
    if device.type != "cuda":
        yield
        return
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream(device).wait_stream(side)


TRIAL = 10
"""Steps in which a faster way must have the losses of the plain one."""

TOLERANCE = 0.02
"""Largest relative difference of a loss: with fused operations, bf16 rounds at other places."""

_ROW = 4
"""Like blocks from which on compiling one of them for all is worth its seconds."""

Schedule = Callable[[int], tuple[float, float]]
"""Learning rate and decay of the average, of the first step of a trial and so on."""


@dataclass(frozen=True)
class Acceleration:
    """How steps are taken.

    Attributes:
        compiled: how many blocks are compiled.
        replayed: whether steps are replayed from a CUDA graph.
        plain_ms, ms: milliseconds of a plain step and of one as it is taken; 0 where nothing was
            tried.
    """

    compiled: int = 0
    replayed: bool = False
    plain_ms: float = 0.0
    ms: float = 0.0

    def __str__(self) -> str:
        ways = ["replayed from a CUDA graph"] * self.replayed
        ways += [f"{self.compiled} compiled blocks"] * bool(self.compiled)
        if not ways:
            return f"A step takes {self.plain_ms:.1f} ms"
        return (
            f"A step takes {self.ms:.1f} ms ({', '.join(ways)}) instead of {self.plain_ms:.1f} ms"
        )


def accelerate(
    step: Step,
    batch: tuple[Tensor, Tensor],
    schedule: Schedule,
    *,
    blocks: Callable[[float], Sequence[nn.Module]],
    replay: bool,
    told: Callable[[str], None],
) -> Acceleration:
    """Take steps in the fastest way that has the losses of the plain one.

    Weights, moments and averages are afterwards what they were.

    Args:
        step: what is to become faster.
        batch: input and target of one batch.
        schedule: of the trials.
        blocks: gives the modules to compile, being told how many seconds a plain step takes.
        replay: whether to record the step in a CUDA graph.
        told: gets a sentence on each way that does not work.

    Raises:
        Exception: whatever a plain step raises.
    """
    plain = run_trial(step, batch, schedule)
    (draws,) = agreed(float(plain.draws), device=step.device)
    if draws:
        told(
            "The network draws random numbers of Python or numpy, which a recorded step would "
            "repeat: steps are taken as they are"
        )
        return Acceleration(plain_ms=round(1e3 * plain.seconds, 2))
    chosen, seconds = list(blocks(plain.seconds)), plain.seconds

    def works(prepare: Callable[[], None], failure: str) -> bool:
        nonlocal seconds
        try:
            with step.on_trial():  # whatever a recording that breaks off may have changed
                prepare()
            found = run_trial(step, batch, schedule)
            why = found.difference(plain)
        except Exception as error:  # compilers and drivers raise anything
            why = " ".join(sentence(error).split())[:300]
        (fails,) = agreed(float(bool(why)), device=step.device)
        if why:
            told(f"{failure} ({why}): training goes on without")
        elif not fails:
            seconds = found.seconds
        return not fails

    def record() -> bool:
        done = works(lambda: step.capture(*batch), "A CUDA graph of the step is not used")
        if not done:
            step.release()
        return done

    if chosen and not works(lambda: compile_each(chosen), "Compiled blocks are not used"):
        uncompile(chosen)
        chosen = []
    replayed = replay and record()
    if replay and chosen and not replayed:
        # Recorded without compiled blocks, a step is faster than the other way round.
        uncompile(chosen)
        chosen = []
        replayed = record()
    if not (chosen or replayed):
        seconds = plain.seconds
    milliseconds = (round(1e3 * value, 2) for value in (plain.seconds, seconds))
    return Acceleration(len(chosen), replayed, *milliseconds)


@dataclass(frozen=True)
class Trial:
    """A few steps on one batch.

    Attributes:
        losses: of each.
        seconds: of one of them.
        draws: whether they drew random numbers of Python or numpy.
    """

    losses: tuple[float, ...]
    seconds: float
    draws: bool

    def difference(self, plain: Trial) -> str:
        """What makes these losses other than the plain step's; empty where nothing does."""
        for number, (mine, theirs) in enumerate(
            zip(self.losses, plain.losses, strict=True), start=1
        ):
            if not math.isclose(mine, theirs, rel_tol=TOLERANCE):
                return f"the loss of step {number} is {mine:.4g}, and {theirs:.4g} without"
        return ""


def run_trial(step: Step, batch: tuple[Tensor, Tensor], schedule: Schedule) -> Trial:
    """Take a few steps on one batch, and take back what they change."""
    losses, times = [], []
    with step.on_trial(), side_stream(step.device):
        before = host_random_state()
        for number in range(TRIAL):
            begin = time.perf_counter()
            losses.append(float(step(*batch, *schedule(number))))  # waits for the device
            times.append(time.perf_counter() - begin)
        draws = host_random_state() != before
    return Trial(tuple(losses), statistics.median(times[TRIAL // 2 :]), draws)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost modules of which a network has a row of several alike, each with layers in it.

    Compiled code is made for one of them and serves all: they differ in the values of their
    parameters alone.
    """
    row = _row(network) if isinstance(network, nn.ModuleList | nn.Sequential) else []
    return row or [block for child in network.children() for block in repeated_blocks(child)]


def _row(container: nn.Module) -> list[nn.Module]:
    """The blocks of a container that at least a few others are like."""
    kinds = {block: _kind(block) for block in container.children() if list(block.children())}
    alike = list(kinds.values())
    return [block for block, kind in kinds.items() if alike.count(kind) >= _ROW]


def _kind(block: nn.Module) -> object:
    """What blocks have in common that can share compiled code."""
    return type(block), [(name, value.shape) for name, value in block.state_dict().items()]


def compile_each(blocks: Sequence[nn.Module], **options: object) -> None:
    """Run modules through ``torch.compile``, in place."""
    for block in blocks:
        block.forward = torch.compile(block.forward, dynamic=False, **options)  # type: ignore[call-overload]


def uncompile(blocks: Sequence[nn.Module]) -> None:
    """Take `compile_each` back."""
    for block in blocks:
        vars(block).pop("forward", None)


def keep_ends_in_fp32(network: nn.Module, given: Tensor) -> None:
    """Let the first and the last convolution that run compute in fp32 under autocast.

    The first one hands on bf16, so that what lies between stays in it; the last one gives an image
    that bf16, with its eight bits, would round to fewer than 256 levels.

    Args:
        network: changed in place.
        given: a batch that shows in which order convolutions run.
    """
    ran: list[str] = []
    probe = copy_network(network).eval()
    for name, module in probe.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        probe(given[:1])
    if ran:
        ends = {ran[0]: torch.bfloat16, ran[-1]: torch.float32}
        for name, made in ends.items():
            _in_fp32(network.get_submodule(name), made)


def _in_fp32(layer: nn.Module, made: torch.dtype) -> None:
    inner = layer.forward

    def forward(given: Tensor) -> Tensor:
        with torch.autocast(given.device.type, enabled=False):
            return inner(given.float()).to(made)

    layer.forward = forward


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether all values are; waits for the device once."""
    norms = torch._foreach_norm(
        [t for t in tensors if t.is_floating_point() and t.numel()], float("inf")
    )
    return bool(torch.stack([norm.float() for norm in norms]).isfinite().all())


def batch_that_fits(step: Callable[[int], object], size: int) -> int:
    """The largest of the halves of a batch for which a step finds memory; 0 if none does.

    Args:
        step: carries out a whole optimiser step with so many patches.
        size: the batch for which memory was short.
    """
    while size := size // 2:
        if _fits(step, size):
            return size
    return 0


def _fits(step: Callable[[int], object], size: int) -> bool:
    torch.cuda.empty_cache()
    try:
        step(size)
    except torch.OutOfMemoryError:
        return False
    return True
