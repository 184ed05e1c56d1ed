"""FSRCNN (Dong et al., ECCV 2016): shrink, map, expand, and one transposed convolution at the end.

All layers replicate the edge pixels, as the authors' MATLAB code does.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from harness.registry import register_model

from .layers import conv


class Enlarge(nn.Module):
    """The 9x9 transposed convolution of stride ``scale``, with edges replicated by one pixel."""

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.deconv = nn.ConvTranspose2d(width, 1, 9, stride=scale)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, width, H, W)`` to ``(N, 1, scale H, scale W)``."""
        height, width = (side * self.scale for side in features.shape[2:])
        # The replicated pixel takes one stride, and half the kernel lies before the first output.
        start = self.scale + self.deconv.kernel_size[0] // 2
        full = self.deconv(pad(features, (1, 1, 1, 1), "replicate"))
        return full[:, :, start : start + height, start : start + width]


@register_model(
    "fsrcnn",
    pipeline="y",
    input="lr",
    scales=(2, 3, 4),
    paper="Dong et al., ECCV 2016",
    params=12_644,
    layouts="harness.baselines.layouts.fsrcnn:layouts",
)
def fsrcnn(scale: int = 4, *, width: int = 56, shrunk: int = 12, mapping: int = 4) -> nn.Module:
    """FSRCNN(56, 12, 4) with one slope per PReLU, as in the authors' files: 12,644 parameters."""
    shapes = [
        (1, width, 5),
        (width, shrunk, 1),
        *[(shrunk, shrunk, 3)] * mapping,
        (shrunk, width, 1),
    ]
    layers: list[nn.Module] = []
    for shape in shapes:
        layers += [conv(*shape, padding_mode="replicate"), nn.PReLU()]
    return nn.Sequential(*layers, Enlarge(width, scale))
