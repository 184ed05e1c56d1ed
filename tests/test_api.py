"""The Python interface gives the scores of the command line and leaves a training as it was."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import harness as package
from harness import api
from harness.data.images import read_image
from harness.data.testsets import find
from harness.errors import HarnessError, UsageError
from harness.global_state import apply_settings, random_state
from harness.record import RunRecord
from harness.registry import DATASETS
from tests.pictures import picture

DOCUMENT = Path(package.__file__).parents[1] / "docs/python.md"
CPU = torch.device("cpu")


def scored(evaluation: api.Evaluation) -> list[tuple[str, dict[str, float]]]:
    return [(one.image, dict(one.scores)) for one in evaluation.images]


def of_the_command(harness, *words: object) -> list[tuple[str, dict[str, float]]]:
    """The scores that ``harness run`` prints for one run."""
    shown = harness("run", *words, "--json")
    assert shown.exit_code == 0, shown.output
    (record,) = map(RunRecord.from_json, json.loads(shown.stdout))
    return [(one.image, dict(one.scores)) for one in record.images]


class TestScores:
    @pytest.mark.real_data
    @pytest.mark.parametrize(
        ("name", "protocol"),
        [("drfn", "BI-x4/rgb"), ("edsr-baseline", "BI-x4/rgb"), ("fsrcnn", "BI-x4/y")],
    )
    def test_they_are_those_of_the_command_to_the_last_bit(
        self, harness, name: str, protocol: str
    ) -> None:
        expected = of_the_command(harness, "--models", name, "--datasets", "set5")
        by_name = api.evaluate(name, "set5")
        assert scored(by_name) == expected
        assert (by_name.network, by_name.dataset, by_name.protocol.name) == (name, "set5", protocol)
        module = api.load_network(name)
        assert scored(api.evaluate(module, "set5", protocol=protocol)) == expected

    def test_demo_is_always_there(self, harness) -> None:
        expected = of_the_command(harness, "--models", "fsrcnn", "--datasets", "demo")
        evaluation = api.evaluate("fsrcnn", "demo")
        assert scored(evaluation) == expected
        frame = evaluation.to_pandas()
        assert list(frame.columns) == ["image", "psnr", "ssim", "seconds"]
        assert frame["psnr"].mean() == pytest.approx(evaluation.psnr, abs=1e-12)
        assert frame["ssim"].mean() == pytest.approx(evaluation.ssim, abs=1e-12)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"self_ensemble": True}, ["--self-ensemble"]),
            ({"tile": 8}, ["--tile", "8"]),
            ({"metrics": ["ssim-whole"]}, ["--metric", "ssim-whole"]),
            ({"protocol": "BI-x4/rgb+full-range+symmetric+float-lr"}, "symmetric"),
        ],
    )
    def test_options_are_those_of_the_command(
        self, harness, photos: Path, options: dict[str, object], words: list[str] | str
    ) -> None:
        rules = ["--grey=full-range", "--border=symmetric", "--float-lr"]
        words = rules if words == "symmetric" else words
        expected = of_the_command(
            harness, "--models", "edsr-baseline", "--datasets", photos, *words
        )
        assert scored(api.evaluate("edsr-baseline", photos, **options)) == expected
        module = api.load_network("edsr-baseline")
        assert scored(api.evaluate(module, photos, **options)) == expected

    def test_a_module_may_take_the_enlarged_image(
        self, harness, photos: Path, random_weights: Callable[..., Path]
    ) -> None:
        file = random_weights("srcnn")
        expected = of_the_command(harness, "--models", f"srcnn={file}", "--datasets", photos)
        assert scored(api.evaluate("srcnn", photos, weights=file)) == expected
        module = api.load_network("SRCNN", weights=file)
        with pytest.raises(UsageError, match="both name weights"):
            api.load_network("srcnn:official", weights=file)
        with pytest.raises(UsageError, match="weights_key is for a weights file"):
            api.load_network("fsrcnn", weights_key="params")
        for refuses in (api.load_network, partial(api.evaluate, images=photos)):
            with pytest.raises(UsageError, match="is a checkpoint with its weights"):
                refuses(str(file), weights=file)
        rules = {"protocol": "BI-x4/y", "network_input": "bicubic"}
        assert scored(api.evaluate(module, photos, **rules)) == expected

    def test_arrays_score_as_their_files_in_their_order(self, photos: Path) -> None:
        arrays = {path.stem: read_image(path).pixels for path in photos.iterdir()}
        expected = dict(scored(api.evaluate("bicubic-rgb", photos)))
        named = {f"{name}_LR": arrays[name] for name in "cab"}  # a file of that name is left out
        evaluation = api.evaluate("bicubic-rgb", named)
        assert scored(evaluation) == [(f"{name}_LR", expected[name]) for name in "cab"]
        assert evaluation.dataset == "arrays"
        evaluation = api.evaluate("bicubic-rgb", [arrays[name] for name in "bca"])
        assert scored(evaluation) == [(str(at), expected[name]) for at, name in enumerate("bca")]

    @pytest.mark.real_data
    def test_arrays_of_a_published_set_keep_their_names_and_order(self) -> None:
        by_name = api.evaluate("bicubic", "set5")
        images = reversed(find(DATASETS.get("set5"), 4).images)
        arrays = {image.name[::-1]: read_image(image.path).pixels for image in images}
        evaluation = api.evaluate("bicubic", arrays)
        expected = [(name[::-1], scores) for name, scores in reversed(scored(by_name))]
        assert scored(evaluation) == expected

    def test_nothing_is_written(self, photos: Path, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        api.evaluate("bicubic", photos)
        assert sorted(tmp_path.rglob("*")) == before


class TestPairs:
    @pytest.mark.parametrize("protocol", ["BI-x4/rgb", "BI-x4/rgb+full-range", "BI-x3/rgb"])
    def test_two_images_score_as_published_ones(self, photos: Path, protocol: str) -> None:
        scale = int(protocol[4])
        theirs = Path("theirs")
        theirs.mkdir()
        arrays = {}
        for path in photos.iterdir():
            hr = read_image(path).pixels
            sides = [side // scale * scale for side in hr.shape[:2]]
            arrays[path.stem] = picture(*sides, *hr.shape[2:] or (1,), seed=1), hr
            Image.fromarray(arrays[path.stem][0]).save(theirs / path.name)
        expected = api.evaluate("theirs=theirs", photos, protocol=protocol)
        for name, scores in scored(expected):
            assert api.psnr(*arrays[name], protocol) == scores["psnr"]
            assert api.ssim(*arrays[name], protocol) == scores["ssim"]

    def test_luma_is_that_of_the_paper_and_the_border_is_left_out(self) -> None:
        hr = np.full((32, 32, 3), 100, np.uint8)
        sr = hr.copy()
        sr[:4] = 0
        assert api.psnr(sr, hr) == np.inf
        sr[:, :, 1] += 10  # 10 * 128.553 / 255 of luma
        inner = 10 * 128.553 / 255
        assert api.psnr(sr, hr) == pytest.approx(20 * np.log10(255 / inner), abs=1e-9)

    def test_an_lr_image_is_that_of_imresize(self) -> None:
        hr = picture(48, 64, 3, seed=0)
        assert np.array_equal(api.make_lr(hr), api.imresize(hr, 1 / 4))
        luma = api.make_lr(hr, "BI-x2/y")
        assert luma.shape == (24, 32) and luma.dtype == np.float64


class Noisy(nn.Module):
    """A network with a random part, a running mean and a wish to be fast."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 48, 3, padding=1), nn.BatchNorm2d(48), nn.Dropout(0.3), nn.PixelShuffle(4)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(image)


def train(photos: Path | None, steps: int = 4) -> tuple[Noisy, dict[str, object]]:
    """Train a network, and score it after each step if there are photos."""
    torch.manual_seed(0)
    network = Noisy()
    network.body[0].bias.requires_grad_(False)
    optimizer = torch.optim.Adam(one for one in network.parameters() if one.requires_grad)
    for _ in range(steps):
        loss = network(torch.rand(2, 3, 12, 12)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if photos:
            api.evaluate(network, photos)
        optimizer.step()
    return network, random_state(CPU)


class TestTrainingLoop:
    def test_a_training_does_not_notice_it(self, photos: Path) -> None:
        plain, plain_state = train(None)
        watched, state = train(photos)
        assert repr(state) == repr(plain_state)
        for (name, one), other in zip(
            watched.state_dict().items(), plain.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other) and one.stride() == other.stride(), name
        for one, other in zip(watched.modules(), plain.modules(), strict=True):
            assert one.training and other.training
        for one, other in zip(watched.parameters(), plain.parameters(), strict=True):
            assert one.requires_grad == other.requires_grad
            assert (one.grad is None) == (other.grad is None)
            assert one.grad is None or torch.equal(one.grad, other.grad)

    def test_it_is_scored_in_evaluation_mode(self, photos: Path) -> None:
        network, _ = train(None)
        while_training = api.evaluate(network, photos)
        assert scored(while_training) == scored(api.evaluate(network.eval(), photos))

    @pytest.mark.parametrize("way", ["default", "older", "newer"])
    def test_the_settings_of_torch_stay(self, photos: Path, way: str) -> None:
        """In a process of its own: another test has chosen full precision already."""
        choose = {
            "default": "pass",
            "older": "torch.set_float32_matmul_precision('high'); B.cudnn.benchmark = True",
            "newer": "B.cuda.matmul.fp32_precision = 'tf32'; B.cudnn.deterministic = True",
        }
        script = (
            "import sys, torch, harness\n"
            "B = torch.backends\n"
            f"{choose[way]}\n"
            "def older():\n"
            "    try: return torch.get_float32_matmul_precision(), B.cuda.matmul.allow_tf32\n"
            "    except RuntimeError: return 'refused'\n"
            "def settings():\n"
            "    places = (B, B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn, B.mkldnn.matmul)\n"
            "    return ([p.fp32_precision for p in places], older(), B.cudnn.allow_tf32\n"
            "        if older() != 'refused' else None, B.cudnn.benchmark, B.cudnn.deterministic,\n"
            "        torch.get_default_dtype(), torch.get_num_threads())\n"
            "before = settings()\n"
            "harness.evaluate('bicubic', sys.argv[1])\n"
            "harness.evaluate(torch.nn.Upsample(scale_factor=4), sys.argv[1])\n"
            "harness.load_network('edsr-baseline')\n"
            "assert settings() == before, (settings(), before)\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", script, str(photos)]
        subprocess.run(command, check=True)


class TestErrors:
    @pytest.mark.parametrize(
        ("network", "options", "what"),
        [
            ("bicubic", {"protocol": "BI-x4/rgb"}, "pipeline y"),
            ("bicubic", {"protocol": "BI-x4/cmyk"}, "No protocol"),
            ("bicubic", {"protocol": "BI-x4/y", "scale": 2}, "not for x2"),
            ("bicubic", {"network_input": "bicubic"}, "network_input"),
            ("bicubic*", {}, "one network"),
            ("bicubi", {}, "bicubic"),
            (nn.Identity(), {"weights": "mine.pth"}, "weights"),
            (nn.Identity(), {"metrics": ["no-such"]}, "no-such"),
        ],
    )
    def test_a_request_that_does_not_fit_is_refused(
        self, photos: Path, network: object, options: dict[str, object], what: str
    ) -> None:
        with pytest.raises(UsageError, match=re.escape(what)):
            api.evaluate(network, photos, **options)

    @pytest.mark.parametrize(
        "image", [np.zeros((32, 32, 3)), np.zeros((32, 32, 4), np.uint8), [[1, 2], [3, 4]]]
    )
    def test_what_is_no_uint8_image_is_refused(self, image: object) -> None:
        hr = np.zeros((32, 32, 3), np.uint8)
        for call in (
            lambda: api.psnr(image, hr),
            lambda: api.ssim(hr, image),
            lambda: api.make_lr(image),
            lambda: api.evaluate("bicubic", {"a": image}),
        ):
            with pytest.raises(UsageError, match="uint8 array"):
                call()

    @pytest.mark.parametrize("shape", [(36, 32, 3), (32, 32)])
    def test_two_images_that_cannot_be_compared_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(UsageError):
            api.psnr(np.zeros(shape, np.uint8), np.zeros((32, 32, 3), np.uint8))

    def test_weights_are_asked_for_as_in_python(self, photos: Path, random_weights) -> None:
        with pytest.raises(HarnessError) as said:
            api.evaluate("rdn", photos)
        (name,) = re.findall(r"in Python: (\w+)=FILE", str(said.value))
        api.evaluate("srcnn", photos, **{name: random_weights("srcnn")})

    def test_no_other_network_is_scored_in_place_of_one_without_weights(self, photos: Path) -> None:
        with pytest.raises(HarnessError, match="edsr-baseline"):
            api.evaluate("edsr", photos)

    def test_an_output_of_another_size_is_named(self, photos: Path) -> None:
        with pytest.raises(HarnessError, match="Identity returned"):
            api.evaluate(nn.Identity(), photos)

    def test_a_set_that_is_not_there_is_named(self) -> None:
        with pytest.raises(HarnessError, match="Urban100"):
            api.evaluate("bicubic", "urban100")


class TestPackage:
    def test_importing_it_imports_neither_torch_nor_the_interface(self) -> None:
        script = (
            "import sys, harness\n"
            "assert not {'torch', 'numpy', 'harness.api'} & set(sys.modules)\n"
            "import numpy as np\n"
            "image = np.zeros((32, 32, 3), np.uint8)\n"
            "harness.psnr(image, image), harness.make_lr(image), harness.list_models()\n"
            "assert 'torch' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_a_folder_of_the_environment_that_does_not_exist_is_a_warning(self) -> None:
        script = "import harness; harness.list_models(), harness.list_datasets()"
        environment = {**os.environ, "HARNESS_DATA": "/nowhere"}
        shown = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment
        )
        assert shown.returncode == 0
        assert shown.stderr.count("UserWarning: HARNESS_DATA names /nowhere, which is") == 1

    @pytest.mark.parametrize(
        ("network", "said"),
        [(nn.Identity, r"not its class: Identity\(\)"), (len, "a torch module, a name or a path")],
    )
    def test_what_is_no_network_is_refused(self, network: object, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            api.evaluate(network, "demo")

    @pytest.mark.parametrize("images", [np.zeros((64, 64, 3), np.uint8), 5])
    def test_one_image_is_no_list_of_images(self, images: object) -> None:
        with pytest.raises(UsageError, match="a list of uint8 arrays"):
            api.evaluate("bicubic", images)

    def test_a_name_is_no_list_of_metrics_and_a_network_no_name(self) -> None:
        with pytest.raises(UsageError, match=r"give \['ssim-whole'\]"):
            api.evaluate("bicubic", "demo", metrics="ssim-whole")
        with pytest.raises(UsageError, match="a name or a path, not the class Identity"):
            api.load_network(nn.Identity)

    def test_it_has_every_name_of_the_interface(self) -> None:
        assert package.__all__ == api.__all__ and set(api.__all__) <= set(dir(package))
        for name in api.__all__:
            assert getattr(package, name) is getattr(api, name)
        with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
            package.evaluat  # noqa: B018


def test_the_document_shows_every_name_and_its_examples_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = DOCUMENT.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = "\n".join(blocks)
    assert all(f"harness.{name}" in code for name in set(api.__all__) - {"Evaluation"})
    apply_settings()
    names: dict[str, object] = {}
    exec(code, names)
    assert type(names["scores"]) is api.Evaluation and names["best"] > 0
    assert names["half"].shape == (32, 32, 3) and names["large"].shape == (1, 3, 96, 96)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(names["scores"]) and "no-such-set" in printed[-1]
