"""VDSR (Kim et al., CVPR 2016): a deep plain network that adds a residual to the enlarged luma."""

from __future__ import annotations

from torch import Tensor, nn

from harness.registry import register_model

from .layers import conv


class VDSR(nn.Module):
    """``depth`` convolutions of 3x3 with zero padding, ReLU between them, and a global skip."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(1, width)]
        for _ in range(depth - 2):
            layers += [nn.ReLU(inplace=True), conv(width, width)]
        layers += [nn.ReLU(inplace=True), conv(width, 1)]
        self.body = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 1, H, W)`` enlarged luma in [0, 1] to the same shape."""
        return image + self.body(image)


@register_model(
    "vdsr",
    pipeline="y",
    input="bicubic",
    scales=(2, 3, 4),
    paper="Kim et al., CVPR 2016",
    params=665_921,
    layouts="harness.baselines.layouts.vdsr:layouts",
)
def vdsr(scale: int = 4, *, depth: int = 20, width: int = 64) -> nn.Module:
    """20 layers of 64 filters, one set of weights for every scale: 665,921 parameters."""
    return VDSR(depth, width)
