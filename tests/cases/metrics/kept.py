"""Metrics that keep what they were given, as objects of torchmetrics do."""
import time
import numpy as np
from harness.registry import register_metric

class MeanAbsoluteError:
    def __init__(self): self.reset()
    def reset(self): self.total, self.count = 0.0, 0
    def update(self, sr, hr): self.total += np.abs(sr - hr).sum(); self.count += sr.size
    def compute(self): return self.total / self.count

metric = MeanAbsoluteError()

@register_metric("mae-kept")
def mae_kept(sr, hr):
    metric.reset()
    metric.update(sr, hr)
    time.sleep(0.02)
    return metric.compute()

@register_metric("mae")
def mae(sr, hr):
    return np.abs(sr - hr).sum() / sr.size
