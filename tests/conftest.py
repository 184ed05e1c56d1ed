"""Shared fixtures: registries filled, no trace of the user's own files, images made on the spot."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import harness.protocol.metrics
from harness import registry
from harness.cli import main
from harness.data import pinned
from harness.data.testsets import register_testsets
from harness.models.weights import Weights, authors_rows, save_weights, tensors_digest
from harness.record import WeightsInfo
from harness.registry import MODELS, REPORTS, load_plugins
from tests.pictures import picture
from tests.records import authors_of_tests

REAL_ROOTS = {name: os.environ.get(name, "") for name in ("HARNESS_DATA", "HARNESS_WEIGHTS")}


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes of tests, even where the shell that started pytest ignores it.

    A shell's background jobs ignore SIGINT, and so would all that they start.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without the published files a test of real data is skipped, unless they are required."""
    if item.get_closest_marker("real_data") and not all(REAL_ROOTS.values()):
        message = "set HARNESS_DATA and HARNESS_WEIGHTS to the published images and weights"
        if os.environ.get("HARNESS_REAL_DATA") == "required":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def published() -> Path:
    """The folder of SR images that authors published; without it, the test is skipped."""
    folder = os.environ.get("HARNESS_PUBLISHED")
    if folder is None:
        pytest.skip("set HARNESS_PUBLISHED to the SR images that authors published")
    return Path(folder)


def _forget_modules(folder: Path) -> None:
    """Let the next test import its own copies of what was imported from a folder."""
    for name, module in sys.modules.copy().items():
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def clean_slate(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fill the registries, hide the user's cache and roots, and undo what plug-ins enter."""
    for name, value in REAL_ROOTS.items():
        real = request.node.get_closest_marker("real_data")
        monkeypatch.setenv(name, value if real else "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    # No test reaches the network; those about downloads serve their own files.
    monkeypatch.setattr(pinned, "HOST", "http://127.0.0.1:9")
    pinned._reachable.cache_clear()
    register_testsets()
    load_plugins()
    REPORTS.load_built_ins()
    authors = (*map(authors_of_tests, MODELS), *authors_rows())
    monkeypatch.setattr("harness.models.weights.authors_rows", lambda: authors)
    before, path = [one.snapshot() for one in registry._ALL], list(sys.path)
    yield
    sys.path[:] = path
    _forget_modules(tmp_path)
    for one, entries in zip(registry._ALL, before, strict=True):
        one.restore(entries)
    registry.FAILURES.clear()
    registry.SETTINGS.clear()


@pytest.fixture
def harness() -> Callable[..., Result]:
    """Run the command line in this process: ``harness("run", "--models", "bicubic")``."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small HR images, one of them grey, one of odd size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, shape in {"a": (48, 64, 3), "b": (53, 47, 3), "c": (48, 48, 1)}.items():
        Image.fromarray(picture(*shape, seed=ord(name))).save(folder / f"{name}.png")
    return folder


@dataclass
class Host:
    """A stand-in for the host of downloads: serves a folder and notes what it is asked for."""

    root: Path
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host that serves ``owner/repo/commit/...`` from an empty folder."""
    made = Host(tmp_path / "served")
    made.root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            made.requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(made.root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(pinned, "HOST", f"http://127.0.0.1:{server.server_port}")
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def random_weights(tmp_path: Path) -> Callable[..., Path]:
    """Save small random weights of a model as safetensors: ``random_weights("srcnn")``."""

    def make(model: str, scale: int = 4, folder: Path = tmp_path, **hyper: object) -> Path:
        card = MODELS.get(model)
        rng = np.random.default_rng(1)
        shapes = {k: v.shape for k, v in card.build(scale=scale, **hyper).state_dict().items()}
        tensors = {
            name: rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()
        }
        info = WeightsInfo("made", "made.npz", "0" * 64, tensors_digest(tensors), "Apache-2.0")
        return save_weights(Weights(info, tensors, hyper), card, scale, folder)

    return make
