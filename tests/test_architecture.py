"""Rules of the code: imports go down, run options are classified, packages work without torch."""

import ast
import dataclasses
from pathlib import Path

import pytest

import harness
from harness import baselines
from harness.cli import run
from harness.record import Execution, Identity, RunRecord

ROOT = Path(harness.__file__).parent
NETWORKS = Path(baselines.__file__).parent
# A package may import from itself and from those after it.
ROOMS = [
    "__main__",
    "cli",
    "api",
    "report",
    "paper",
    "train",
    "run",
    "models",
    "data",
    "protocol",
    "registry",
    "global_state",
    "syntax",
    "cards",
    "record",
    "files",
    "text",
    "interrupts",
    "errors",
]
FILES = [
    path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT or path.stem != "__init__"
]


# The parts of harness.run that training may use: the place of records, and provenance.
SHARED_WITH_TRAINING = {"harness.run.provenance", "harness.run.store"}


def imports(path: Path) -> list[str]:
    """Project modules that a file imports, including imports inside functions and for types."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] == "harness"]


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_the_house_and_never_to_the_baselines(path: Path) -> None:
    own = ROOMS.index(room(path.relative_to(ROOT).parts))
    for name in imports(path):
        rest = name.split(".")[1:]
        if rest:
            assert rest[0] != "baselines", f"{path} imports {name}"
            assert ROOMS.index(rest[0]) >= own, f"{path} imports {name}, which lies above it"


def test_no_file_imports_itself_through_others() -> None:
    """Neither at the top nor inside a function nor for types."""
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {name: {one for one in imports(names[name]) if one in names} for name in names}
    # A package that only holds its modules does not count as a file.
    empty = {name for name, path in names.items() if not path.read_text()}
    left = {name: inner - empty - {name} for name, inner in graph.items()}
    while ends := {name for name, inner in left.items() if not inner}:
        left = {name: inner - ends for name, inner in left.items() if name not in ends}
    assert not left, f"in a circle, or above one: {sorted(left)}"


def test_runs_and_trainings_do_not_know_each_other() -> None:
    for path in (ROOT / "train").glob("*.py"):
        known = {name for name in imports(path) if name.startswith("harness.run.")}
        files = {".".join(name.split(".")[:3]) for name in known}
        assert files <= SHARED_WITH_TRAINING, path
    for path in (ROOT / "run").glob("*.py"):
        assert not any(name.startswith("harness.train") for name in imports(path)), path


def test_the_house_has_few_files_of_one_concept_each() -> None:
    assert len([path for path in ROOT.rglob("*.py") if path.read_text()]) <= 91


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("layouts/*.py")), ids=lambda p: p.name)
def test_published_layouts_import_their_types_only(path: Path) -> None:
    assert all(name.startswith("harness.cards") for name in imports(path))


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("*.py")), ids=lambda p: p.name)
def test_networks_import_the_registry_the_specs_and_their_shared_layers_only(path: Path) -> None:
    """Networks use a relative import for the layers: it is the same in a checkout and installed."""
    allowed = ("harness.registry", "harness.cards")
    assert all(name.startswith(allowed) for name in imports(path))
    tree = ast.walk(ast.parse(path.read_text()))
    relative = [node for node in tree if isinstance(node, ast.ImportFrom) and node.level]
    assert all((node.level, node.module) == (1, "layers") for node in relative)


@pytest.mark.parametrize("room_name", ["protocol", "report"])
def test_the_protocol_and_the_reports_do_without_torch(room_name: str) -> None:
    for path in (ROOT / room_name).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torch" for name in modules), path


SHELL = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}


@pytest.mark.parametrize(
    "path", [*FILES, *NETWORKS.rglob("*.py")], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_nothing_goes_through_a_shell_or_is_evaluated(path: Path) -> None:
    for call in (
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        assert name not in SHELL, f"{path} calls {name}"
        assert "shell" not in {word.arg for word in call.keywords}, f"{path} names a shell"
        assert not (isinstance(call.func, ast.Name) and name in ("eval", "exec")), f"{path}: {name}"
        if name == "load" and getattr(getattr(call.func, "value", None), "id", "") == "torch":
            safe = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert safe.get("weights_only") == "True", f"{path} lets a pickle run"
        assert not ast.unparse(call.func).startswith("pickle.load"), f"{path} lets a pickle run"


# An option that changes numbers is hashed; one that changes how they are computed is recorded.
DECIDES = {
    "models",
    "limit",
    "name",
    "datasets",
    "scale",
    "like",
    "grey",
    "border",
    "float_lr",
    "float_y",
    "all_rules",
    "self_ensemble",
    "tile",
    "metrics",
    "weight_files",
    "weights_key",
    "plugins",
    "data_root",
    "lr_images",
}
RECORDED = {"device", "executor"}
WITHOUT_INFLUENCE = {
    *("results", "save_images", "force", "strict", "as_json", "quiet", "scheduler", "workers")
}


def test_every_option_of_a_run_is_hashed_recorded_or_without_influence() -> None:
    options = {parameter.name for parameter in run.params}
    assert options == DECIDES | RECORDED | WITHOUT_INFLUENCE


def test_every_field_of_the_identity_is_hashed() -> None:
    base = Identity("m", 4, "d", "p", "s", "h", "i", 1)
    for field in dataclasses.fields(Identity):
        assert dataclasses.replace(base, **{field.name: "another"}).id != base.id, field.name


def test_what_is_recorded_of_a_run_is_in_one_class() -> None:
    identity = {field.name for field in dataclasses.fields(Identity)}
    execution = {field.name for field in dataclasses.fields(Execution)}
    result = {field.name for field in dataclasses.fields(RunRecord)}
    assert identity == {
        "model",
        "scale",
        "dataset",
        "protocol",
        "source_sha256",
        "protocol_sha256",
        "dataset_sha256",
        "inference",
        "weights_sha256",
        "hyper",
        "self_ensemble",
        "tile",
        "metrics",
        "metrics_sha256",
        "lr_sha256",
        "sr_sha256",
    }
    assert execution == {"device", "threads", "executor"}
    assert result == {
        "identity",
        "execution",
        "provenance",
        "status",
        "error",
        "images",
        "weights",
        "parameters",
        "macs",
        "macs_input_size",
        "verified",
        "plugins",
    }
