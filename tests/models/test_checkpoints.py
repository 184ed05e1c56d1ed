"""The network among all that trainers store; and why a file is none that fits."""

import argparse
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness import baselines
from harness.errors import HarnessError, UsageError
from harness.models.formats.checkpoints import read_checkpoint
from harness.models.network import build_network
from harness.models.upscaler import Upscaler
from harness.models.weights import Weights, read_weights
from harness.registry import MODELS
from harness.run.store import ResultStore
from harness.train.checkpoint import find_origin
from tests.models.test_formats import BASICSR, EDSR, RDN_ALONE, shifts, state

CATS = Path(__file__).parents[1] / "cases/cats"
TRAINED = Path(baselines.__file__).parent / "weights/edsr-baseline-x4.repro.safetensors"
Values = dict[str, Tensor]


def trained() -> Values:
    """The trained edsr-baseline under the names of its authors' implementation."""
    made = dict(shifts())
    for name, value in load_file(TRAINED).items():
        _, part, rest = name.split(".", 2)
        made[f"{part}.0.{rest}" if part == "head" else f"{part}.{rest}"] = value
    return made


def under(prefix: str, values: Mapping[str, Tensor]) -> Values:
    return {prefix + name: value for name, value in values.items()}


def net(model: str, scale: int = 4, **hyper: object) -> Values:
    torch.manual_seed(0)
    return dict(build_network(MODELS.get(model), scale, hyper).state_dict())


def read(content: object, model: str = "srcnn", key: str = "") -> Weights:
    """What is read of a checkpoint, once it is in the network."""
    torch.save(content, "w.pth")
    card = MODELS.get(model)
    weights = read_weights(card, 4, Path("w.pth"), key=key)
    Upscaler(card, 4, weights)
    return weights


def same(weights: Weights, values: Mapping[str, Tensor]) -> bool:
    return weights.tensors.keys() == values.keys() and all(
        np.array_equal(weights.tensors[name], value.float()) for name, value in values.items()
    )


def wrapped(plain: Values) -> dict[str, object]:
    """The same values as PyTorch, and those who build on it, store them."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    return {
        "DataParallel": under("module.", plain),
        "mmediting": {"meta": {"iter": 1}, "state_dict": under("generator.", plain)},
        "torch.compile": under("_orig_mod.", plain),
        "torch.compile under DDP": under("module._orig_mod.", plain),
        "one block compiled": {
            name.replace("body.3.", "body.3._orig_mod."): value for name, value in plain.items()
        },
        "Lightning": {"state_dict": under("model.", plain), "epoch": 3},
        "a name of one's own": under("sr_model.", plain),
        "a dictionary in another": {"nets": {"netG": plain}, "iter": 5},
        "a GAN": {
            "state_dict": under("netG.", plain) | under("netD.", net("vdsr")),
            "step": torch.zeros(1),
        },
        "numpy's numbers": {"state_dict": plain, "psnr": np.float64(30), "n": np.int64(3)},
        "numpy's arrays": {"params": plain, "curve": np.arange(9.0), "rng": np.random.get_state()},  # noqa: NPY002
        "values beside tensors": {**plain, "epoch": 3, "note": "best", "log": [1.5], "none": None},
        "an optimizer": {"model": plain, "optimizer": optimizer.state_dict()},
    }


@pytest.mark.parametrize("layout", wrapped({}))
def test_a_layout_gives_the_values_of_the_plain_file(layout: str) -> None:
    assert same(read(wrapped(trained())[layout], "edsr-baseline"), load_file(TRAINED))


def test_values_of_any_precision_are_read_as_fp32() -> None:
    exact = load_file(TRAINED)
    for dtype, error in ((torch.float64, 0), (torch.float16, 0), (torch.bfloat16, 2**-8)):
        stored = read({k: v.to(dtype) for k, v in trained().items()}, "edsr-baseline")
        assert stored.tensors.keys() == exact.keys()
        for name, value in stored.tensors.items():
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, exact[name].float(), rtol=error)


@pytest.mark.parametrize(("name", "psnr"), [("generator", 29.7618), ("bf16", 29.7615)])
def test_the_score_is_that_of_the_weights(harness, name: str, psnr: float) -> None:
    made = {
        "generator": {"state_dict": under("generator.", trained())},
        "bf16": {k: v.bfloat16() for k, v in trained().items()},
    }
    torch.save(made[name], "w.pth")
    words = ("--models", "edsr-baseline", "--weights", "edsr-baseline=w.pth", "--results", "out")
    shown = harness("run", *words, "--datasets", CATS)
    assert shown.exit_code == 0, shown.output
    (record,) = ResultStore(Path("out")).records()
    assert record.means["psnr"] == pytest.approx(psnr, abs=5e-5)
    assert record.means["ssim"] == pytest.approx(0.7317, abs=5e-5)
    assert ("those under state_dict.generator" in shown.output) == (name == "generator")


OWN_NAMES = """
from torch import nn
from harness.registry import register_model

class Wrapped(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.module = nn.Sequential(nn.Conv2d(3, 3 * scale**2, 3, padding=1))
        self.module.head = nn.Sequential(nn.PixelShuffle(scale), nn.Conv2d(3, 3, 1))

    def forward(self, image):
        return self.module(image)

@register_model("wrapped", pipeline="rgb", input="lr", scales=(4,))
def wrapped(scale=4):
    return Wrapped(scale)
"""


def test_names_that_a_network_gives_itself_stay(harness, tmp_path: Path) -> None:
    vdsr = net("vdsr")  # all begin with body.
    for prefix in ("", "module.", "generator."):
        assert same(read(under(prefix, vdsr), "vdsr"), vdsr)
    (tmp_path / "own.py").write_text(OWN_NAMES)
    assert harness("list", "models", "--plugin", "own.py").exit_code == 0
    own = net("wrapped")
    for prefix in ("", "module.", "model."):
        assert same(read(under(prefix, own), "wrapped"), own)


COMMON_STYLES = """
import torch
from torch import nn
from harness.registry import register_model

def block(width):
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())

def upsampler(width):
    return nn.Sequential(nn.Conv2d(width, 48, 3, padding=1), nn.PixelShuffle(4))

class EdsrPytorch(nn.Module):
    def __init__(self, stored):
        super().__init__()
        shift = nn.Conv2d(3, 3, 1)  # with another mean than that of DIV2K
        self.sub_mean = shift if stored else nn.Identity()
        self.head = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
        self.body = nn.Sequential(*(block(8) for _ in range(2)))
        self.tail = upsampler(8)

    def forward(self, image):
        features = self.head(self.sub_mean(255 * image))
        return self.tail(features + self.body(features)) / 255

class Basicsr(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_first = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(*(block(8) for _ in range(2)))
        self.conv_after_body = nn.Conv2d(8, 8, 3, padding=1)
        self.upsample = upsampler(8)
        self.conv_last = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image):
        features = self.conv_first(image)
        features = features + self.conv_after_body(self.body(features))
        return self.conv_last(self.upsample(features))

for name, build in {
    "edsr-style": lambda scale=4: EdsrPytorch(True),
    "edsr-style-without-mean": lambda scale=4: EdsrPytorch(False),
    "basicsr-style": lambda scale=4: Basicsr(),
}.items():
    register_model(name, pipeline="rgb", input="lr", scales=(4,))(build)
"""


@pytest.mark.parametrize("key", ["", "params_ema"])
@pytest.mark.parametrize("name", ["edsr-style", "edsr-style-without-mean", "basicsr-style"])
def test_a_plug_in_loads_its_own_checkpoint_whatever_its_layers_are_called(
    harness, tmp_path: Path, name: str, key: str
) -> None:
    (tmp_path / "own.py").write_text(COMMON_STYLES)
    assert harness("list", "models", "--plugin", "own.py").exit_code == 0
    card, image = MODELS.get(name), np.random.default_rng(0).random((9, 7, 3))
    network = build_network(card, 4, {}).eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(image).float().permute(2, 0, 1)[None])
    own = dict(network.state_dict())
    output = Upscaler(card, 4, read({key: own} if key else own, name))(image)
    np.testing.assert_allclose(output, expected[0].permute(1, 2, 0), rtol=0, atol=1e-6)
    # A value is missing: the error uses the file's own names.
    first = next(name for name in own if name.startswith(("head", "conv_first")))
    with pytest.raises(HarnessError, match=rf"1 parameter missing \({first}\)\.$"):
        read({n: value for n, value in own.items() if n != first}, name)


SAME_NAMES_AS_EDSR = """
from torch import nn
from harness import baselines
from harness.registry import MODELS, register_model

@register_model("twin", pipeline="rgb", input="lr", scales=(4,))
def twin(scale=4):
    return MODELS.get("edsr-baseline").build(scale=scale)
"""


def test_only_its_own_layouts_say_how_to_read_the_weights_of_a_network(
    harness, tmp_path: Path
) -> None:
    """EDSR-PyTorch works in [0, 255], and what a network of these names works in is not known."""
    (tmp_path / "twin.py").write_text(SAME_NAMES_AS_EDSR)
    assert harness("list", "models", "--plugin", "twin.py").exit_code == 0
    assert same(read(load_file(TRAINED), "twin"), load_file(TRAINED))
    assert same(read(trained(), "edsr-baseline"), load_file(TRAINED))
    with pytest.raises(HarnessError, match=r"does not fit twin: .* missing"):
        read(trained(), "twin")


def test_of_several_that_fit_one_must_be_named() -> None:
    first, second = net("srcnn"), {name: value + 1 for name, value in net("srcnn").items()}
    both = {"state_dict": under("generator.", first) | under("generator_ema.", second)}
    with pytest.raises(UsageError, match=r"state_dict\.generator and state_dict\.generator_ema"):
        read(both)
    assert same(read(both, key="state_dict.generator_ema"), second)
    assert same(read({"a": first, "b": first}), first)  # no question


def test_averaged_weights_come_first_where_their_trainer_scores_them_and_others_are_told() -> None:
    last, average = net("srcnn"), {name: value + 1 for name, value in net("srcnn").items()}
    for averaged, usual, other in (
        ("params_ema", "params_ema", "params"),
        ("average", "average", "network"),  # of harness train
        ("ema", "state_dict", "ema"),
    ):
        content = {usual: average, other: last}
        weights = read(content)
        assert same(weights, average), averaged
        assert f"under {usual}; {other} would fit" in weights.note
        assert same(read(content, key=other), last)


def test_a_key_that_is_not_there_is_answered_by_those_that_are(harness, photos) -> None:
    content = {"params": net("srcnn"), "params_ema": net("srcnn"), "epoch": 3}
    for key in ("generator", "epoch", "param"):
        with pytest.raises(UsageError, match=f"under {key}: there are params_ema and params"):
            read(content, key=key)
    words = ("--models", "srcnn", "--datasets", photos, "--weights-key", "params")
    assert harness("run", *words, "--weights", "srcnn=w.pth").exit_code == 0
    assert harness("run", *words).exit_code == 2
    assert harness("train", "srcnn", "--weights-key", "params").exit_code == 2


def test_a_key_says_where_imports_and_trainings_find_weights(harness) -> None:
    content = {"params_ema": net("srcnn"), "params": {k: v + 1 for k, v in net("srcnn").items()}}
    torch.save(content | {"best": np.float64(3)}, "w.pt")
    shown = harness("weights", "import", "srcnn", "w.pt", "--weights-key", "params")
    assert shown.exit_code == 0 and "those under params." in shown.output
    start, _ = find_origin(MODELS.get("srcnn"), 4, {}, "w.pt", "params")
    assert same(start, content["params"])
    assert same(find_origin(MODELS.get("srcnn"), 4, {}, "w.pt")[0], content["params_ema"])


def test_safetensors_of_strangers_are_searched_too() -> None:
    card, own = MODELS.get("srcnn"), net("srcnn")
    rounded = {name: value.bfloat16() for name, value in own.items()}
    for stored, expected in ((own, own), (under("generator.", own), own), (rounded, rounded)):
        save_file(stored, "w.safetensors", {"format": "pt"})
        weights = read_weights(card, 4, Path("w.safetensors"))
        assert same(weights, expected)
        Upscaler(card, 4, weights)


class Whole(nn.Conv2d):
    """A module that is stored with its class."""


def optimizer() -> torch.optim.Optimizer:
    made = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    made.param_groups[0]["params"][0].grad = torch.ones(2)
    made.step()
    return made


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {"args": argparse.Namespace(a=1), **net("srcnn")}, "needs argparse.Namespace"),
        (lambda: Whole(1, 1, 1), r"needs tests\.models\.test_checkpoints\.Whole"),
        (lambda: {}, "it is empty"),
        (lambda: {"state_dict": {}}, "an empty dictionary under state_dict"),
        (lambda: {"params": [1.0], "epoch": 3}, "a list under params, a number under epoch"),
        (lambda: [1, 2], "but a list"),
        (lambda: torch.zeros(2), "but a Tensor"),
        (lambda: optimizer().state_dict(), "the state of an optimizer"),
        (lambda: {"optimizer": optimizer().state_dict()}, "a dictionary under optimizer"),
        (
            lambda: torch.optim.lr_scheduler.StepLR(optimizer(), 1).state_dict(),
            "the state of a learning rate scheduler",
        ),
        (lambda: {"a": np.zeros(2)}, "a value of numpy under a"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_has(make, said: str) -> None:
    with pytest.raises(HarnessError, match=rf"w\.pth does not hold .*{said}.*"):
        read(make())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_archive_of_torch_jit_is_named() -> None:
    torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), "w.pth")
    with pytest.raises(HarnessError, match=r"w\.pth is a torch\.jit archive"):
        read_weights(MODELS.get("srcnn"), 4, Path("w.pth"))


def grey(colours: Values) -> Values:
    """A network for one channel, of one for three."""
    return {
        name: value[:, :1] if name == "head.0.weight" else value[:1] if "tail.1" in name else value
        for name, value in colours.items()
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: state("edsr-baseline", 2, EDSR), "these are its weights for x2"),
        (lambda: {"params": state("edsr-baseline", 3, BASICSR)}, "these are its weights for x3"),
        (
            lambda: under("generator.", state("rdn", 4, RDN_ALONE)),
            "these are weights of rdn for x4",
        ),
        (lambda: {"net": net("vdsr")}, r"these are weights of vdsr\."),
        (lambda: under("net.", net("memnet")), r"these are weights of memnet\."),
        (
            lambda: net("edsr", blocks=2, width=8),
            "8 features instead of 64; 2 blocks instead of 16",
        ),
        (lambda: net("edsr-baseline", blocks=32), "32 blocks instead of 16 in body.body"),
        (lambda: net("edsr-baseline", width=256), "256 features instead of 64"),
        (
            lambda: grey(state("edsr-baseline", 4, EDSR)),
            r"1 channel \(grey\) instead of 3 channels \(RGB\); 3 parameters of another shape",
        ),
        (
            lambda: {"layers.0.attn.weight": torch.zeros(2)},
            "it seems to be of another network; 74 parameters missing",
        ),
    ],
)
def test_why_a_network_does_not_fit_is_said_in_the_words_of_the_field(make, said: str) -> None:
    with pytest.raises(HarnessError, match=rf"w\.pth does not fit edsr-baseline: {said}"):
        read(make(), "edsr-baseline")


def test_a_bit_that_flips_in_a_checkpoint_changes_no_value_unnoticed(tmp_path: Path) -> None:
    path, rng = tmp_path / "w.pth", random.Random(0)
    saved = {"weight": torch.rand(64, 64), "bias": torch.rand(64)}
    torch.save(saved, path)
    whole, shapes, refused = path.read_bytes(), {"weight": (64, 64), "bias": (64,)}, 0
    for _ in range(500):
        flipped, place = bytearray(whole), rng.randrange(8 * len(whole))
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            tensors, _ = read_checkpoint(path, shapes)
        except HarnessError:
            refused += 1
            continue
        assert all(np.array_equal(tensors[name], value) for name, value in saved.items())
    assert refused > 400


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"bias": torch.ones(3)}, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    tensors, _ = read_checkpoint(tmp_path / "w.pth", {"bias": (3,)})
    assert tensors["bias"].tolist() == [1, 1, 1]
