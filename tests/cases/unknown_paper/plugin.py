"""A network and the paper about it, as one plug-in."""

from torch import Tensor, nn

from harness.registry import register_judge, register_model, register_paper


class Shuffle(nn.Module):
    """One convolution, whose channels become pixels."""

    def __init__(self, scale: int, *, side: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, scale**2, side, padding=side // 2, bias=bias)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 1, H, W)`` to ``(N, 1, scale * H, scale * W)``."""
        return self.shuffle(self.conv(image))


@register_model("shuffle", pipeline="y", input="lr", scales=(2, 4), params=160)
def shuffle(scale: int = 4, *, side: int = 3, bias: bool = True) -> nn.Module:
    """Build the network."""
    return Shuffle(scale, side=side, bias=bias)


@register_judge
def fails(findings: object, claim: object, reason: str) -> None:
    """Judge no claim."""
    raise ValueError(reason)


register_paper("shuffle2031", "paper.toml")
