"""One optimiser step: run eagerly, with compiled blocks, or replayed from a CUDA graph.

Each faster way is tried on one batch first. It is used only if its losses equal those of the plain
step; otherwise the user gets a message.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
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

    The average is a copy of the network. A ``replayable`` step keeps learning rate and decay as
    tensors, which a CUDA graph reads at each replay; otherwise they are numbers.
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
        # Suppress the warning about trial steps before the recording.
        self.optimizer._warned_capturable_if_run_uncaptured = True

    def __call__(self, input: Tensor, target: Tensor, rate: float, decay: float) -> Tensor:
        """Carry out one step; return the loss before it, without waiting for the device.

        The next replayed step overwrites the loss.

        Raises:
            HarnessError: the outputs are not images of the target's size.
        """
        if not self._replayable:
            return self._run(input, target, rate, 1 - decay)
        self._rate.fill_(rate)
        self._move.fill_(1 - decay)
        if self._replay is None:
            return self._run(input, target, self._rate, self._move)
        return self._replay(input, target)

    def load_moments(self, saved: Mapping[str, Any]) -> None:
        """Load the optimizer moments of a checkpoint, but keep the options of this optimizer."""
        own = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(dict(saved))
        for group, values in zip(self.optimizer.param_groups, own, strict=True):
            group |= values

    def capture(self, input: Tensor, target: Tensor) -> None:
        """Record the step in a CUDA graph, and replay it from now on for batches of this shape.

        The step must have run on such a batch before, so that its kernels are chosen.

        Raises:
            RuntimeError: something in the step cannot be recorded.
        """
        own_input, own_target = (torch.empty_like(part).copy_(part) for part in (input, target))
        replay, loss = record(lambda: self._run(own_input, own_target, self._rate, self._move))

        def run(input: Tensor, target: Tensor) -> Tensor:
            own_input.copy_(input)
            own_target.copy_(target)
            replay()
            return loss

        self._replay = run

    def release(self) -> None:
        """Run eagerly from now on."""
        self._replay = None

    @contextmanager
    def on_trial(self) -> Iterator[None]:
        """Undo all changes by the steps in this block, in the same memory."""
        saved = [(value, value.detach().clone()) for value in self._values()]
        fresh = not self.optimizer.state
        try:
            with random_state_kept(self.device):
                yield
        finally:
            self.optimizer.zero_grad()
            with torch.no_grad():
                for value, before in saved:
                    value.copy_(before)
                for value in self.moments() if fresh else ():
                    value.zero_()

    def _values(self) -> list[Tensor]:
        """Everything that a step changes."""
        networks = (self.network, self.average)
        values = [v for network in networks for v in (*network.parameters(), *network.buffers())]
        return [*values, *self.moments()]

    def moments(self) -> list[Tensor]:
        """The optimizer's moments."""
        return [value for state in self.optimizer.state.values() for value in state.values()]

    def _run(
        self, input: Tensor, target: Tensor, rate: float | Tensor, move: float | Tensor
    ) -> Tensor:
        """Carry out the step, without waiting for the device."""
        recipe, cuda = self.recipe, self.device.type == "cuda"
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # At a replay, the cached casts of a graph would point to freed memory.
        bf16 = torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=recipe.precision == "bf16",
            cache_enabled=not cuda,
        )
        with bf16:
            factor = target.shape[-1] // input.shape[-1]
            output = require_images(self.forward(input), input, factor, "The network")
        loss = _LOSSES[recipe.loss](output.float(), target)
        self.optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip, foreach=True)
        self.optimizer.step()
        self._update_average(move)
        return loss.detach()

    def _update_average(self, move: float | Tensor) -> None:
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(self.network.parameters())
        with torch.no_grad():
            if isinstance(move, Tensor):
                change = torch._foreach_sub(weights, averages)
                torch._foreach_mul_(change, move)
                torch._foreach_add_(averages, change)
            else:
                torch._foreach_lerp_(averages, weights, move)
            # Copy buffers: statistics of batch normalisation are averages already. Skip those that
            # are new or have another shape: the network recreates them for each image size.
            buffers = dict(self.average.named_buffers())
            for name, value in self.network.named_buffers():
                if name in buffers and buffers[name].shape == value.shape:
                    buffers[name].copy_(value)


def record(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Record the kernels of a call in a CUDA graph, without running them.

    Returns:
        a function that runs the kernels, and the result that they overwrite each time.
    """
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            result = run()
    finally:
        torch.cuda.set_stream(before)  # a failed recording leaves its own stream
    return graph.replay, result


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Run the block on a side stream, as the warm-up before a CUDA graph requires."""
    if device.type != "cuda":
        yield
        return
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream(device).wait_stream(side)


TRIAL = 10
"""Number of trial steps whose losses are compared with those of the plain step."""

TOLERANCE = 0.02
"""Largest relative difference of a loss: fused operations round bf16 at other places."""

_MIN_ALIKE = 4
"""Blocks are compiled only if a container has at least this many alike."""

Schedule = Callable[[int], tuple[float, float]]
"""Returns the learning rate and the decay of the average for the n-th step of a trial."""


@dataclass(frozen=True)
class Acceleration:
    """How steps are carried out.

    Attributes:
        compiled: the number of compiled blocks.
        replayed: whether steps are replayed from a CUDA graph.
        plain_ms, ms: milliseconds of a plain step and of an accelerated one; 0 if nothing was
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
    notify: Callable[[str], None],
) -> Acceleration:
    """Make a step as fast as possible, with the same losses as the plain step.

    Weights, moments and averages are restored afterwards. ``blocks`` returns the modules to
    compile, given the seconds of a plain step; ``replay`` says whether to record a CUDA graph;
    ``notify`` receives a sentence on each way that does not work.

    Raises:
        Exception: any error of a plain step.
    """
    plain = run_trial(step, batch, schedule)
    (draws,) = agreed(float(plain.draws), device=step.device)
    if draws:
        notify(
            "The network draws random numbers of Python or numpy, which a recorded step would "
            "repeat: steps are not accelerated"
        )
        return Acceleration(plain_ms=round(1e3 * plain.seconds, 2))
    chosen, seconds = list(blocks(plain.seconds)), plain.seconds

    def works(prepare: Callable[[], None], failure: str) -> bool:
        nonlocal seconds
        try:
            with step.on_trial():  # a failed recording may change the weights
                prepare()
            trial = run_trial(step, batch, schedule)
            why = trial.difference(plain)
        except Exception as error:  # compilers and drivers raise anything
            why = " ".join(sentence(error).split())[:300]
        (fails,) = agreed(float(bool(why)), device=step.device)
        if why:
            notify(f"{failure} ({why}): training goes on without")
        elif not fails:
            seconds = trial.seconds
        if fails:
            step.release()
        return not fails

    record = partial(works, lambda: step.capture(*batch), "A CUDA graph of the step is not used")
    if chosen and not works(lambda: compile_each(chosen), "Compiled blocks are not used"):
        uncompile(chosen)
        chosen = []
    replayed = replay and record()
    if replay and chosen and not replayed:
        # A recorded step without compiled blocks is faster than compiled blocks alone.
        uncompile(chosen)
        chosen = []
        replayed = record()
    if not (chosen or replayed):
        seconds = plain.seconds
    milliseconds = (round(1e3 * value, 2) for value in (plain.seconds, seconds))
    return Acceleration(len(chosen), replayed, *milliseconds)


@dataclass(frozen=True)
class Trial:
    """A few steps on one batch: their losses, and the median time of one.

    ``draws`` says whether they drew random numbers of Python or numpy.
    """

    losses: tuple[float, ...]
    seconds: float
    draws: bool

    def difference(self, plain: Trial) -> str:
        """Describe the first loss that differs from the plain step; empty if none does."""
        pairs = zip(self.losses, plain.losses, strict=True)
        for number, (loss, expected) in enumerate(pairs, start=1):
            if not math.isclose(loss, expected, rel_tol=TOLERANCE):
                return f"the loss of step {number} is {loss:.4g}, and {expected:.4g} without"
        return ""


def run_trial(step: Step, batch: tuple[Tensor, Tensor], schedule: Schedule) -> Trial:
    """Run a few steps on one batch, and undo their changes."""
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
    """The outermost blocks of layers that a container of the network repeats.

    They share one compiled code, because only the values of their parameters differ.
    """
    kinds: dict[nn.Module, object] = {}
    if isinstance(network, nn.ModuleList | nn.Sequential):
        kinds = {block: _kind(block) for block in network.children() if list(block.children())}
    occurring = list(kinds.values())
    alike = [block for block, kind in kinds.items() if occurring.count(kind) >= _MIN_ALIKE]
    return alike or [block for child in network.children() for block in repeated_blocks(child)]


def _kind(block: nn.Module) -> object:
    """Equal for blocks that can share compiled code."""
    return type(block), [(name, value.shape) for name, value in block.state_dict().items()]


def compile_each(blocks: Sequence[nn.Module], **options: object) -> None:
    """Run modules through ``torch.compile``, in place."""
    for block in blocks:
        block.forward = torch.compile(block.forward, dynamic=False, **options)  # type: ignore[call-overload]


def uncompile(blocks: Sequence[nn.Module]) -> None:
    """Undo `compile_each`."""
    for block in blocks:
        vars(block).pop("forward", None)


def keep_ends_in_fp32(network: nn.Module, batch: Tensor) -> None:
    """Keep the first and the last convolution in fp32 under autocast.

    The first one outputs bf16, so that the layers between stay in bf16. The last one outputs an
    image in fp32, because bf16 with its 8 bits would round it to fewer than 256 levels. The order
    in which convolutions run is found on the batch of inputs.
    """
    ran: list[str] = []
    probe = copy_network(network).eval()
    for name, module in probe.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        probe(batch[:1])
    if ran:
        ends = {ran[0]: torch.bfloat16, ran[-1]: torch.float32}
        for name, dtype in ends.items():
            _in_fp32(network.get_submodule(name), dtype)


def _in_fp32(layer: nn.Module, dtype: torch.dtype) -> None:
    """Run a layer in fp32, and return its output in a dtype."""
    inner = layer.forward

    def forward(input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return inner(input.float()).to(dtype)

    layer.forward = forward


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether all values are finite; waits for the device once."""
    norms = torch._foreach_norm(
        [t for t in tensors if t.is_floating_point() and t.numel()], float("inf")
    )
    return bool(torch.stack([norm.float() for norm in norms]).isfinite().all())


def batch_that_fits(step: Callable[[int], object], size: int) -> int:
    """Halve a batch size until a whole optimiser step with it fits in memory; 0 if none fits."""
    while size := size // 2:
        torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):
            step(size)
            break
    return size
