"""Reading weights from the files that authors published, as named float32 arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.specs import AnyArray

    Tensors = dict[str, AnyArray]

PICKLES = frozenset({".pth", ".pt", ".ckpt", ".bin"})
_NESTED = ("params_ema", "params", "state_dict", "model")


def import_tensors(model: str, path: Path) -> Tensors:
    """The weights of a model in a published file.

    Args:
        model: the network's registered name.
        path: a ``.mat`` file of the model's authors, or a PyTorch checkpoint.

    Returns:
        the network's parameter names and float arrays.

    Raises:
        HarnessError: the file is missing, broken, of another network, or of an unknown kind.
    """
    if not path.is_file():
        raise HarnessError(f"There is no weights file {path}.")
    if path.suffix in PICKLES:
        return _from_pickle(path)
    if path.suffix == ".mat":
        return _from_mat(model, path)
    raise HarnessError(
        f"{path} is of a kind that cannot be imported: it takes .safetensors, .mat or .pth."
    )


def _from_mat(model: str, path: Path) -> Tensors:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, simplify_cells=True)
    except (MatReadError, ValueError, TypeError, OSError, EOFError, NotImplementedError) as error:
        raise HarnessError(f"{path} is not a readable .mat file ({error}).") from error
    owner = next((name for name, (mark, _) in _MATLAB.items() if mark(content)), None)
    if owner != model:
        held = f"holds weights of {owner}" if owner else "is no weights file that is known"
        raise HarnessError(f"{path} {held}, not of {model}.")
    try:
        return {
            name: np.ascontiguousarray(value, np.float32)
            for name, value in _MATLAB[model][1](content)
        }
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise HarnessError(
            f"{path} is not laid out like the weights of {model} ({error})."
        ) from error


def _srcnn(content: Mapping[str, Any]) -> Iterable[tuple[str, AnyArray]]:
    """Dong et al.: filters as columns of column-major squares, ``(in, k * k, out)``."""
    for layer, (inputs, outputs) in enumerate([(1, 64), (64, 32), (32, 1)], start=1):
        filters = np.asarray(content[f"weights_conv{layer}"])
        side = round((filters.size / inputs / outputs) ** 0.5)
        columns = filters.reshape(inputs, side, side, outputs)
        # The middle axes are (column, row) since MATLAB stores columns first.
        yield f"{2 * layer - 2}.weight", columns.transpose(3, 0, 2, 1)
        yield f"{2 * layer - 2}.bias", np.reshape(content[f"biases_conv{layer}"], outputs)


def _vdsr(content: Mapping[str, Any]) -> Iterable[tuple[str, AnyArray]]:
    """Kim et al.: ``(H, W, in, out)``, axes of length 1 squeezed from the first and last layer."""
    weights, biases = content["model"]["weight"], content["model"]["bias"]
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        inputs = 1 if layer == 0 else weight.shape[2]
        outputs = 1 if layer == last else weight.shape[-1]
        shaped = weight.reshape(*weight.shape[:2], inputs, outputs)
        yield f"body.{2 * layer}.weight", shaped.transpose(3, 2, 0, 1)
        yield f"body.{2 * layer}.bias", np.reshape(bias, outputs)


def _is_vdsr(content: Mapping[str, Any]) -> bool:
    held = content.get("model")
    return isinstance(held, Mapping) and {"weight", "bias"} <= held.keys()


# How a file is recognised, and how it is read.
_MATLAB: dict[
    str,
    tuple[
        Callable[[Mapping[str, Any]], bool],
        Callable[[Mapping[str, Any]], Iterable[tuple[str, AnyArray]]],
    ],
] = {
    "srcnn": (lambda content: "weights_conv1" in content, _srcnn),
    "vdsr": (_is_vdsr, _vdsr),
}


def _from_pickle(path: Path) -> Tensors:
    """A PyTorch checkpoint, read without running any code it may hold."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HarnessError(f"{path} cannot be read ({error}).") from error
    except Exception as error:  # the reader meets what it does not know in many ways
        raise HarnessError(
            f"{path} does not hold plain tensors, and nothing in it was run: save the network's "
            "state_dict() instead."
        ) from error
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not _all_tensors(content.values()):
        raise HarnessError(f"{path} does not hold a dictionary of tensors: it is no weights file.")
    return {
        str(name).removeprefix("module."): tensor.detach().to_dense().float().numpy()
        for name, tensor in content.items()
    }


def _all_tensors(values: Iterable[object]) -> bool:
    import torch

    return all(isinstance(value, torch.Tensor) for value in values)
