"""Code counts by what it computes: not by its comments, its types, its place or its Python."""

import ast
from pathlib import Path

import pytest

from harness.source import canonical_digest, source_of

NET = '''
"""A network."""
from __future__ import annotations
import math
from torch import Tensor, nn

GAIN = 2.0
"""Of the output."""


class Net(nn.Module):
    """It multiplies."""

    def forward(self, x: Tensor) -> Tensor:
        # slowly
        return x * GAIN * math.sqrt(4)
'''

SAME = {
    "docstring": ("It multiplies.", "It multiplies an image."),
    "no docstring": ('"""It multiplies."""\n', "pass\n"),
    "comment": ("# slowly", "# quickly"),
    "annotation": (") -> Tensor", ")"),
    "annotation as text": ("x: Tensor) -> Tensor", 'x: "Tensor") -> "Tensor"'),
    "other annotation": ("x: Tensor)", "x: nn.Parameter)"),
    "annotated value": ("GAIN = 2.0", "GAIN: float = 2.0"),
    "declaration": ("GAIN = 2.0", "GAIN: float\nGAIN = 2.0"),
    "layout": ("return x * GAIN * math.sqrt(4)", "return (\n            x * GAIN * math.sqrt(4))"),
    "spelling of a number": ("2.0", "2.00"),
    "import for the harness": ("import math", "import math\nfrom harness.registry import METRICS"),
    "import for type checkers": ("import math", "import math\nif TYPE_CHECKING:\n    import numpy"),
}

OTHER = {
    "number": ("2.0", "2.1"),
    "kind of number": ("2.0", "2"),
    "operation": ("x * GAIN", "x / GAIN"),
    "order": ("x * GAIN * math.sqrt(4)", "math.sqrt(4) * x * GAIN"),
    "argument": ("math.sqrt(4)", "math.sqrt(4.0)"),
    "function": ("math.sqrt", "math.exp"),
    "base": ("(nn.Module)", "(nn.Identity)"),
    "imported thing": ("import math", "import cmath as math"),
}


def canonical(text: str) -> str:
    return canonical_digest(ast.parse(text))


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_computes_the_same_is_the_same(change: tuple[str, str]) -> None:
    assert change[0] in NET
    assert canonical(NET.replace(*change)) == canonical(NET)


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_may_compute_something_else_is_something_else(change: tuple[str, str]) -> None:
    assert change[0] in NET
    assert canonical(NET.replace(*change)) != canonical(NET)


def test_an_import_that_types_alone_use_says_nothing_and_one_that_is_passed_on_does() -> None:
    typed = "{}def f(x: T) -> T:\n    return x\n"
    assert canonical(typed.format("from torch import Tensor as T\n")) == canonical(typed.format(""))
    passed_on = "from torch.nn.functional import {} as act\n"
    assert canonical(passed_on.format("relu")) != canonical(passed_on.format("gelu"))


def test_a_field_of_a_dataclass_is_one_by_its_annotation() -> None:
    fields = ("x = 1", "x: int = 1", "x: ClassVar[int] = 1", "x: 'InitVar[int]' = 1")
    codes = {canonical(f"@dataclass\nclass A:\n    {field}\n") for field in fields}
    assert len(codes) == len(fields)
    one, other = (f"class A:\n    x: {kind} = 1\n" for kind in ("int", "'float'"))
    assert canonical(one) == canonical(other)
    spelt = ("ClassVar", "ClassVar[int]", "typing.ClassVar[int]", "'ClassVar[int]'")
    assert len({canonical(f"class A:\n    x: {kind} = 1\n") for kind in spelt}) == 1


def test_what_a_registering_decorator_says_stands_in_the_card() -> None:
    plain = "def net(scale=4):\n    return scale\n"
    registered = "@register_model('net', pipeline='y', input='lr', scales=(4,), paper='{}')\n"
    assert canonical(registered.format("2019") + plain) == canonical(plain)
    assert canonical("@cache\n" + plain) != canonical(plain)


def test_the_name_of_the_package_around_a_module_says_nothing() -> None:
    one, other, third = (
        f"from {module} import conv\nx = conv(1)"
        for module in ("baselines.layers", ".layers", "baselines.blocks")
    )
    assert canonical(one) == canonical(other) != canonical(third)


@pytest.mark.parametrize(
    ("kind", "field", "empty"),
    [
        (ast.FunctionDef, "type_params", []),
        (ast.FunctionDef, "invented", None),
        (ast.ClassDef, "type_params", []),
        (ast.arguments, "invented", []),
        (ast.Module, "invented", None),
    ],
)
def test_a_field_that_some_pythons_have_says_nothing_while_it_is_empty(kind, field, empty) -> None:
    other = type(kind.__name__, (kind,), {"_fields": (*dict.fromkeys((*kind._fields, field)),)})

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            self.generic_visit(node)
            if type(node) is not kind:
                return node
            return other(**{name: getattr(node, name) for name in kind._fields} | {field: empty})

    assert canonical_digest(Replace().visit(ast.parse(NET))) == canonical(NET)


def test_texts_of_an_f_string_are_one_however_they_are_cut() -> None:
    tree = ast.parse("x = f'ab{y}c'")
    joined = next(node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    parts = [ast.Constant("a"), ast.Constant("b"), ast.Constant(""), *joined.values[1:]]
    joined.values = [*parts, ast.Constant("")]
    assert canonical_digest(tree) == canonical("x = f'ab{y}c'")


EVERYTHING = r"""
import a.b as c, torch
from . import d
from torch.nn import *
@c.cache
async def f(p, /, q=1, *r, s: int = ..., t, **u) -> None:
    global g
    async with c as (v, w): await x
    async for i in j: yield i
    return lambda k, *, l=None: {**m, 1: -2.5e-3j, "n": [*o, b"\x00", True], "ß\n\ud800": {1, 2}}
class A(B, metaclass=C):
    x: int
    y: float = 1e-6
    def g(self): nonlocal_ = [a for a in b if c for d in e]; return nonlocal_[1:, ::2, ...]
try:
    with a: assert b, f"{c!r:>{d}}x" "y" f'{e=}'
except (D, E) as e:
    raise F from e
else: del a.b, c[0]
finally:
    while not (x := y <= z != 1): break
match a:
    case {"b": [1, *c], **d} if e: continue_ = a if b else c
    case F(g, h=1) | None: x += y @ z
    case _: pass
"""


def test_the_hash_of_a_file_is_the_same_on_every_python() -> None:
    assert canonical(EVERYTHING)[:16] == "4e163a0a8f25b82e"


def test_a_deep_expression_has_a_hash() -> None:
    assert canonical("x = " + " + ".join(["y"] * 500)) != canonical("x = y")


class TestFiles:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "nets"
        folder.mkdir()
        (folder / "__init__.py").write_text("from .models import *")
        (folder / "models.py").write_text("import torch\nfrom nets.parts import Up")
        (folder / "parts.py").write_text("Up = 1")
        monkeypatch.syspath_prepend(str(tmp_path))
        return folder

    def test_what_a_file_imports_counts_directly_or_through_others(self, package: Path) -> None:
        (package.parent / "entry.py").write_text("import nets.models")
        before = source_of([package.parent / "entry.py"])
        assert len(before.files) == 4
        (package / "parts.py").write_text("Up = 2")
        assert source_of([package.parent / "entry.py"]).sha256 != before.sha256

    def test_a_name_that_is_taken_from_the_package_counts(self, package: Path) -> None:
        (package / "models.py").write_text("from . import WIDTH, parts")
        (package / "__init__.py").write_text("WIDTH = 64")
        before = source_of([package / "models.py"]).sha256
        (package / "__init__.py").write_text("WIDTH = 128")
        assert source_of([package / "models.py"]).sha256 != before

    def test_which_of_two_files_a_name_comes_from_counts(self, package: Path) -> None:
        for name, gain in (("v1", 1), ("v2", 2)):
            (package / name).mkdir()
            (package / name / "__init__.py").touch()
            (package / name / "blocks.py").write_text(f"GAIN = {gain}")
        lines = "from nets.{}.blocks import GAIN as a\nfrom nets.{}.blocks import GAIN as b"
        (package / "models.py").write_text(lines.format("v1", "v2"))
        before = source_of([package / "models.py"]).sha256
        (package / "models.py").write_text(lines.format("v2", "v1") + "  # exchanged")
        assert source_of([package / "models.py"]).sha256 != before

    def test_what_only_lies_beside_it_does_not(self, package: Path) -> None:
        before = source_of([package / "models.py"])
        (package / "other.py").write_text("x = 1")
        assert source_of([package / "models.py"]) == before
        assert len(before.files) == 2

    def test_a_file_counts_wherever_it_lies(self, package: Path, tmp_path: Path) -> None:
        before = source_of([package / "models.py"]).sha256
        place = tmp_path / "lib" / "site-packages"
        place.mkdir(parents=True)
        moved = package.rename(place / "nets")
        assert source_of([moved / "models.py"]).sha256 == before

    def test_an_installed_distribution_counts_by_its_version(self, tmp_path: Path) -> None:
        file = tmp_path / "entry.py"
        file.write_text("import pytest, torch, harness.specs, not_there, math")
        source = source_of([file])
        assert source.packages == {"pytest": pytest.__version__}
        assert len(source.files) == 1
