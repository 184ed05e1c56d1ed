import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import thop
import torch
from torch import nn

from harness.cards import ModelCard
from harness.data.pinned import cache_root
from harness.errors import HarnessError
from harness.models import cost
from harness.models.cost import (
    Complexity,
    convolution_shapes,
    disagreements,
    measure_complexity,
    measure_depth,
    receptive_radius,
    thop_macs,
)
from harness.models.resources import forward_bytes, measure_speed
from harness.models.source import network_digest, unbuilt_digest
from harness.record import digest
from harness.registry import MODELS, load_plugins, register_model
from harness.report.complexity import complexity_table


def test_the_macs_of_a_network_are_those_of_its_layers() -> None:
    measured = measure_complexity(MODELS.get("vdsr"), 4, {})
    # Every layer of VDSR works at full size: one multiplication a weight and pixel.
    weights = 9 * (64 + 18 * 64 * 64 + 64)
    assert measured.macs == weights * 1280 * 720
    assert measured.by_kind == {"Conv2d": measured.macs}
    assert measured.activations == (19 * 64 + 1) * 1280 * 720
    assert measured.input_size == (1280, 720)
    assert measure_complexity(MODELS.get("drfn"), 4, {}).input_size == (320, 180)


def test_a_transposed_convolution_multiplies_its_kernel_once_an_input_pixel() -> None:
    measured = measure_complexity(MODELS.get("lapsrn"), 4, {})
    assert measured.by_kind is not None
    pixels = 320 * 180
    levels = pixels + 4 * pixels
    assert measured.by_kind["ConvTranspose2d"] == levels * (64 * 64 * 9 + 16)


def test_a_convolution_that_is_used_again_is_counted_again() -> None:
    measured = measure_complexity(MODELS.get("memnet"), 4, {})
    # Each block's convolutions six times, and the last layer once for each of six outputs.
    again = 6 * 6 * 2 * 64 * 64 * 9 + 6 * 64 * 9
    once = 64 * 9 + sum(6 + n for n in range(1, 7)) * 64 * 64
    assert measured.macs == (again + once) * 1280 * 720


def test_thop_counts_a_transposed_convolution_at_every_output_pixel() -> None:
    card = MODELS.get("lapsrn")
    ours = measure_complexity(card, 4, {}).by_kind
    differing = disagreements(ours or {}, thop_macs(card, 4, {}, 320, 180))
    assert differing.keys() == {"ConvTranspose2d"}
    gap, reason = differing["ConvTranspose2d"]
    assert gap > 3 * (ours or {})["ConvTranspose2d"] * 0.99
    assert "one product in stride squared" in reason


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(1, 1, 3, 3))

    def forward(self, image):
        return nn.functional.conv2d(image, self.kernel, padding=1)


def test_thop_does_not_see_functions_and_torch_does() -> None:
    register_model("plain", pipeline="y", input="bicubic", scales=(4,))(lambda scale: Functional())
    card = MODELS.get("plain")
    ours = measure_complexity(card, 4, {}, (40, 20)).by_kind or {}
    assert ours == {"functional": 9 * 40 * 20}
    (gap, reason) = disagreements(ours, thop_macs(card, 4, {}, 40, 20))["functional"]
    assert gap == -9 * 40 * 20 and "not functions" in reason


def test_every_disagreement_with_thop_has_a_known_reason() -> None:
    reasons = {}
    for card in map(MODELS.get, MODELS):
        size = (320, 180) if card.input == "lr" else (1280, 720)
        ours = measure_complexity(card, 4, {}).by_kind
        assert ours is not None, card.name
        found = disagreements(ours, thop_macs(card, 4, {}, *size))
        reasons |= {kind: reason for kind, (_, reason) in found.items()}
    assert "reason not known" not in reasons.values(), reasons
    assert reasons.keys() == {"AdaptiveAvgPool2d", "BatchNorm2d", "ConvTranspose2d", "PReLU"}


def test_a_network_that_needs_values_has_no_count() -> None:
    class Choosy(nn.Module):
        def forward(self, image):
            return image if image.mean() > 0 else -image

    register_model("choosy", pipeline="y", input="bicubic", scales=(4,))(lambda scale: Choosy())
    measured = measure_complexity(MODELS.get("choosy"), 4, {})
    assert measured.macs is None and measured.obstacle
    shown = complexity_table([MODELS.get("choosy")], 4, None).render("md")
    assert f"not counted: {measured.obstacle}" in " ".join(shown.split())


def test_a_size_that_a_network_refuses_is_named(harness, tmp_path) -> None:
    (tmp_path / "picky.py").write_text(
        "from torch import nn\n"
        "from harness.registry import register_model\n"
        "@register_model('picky', pipeline='rgb', input='lr', scales=(4,))\n"
        "def picky(scale):\n"
        "    return nn.Sequential(nn.ReflectionPad2d(20), nn.Upsample(scale_factor=4))\n"
    )
    words = ("--plugin", "picky.py", "--time", "--time-size", "64x64")
    shown = harness("complexity", "picky", *words)
    assert shown.exit_code == 1
    assert "picky fails on 16 x 16 pixels (RuntimeError: " in shown.output
    assert "choose another --time-size" in shown.output and "unexpected" not in shown.output


class Tied(nn.Module):
    """One convolution under two parents, one transposed one under two names."""

    def __init__(self) -> None:
        super().__init__()
        layer, larger = nn.Conv2d(1, 1, 3, padding=1), nn.ConvTranspose2d(1, 1, 2, stride=2)
        self.first, self.second = nn.Sequential(layer, nn.ReLU()), nn.Sequential(layer)
        self.steps = nn.ModuleList([nn.Sequential(larger), nn.Sequential(larger)])

    def forward(self, image):
        for part in (self.first, self.second, *self.steps):
            image = part(image)
        return image


def test_a_layer_with_two_parents_is_counted_a_call_and_thop_explained() -> None:
    register_model("tied", pipeline="y", input="lr", scales=(4,))(lambda scale: Tied())
    card = MODELS.get("tied")
    ours = measure_complexity(card, 4, {}, (40, 40)).by_kind or {}
    assert ours == {
        "shared Conv2d": 2 * 9 * 10 * 10,
        "shared ConvTranspose2d": 4 * (10 * 10 + 20 * 20),
    }
    theirs = thop_macs(card, 4, {}, 10, 10)
    total, _ = thop.profile(Tied(), inputs=(torch.ones(1, 1, 10, 10),), verbose=False)
    assert sum(theirs.values()) == total
    # Two hooks a call, and the sum of both calls once for each of two parents.
    assert theirs["shared Conv2d"] == 4 * ours["shared Conv2d"]
    differing = disagreements(ours, theirs)
    assert differing.keys() == ours.keys()
    assert all("a layer with several names" in reason for _, reason in differing.values())


def test_normalising_enlarging_and_pooling_layers_are_explained() -> None:
    def build(scale: int) -> nn.Module:
        return nn.Sequential(
            nn.LayerNorm(40),
            nn.InstanceNorm2d(1, affine=True),
            nn.Upsample(scale_factor=2, mode="bicubic"),
            nn.AvgPool2d(2),
            nn.Upsample(scale_factor=4),
        )

    register_model("many", pipeline="y", input="lr", scales=(4,))(build)
    card = MODELS.get("many")
    ours = measure_complexity(card, 4, {}, (160, 160)).by_kind or {}
    differing = disagreements(ours, thop_macs(card, 4, {}, 40, 40))
    assert {"LayerNorm", "Upsample", "AvgPool2d"} <= differing.keys()
    assert all("no convolution" in reason for _, reason in differing.values()), differing


TELLS = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="this system does not tell the peak"
)


@TELLS
def test_time_and_memory_are_for_a_megapixel_of_output() -> None:
    small = measure_speed(MODELS.get("fsrcnn"), 4, "cpu", (256, 256), runs=2)
    assert 0 < small.seconds < 600
    # At least the output itself must have been held: four bytes a pixel.
    assert small.bytes is not None and small.bytes >= 4 * 1_000_000


@TELLS
def test_memory_for_a_megapixel_does_not_depend_on_the_size_and_is_that_of_the_tensors() -> None:
    card = MODELS.get("fsrcnn")
    small, large = (
        measure_speed(card, 4, "cpu", (side, side), runs=1).bytes for side in (480, 960)
    )
    counted = forward_bytes(card.build(), 1) / 4**2 * 1e6
    for measured in (small, large):
        assert measured is not None
        assert counted / 2 < measured < 4 * counted, (small, large, counted)


def test_the_table_is_for_the_size_that_was_counted(harness) -> None:
    shown = harness("complexity", "fsrcnn", "vdsr", "--output-size", "1279x719")
    assert "1276 x 716 pixels" in shown.output and "1279" not in shown.output
    csv_ = harness("complexity", "fsrcnn", "vdsr", "--output-size", "1279x719", "--format", "csv")
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(csv_.output))}
    assert (rows["fsrcnn"]["input_width"], rows["fsrcnn"]["input_height"]) == ("319", "179")
    assert (rows["vdsr"]["input_width"], rows["vdsr"]["input_height"]) == ("1276", "716")


def test_counts_that_the_paper_prints_for_x4_stand_beside_x4_only(harness) -> None:
    shown = {scale: harness("complexity", "drfn", "--scale", scale).output for scale in (2, 4)}
    assert "5.2M" in shown[4] and "5.2M" not in shown[2]


def test_the_table_has_printed_and_measured_counts(harness) -> None:
    shown = harness("complexity", "drfn", "fsrcnn", "--format", "csv", "--output-size", "640x360")
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(shown.output))}
    assert rows["drfn"]["parameters"] == "5207203"
    macs = measure_complexity(MODELS.get("drfn"), 4, {}, (640, 360)).macs
    assert int(rows["drfn"]["macs"]) == macs
    assert (rows["drfn"]["input_width"], rows["drfn"]["input_height"]) == ("160", "90")
    timed = harness("complexity", "fsrcnn", "--time", "--time-size", "64x64")
    assert "s/MP" in timed.output and "of this machine" in timed.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output-size", "large"], "A size is WIDTHxHEIGHT"),
        (["fsrcnn", "--output-size", "2x2"], "An output of 2 x 2 pixels is too small"),
        (["fsrcnn", "--time", "--time-size", "3x9"], "An output of 3 x 9 pixels is too small"),
        (["bicubic"], "None of these models has parameters at x4"),
        (["drfm"], "did you mean drfn"),
    ],
)
def test_requests_that_make_no_sense_are_refused(harness, words, said: str) -> None:
    shown = harness("complexity", *words)
    assert shown.exit_code == 2 and said in shown.output


@pytest.mark.parametrize(
    ("model", "chain"),
    [
        ("srcnn", 3),  # "with three convolutional layers"
        ("vdsr", 20),  # 20 weight layers, as its paper says
        ("edsr-baseline", 1 + 16 * 2 + 1 + 2 + 1),  # head, blocks, their tail, upsampling, output
    ],
)
def test_plain_networks_are_as_deep_as_their_papers_say(model: str, chain: int) -> None:
    assert measure_depth(MODELS.get(model), 4, {}).chain == chain


@pytest.mark.parametrize(("model", "convs"), [("drfn", 1), ("drfn-2conv", 2)])
def test_drfn_goes_through_every_group_and_the_last_fusion(model: str, convs: int) -> None:
    group = 8 * convs + 2 + 1  # blocks, channel attention, spatial attention
    found = measure_depth(MODELS.get(model), 4, {})
    assert found.chain == 1 + 16 * group + 2 + 2 + 1  # shallow, fusion, upsampling, output
    assert found.convolutions == 1 + 16 * group + 16 * 2 + 1 + 2 + 1
    assert found.operations > found.chain


def test_arguments_count() -> None:
    assert measure_depth(MODELS.get("vdsr"), 4, {"depth": 5}).chain == 5


SIZE = (40, 40)
PLUGIN = """\
import json, os, sys
from pathlib import Path
from torch import nn
from harness.registry import register_model
sys.path.insert(0, os.path.dirname(__file__))
{helper}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 48, helper.SIDE, padding=helper.SIDE // 2)
        self.shuffle = nn.PixelShuffle(4)
    def forward(self, image):
        return self.shuffle(self.layer(image))

@register_model("mine", pipeline="rgb", input="lr", scales=(4,))
def mine(scale=4): return Net()
"""

CLONE = """\
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    def forward(self, image):
        for _ in range({steps}):
            image = self.layer(image)
        return image
"""
WRAPPER = """\
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from harness.registry import register_model
{taken}

@register_model("wrapped", pipeline="y", input="bicubic", scales=(4,))
def wrapped(scale=4): return Net()
"""


def work(helper: str = "import helper") -> int:
    """Operations of the plug-in in this folder, loaded anew."""
    Path("mine.py").write_text(PLUGIN.format(helper=helper))
    sys.modules.pop("helper", None)
    load_plugins([Path("mine.py")])
    macs = measure_complexity(MODELS.get("mine"), 4, {}, SIZE).macs
    assert macs is not None
    return macs // (3 * 48 * 10 * 10)


def files() -> list[Path]:
    return sorted((cache_root() / "counts").glob("*"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks whose operations were counted, not found."""
    names: list[str] = []
    make_image = cost._image

    def noted(card: ModelCard, width: int, height: int) -> torch.Tensor:
        names.append(card.name)
        return make_image(card, width, height)

    monkeypatch.setattr(cost, "_image", noted)
    return names


def test_the_networks_of_the_harness_import_all_that_they_are_made_of() -> None:
    cards = [MODELS.get(name) for name in MODELS]
    assert len(cards) > 10 and all(c.origin.startswith("harness.baselines.") for c in cards)
    for card in cards:
        assert unbuilt_digest(card) == network_digest(card, card.scales[-1], {}), card.name


def test_a_count_that_is_kept_is_the_one_that_was_made() -> None:
    card = MODELS.get("lapsrn")
    asked: list[Callable[[], object]] = [
        lambda: measure_complexity(card, 4, {}, SIZE),
        lambda: thop_macs(card, 4, {}, 10, 10),
        lambda: measure_depth(MODELS.get("vdsr"), 4, {"depth": 5}),
        lambda: convolution_shapes(card, 4, {}),
        lambda: receptive_radius(card, 4, {}),
    ]
    made = [one() for one in asked]
    kept = files()
    assert len(kept) == len(asked)
    before = [file.stat().st_mtime_ns for file in kept]
    found = [one() for one in asked]
    assert found == made and repr(found) == repr(made)
    assert [file.stat().st_mtime_ns for file in files()] == before


def test_what_is_kept_is_found_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli import main\n"
        "main(['complexity', 'lapsrn', 'fsrcnn', '--output-size', '40x40'], standalone_mode=False)"
        "\nprint('torch' in sys.modules, file=sys.stderr)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert (first.stderr.split()[-1], second.stderr.split()[-1]) == ("True", "False")
    assert first.stdout == second.stdout


def test_arguments_sizes_and_scales_have_counts_of_their_own(counted) -> None:
    card = MODELS.get("fsrcnn")
    for hyper, scale, size in (
        ({}, 4, SIZE),
        ({"width": 8}, 4, SIZE),
        ({}, 2, SIZE),
        ({}, 4, (80, 40)),
    ):
        for _ in range(2):
            measure_complexity(card, scale, hyper, size)
    assert counted == ["fsrcnn"] * 4


def test_a_run_finds_what_a_report_has_counted(counted) -> None:
    card = MODELS.get("fsrcnn")
    measure_complexity(card, 4, {}, SIZE)
    measure_complexity(card, 4, {}, SIZE, source_sha256=network_digest(card, 4, {}))
    measure_complexity(card, 4, {}, SIZE, source_sha256="that of another code")
    assert counted == ["fsrcnn"] * 2


OURS = [Path(cost.__file__).with_name(f"{name}.py") for name in ("cost", "network", "upscaler")]


@pytest.mark.parametrize(
    ("name", "changed"),
    [("version", "torch"), ("version", "thop"), *(("file_digest", file) for file in OURS)],
)
def test_another_release_of_torch_or_other_counting_code_counts_anew(
    counted, monkeypatch, name: str, changed: object
) -> None:
    card, real = MODELS.get("fsrcnn"), getattr(cost, name)
    measure_complexity(card, 4, {}, SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(cost, name, lambda one: "another" if one == changed else real(one))
        cost._counting.cache_clear()
        for _ in range(2):
            measure_complexity(card, 4, {}, SIZE)
    cost._counting.cache_clear()
    measure_complexity(card, 4, {}, SIZE)
    assert counted == ["fsrcnn"] * 2


class TestAnotherNetwork:
    @pytest.mark.parametrize(
        "helper", ["import helper", "helper = __import__('helper')", "import helper as helper"]
    )
    def test_an_edited_helper_changes_the_count(self, helper: str, counted) -> None:
        Path("helper.py").write_text("SIDE = 3\n")
        assert [work(helper), work(helper)] == [9, 9]
        Path("helper.py").write_text("SIDE = 5   \n")
        assert [work(helper), work(helper)] == [25, 25]
        Path("helper.py").write_text('"""A side."""\nSIDE = 3\n')
        assert work(helper) == 9
        assert counted == ["mine"] * 2

    @pytest.mark.parametrize("taken", ["from clone import Net", "Net = __import__('clone').Net"])
    def test_a_class_that_is_edited_elsewhere_changes_the_count(self, taken: str) -> None:
        """Its layers stay as they are, and are called more often."""
        seen = []
        for steps in (1, 2):
            Path("clone.py").write_text(CLONE.format(steps=steps))
            Path("wrap.py").write_text(WRAPPER.format(taken=taken))
            sys.modules.pop("clone", None)
            load_plugins([Path("wrap.py")])
            macs = measure_complexity(MODELS.get("wrapped"), 4, {}, SIZE).macs
            assert macs == measure_complexity(MODELS.get("wrapped"), 4, {}, SIZE).macs
            seen.append(macs)
        assert seen == [9 * 40 * 40, 2 * 9 * 40 * 40]

    def test_an_edited_plugin_changes_the_count(self, counted) -> None:
        card = MODELS.get("fsrcnn")
        text = Path(str(card.source)).read_text().replace('"fsrcnn"', '"copied"')
        text = text.replace("from .layers", "from harness.baselines.layers")
        seen = []
        for width in (56, 56, 8):
            Path("copied.py").write_text(text.replace("width: int = 56", f"width: int = {width}"))
            load_plugins([Path("copied.py")])
            seen.append(measure_complexity(MODELS.get("copied"), 4, {}, SIZE).macs)
        assert seen[0] == seen[1] != seen[2]
        assert seen[0] == measure_complexity(card, 4, {}, SIZE).macs
        assert counted == ["copied", "copied", "fsrcnn"]

    def test_an_edited_network_of_the_harness_is_counted_anew(self, counted) -> None:
        """In the next process: this one has imported the file as it was."""
        source = Path(shutil.copy(str(MODELS.get("vdsr").source), "vdsr.py"))
        card = replace(MODELS.get("vdsr"), source=source)
        for edit in ("", "\nSTEP = 2\n"):
            source.write_text(source.read_text() + edit)
            for _ in range(2):
                cost._own_code.cache_clear()
                measure_complexity(card, 4, {}, SIZE)
        assert counted == ["vdsr"] * 2

    def test_what_is_edited_after_a_network_was_imported_is_not_taken_for_it(self) -> None:
        cost._own_code.cache_clear()
        source = Path(shutil.copy(str(MODELS.get("vdsr").source), "vdsr.py"))
        card = replace(MODELS.get("vdsr"), source=source)
        measure_complexity(card, 4, {}, SIZE)
        source.write_text(source.read_text() + "\nSTEP = 2\n")
        thop_macs(card, 4, {}, *SIZE)
        kept = files()
        cost._own_code.cache_clear()
        thop_macs(card, 4, {}, *SIZE)
        assert len(files()) == len(kept) + 1

    def test_a_width_that_is_read_from_a_file_changes_the_count(self) -> None:
        helper = "class helper: SIDE = json.loads(Path('side.json').read_text())"
        Path("side.json").write_text("3")
        assert work(helper) == 9
        Path("side.json").write_text("5")
        assert work(helper) == 25

    def test_what_a_card_says_of_the_input_changes_the_count(self, counted) -> None:
        card = MODELS.get("srcnn")
        for pipeline in ("y", "rgb"):
            for given in ("bicubic", "lr"):
                one = replace(card, pipeline=pipeline, input=given)  # type: ignore[arg-type]
                with_obstacle = measure_complexity(one, 4, {}, SIZE).obstacle
                assert bool(with_obstacle) == (pipeline == "rgb")
        assert len(counted) == 4


class TestWhatIsNotKept:
    def test_a_network_that_failed_is_tried_again(self, monkeypatch) -> None:
        Path("helper.py").write_text("SIDE = 3\n")
        failing = "import helper\nif os.environ.get('FAIL'): helper.SIDE = 'three'"
        monkeypatch.setenv("FAIL", "1")
        Path("mine.py").write_text(PLUGIN.format(helper=failing))
        load_plugins([Path("mine.py")])
        with pytest.raises(HarnessError, match="mine"):
            measure_complexity(MODELS.get("mine"), 4, {}, SIZE)
        assert not files()
        monkeypatch.delenv("FAIL")
        assert work(failing) == 9

    def test_a_count_that_failed_is_made_again(self, monkeypatch) -> None:
        card = MODELS.get("fsrcnn")
        run = cost._run

        def out_of_memory(*_: object) -> tuple[object, int]:
            raise MemoryError("full")

        monkeypatch.setattr(cost, "_run", out_of_memory)
        assert "full" in measure_complexity(card, 4, {}, SIZE).obstacle
        assert not files()
        monkeypatch.setattr(cost, "_run", run)
        assert measure_complexity(card, 4, {}, SIZE).macs

    def test_a_cache_that_cannot_be_written_costs_no_more_than_time(
        self, monkeypatch, tmp_path: Path
    ) -> None:
        expected = measure_complexity(MODELS.get("fsrcnn"), 4, {}, SIZE)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert measure_complexity(MODELS.get("fsrcnn"), 4, {}, SIZE) == expected


def entry_of(file: Path, count: object) -> None:
    """Write an entry whose seal fits."""
    text = json.dumps(count, separators=(",", ":"))
    file.write_text(json.dumps([digest([file.stem, text]), text]))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def alter(file: Path) -> None:
    sha256, text = json.loads(file.read_text())
    altered = text.replace('"parameters":', '"parameters":1')
    assert altered != text
    file.write_text(json.dumps([sha256, altered]))


def take_another(file: Path) -> None:
    measure_complexity(MODELS.get("srcnn"), 4, {}, SIZE)
    other = next(one for one in files() if one != file)
    other.replace(file)


def make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        alter,
        take_another,
        make_fifo,
        make_folder,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff\x00" * 90),
        lambda file: file.write_text("[" * 200_000),
        lambda file: file.write_text('["sha256",' + "[" * 200_000),
        lambda file: file.write_text("7"),
        lambda file: file.write_text('["sha256"]'),
        lambda file: entry_of(file, 7),
        lambda file: entry_of(file, {"parameters": "many", "macs": 1, "input_size": [10, 10]}),
        lambda file: entry_of(file, {"parameters": 1, "macs": 1, "input_size": [10, 10, 10]}),
    ],
)
def test_a_damaged_entry_is_not_used(damage: Callable[[Path], object]) -> None:
    card = MODELS.get("fsrcnn")
    expected = measure_complexity(card, 4, {}, SIZE)
    (file,) = files()
    damage(file)
    assert [measure_complexity(card, 4, {}, SIZE) for _ in range(2)] == [expected] * 2


def test_an_entry_of_the_tests_own_making_is_used_where_it_is_sound() -> None:
    """So that the damaged ones above are refused for what is wrong with them."""
    card = MODELS.get("fsrcnn")
    measure_complexity(card, 4, {}, SIZE)
    (file,) = files()
    entry_of(file, {"parameters": 1, "macs": 2, "input_size": [10, 10]})
    assert measure_complexity(card, 4, {}, SIZE) == Complexity(1, 2, (10, 10))
