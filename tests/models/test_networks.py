import pytest
import torch

from harness.cards import ModelCard
from harness.models.cost import count_parameters
from harness.models.network import build_network, owner
from harness.registry import MODELS, register_model

NAMES = [
    "bicubic",
    "bicubic-rgb",
    "srcnn",
    "fsrcnn",
    "vdsr",
    "lapsrn",
    "memnet",
    "srmdnf",
    "dcsr",
    "msrn",
    "edsr",
    "edsr-baseline",
    "rdn",
    "drfn",
    "drfn-2conv",
]
COUNTS = {
    "srcnn": 57_281,
    "fsrcnn": 12_644,
    "vdsr": 665_921,
    "lapsrn": 814_242,
    "memnet": 693_640,
    "srmdnf": 1_552_048,
    "dcsr": 665_921,
    "msrn": 6_078_019,
    "edsr": 43_089_923,
    "edsr-baseline": 1_517_571,
    "rdn": 22_271_107,
    "drfn": 5_207_203,
    "drfn-2conv": 9_933_987,
}


def on_meta(card: ModelCard, scale: int = 4, **hyper: object) -> torch.nn.Module:
    with torch.device("meta"):
        return build_network(card, scale, hyper)


def test_the_networks_of_the_paper_are_registered() -> None:
    assert set(NAMES) <= set(MODELS)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_exact(name: str) -> None:
    card = MODELS.get(name)
    assert count_parameters(on_meta(card)) == COUNTS[name] == card.params


@pytest.mark.parametrize("name", ["srcnn", "lapsrn", "edsr-baseline", "rdn"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_owner_of_weights_is_found_without_building_networks_of_other_sizes(
    name: str, scale: int
) -> None:
    built = []
    register_model("huge", pipeline="y", input="lr", scales=(4,), params=10**12)(
        lambda scale: built.append(scale)
    )
    values = on_meta(MODELS.get(name), scale).state_dict()
    shapes = {key: tuple(value.shape) for key, value in values.items()}
    assert f"weights of {name}" in owner(shapes, "", {}) and not built


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_every_network_maps_odd_sizes_at_every_scale(name: str, scale: int) -> None:
    card = MODELS.get(name)
    if scale not in card.scales:
        assert (name, scale) == ("lapsrn", 3), "a pyramid that doubles has no x3"
        return
    factor = card.input_scale(scale)
    with torch.no_grad():
        out = on_meta(card, scale)(torch.empty(2, card.channels, 13, 17, device="meta"))
    assert out.shape == (2, card.channels, 13 * factor, 17 * factor)


def test_the_convolutions_of_memnet_hold_the_677k_of_its_paper() -> None:
    shapes = on_meta(MODELS.get("memnet")).state_dict().items()
    assert sum(v.numel() for name, v in shapes if v.ndim == 4) == 676_992


class TestDRFN:
    """Sections 3.1 to 3.3 of the paper, at small size."""

    SMALL = {"groups": 2, "blocks": 2, "width": 32}

    def make(self, **switches: object) -> torch.nn.Module:
        torch.manual_seed(0)
        return MODELS.get("drfn").build(scale=2, **self.SMALL, **switches).eval()

    def test_the_switches_of_table_1_take_parts_away(self) -> None:
        width, fusions = 32, 2
        both = count_parameters(self.make())
        no_fusion = count_parameters(self.make(feature_fusion=False))
        # Each fusion is a 1x1 convolution of a pair and a 7x7 attention of 2 to 1.
        assert both - no_fusion == fusions * (2 * width * width + width + 2 * 49 + 1)
        assert count_parameters(self.make(long_short_connections=False)) == both

    def test_without_connections_the_input_of_a_group_is_not_added(self) -> None:
        group = self.make().body.deep.groups[0]
        features = torch.rand(1, 32, 8, 8)
        with torch.no_grad():
            refined = group.spatial_attention(group.channel_attention(group.blocks(features)))
            torch.testing.assert_close(group(features), refined + features)
            plain = self.make(long_short_connections=False).body.deep.groups[0]
            torch.testing.assert_close(plain(features), refined)

    def test_deep_features_are_equation_2(self) -> None:
        deep = self.make().body.deep
        shallow = torch.rand(1, 32, 8, 8)
        with torch.no_grad():
            first = deep.groups[0](shallow)
            second = deep.groups[1](first)
            fused = deep.fusions[0](shallow, first) + deep.fusions[1](first, second)
            torch.testing.assert_close(deep(shallow), deep.tail(second) + fused + shallow)

    def test_attention_weighs_channels_and_positions(self) -> None:
        group = self.make().body.deep.groups[0]
        features = torch.rand(1, 32, 8, 8) + 0.1
        with torch.no_grad():
            by_channel = group.channel_attention(features) / features
            by_place = group.spatial_attention(features) / features
        assert ((by_channel > 0) & (by_channel < 1)).all()
        torch.testing.assert_close(by_channel, by_channel[:, :, :1, :1].expand_as(by_channel))
        torch.testing.assert_close(by_place, by_place[:, :1].expand_as(by_place))

    def test_the_two_readings_differ_in_the_convolutions_of_a_block(self) -> None:
        single, double = on_meta(MODELS.get("drfn")), on_meta(MODELS.get("drfn-2conv"))
        blocks = 16 * 8
        difference = count_parameters(double) - count_parameters(single)
        assert difference == blocks * (64 * 64 * 9 + 64)
