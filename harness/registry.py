"""Registries of models, datasets, metrics and reports, and the plug-ins that fill them.

A plug-in is a module that calls the ``register_*`` decorators when it is imported. Installed
packages name theirs in the entry-point group ``drfn_harness.plugins``; a single file is named with
``--plugin``. The networks of the paper are found the same way.
"""

from __future__ import annotations

import ast
import difflib
import fnmatch
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from harness.errors import HarnessError, UsageError
from harness.files import TEXT, regular
from harness.specs import DatasetCard, ModelCard, NetworkInput, Pipeline

if TYPE_CHECKING:
    from types import ModuleType

    from harness.specs import AnyArray

    Metric = Callable[[AnyArray, AnyArray], float]
    Report = Callable[..., Any]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

GROUP = "drfn_harness.plugins"
_FILE_PREFIX = "harness_plugin_"


class Registry(Generic[T]):
    """Named things of one kind, each with the module or file it came from."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[T, str]] = {}

    def add(self, name: str, value: T, origin: str) -> None:
        """Enter a thing; the same origin may replace its own.

        Raises:
            UsageError: another origin holds the name.
        """
        holder = self._entries.get(name)
        if holder and holder[1] != origin:
            raise UsageError(
                f"Both {holder[1]} and {origin} register the {self.kind} {name!r}: rename one."
            )
        self._entries[name] = (value, origin)

    def get(self, name: str) -> T:
        """The thing of that name.

        Raises:
            UsageError: there is none; the message suggests the nearest names.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(name.lower(), self._entries, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {self._all()}."
            raise UsageError(f"No {self.kind} is called {name!r}: {hint}")
        return self._entries[name][0]

    def origin(self, name: str) -> str:
        """The module or file that entered the thing of that name.

        Raises:
            UsageError: there is none.
        """
        self.get(name)
        return self._entries[name][1]

    def select(self, pattern: str) -> list[str]:
        """Names for one word of a list: ``all``, a glob, or a name.

        Raises:
            UsageError: nothing matches.
        """
        if pattern == "all":
            return list(self._entries)
        if not any(mark in pattern for mark in "*?["):
            self.get(pattern)
            return [pattern]
        found = fnmatch.filter(self._entries, pattern)
        if not found:
            raise UsageError(f"No {self.kind} matches {pattern!r}: there are {self._all()}.")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def snapshot(self) -> dict[str, tuple[T, str]]:
        """A copy of what is entered, for `restore`."""
        return dict(self._entries)

    def restore(self, entries: dict[str, tuple[T, str]]) -> None:
        """Go back to a `snapshot`."""
        self._entries = dict(entries)

    def _all(self) -> str:
        return ", ".join(self._entries) or "none"


MODELS: Registry[ModelCard] = Registry("model")
DATASETS: Registry[DatasetCard] = Registry("dataset")
METRICS: Registry[Metric] = Registry("metric")
REPORTS: Registry[Report] = Registry("report")
_ALL: tuple[Registry[Any], ...] = (MODELS, DATASETS, METRICS, REPORTS)

FAILURES: dict[str, str] = {}
"""Plug-ins that could not be loaded, with the reason."""

SETTINGS: dict[str, set[str]] = {}
"""Global settings of torch that plug-ins changed while they were loaded, and that were set back."""


def register_model(
    name: str,
    *,
    pipeline: Pipeline,
    input: NetworkInput,  # noqa: A002 - the field's word for it
    scales: tuple[int, ...],
    paper: str = "",
    params: int | None = None,
    global_pooling: bool = False,
    stand_in: str = "",
) -> Callable[[F], F]:
    """Register a function or class that builds a network; see `ModelCard` for the fields."""

    def decorate(build: F) -> F:
        # Not the builder's module: a partial, for instance, is one of functools.
        module = sys._getframe(1).f_globals["__name__"]
        fields = (pipeline, input, scales, paper, params, global_pooling, stand_in)
        card = ModelCard(name, build, *fields)
        _add_model(card, _origin(module), _source(module))
        return build

    return decorate


def _add_model(card: ModelCard, origin: str, source: Path) -> None:
    rules = {
        _NAME_RULE: _is_name(card.name),
        "pipeline 'y' or 'rgb'": card.pipeline in get_args(Pipeline),
        "input 'lr' or 'bicubic'": card.input in get_args(NetworkInput),
        "scales, a tuple of whole numbers": isinstance(card.scales, tuple)
        and card.scales
        and all(_is_count(scale) and scale for scale in card.scales),
        "params, a whole number or None": card.params is None or _is_count(card.params),
        "paper and stand_in, texts": isinstance(card.paper, str) and isinstance(card.stand_in, str),
        "global_pooling, True or False": isinstance(card.global_pooling, bool),
    }
    broken = next((rule for rule, holds in rules.items() if not holds), None)
    if broken:
        raise UsageError(f"The model {card.name!r} of {origin} needs {broken}.")
    card = replace(card, origin=origin, source=source)
    MODELS.add(card.name, card, origin)


_NAME_RULE = "a name of letters, digits, '.', '_' and '-'"


def _is_name(value: object) -> bool:
    """Whether a name can be a word of the command line and part of a path."""
    return isinstance(value, str) and bool(re.fullmatch(r"[\w-][\w.-]*", value))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _source(module: str) -> Path:
    """The file of a module that runs."""
    return Path(str(sys.modules[module].__file__))


def _origin(module: str) -> str:
    """A module's name; for a plug-in file, its path."""
    return str(_source(module)) if module.startswith(_FILE_PREFIX) else module


def register_dataset(name: str, root: Path | str, *, title: str = "", count: int = 0) -> None:
    """Register a folder of HR images as a test set.

    Raises:
        UsageError: what is said of it is of another kind.
    """
    origin = _origin(sys._getframe(1).f_globals["__name__"])
    if not _is_name(name):
        raise UsageError(f"The test set {name!r} of {origin} needs {_NAME_RULE}.")
    if not (isinstance(title, str) and _is_count(count)):
        raise UsageError(f"The test set {name} of {origin} needs a title and a whole count.")
    card = DatasetCard(name, title or name, count=count, root=Path(root), origin=origin)
    DATASETS.add(name, card, origin)


_COLUMNS = (
    "image seconds note id status model dataset scale protocol self_ensemble tile hyper tag "
    "weights_file_sha256 verified count parameters macs time record rank seen dataset_sha256 "
    "pipeline weights lr_sha256 earlier error images device utc"
)
"""What stands beside the scores in records, in the table of runs, and in their listing."""


def register_metric(name: str) -> Callable[[F], F]:
    """Register a function ``(sr, hr)`` that scores one image; ``--metric`` computes it.

    It gets the luma of the SR and of the HR image without the border, float64 ``(H, W)`` in
    [0, 255]: copies, which it may write into. It returns one number, or an array or tensor that
    holds one; infinity is a number, NaN is not. It is called for one image at a time, in any order.

    Args:
        name: letters, digits, ``_`` and ``-``.

    Raises:
        UsageError: the name cannot be used, or is that of another column beside the scores.
    """
    if not re.fullmatch(r"[\w-]+", name) or name in _COLUMNS.split():
        raise UsageError(f"A metric cannot be called {name!r}: choose another name.")
    return _register(METRICS, name)


def register_report(name: str) -> Callable[[F], F]:
    """Register a function that makes a report.

    It takes ``(runs, paper, grey)``: what `ResultStore.load` gives, the printed numbers, and the
    grey rule whose runs are shown; and, where it has a parameter ``pictures``, what to show of
    images (`harness.report.pictures.Pictures`). It returns a `harness.report.forms.Table` or
    anything else that keeps `harness.report.forms.Report`.
    """
    return _register(REPORTS, name)


def _register(registry: Registry[Any], name: str) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        registry.add(name, function, _origin(sys._getframe(1).f_globals["__name__"]))
        return function

    return decorate


def load_plugins(files: Sequence[Path] = ()) -> None:
    """Import every installed plug-in and the given files.

    One that fails disables only itself and is noted in `FAILURES`.

    Raises:
        UsageError: a given file is missing.
    """
    for entry in _installed():
        own = entry.dist is None or entry.dist.name == "drfn-harness"
        load = entry.load if own else partial(_with_settings, entry.value, entry.load)
        _guarded(entry.value, load)
    for path in files:
        try:
            regular(path, TEXT)
        except FileNotFoundError:
            raise UsageError(f"There is no plug-in file {path}.") from None
        except OSError as error:
            raise UsageError(f"The plug-in file {path} cannot be read ({error}).") from error
        name = str(path)
        _guarded(name, partial(_with_settings, name, partial(_import_file, path)))


def _installed() -> list[EntryPoint]:
    """Installed entry points; in a bare checkout, those its pyproject.toml declares."""
    found = {entry.value: entry for entry in entry_points(group=GROUP)}
    try:
        distribution("drfn-harness")
    except PackageNotFoundError:
        import tomllib

        text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
        declared = tomllib.loads(text)["project"]["entry-points"][GROUP]
        found |= {value: EntryPoint(name, value, GROUP) for name, value in declared.items()}
    return list(found.values())


def _guarded(name: str, load: Callable[[], object]) -> None:
    """Load a plug-in; when it fails, undo what it registered and note why."""
    before = [registry.snapshot() for registry in _ALL]
    try:
        load()
        FAILURES.pop(name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an outsider's code may raise anything
        for registry, entries in zip(_ALL, before, strict=True):
            registry.restore(entries)
        FAILURES[name] = f"{type(error).__name__}: {error}"


def _with_settings(name: str, load: Callable[[], object]) -> None:
    """Load an outsider's plug-in, and set back what it changes of torch's global settings."""
    from harness.settings import settings_guarded

    with settings_guarded(SETTINGS.setdefault(name, set())):
        load()


def _import_file(path: Path) -> ModuleType:
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"{_FILE_PREFIX}{path.stem}_{place}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise HarnessError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def declare_package(package: str) -> None:
    """Enter the models of every module of a package without importing the modules.

    Reads the ``@register_model`` lines from the source, so that listing does not wait for torch;
    a module is imported when one of its networks is built. Arguments must be literals.
    """
    for path in sorted(Path(str(sys.modules[package].__file__)).parent.glob("[!_]*.py")):
        module = f"{package}.{path.stem}"
        _guarded(module, partial(_declare, module, path))


def _declare(module: str, path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "register_model":
                fields = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                build = _Deferred(module, node.name)
                card = ModelCard(ast.literal_eval(call.args[0]), build, **fields)
                _add_model(card, module, path)


class _Deferred:
    """A builder whose module is imported when it is called."""

    def __init__(self, module: str, function: str) -> None:
        self.module, self.function = module, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(self.module), self.function)(*args, **kwargs)
