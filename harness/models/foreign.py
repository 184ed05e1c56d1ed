"""Checkpoints of architectures that spandrel recognises (extra ``foreign``)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.cards import ModelCard
from harness.errors import HarnessError, UsageError, sentence
from harness.files import WEIGHTS, regular
from harness.global_state import random_state_kept
from harness.models.formats.checkpoints import unpickle, whole_networks
from harness.models.network import owner
from harness.models.weights import Weights, at_most, file_tag, require_finite, tensors_digest
from harness.record import WeightsInfo, file_digest

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor, ModelDescriptor

    from harness.cards import Pipeline

_PIPELINES: dict[tuple[int, int], Pipeline] = {(1, 1): "y", (3, 3): "rgb"}
"""The pipeline of a network, by its numbers of input and output channels."""

_MOST_VALUES = 4
"""The most parameters a network may have for each value in its file; some share their values."""


def recognise(path: Path, name: str, key: str = "") -> tuple[ModelCard, Weights]:
    """Make the card of a network from its checkpoint, and read its weights.

    Args:
        path: a PyTorch checkpoint or a safetensors file; no code in it is run.
        name: the network's name in records.
        key: the keys that lead to the network, joined by dots; empty to search for it.

    Returns:
        the card, with the scale and channels that the architecture states, and the weights, under
        the names that spandrel's network gives them.

    Raises:
        HarnessError: the file cannot be read, spandrel does not recognise it, or its network is
            not one for super-resolution.
        UsageError: there is nothing under the key, or spandrel cannot be used.
    """
    require_spandrel()
    values, descriptor, note = _recognised(path, key)
    channels = descriptor.input_channels, descriptor.output_channels
    kind = f"{path} holds a network for {descriptor.purpose} ({descriptor.architecture.id})"
    if descriptor.scale < 2 or not _takes_images(descriptor):
        raise HarnessError(f"{kind}, which does not enlarge images: it has no score here.")
    if channels not in _PIPELINES:
        raise HarnessError(
            f"{kind} that takes {channels[0]} channels and returns {channels[1]}: write a plug-in "
            "that takes and returns grey or RGB images."
        )
    tensors = {key: value.numpy() for key, value in descriptor.model.state_dict().items()}
    require_finite(tensors, path)
    sha256 = tensors_digest(tensors)
    card = ModelCard(
        name,
        Recognised(sha256, path.name, values),
        _PIPELINES[channels],
        "lr",
        (descriptor.scale,),
        # Attention and pooling see the whole image, and spandrel does not say how far they see.
        global_pooling=True,
        origin=f"spandrel.architectures.{descriptor.architecture.id}",
        checkpoint={
            "architecture": descriptor.architecture.id,
            "tags": descriptor.tags,
            "purpose": descriptor.purpose,
        },
    )
    info = WeightsInfo(file_tag(path), path.name, file_digest(path), sha256)
    return card, Weights(info, tensors, note=note)


@dataclass(frozen=True)
class Recognised:
    """Builds the network of a checkpoint: the ``build`` of its card.

    Attributes:
        sha256: hash of the network's weights.
        file: the name of the file, for messages.
        values: the weights under the names in the file, from which spandrel knows the network.
    """

    sha256: str
    file: str
    values: Mapping[str, Tensor] = field(compare=False, repr=False)

    def __call__(self, scale: int) -> nn.Module:
        """Build the network.

        Raises:
            Exception: any; spandrel is not installed, or does not recognise the values.
        """
        return ForeignNetwork(_load(self.values, self.file))


class ForeignNetwork(nn.Module):
    """A network as spandrel calls it.

    Images are padded to a size that the network takes, and the output is cropped and clamped to
    [0, 1]. The state dict is that of the network itself.
    """

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module]) -> None:
        super().__init__()
        self.model, self._descriptor = descriptor.model, descriptor

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(1, C, H, W)`` in [0, 1] to the SR image."""
        return self._descriptor(image)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's own state dict, without a prefix."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load the network's own state dict."""
        return self.model.load_state_dict(*args, **kwargs)


def require_spandrel() -> None:
    """Check that spandrel can be imported.

    Raises:
        UsageError: it is not installed, or torchvision, which it imports, does not fit torch.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import spandrel  # noqa: F401
    except Exception as error:  # the torchvision of another torch raises RuntimeError
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else "torchvision"
        if missing.partition(".")[0] != "torchvision":
            raise UsageError(
                f"A checkpoint without a registered model needs spandrel ({error}): pip install -c "
                "constraints.txt '.[foreign]' in the clone, or register its network in a --plugin "
                "file."
            ) from error
        raise UsageError(
            f"spandrel needs the torchvision that was built for torch {torch.__version__} "
            f"({sentence(error)}): {_torchvision(torch.__version__)}."
        ) from error


def _torchvision(version: str) -> str:
    """Write the command that installs the torchvision of a torch: 0.28 for 2.13, and so on.

    pip takes a torchvision of that version that was built for another torch for the same.
    """
    release, _, build = str(version).partition("+")
    minor = int(release.split(".")[1]) + 15
    index = f"--index-url https://download.pytorch.org/whl/{build} " if build else ""
    return f"pip install --force-reinstall --no-deps {index}'torchvision==0.{minor}.*'"


def _recognised(path: Path, key: str) -> tuple[Mapping[str, Tensor], ModelDescriptor, str]:
    """Find the first network in a file that spandrel recognises.

    Returns:
        its values, as the file has them; its descriptor; and where it was, see `whole_networks`.
    """
    first: Mapping[str, Tensor] = {}
    reason = ""
    for values, note in whole_networks(_content(path), path, key):
        try:
            return values, _load(values, path.name), note
        except Exception as error:  # spandrel trusts what it reads, and may raise anything
            first = first or values
            if str(error):  # that of an unknown network says nothing
                reason = reason or f" ({sentence(error).splitlines()[0].rstrip(':')})"
    shapes = {name: tuple(value.shape) for name, value in first.items()}
    known = owner(shapes, "", {})
    names = ", ".join(list(first)[:3])
    held = f"; {known}: name the model, as in NAME={path.name}" if known else ""
    raise HarnessError(
        f"{path} holds no network that spandrel recognises{reason}: {len(first)} "
        f"value{'s' * (len(first) != 1)}, such as {names}"
        f"{held or '; write a plug-in for it, see the README'}."
    )


def _content(path: Path) -> object:
    """Read what a file holds.

    Raises:
        HarnessError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        regular(path, WEIGHTS)
        return load_file(path) if path.suffix == ".safetensors" else unpickle(path)
    except OSError as error:
        raise HarnessError(f"The checkpoint {path} cannot be read ({error}).") from error
    except (SafetensorError, ValueError) as error:
        raise HarnessError(f"{path} is not a readable safetensors file ({error}).") from error


def _load(values: Mapping[str, Tensor], file: str) -> ModelDescriptor:
    """Let spandrel build the network that it recognises by names and shapes, and load the values.

    Raises:
        Exception: any; in particular ``UnsupportedModelError`` if it recognises none.
    """
    from spandrel import ModelLoader

    most = _MOST_VALUES * sum(value.numel() for value in values.values())
    with warnings.catch_warnings(), random_state_kept(torch.device("cpu")), at_most(most, file):
        warnings.simplefilter("ignore")  # of its dependencies
        loader = ModelLoader(torch.get_default_device())
        return loader.load_from_state_dict(dict(values))


def _takes_images(descriptor: ModelDescriptor) -> bool:
    """Whether a network takes an image alone, not also a mask."""
    from spandrel import ImageModelDescriptor

    return isinstance(descriptor, ImageModelDescriptor)
