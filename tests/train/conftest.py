"""Fixtures for training tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.pictures import picture
from tests.train.trainings import PLUGIN


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use one thread: on a busy machine the threads of a tiny network wait for seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The arguments to train a tiny network on small images, without steps and folder."""
    for folder, first, count in (("train", 0, 4), ("val", 10, 2)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            Image.fromarray(picture(80, 96, seed=first + i)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "tiny.py").write_text(PLUGIN)
    words = f"train tiny --plugin {tmp_path / 'tiny.py'} --train-data {tmp_path / 'train'}"
    more = f"--val-data {tmp_path / 'val'} --batch 4 --patch 12 --device cpu --set warmup=5"
    return [*words.split(), *more.split()]
