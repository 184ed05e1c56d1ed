"""Networks that keep things while they run give one number on any number of threads."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from harness.cards import ModelCard
from harness.errors import HarnessError
from harness.models import resources
from harness.models.resources import KEEPS_STATE, disturbance, instances
from harness.models.upscaler import Upscaler
from harness.registry import MODELS

CASES = Path(__file__).parents[1] / "cases"
KEPT: dict[str, torch.Tensor] = {}


class Quiet(nn.Module):
    def forward(self, x):
        return avg_pool2d(x, 3, 1, 1)


class InAVariable(nn.Module):
    def forward(self, x):
        KEPT["mean"] = x.mean()
        return avg_pool2d(x, 3, 1, 1) - KEPT["mean"]


class OnItself(nn.Module):
    def forward(self, x):
        self.mean = x.mean()
        return avg_pool2d(x, 3, 1, 1) - self.mean


class FromImageToImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = torch.zeros(())

    def forward(self, x):
        made = x + self.before
        self.before = x.mean()
        return made


class AtRandom(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class ByShape(nn.Module):
    def forward(self, x):
        KEPT[str(x.shape)] = x.mean()
        return avg_pool2d(x, 3, 1, 1) - KEPT[str(x.shape)]


class FirstMean(nn.Module):
    mean = None

    def forward(self, x):
        if self.mean is None:
            self.mean = x.mean()
        return x - self.mean


class Recurrent(nn.Module):
    hidden = None

    def forward(self, x):
        if self.hidden is None or self.hidden.shape != x.shape:
            self.hidden = torch.zeros_like(x)
        self.hidden = 0.5 * self.hidden + x
        return self.hidden


class InEights(Recurrent):
    """Whose images have sides that are multiples of 32."""

    def forward(self, x):
        return (
            super().forward(x.reshape(*x.shape[:2], -1, 32, x.shape[3] // 32, 32)).reshape(x.shape)
        )


class Closed(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.seen = torch.zeros(1)
        self.pool.register_forward_hook(lambda module, given, made: setattr(self, "seen", made))

    def forward(self, x):
        self.pool(x)
        return x + self.seen


ONE_AT_A_TIME = threading.Lock()


class Locked(nn.Module):
    def forward(self, x):
        with ONE_AT_A_TIME:
            return avg_pool2d(avg_pool2d(x, 3, 1, 1), 3, 1, 1)


def upscaler(network: nn.Module) -> Upscaler:
    card = ModelCard(type(network).__name__, type(network), "y", "bicubic", (4,))
    return Upscaler(card, 4, None, network=network)


@pytest.mark.parametrize("kind", [Quiet, OnItself])
def test_networks_that_share_nothing_run_side_by_side(kind: type[nn.Module]) -> None:
    made = instances(upscaler(kind()), 3)
    assert len(made) == len({id(one.network) for one in made}) == 3


@pytest.mark.parametrize("name", ["bicubic", "srcnn", "fsrcnn", "vdsr", "lapsrn", "drfn", "memnet"])
def test_the_networks_of_the_paper_run_side_by_side(name: str) -> None:
    assert disturbance(Upscaler(MODELS.get(name), 4, None)) == ""


@pytest.mark.parametrize("kind", [InAVariable, ByShape, AtRandom, Closed])
def test_a_network_that_a_copy_would_disturb_runs_alone(kind: type[nn.Module]) -> None:
    one = upscaler(kind())
    assert instances(one, 2) == [one]
    assert one.disturbance


def test_trying_a_network_does_not_import_the_compiler_of_torch() -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.models.resources import disturbance\n"
        "from harness.models.upscaler import Upscaler\n"
        "from harness.registry import MODELS, load_plugins\n"
        f"load_plugins([Path({str(CASES / 'global_state/p.py')!r})])\n"
        "print(disturbance(Upscaler(MODELS.get('p'), 4, None)), 'torch._dynamo' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "it gives other values while a copy runs beside it False"


def test_a_network_that_waits_for_its_copy_runs_alone(monkeypatch) -> None:
    monkeypatch.setattr("harness.models.resources._PATIENCE", 0.2)
    one = upscaler(Locked())
    assert instances(one, 2) == [one]
    assert "its copies wait for each other" in one.disturbance


@pytest.mark.parametrize("kind", [FromImageToImage, FirstMean, Recurrent, InEights])
def test_a_network_that_remembers_images_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(HarnessError, match=f"{kind.__name__} keeps state .*{KEEPS_STATE}"):
        instances(upscaler(kind()), 1)


def test_trying_a_network_leaves_it_as_it_was() -> None:
    one = upscaler(FirstMean())
    with pytest.raises(HarnessError):
        instances(one, 1)
    assert one.network.mean is None


def test_a_network_that_draws_random_numbers_gives_the_same_every_time() -> None:
    one, image = upscaler(AtRandom()), np.zeros((8, 8, 1))
    np.testing.assert_array_equal(one(image), one(image))
    assert one(image).std() > 0.1


# PSNR of each as it was built, on one thread.
@pytest.mark.parametrize(
    ("case", "images", "psnr"),
    [
        ("buffer_state", "twelve", 18.8526),
        ("global_state", "twelve", 18.8526),
        ("hook_closure", "hook_closure/set", 25.5859),
        ("inplace_tile", "inplace_tile/set", 28.0683),
    ],
)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_run_gives_one_number_on_any_number_of_threads(
    harness, case: str, images: str, psnr: float, threads: int
) -> None:
    weights = CASES / case / "w.safetensors"
    words = ["--weights", f"p={weights}"] if weights.exists() else []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        shown = harness(
            *("run", "--models", "p", "--plugin", CASES / case / "p.py"),
            *("--datasets", CASES / images, "--results", "out", *words),
        )
    finally:
        torch.set_num_threads(before)
    assert f"{psnr:.4f}" in shown.output


@pytest.mark.parametrize("plugin", ["p", "q"])
def test_a_network_may_write_into_its_tile(harness, plugin: str) -> None:
    case = CASES / "inplace_tile"
    shown = harness(
        *("run", "--models", plugin, "--plugin", case / f"{plugin}.py", "--tile", 16),
        *("--datasets", case / "set", "--weights", f"{plugin}={case / 'w.safetensors'}"),
    )
    assert "28.0683" in shown.output


def test_check_model_names_what_it_found(harness) -> None:
    shown = harness("check-model", "p", "--plugin", CASES / "global_state/p.py")
    assert "ok    copies may run side by side: no, it gives other values" in shown.output
    # Its mean is that of the whole batch.
    assert "FAIL  an image gives the same output alone and in a batch" in shown.output


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process in the control group ``/job/step``, of which ``job`` has a limit."""
    (tmp_path / "self").write_text("12:pids:/x\n0::/job/step\n")
    job = tmp_path / "groups/job"
    (job / "step").mkdir(parents=True)
    (job / "step/memory.max").write_text("max\n")
    for name, text in {
        "max": "4000\n",
        "current": "3000\n",
        "stat": "anon 1\ninactive_file 500\n",
    }.items():
        (job / f"memory.{name}").write_text(text)
    monkeypatch.setattr(resources, "_GROUP", tmp_path / "self")
    monkeypatch.setattr(resources, "_GROUPS", tmp_path / "groups")
    return job


def test_the_limit_of_a_container_counts_and_what_linux_can_drop_does_not(groups: Path) -> None:
    assert resources.free_bytes("cpu") == 4000 - 3000 + 500


def test_without_a_limit_the_machine_counts(groups: Path) -> None:
    (groups / "memory.max").write_text("max\n")
    assert resources.free_bytes("cpu") > 10**6
