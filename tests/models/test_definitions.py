"""Each network against its definition, written out once more from the named tensors."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from scipy.signal import convolve2d
from torch import Tensor
from torch.nn import functional as F

from harness.models.network import build_network
from harness.registry import MODELS

Weights = dict[str, Tensor]


def conv(w: Weights, name: str, x: Tensor) -> Tensor:
    """Zero-padded convolution by the tensors of a name."""
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, w.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def shuffle(x: Tensor, scale: int) -> Tensor:
    """Channel ``c s^2 + i s + j`` becomes pixel ``(i, j)`` of channel ``c``."""
    n, c, h, width = x.shape
    x = x.reshape(n, c // scale**2, scale, scale, h, width)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, h * scale, width * scale)


def upsample(w: Weights, name: str, x: Tensor, scale: int) -> Tensor:
    for step, factor in enumerate([3] if scale == 3 else [2] * (scale // 2)):
        x = shuffle(conv(w, f"{name}.{2 * step}", x), factor)
    return x


def chain(w: Weights, name: str, x: Tensor, depth: int) -> Tensor:
    """``depth`` convolutions with ReLU between them, numbered 0, 2, 4, ..."""
    for layer in range(depth):
        x = conv(w, f"{name}{2 * layer}", x)
        x = x.relu() if layer < depth - 1 else x
    return x


def srcnn(w: Weights, x: Tensor, scale: int) -> Tensor:
    """Edges continued by their last pixel, layer by layer."""
    for layer, side in (("0", 9), ("2", 5), ("4", 5)):
        padded = F.pad(x, [side // 2] * 4, "replicate")
        x = F.conv2d(padded, w[f"{layer}.weight"], w[f"{layer}.bias"])
        x = x if layer == "4" else x.relu()
    return x


def vdsr(w: Weights, x: Tensor, scale: int) -> Tensor:
    return x + chain(w, "body.", x, 20)


def srmdnf(w: Weights, x: Tensor, scale: int) -> Tensor:
    from harness.baselines.srmdnf import NO_BLUR

    planes = [torch.full_like(x[:, :1], value) for value in NO_BLUR]
    return shuffle(chain(w, "body.", torch.cat([x, *planes], 1), 12), scale)


def fsrcnn(w: Weights, x: Tensor, scale: int) -> Tensor:
    """In numpy: edges continued by their last pixel; zeros between pixels for the last layer."""
    maps = x[0].numpy().astype(float)
    for layer in range(7):
        weight, bias = w[f"{2 * layer}.weight"].numpy(), w[f"{2 * layer}.bias"].numpy()
        maps = np.stack(
            [
                sum(correlate(m, k, mode="nearest") for m, k in zip(maps, kernel, strict=True)) + b
                for kernel, b in zip(weight.astype(float), bias, strict=True)
            ]
        )
        maps = np.where(maps > 0, maps, maps * w[f"{2 * layer + 1}.weight"].item())
    total = w["14.deconv.bias"].item()
    for m, kernel in zip(maps, w["14.deconv.weight"].numpy()[:, 0].astype(float), strict=True):
        m = np.pad(m, 1, "edge")
        sparse = np.zeros([side * scale for side in m.shape])
        sparse[::scale, ::scale] = m
        total = total + convolve2d(sparse, kernel, mode="same")
    return torch.from_numpy(total[scale:-scale, scale:-scale])[None, None]


def lapsrn(w: Weights, x: Tensor, scale: int) -> Tensor:
    def leaky(values: Tensor) -> Tensor:
        return torch.where(values > 0, values, 0.2 * values)

    def double(name: str, values: Tensor, crop: int) -> Tensor:
        weight = w[f"{name}.weight"]
        full = F.conv_transpose2d(values, weight, w.get(f"{name}.bias"), stride=2)
        return full[:, :, crop:, crop:][:, :, : 2 * values.shape[2], : 2 * values.shape[3]]

    features = leaky(conv(w, "head.0", x))
    for level in range(scale // 2):
        for layer in range(10):
            features = leaky(conv(w, f"levels.{level}.body.{2 * layer}", features))
        features = leaky(double(f"levels.{level}.enlarge", features, 0))
        residual = conv(w, f"levels.{level}.residual", features)
        x = double(f"levels.{level}.enlarge_image", x, 1) + residual
    return x


def memnet(w: Weights, x: Tensor, scale: int) -> Tensor:
    def norm(name: str, values: Tensor) -> Tensor:
        mean, var, gain, shift = (
            w[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((values - mean) / (var + 1e-5).sqrt() * gain + shift).relu()

    memories = [conv(w, "extract.2", norm("extract.0", x))]
    total = torch.zeros_like(x)
    for block in range(6):
        state, inside = memories[-1], f"blocks.{block}"
        short = []
        for step in range(6):
            inner = conv(w, f"{inside}.convs.0", norm(f"{inside}.norms.{2 * step}", state))
            inner = conv(w, f"{inside}.convs.1", norm(f"{inside}.norms.{2 * step + 1}", inner))
            state = state + inner
            short.append(state)
        joined = torch.cat(short + memories, 1)
        memories.append(conv(w, f"{inside}.gate.2", norm(f"{inside}.gate.0", joined)))
        made = x + conv(w, "reconstruct.2", norm("reconstruct.0", memories[-1]))
        total = total + w["shares"][block] * made
    return total


def dcsr(w: Weights, x: Tensor, scale: int) -> Tensor:
    """A dilated 3x3 kernel is a 5x5 one with holes."""
    features = conv(w, "body.0", x).relu()
    for layer in range(1, 19):
        name = f"body.{2 * layer}"
        holes = torch.zeros(32, 64, 5, 5)
        holes[:, :, ::2, ::2] = w[f"{name}.dilated.weight"]
        dilated = F.conv2d(features, holes, w[f"{name}.dilated.bias"], padding=2)
        features = torch.cat([conv(w, f"{name}.standard", features), dilated], 1).relu()
    return x + conv(w, "body.38", features)


MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).reshape(1, 3, 1, 1)


def edsr_baseline(
    w: Weights, x: Tensor, scale: int, blocks: int = 16, scaling: float = 1
) -> Tensor:
    shallow = features = conv(w, "body.head", 255 * (x - MEAN))
    for block in range(blocks):
        features = features + scaling * chain(w, f"body.body.{block}.body.", features, 2)
    features = shallow + conv(w, f"body.body.{blocks}", features)
    made = upsample(w, "body.tail.0", features, scale)
    return conv(w, "body.tail.1", made) / 255 + MEAN


def edsr(w: Weights, x: Tensor, scale: int) -> Tensor:
    return edsr_baseline(w, x, scale, 32, 0.1)


def drfn(w: Weights, x: Tensor, scale: int, convs: int = 1) -> Tensor:
    """Eqs. 1 to 6, with 16 groups of 8 residual blocks."""

    def by_place(name: str, features: Tensor) -> Tensor:
        summary = torch.stack([features.mean(1), features.max(1).values], 1)
        return conv(w, name, summary).sigmoid() * features

    def residual(name: str, features: Tensor) -> Tensor:
        inner = conv(w, f"{name}.0", features) if convs == 2 else features
        return features + conv(w, f"{name}.{convs}", inner.relu())

    def group(name: str, features: Tensor) -> Tensor:
        refined = features
        for block in range(8):
            refined = residual(f"{name}.blocks.{block}.body", refined)
        pooled = refined.mean((2, 3), keepdim=True)
        squeezed = conv(w, f"{name}.channel_attention.gate.1", pooled).relu()
        weighed = refined * conv(w, f"{name}.channel_attention.gate.3", squeezed).sigmoid()
        return by_place(f"{name}.spatial_attention.conv", weighed) + features

    shallow = conv(w, "body.shallow", x - MEAN)
    features, fused = shallow, torch.zeros_like(shallow)
    for number in range(16):
        before, features = features, group(f"body.deep.groups.{number}", features)
        name = f"body.deep.fusions.{number}"
        joined = conv(w, f"{name}.conv", torch.cat([before, features], 1))
        fused = fused + by_place(f"{name}.attention.conv", joined)
    deep = conv(w, "body.deep.tail", features) + fused + shallow
    return conv(w, "body.reconstruct", upsample(w, "body.upscale", deep, scale)) + MEAN


def drfn_2conv(w: Weights, x: Tensor, scale: int) -> Tensor:
    return drfn(w, x, scale, 2)


def rdn(w: Weights, x: Tensor, scale: int) -> Tensor:
    first = conv(w, "shallow1", x)
    features, outputs = conv(w, "shallow2", first), []
    for block in range(16):
        seen = [features]
        for layer in range(8):
            seen.append(conv(w, f"blocks.{block}.convs.{layer}", torch.cat(seen, 1)).relu())
        features = features + conv(w, f"blocks.{block}.fusion", torch.cat(seen, 1))
        outputs.append(features)
    fused = conv(w, "fusion.1", conv(w, "fusion.0", torch.cat(outputs, 1)))
    return conv(w, "tail.1", upsample(w, "tail.0", first + fused, scale))


def msrn(w: Weights, x: Tensor, scale: int) -> Tensor:
    shallow = features = conv(w, "body.head", 255 * (x - MEAN))
    outputs = []
    for block in range(8):
        name = f"body.body.{block}"
        small, large = (conv(w, f"{name}.conv_{k}_1", features).relu() for k in (3, 5))
        both = torch.cat([small, large], 1)
        small, large = (conv(w, f"{name}.conv_{k}_2", both).relu() for k in (3, 5))
        features = features + conv(w, f"{name}.confusion", torch.cat([small, large], 1))
        outputs.append(features)
    fused = conv(w, "body.tail.0", torch.cat([*outputs, shallow], 1))
    made = upsample(w, "body.tail.2", conv(w, "body.tail.1", fused), scale)
    return conv(w, "body.tail.3", made) / 255 + MEAN


DEFINITIONS: dict[str, Callable[[Weights, Tensor, int], Tensor]] = {
    "srcnn": srcnn,
    "fsrcnn": fsrcnn,
    "vdsr": vdsr,
    "lapsrn": lapsrn,
    "memnet": memnet,
    "edsr-baseline": edsr_baseline,
    "srmdnf": srmdnf,
    "rdn": rdn,
    "dcsr": dcsr,
    "msrn": msrn,
    "edsr": edsr,
    "drfn": drfn,
    "drfn-2conv": drfn_2conv,
}
NARROW = {name: {"width": 16} for name in ("edsr", "drfn", "drfn-2conv")}
CASES = [(name, scale) for name in DEFINITIONS for scale in (2, 3, 4)]


@pytest.mark.parametrize(("name", "scale"), [c for c in CASES if c != ("lapsrn", 3)])
def test_the_forward_pass_is_the_definition_on_odd_sizes(name: str, scale: int) -> None:
    torch.manual_seed(0)
    card = MODELS.get(name)
    network = build_network(card, scale, NARROW.get(name, {})).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # as after training, not as it starts
            layer.running_mean.uniform_(-0.1, 0.1), layer.running_var.uniform_(0.5, 2)
    image = torch.rand(1, card.channels, 9, 11)
    with torch.no_grad():
        made = network(image)
        expected = DEFINITIONS[name](network.state_dict(), image, scale)
    assert made.shape == expected.shape
    assert made.std() > 1e-3
    torch.testing.assert_close(made.double(), expected.double(), atol=1e-5, rtol=1e-5)
