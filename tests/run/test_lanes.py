import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from harness.cards import ModelCard
from harness.models.upscaler import Upscaler
from harness.run.lanes import READY, side_by_side


def test_each_item_is_worked_on_once_and_several_at_a_time() -> None:
    together = threading.Barrier(3, timeout=30)

    def work(item: int) -> int:
        if item < 3:
            together.wait()  # passes only if three are at work at once
        return item * item

    made = list(side_by_side(work, range(20), lanes=3, threads=1))
    assert sorted(made) == [item * item for item in range(20)]


def test_no_more_is_taken_than_the_lanes_need() -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items(), lanes=2, threads=1)
    next(results)
    assert len(taken) <= 2 * READY + 2
    results.close()


def test_what_was_under_way_when_one_broke_is_given_first() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("broken")
        time.sleep(0.2)
        return item

    made = []
    with pytest.raises(ValueError, match="broken"):
        for one in side_by_side(work, range(50), lanes=2, threads=1):
            made.append(one)
    assert set(made) == set(begun) - {0} and len(begun) < 10


def test_each_lane_has_its_threads_and_the_caller_gets_them_all_back() -> None:
    before = torch.get_num_threads()
    lanes = side_by_side(lambda _: torch.get_num_threads(), range(8), lanes=2, threads=3)
    assert set(lanes) == {3}
    assert torch.get_num_threads() == before


def test_a_network_that_keeps_things_on_its_modules_is_not_disturbed_by_its_twin() -> None:
    class Keeping(nn.Module):
        def __init__(self, scale: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, image):
            self.kept = self.conv(image)
            time.sleep(0.02)
            return self.kept

    card = ModelCard("keeping", Keeping, "y", "bicubic", (4,))
    one = Upscaler(card, 4, None, network=Keeping(4))
    twins = [one.twin(), one.twin()]
    assert twins[0].network.conv.weight.data_ptr() == one.network.conv.weight.data_ptr()
    images = [np.full((4, 4, 1), float(value)) for value in range(12)]
    free = list(twins)

    def work(image):
        own = free.pop()
        made = own(image)
        free.append(own)
        return float(image.flat[0]), made

    for value, made in side_by_side(work, images, lanes=2, threads=1):
        np.testing.assert_array_equal(made, one(np.full((4, 4, 1), value)))
