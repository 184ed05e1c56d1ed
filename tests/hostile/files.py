"""Files that want to do harm, or are broken, made on the spot."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from scipy.io import savemat

from harness.models.weights import tensors_digest
from harness.record import WeightsInfo, digest
from harness.registry import MODELS
from tests.pictures import picture

SPRUNG = Path("sprung")
"""What the hostile code in these files leaves behind if it is ever run."""

RGB = Image.fromarray(picture(40, 40))


class Trap:
    """A pickle that runs code when it is loaded without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (SPRUNG.touch, ())


class Huge:
    """A pickle that asks numpy for a scalar of two gigabytes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (np.float64(0).__reduce__()[0], (np.dtype("V2000000000"),))


def saved(name: str, image: Image.Image = RGB, **options: Any) -> None:
    """An image in the folder ``set``."""
    Path("set").mkdir(exist_ok=True)
    image.save(Path("set", name), **options)


def written(name: str, content: bytes) -> None:
    """A file in the folder ``set``, whatever it holds."""
    Path("set").mkdir(exist_ok=True)
    Path("set", name).write_bytes(content)


def encoded(form: str, image: Image.Image = RGB, **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(width: int = 40, height: int = 40, depth: int = 8, **chunks: bytes) -> bytes:
    """An RGB PNG whose header may lie, with more chunks before its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    more = b"".join(chunk(kind.encode(), body) for kind, body in chunks.items())
    pixels = zlib.compress((b"\0" + bytes(range(120)) * (depth // 8)) * 40)
    ends = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + ends


def packed(size: int) -> bytes:
    """So many zeros, after the name and method of a compressed PNG chunk."""
    return b"x\0\0" + zlib.compress(bytes(size), 9)


def srcnn() -> dict[str, torch.Tensor]:
    """Values that fit the network of that name."""
    torch.manual_seed(0)
    return dict(MODELS.get("srcnn").build().state_dict())


def checkpoint(**changed: object) -> None:
    """A checkpoint ``w.pth`` of SRCNN, some of it changed; ``first`` is its first tensor."""
    state: dict[str, Any] = dict(srcnn())
    if "first" in changed:
        state["0.weight"] = changed.pop("first")
    torch.save(state | changed, "w.pth")


def nested_pickle() -> None:
    """A checkpoint's archive with a pickle in it that PyTorch did not write."""
    with zipfile.ZipFile("w.pth", "w") as archive:
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data.pkl", pickle.dumps({"0.weight": Trap()}))
        archive.writestr("archive/../../../sprung", "climbed out")


def compressed() -> None:
    """A checkpoint packed a thousand times smaller than what it unpacks to."""
    checkpoint(first=torch.zeros(64, 1, 900, 900))
    with zipfile.ZipFile("w.pth") as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile("w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def tar() -> None:
    """A checkpoint in PyTorch's first format, an archive whose paths climb out of its folder."""
    with tarfile.open("w.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle", "../sprung", "/tmp/sprung"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))


def sparse() -> torch.Tensor:
    """Ten billion values of which one is stored."""
    place = torch.zeros(2, 1, dtype=torch.int64)
    return torch.sparse_coo_tensor(place, torch.ones(1), (10**5, 10**5), check_invariants=True)


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> None:
    """A file ``w.safetensors`` whose header, or its length, may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", len(text) if length is None else length)
    Path("w.safetensors").write_bytes(size + text + body)


def tensor(*offsets: int, shape: tuple[int, ...] = (1,)) -> dict[str, object]:
    """What a header of safetensors says of a tensor."""
    return {"dtype": "F32", "shape": shape, "data_offsets": offsets}


def arrays(dtype: type | None = None, fill: float | None = None, **metadata: str) -> None:
    """The weights of SRCNN as ``w.safetensors``, of another kind or all of one value."""
    values = {name: value.numpy() for name, value in srcnn().items()}
    if fill is not None:
        values = {name: np.full_like(value, fill) for name, value in values.items()}
    values = {name: v.astype(dtype or v.dtype) for name, v in values.items()}
    save_file(values, "w.safetensors", sealed(values, "srcnn", **metadata))


def asking(**hyper: object) -> None:
    """A small safetensors file that says its network is built with these arguments."""
    values = {"a": np.zeros(9, np.float32)}
    save_file(values, "w.safetensors", sealed(values, "drfn", hyper=json.dumps(hyper)))


def sealed(values: Mapping[str, np.ndarray], model: str, **changes: str) -> dict[str, str]:
    """The metadata that the harness writes beside weights, with changes before they are sealed."""
    info = WeightsInfo("file", "", "", tensors_digest(values))
    facts = asdict(info) | {"model": model, "scale": "4", "hyper": "{}"} | changes
    return facts | {"sha256": digest(facts)}


def mat(content: Mapping[str, object], **options: bool) -> None:
    """A file ``w.mat``."""
    savemat("w.mat", content, **options)


def cells_within_cells(depth: int = 100_000) -> None:
    """A ``w.mat`` in which every cell holds one cell."""
    flags, dimensions, name = (
        struct.pack("<IIII", 6, 8, 1, 0),
        struct.pack("<IIii", 5, 8, 1, 1),
        struct.pack("<IIQ", 1, 1, ord("x")),
    )
    level = struct.pack("<II", 14, 8) + flags + dimensions + name
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    Path("w.mat").write_bytes(header + level * depth)
