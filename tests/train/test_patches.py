from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.trainsets import TrainingImages
from harness.errors import HarnessError
from harness.protocol.resize import imresize
from harness.train.patches import PatchSampler

SIZES = [(12, 16), (13, 11)]


def images(channels: int = 3, dtype: type = np.uint8) -> TrainingImages:
    """LR images of random pixels, and HR images that repeat each pixel 4 x 4 times."""
    rng = np.random.default_rng(0)
    lr = [rng.integers(0, 256, (*size, channels)) for size in SIZES]
    hr = [image.repeat(4, 0).repeat(4, 1) for image in lr]
    flat = [np.concatenate([image.ravel() for image in group]) for group in (lr, hr)]
    small = flat[0].astype(np.uint8) if dtype is np.uint8 else (flat[0] / 255).astype(dtype)
    sizes = np.array(SIZES, np.int64)
    return TrainingImages(
        flat[1].astype(np.uint8), small, sizes, (Path("a"), Path("b")), channels, 4, ""
    )


def turned(image: torch.Tensor, side: int) -> list[torch.Tensor]:
    """The 8 flips and rotations of each square of an image."""
    _, height, width = image.shape
    squares = [
        image[:, y : y + side, x : x + side]
        for y in range(height - side + 1)
        for x in range(width - side + 1)
    ]
    return [
        torch.rot90(square.flip(2) if flip else square, quarter, (1, 2))
        for square in squares
        for flip in (False, True)
        for quarter in range(4)
    ]


def sampler(patch: int = 5, *, enlarged: bool = False, seed: int = 0, **kinds) -> PatchSampler:
    return PatchSampler(images(**kinds), patch, enlarged=enlarged, device="cpu", seed=seed)


def test_lr_and_hr_patches_show_the_same_place_turned_the_same_way() -> None:
    lr, hr = sampler().batch(0, 200)
    assert (lr.shape, hr.shape) == ((200, 3, 5, 5), (200, 3, 20, 20))
    torch.testing.assert_close(lr.repeat_interleave(4, 2).repeat_interleave(4, 3), hr)
    assert lr.min() >= 0 and lr.max() <= 1
    assert lr.is_contiguous(memory_format=torch.channels_last)


def test_every_place_and_turn_occurs() -> None:
    source = images()
    parts = source.lr[: 12 * 16 * 3].reshape(12, 16, 3), source.lr[12 * 16 * 3 :].reshape(13, 11, 3)
    first, second = (torch.from_numpy(part).permute(2, 0, 1) / 255 for part in parts)
    lr, _ = sampler(patch=11).batch(0, 2000)
    seen = {tuple(patch.flatten().tolist()) for patch in lr}
    turns = [*turned(first, 11), *turned(second, 11)]
    assert seen == {tuple(turn.flatten().tolist()) for turn in turns}
    # The first image has 2 x 6 positions of this size, the second 3 x 1.
    assert len(seen) == len(turns) == (12 + 3) * 8


def test_a_step_is_the_same_batch_everywhere_and_processes_share_it() -> None:
    whole = sampler().batch(7, 6)
    torch.testing.assert_close(sampler().batch(7, 6), whole, rtol=0, atol=0)
    parts = [sampler().batch(7, 6, slice(i, i + 2)) for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat([lr for lr, _ in parts]), whole[0], rtol=0, atol=0)
    assert not torch.equal(sampler().batch(8, 6)[0], whole[0])
    assert not torch.equal(sampler(seed=1).batch(7, 6)[0], whole[0])


def test_networks_that_want_it_get_the_enlargement_of_the_whole_image() -> None:
    source = images(channels=1, dtype=np.float32)
    lr = source.lr[: 12 * 16].reshape(12, 16).astype(np.float64)
    large = torch.from_numpy(imresize(lr, 4)).float()
    whole = PatchSampler(
        TrainingImages(source.hr, source.lr, source.sizes[:1], (Path("a"),), 1, 4, ""),
        12,
        enlarged=True,
        device="cpu",
        seed=0,
    )
    given, target = whole.batch(0, 64)
    assert given.shape == target.shape == (64, 1, 48, 48)
    turns = [
        torch.rot90(p.flip(1) if flip else p, k, (0, 1))
        for p in large.unfold(1, 48, 4).permute(1, 0, 2)
        for flip in (False, True)
        for k in range(4)
    ]
    for patch in given:
        assert min(float((patch[0] - turn).abs().max()) for turn in turns) < 1e-5


def test_nothing_is_drawn_from_images_smaller_than_the_patch() -> None:
    lr, _ = sampler(patch=12).batch(0, 500)
    first = torch.from_numpy(images().lr[: 12 * 16 * 3].reshape(12, 16, 3)).permute(2, 0, 1) / 255
    seen = {tuple(patch.flatten().tolist()) for patch in lr}
    assert seen == {tuple(turn.flatten().tolist()) for turn in turned(first, 12)}


def test_a_patch_that_fits_no_image_is_refused() -> None:
    with pytest.raises(HarnessError, match="room for a patch of 14 .* at most 12"):
        sampler(patch=14)
