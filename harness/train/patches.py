"""Random training patches, cropped and augmented in main memory or on the GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.data.trainsets import TrainingImages
from harness.errors import HarnessError
from harness.protocol.resize import enlargement_matrix

# LR pixels around a patch that its bicubic enlargement needs.
_MARGIN = 2


class PatchSampler:
    """Draws batches of LR and HR patches; a seed and a step give the same batch on every machine.

    All positions in all images are equally likely, so large images give more patches. Images
    smaller than a patch give none. Each patch gets one of the eight flips and rotations.

    The images stay memory-mapped on the CPU, or are copied to a GPU with enough memory.
    ``enlarged`` enlarges the LR patches bicubically, for networks that need it.

    Raises:
        HarnessError: no image has room for a patch.
    """

    def __init__(
        self, images: TrainingImages, patch: int, *, enlarged: bool, device: str, seed: int
    ) -> None:
        sizes = torch.from_numpy(images.sizes)
        places = (sizes - patch + 1).clamp(min=0).prod(1)
        if not int(places.sum()):
            raise HarnessError(
                f"No training image has room for a patch of {patch} LR pixels: use a --patch of at "
                f"most {int(sizes.min(1).values.max())}, or larger images."
            )
        self.patch, self.scale, self.channels = patch, images.scale, images.channels
        self.device, self.seed = torch.device(device), seed
        place = place_of(images.lr.nbytes + images.hr.nbytes, self.device)
        self.lr = torch.from_numpy(images.lr).to(place)
        self.hr = torch.from_numpy(images.hr).to(place)
        self._sizes = sizes
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.prod(1).cumsum(0)])
        self._positions = places.cumsum(0)
        self._enlarge: Tensor | None = None
        if enlarged:
            matrix = enlargement_matrix(patch + 2 * _MARGIN, self.scale)
            inner = matrix[_MARGIN * self.scale : -_MARGIN * self.scale]
            self._enlarge = torch.from_numpy(inner).float().to(place)

    def batch(self, step: int, size: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The batch of a step, of a number of patches, or the share of it for one process.

        Returns:
            input and target, float32 ``(N, C, h, w)`` in about [0, 1], channels_last.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        spot = torch.randint(int(self._positions[-1]), (size,), generator=generator)[share]
        turn = torch.randint(8, (size,), generator=generator)[share]
        image = torch.searchsorted(self._positions, spot, right=True)
        spot = spot - (self._positions[image] - (self._sizes[image] - self.patch + 1).prod(1))
        columns = self._sizes[image, 1] - self.patch + 1
        corner = torch.stack([spot // columns, spot % columns], dim=1)
        where = [
            part.to(self.lr.device, non_blocking=True)
            for part in (self._starts[image], self._sizes[image], corner, turn)
        ]
        margin = _MARGIN if self._enlarge is not None else 0
        lr = self._cut(self.lr, 1, margin, where)
        if self._enlarge is not None:
            lr = self._enlarge @ lr @ self._enlarge.T
        return self._on_device(lr), self._on_device(self._cut(self.hr, self.scale, 0, where))

    def _on_device(self, batch: Tensor) -> Tensor:
        if batch.device.type == self.device.type:
            return batch
        return batch.pin_memory().to(self.device, non_blocking=True)

    def _cut(self, pixels: Tensor, scale: int, margin: int, where: Sequence[Tensor]) -> Tensor:
        """Gather augmented patches from a flat array; outside the image, border pixels repeat."""
        start, size, corner, turn = where
        side = scale * self.patch + 2 * margin
        ahead = torch.arange(side, device=pixels.device)[None]
        height, width = (scale * size).T[:, :, None]
        top, left = (scale * corner).T[:, :, None]
        turn = turn[:, None]
        rows = torch.where(turn // 2 % 2 == 1, side - 1 - ahead, ahead)
        columns = torch.where(turn // 4 == 1, side - 1 - ahead, ahead)
        rows = (top + rows - margin).clamp(min=0).minimum(height - 1) * width
        columns = (left + columns - margin).clamp(min=0).minimum(width - 1)
        first = start[:, None] * scale**2
        # A transposed patch goes along the columns first.
        down = first + torch.where(turn % 2 == 1, columns, rows)
        across = torch.where(turn % 2 == 1, rows, columns)
        index = (down[:, :, None] + across[:, None, :]).flatten()
        values = pixels.view(-1, self.channels).index_select(0, index)
        values = values.view(len(turn), side, side, self.channels).permute(0, 3, 1, 2)
        return values.float().div_(255) if pixels.dtype == torch.uint8 else values.float()


# Images may use this share of the free memory of a GPU; the rest is for the network.
_RESIDENT = 0.5


def place_of(images: int, device: torch.device) -> torch.device:
    """The device for images of a total size in bytes: the GPU if enough memory remains."""
    if device.type == "cuda" and images > _RESIDENT * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device
