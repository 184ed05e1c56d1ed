import csv
import io

import pytest
import thop
import torch
from torch import nn

from harness.models.complexity import disagreements, measure_complexity, thop_macs
from harness.models.memory import forward_bytes
from harness.models.speed import measure_speed
from harness.paper import paper
from harness.registry import MODELS, register_model
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
    differing = disagreements(ours or {}, thop_macs(card, 4, (320, 180)))
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
    (gap, reason) = disagreements(ours, thop_macs(card, 4, (40, 20)))["functional"]
    assert gap == -9 * 40 * 20 and "not functions" in reason


def test_every_disagreement_with_thop_has_a_known_reason() -> None:
    for card in map(MODELS.get, MODELS):
        size = (320, 180) if card.input == "lr" else (1280, 720)
        ours = measure_complexity(card, 4, {}).by_kind or {}
        for kind, (_, reason) in disagreements(ours, thop_macs(card, 4, size)).items():
            assert reason != "reason not known", (card.name, kind)


def test_a_network_that_needs_values_has_no_count() -> None:
    class Choosy(nn.Module):
        def forward(self, image):
            return image if image.mean() > 0 else -image

    register_model("choosy", pipeline="y", input="bicubic", scales=(4,))(lambda scale: Choosy())
    measured = measure_complexity(MODELS.get("choosy"), 4, {})
    assert measured.macs is None and measured.obstacle
    shown = complexity_table([MODELS.get("choosy")], 4, paper()).render("md")
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
    theirs = thop_macs(card, 4, (10, 10))
    total, _ = thop.profile(Tied(), inputs=(torch.ones(1, 1, 10, 10),), verbose=False)
    assert sum(theirs.values()) == total
    # Two hooks a call, and the sum of both calls once for each of two parents.
    assert theirs["shared Conv2d"] == 4 * ours["shared Conv2d"]
    for _, reason in disagreements(ours, theirs).values():
        assert "a layer with several names" in reason


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
    differing = disagreements(ours, thop_macs(card, 4, (40, 40)))
    assert {"LayerNorm", "Upsample", "AvgPool2d"} <= differing.keys()
    assert all("no convolution" in reason for _, reason in differing.values()), differing


def test_time_and_memory_are_for_a_megapixel_of_output() -> None:
    small = measure_speed(MODELS.get("fsrcnn"), 4, "cpu", (256, 256), runs=2)
    assert 0 < small.seconds < 600
    if small.bytes is not None:
        # At least the output itself must have been held: four bytes a pixel.
        assert small.bytes >= 4 * 1_000_000


def test_memory_for_a_megapixel_does_not_depend_on_the_size_and_is_that_of_the_tensors() -> None:
    card = MODELS.get("fsrcnn")
    small, large = (
        measure_speed(card, 4, "cpu", (side, side), runs=1).bytes for side in (480, 960)
    )
    if small is None or large is None:
        pytest.skip("this system does not tell how much memory was held")
    counted = forward_bytes(card.build(), 1) / 4**2 * 1e6
    for measured in (small, large):
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
    assert int(rows["drfn"]["flops"]) == 2 * int(rows["drfn"]["macs"])
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
