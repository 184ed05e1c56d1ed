"""The code that decides what a network, or a metric, computes: its hash, and where it came from."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.registry import METRICS, MODELS
from harness.source import distributions, source_of
from harness.specs import DISTRIBUTION, canonical_json, digest, file_digest
from harness.syntax import NETWORKS, is_left_out

if TYPE_CHECKING:
    from harness.models.weights import Weights
    from harness.specs import ModelCard


def network_digest(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], weights: Weights | None = None
) -> str:
    """SHA-256 of the code of a network.

    It covers the file that registers the network, the files of the classes of its modules, what
    these import (`harness.source.source_of`), and what its card says of how it is run.

    Args:
        card: the network.
        scale: the factor.
        hyper: the arguments it is built with.
        weights: those that the arguments came with, if any: the network must fit them.

    Raises:
        HarnessError: a file cannot be read.
    """
    key = card.name, card.build, scale, canonical_json(hyper)
    classes = _class_files.get(key)
    if classes is None:
        classes = _files_of_classes(card, scale, hyper, weights)
    if classes is not None:
        _class_files[key] = classes
    return _digest(card, classes or ())


def unbuilt_digest(card: ModelCard) -> str:
    """SHA-256 of the code of a network, as far as it is known without building the network.

    It is that of `network_digest` where the file that registers the network imports, directly or
    through others, the classes of all its modules.

    Raises:
        HarnessError: a file cannot be read.
    """
    return _digest(card, ())


def _digest(card: ModelCard, classes: Sequence[Path]) -> str:
    roots = [card.source] if card.source else []
    source = source_of(roots, [*_files_of(card.build), *classes])
    applied = {"input": card.input, "global_pooling": card.global_pooling}
    return digest([applied, source.sha256])


_class_files: dict[tuple[Any, ...], tuple[Path, ...]] = {}
"""What `_files_of_classes` gave, by the network and its arguments."""


def _files_of_classes(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], weights: Weights | None
) -> tuple[Path, ...] | None:
    """The files of the classes of a network's modules; None where it cannot be built."""
    import torch

    from harness.models.inference import build_network, no_larger_than
    from harness.models.random_state import random_state_kept

    try:
        with no_larger_than(weights), random_state_kept(torch.device("cpu")):
            network = build_network(card, scale, hyper)
    except HarnessError:  # the run will say so
        return None
    classes = {base for module in network.modules() for base in type(module).__mro__}
    files = {_file_of_class(one) for one in classes if not is_left_out(one.__module__)}
    return tuple(sorted(file for file in files if file))


def _file_of_class(one: type) -> Path | None:
    """The file of a class: that of its methods, or else of the module that is loaded by its name.

    Several cloned repositories may have a module of one name, such as ``models``.
    """
    functions = (
        inspect.unwrap(made)
        for made in vars(one).values()
        if inspect.isfunction(made) and made.__module__ == one.__module__
    )
    files = [made.__code__.co_filename for made in functions if hasattr(made, "__code__")]
    files.append(getattr(sys.modules.get(one.__module__), "__file__", None) or "")
    return next((Path(file) for file in files if Path(file).is_file()), None)


def metrics_digest(metrics: Sequence[str]) -> str | None:
    """SHA-256 of the code of those of some metrics that the harness does not define, or None."""
    sources = {
        name: source_of([file], _files_of(METRICS.get(name))).sha256
        for name, file in _foreign_metrics(metrics)
    }
    return digest(sources) if sources else None


def _files_of(function: Any) -> list[Path]:
    """The files that define a function and what it wraps."""
    functions = [function, inspect.unwrap(function), getattr(function, "func", None)]
    # A built-in method, such as [].count, has no module.
    modules = {module for one in functions if (module := getattr(one, "__module__", None))}
    files = (
        getattr(sys.modules.get(name), "__file__", None)
        for name in sorted(modules)
        if not is_left_out(name)
    )
    return [Path(file) for file in files if file]


def plugins(model: str, metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Where a model and metrics came from, but for the metrics of the harness.

    Returns:
        by name: the plug-in's ``file`` or ``module``, the ``distribution`` that an installed one
        belongs to, and the ``sha256`` of the file that registers it.
    """
    card = MODELS.get(model)
    found = [(card.name, card.origin, card.source)] if card.source else []
    found += [(name, METRICS.origin(name), file) for name, file in _foreign_metrics(metrics)]
    return {name: _facts(origin, file) for name, origin, file in found}


def _facts(origin: str, file: Path) -> dict[str, str]:
    sha256 = {"sha256": file_digest(file)}
    if origin.endswith(".py"):
        return {"file": file.name} | sha256
    names = distributions().get(origin.partition(".")[0], ())
    installed = ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(names))
    return {"module": origin} | ({"distribution": installed} if installed else {}) | sha256


def is_built_in(facts: Mapping[str, str]) -> bool:
    """Whether a network is the harness's own, by what `plugins` says of it.

    Earlier versions called the package ``baselines``, as others do theirs.
    """
    installed = facts.get("distribution", DISTRIBUTION)
    own = installed.partition(" ")[0] == DISTRIBUTION and "," not in installed
    return own and facts.get("module", "").startswith((f"{NETWORKS}.", "baselines."))


def _foreign_metrics(metrics: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The metrics that the harness does not define, and the files that register them."""
    for name in metrics:
        origin = METRICS.origin(name)
        if origin.endswith(".py"):
            yield name, Path(origin)
        elif not is_left_out(origin):
            yield name, Path(str(inspect.getfile(sys.modules[origin])))
