"""The canonical form of a source file, which changes only if the code may compute something else.

It must change with every number in the code, but not with a docstring, a comment, an annotation or
an import of types, and not with the version of Python that parses the file. ``ast.dump`` and
``ast.unparse`` differ between versions; this form does not.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterator

STACK = frozenset(
    {"click", "jinja2", "matplotlib", "numpy", "pandas", "PIL", "platformdirs", "pooch", "requests"}
    | {"rich", "safetensors", "scipy", "skimage", "tabulate", "thop", "torch"}
)
"""Top-level packages that the harness depends on; a record stores their versions."""

LIBRARY = frozenset(
    sys.stdlib_module_names
    | {"aifc", "annotationlib", "asynchat", "asyncore", "audioop", "cgi", "cgitb"}
    | {"chunk", "compression", "crypt", "distutils", "imghdr", "imp", "lib2to3"}
    | {"mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd"}
    | {"sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib", "typing_extensions"}
)
"""The standard library of Python 3.11 to 3.14, and a backport of parts of it."""

NETWORKS = "harness.baselines"
"""The paper's networks; unlike other modules of the harness, they count as network code."""

_HARNESS = "harness"
_TYPES = ("typing", "typing_extensions", "collections.abc")
_FIELD_KINDS = ("ClassVar", "InitVar", "KW_ONLY")
_REGISTER = ("register_model", "register_metric", "register_report")
_CARD = ("pipeline", "input", "scales", "paper", "params", "global_pooling", "stand_in", "layouts")
"""The arguments with which a network is registered; its card has them."""


def is_left_out(module: str) -> bool:
    """Whether hashes leave a module out: it is in the standard library, `STACK` or the harness."""
    top = module.partition(".")[0]
    return top in LIBRARY or top in STACK or is_harness(module)


def is_harness(module: str) -> bool:
    """Whether a module belongs to the harness; the paper's networks do not count as part of it."""
    return module.partition(".")[0] == _HARNESS and not f"{module}.".startswith(f"{NETWORKS}.")


def canonical_digest(tree: ast.Module, package: str = "") -> str:
    """Return the SHA-256 of a syntax tree's canonical form; the tree is modified.

    Args:
        tree: the tree of a file; parts that do not count are removed from it.
        package: dotted name of the package of the file; the package may move.
    """
    types = _annotating_names(tree) | _names_of_types(tree)
    _prune(tree)
    types -= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node, name, block, _ in _blocks(tree):
        setattr(node, name, [one for one in block if _counts(one, types)])
    hashed = hashlib.sha256()
    for token in _tokens(tree, package):
        hashed.update(token.encode("utf-8", "surrogatepass") + b"\0")
    return hashed.hexdigest()


def _blocks(tree: ast.Module) -> Iterator[tuple[ast.AST, str, list[ast.stmt], bool]]:
    """Yield each list of statements: its node, its field, and whether it is in a class body."""
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
    """Yield the fields of a node that are annotations."""
    return (name for name in ("annotation", "returns") if getattr(node, name, None) is not None)


def _annotating_names(tree: ast.Module) -> set[str]:
    """Collect the names in annotations, also in those written as strings."""
    said = [getattr(node, name) for node in ast.walk(tree) for name in _annotations(node)]
    parts = [part for one in said for part in ast.walk(one)]
    texts = (part.value for part in parts if isinstance(part, ast.Constant))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return names.union(*(re.findall(r"\w+", text) for text in texts if isinstance(text, str)))


def _names_of_types(tree: ast.Module) -> set[str]:
    """Collect `typing` and the names that a file imports from modules of types."""
    given = (
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in _TYPES and not node.level
        for alias in node.names
    )
    return {"typing", *given}


def _prune(tree: ast.Module) -> None:
    """Remove what cannot change a result.

    These are docstrings and other bare constants, ``pass``, annotations, blocks for type checkers
    or for running the file as a script, registrations of test sets, and those arguments of
    ``register_model`` that the card holds.
    """
    dispatching = _dispatching(tree)
    for node in ast.walk(tree):
        for name in () if node in dispatching else _annotations(node):
            kind = _kind(getattr(node, name)) if isinstance(node, ast.AnnAssign) else ""
            setattr(node, name, ast.Constant(kind) if kind else None)
        if isinstance(node, ast.Call) and _name(node.func) in _REGISTER:
            node.keywords = [one for one in node.keywords if one.arg not in _CARD]
    for node, name, block, in_class in _blocks(tree):
        setattr(node, name, [kept for one in block for kept in _kept(one, in_class)])


def _dispatching(tree: ast.Module) -> set[ast.AST]:
    """Collect the arguments whose annotations select the function (``singledispatch``)."""
    return {
        argument
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(_name(one) == "register" for one in node.decorator_list)
        for argument in ast.walk(node.args)
    }


def _kind(annotation: ast.expr) -> str:
    """Return the name of an annotation that changes what a dataclass does; empty for others."""
    if isinstance(annotation, ast.Constant):
        said = re.match(r"(?:\w+\.)*(\w+)", str(annotation.value))
        name = said[1] if said else ""
    else:
        name = _name(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
    return name if name in _FIELD_KINDS else ""


def _kept(statement: ast.stmt, in_class: bool) -> list[ast.stmt]:
    """Return the statements that replace a statement in the canonical form.

    In a class body an annotated name is kept, since dataclasses make a field of it.
    """
    if isinstance(statement, ast.If) and _is_never_true(statement.test):
        return [kept for one in statement.orelse for kept in _kept(one, in_class)]
    if isinstance(statement, ast.AnnAssign) and not in_class:
        value = statement.value
        return [ast.Assign([statement.target], value)] if value else []
    says_nothing = isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr)
        and (isinstance(statement.value, ast.Constant) or _registers_data(statement.value))
    )
    return [] if says_nothing else [statement]


def _is_never_true(test: ast.expr) -> bool:
    """Whether a condition is ``TYPE_CHECKING`` or ``__name__ == "__main__"``."""
    if isinstance(test, ast.Compare) and _name(test.left) == "__name__":
        (operator, *_), (name, *_) = test.ops, test.comparators
        return isinstance(operator, ast.Eq) and getattr(name, "value", "") == "__main__"
    return _name(test) == "TYPE_CHECKING"


def _registers_data(call: ast.expr) -> bool:
    return isinstance(call, ast.Call) and _name(call.func) == "register_dataset"


def _name(node: ast.expr) -> str:
    """Return ``b`` for ``b`` and for ``a.b``; empty for anything else."""
    return str(getattr(node, "id", "") or getattr(node, "attr", ""))


def _counts(statement: ast.stmt, types: set[str]) -> bool:
    """Whether a statement counts; names that do not count are removed from imports."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        statement.names = [one for one in statement.names if _name_counts(statement, one, types)]
        return bool(statement.names)
    return True


def _name_counts(statement: ast.Import | ast.ImportFrom, alias: ast.alias, types: set[str]) -> bool:
    """Whether an imported name counts.

    A name from the standard library or `STACK` that only annotations use does not count. Any other
    file runs when it is imported, so its names always count. Modules of the harness may move, so
    only names imported from them under another name count.
    """
    renamed = alias.asname not in (None, alias.name)
    if isinstance(statement, ast.Import):
        bound = alias.asname or alias.name.partition(".")[0]
        return bound not in types or not is_left_out(alias.name)
    module = "" if statement.level else statement.module or ""
    if module == "__future__" or (is_harness(module) and not renamed):
        return False
    return renamed or alias.name not in types or not is_left_out(module)


def _tokens(tree: ast.Module, package: str) -> Iterator[str]:
    """Serialise the tree to words: node types, and the names and values of non-empty fields.

    Empty fields are left out, so that fields of newer Python versions make no difference.
    """
    todo: list[object] = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.JoinedStr):
            item.values = _joined(item.values)
        if isinstance(item, ast.ImportFrom | ast.Import):
            item = _without_place(item, package)
        if isinstance(item, ast.Constant):
            # In hexadecimal: a number may have more digits than Python writes in decimal.
            written = hex(item.value) if type(item.value) is int else ascii(item.value)
            yield f"{type(item.value).__name__} {written}"
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
    """Join adjacent texts of an f-string, which Python versions split in different places."""
    made: list[ast.expr] = []
    for part in parts:
        text = part.value if isinstance(part, ast.Constant) else None
        last = made[-1].value if made and isinstance(made[-1], ast.Constant) else None
        if isinstance(text, str) and isinstance(last, str):
            made[-1] = ast.Constant(last + text)
        elif text != "":
            made.append(part)
    return made


def _without_place(
    statement: ast.Import | ast.ImportFrom, package: str
) -> ast.Import | ast.ImportFrom:
    """Rewrite an import so that it does not depend on where the file's packages are."""
    if isinstance(statement, ast.ImportFrom):
        module = statement.module or ""
        if statement.level:
            return ast.ImportFrom(module.rpartition(".")[2], statement.names, 0)
        return ast.ImportFrom(_placeless(module, package), statement.names, 0)
    return ast.Import(
        [
            ast.alias(_placeless(one.name, package), one.asname) if one.asname else one
            for one in statement.names
        ]
    )


def _placeless(module: str, package: str) -> str:
    """Shorten a module's name to the part that does not change when packages move.

    The file's package may move, and so may modules of the harness.
    """
    if is_harness(module):
        return _HARNESS
    if module.partition(".")[0] != package.partition(".")[0]:
        return module
    return "" if f"{package}.".startswith(f"{module}.") else module.rpartition(".")[2]
