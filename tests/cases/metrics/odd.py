import numpy as np, torch
from harness.registry import register_metric
@register_metric("m-nan")
def m_nan(sr, hr): return float("nan")
@register_metric("m-tensor")
def m_tensor(sr, hr): return torch.tensor(0.5)
@register_metric("m-np32")
def m_np32(sr, hr): return np.float32(0.1)
@register_metric("m-text")
def m_text(sr, hr): return "3"
@register_metric("m-none")
def m_none(sr, hr): return None
@register_metric("m-small")
def m_small(sr, hr): return 1.23456e-6
@register_metric("m-int")
def m_int(sr, hr): return 3
@register_metric("m-dict")
def m_dict(sr, hr): return {"a": 1.0}
@register_metric("m-raise")
def m_raise(sr, hr): raise ValueError("needs 3 channels")
@register_metric("m-colour")
def m_colour(sr, hr):
    assert sr.ndim == 3, f"needs colour, got {sr.shape}"
    return 1.0
@register_metric("m-writes")
def m_writes(sr, hr):
    sr[:] = hr
    return 0.0
@register_metric("m-inf")
def m_inf(sr, hr): return float("-inf")
@register_metric("m-exit")
def m_exit(sr, hr): raise SystemExit("no licence")
@register_metric("m-column")
def m_column(sr, hr): return np.full((1, 1), 0.25)
@register_metric("m-row")
def m_row(sr, hr): return np.zeros(2)
@register_metric("m-signs")
def m_signs(sr, hr): return float("inf") if sr.shape[0] > 40 else float("-inf")
@register_metric("m-luma", on="rgb")
def m_luma(sr, hr):
    assert sr.ndim == 2, sr.shape
    return 1.0
