import pytest

from harness.models.depth import measure_depth
from harness.registry import MODELS


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
