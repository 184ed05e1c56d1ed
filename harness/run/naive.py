"""The script that people would write without the harness, as what it is measured against.

It reads the images one by one, runs the network in fp32 as PyTorch builds it (eager, NCHW), and
computes PSNR and SSIM with scikit-image in the same thread. It is a fair one: inference mode, a
warm network, and the same imresize.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harness.models.network import build_network
from harness.models.weights import load_into
from harness.protocol.protocols import make_sample, network_input

if TYPE_CHECKING:
    from torch import nn

    from harness.cards import ByteArray, FloatArray
    from harness.run.evaluate import Run


def naive_network(run: Run, device: str) -> nn.Module:
    """The run's network, as it is built."""
    network = build_network(run.card, run.rules.scale, run.identity.hyper)
    if run.weights:
        load_into(network, run.weights, run.card.name)
    return network.eval().to(device)


def naive_scores(run: Run, network: nn.Module, device: str) -> dict[str, float]:
    """PSNR of every image of the run's set, one after the other; SSIM is computed as well."""
    scores = {}
    edge = slice(run.rules.scale, -run.rules.scale)
    for image in run.benchmark.images:
        sample = make_sample(np.asarray(Image.open(image.path)), run.rules)
        given = network_input(sample.lr, run.rules, enlarged=run.card.input == "bicubic")
        batch = torch.from_numpy(given.transpose(2, 0, 1).copy())[None].float().to(device)
        with torch.inference_mode():
            output = network(batch)[0].cpu().numpy().transpose(1, 2, 0)
        if sample.hr.ndim == 2:
            output = output.mean(axis=2)
        sr = np.clip(np.round(output.astype(np.float64) * 255), 0, 255).astype(np.uint8)
        pair = [_luma(picture)[edge, edge] for picture in (sr, sample.hr)]
        scores[image.name] = float(peak_signal_noise_ratio(*pair, data_range=255))
        structural_similarity(
            *pair,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
    return scores


def _luma(image: ByteArray) -> FloatArray:
    if image.ndim == 2:
        return image.astype(np.float64)
    return 16 + image @ np.array([65.481, 128.553, 24.966]) / 255
