"""Hash the code that a network or a metric runs, and record where that code came from."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, files, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cards import DISTRIBUTION
from harness.errors import HarnessError
from harness.files import TEXT, recorded_path, regular
from harness.record import canonical_json, digest, file_digest
from harness.registry import DATASETS, FILES, METRICS
from harness.syntax import LIBRARY, NETWORKS, canonical_digest, is_harness, is_left_out

if TYPE_CHECKING:
    from harness.cards import ModelCard
    from harness.models.weights import Weights
    from harness.record import PluginFacts
    from harness.registry import Registry


def network_digest(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], weights: Weights | None = None
) -> str:
    """SHA-256 of the code of a network.

    It covers the file that registers the network, the files of the classes of its modules, what
    these import (`source_of`), and the fields of its card that decide how it is run.

    ``weights`` are those that the arguments came with, if any: the network must fit them.

    Raises:
        HarnessError: a file cannot be read.
    """
    return _digest(card, network_source(card, scale, hyper, weights))


def network_source(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], weights: Weights | None = None
) -> Source:
    """Hash the files of a network's code, and list the distributions that it imports.

    Args and errors are those of `network_digest`.
    """
    return _source(card, _files_of_classes(card, scale, hyper, weights))


def unbuilt_digest(card: ModelCard) -> str:
    """SHA-256 of the code of a network, as far as it is known without building the network.

    It equals `network_digest` if the file that registers the network imports, directly or through
    others, the classes of all its modules.

    Raises:
        HarnessError: a file cannot be read.
    """
    return _digest(card, _source(card))


def _digest(card: ModelCard, source: Source) -> str:
    applied = {"input": card.input, "global_pooling": card.global_pooling}
    return digest([applied, source.sha256])


def _source(card: ModelCard, classes: Sequence[Path] = ()) -> Source:
    roots = [card.source] if card.source else []
    return source_of(roots, [*_files_of(card.build), *classes])


_class_files: dict[tuple[Any, ...], list[Path]] = {}
"""Results of `_files_of_classes`, by the network and its arguments."""


def _files_of_classes(
    card: ModelCard, scale: int, hyper: Mapping[str, Any], weights: Weights | None
) -> list[Path]:
    """List the files of the classes of a network's modules; none if it cannot be built."""
    import torch

    from harness.global_state import random_state_kept
    from harness.models.network import build_network
    from harness.models.weights import no_larger_than

    key = card.name, card.build, scale, canonical_json(hyper)
    if key not in _class_files:
        try:
            with no_larger_than(weights), random_state_kept(torch.device("cpu")):
                network = build_network(card, scale, hyper)
        except HarnessError:  # the run will report it
            return []
        classes = {base for module in network.modules() for base in type(module).__mro__}
        files = {_file_of_class(cls) for cls in classes if not is_left_out(cls.__module__)}
        _class_files[key] = sorted(file for file in files if file)
    return _class_files[key]


def _file_of_class(cls: type) -> Path | None:
    """Return the file of a class: that of its methods, or else that of its loaded module.

    Several cloned repositories may have a module of the same name, such as ``models``.
    """
    methods = (
        inspect.unwrap(value)
        for value in vars(cls).values()
        if inspect.isfunction(value) and value.__module__ == cls.__module__
    )
    files = [method.__code__.co_filename for method in methods if hasattr(method, "__code__")]
    files.append(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
    return next((Path(file) for file in files if Path(file).is_file()), None)


def metrics_digest(metrics: Sequence[str]) -> str | None:
    """SHA-256 of the metrics that plug-ins define; None if there are none.

    It covers their code, and that a metric is computed on RGB if it is.
    """
    sources = {}
    for name, _, file in _foreign(METRICS, metrics):
        card, sha256 = METRICS.get(name), _metric_source(name, file).sha256
        sources[name] = sha256 if card.on == "y" else digest([card.on, sha256])
    return digest(sources) if sources else None


def _metric_source(name: str, file: Path) -> Source:
    return source_of([file], _files_of(METRICS.get(name).compute))


def _files_of(function: Any) -> list[Path]:
    """List the files that define a function and the function that it wraps."""
    functions = [function, inspect.unwrap(function), getattr(function, "func", None)]
    # A built-in method, such as [].count, has no module.
    modules = {module for f in functions if (module := getattr(f, "__module__", None))}
    files = (
        getattr(sys.modules.get(name), "__file__", None)
        for name in sorted(modules)
        if not is_left_out(name)
    )
    return [Path(file) for file in files if file]


def plugins(
    card: ModelCard, source: Source, metrics: Sequence[str], dataset: str
) -> dict[str, PluginFacts]:
    """Describe where a model, metrics and a test set came from, by name.

    The harness's own metrics and sets are left out.

    Args:
        card: the model.
        source: the code of the network, from `network_source`.
        metrics: registered metrics.
        dataset: the set's name; that of a user's folder is not registered.
    """
    found = {}
    for name, origin, file in _foreign(DATASETS, [dataset] if dataset in DATASETS else []):
        found[name] = _facts(origin, file, {})
    for name, origin, file in _foreign(METRICS, metrics):
        found[name] = _facts(origin, file, _metric_source(name, file).packages)
        if METRICS.get(name).on == "rgb":
            found[name]["on"] = "rgb"
    if card.origin:  # published images have none
        found[card.name] = _facts(card.origin, card.source, source.packages)
    return found


def _facts(origin: str, file: Path | None, packages: Mapping[str, str]) -> PluginFacts:
    facts: PluginFacts = {}
    if file and (origin in FILES or origin.endswith(".py")):
        facts["file"] = recorded_path(FILES.get(origin, file))
    if not origin.endswith(".py"):
        facts["module"] = origin
        names = distributions().get(origin.partition(".")[0], ())
        if names:
            facts["distribution"] = ", ".join(f"{n} {version(n)}" for n in dict.fromkeys(names))
    if file:
        facts["sha256"] = file_digest(file)
    if packages:
        facts["packages"] = dict(packages)
    return facts


def is_built_in(facts: PluginFacts) -> bool:
    """Whether a network belongs to the harness, given its entry of `plugins`.

    Earlier versions named the package ``baselines``, a name that other projects use, too.
    """
    installed = facts.get("distribution", DISTRIBUTION)
    own = installed.partition(" ")[0] == DISTRIBUTION and "," not in installed
    return own and facts.get("module", "").startswith((f"{NETWORKS}.", "baselines."))


def _foreign(registry: Registry[Any], names: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """Yield the entries of plug-ins: the name, its origin, and the file that registers it."""
    for name in names:
        origin = registry.origin(name)
        if origin.endswith(".py"):
            yield name, origin, Path(origin)
        elif not is_left_out(origin):
            yield name, origin, Path(str(inspect.getfile(sys.modules[origin])))


_SITES = ("site-packages", "dist-packages")
_BUILDS = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$")
"""The suffix of a version that names the machines it was built for; the source is the same."""


@dataclass(frozen=True)
class Source:
    """Hashed code and the packages that it imports.

    Attributes:
        files: for each file a SHA-256 of its canonical form and of its imports, sorted.
        packages: versions of the installed distributions that the files import, by name.
    """

    files: tuple[str, ...]
    packages: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 of both."""
        return digest(asdict(self))


def source_of(roots: Iterable[Path], others: Iterable[Path] = ()) -> Source:
    """Hash files of code and what they import, directly or through others.

    The standard library, `STACK` and the harness are left out: the record states their versions,
    and `RULES` and `INFERENCE` represent the harness's own code. An installed distribution counts
    by its name and version. The distribution of a root, and the networks of the harness, count by
    the content of their files, so that a checkout and an installed copy have the same hash.

    Args:
        roots: files of the plug-in itself.
        others: further files to include, whatever package they belong to.

    Raises:
        HarnessError: a file cannot be read.
    """
    roots = [_absolute(path) for path in roots]
    own = {DISTRIBUTION, *(name for path in roots for name in _distribution(path))}
    todo = [*roots, *map(_absolute, others)]
    imported: dict[Path, list[Path]] = {}
    packages: dict[str, str] = {}
    while todo:
        path = todo.pop()
        if path in imported:
            continue
        installed = _distribution(path)
        if installed.keys() - own:
            packages |= installed
            continue
        imported[path] = list(_imported(path))
        todo += imported[path]
    return Source(_with_imports(imported), packages)


def _with_imports(imported: Mapping[Path, list[Path]]) -> tuple[str, ...]:
    """Hash each file together with its imports, the imports of these, and so on.

    Each round distinguishes files of the same content that import different files. The loop ends
    when a round distinguishes no more files.
    """
    hashes = {path: _read(path).sha256 for path in imported}
    while True:
        refined = {
            path: digest([hashes[path], *(hashes[file] for file in inner if file in hashes)])
            for path, inner in imported.items()
        }
        if len(set(refined.values())) == len(set(hashes.values())):
            return tuple(sorted(set(refined.values())))
        hashes = refined


@dataclass(frozen=True)
class _File:
    """The canonical hash of a file, and its imports: level, module and names."""

    sha256: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...] = ()


def _read(path: Path) -> _File:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise HarnessError(f"The file {path} cannot be read ({error}).") from error


@cache
def _parsed(path: Path, changed: int) -> _File:
    """Parse a file; ``changed`` is its modification time, so that the cache notices edits."""
    if path.suffix != ".py":  # such as an extension module
        return _File(file_digest(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that of an invalid escape sequence
            tree = ast.parse(regular(path, TEXT).read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # not valid Python
        return _File(file_digest(path))
    # In this order: the digest removes imports that do not count.
    _, package = _package(path)
    sha256 = canonical_digest(tree, ".".join(package))
    return _File(sha256, tuple(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
            # A plain ``import a.b`` makes everything in ``a`` available, too.
            plain = (alias.name.partition(".") for alias in node.names if not alias.asname)
            yield from ((0, top, ()) for top, dot, _ in plain if dot)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def _imported(path: Path) -> Iterator[Path]:
    """Yield the files that a file imports, and those of the packages that contain them."""
    _, package = _package(path)
    around = {(up / "__init__.py").resolve() for up in path.parents[: len(package)]}
    for level, module, names in _read(path).imports:
        if not level and is_left_out(module) and not _is_beside(module, path):
            continue
        words = [part for part in module.split(".") if part]
        # A relative import goes up from the file, even if the folders have no __init__.py.
        start = path.parents[min(level, len(path.parents)) - 1]
        find = partial(_below, start) if level else partial(_file, path)
        outers = [words[:end] for end in range(1, len(words))]
        prefixes = [find(outer) for outer in outers if level or not is_harness(".".join(outer))]
        yield from (file for file in prefixes if file and file.resolve() not in around)
        inner = [find([*words, name]) for name in names]
        itself = find(words)
        # A package around the file is always run; it counts only if a name is imported from it.
        if itself and (itself.resolve() not in around or not all(inner) or not names):
            yield itself
        yield from filter(None, inner)


def _package(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of a file's outermost package, and all its packages, outermost first."""
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return root, path.parent.relative_to(root).parts


def _is_beside(module: str, importer: Path) -> bool:
    """Whether a module with a name of the standard library is the plug-in's own file.

    `LIBRARY` also has names that this Python lacks, and a plug-in's folder may be searched first.
    """
    top = module.partition(".")[0]
    root, _ = _package(importer)
    file = _file(importer, [top]) if top in LIBRARY else None
    return file in (root / f"{top}.py", root / top / "__init__.py")


def _file(importer: Path, words: Sequence[str]) -> Path | None:
    """Find the file of a module that a file imports by its full name, split at the dots.

    It is the file of the loaded module, or else the one that Python would import. A module of the
    file's own package is searched for around the file, whatever is loaded under that name.
    """
    root, package = _package(importer)
    top = words[0]
    if package[:1] == (top,):
        return _below(root, words)
    loaded = sys.modules.get(".".join(words))
    if loaded is not None:
        return _existing(getattr(loaded, "__file__", None))
    spec = _spec(top)
    return _descend(spec, words[1:]) if spec else _below(root, words)


def _spec(top: str) -> ModuleSpec | None:
    """Return Python's spec of a top-level module; None if it has none."""
    try:
        return sys.modules[top].__spec__ if top in sys.modules else find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None


def _below(folder: Path, words: Sequence[str]) -> Path | None:
    """Find the file of a module below a folder, which may be a package."""
    if not words:
        return _existing(str(folder / "__init__.py"))
    return _descend(PathFinder.find_spec(words[0], [str(folder)]), words[1:])


def _descend(spec: ModuleSpec | None, words: Sequence[str]) -> Path | None:
    """Find the file of a module below a package, or of the package itself if no words are left."""
    for word in words:
        # One word at a time: for a full name, Python would need the packages to be loaded.
        folders = list(spec.submodule_search_locations or ()) if spec else []
        spec = PathFinder.find_spec(word, folders) if folders else None
    return _existing(spec.origin if spec and spec.has_location else None)


def _existing(name: str | None) -> Path | None:
    """Return the path of a file that exists; None for others, such as those in an archive."""
    return _absolute(Path(name)) if name and Path(name).is_file() else None


def _absolute(path: Path) -> Path:
    """Make a path absolute; keep links, since installers may link to files elsewhere."""
    return Path(os.path.abspath(path))


def _distribution(path: Path) -> dict[str, str]:
    """Name and version of the distribution that installed a file; empty for other files."""
    site = next((up for up in path.parents if up.name in _SITES), None)
    if site is None:
        return {}
    top = path.relative_to(site).parts[0].partition(".")[0]
    names = distributions().get(top, [])
    try:
        if len(names) > 1:  # a folder that several distributions share, such as google/
            names = [name for name in names if _holds(name, path)] or names
        return {name: _BUILDS.sub("", version(name)) for name in names}
    except PackageNotFoundError:
        return {}


@cache
def _holds(name: str, path: Path) -> bool:
    """Whether a distribution lists a file as its own."""
    return any(file.name == path.name and file.locate() == path for file in files(name) or ())


distributions = cache(packages_distributions)
"""The distributions of each top-level package, cached because listing them takes a while."""
