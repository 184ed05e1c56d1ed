"""A hash of code: of a network's files and of what they import.

The identity of a run holds the hash of the code that makes its numbers. It must change with every
number in the code, and with nothing else, such as the place of a file.
"""

from __future__ import annotations

import ast
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

from harness.errors import HarnessError
from harness.files import TEXT, regular
from harness.specs import DISTRIBUTION, digest, file_digest
from harness.syntax import LIBRARY, canonical_digest, is_harness, is_left_out

_SITES = ("site-packages", "dist-packages")
_BUILDS = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$")
"""What versions of one source end in, by the machines they were built for."""


@dataclass(frozen=True)
class Source:
    """Code, by what it computes.

    Attributes:
        files: for each file a SHA-256 of its canonical form and of those that it imports, sorted.
        packages: versions of the installed distributions that the files import, by name.
    """

    files: tuple[str, ...]
    packages: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256 of both."""
        return digest(asdict(self))


def source_of(roots: Iterable[Path], others: Iterable[Path] = ()) -> Source:
    """Files of code and what they import, directly or through others.

    The standard library, `STACK` and the harness are left out: the record states their versions,
    and `RULES` and `INFERENCE` stand for the harness's own code. An installed distribution counts
    by its name and version; the one that a root belongs to counts by the content of its files, and
    so do the networks of the harness, so that a checkout and an installed copy are one.

    Args:
        roots: files of the plug-in itself.
        others: files that take part, whatever package they belong to.

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
    """A hash of each file that also says what it imports, and what that imports, and so on.

    Two files of one content that import different ones are told apart in each round, until a
    further round tells no more files apart.
    """
    hashes = {path: _read(path).sha256 for path in imported}
    while True:
        refined = {
            path: digest([hashes[path], *(hashes[one] for one in inner if one in hashes)])
            for path, inner in imported.items()
        }
        if len(set(refined.values())) == len(set(hashes.values())):
            return tuple(sorted(set(refined.values())))
        hashes = refined


@dataclass(frozen=True)
class _File:
    """A file's canonical hash, and the modules that it imports: level, module and names."""

    sha256: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...] = ()


def _read(path: Path) -> _File:
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise HarnessError(f"The file {path} cannot be read ({error}).") from error
    return _parsed(path, changed)


@cache
def _parsed(path: Path, changed: int) -> _File:
    """A file as it was at that time."""
    tree = _tree(path) if path.suffix == ".py" else None
    if tree is None:  # such as an extension module
        return _File(file_digest(path))
    # In this order: the digest removes imports that do not count.
    sha256 = canonical_digest(tree, ".".join(_package(path)))
    return _File(sha256, tuple(_imports(tree)))


def _tree(path: Path) -> ast.Module | None:
    """The syntax tree of a file; None where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as that of an invalid escape sequence
            return ast.parse(regular(path, TEXT).read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
            # A plain ``import a.b`` gives all that a has, too.
            plain = (one.name.partition(".") for one in node.names if not one.asname)
            yield from ((0, top, ()) for top, dot, _ in plain if dot)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def _imported(path: Path) -> Iterator[Path]:
    """The files that a file imports, and those of the packages around them."""
    around = {(up / "__init__.py").resolve() for up in list(path.parents)[: len(_package(path))]}
    for level, module, names in _read(path).imports:
        if not level and is_left_out(module) and not _is_beside(module, path):
            continue
        words = [part for part in module.split(".") if part]
        # A relative import goes up from the file, also where folders have no __init__.py.
        start = path.parents[min(level, len(path.parents)) - 1]
        find = partial(_below, start) if level else partial(_file, path)
        outer = [words[:end] for end in range(1, len(words))]
        prefixes = [find(one) for one in outer if level or not is_harness(".".join(one))]
        yield from (file for file in prefixes if file and file.resolve() not in around)
        inner = [find([*words, name]) for name in names]
        itself = find(words)
        # A package around the file runs anyway; it counts where a name is taken from it.
        if itself and (itself.resolve() not in around or not all(inner) or not names):
            yield itself
        yield from filter(None, inner)


def _package(path: Path) -> tuple[str, ...]:
    """The packages that a file lies in, outermost first."""
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return path.parent.relative_to(top).parts


def _is_beside(module: str, importer: Path) -> bool:
    """Whether a module that is called like one of the standard library is the plug-in's own file.

    `LIBRARY` also holds names that this Python lacks, and a plug-in's folder may be searched first.
    """
    top = module.partition(".")[0]
    root = _root(importer)
    found = _file(importer, [top]) if top in LIBRARY else None
    return found in (root / f"{top}.py", root / top / "__init__.py")


def _root(path: Path) -> Path:
    """The folder that the packages of a file lie in."""
    return path.parents[len(_package(path))]


def _file(importer: Path, words: Sequence[str]) -> Path | None:
    """The file of a module that a file imports by its full name, given in words.

    It is that of the loaded module, or else the one that Python would import. The packages of the
    file itself are those around it, whatever else is loaded under their names.
    """
    root, top = _root(importer), words[0]
    if [top] == list(_package(importer)[:1]):
        return _below(root, words)
    loaded = sys.modules.get(".".join(words))
    if loaded is not None:
        return _existing(getattr(loaded, "__file__", None))
    spec = _spec(top)
    if spec is None:
        return _below(root, words)
    if len(words) == 1:
        return _existing(spec.origin if spec.has_location else None)
    return _found(list(spec.submodule_search_locations or ()), words[1:])


def _spec(top: str) -> ModuleSpec | None:
    """What Python knows of a top-level module."""
    try:
        return sys.modules[top].__spec__ if top in sys.modules else find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None


def _below(folder: Path, words: Sequence[str]) -> Path | None:
    """The file of a module below a folder, which may be a package."""
    return _found([str(folder)], words) if words else _existing(str(folder / "__init__.py"))


def _found(places: list[str], words: Sequence[str]) -> Path | None:
    """The file of a module, looked for in folders, and then in those of each package."""
    spec = None
    for word in words:
        # By its last name alone: Python needs the packages loaded for a full one.
        spec = PathFinder.find_spec(word, places) if places else None
        places = list(spec.submodule_search_locations or ()) if spec else []
    return _existing(spec.origin if spec and spec.has_location else None)


def _existing(name: str | None) -> Path | None:
    """A file by its name; None for what lies in an archive, say."""
    return _absolute(Path(name)) if name and Path(name).is_file() else None


def _absolute(path: Path) -> Path:
    """A path from the root; links stay, since installers may link to files elsewhere."""
    return Path(os.path.abspath(path))


def _distribution(path: Path) -> dict[str, str]:
    """Name and version of the distribution that a file was installed with; empty for others."""
    place = next((up for up in path.parents if up.name in _SITES), None)
    if place is None:
        return {}
    top = path.relative_to(place).parts[0].partition(".")[0]
    names = distributions().get(top, [])
    try:
        if len(names) > 1:  # a folder that several share, such as google/
            names = [name for name in names if _holds(name, path)] or names
        return {name: _BUILDS.sub("", version(name)) for name in names}
    except PackageNotFoundError:
        return {}


@cache
def _holds(name: str, path: Path) -> bool:
    """Whether a distribution lists a file as its own."""
    return any(file.name == path.name and file.locate() == path for file in files(name) or ())


@cache
def distributions() -> Mapping[str, list[str]]:
    """The distributions that each top-level package was installed with; listing takes a while."""
    return packages_distributions()
