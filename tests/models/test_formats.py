"""Files as their authors published them: decoded by the right network, refused by any other."""

import re
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness.baselines.layouts.srmdnf import midpoint
from harness.baselines.srmdnf import NO_BLUR
from scipy.io import loadmat

from harness.errors import HarnessError
from harness.models.network import build_network
from harness.models.upscaler import Upscaler
from harness.models.weights import read_weights
from harness.registry import MODELS, load_plugins
from tests.conftest import REAL_ROOTS

FILES = {
    "srcnn": "srcnn/9-5-5-imagenet-x4.mat",
    "fsrcnn": "fsrcnn/x4.mat",
    "vdsr": "vdsr/VDSR_Official.mat",
    "lapsrn": "lapsrn/LapSRN_x4.mat",
    "srmdnf": "srmdnf/srmdnf_x4.bin",
}
NETWORKS = [*FILES, "memnet", "edsr", "edsr-baseline", "rdn", "dcsr", "msrn", "drfn"]


def published(model: str) -> Path:
    return Path(REAL_ROOTS["HARNESS_WEIGHTS"]) / FILES[model]


@pytest.mark.real_data
@pytest.mark.parametrize("model", FILES)
def test_the_authors_file_fills_the_whole_network(model: str) -> None:
    card = MODELS.get(model)
    weights = read_weights(card, 4, published(model))
    assert weights.info.tag == "official"
    assert sum(value.size for value in weights.tensors.values()) == card.params
    Upscaler(card, 4, weights)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("owner", "model"), [pair for pair in product(FILES, NETWORKS) if pair[0] != pair[1]]
)
def test_a_file_of_another_network_is_refused_naming_both(owner: str, model: str) -> None:
    with pytest.raises(HarnessError, match=rf"weights of {owner}, not of {model}\.$"):
        read_weights(MODELS.get(model), 4, published(owner))


@pytest.mark.real_data
def test_no_blur_is_the_impulse_in_the_basis_of_srmds_authors() -> None:
    basis = loadmat(published("srmdnf").with_name("srmd_pca_matlab.mat"))["P"]
    impulse = np.zeros((15, 15))
    impulse[7, 7] = 1
    np.testing.assert_allclose(NO_BLUR, basis @ impulse.ravel(order="F"), rtol=1e-6)


def test_fp16_values_that_were_cut_off_are_read_as_the_middle_of_their_interval() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(0, 0.1, 10_000).astype(np.float32)
    # fp32 has 23 bits of fraction, fp16 has 10: cut the other 13.
    cut = (exact.view(np.uint32) & ~np.uint32(2**13 - 1)).view(np.float32)
    normal = np.abs(cut) >= np.finfo(np.float16).smallest_normal
    read = midpoint(cut.astype(np.float16))
    ulp = np.spacing(np.abs(cut).astype(np.float16)).astype(float)
    assert (np.abs(read - exact)[normal] <= ulp[normal] / 2).all()
    assert abs(np.mean((np.abs(read) - np.abs(exact))[normal] / ulp[normal])) < 0.01
    assert midpoint(np.zeros(1, np.float16)) == 0


@pytest.mark.real_data
def test_an_ncnn_file_that_is_cut_short_or_too_long_is_named(tmp_path: Path) -> None:
    whole = published("srmdnf").read_bytes()
    for name, content in {"short": whole[:-6], "long": whole + b"0000", "odd": whole[:-1]}.items():
        path = tmp_path / f"{name}.bin"
        path.write_bytes(content)
        with pytest.raises(HarnessError, match=f"{name}.bin is not laid out like the weights of"):
            read_weights(MODELS.get("srmdnf"), 4, path)


# Names in the published PyTorch implementations, by what they are called here. Mean shifts are
# layers there.
EDSR = {
    r"body\.head": "head.0",
    r"body\.body\.(\d+)\.body\.(\d)": r"body.\1.body.\2",
    r"body\.body\.(\d+)": r"body.\1",
    r"body\.tail\.0\.(\d)": r"tail.0.\1",
    r"body\.tail\.1": "tail.1",
}
BASICSR = {
    r"body\.head": "conv_first",
    r"body\.body\.(\d+)\.body\.0": r"body.\1.conv1",
    r"body\.body\.(\d+)\.body\.2": r"body.\1.conv2",
    r"body\.body\.16": "conv_after_body",
    r"body\.tail\.0\.(\d)": r"upsample.\1",
    r"body\.tail\.1": "conv_last",
}
MSRN = {
    r"body\.head": "head.0",
    r"body\.body\.(\d+)\.(\w+)": r"body.\1.\2",
    r"body\.tail\.(\d)\.(\d)": r"tail.\1.\2",
    r"body\.tail\.(\d)": r"tail.\1",
}
RDN_OF_EDSR = {
    r"shallow(\d)": r"SFENet\1",
    r"blocks\.(\d+)\.convs\.(\d)": r"RDBs.\1.convs.\2.conv.0",
    r"blocks\.(\d+)\.fusion": r"RDBs.\1.LFF",
    r"fusion\.(\d)": r"GFF.\1",
    r"tail\.0\.(\d)": r"UPNet.\1",
    r"tail\.1": "UPNet.{last}",
}
RDN_ALONE = {
    r"shallow(\d)": r"sfe\1",
    r"blocks\.(\d+)\.convs\.(\d)": r"rdbs.\1.layers.\2.conv",
    r"blocks\.(\d+)\.fusion": r"rdbs.\1.lff",
    r"fusion\.(\d)": r"gff.\1",
    r"tail\.0\.(\d)": r"upscale.\1",
    r"tail\.1": "output",
}


def state(model: str, scale: int, names: dict[str, str]) -> dict[str, torch.Tensor]:
    """A network's random values under published names."""
    torch.manual_seed(0)
    made = {}
    for key, value in build_network(MODELS.get(model), scale, {}).state_dict().items():
        name, kind = key.rsplit(".", 1)
        pattern = next(pattern for pattern in names if re.fullmatch(pattern, name))
        new = re.sub(pattern, names[pattern], name).replace("{last}", "4" if scale == 4 else "2")
        made[f"{new}.{kind}"] = value
    return made


def shifts(levels: float = 255) -> dict[str, torch.Tensor]:
    mean = levels * torch.tensor([0.4488, 0.4371, 0.4040])
    eye = torch.eye(3).reshape(3, 3, 1, 1)
    return {
        "sub_mean.weight": eye,
        "sub_mean.bias": -mean,
        "add_mean.weight": eye,
        "add_mean.bias": mean,
    }


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("model", "names", "extra"),
    [
        ("edsr-baseline", EDSR, shifts()),
        ("edsr-baseline", BASICSR, {}),
        ("msrn", MSRN, shifts()),
        ("rdn", RDN_ALONE, {}),
    ],
)
def test_published_pytorch_layouts_are_understood(
    model: str, names, extra, scale: int, tmp_path: Path
) -> None:
    card = MODELS.get(model)
    torch.save({**state(model, scale, names), **extra}, tmp_path / "w.pt")
    read = read_weights(card, scale, tmp_path / "w.pt").tensors
    torch.manual_seed(0)
    own = build_network(card, scale, {}).state_dict()
    assert read.keys() == own.keys()
    for name, value in own.items():
        np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize("scale", [3, 4])
def test_a_network_for_images_up_to_255_is_one_up_to_1_with_smaller_biases(
    scale: int, tmp_path: Path
) -> None:
    card = MODELS.get("rdn")
    torch.save(state("rdn", scale, RDN_OF_EDSR), tmp_path / "w.pt")
    read = Upscaler(card, scale, read_weights(card, scale, tmp_path / "w.pt"))
    torch.manual_seed(0)
    own = build_network(card, scale, {})
    image = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        expected = own(255 * image)[0].permute(1, 2, 0) / 255
    np.testing.assert_allclose(read(image[0].permute(1, 2, 0).numpy()), expected, atol=1e-5)


def random_layers(layers: dict[str, tuple[int, int, int]]) -> dict[str, torch.Tensor]:
    """Random filters and biases of convolutions, by name: inputs, outputs and kernel size."""
    values = {}
    for name, (inputs, outputs, kernel) in layers.items():
        deviation = (inputs * kernel**2) ** -0.5
        values[f"{name}.weight"] = deviation * torch.randn(outputs, inputs, kernel, kernel)
        values[f"{name}.bias"] = torch.randn(outputs)
    return values


def tail_layers(first: str, last: str, scale: int, width: int) -> dict[str, tuple[int, int, int]]:
    """The layers of EDSR-PyTorch's upsampler and the one after it."""
    steps = {2: {"0": 4}, 3: {"0": 9}, 4: {"0": 4, "2": 4}}[scale]
    shuffled = {f"{first}.{place}": (width, n * width, 3) for place, n in steps.items()}
    return shuffled | {last: (width, 3, 3)}


def edsr_layers(scale: int, blocks: int, width: int) -> dict[str, tuple[int, int, int]]:
    """EDSR as sanghyun-son/EDSR-PyTorch stores it, without its mean shifts."""
    places = [f"body.{n}.body.{place}" for n in range(blocks) for place in (0, 2)]
    body = dict.fromkeys([*places, f"body.{blocks}"], (width, width, 3))
    return {"head.0": (3, width, 3)} | body | tail_layers("tail.0", "tail.1", scale, width)


def msrn_layers(scale: int) -> dict[str, tuple[int, int, int]]:
    """MSRN as MIVRC/MSRN-PyTorch stores it since June 2019, without its mean shifts."""
    block = {"conv_3_1": (64, 64, 3), "conv_5_1": (64, 64, 5), "conv_3_2": (128, 128, 3)}
    block |= {"conv_5_2": (128, 128, 5), "confusion": (256, 64, 1)}
    body = {f"body.{n}.{name}": size for n in range(8) for name, size in block.items()}
    fusion = {"tail.0": (576, 64, 1), "tail.1": (64, 64, 3)}
    return {"head.0": (3, 64, 3)} | body | fusion | tail_layers("tail.2", "tail.3", scale, 64)


Values = dict[str, torch.Tensor]


def convolved(values: Values, name: str, x: torch.Tensor) -> torch.Tensor:
    weight, bias = values[f"{name}.weight"], values[f"{name}.bias"]
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def enlarged(values: Values, first: str, last: str, x: torch.Tensor) -> torch.Tensor:
    for place in "02":
        if f"{first}.{place}.weight" in values:
            x = convolved(values, f"{first}.{place}", x)
            x = F.pixel_shuffle(x, round((x.shape[1] / values[f"{last}.weight"].shape[1]) ** 0.5))
    return convolved(values, "add_mean", convolved(values, last, x))


def edsr_forward(values: Values, image: torch.Tensor, blocks: int, scaling: float) -> torch.Tensor:
    """The forward pass of EDSR-PyTorch on an image in [0, 255]."""
    head = x = convolved(values, "head.0", convolved(values, "sub_mean", image))
    for n in range(blocks):
        inner = convolved(values, f"body.{n}.body.0", x).relu()
        x = x + scaling * convolved(values, f"body.{n}.body.2", inner)
    return enlarged(values, "tail.0", "tail.1", head + convolved(values, f"body.{blocks}", x))


def msrn_forward(values: Values, image: torch.Tensor) -> torch.Tensor:
    """The forward pass of MSRN-PyTorch on an image in [0, 255]."""
    head = x = convolved(values, "head.0", convolved(values, "sub_mean", image))
    outputs = []
    for n in range(8):
        one = [convolved(values, f"body.{n}.conv_{k}_1", x).relu() for k in (3, 5)]
        two = [convolved(values, f"body.{n}.conv_{k}_2", torch.cat(one, 1)).relu() for k in (3, 5)]
        x = x + convolved(values, f"body.{n}.confusion", torch.cat(two, 1))
        outputs.append(x)
    fused = convolved(values, "tail.0", torch.cat([*outputs, head], 1))
    return enlarged(values, "tail.2", "tail.3", convolved(values, "tail.1", fused))


PAPERS_EDSR = partial(edsr_forward, blocks=32, scaling=0.1)
BASELINE = partial(edsr_forward, blocks=16, scaling=1)


@pytest.mark.parametrize(
    ("model", "scale", "layers", "forward"),
    [
        ("edsr", 4, edsr_layers(4, 32, 256), PAPERS_EDSR),
        *(("edsr-baseline", s, edsr_layers(s, 16, 64), BASELINE) for s in (2, 3, 4)),
        *(("msrn", s, msrn_layers(s), msrn_forward) for s in (2, 3, 4)),
    ],
)
def test_a_file_laid_out_like_the_authors_gives_the_output_of_their_forward_pass(
    model: str, scale: int, layers, forward, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    values = random_layers(layers) | shifts()
    torch.save(values, tmp_path / "w.pt")
    card = MODELS.get(model)
    network = Upscaler(card, scale, read_weights(card, scale, tmp_path / "w.pt"))
    image = torch.rand(1, 3, 9, 7)
    doubles = {name: value.double() for name, value in values.items()}
    expected = forward(doubles, 255 * image.double())[0].permute(1, 2, 0) / 255
    found = network(image[0].permute(1, 2, 0).numpy())
    assert found.shape == (9 * scale, 7 * scale, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.abs().max().item())


def test_a_mean_shift_that_the_network_here_does_not_make_is_refused(tmp_path: Path) -> None:
    torch.save({**state("msrn", 4, MSRN), **shifts(1)}, tmp_path / "w.pt")
    with pytest.raises(HarnessError, match=r"has sub_mean.bias = .* the network here has"):
        read_weights(MODELS.get("msrn"), 4, tmp_path / "w.pt")


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    whole = state("edsr-baseline", 4, EDSR)
    torch.save({k: v for k, v in whole.items() if "body.3.body.2" not in k}, tmp_path / "cut.pt")
    card = MODELS.get("edsr-baseline")
    with pytest.raises(
        HarnessError, match=r"cut\.pt does .* 2 parameters missing \(body\.body\.3\.body\.2\.bias"
    ):
        Upscaler(card, 4, read_weights(card, 4, tmp_path / "cut.pt"))


PLUGIN = """
from torch import nn
from harness.registry import register_model

@register_model("mine", pipeline="y", input="bicubic", scales=(4,), layouts="{module}:layouts")
def mine(scale=4):
    return nn.Conv2d(1, 1, 3, padding=1)
"""
LAYOUT = """
from harness.cards import CheckpointLayout

def layouts():
    return (CheckpointLayout("net.weight", (("net.", ""),)),)
"""


def test_a_plugin_names_the_layout_of_its_published_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "published_layout.py").write_text(LAYOUT)
    (tmp_path / "mine.py").write_text(PLUGIN.format(module="published_layout"))
    load_plugins([tmp_path / "mine.py"])
    values = build_network(MODELS.get("mine"), 4, {}).state_dict()
    torch.save({f"net.{name}": value for name, value in values.items()}, tmp_path / "w.pt")
    assert read_weights(MODELS.get("mine"), 4, tmp_path / "w.pt").tensors.keys() == values.keys()


def test_a_layout_that_cannot_be_loaded_costs_its_own_network_only(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.format(module="no_such_layout"))
    load_plugins([tmp_path / "mine.py"])
    torch.save(state("edsr-baseline", 4, EDSR), tmp_path / "w.pt")
    assert read_weights(MODELS.get("edsr-baseline"), 4, tmp_path / "w.pt").tensors
    with pytest.raises(HarnessError, match="no_such_layout:layouts of .*cannot be loaded"):
        read_weights(MODELS.get("mine"), 4, tmp_path / "w.pt")
