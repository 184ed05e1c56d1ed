"""Test images."""

import numpy as np


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth uint8 image with texture; grey with one channel."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(height)[:, None, None] / 7 + np.arange(width)[:, None] / 5)
    image = 128 + 70 * waves + rng.normal(0, 15, (height, width, channels))
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels
