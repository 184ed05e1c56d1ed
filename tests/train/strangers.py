"""Networks with features that this project's own networks lack."""

import random
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from harness.registry import register_model


class Up(nn.Module):
    """Two convolutions and a shuffle.

    Args:
        scale: the scale it is built for.
        channels: of the output.
        factor: the scale of its output.
        middle: the layers between the convolutions.
        bias: whether the convolutions have a bias.
    """

    def __init__(
        self,
        scale: int,
        channels: int = 3,
        factor: int = 0,
        middle: nn.Module | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        factor = factor or scale
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.middle = middle or nn.Identity()
        self.last = nn.Conv2d(8, channels * factor**2, 3, padding=1, bias=bias)
        self.shuffle = nn.PixelShuffle(factor)

    def forward(self, image: Tensor) -> Tensor:
        return self.shuffle(self.last(torch.relu(self.middle(self.first(image)))))


class AsList(Up):
    """Returns a list, like networks trained on several outputs."""

    def forward(self, image: Tensor) -> list[Tensor]:  # type: ignore[override]
        return [super().forward(image)]


class Moody(Up):
    """Uses Python's random numbers in training."""

    def forward(self, image: Tensor) -> Tensor:
        output = super().forward(image)
        return output / 2 if self.training and random.random() < 0.5 else output


class Numpy(Up):
    """Uses numpy's random numbers in training."""

    def forward(self, image: Tensor) -> Tensor:
        output = super().forward(image)
        return output / 2 if self.training and np.random.random() < 0.5 else output  # noqa: NPY002


class Depth(Up):
    """Skips a layer at random, like networks with stochastic depth."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))

    def forward(self, image: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or random.random() < 0.5:
                image = image + block(image)
        return super().forward(image)


class LazyMask(Up):
    """Creates a buffer when it first sees an image."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.register_buffer("mask", None)

    def forward(self, image: Tensor) -> Tensor:
        if self.mask is None or self.mask.shape[2:] != image.shape[2:]:
            self.mask = torch.ones(1, 1, *image.shape[2:])
        return super().forward(image * self.mask)


class Pooled(Up):
    """Normalises features pooled over the image, like some attention layers."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Sigmoid()
        )

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image * self.gate(image))


class OldNorm(Up):
    """Stores a computed weight, like ``weight_norm`` of WDSR."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.first = nn.utils.weight_norm(self.first)


class Mask(Up):
    """A buffer with the size of the image, like the mask of window attention."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.register_buffer("mask", torch.ones(1, 1, 8, 8))

    def forward(self, image: Tensor) -> Tensor:
        if self.mask.shape[2:] != image.shape[2:]:
            self.mask = torch.ones(1, 1, *image.shape[2:])
        return super().forward(image * self.mask)


class Windows(Up):
    """Takes only sizes that are multiples of 4, like networks with windows and no padding."""

    def forward(self, image: Tensor) -> Tensor:
        count, channels, height, width = image.shape
        windows = image.view(count, channels, height // 4, 4, width // 4, 4)
        return super().forward(windows.reshape(image.shape))


class Unused(Up):
    """Has a layer that it does not use."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.spare = nn.Conv2d(3, 3, 1)


BUILDERS = {
    "aslist": AsList,
    "black": lambda scale: Up(scale, bias=False),
    "depth": Depth,
    "dropout": lambda scale: Up(scale, middle=nn.Dropout2d(0.3)),
    "half": lambda scale: Up(scale, factor=scale // 2),
    "lazymask": LazyMask,
    "mask": Mask,
    "moody": Moody,
    "norm": lambda scale: Up(scale, middle=nn.BatchNorm2d(8)),
    "numpy": Numpy,
    "oldnorm": OldNorm,
    "onechannel": lambda scale: Up(scale, channels=1),
    "pooled": Pooled,
    "unused": Unused,
    "windows": Windows,
}
for name, builder in BUILDERS.items():

    def build(scale: int = 4, builder: object = builder) -> nn.Module:
        return builder(scale)  # type: ignore[operator]

    register_model(name, pipeline="rgb", input="lr", scales=(4,))(build)
