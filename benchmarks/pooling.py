"""A plug-in with two small networks that look at the whole image: what do tiles change?

``attention`` weighs channels by their means over the image, as RCAN does; ``normed`` subtracts the
means and divides by the deviations, as instance normalisation does.

Run:
    harness train normed --plugin benchmarks/pooling.py --minutes 1.2 --batch 8 --patch 32
    harness run --models normed --plugin benchmarks/pooling.py --weights normed=FILE --tile 48
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from harness.registry import register_model

WIDTH, BLOCKS = 32, 6


class Attention(nn.Sequential):
    """Channel attention of RCAN (Zhang et al., ECCV 2018), reduction 8."""

    def __init__(self) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(WIDTH, WIDTH // 8, 1),
            nn.ReLU(),
            nn.Conv2d(WIDTH // 8, WIDTH, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Weigh each channel."""
        return x * super().forward(x)


class Block(nn.Module):
    """Two convolutions and a layer that looks at the whole image, with a residual."""

    def __init__(self, pooled: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            pooled,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size."""
        return x + self.body(x)


class Net(nn.Module):
    """A residual network with a pixel shuffle at its end."""

    def __init__(self, pooled: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, WIDTH, 3, padding=1)
        blocks = (Block(pooled()) for _ in range(BLOCKS))
        self.body = nn.Sequential(*blocks, nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(WIDTH, 48, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 3, 4 H, 4 W)``, in [0, 1]."""
        x = self.head(x - 0.5)
        return self.tail(x + self.body(x)) + 0.5


@register_model("attention", pipeline="rgb", input="lr", scales=(4,), global_pooling=True)
def attention(scale: int = 4) -> nn.Module:
    """Build the network with channel attention."""
    return Net(Attention)


@register_model("normed", pipeline="rgb", input="lr", scales=(4,), global_pooling=True)
def normed(scale: int = 4) -> nn.Module:
    """Build the network with instance normalisation."""
    return Net(lambda: nn.InstanceNorm2d(WIDTH, affine=True))
