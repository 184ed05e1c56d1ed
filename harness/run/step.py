"""One optimiser step, run eagerly or replayed from a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.global_state import random_state_kept
from harness.models.network import require_images
from harness.run.recipes import Recipe

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
