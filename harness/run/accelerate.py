"""Making a training step fast: repeated blocks compiled, the whole step replayed from a CUDA graph.

Each way is tried on one batch before it is used: its losses must be those of the plain step, or it
is left out with a sentence.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import sentence
from harness.global_state import host_random_state
from harness.models.network import copy_network
from harness.run.processes import agreed
from harness.run.step import Step, side_stream

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
