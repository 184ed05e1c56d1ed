import csv
import io

import pytest
import torch
from torch import nn

from harness.models.complexity import disagreements, measure_complexity, thop_macs
from harness.models.speed import measure_speed
from harness.registry import MODELS, register_model


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
    assert measure_complexity(MODELS.get("choosy"), 4, {}).macs is None


def test_time_and_memory_are_for_a_megapixel_of_output() -> None:
    small = measure_speed(MODELS.get("fsrcnn"), 4, "cpu", (256, 256), runs=2)
    assert 0 < small.seconds < 600
    if small.bytes is not None:
        # At least the output itself must have been held: four bytes a pixel.
        assert small.bytes >= 4 * 1_000_000


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
        (["bicubic"], "None of these models has parameters at x4"),
        (["drfm"], "did you mean drfn"),
    ],
)
def test_requests_that_make_no_sense_are_refused(harness, words, said: str) -> None:
    shown = harness("complexity", *words)
    assert shown.exit_code == 2 and said in shown.output
