"""A metric on RGB that tells the channels apart, and writes into its arguments."""
import numpy as np
from harness.registry import register_metric

@register_metric("mae-rgb", on="rgb")
def mae_rgb(sr, hr):
    """Mean absolute error, red counted once, green twice and blue three times."""
    assert sr.dtype == hr.dtype == np.uint8 and sr.shape == hr.shape and sr.shape[2:] == (3,)
    error = np.abs(sr.astype(float) - hr).mean((0, 1)) @ [1, 2, 3]
    sr[:], hr[:] = 0, 255
    return error
