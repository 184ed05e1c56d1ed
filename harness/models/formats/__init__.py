"""Reading weights from the files that authors published, as named float32 arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.files import WEIGHTS, regular
from harness.models.formats.checkpoints import read_checkpoint
from harness.models.formats.matlab import read_mat
from harness.models.formats.ncnn import is_ncnn, read_ncnn

if TYPE_CHECKING:
    from harness.cards import Shapes, Tensors


CHECKPOINTS = frozenset({".pth", ".pt", ".ckpt", ".bin"})


def read_tensors(
    model: str, path: Path, shapes: Callable[[], Shapes], key: str = ""
) -> tuple[Tensors, str]:
    """The weights of a model in a published file.

    Args:
        model: the network's registered name.
        path: a ``.mat`` or ncnn ``.bin`` file of the model's authors, or a PyTorch checkpoint.
        shapes: gives the names and shapes of the network, by which a checkpoint is searched.
        key: where a checkpoint holds it, see `read_checkpoint`.

    Returns:
        the network's parameter names and float32 arrays, and a sentence on where in the file they
        were, see `harness.models.formats.checkpoints.find_network`.

    Raises:
        HarnessError: the file is missing, broken, of another network, or of an unknown kind.
        UsageError: the key does not fit the file.
    """
    try:
        regular(path, WEIGHTS)
    except FileNotFoundError:
        raise HarnessError(f"There is no weights file {path}.") from None
    except OSError as error:
        raise HarnessError(f"The weights file {path} cannot be read ({error}).") from error
    ncnn = path.suffix == ".bin" and is_ncnn(path)
    if path.suffix in CHECKPOINTS and not ncnn:
        return read_checkpoint(path, shapes(), key)
    if key:
        raise UsageError(f"{path} holds one network: --weights-key is for checkpoints.")
    if path.suffix == ".mat":
        return read_mat(model, path), ""
    if ncnn:
        return read_ncnn(model, path), ""
    if path.suffix == ".param":
        raise HarnessError(f"{path} describes layers: the weights are in the .bin file beside it.")
    raise HarnessError(
        f"{path} is of a kind that cannot be imported: it takes .safetensors, .mat, .pth or the "
        ".bin of ncnn."
    )
