"""Checkpoints that spandrel recognises: the same images as spandrel makes, under our rules."""

import json
import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from harness.data.images import read_image
from harness.models import source
from harness.protocol.rules import Protocol, make_sample
from harness.record import RunRecord
from harness.registry import MODELS
from harness.run.provenance import command
from harness.run.store import ResultStore, picture_path

AnyArray: TypeAlias = NDArray[Any]

pytestmark = [
    pytest.mark.skipif(find_spec("spandrel") is None, reason="needs spandrel"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),  # of its SwinIR
]


@pytest.fixture(scope="module", autouse=True)
def torchvision(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that stands in for torchvision, of which spandrel imports three names.

    That of PyPI does not load beside the torch for CPUs.
    """
    folder = tmp_path_factory.mktemp("torchvision")
    module = folder / "torchvision/transforms/functional.py"
    module.parent.mkdir(parents=True)
    for package in module.parents[:2]:
        (package / "__init__.py").touch()
    module.write_text("InterpolationMode = rotate = normalize = None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def rcan(**options: Any) -> nn.Module:
    from spandrel.architectures.RCAN.__arch.rcan_arch import RCAN

    return RCAN(**({"n_resgroups": 2, "n_resblocks": 2, "n_feats": 16} | options))


def swinir(**options: Any) -> nn.Module:
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    small = {"img_size": 16, "window_size": 8, "embed_dim": 12, "mlp_ratio": 2}
    small |= {"depths": [2, 2], "num_heads": [2, 2], "upsampler": "pixelshuffledirect"}
    return SwinIR(**(small | options))


def safmn(**options: Any) -> nn.Module:
    from spandrel.architectures.SAFMN.__arch.safmn import SAFMN

    return SAFMN(dim=8, n_blocks=2, **options)


NETWORKS = {
    "rcan-x2.pth": (rcan, {"scale": 2}),
    "rcan.safetensors": (rcan, {"scale": 4}),
    "swinir.pth": (swinir, {"upscale": 4}),
    "swinir-grey.pth": (swinir, {"upscale": 4, "in_chans": 1}),
    "safmn.pth": (safmn, {}),
}


def write(file: str) -> Path:
    """Write a small network with random weights; they are wide enough for SR images with detail."""
    build, options = NETWORKS[file]
    torch.manual_seed(0)
    values = build(**options).state_dict()
    if file.endswith(".pth"):
        torch.save({"params_ema": values, "iter": 5}, file)
    else:
        save_file(values, file)
    return Path(file)


def by_spandrel(file: Path, hr: AnyArray) -> tuple[AnyArray, float]:
    """The SR image of spandrel's own call, and its PSNR on luma without the border."""
    from spandrel import ModelLoader

    network = ModelLoader().load_from_file(file)
    scale, grey = network.scale, network.input_channels == 1
    sample = make_sample(hr, Protocol("y" if grey else "rgb", scale))
    levels = 1 if grey else 255
    lr = np.atleast_3d(sample.lr.astype(np.float32)) / levels
    output = network(torch.from_numpy(lr).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    sr = np.rint(output.numpy() * 255)
    if grey:
        return sr[:, :, 0], decibels(sr[:, :, 0], sample.hr, scale)
    return sr, decibels(luma(sr), luma(sample.hr), scale)


def luma(image: AnyArray) -> AnyArray:
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255


def decibels(a: AnyArray, b: AnyArray, border: int) -> float:
    inner = (slice(border, -border), slice(border, -border))
    return float(20 * np.log10(255 / np.sqrt(np.square(a[inner] - b[inner]).mean())))


def records(folder: str = "out") -> list[RunRecord]:
    return list(ResultStore(Path(folder)).records())


def run(harness, *words: object) -> RunRecord:
    shown = harness("run", *words, "--results", "out", "--json")
    assert shown.exit_code == 0, shown.output
    (record,) = json.loads(shown.stdout)
    return RunRecord.from_json(record)


@pytest.mark.parametrize("file", NETWORKS)
def test_the_images_and_their_psnr_are_those_of_spandrels_own_call(
    harness, photos: Path, file: str
) -> None:
    path = write(file)
    record = run(harness, "--models", path, "--datasets", photos, "--save-images", "sr")
    assert record.identity.model == path.stem
    for image in record.images[:2]:  # the third is grey
        sr, psnr = by_spandrel(path, read_image(photos / f"{image.image}.png").pixels)
        assert image.scores["psnr"] == pytest.approx(psnr, abs=1e-4)
        if sr.ndim == 3:
            saved = read_image(picture_path(Path("sr"), record.identity, image.image)).pixels
            difference = np.abs(saved - sr)
            # Another memory format sums in another order.
            assert difference.max() <= 1 and np.count_nonzero(difference) <= 2


def test_the_record_says_what_spandrel_recognised_and_a_second_run_is_not_computed(
    harness, photos: Path
) -> None:
    words = ("--models", write("safmn.pth"), "--datasets", photos)
    record = run(harness, *words)
    assert record.provenance["checkpoint"]["architecture"] == "SAFMN"
    assert record.provenance["checkpoint"]["purpose"] == "SR"
    facts = record.plugins["safmn"]
    assert facts["module"] == "spandrel.architectures.SAFMN"
    assert facts["distribution"] == f"spandrel {version('spandrel')}"
    assert facts["packages"]["spandrel"] == version("spandrel")
    assert record.weights and (record.weights.tag, record.weights.file) == ("safmn", "safmn.pth")
    assert record.weights.tensors_sha256 == record.identity.weights_sha256
    assert record.parameters == sum(p.numel() for p in safmn().parameters())
    assert record.macs
    assert run(harness, *words).provenance == record.provenance
    assert "safmn" in harness("list", "runs", "--results", "out").output
    assert command(record).startswith("harness run --models safmn=safmn.pth --datasets")


def test_the_identity_covers_the_values_and_the_version_of_spandrel_and_no_more(
    harness, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("rcan.safetensors")
    torch.save(load_file(path), "other.pt")
    words = ("--datasets", photos, "--models")
    stored, pickled = run(harness, *words, f"x={path}"), run(harness, *words, "x=other.pt")
    assert pickled.identity == stored.identity
    torch.save({n: value + 0.01 for n, value in load_file(path).items()}, "other.pt")
    assert run(harness, *words, "x=other.pt").identity.weights_sha256 not in (
        None,
        stored.identity.weights_sha256,
    )
    monkeypatch.setattr(source, "version", lambda name: "9.9")
    again = run(harness, *words, f"x={path}").identity
    assert again.weights_sha256 == stored.identity.weights_sha256
    assert again.source_sha256 != stored.identity.source_sha256


def test_self_ensemble_is_the_mean_of_eight_calls_and_tiles_are_told(harness, photos: Path) -> None:
    from spandrel import ModelLoader

    path = write("swinir.pth")
    words = ("--models", path, "--datasets", photos)
    record = run(harness, *words, "--self-ensemble", "--save-images", "sr")
    network = ModelLoader().load_from_file(path)
    sample = make_sample(read_image(photos / "b.png").pixels, Protocol("rgb", 4))
    lr = torch.from_numpy(sample.lr).permute(2, 0, 1)[None].float() / 255
    outputs = [
        torch.rot90(network(torch.rot90(image, k, (2, 3))), -k, (2, 3))
        for k in range(4)
        for image in [lr]
    ] + [
        torch.rot90(network(torch.rot90(lr.flip(3), k, (2, 3))), -k, (2, 3)).flip(3)
        for k in range(4)
    ]
    mean = torch.stack(outputs).mean(0)[0].permute(1, 2, 0).numpy()
    saved = read_image(picture_path(Path("sr"), record.identity, "b")).pixels
    assert np.abs(saved - np.rint(mean * 255)).max() <= 1
    shown = harness("run", *words, "--tile", 8, "--results", "tiles")
    assert shown.exit_code == 0 and "may see the whole image: tiles may change" in shown.output


def test_workers_get_the_checkpoint_and_give_the_same_numbers(harness, photos: Path) -> None:
    words = ("--models", write("rcan.safetensors"), "--datasets", photos, "--device", "cpu")
    here = run(harness, *words)
    sent = ("--executor", "dask", "--workers", 1, "--results", "sent")
    shown = harness("run", *words, *sent)
    assert shown.exit_code == 0, shown.output
    (there,) = records("sent")
    assert there.execution.executor == "dask" and there.identity == here.identity
    assert there.means == pytest.approx(here.means, abs=1e-4)
    assert there.provenance["checkpoint"] == here.provenance["checkpoint"]


def test_the_scale_is_that_of_the_checkpoint(harness, photos: Path) -> None:
    words = ("--models", f"bicubic,{write('rcan-x2.pth')}", "--datasets", photos)
    assert harness("run", *words, "--results", "out").exit_code == 0
    assert {record.identity.scale for record in records()} == {2}
    shown = harness("run", *words, "--scale", 4, "--results", "out")
    assert shown.exit_code == 1 and "rcan-x2 is not defined for x4, only for x2" in shown.output


def test_runs_are_named_by_the_file_the_user_or_not_at_all(harness, photos: Path) -> None:
    path = write("rcan.safetensors")
    words = ("--datasets", photos, "--models")
    Path("my rcan (final).safetensors").write_bytes(path.read_bytes())
    assert run(harness, *words, "my rcan (final).safetensors").identity.model == "my-rcan-final"
    assert run(harness, *words, path, "--name", "mine").identity.model == "mine"
    Path("drfn.pth").write_bytes(b"")
    for wrong, reason in (
        (["drfn.pth"], "drfn is a registered model: give drfn=drfn.pth"),
        ([path, "--name", "edsr"], "edsr is a registered model"),
        ([path, "--name", "a/b"], "'a/b' cannot name what is in"),
        (["bicubic", "--name", "mine"], "--name is for a checkpoint"),
        (["drfm.pth"], "There is no file drfm.pth: did you mean the model drfn?"),
        ([path, "--weights", f"rcan={path}"], "leave out --weights"),
    ):
        shown = harness("run", *words, *wrong, "--results", "out")
        assert shown.exit_code == 2 and reason in shown.output, shown.output


def test_explain_needs_the_file(harness, photos: Path) -> None:
    path = write("rcan.safetensors")
    record = run(harness, "--models", path, "--datasets", photos)
    words = ("explain", record.identity.id[:12], "--results", "out", "--data-root", photos.parent)
    shown = harness(*words)
    assert shown.exit_code == 2 and "add --weights rcan.safetensors" in shown.output
    shown = harness(*words, "--weights", path, "--json")
    assert shown.exit_code == 0, shown.output
    assert f'"psnr": {record.means["psnr"]}' in shown.output
    shown = harness(*words, "--weights", write("safmn.pth"))
    assert shown.exit_code == 1 and "are not those of the run" in shown.output
    shown = harness(*words, "--weights", photos)
    assert "cannot be read" in shown.output and "is a folder, not a file" in shown.output


def test_other_files_are_refused_with_what_they_hold(harness, photos: Path) -> None:
    torch.manual_seed(0)
    restoring = swinir(upscale=1, upsampler="")
    torch.save(restoring.state_dict(), "restoring.pth")
    torch.save({"a.weight": torch.zeros(3), "b": torch.zeros(1)}, "unknown.pth")
    torch.save(MODELS.get("vdsr").build(scale=4).state_dict(), "known.pth")
    broken = rcan().state_dict()
    torch.save({n: value * np.nan for n, value in broken.items()}, "nan.pth")
    torch.save(
        {"params": {n: v for n, v in broken.items() if n != "body.0.body.1.body.0.weight"}},
        "partial.pth",
    )
    torch.save({**broken, "body.100000.body.0.weight": torch.zeros(1)}, "deep.pth")
    os.mkfifo("fifo.pth")
    os.mkfifo("fifo.safetensors")
    for file, reason in {
        "restoring.pth": "holds a network for Restoration (SwinIR), which does not enlarge images",
        "unknown.pth": "recognises: 2 values, such as a.weight, b; write",
        "known.pth": "these are weights of vdsr",
        "nan.pth": "not finite",
        "deep.pth": "holds fewer values than the network it asks for",
        "partial.pth": "no network that spandrel recognises (RuntimeError: ",
        "fifo.pth": "The checkpoint fifo.pth cannot be read",
        "fifo.safetensors": "The checkpoint fifo.safetensors cannot be read",
    }.items():
        words = ("--models", file, "--datasets", photos, "--results", "out")
        shown = harness("run", *words)
        assert shown.exit_code == 1 and reason in shown.output, shown.output


OWN = """\
from torch import nn
from harness.registry import register_model

@register_model("mine", pipeline="rgb", input="lr", scales=(4,))
def mine(scale=4):
    return nn.Sequential(nn.Conv2d(3, 48, 1, bias=False), nn.PixelShuffle(4))
"""


@pytest.mark.parametrize("word", ["a.pth", "SmallSR=a.pth"])
@pytest.mark.parametrize("installed", [True, False])
def test_weights_of_a_plugins_network_are_told_from_a_checkpoint(
    harness, photos: Path, monkeypatch: pytest.MonkeyPatch, word: str, installed: bool
) -> None:
    Path("mine.py").write_text(OWN)
    torch.save({"0.weight": torch.ones(48, 3, 1, 1) / 3}, "a.pth")
    if not installed:
        monkeypatch.setitem(sys.modules, "spandrel", None)
    words = ("--plugin", "mine.py", "--datasets", photos)
    shown = harness("run", "--models", word, *words)
    assert shown.exit_code == (1 if installed else 2)
    (name,) = re.findall("mine.py registers mine: give (.*) for its weights", shown.stderr)
    assert name == "mine=a.pth" and harness("run", "--models", name, *words).exit_code == 0


@pytest.mark.parametrize("installed", [True, False])
def test_a_name_that_no_model_has_is_said_to_be_unknown(
    harness, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Whoever gives NAME=FILE thinks of a model; a file alone has no such name."""
    torch.save({"0.weight": torch.ones(48, 3, 1, 1) / 3}, "a.pth")
    if not installed:
        monkeypatch.setitem(sys.modules, "spandrel", None)
    hints = {"mine": "load the file that registers it with --plugin", "edrs": "did you mean edsr"}
    for name, hint in hints.items():
        shown = harness("run", "--models", f"{name}=a.pth", "--datasets", "demo")
        assert shown.exit_code and f"No model is called {name!r}: {hint}" in shown.stderr
        assert "spandrel" in shown.stderr
    assert "No model" not in harness("run", "--models", "a.pth", "--datasets", "demo").stderr


def test_a_plugin_that_registers_nothing_is_named(harness) -> None:
    Path("empty.py").write_text("import torch\n")
    Path("mine.py").write_text(OWN)
    words = ("--plugin", "empty.py", "--plugin", "mine.py", "--plugin", "./mine.py")
    shown = harness("list", "models", *words)
    assert shown.exit_code == 0
    assert re.findall("Warning: the plug-in (.*) registers nothing", shown.stderr) == ["empty.py"]


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made-by-the-file",)


def test_no_code_in_a_checkpoint_runs(harness, photos: Path) -> None:
    torch.save({**rcan().state_dict(), "extra": Command()}, "hostile.pth")
    shown = harness("run", "--models", "hostile.pth", "--datasets", photos, "--results", "out")
    assert shown.exit_code == 1 and "nothing in it was run" in shown.output
    assert not Path("made-by-the-file").exists()


@pytest.mark.parametrize(
    ("module", "content", "advice"),
    [
        ("spandrel", None, "pip install -c constraints.txt '.[foreign]'"),
        ("torchvision", None, "'torchvision==0."),
        ("torchvision", "operator torchvision::nms does not exist", "--force-reinstall"),
    ],
)
def test_without_spandrel_or_its_torchvision_the_error_says_what_to_install(
    harness,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    content: str | None,
    advice: str,
) -> None:
    path = write("safmn.pth")
    for name in [name for name in sys.modules if name.split(".")[0] in ("spandrel", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    if content is None:
        monkeypatch.setitem(sys.modules, module, None)
    else:
        (tmp_path / f"{module}.py").write_text(f"raise RuntimeError({content!r})")
        monkeypatch.syspath_prepend(tmp_path)
    shown = harness("run", "--models", path, "--datasets", photos, "--results", "out")
    assert shown.exit_code == 2 and advice in shown.output and str(content or "") in shown.output
