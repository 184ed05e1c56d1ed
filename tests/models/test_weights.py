import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.io import savemat

from harness.errors import HarnessError, UsageError
from harness.models.find_weights import (
    WeightsMissing,
    find_weights,
    installed,
    official_rows,
    store_weights,
)
from harness.models.network import build_network
from harness.models.upscaler import Upscaler
from harness.models.weights import (
    Weights,
    authors_row,
    file_tag,
    read_weights,
    relabel,
    save_weights,
    tensors_digest,
)
from harness.record import WeightsInfo
from harness.registry import MODELS
from tests.hostile.files import sealed

RNG = np.random.default_rng(0)


def srcnn_mat(path: Path) -> dict[str, np.ndarray]:
    """A file in the layout of SRCNN's authors, and the tensors that must come out of it."""
    shapes = {1: (64, 1, 9, 9), 2: (32, 64, 5, 5), 3: (1, 32, 5, 5)}
    content, tensors = {}, {}
    for layer, shape in shapes.items():
        filters, biases = RNG.random(shape), RNG.random(shape[0])
        outputs, inputs, side, _ = shape
        # MATLAB's reshape runs down the columns first.
        columns = np.stack(
            [[f.flatten(order="F") for f in out] for out in filters], axis=-1
        ).transpose(0, 1, 2)
        content[f"weights_conv{layer}"] = columns.reshape(inputs, side * side, outputs).squeeze()
        content[f"biases_conv{layer}"] = biases[:, None]
        tensors[f"{2 * layer - 2}.weight"] = filters.astype(np.float32)
        tensors[f"{2 * layer - 2}.bias"] = biases.astype(np.float32)
    savemat(path, content)
    return tensors


def vdsr_mat(path: Path) -> dict[str, np.ndarray]:
    """The same for VDSR, with three layers."""
    shapes = [(4, 1, 3, 3), (4, 4, 3, 3), (1, 4, 3, 3)]
    weights, biases = np.empty(3, object), np.empty(3, object)
    tensors = {}
    for layer, shape in enumerate(shapes):
        value, bias = RNG.random(shape, np.float32), RNG.random(shape[0], np.float32)
        weights[layer], biases[layer] = value.transpose(2, 3, 1, 0).squeeze(), bias
        tensors |= {f"body.{2 * layer}.weight": value, f"body.{2 * layer}.bias": bias}
    savemat(path, {"model": {"weight": weights, "bias": biases}})
    return tensors


@pytest.mark.parametrize(("model", "make"), [("srcnn", srcnn_mat), ("vdsr", vdsr_mat)])
def test_the_authors_layouts_are_decoded(model: str, make, tmp_path: Path) -> None:
    expected = make(tmp_path / "w.mat")
    tensors = read_weights(MODELS.get(model), 4, tmp_path / "w.mat").tensors
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name], value)


def test_weights_of_another_network_are_refused_naming_both(tmp_path: Path, random_weights) -> None:
    srcnn_mat(tmp_path / "srcnn.mat"), vdsr_mat(tmp_path / "vdsr.mat")
    params = [{"name": "conv1_f", "value": np.ones((3, 3))}]
    savemat(tmp_path / "other.mat", {"net": {"params": params}})
    with pytest.raises(HarnessError, match="holds weights of vdsr, not of srcnn"):
        read_weights(MODELS.get("srcnn"), 4, tmp_path / "vdsr.mat")
    with pytest.raises(HarnessError, match="holds weights of srcnn, not of vdsr"):
        read_weights(MODELS.get("vdsr"), 4, tmp_path / "srcnn.mat")
    with pytest.raises(HarnessError, match="holds no known weights, of vdsr or of another network"):
        read_weights(MODELS.get("vdsr"), 4, tmp_path / "other.mat")
    with pytest.raises(HarnessError, match="holds weights of edsr-baseline at x4, not of drfn"):
        read_weights(MODELS.get("drfn"), 4, random_weights("edsr-baseline"))


def test_loading_is_strict_and_lists_what_does_not_fit(tmp_path: Path) -> None:
    tensors = vdsr_mat(tmp_path / "small.mat")
    card = MODELS.get("vdsr")
    with pytest.raises(
        HarnessError,
        match=r"small\.mat does not fit vdsr: .*; 34 parameters missing .* of another shape",
    ):
        Upscaler(card, 4, read_weights(card, 4, tmp_path / "small.mat"))
    save_file({**tensors, "extra": np.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(HarnessError, match=r"1 parameter unknown \(extra\)"):
        Upscaler(card, 4, read_weights(card, 4, tmp_path / "more.safetensors"))


def test_names_that_do_not_fit_come_with_both_shapes_and_ten_of_many(tmp_path: Path) -> None:
    vdsr_mat(tmp_path / "small.mat")
    card = MODELS.get("vdsr")
    with pytest.raises(HarnessError) as raised:
        Upscaler(card, 4, read_weights(card, 4, tmp_path / "small.mat"))
    said = str(raised.value)
    assert "body.0.weight 4 x 1 x 3 x 3 instead of 64 x 1 x 3 x 3" in said
    missing = said[: said.index("of another shape")]
    assert missing.count("body.") == 10 and "and 24 more)" in missing


def test_the_layers_of_an_ncnn_model_are_told_from_its_weights(tmp_path: Path) -> None:
    (tmp_path / "srmd.param").write_text("7767517\n")
    with pytest.raises(HarnessError, match=r"the weights are in the \.bin file beside it"):
        read_weights(MODELS.get("srmdnf"), 4, tmp_path / "srmd.param")


@pytest.mark.parametrize("nested", [None, "params", "params_ema", "state_dict"])
def test_pytorch_checkpoints_are_read_in_the_usual_layouts(tmp_path: Path, nested) -> None:
    state = {f"module.{k}": v for k, v in MODELS.get("srcnn").build().state_dict().items()}
    torch.save({nested: state, "epoch": 3} if nested else state, tmp_path / "w.pth")
    weights = read_weights(MODELS.get("srcnn"), 4, tmp_path / "w.pth")
    np.testing.assert_array_equal(weights.tensors["0.bias"], state["module.0.bias"])
    Upscaler(MODELS.get("srcnn"), 4, weights)


class Trap:
    """A pickle that runs code when it is loaded without care."""

    def __reduce__(self):
        return (Path("sprung").touch, ())


def test_a_pickle_that_is_not_tensors_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(
        HarnessError, match=r"trap\.pth does not hold plain tensors, and nothing in it was run"
    ):
        read_weights(MODELS.get("srcnn"), 4, tmp_path / "trap.pth")
    assert not Path("sprung").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(HarnessError, match="does not hold a dictionary of tensors"):
        read_weights(MODELS.get("srcnn"), 4, tmp_path / "list.pth")


def test_parameters_that_require_gradients_are_read(tmp_path: Path) -> None:
    network = MODELS.get("srcnn").build()
    torch.save(dict(network.named_parameters()), tmp_path / "w.pth")
    assert len(read_weights(MODELS.get("srcnn"), 4, tmp_path / "w.pth").tensors) == 6


SMALL = {
    "memnet": {"blocks": 2, "recursions": 2, "width": 8},
    "dcsr": {"depth": 3},
    "msrn": {"blocks": 1},
    "edsr": {"blocks": 1, "width": 16},
    "edsr-baseline": {"blocks": 1, "width": 16},
    "rdn": {"blocks": 2, "convs": 2, "growth": 8, "width": 16},
    "drfn": {"groups": 1, "blocks": 1, "width": 16},
    "drfn-2conv": {"groups": 1, "blocks": 1, "width": 16},
}
NETWORKS = ["srcnn", "fsrcnn", "vdsr", "lapsrn", "srmdnf", *SMALL]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_saved_of_a_network_runs_again_with_the_same_output(name, tmp_path: Path) -> None:
    card, hyper = MODELS.get(name), SMALL.get(name, {})
    network = build_network(card, 4, hyper)
    tensors = {key: value.numpy() for key, value in network.state_dict().items()}
    info = WeightsInfo("repro", "made", "0" * 64, tensors_digest(tensors), "Apache-2.0")
    path = save_weights(Weights(info, tensors, hyper), card, 4, tmp_path)
    again = read_weights(card, 4, path)
    assert again.info.tensors_sha256 == info.tensors_sha256
    image = RNG.random((9, 11, card.channels))
    expected = Upscaler(card, 4, None, network=network)(image)
    np.testing.assert_array_equal(Upscaler(card, 4, again)(image), expected)


def test_an_imported_checkpoint_with_counts_of_batches_runs(harness, photos, tmp_path) -> None:
    torch.save(MODELS.get("memnet").build().state_dict(), tmp_path / "mem.pth")
    imported = harness("weights", "import", "memnet", tmp_path / "mem.pth")
    assert imported.exit_code == 0, imported.output
    ran = harness("run", "--models", "memnet", "--datasets", photos)
    assert ran.exit_code == 0, ran.output


def test_a_matlab_file_of_another_layout_is_named(tmp_path: Path) -> None:
    savemat(tmp_path / "w.mat", {"weights_conv1": np.zeros((5, 3))})
    with pytest.raises(HarnessError, match=r"w\.mat is not laid out like the weights of srcnn"):
        read_weights(MODELS.get("srcnn"), 4, tmp_path / "w.mat")


@pytest.mark.real_data
def test_the_authors_weights_come_before_those_trained_here_then_others(random_weights) -> None:
    card = MODELS.get("fsrcnn")
    for path in (random_weights("fsrcnn"), installed(card, 4)[0][0]):
        store_weights(read_weights(card, 4, path), card, 4)
    assert [tag for _, tag in installed(card, 4)] == ["official", "official", "repro", "made"]


def test_stored_weights_are_not_overwritten_by_others(tmp_path: Path, random_weights) -> None:
    card = MODELS.get("srcnn")
    read = read_weights(card, 4, random_weights("srcnn"))
    store_weights(relabel(read, "mine", None), card, 4)
    other = {name: value + 1 for name, value in read.tensors.items()}
    info = replace(read.info, tensors_sha256=tensors_digest(other))
    with pytest.raises(HarnessError, match="choose another --tag"):
        store_weights(replace(read, tensors=other, info=replace(info, tag="mine")), card, 4)
    for tag in ("v1.2", "a/b", ""):
        with pytest.raises(UsageError, match="A tag has letters"):
            relabel(read, tag, None)


def test_safetensors_with_senseless_arguments_are_refused(tmp_path: Path) -> None:
    values = {"w": np.zeros(1)}
    for hyper in ("{", "[1]", '{"width": NaN}', '{"width": 1e999}'):
        save_file(values, tmp_path / "w.safetensors", sealed(values, "srcnn", hyper=hyper))
        with pytest.raises(HarnessError, match="not a readable safetensors file"):
            read_weights(MODELS.get("srcnn"), 4, tmp_path / "w.safetensors")


def test_any_bit_that_flips_in_stored_weights_is_found_out(tmp_path: Path) -> None:
    tensors = {"a": np.arange(40, dtype=np.float32), "b": np.array(3)}
    info = WeightsInfo("mine", "x.mat", "0" * 64, tensors_digest(tensors), "MIT")
    path = save_weights(Weights(info, tensors, {"width": 8}), MODELS.get("srcnn"), 4, tmp_path)
    whole, card = path.read_bytes(), MODELS.get("srcnn")
    assert read_weights(card, 4, path).info == info
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(HarnessError):
            read_weights(card, 4, path)


def test_a_link_to_nowhere_among_the_weights_does_no_harm(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.mat").symlink_to(tmp_path / "gone.mat")
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path))
    assert installed(MODELS.get("srcnn"), 4) == []


@pytest.mark.real_data
def test_official_weights_are_used_at_the_scales_they_were_made_for() -> None:
    vdsr, srcnn = MODELS.get("vdsr"), MODELS.get("srcnn")
    assert installed(vdsr, 2) == installed(vdsr, 4) != []
    assert installed(srcnn, 2) == []
    with pytest.raises(HarnessError, match="holds weights for x4, not for x2"):
        read_weights(srcnn, 2, installed(srcnn, 4)[0][0])


@pytest.mark.parametrize("suffix", [".mat", ".pth", ".safetensors", ".txt"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_broken_file_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=f"broken{suffix}"):
        read_weights(MODELS.get("srcnn"), 4, path)


@pytest.mark.parametrize("suffix", [".mat", ".pth", ".safetensors"])
def test_a_missing_file_is_named(suffix: str) -> None:
    with pytest.raises(HarnessError, match=f"There is no weights file gone{suffix}"):
        read_weights(MODELS.get("srcnn"), 4, Path(f"gone{suffix}"))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    save_file({"0.bias": np.array([np.nan], np.float32)}, tmp_path / "nan.safetensors")
    with pytest.raises(HarnessError, match=r"not finite in 0\.bias"):
        read_weights(MODELS.get("srcnn"), 4, tmp_path / "nan.safetensors")


def test_imported_weights_keep_their_source_and_are_found_again(tmp_path: Path) -> None:
    srcnn_mat(tmp_path / "w.mat")
    card = MODELS.get("srcnn")
    read = relabel(read_weights(card, 4, tmp_path / "w.mat"), "mine", "CC0-1.0")
    stored = store_weights(read, card, 4)
    assert installed(card, 4) == [(stored, "mine")]
    again = find_weights(card, 4)
    assert again is not None and again.info == read.info
    assert again.info.licence == "CC0-1.0"
    assert find_weights(card, 4, tag="mine") is not None
    with pytest.raises(WeightsMissing, match="no weights for srcnn:official"):
        find_weights(card, 4, tag="official")


def test_the_hash_of_weights_is_that_of_their_values_not_of_the_file(tmp_path: Path) -> None:
    tensors = srcnn_mat(tmp_path / "w.mat")
    save_file(tensors, tmp_path / "w.safetensors")
    card = MODELS.get("srcnn")
    one, two = (read_weights(card, 4, tmp_path / f"w.{s}").info for s in ("mat", "safetensors"))
    assert one.tensors_sha256 == two.tensors_sha256
    assert one.source_sha256 != two.source_sha256
    tensors["0.bias"] = tensors["0.bias"] + np.float32(1e-3)
    assert tensors_digest(tensors) != one.tensors_sha256


def test_hyper_parameters_travel_with_the_weights(random_weights) -> None:
    path = random_weights("drfn", groups=1, blocks=1, width=16, feature_fusion=False)
    card = MODELS.get("drfn")
    weights = read_weights(card, 4, path)
    assert weights.hyper == {"groups": 1, "blocks": 1, "width": 16, "feature_fusion": False}
    assert Upscaler(card, 4, weights)(RNG.random((9, 9, 3))).shape == (36, 36, 3)


def test_roots_of_harness_weights_are_searched(random_weights, tmp_path: Path, monkeypatch) -> None:
    root = tmp_path / "root"
    monkeypatch.setenv("HARNESS_WEIGHTS", f"{tmp_path / 'empty'}:{root}")
    path = random_weights("srcnn", folder=root)
    assert installed(MODELS.get("srcnn"), 4) == [(path, "made")]


@pytest.mark.real_data
@pytest.mark.parametrize("model", ["srcnn", "vdsr"])
def test_the_authors_files_are_known_by_their_hash_wherever_they_lie(
    model: str, tmp_path: Path, monkeypatch
) -> None:
    card = MODELS.get(model)
    ((path, tag),) = installed(card, 4)
    assert tag == "official"
    moved = tmp_path / "elsewhere/renamed.mat"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path))
    weights = find_weights(card, 4)
    assert weights is not None and weights.info.tag == "official"
    assert weights.info.licence != "not stated"


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["srcnn", "fsrcnn", "vdsr", "lapsrn", "srmdnf"])
def test_the_authors_weights_are_known_by_their_values(name: str, tmp_path: Path) -> None:
    """In any file; one value that differs makes other weights."""
    card = MODELS.get(name)
    weights = read_weights(card, 4, installed(card, 4)[0][0])
    assert authors_row(name, 4, weights.info)
    save_file(dict(weights.tensors), tmp_path / "copy.safetensors")
    copy = read_weights(card, 4, tmp_path / "copy.safetensors").info
    assert copy.tag == "official" and copy.licence == weights.info.licence
    for claimed in (weights.info, replace(weights.info, file="mine")):
        assert authors_row(name, 4, claimed) and not authors_row("mine", 4, claimed)
    first, *_ = weights.tensors
    others = dict(weights.tensors) | {first: weights.tensors[first] * np.float32(1.0001)}
    info = replace(weights.info, tensors_sha256=tensors_digest(others))
    path = save_weights(replace(weights, info=info, tensors=others), card, 4, tmp_path)
    assert path.name == f"{name}-x4.official.safetensors"
    read = read_weights(card, 4, path).info
    assert read.tag == f"{name}-x4-official" and read.source_sha256 == weights.info.source_sha256
    assert authors_row(name, 4, read) is None
    assert authors_row(name, 4, replace(read, tag="official")) is None


@pytest.mark.parametrize("tag", ["official", "repro", "Official"])
@pytest.mark.parametrize("model", ["srcnn", "edsr-baseline", "msrn"])
def test_a_file_called_official_or_repro_is_not(
    model: str, tag: str, random_weights, tmp_path: Path, monkeypatch, harness, photos
) -> None:
    """Its name and its metadata do not make it the authors', even with a published file's hash."""
    card = MODELS.get(model)
    path = random_weights(model)
    weights = read_weights(card, 4, path)
    path.unlink()
    (row, *_) = official_rows(card, 4)
    sha256 = row["pin"].partition(":")[2].ljust(64, "0")
    info = replace(weights.info, tag=tag, file=Path(row["file"]).name, source_sha256=sha256)
    save_weights(replace(weights, info=info), card, 4, tmp_path / "root")
    monkeypatch.setenv("HARNESS_WEIGHTS", str(tmp_path / "root"))
    label = f"{model}-x4-{tag}"
    found = find_weights(card, 4, tag=label)
    assert found and found.info.tag == label and not authors_row(model, 4, found.info)
    assert (tmp_path / f"root/{model}-x4.{tag}.safetensors", label) in installed(card, 4)
    words = ("run", "--models", f"{model}:{label}", "--datasets", photos, "--json")
    (shown,) = json.loads(harness(*words).stdout)
    assert shown["weights"]["tag"] == label


def test_a_model_without_parameters_needs_no_weights() -> None:
    assert find_weights(MODELS.get("bicubic"), 4) is None


def test_missing_weights_say_what_to_do() -> None:
    with pytest.raises(WeightsMissing, match="harness weights fetch srcnn .published at https?:"):
        find_weights(MODELS.get("srcnn"), 4)
    with pytest.raises(WeightsMissing, match="--models drfn-2conv=FILE"):
        find_weights(MODELS.get("drfn-2conv"), 4)


class TestTagOfAFile:
    def test_it_is_the_file_s_name(self) -> None:
        names = {
            "last.pth": "last",
            "runs/epoch=10-psnr=30.1.ckpt": "epoch-10-psnr-30-1",
            "drfn-x4.card.safetensors.1of3": "drfn-x4-card",
            "...pth": "file",
        }
        assert {name: file_tag(Path(name)) for name in names} == names

    def test_files_of_one_name_get_the_folder_that_tells_them_apart(self) -> None:
        one, other = Path("one/models/last.pth"), Path("other/models/last.pth")
        third = Path("one/models/best.pth")
        tags = [file_tag(path, (one, other, third)) for path in (one, other, third)]
        assert tags == ["one-last", "other-last", "best"]

    @pytest.mark.parametrize("kind", ["official", "repro"])
    def test_no_file_is_called_like_weights_that_the_harness_knows(self, kind: str) -> None:
        assert file_tag(Path(f"{kind}.pth")) == f"file-{kind}"

    def test_weights_that_state_their_tag_keep_it(self, random_weights) -> None:
        path = random_weights("srcnn").rename("mine.safetensors")
        assert read_weights(MODELS.get("srcnn"), 4, path).info.tag == "made"
