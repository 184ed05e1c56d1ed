"""The optimiser step: what it computes, and that a CUDA graph could replay it."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.models.network import build_network
from harness.registry import MODELS
from harness.train import step as step_module
from harness.train.recipe import Recipe, recipe
from harness.train.step import (
    Step,
    accelerate,
    batch_that_fits,
    compile_each,
    keep_ends_in_fp32,
    repeated_blocks,
    run_trial,
    uncompile,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The sums of one thread are the same every time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch._dynamo.reset()


class Recorder(TorchDispatchMode):
    """Stands in for a CUDA graph: keeps every operation with its tensors, and runs them again.

    Like a graph it knows no Python: a number that was read from a tensor, or a branch that was
    taken, would be the same in every replay; reading one is an error, as it is while a GPU records.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name = str(call)
        if "_local_scalar_dense" in name or "nonzero" in name or "_to_copy.cpu" in name:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        made = call(*args, **(kwargs or {}))
        self.calls.append((call, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        """Run the operations on the tensors they had, and write what they give where it was."""
        with torch.no_grad():
            for call, args, kwargs, made in self.calls:
                again = call(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def recorded(run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    recorder = Recorder()
    with recorder:
        loss = run()
    return recorder.replay, loss


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are recorded by `Recorder`, which, unlike a graph, runs them once while it records."""
    monkeypatch.setattr(step_module, "record", recorded)


def small(model: str) -> nn.Module:
    """A shipped network, made small."""
    options = {
        "drfn": {"groups": 5, "blocks": 1, "width": 16},
        "memnet": {"blocks": 2, "recursions": 2, "width": 8},
        "edsr-baseline": {"blocks": 4, "width": 8},
    }
    torch.manual_seed(0)
    network = build_network(MODELS.get(model), 4, options.get(model, {}))
    return network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def made(model: str = "drfn", *, replayable: bool = False, **changes: object) -> Step:
    network = small(model)
    average = copy.deepcopy(network).requires_grad_(False)
    chosen = recipe("short", model, **{"lr": 1e-3, "precision": "fp32"} | changes)
    return Step(network, average, chosen, replayable=replayable)


def batch(model: str, number: int) -> tuple[Tensor, Tensor]:
    card = MODELS.get(model)
    generator = torch.Generator().manual_seed(number)
    side = 24 if card.input == "bicubic" else 6
    given = torch.rand(2, card.channels, side, side, generator=generator)
    target = torch.rand(2, card.channels, 24, 24, generator=generator)
    return tuple(one.to(memory_format=torch.channels_last) for one in (given, target))  # type: ignore[return-value]


def rates(number: int) -> tuple[float, float]:
    return 1e-3 / (1 + number), min(0.9, (1 + number) / (10 + number))


def state(step: Step) -> dict[str, Tensor]:
    parts = {"network": step.network, "average": step.average}
    found = {
        f"{part}.{name}": value.clone()
        for part, one in parts.items()
        for name, value in one.state_dict().items()
    }
    for place, moments in step.optimizer.state_dict()["state"].items():
        found |= {f"{place}.{name}": value.clone() for name, value in moments.items()}
    return found


def plain_loop(model: str, chosen: Recipe, steps: int) -> tuple[nn.Module, nn.Module]:
    """What one would write first: eager PyTorch, line by line."""
    network = small(model)
    average = copy.deepcopy(network)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=1.0, betas=(chosen.beta1, chosen.beta2), fused=True
    )
    for number in range(steps):
        given, target = batch(model, number)
        rate, decay = rates(number)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = (network(given) - target).abs().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), chosen.clip)
        optimizer.step()
        with torch.no_grad():
            for mine, new in zip(average.parameters(), network.parameters(), strict=True):
                mine.lerp_(new, 1 - decay)
            for mine, new in zip(average.buffers(), network.buffers(), strict=True):
                mine.copy_(new)
    return network, average


@pytest.mark.parametrize("model", ["drfn", "memnet", "fsrcnn", "edsr-baseline"])
def test_steps_are_those_of_a_plain_loop_bit_for_bit(model: str) -> None:
    step = made(model)
    for number in range(4):
        step(*batch(model, number), *rates(number))
    network, average = plain_loop(model, step.recipe, 4)
    for mine, plain in ((step.network, network), (step.average, average)):
        for name, value in plain.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value), name


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["drfn", "memnet", "fsrcnn", "edsr-baseline"])
def test_a_replayed_step_is_the_eager_one(model: str, precision: str) -> None:
    eager, replayed = (made(model, replayable=True, precision=precision) for _ in range(2))
    run_trial(replayed, batch(model, 99), rates)
    with replayed.on_trial():
        replayed.capture(*batch(model, 99))
    for number in range(6):
        losses = [float(step(*batch(model, number), *rates(number))) for step in (eager, replayed)]
        assert losses[0] == losses[1], number
    wanted, found = state(eager), state(replayed)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


@pytest.mark.usefixtures("graphs")
def test_rates_that_are_tensors_give_the_weights_of_those_that_are_numbers() -> None:
    tensors, numbers = made("fsrcnn", replayable=True), made("fsrcnn")
    for number in range(6):
        for step in (tensors, numbers):
            step(*batch("fsrcnn", number), *rates(number))
    for name, value in state(numbers).items():
        torch.testing.assert_close(state(tensors)[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("graphs")
def test_a_replayed_training_goes_on_as_an_eager_one_and_the_other_way_round() -> None:
    whole = made("fsrcnn", replayable=True)
    for number in range(4):
        whole(*batch("fsrcnn", number), *rates(number))
    begun = made("fsrcnn", replayable=True)
    for number in range(2):
        begun(*batch("fsrcnn", number), *rates(number))
    for replayable, tolerance in ((True, 0.0), (False, 1e-4)):
        resumed = made("fsrcnn", replayable=replayable)
        resumed.network.load_state_dict(begun.network.state_dict())
        resumed.average.load_state_dict(begun.average.state_dict())
        resumed.load_moments(copy.deepcopy(begun.optimizer.state_dict()))
        if replayable:
            run_trial(resumed, batch("fsrcnn", 99), rates)
            with resumed.on_trial():
                resumed.capture(*batch("fsrcnn", 99))
        for number in (2, 3):
            resumed(*batch("fsrcnn", number), *rates(number))
        for name, value in state(whole).items():
            torch.testing.assert_close(
                state(resumed)[name], value, rtol=tolerance, atol=tolerance / 100
            )
        assert resumed.optimizer.param_groups[0]["capturable"] is replayable


class Waits(nn.Module):
    """A network with a branch on its data, which no graph can record."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        made = self.layer(image)
        return made if float(made.detach().mean()) > 0 else -made


@pytest.mark.usefixtures("graphs")
def test_a_step_that_cannot_be_recorded_is_taken_eagerly_and_said() -> None:
    network = Waits()
    step = Step(network, copy.deepcopy(network), recipe("short", "srcnn"), replayable=True)
    before, said = state(step), []
    found = accelerate(
        step, batch("srcnn", 0), rates, blocks=lambda _: [], replay=True, notify=said.append
    )
    assert not found.replayed and "A CUDA graph of the step is not used" in said[0]
    assert "stream is capturing" in said[0]
    assert all(torch.equal(state(step)[name], value) for name, value in before.items())
    assert float(step(*batch("srcnn", 0), *rates(0))) > 0


@pytest.mark.usefixtures("graphs")
def test_a_replay_with_other_losses_is_not_used() -> None:
    class Moody(Waits):
        calls = 0

        def forward(self, image: Tensor) -> Tensor:
            self.calls += 1  # a host-side choice is recorded once and for all
            return self.layer(image) * (2.0 if self.calls % 2 else 1.0)

    network = Moody()
    step = Step(network, copy.deepcopy(network), recipe("short", "srcnn"), replayable=True)
    said: list[str] = []
    found = accelerate(
        step, batch("srcnn", 0), rates, blocks=lambda _: [], replay=True, notify=said.append
    )
    assert not found.replayed and "the loss of step" in said[0]


def test_trials_leave_nothing_behind() -> None:
    step = made("memnet")
    for number in range(2):
        step(*batch("memnet", number), *rates(number))
    before, random = state(step), torch.get_rng_state()
    run_trial(step, batch("memnet", 9), rates)
    assert all(torch.equal(state(step)[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)


ROWS = {"drfn": {16: 2}, "rdn": {16: 1}, "msrn": {8: 1}, "edsr-baseline": {16: 1}, "vdsr": {}}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("model", ROWS)
def test_like_blocks_are_compiled_once_for_all(model: str) -> None:
    network = build_network(MODELS.get(model), 4, {}).train()
    blocks = repeated_blocks(network)
    assert len(blocks) == sum(count * rows for count, rows in ROWS[model].items())
    compilations = []

    def counted(graph: Any, _: object) -> Any:
        compilations.append(graph)
        return graph.forward

    names = list(network.state_dict())
    given = torch.rand(1, MODELS.get(model).channels, 8, 8)
    wanted = network(given)
    compile_each(blocks, backend=counted)
    for _ in range(2):
        network(given).mean().backward()
    assert len(compilations) == sum(ROWS[model].values())
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network(given), wanted)
    uncompile(blocks)
    assert torch.equal(network(given), wanted)


def test_compiled_blocks_whose_losses_are_others_are_not_used(monkeypatch) -> None:
    step, said = made("edsr-baseline"), []
    blocks = repeated_blocks(step.network)

    def wrong(forward: Callable[[Tensor], Tensor], **_: object) -> Callable[[Tensor], Tensor]:
        return lambda features: 1.5 * forward(features)

    monkeypatch.setattr(torch, "compile", wrong)
    found = accelerate(
        step, batch("edsr-baseline", 0), rates, blocks=lambda _: blocks, replay=False,
        notify=said.append,
    )  # fmt: skip
    assert found.compiled == 0 and "the loss of step 1 is" in said[0]
    assert all("forward" not in vars(block) for block in blocks)


def test_the_first_and_the_last_convolution_stay_in_fp32() -> None:
    network, seen = small("edsr-baseline"), {}
    given, _ = batch("edsr-baseline", 0)
    keep_ends_in_fp32(network, given)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda _, inputs, output, name=name: seen.update({name: output.dtype})
            )
    with torch.autocast("cpu", torch.bfloat16):
        made = network(given)
    names = list(seen)
    assert made.dtype == seen[names[-1]] == torch.float32
    assert {seen[name] for name in names[:-1]} == {torch.bfloat16}
    head, levels = network.body.head, (given - network.mean) * 255
    exact = nn.functional.conv2d(levels, head.weight, head.bias, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        first = head(levels)
        rounded = nn.functional.conv2d(levels, head.weight, head.bias, padding=1)
    # Rounded once, at the end: inputs and weights were those of fp32.
    assert torch.equal(first, exact.to(torch.bfloat16))
    assert not torch.equal(first, rounded)


def test_a_batch_that_fits_is_found_by_halving() -> None:
    def step(size: int) -> None:
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert batch_that_fits(step, 16) == 2
