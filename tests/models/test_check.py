import pytest
import torch
from torch import nn

from harness.models.check import check_model
from harness.registry import MODELS, register_model


@pytest.mark.parametrize(
    "name",
    [
        "bicubic",
        "srcnn",
        "fsrcnn",
        "vdsr",
        "lapsrn",
        "memnet",
        "srmdnf",
        "dcsr",
        "msrn",
        "edsr-baseline",
        "drfn",
    ],
)
def test_the_networks_of_the_paper_keep_the_contract(name: str) -> None:
    findings = list(check_model(MODELS.get(name), 4))
    assert [f for f in findings if not f.holds] == []
    assert any(f.rule.startswith("tiles") for f in findings) == (name != "drfn")


class Pooling(nn.Module):
    """Subtracts the mean of the image, and says nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image):
        return self.conv(image) - image.mean((2, 3), keepdim=True)


class Noisy(Pooling):
    def forward(self, image):
        return self.conv(image) + torch.rand_like(image)


class Shrinking(Pooling):
    def forward(self, image):
        return self.conv(image)[:, :, 1:]


@pytest.mark.parametrize(
    ("network", "params", "broken"),
    [
        (Pooling, 10, ["tiles"]),
        (Pooling, 11, ["parameter count", "tiles"]),
        (Noisy, 10, ["tiles"]),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_found(network, params: int, broken) -> None:
    register = register_model("odd", pipeline="y", input="bicubic", scales=(4,), params=params)
    register(lambda scale: network())
    torch.manual_seed(0)
    found = [f.rule for f in check_model(MODELS.get("odd"), 4) if not f.holds]
    assert len(found) == len(broken)
    assert all(rule.startswith(start) for rule, start in zip(found, broken, strict=True))


class Picky(Pooling):
    """Works for multiples of 8 only, like networks that fold windows."""

    def forward(self, image):
        return image.reshape(1, 1, -1, 8, image.shape[-1]).reshape(image.shape)


class Halved(Pooling):
    def forward(self, image):
        return image.half()


@pytest.mark.parametrize(("network", "said"), [(Picky, "RuntimeError"), (Halved, "float16")])
def test_what_a_plugin_raises_or_returns_is_a_finding(network, said: str) -> None:
    register_model("odd", pipeline="y", input="bicubic", scales=(4,))(lambda scale: network())
    findings = [f for f in check_model(MODELS.get("odd"), 4) if not f.holds]
    assert findings and all(said in f.seen for f in findings)


def test_an_output_of_another_size_is_found() -> None:
    register = register_model(
        "odd", pipeline="y", input="bicubic", scales=(4,), global_pooling=True
    )
    register(lambda scale: Shrinking())
    findings = [f for f in check_model(MODELS.get("odd"), 4) if "pixels become" in f.rule]
    assert len(findings) == 3
    assert not any(f.holds for f in findings)
