"""The code of a network: what it covers, and that it is the same wherever the harness runs."""

import ast
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.models.source import distributions, metrics_digest, network_digest, plugins, source_of
from harness.registry import MODELS, load_plugins
from harness.syntax import canonical_digest

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def plug(tmp_path: Path) -> Path:
    """A folder of plug-ins that may be edited."""
    return Path(shutil.copytree(CASES / "plug", tmp_path / "plug"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new) + "\n")


def test_a_helper_beside_a_plugin_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "blocks.py", "GAIN = 1.0", "GAIN = 0.7")
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_the_network_of_a_cloned_repository_counts(plug: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(plug / "clone"))
    load_plugins([plug / "wrap.py"])
    before = network_digest(MODELS.get("wrapped"), 4, {})
    net = plug / "clone/myarch/net.py"
    net.write_text('"""Reworded."""\n' + net.read_text())
    assert network_digest(MODELS.get("wrapped"), 4, {}) == before
    net.write_text(net.read_text() + "\nGAIN = 2\n")
    assert network_digest(MODELS.get("wrapped"), 4, {}) != before


def test_the_class_of_a_module_counts_however_it_was_imported(plug: Path) -> None:
    text = (plug / "mine.py").read_text()
    (plug / "mine.py").write_text(
        text.replace("from blocks import Up", "Up = __import__('blocks').Up")
    )
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "blocks.py", "GAIN = 1.0", "GAIN = 0.7")
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_the_class_of_a_module_that_is_loaded_no_longer_counts(plug: Path) -> None:
    """A plug-in that loads several repositories, each with a module ``blocks``, forgets them."""
    text = (plug / "mine.py").read_text()
    (plug / "mine.py").write_text(
        text.replace("from blocks import Up", "Up = __import__('blocks').Up")
        + "\ndel sys.modules['blocks']\nsys.path.pop(0)\n"
    )
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "blocks.py", "GAIN = 1.0", "GAIN = 0.7")
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_what_a_card_says_of_how_a_network_is_run_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "mine.py", 'input="lr"', 'input="bicubic"')
    load_plugins([plug / "mine.py"])
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_what_a_partial_is_made_of_counts(tmp_path: Path) -> None:
    file = tmp_path / "partly.py"
    text = (
        "from functools import partial\nfrom torch import nn\n"
        "from harness.registry import register_metric, register_model\n"
        "def build(scale, width): return nn.Conv2d(1, 1, width)\n"
        "def off(sr, hr, by): return float(by)\n"
        "register_model('partly', pipeline='y', input='bicubic', scales=(4,))("
        "partial(build, width=3))\n"
        "register_metric('off')(partial(off, by=2))\n"
    )
    seen = set()
    for width, by in ((3, 2), (5, 2), (3, 7)):
        file.write_text(text.replace("width=3", f"width={width}").replace("by=2", f"by={by}"))
        load_plugins([file])
        seen.add((network_digest(MODELS.get("partly"), 4, {}), metrics_digest(("psnr", "off"))))
    assert len(seen) == 3
    assert plugins(MODELS.get("partly"), ("off",))["partly"]["file"] == "partly.py"


def test_the_helper_of_a_metric_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    assert metrics_digest(("psnr", "ssim", "ssim-whole")) is None
    before = metrics_digest(("psnr", "ssim", "mae-mine"))
    edit(plug / "helper_metric.py", "np.abs(sr - hr)", "np.abs(sr - hr) * 2")
    assert metrics_digest(("psnr", "ssim", "mae-mine")) != before


def test_a_metric_that_python_defines_has_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "builtin.py"
    file.write_text(
        "from harness.registry import register_metric\nregister_metric('counted')([].count)\n"
    )
    load_plugins([file])
    assert len(metrics_digest(("counted",)) or "") == 64


def test_a_network_that_cannot_be_built_has_the_hash_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "from harness.registry import register_model\n"
        "@register_model('broken', pipeline='y', input='lr', scales=(4,))\n"
        "def broken(scale=4):\n    raise KeyError\n"
    )
    load_plugins([file])
    assert len(network_digest(MODELS.get("broken"), 4, {})) == 64
    file.unlink()
    with pytest.raises(HarnessError, match="cannot be read"):
        network_digest(MODELS.get("broken"), 4, {})


def test_code_that_is_not_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(HarnessError, match=r"folder\.py cannot be read"):
        source_of([tmp_path / "folder.py"])


def test_where_a_plugin_came_from_is_known(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    facts = plugins(MODELS.get("mine"), ("psnr", "ssim", "ssim-whole", "mae-mine"))
    assert set(facts) == {"mine", "mae-mine"}
    assert facts["mine"]["file"] == "mine.py" and len(facts["mine"]["sha256"]) == 64
    built_in = plugins(MODELS.get("drfn"), ("psnr", "ssim"))["drfn"]
    assert built_in["module"] == "harness.baselines.drfn"


PINNED = {
    "bicubic": "ee0b002586ec4aff",
    "bicubic-rgb": "ee0b002586ec4aff",
    "dcsr": "f33b02cfa5ae718a",
    "drfn": "aa30f18ffef18a6a",
    "drfn-2conv": "aa30f18ffef18a6a",
    "edsr": "46b11a6738f83d22",
    "edsr-baseline": "46b11a6738f83d22",
    "fsrcnn": "29c34e8f374ab0e9",
    "lapsrn": "6f13ae343b2f5ffe",
    "memnet": "9480e6c42440721b",
    "msrn": "1d9070df628841e1",
    "rdn": "4a701610d8d936af",
    "srcnn": "50a5980b62c7e9f7",
    "srmdnf": "23a6b90e08fe6d67",
    "vdsr": "5281109acf6b8504",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_networks_of_the_paper_have_the_same_hash_everywhere(name: str) -> None:
    """They are part of the ids of all records: a change here makes every record another run."""
    assert network_digest(MODELS.get(name), 4, {})[:16] == PINNED[name]


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
    "import for type checkers": (
        "import math",
        "import math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy",
    ),
    "import of types that nothing uses": ("import math", "import math\nfrom typing import List"),
    "script": ("import math", "import math\nif __name__ == '__main__':\n    import a\n    a.b()"),
    "test set": ("import math", "import math\nregister_dataset('mine', '/home/me/mine')"),
    "escape sequence": ("It multiplies.", "It multiplies \\d."),
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
    "renamed thing": ("import math", "import math as m"),
    "place in another package": ("import math", "from a.math import sqrt"),
    "file that runs": ("import math", "import math\nfrom nets.layers import Tensor"),
}


def canonical(text: str, package: str = "") -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return canonical_digest(ast.parse(text), package)


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_computes_the_same_is_the_same(change: tuple[str, str]) -> None:
    assert change[0] in NET
    assert canonical(NET.replace(*change)) == canonical(NET)


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_may_compute_something_else_is_something_else(change: tuple[str, str]) -> None:
    assert change[0] in NET
    assert canonical(NET.replace(*change)) != canonical(NET)


def test_an_import_that_types_alone_use_says_nothing_and_one_that_is_passed_on_does() -> None:
    typed = "{}def f(x: Tensor) -> np.ndarray:\n    return x\n"
    for said in ("from torch import Tensor\n", "import numpy as np\n"):
        assert canonical(typed.format(said)) == canonical(typed.format(""))
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


CARDS = [("net", "2019"), ("net", "2020"), ("other", "2019")]


def test_what_a_registering_decorator_says_stands_in_the_card() -> None:
    plain = "def net(scale=4):\n    return scale\n"
    registered = "@register_model('{}', pipeline='y', input='lr', scales=(4,), paper='{}')\n"
    of = {(name, paper): canonical(registered.format(name, paper) + plain) for name, paper in CARDS}
    assert of["net", "2019"] == of["net", "2020"] != of["other", "2019"]
    assert canonical("@cache\n" + plain) != canonical(plain)
    called = "register_model('net', paper='{}')(partial(net, {}))"
    one, same, other = (canonical(called.format(*w)) for w in [("a", 2), ("b", 2), ("a", 4)])
    assert one == same != other
    foreign = "@register_model('net', dataclass={})\ndef f(): pass"
    assert canonical(foreign.format("A")) != canonical(foreign.format("B"))


def test_the_name_of_the_package_around_a_module_says_nothing() -> None:
    one, other, third, foreign = (
        canonical(f"from {module} import conv\nx = conv(1)", "baselines")
        for module in ("baselines.layers", ".layers", "baselines.blocks", "a.layers")
    )
    assert one == other and len({one, third, foreign}) == 3
    moved = [
        canonical(f"from {package} import a\nimport {package}.layers as b", package)
        for package in ("baselines", "vendor.baselines")
    ]
    assert moved[0] == moved[1] == canonical("from . import a\nimport n.layers as b", "n")


def test_a_name_of_the_harness_counts_where_it_is_renamed() -> None:
    metric = "from harness.{} import {} as q\n"
    psnr, moved, ssim = (
        canonical(metric.format(*words))
        for words in [("protocol.metrics", "psnr"), ("metrics", "psnr"), ("metrics", "ssim")]
    )
    assert psnr == moved != ssim


def test_annotations_that_dispatch_count() -> None:
    made = "@init.register\ndef _(m: {}):\n    return m\n"
    assert canonical(made.format("Conv")) != canonical(made.format("Linear"))


@pytest.mark.filterwarnings("error")
def test_code_that_python_warns_of_or_cannot_parse_has_a_hash(tmp_path: Path) -> None:
    hashes = set()
    for name, text in {
        "escape": "x = '\\d'  # one\n",
        "same": "x = '\\d'  # another\n",
        "long": "x = " + "+".join("1" * 5000) + "\n",
        "large": f"x = 0x{'f' * 5000}\n",
        "broken": "x = \n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
        hashes.add(source_of([tmp_path / f"{name}.py"]).sha256)
    assert len(hashes) == 4


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
    assert canonical(EVERYTHING)[:16] == "d63f2b5db1e8290b"


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

    @pytest.mark.parametrize(
        ("text", "changed"),
        [
            ("from . import WIDTH, parts", "__init__.py"),
            ("import nets.parts\nx = nets.WIDTH", "__init__.py"),
            ("from .parts import WIDTH\ndef f(x: WIDTH): pass", "parts.py"),
        ],
        ids=["name of the package", "plain import", "import for annotations"],
    )
    def test_a_file_counts_however_it_is_imported(
        self, package: Path, text: str, changed: str
    ) -> None:
        (package / "models.py").write_text(text)
        (package / changed).write_text("WIDTH = 64")
        before = source_of([package / "models.py"]).sha256
        (package / changed).write_text("WIDTH = 128")
        assert source_of([package / "models.py"]).sha256 != before

    @pytest.mark.parametrize("blocks", ["GAIN = {}", "from .const import GAIN"])
    def test_which_of_two_files_a_name_comes_from_counts(self, package: Path, blocks: str) -> None:
        for name, gain in (("v1", 1), ("v2", 2)):
            (package / name).mkdir()
            (package / name / "__init__.py").touch()
            (package / name / "blocks.py").write_text(blocks.format(gain))
            (package / name / "const.py").write_text(f"GAIN = {gain}")
        lines = "from nets.{}.blocks import GAIN as a\nfrom nets.{}.blocks import GAIN as b"
        (package / "models.py").write_text(lines.format("v1", "v2"))
        before = source_of([package / "models.py"]).sha256
        (package / "models.py").write_text(lines.format("v2", "v1") + "  # exchanged")
        assert source_of([package / "models.py"]).sha256 != before

    def test_files_that_import_each_other_have_a_hash(self, package: Path) -> None:
        (package / "models.py").write_text("from . import parts")
        (package / "parts.py").write_text("from . import models")
        assert len(source_of([package / "models.py"]).files) == 2

    @pytest.mark.parametrize("name", ["chunk", "compression"])
    def test_a_file_counts_though_some_python_has_a_module_of_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "entry.py").write_text(f"from {name} import GAIN\nimport random")
        (tmp_path / f"{name}.py").write_text("GAIN = 1")
        assert len(source_of([tmp_path / "entry.py"]).files) == 2

    def test_a_folder_without_init_is_a_package_too(self, package: Path) -> None:
        """Such as ``models/`` of a cloned repository, whose root has a folder ``utils``, too."""
        folder = package.parent / "models"
        (folder / "archs").mkdir(parents=True)
        (package.parent / "utils").mkdir()
        (package.parent / "utils/__init__.py").write_text("G = 0")
        (folder / "net.py").write_text("from .utils import G\nfrom .types import H")
        for name in ("utils", "types"):
            (folder / f"{name}.py").write_text("G = H = 1")
        before = source_of([folder / "net.py"])
        assert len(before.files) == 2, "utils and types are alike, and the others not imported"
        (folder / "types.py").write_text("H = 2")
        assert source_of([folder / "net.py"]).sha256 != before.sha256
        (folder / "entry.py").write_text("def f():\n    from models.archs.deep import H")
        (folder / "archs/deep.py").write_text("H = 3")
        assert len(source_of([folder / "entry.py"]).files) == 2

    def test_a_package_is_its_own_whatever_else_is_loaded_under_its_name(
        self, package: Path, tmp_path: Path
    ) -> None:
        import nets.models  # noqa: F401 - the loaded one

        other = tmp_path / "other/nets"
        shutil.copytree(package, other)
        (other / "parts.py").write_text("Up = 2")
        assert source_of([other / "models.py"]) != source_of([package / "models.py"])

    def test_a_link_to_the_code_says_nothing(self, package: Path, tmp_path: Path) -> None:
        (package / "models.py").write_text("from nets.parts import Up")
        (tmp_path / "link").symlink_to(tmp_path)
        linked = tmp_path / "link/nets/models.py"
        assert source_of([linked]) == source_of([package / "models.py"])

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

    def test_a_checkout_and_what_was_installed_from_it_are_one(
        self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (package / "models.py").write_text("from nets_ops import conv")
        (tmp_path / "nets_ops.py").write_text("conv = 1")
        before = source_of([package / "models.py"]).sha256
        place = tmp_path / "lib" / "site-packages"
        place.mkdir(parents=True)
        for name in ("nets", "nets_ops.py"):
            (tmp_path / name).rename(place / name)
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.setattr("harness.models.source.version", lambda name: "1.0")
        monkeypatch.setattr(
            "harness.models.source.distributions", lambda: {"nets": ["nets"], "nets_ops": ["nets"]}
        )
        assert source_of([place / "nets/models.py"]).sha256 == before
        (tmp_path / "entry.py").write_text("from nets.models import conv")
        assert source_of([tmp_path / "entry.py"]).packages == {"nets": "1.0"}
        monkeypatch.setattr("harness.models.source.version", lambda name: "1.0+cu128")
        assert source_of([tmp_path / "entry.py"]).packages == {"nets": "1.0"}

    def test_of_distributions_that_share_a_folder_the_one_of_the_file_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = tmp_path / "site-packages"
        for name in ("a", "b"):
            (place / f"shared/{name}").mkdir(parents=True)
            (place / f"shared/{name}/net.py").touch()
            (place / f"shared_{name}-1.0.dist-info").mkdir()
            for file, text in {
                "METADATA": f"Metadata-Version: 2.1\nName: shared-{name}\nVersion: 1.0\n",
                "RECORD": f"shared/{name}/net.py,,\n",
            }.items():
                (place / f"shared_{name}-1.0.dist-info" / file).write_text(text)
        monkeypatch.syspath_prepend(str(place))
        distributions.cache_clear()
        (tmp_path / "entry.py").write_text("from shared.a.net import Net")
        assert source_of([tmp_path / "entry.py"]).packages == {"shared-a": "1.0"}
        distributions.cache_clear()

    def test_an_installed_distribution_counts_by_its_version(self, tmp_path: Path) -> None:
        file = tmp_path / "entry.py"
        file.write_text("import pytest, torch, harness.cards, not_there, math")
        source = source_of([file])
        assert source.packages == {"pytest": pytest.__version__}
        assert len(source.files) == 1


HERE = Path(__file__).parents[2]
BUILDS_UPON = [
    "from harness.baselines.layers import conv",
    "import harness.baselines.layers",
    "from harness.baselines import layers",
]


def laid_out(folder: Path, *, installed: bool) -> Path:
    """What a hash reads of the harness, as in a checkout or as pip puts it."""
    networks = folder / ("harness/baselines" if installed else "baselines")
    files = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(HERE / "harness", folder / "harness", ignore=files)
    shutil.copytree(HERE / "baselines", networks, ignore=files)
    if installed:
        info = folder / "drfn_harness-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: drfn-harness\nVersion: 0.1.0\n"
        )
        (info / "top_level.txt").write_text("harness\n")
    else:
        shutil.copy(HERE / "pyproject.toml", folder)
    return networks


def hashes(folder: Path, plugins: list[Path]) -> list[str]:
    """The hash of each plug-in, in a process that has the harness from a folder."""
    script = (
        "import sys; from pathlib import Path; from harness.models.source import source_of\n"
        "for name in sys.argv[1:]: print(source_of([Path(name)]).sha256)"
    )
    command = [sys.executable, "-c", script, *map(str, plugins)]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.split()


def test_the_networks_of_the_harness_count_where_a_plugin_builds_upon_them(tmp_path: Path) -> None:
    plugins = [tmp_path / f"mine{place}.py" for place in range(len(BUILDS_UPON))]
    for plugin, line in zip(plugins, BUILDS_UPON, strict=True):
        plugin.write_text(f"{line}\nfrom harness.registry import register_model\n")
    found = []
    for place, installed in (("checkout", False), ("site-packages", True)):
        networks = laid_out(tmp_path / place, installed=installed)
        found.append(hashes(tmp_path / place, plugins))
        for other in ("registry", "__init__"):
            with (tmp_path / place / f"harness/{other}.py").open("a") as file:
                file.write("NEW = 1\n")
        assert hashes(tmp_path / place, plugins) == found[-1]
        with (networks / "layers.py").open("a") as file:
            file.write("GAIN = 2\n")
        edited = hashes(tmp_path / place, plugins)
        assert all(one != other for one, other in zip(edited, found[-1], strict=True))
    assert found[0] == found[1] and len(set(found[0])) == len(BUILDS_UPON)


def test_which_network_of_the_harness_a_name_is_taken_from_counts() -> None:
    layers, edsr = (
        canonical(f"from harness.baselines.{n} import conv") for n in ("layers", "edsr")
    )
    assert layers != edsr
    assert canonical("from harness.run import plan") == canonical("from harness.data import plan")
