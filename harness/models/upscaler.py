"""Run a network on one image: whole, in tiles, or as the mean over eight orientations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.global_state import apply_settings, random_state_kept, seed_all, settings_guarded
from harness.models.network import build_network, copy_network, on_smallest, require_images
from harness.models.weights import Weights, load_into, no_larger_than

if TYPE_CHECKING:
    from harness.cards import AnyArray, FloatArray, ModelCard


INFERENCE = 1
"""Version of how networks are run: whole, in tiles and as self-ensembles.

Increase it whenever a change here, or in how images are passed to networks, changes a number. It
is part of every run's identity.
"""

SEED = 0
"""Seed of the random numbers that a network draws while it is built, or for an image."""

POOLED_OVERLAP = 32
"""The largest overlap of tiles, in LR pixels, if a network pools over the whole image.

No overlap makes such tiles exact, and the receptive radius of a deep network, some 200 pixels,
would double most of the work.
"""

PROBE_SIDES = (16, 32, 64, 128)
"""Sides in pixels of the images on which the receptive radius is measured.

The network is run on the first size that it accepts. A change here may change scores in tiles.
"""


class Upscaler:
    """A network with its weights on a device, ready to run on images.

    Networks run in fp32 without TF32; a model without parameters runs in double.

    Args:
        card: the model.
        scale: the factor.
        weights: its weights; None for a model without parameters.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        self_ensemble: average over the eight flips and rotations (Lim et al., CVPRW 2017).
        tile: side of a tile in LR pixels; None for the whole image at once.
        network: a network to use instead of building one; it is put into evaluation mode.

    Attributes:
        changed: global settings of torch that the network's code changed; they were restored.
        disturbance: why copies must not run in parallel, see `harness.models.resources`; empty if
            they may, None before the test.

    Raises:
        HarnessError: the network cannot be built, or the weights do not fit.
    """

    def __init__(
        self,
        card: ModelCard,
        scale: int,
        weights: Weights | None,
        *,
        device: str = "cpu",
        self_ensemble: bool = False,
        tile: int | None = None,
        network: nn.Module | None = None,
    ) -> None:
        apply_settings()
        self.card, self.scale, self.self_ensemble = card, scale, self_ensemble
        self.factor = card.input_scale(scale)
        self.changed: set[str] = set()
        if network is None:
            with no_larger_than(weights), random_state_kept(torch.device("cpu")):
                seed_all(SEED)
                hyper = weights.hyper if weights else {}
                network = build_network(card, scale, hyper, self.changed)
        if weights:
            load_into(network, weights, card.name)
        network = network.eval().requires_grad_(False).to(device)
        # Convolutions on CPUs are up to 1.5 times faster in this memory format.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = torch.device(device)
        first = next(self.network.parameters(), None)
        self.dtype = first.dtype if first is not None else torch.float64
        self.disturbance: str | None = None
        self.tile: int | None = None
        self.overlap = 0
        if tile:
            self.use_tiles(tile)

    def __call__(
        self, image: FloatArray, finish: Callable[[AnyArray], AnyArray] = lambda part: part
    ) -> AnyArray:
        """Super-resolve one image.

        Args:
            image: ``(h, w, C)`` in about [0, 1], as `harness.protocol.rules.network_input`
                returns it.
            finish: converts a part of the output pixel by pixel to an array with as many rows and
                columns, such as uint8 levels; tile by tile, to save memory.

        Returns:
            ``(H, W, C)`` in about [0, 1], on the CPU, or what ``finish`` makes of it.

        Raises:
            HarnessError: the network's output has another size or is not finite.
        """
        whole: AnyArray | None = None
        with settings_guarded(self.changed), torch.inference_mode():
            seed_all(SEED)  # for networks that draw random numbers
            for rows, columns, part in self._parts(self.batch(image)):
                finished = finish(part[0].permute(1, 2, 0).cpu().numpy())
                if self.tile is None:
                    return finished
                if whole is None:
                    size = (side * self.factor for side in image.shape[:2])
                    whole = np.empty((*size, *finished.shape[2:]), finished.dtype)
                whole[rows, columns] = finished
        assert whole is not None
        return whole

    def batch(self, image: FloatArray) -> Tensor:
        """Make a batch of one image ``(h, w, C)`` on the device, in the network's dtype."""
        planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        return planes.to(self.device, self.dtype, memory_format=torch.channels_last)

    def use_tiles(self, side: int) -> None:
        """Cut images into tiles of ``side`` LR pixels from now on, which overlap as needed."""
        self.tile = side * self.scale // self.factor
        self.overlap = self.receptive_radius()
        if self.card.global_pooling:
            self.overlap = min(self.overlap, POOLED_OVERLAP)

    def copy_for_thread(self) -> Self:
        """Make a copy for another thread, which shares the parameters.

        Networks may store values in their modules and buffers while they run, so each thread has
        its own copy; `harness.models.resources` tests whether that is enough.
        """
        other = copy.copy(self)
        other.network = copy_network(self.network, self.network.parameters())
        return other

    def _parts(self, batch: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield the rows and columns of each part of the output, and the part."""
        height, width = batch.shape[2:]
        tile, f = self.tile or max(height, width), self.factor
        for (y0, y1), (x0, x1) in product(spans(height, tile), spans(width, tile)):
            top, left = max(y0 - self.overlap, 0), max(x0 - self.overlap, 0)
            window = batch[:, :, top : y1 + self.overlap, left : x1 + self.overlap]
            if self.tile is not None:  # a network may write into its input
                window = window.clone()
            part = self._oriented(window)
            part = part[:, :, (y0 - top) * f : (y1 - top) * f, (x0 - left) * f : (x1 - left) * f]
            yield slice(y0 * f, y1 * f), slice(x0 * f, x1 * f), part

    def _oriented(self, batch: Tensor) -> Tensor:
        """Return the network's output, or its mean over the eight flips and rotations."""
        if not self.self_ensemble:
            return self._output(batch)
        total = torch.zeros(())
        for flip, turns in product((False, True), range(4)):
            turned = torch.rot90(batch.flip(3) if flip else batch, turns, (2, 3)).contiguous()
            back = torch.rot90(self._output(turned), -turns, (2, 3))
            total = total + (back.flip(3) if flip else back)
        return total / 8

    def _output(self, batch: Tensor) -> Tensor:
        output = require_images(self.network(batch), batch, self.factor, self.card.name)
        if not torch.isfinite(output).all():
            raise HarnessError(f"{self.card.name} returned values that are not finite.")
        return output

    def receptive_radius(self) -> int:
        """Count the input pixels beyond its own position that an output pixel can depend on.

        The result is an upper bound: the sum of the radii of all convolutions, poolings and
        interpolations, as if they formed one chain. Only modules are counted; ``harness
        check-model`` tests whether that is enough. Pooling over the whole image has no bound.

        Raises:
            HarnessError: the network fails on images of every size that is tried.
        """
        who = f"{self.card.name} cannot be cut into tiles: it"
        return math.ceil(on_smallest(PROBE_SIDES, self._reach, who)) + 1

    def _reach(self, side: int) -> float:
        """Compute the bound without rounding, from a forward pass on an image of that side."""
        reach = 0.0

        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal reach
            # A kernel is measured in pixels of its input; a transposed one in those of its output.
            on_output = isinstance(layer, nn.ConvTranspose2d)
            grid = (output if on_output else inputs[0]).shape[-1]
            reach += _kernel_radius(layer) * side / grid

        probe = torch.zeros(1, self.card.channels, side, side, dtype=self.dtype, device=self.device)
        with torch.inference_mode(), ExitStack() as hooks:
            for layer in self.network.modules():
                if isinstance(layer, _LOCAL):
                    hooks.enter_context(layer.register_forward_hook(add))
            self.network(probe)
        return reach


_LOCAL = (nn.Conv2d, nn.ConvTranspose2d, nn.AvgPool2d, nn.MaxPool2d, nn.Upsample)


def _kernel_radius(layer: Any) -> float:
    """Half the span of a layer's kernel; two pixels for any interpolation, as for bicubic."""
    if isinstance(layer, nn.Upsample):
        return 2
    # PyTorch keeps one number for both directions, or one for each.
    return float((np.max(layer.kernel_size) - 1) * np.max(getattr(layer, "dilation", 1)) / 2)


def spans(length: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``[0, length)`` into pieces of at most ``size``."""
    return ((start, min(start + size, length)) for start in range(0, length, size))
