"""What code computes, as a hash: the same on every Python, whatever is said or renamed around it.

The identity of a run holds the hash of the code that makes its numbers. That hash must change with
every number in the code, and with nothing else: not with a docstring, a comment, an annotation or
an import that only annotations use, not with the place of a file, and not with the version of
Python that parses it. ``ast.dump`` and ``ast.unparse`` differ between versions; this form does not.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from harness.errors import HarnessError
from harness.specs import digest, file_digest

STACK = frozenset(
    {"click", "jinja2", "matplotlib", "numpy", "pandas", "PIL", "platformdirs", "pooch", "requests"}
    | {"rich", "safetensors", "scipy", "skimage", "tabulate", "thop", "torch"}
)
"""Top-level packages that the harness itself depends on; a record says their versions."""

_LIBRARY = frozenset(
    sys.stdlib_module_names
    | {"aifc", "annotationlib", "asynchat", "asyncore", "audioop", "cgi", "cgitb"}
    | {"chunk", "compression", "crypt", "distutils", "imghdr", "imp", "lib2to3"}
    | {"mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd"}
    | {"sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"}
)
"""The standard library, with what came and went between Python 3.11 and 3.14."""

_OWN = "harness"
_SITES = ("site-packages", "dist-packages")
_DECORATORS = ("register_model", "register_metric", "register_report")
_FIELD_KINDS = ("ClassVar", "InitVar", "KW_ONLY")


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

    What belongs to the standard library, to `STACK` or to the harness is left out: versions and
    numbers of its own stand for it. An installed distribution counts by its name and version; files
    of the package that a root belongs to count by their content wherever they lie, so that a
    checkout and an installed copy are one.

    Args:
        roots: files of the plug-in itself.
        others: files that take part, whatever package they belong to.

    Raises:
        HarnessError: a file cannot be read.
    """
    roots = list(roots)
    own = {_top(path) for path in roots}
    todo = [*roots, *others]
    seen: dict[Path, list[Path]] = {}
    packages: dict[str, str] = {}
    while todo:
        path = todo.pop().resolve()
        if path in seen:
            continue
        installed = {} if _top(path) in own else _distribution(path)
        if installed:
            packages |= installed
            continue
        seen[path] = list(_imported(path))
        todo += seen[path]
    files = {
        digest([_read(path).sha256, *(_read(one).sha256 for one in imported if one in seen)])
        for path, imported in seen.items()
    }
    return Source(tuple(sorted(files)), packages)


def is_own(module: str) -> bool:
    """Whether a module is of the standard library, of `STACK` or of the harness."""
    top = module.partition(".")[0]
    return top in _LIBRARY or top in STACK or top == _OWN


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
    try:
        tree = ast.parse(path.read_bytes()) if path.suffix == ".py" else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:  # such as an extension module
        return _File(file_digest(path))
    sha256 = canonical_digest(tree)
    return _File(sha256, tuple(_imports(tree)))


def canonical_digest(tree: ast.Module) -> str:
    """SHA-256 of a syntax tree's canonical form; takes out of the tree what does not count."""
    types = _annotating_names(tree)
    _prune(tree)
    types -= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node, name, block, _ in _blocks(tree):
        setattr(node, name, [one for one in block if _counts(one, types)])
    hashed = hashlib.sha256()
    for token in _tokens(tree):
        hashed.update(token.encode("utf-8", "surrogatepass") + b"\0")
    return hashed.hexdigest()


def _blocks(tree: ast.Module) -> Iterator[tuple[ast.AST, str, list[ast.stmt], bool]]:
    """Every list of statements: the node and the field that hold it, and whether a class does."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, in_class = todo.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            in_class = isinstance(node, ast.ClassDef)
        todo += [(child, in_class) for child in ast.iter_child_nodes(node)]
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield node, name, block, in_class


def _annotations(node: ast.AST) -> Iterator[str]:
    """The fields of a node that annotate."""
    return (name for name in ("annotation", "returns") if getattr(node, name, None) is not None)


def _annotating_names(tree: ast.Module) -> set[str]:
    """Names in annotations, also in those that are written as text."""
    said = [getattr(node, name) for node in ast.walk(tree) for name in _annotations(node)]
    parts = [part for one in said for part in ast.walk(one)]
    texts = (part.value for part in parts if isinstance(part, ast.Constant))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return names.union(*(re.findall(r"\w+", text) for text in texts if isinstance(text, str)))


def _prune(tree: ast.Module) -> None:
    """Take out texts that stand alone, ``pass``, annotations and blocks for type checkers alone.

    The decorators that register go, too: what they say of a network stands in its card.
    """
    for node in ast.walk(tree):
        for name in _annotations(node):
            kind = _kind(getattr(node, name)) if isinstance(node, ast.AnnAssign) else ""
            setattr(node, name, ast.Constant(kind) if kind else None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [one for one in node.decorator_list if not _registers(one)]
    for node, name, block, in_class in _blocks(tree):
        setattr(node, name, [kept for one in block for kept in _kept(one, in_class)])


def _kind(annotation: ast.expr) -> str:
    """Which of the annotations that change what a dataclass does one is; empty for all others."""
    if isinstance(annotation, ast.Constant):
        said = re.match(r"(?:\w+\.)*(\w+)", str(annotation.value))
        name = said[1] if said else ""
    else:
        name = _name(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
    return name if name in _FIELD_KINDS else ""


def _kept(statement: ast.stmt, in_class: bool) -> list[ast.stmt]:
    """What counts of a statement.

    In a class an annotated name stays one, since dataclasses make a field of it.
    """
    if isinstance(statement, ast.If) and _name(statement.test) == "TYPE_CHECKING":
        return [kept for one in statement.orelse for kept in _kept(one, in_class)]
    if isinstance(statement, ast.AnnAssign) and not in_class:
        value = statement.value
        return [ast.Assign([statement.target], value)] if value else []
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return [] if text or isinstance(statement, ast.Pass) else [statement]


def _registers(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and _name(decorator.func) in _DECORATORS


def _name(node: ast.expr) -> str:
    """``b`` of ``b`` and of ``a.b``; empty for anything else."""
    return str(getattr(node, "id", "") or getattr(node, "attr", ""))


def _counts(statement: ast.stmt, types: set[str]) -> bool:
    """Whether a statement counts; takes names out of an import that annotations alone use.

    What the harness defines is not imported in this form: it may move.
    """
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.ImportFrom) and not statement.level:
        top = (statement.module or "").partition(".")[0]
        if top in (_OWN, "__future__"):
            return False
    names = [(alias, alias.asname or alias.name.partition(".")[0]) for alias in statement.names]
    statement.names = [alias for alias, bound in names if bound not in types]
    return bool(statement.names)


def _tokens(tree: ast.Module) -> Iterator[str]:
    """The tree as a row of words: kinds of nodes, and their fields that are not empty, by name.

    An empty field is left out, so that one which only newer versions of Python have says nothing.
    """
    todo: list[object] = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.JoinedStr):
            item.values = _joined(item.values)
        if isinstance(item, ast.ImportFrom):
            item = _without_place(item)
        if isinstance(item, ast.Constant):
            yield f"{type(item.value).__name__} {item.value!a}"
        elif isinstance(item, ast.AST):
            yield f"({type(item).__name__}"
            todo.append(_CLOSE)
            for name in sorted(item._fields, reverse=True):
                value = getattr(item, name, None)
                if value is not None and value != [] and name not in _SILENT:
                    todo += [value, f"{name}="]
        elif isinstance(item, list):
            yield "["
            todo += [_CLOSE, *reversed(item)]
        else:
            yield str(item)


_CLOSE = ")"
_SILENT = ("ctx", "type_comment", "type_ignores")


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string; texts side by side are one, which versions of Python cut apart."""
    made: list[ast.expr] = []
    for part in parts:
        text = part.value if isinstance(part, ast.Constant) else None
        last = made[-1].value if made and isinstance(made[-1], ast.Constant) else None
        if isinstance(text, str) and isinstance(last, str):
            made[-1] = ast.Constant(last + text)
        elif text != "":
            made.append(part)
    return made


def _without_place(statement: ast.ImportFrom) -> ast.ImportFrom:
    """An import that says the module's own name alone: the packages around it may be renamed."""
    module = statement.module or ""
    if not statement.level and is_own(module):
        return statement
    return ast.ImportFrom(module.rpartition(".")[2], statement.names, 0)


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


def _imported(path: Path) -> Iterator[Path]:
    """The files that a file imports, and those of the packages around them."""
    package = _package(path)
    folders = [path.parent, *path.parent.parents][: len(package)]
    around = {folder / "__init__.py" for folder in folders}
    for level, module, names in _read(path).imports:
        if not level and is_own(module):
            continue
        base = package[: len(package) - level + 1] if level else ()
        parts = (*base, *(part for part in module.split(".") if part))
        prefixes = [_file(".".join(parts[:end]), path) for end in range(1, len(parts))]
        yield from (file for file in prefixes if file and file not in around)
        inner = [_file(".".join((*parts, name)), path) for name in names]
        itself = _file(".".join(parts), path)
        # A package around the file runs anyway; it counts where a name is taken from it.
        if itself and (itself not in around or not all(inner) or not names):
            yield itself
        yield from filter(None, inner)


def _package(path: Path) -> tuple[str, ...]:
    """The packages that a file lies in, outermost first."""
    top = path.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return path.parent.relative_to(top).parts


def _top(path: Path) -> Path:
    """The outermost package that a file lies in; the file itself outside of packages."""
    package = _package(path.resolve())
    return path.resolve().parents[len(package) - 1] if package else path.resolve()


def _file(module: str, importer: Path) -> Path | None:
    """The file of a module: of the one that runs, else where Python would find it."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        return _existing(getattr(loaded, "__file__", None))
    top, _, rest = module.partition(".")
    own = importer.parents[len(_package(importer))]
    try:
        spec = find_spec(top) if top not in sys.modules else sys.modules[top].__spec__
        spec = spec or PathFinder.find_spec(top, [str(own)])
        name = top
        for part in rest.split(".") if rest else ():
            name = f"{name}.{part}"
            places = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(name, list(places)) if places else None
    except (ImportError, ValueError, AttributeError):
        return None
    return _existing(spec.origin if spec and spec.has_location else None)


def _existing(name: str | None) -> Path | None:
    """A file by its name; None for what lies in an archive, say."""
    return Path(name).resolve() if name and Path(name).is_file() else None


def _distribution(path: Path) -> dict[str, str]:
    """Name and version of the distribution that a file was installed with; empty for others."""
    place = next((up for up in path.parents if up.name in _SITES), None)
    if place is None:
        return {}
    top = path.relative_to(place).parts[0].partition(".")[0]
    try:
        return {name: version(name) for name in distributions().get(top, ())}
    except PackageNotFoundError:
        return {}


@cache
def distributions() -> Mapping[str, list[str]]:
    """The distributions that each top-level package was installed with; listing takes a while."""
    return packages_distributions()
