"""Steps per second of the training loop against a plain PyTorch loop.

``python benchmarks/train.py --data FOLDER [--model drfn] [--device cpu] [--precision bf16]``

Both train the same network from the same images with the same batch, patch and optimiser. The plain
loop is fp32, NCHW and eager, with a DataLoader of two workers that decode HR and LR PNG files. The
two loops take turns, so that a machine whose speed drifts affects both alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from harness.cards import ModelCard
from harness.data.images import image_files, read_image
from harness.data.testsets import register_testsets
from harness.data.trainsets import prepare_images
from harness.global_state import training_numerics
from harness.models.network import build_network
from harness.protocol.color import to_uint8
from harness.protocol.rules import Protocol, make_sample, network_input
from harness.registry import MODELS, load_plugins
from harness.train.loop import Trainer
from harness.train.recipe import recipe
from harness.train.spec import Training, TrainRequest, ValidationImages


class PngPairs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random patches, decoded from PNG files at every access."""

    def __init__(
        self, folder: Path, paths: list[Path], card: ModelCard, patch: int, length: int
    ) -> None:
        enlarged, rules = card.input == "bicubic", rules_of(card)
        self.patch, self.length = patch * (4 if enlarged else 1), length
        self.factor = 1 if enlarged else 4
        self.pairs = []
        for index, path in enumerate(paths):
            sample = make_sample(read_image(path).pixels, rules)
            given = network_input(sample.lr, rules, enlarged=enlarged)
            levels = to_uint8(given.squeeze() * 255)
            for kind, pixels in (("hr", sample.hr), ("lr", levels)):
                Image.fromarray(pixels).save(folder / f"{index}-{kind}.png")
            self.pairs.append((folder / f"{index}-lr.png", folder / f"{index}-hr.png"))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(index)
        lr, hr = (np.asarray(Image.open(p)) for p in self.pairs[rng.integers(len(self.pairs))])
        y, x = (int(rng.integers(side - self.patch + 1)) for side in lr.shape[:2])
        p, f = self.patch, self.factor
        patches = lr[y : y + p, x : x + p], hr[f * y : f * (y + p), f * x : f * (x + p)]
        planes = (part if part.ndim == 3 else part[:, :, None] for part in patches)
        turned = (np.rot90(part, index % 4).copy() for part in planes)
        small, large = (torch.from_numpy(part).permute(2, 0, 1).float() / 255 for part in turned)
        return small, large


def rules_of(card: ModelCard) -> Protocol:
    """The rules of the network's pipeline; grey images are treated as colour."""
    return Protocol(card.pipeline, grey="as-rgb")


def plain_steps(data: PngPairs, model: str, batch: int, device: str) -> Iterator[None]:
    """Run the plain loop, one optimiser step at a time."""
    network = build_network(MODELS.get(model), 4, {}).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for given, target in DataLoader(data, batch, num_workers=2):
        loss = nn.functional.l1_loss(network(given.to(device)), target.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        yield


def harness_steps(trainer: Trainer) -> Iterator[None]:
    """Run the harness's loop, one optimiser step at a time."""
    from harness.train.loop import Clock

    clock = Clock(0)
    while True:
        with training_numerics():
            trainer._step(0.5, clock)
        trainer.state.step += 1
        yield


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall time of a call, including the device's work."""
    start = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of HR images")
    parser.add_argument("--model", default="drfn")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps a round")
    words = parser.parse_args()
    register_testsets()
    load_plugins()
    paths = image_files(words.data)
    card = MODELS.get(words.model)
    values = {"batch": words.batch, "patch": words.patch, "precision": words.precision}
    training = Training(
        TrainRequest(words.model), card, recipe("short", words.model, **values),
        prepare_images(paths, rules_of(card)), ValidationImages(), Path(tempfile.mkdtemp()),
        words.device,
    )  # fmt: skip
    ours = harness_steps(Trainer(training, None, resume=False))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        length = words.batch * words.steps * (words.rounds + 2)
        data = PngPairs(Path(folder), paths, card, words.patch, length)
        plain = plain_steps(data, words.model, words.batch, words.device)
        times: dict[str, list[float]] = {"harness": [], "plain": []}
        for turn in range(words.rounds + 1):
            for name, steps in (("harness", ours), ("plain", plain)):
                spent = seconds(lambda s=steps: [next(s) for _ in range(words.steps)], words.device)
                if turn:  # the first round is the warm-up
                    times[name].append(spent / words.steps)
    ratios = [p / h for p, h in zip(times["plain"], times["harness"], strict=True)]
    size = f"batch {words.batch}, LR patch {words.patch}, {words.device}"
    print(f"{words.model}, {size}, {torch.get_num_threads()} threads, {words.rounds} rounds:")
    print(f"  harness {words.precision}: {1 / statistics.median(times['harness']):.2f} steps/s")
    print(f"  plain fp32:   {1 / statistics.median(times['plain']):.2f} steps/s")
    print(f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
