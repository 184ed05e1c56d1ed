from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

from tests.hostile import files
from tests.hostile.case import Case, nothing
from tests.hostile.files import Trap, srcnn, tensor

WITH = "run --models srcnn --datasets ./good --weights srcnn="


def weights(name: str, make: Callable[[], object], said: str, kind: str = "safetensors") -> Case:
    return Case(f"weights: {name}", make, f"{WITH}w.{kind}", 1, said)


def pickled(key: bytes) -> None:
    """A checkpoint that is a dictionary with a key that is pickled so."""
    with ZipFile("w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + key + b"K\x01s.")
        archive.writestr("archive/version", "3\n")


def earlier(key: bytes) -> None:
    """The same in the format before zip files, with a zip file at its end."""
    pickled(b")")
    numbers = (0x1950A86A20F9469CFC6C, 1001, {})
    head = b"".join(pickle.dumps(number, 2) for number in numbers)
    content = head + b"\x80\x02}" + key + b"K\x01s." + Path("w.pth").read_bytes()
    Path("w.pth").write_bytes(content)


def bound(name: str) -> None:
    """A socket that someone listens at."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(name)


def big(name: str, said: str, **hyper: object) -> Case:
    words = "run --models drfn --datasets ./good --weights drfn=w.safetensors"
    return Case(f"weights: {name}", partial(files.asking, **hyper), words, 1, said)


NESTED = "holds deeply nested tuples"
DEVICE = "is a device, not a file"
UNREADABLE = "is not a readable safetensors file"
NOT_RUN = "does not hold plain tensors, and nothing in it was run"
NO_TENSORS = "does not hold a dictionary of tensors"
ONE = torch.zeros(1)
CASES = [
    weights("pickle that runs code", lambda: torch.save({"a": Trap()}, "w.pth"), NOT_RUN, "pth"),
    weights("code among tensors", lambda: files.checkpoint(trap=Trap()), NOT_RUN, "pth"),
    weights("pickle in a zip", files.nested_pickle, NOT_RUN, "pth"),
    weights("tar that climbs out", files.tar, NOT_RUN, "pth"),
    weights("compressed checkpoint", files.compressed, "w.pth is compressed", "pth"),
    Case(
        "weights: number for which numpy takes 2 GB",
        lambda: files.checkpoint(best=files.Huge()),
        f"{WITH}w.pth",
        0,
        "srcnn",
    ),
    weights(
        "one value repeated",
        lambda: files.checkpoint(first=ONE.expand(10**5, 10**5)),
        "far more than it holds",
        "pth",
    ),
    weights("sparse", lambda: files.checkpoint(first=files.sparse()), NO_TENSORS, "pth"),
    weights("without storage", lambda: files.checkpoint(first=ONE.to("meta")), NO_TENSORS, "pth"),
    weights("complex", lambda: files.checkpoint(first=ONE.to(torch.complex64)), NO_TENSORS, "pth"),
    weights(
        "whole numbers",
        lambda: files.checkpoint(first=srcnn()["0.weight"].int()),
        "1 parameter not floating-point (0.weight)",
        "pth",
    ),
    weights("bits", lambda: files.arrays(np.bool_), "6 parameters not floating-point"),
    weights("complex safetensors", lambda: files.arrays(np.complex64), "not floating-point"),
    weights("not a number", lambda: files.arrays(fill=np.nan), "values that are not finite"),
    weights("infinite", lambda: files.arrays(fill=np.inf), "values that are not finite"),
    weights(
        "another shape", lambda: files.checkpoint(first=ONE), "1 parameter of another shape", "pth"
    ),
    weights("header of 2^62 bytes", lambda: files.safetensors({}, length=2**62), UNREADABLE),
    weights("header that ends early", lambda: files.safetensors({}, length=99), UNREADABLE),
    weights("header nested 10^5 deep", lambda: files.safetensors(b"[" * 10**5), UNREADABLE),
    weights(
        "overlapping tensors",
        lambda: files.safetensors({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)),
        UNREADABLE,
    ),
    weights(
        "tensor beyond the end",
        lambda: files.safetensors({"a": tensor(0, 4 * 10**12, shape=(10**12,))}, bytes(4)),
        UNREADABLE,
    ),
    weights("arguments nested deep", lambda: files.arrays(hyper="[" * 10**5), UNREADABLE),
    big("arguments that are no number", UNREADABLE, width=np.nan),
    weights("tag that is a path", lambda: files.arrays(tag="../../x"), 'metadata field "tag" of'),
    weights(
        "licence that clears the screen", lambda: files.arrays(licence="\x1b[2J"), '"licence" of'
    ),
    big("a billion groups", "fewer values than the network it asks for", groups=10**9),
    big("filters beyond memory", "failed to build drfn", width=10**6),
    big("filters of no number", "failed to build drfn", width="x"),
    weights("cells within cells", files.cells_within_cells, "more than 3000 parts", "mat"),
    weights(
        "MATLAB bomb",
        lambda: files.mat({"weights_conv1": np.zeros(10**7)}, do_compression=True),
        "unpacks to more than 64 MB",
        "mat",
    ),
    weights(
        "MATLAB 7.3",
        lambda: Path("w.mat").write_bytes(b"MATLAB 7.3".ljust(124) + b"\0\2IM\x89HDF"),
        "not a readable .mat",
        "mat",
    ),
    weights(
        "MATLAB objects",
        lambda: files.mat({"weights_conv1": {"a": [{"b": 1}]}}),
        "not laid out like",
        "mat",
    ),
    Case(
        "weights: ncnn cut short",
        lambda: Path("w.bin").write_bytes((0x01306B47).to_bytes(4, "little") + bytes(1001)),
        "run --models srmdnf --datasets ./good --weights srmdnf=w.bin",
        1,
        "is not laid out like the weights of srmdnf",
    ),
    weights("device", lambda: Path("w.pth").symlink_to("/dev/zero"), DEVICE, "pth"),
    weights("device of safetensors", lambda: Path("w.safetensors").symlink_to("/dev/zero"), DEVICE),
    weights("key nested 200,000 deep", lambda: pickled(b")" + b"\x85" * 200_000), NESTED, "pth"),
    weights("key nested 5,000 deep", lambda: pickled(b")" + b"\x85" * 5_000), NESTED, "pth"),
    weights("key nested, no zip file", lambda: earlier(b")" + b"\x85" * 5_000), NESTED, "pth"),
    weights("key that repeats itself", lambda: pickled(b")" + b"2\x86" * 60), NESTED, "pth"),
    weights("FIFO", lambda: os.mkfifo("w.safetensors"), "is a FIFO, not a file"),
    weights("FIFO of MATLAB", lambda: os.mkfifo("w.mat"), "is a FIFO, not a file", "mat"),
    weights("socket", lambda: bound("w.pth"), "is a socket, not a file", "pth"),
    weights("folder", lambda: Path("w.bin").mkdir(), "is a folder, not a file", "bin"),
    weights(
        "part of none",
        lambda: Path("w.safetensors.1of0").touch(),
        "is not a valid name for a part",
        "safetensors.1of0",
    ),
    *(
        Case(f"weights: {name}", nothing, f"{WITH}w.{kind}", 2, "There is no weights file")
        for name, kind in (
            ("part of ten billion", "safetensors.1of9999999999"),
            ("name too long", "x" * 300 + ".mat"),
        )
    ),
]
