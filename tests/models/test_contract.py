from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness import baselines
from harness.models.contract import ContractCheck, check_model
from harness.models.weights import read_weights, save_weights
from harness.registry import MODELS, register_model


@pytest.mark.parametrize(
    "name",
    [
        "bicubic",
        "srcnn",
        "fsrcnn",
        "vdsr",
        "lapsrn",
        "memnet",
        "srmdnf",
        "dcsr",
        "msrn",
        "edsr-baseline",
        "drfn",
    ],
)
def test_the_networks_of_the_paper_keep_the_contract(name: str) -> None:
    findings = list(check_model(MODELS.get(name), 4))
    assert [f for f in findings if f.fails] == []
    assert any(f.rule.startswith("tiles") for f in findings) == (name != "drfn")


class Pooling(nn.Module):
    """Subtracts the mean of the image, and says nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image):
        return self.conv(image) - image.mean((2, 3), keepdim=True)


class Noisy(Pooling):
    def forward(self, image):
        return self.conv(image) + torch.rand_like(image)


class Shrinking(Pooling):
    def forward(self, image):
        return self.conv(image)[:, :, 1:]


@pytest.mark.parametrize(
    ("network", "params", "broken"),
    [(Pooling, 10, ["tiles"]), (Pooling, 11, ["parameter count", "tiles"]), (Noisy, 10, ["tiles"])],
)
def test_a_plugin_that_breaks_the_contract_is_found(network, params: int, broken) -> None:
    register = register_model("odd", pipeline="y", input="bicubic", scales=(4,), params=params)
    register(lambda scale: network())
    torch.manual_seed(0)
    found = [f.rule for f in check_model(MODELS.get("odd"), 4) if f.fails]
    assert len(found) == len(broken)
    assert all(rule.startswith(start) for rule, start in zip(found, broken, strict=True))


class Picky(Pooling):
    """Works for multiples of 8 only, like networks that fold windows."""

    def forward(self, image):
        return image.reshape(1, 1, -1, 8, image.shape[-1]).reshape(image.shape)


class Halved(Pooling):
    def forward(self, image):
        return image.half()


@pytest.mark.parametrize(("network", "said"), [(Picky, "RuntimeError"), (Halved, "float16")])
def test_what_a_plugin_raises_or_returns_is_a_finding(network, said: str) -> None:
    register_model("odd", pipeline="y", input="bicubic", scales=(4,))(lambda scale: network())
    findings = [f for f in check_model(MODELS.get("odd"), 4) if f.fails]
    assert findings and all(said in f.seen for f in findings)


def test_an_output_of_another_size_is_found() -> None:
    register = register_model(
        "odd", pipeline="y", input="bicubic", scales=(4,), global_pooling=True
    )
    register(lambda scale: Shrinking())
    findings = [f for f in check_model(MODELS.get("odd"), 4) if "pixels become" in f.rule]
    assert len(findings) == 3
    assert not any(f.holds for f in findings)


TRAINED = Path(baselines.__file__).parent / "weights/edsr-baseline-x4.repro.safetensors"


def on_a_photograph(tmp_path: Path, change=None, before=None) -> ContractCheck:
    """What is found of EDSR-baseline with its weights, its input or output changed."""
    card = MODELS.get("edsr-baseline")

    def build(scale: int) -> nn.Module:
        network = card.build(scale=scale)
        if change:
            network.register_forward_hook(lambda module, given, made: change(made))
        if before:
            network.register_forward_pre_hook(lambda module, given: before(*given))
        return network

    register_model("odd", pipeline="rgb", input="lr", scales=(4,))(build)
    odd = MODELS.get("odd")
    file = save_weights(read_weights(card, 4, TRAINED), odd, 4, tmp_path)
    return next(f for f in check_model(odd, 4, file) if "photograph" in f.rule)


def test_a_trained_network_is_nearer_to_a_photograph_than_bicubic(tmp_path: Path) -> None:
    found = on_a_photograph(tmp_path)
    assert found.holds
    assert found.seen == "28.44 dB (bicubic: 26.14 dB, a flat image: 11.97 dB)"


@pytest.mark.parametrize(
    ("change", "before", "said"),
    [
        (lambda made: made * 255, None, "its output is in [0, 255]: divide it by 255"),
        (lambda made: made * 2 - 1, None, "its output is in [-1, 1]"),
        (lambda made: made.flip(1), None, "its channels come out as BGR"),
        (lambda made: made.roll(1, 1), None, "its channels come out as BRG"),
        (lambda made: made * 255, lambda given: given / 255, "it works in [0, 255]"),
    ],
)
def test_weights_show_what_a_wrong_wrapper_does(tmp_path: Path, change, before, said) -> None:
    found = on_a_photograph(tmp_path, change, before)
    assert found.fails
    assert f"{said}" in found.seen and "which gives 28.44 dB" in found.seen


def test_a_network_that_works_in_another_range_is_told_what_it_loses(tmp_path: Path) -> None:
    found = on_a_photograph(tmp_path, lambda made: made * 2 - 1, lambda given: (given + 1) / 2)
    assert not found.holds and not found.fails
    assert found.seen.startswith("28.11 dB")
    assert found.seen.endswith("it works in [-1, 1]: map to it and back, which gives 28.44 dB")


def test_what_is_worse_than_one_colour_is_no_super_resolution(tmp_path, random_weights) -> None:
    findings = check_model(MODELS.get("srcnn"), 4, random_weights("srcnn"))
    (found,) = (f for f in findings if f.fails)
    assert "photograph" in found.rule and "a flat image" in found.seen


def test_what_is_only_worse_than_bicubic_is_a_warning(tmp_path: Path) -> None:
    found = on_a_photograph(tmp_path, lambda made: functional.avg_pool2d(made, 9, 1, 4))
    assert not found.holds and not found.fails


def findings_of(network: type[nn.Module]) -> dict[str, ContractCheck]:
    """What is found of a new network that is registered without weights, by the rule."""
    register = register_model(
        "odd", pipeline="y", input="bicubic", scales=(4,), global_pooling=True
    )
    register(lambda scale: network())
    return {f.rule: f for f in check_model(MODELS.get("odd"), 4) if not f.holds}


class Counting(Pooling):
    calls = 0

    def forward(self, image):
        self.calls += 1
        return self.conv(image) * self.calls


class Closed(Pooling):
    """Its hook writes to the network that it was made for, also where a copy runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(1)
        self.conv.register_forward_hook(lambda module, given, made: setattr(self, "seen", made))

    def forward(self, image):
        self.conv(image)
        return image + self.seen


class Dropping(Pooling):
    def forward(self, image):
        return functional.dropout(self.conv(image))


class OverTheBatch(Pooling):
    def forward(self, image):
        return self.conv(image) - image.mean()


class Normalising(Pooling):
    """Switches itself back into training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, image):
        return self.norm.train()(self.conv(image))


class TwoWhileTraining(Pooling):
    def forward(self, image):
        made = self.conv(image)
        return (made, image) if self.training else made


class Frozen(Pooling):
    def forward(self, image):
        return self.conv(image).detach()


REPEATS = "the same image gives the same output"
COPIES = "a copy of it gives the same output"
DRAWS = "it draws no random numbers"
BATCHES = "an image gives the same output alone and in a batch"
TRAINS = "harness train can train it"


@pytest.mark.parametrize(
    ("network", "rule", "fails", "said"),
    [
        (Counting, REPEATS, True, "keeps state between calls"),
        (Closed, COPIES, True, "differs by"),
        (Dropping, DRAWS, False, "another seed changes its output"),
        (Noisy, DRAWS, False, "another seed changes its output"),
        (OverTheBatch, BATCHES, True, "differs by"),
        (Normalising, BATCHES, True, "differs by"),
        (Normalising, "every layer is in evaluation mode", False, "not norm"),
        (TwoWhileTraining, TRAINS, False, "In training mode it returned a tuple"),
        (Frozen, TRAINS, False, "no gradient reaches its weights"),
    ],
)
def test_what_an_untrained_network_does_wrong_is_found(network, rule, fails, said) -> None:
    found = findings_of(network)[rule]
    assert found.fails == fails
    assert said in found.seen


def test_a_network_that_does_nothing_wrong_is_only_told_to_bring_weights() -> None:
    (found,) = findings_of(Pooling).values()
    assert not found.fails and "--weights" in found.seen


class Padding(Pooling):
    """Pads by more pixels than a small image has."""

    def forward(self, image):
        padded = functional.pad(image, (20, 20, 20, 20), mode="reflect")
        return self.conv(padded)[:, :, 20:-20, 20:-20]


def test_a_network_that_pads_by_reflection_is_tried_in_tiles_that_it_takes() -> None:
    register_model("odd", pipeline="y", input="bicubic", scales=(4,))(lambda scale: Padding())
    findings = list(check_model(MODELS.get("odd"), 4))
    assert findings[-1].rule.startswith("tiles") and findings[-1].holds


def test_the_command_takes_a_weights_file(harness) -> None:
    shown = harness("check-model", "edsr-baseline", "--weights", TRAINED)
    assert shown.exit_code == 0 and "28.44 dB" in shown.output
    shown = harness("check-model", "edsr-baseline", "--weights", "none.safetensors")
    assert shown.exit_code == 2 and "no weights file none.safetensors" in shown.output


def test_weights_for_a_network_without_parameters_are_refused(harness) -> None:
    shown = harness("check-model", "bicubic", "--weights", TRAINED)
    assert shown.exit_code == 2 and "takes no weights" in shown.output
