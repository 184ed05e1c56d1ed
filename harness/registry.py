"""Registries of models, test sets, metrics, reports, papers and judges, which plug-ins fill.

A plug-in is a module that calls the ``register_*`` decorators when it is imported. Installed
packages declare theirs in the entry-point group ``drfn_harness.plugins``; ``--plugin`` loads a
single file, which may import other files in its folder. A plug-in cannot take the name of a
built-in.
"""

from __future__ import annotations

import ast
import difflib
import fnmatch
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_type_hints

from msgspec import ValidationError, convert

from harness.cards import (
    DISTRIBUTION,
    DatasetCard,
    MetricCard,
    MetricInput,
    ModelCard,
    NetworkInput,
    Pipeline,
)
from harness.errors import HarnessError, UsageError, sentence
from harness.files import TEXT, regular
from harness.syntax import NETWORKS

if TYPE_CHECKING:
    from types import ModuleType

    Report = Callable[..., Any]
    Judge = Callable[..., Any]

T = TypeVar("T")
Card = TypeVar("Card", ModelCard, DatasetCard, MetricCard)
F = TypeVar("F", bound=Callable[..., Any])

GROUP = "drfn_harness.plugins"
_FILE_PREFIX = "harness_plugin_"

_BUILT_IN = "harness."
"""Prefix of the module names that register built-ins."""


@dataclass(frozen=True)
class Clash:
    """A name that plug-ins registered but cannot use.

    Attributes:
        kind: what was registered, such as a model.
        name: the name in conflict.
        origins: the plug-ins that registered it.
        built_in: True if a built-in has the name; False if several plug-ins registered it.
    """

    kind: str
    name: str
    origins: tuple[str, ...]
    built_in: bool

    def __str__(self) -> str:
        who = " and ".join(self.origins)
        if self.built_in:
            return f"The {self.kind} {self.name!r} of {who} has the name of a built-in: rename it."
        both = "Both " if len(self.origins) == 2 else ""
        return f"{both}{who} register the {self.kind} {self.name!r}: rename one to use either."


class Registry(Generic[T]):
    """Entries of one kind by name, each with the module or file that registered it.

    Built-ins keep their names, whatever the order of registration. A name that several plug-ins
    register cannot be used.

    Args:
        kind: what messages call an entry.
        homes: the modules that register the built-ins.
    """

    def __init__(self, kind: str, *homes: str) -> None:
        self.kind = kind
        self._homes = homes
        self._built_in: dict[str, tuple[T, str]] = {}
        self._plugins: dict[str, dict[str, T]] = {}

    def add(self, name: str, value: T, origin: str) -> None:
        """Add an entry; an origin may replace its own entries."""
        if origin.startswith(_BUILT_IN):
            self._built_in[name] = value, origin
            return
        self.load_built_ins()  # to know which names are taken
        self._plugins.setdefault(name, {})[origin] = value

    def get(self, name: str) -> T:
        """Return the entry with this name.

        Raises:
            UsageError: no entry has the name (the message suggests similar ones), or several
                plug-ins registered it.
        """
        return self._entry(name)[0]

    def origin(self, name: str) -> str:
        """Return the module or file that registered the entry with this name.

        Raises:
            UsageError: as `get`.
        """
        return self._entry(name)[1]

    def _entry(self, name: str) -> tuple[T, str]:
        entries = self._entries()
        if name not in entries:
            clash = next((clash for clash in self.clashes() if clash.name == name), None)
            if clash:
                raise UsageError(str(clash))
            near = near_names(name, entries)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"there are {self._all()}; {LOAD}."
            )
            if name.endswith(".py"):
                hint = f"load the file with --plugin {name}, and give the name that it registers."
            raise UsageError(f"No {self.kind} is called {name!r}: {hint}")
        return entries[name]

    def _entries(self) -> dict[str, tuple[T, str]]:
        """The entries that can be used, by name."""
        single = {
            name: (value, origin)
            for name, by_origin in self._plugins.items()
            if len(by_origin) == 1
            for origin, value in by_origin.items()
        }
        return self._built_in | {k: v for k, v in single.items() if k not in self._built_in}

    def clashes(self) -> list[Clash]:
        """List the names that plug-ins registered but cannot use."""
        return [
            Clash(self.kind, name, tuple(sorted(by_origin)), name in self._built_in)
            for name, by_origin in self._plugins.items()
            if name in self._built_in or len(by_origin) > 1
        ]

    def is_built_in(self, name: str) -> bool:
        """Whether the entry with this name is a built-in.

        Raises:
            HarnessError: as `load_built_ins`.
        """
        self.load_built_ins()
        return name in self._built_in

    def load_built_ins(self) -> None:
        """Import the modules that register the built-ins of this kind.

        Raises:
            HarnessError: the modules are missing.
        """
        if not self._homes:
            return
        message = f"The {self.kind}s of the harness are missing{{}}: reinstall {DISTRIBUTION}."
        try:
            for home in self._homes:
                importlib.import_module(home)
        except ImportError as error:
            raise HarnessError(message.format(f" ({error})")) from error
        if not self._built_in:  # an empty folder imports without an error
            raise HarnessError(message.format(""))

    def spelling(self, word: str) -> str:
        """Return the name that a user's word means in any case; the word itself if it means none.

        A name in the very case of the word comes first.
        """
        return spelled(word, self)

    def select(self, pattern: str) -> list[str]:
        """Return the names that a word of a list selects in any case: ``all``, a glob or a name.

        Raises:
            UsageError: nothing matches.
        """
        if pattern.lower() == "all":
            return list(self)
        if not is_glob(pattern):
            name = self.spelling(pattern)
            self.get(name)
            return [name]
        names = [name for name in self if fnmatch.fnmatchcase(name.lower(), pattern.lower())]
        if not names:
            raise UsageError(f"No {self.kind} matches {pattern!r}: there are {self._all()}.")
        return names

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __contains__(self, name: object) -> bool:
        return name in self._entries()

    def snapshot(self) -> dict[str, dict[str, T]]:
        """Copy the entries of plug-ins, for `restore`."""
        return {name: dict(by_origin) for name, by_origin in self._plugins.items()}

    def restore(self, plugins: dict[str, dict[str, T]]) -> None:
        """Restore the entries from a `snapshot`."""
        self._plugins = {name: dict(by_origin) for name, by_origin in plugins.items()}

    def _all(self) -> str:
        return ", ".join(self) or "none"


def is_glob(word: str) -> bool:
    """Whether a word of a list has wildcards, and so may select several names."""
    return any(wildcard in word for wildcard in "*?[")


def spelled(word: str, names: Iterable[str]) -> str:
    """Return the name that a word means in any case, one in its very case first; else the word."""
    known = list(names)
    same = [name for name in known if name.lower() == word.lower()]
    return same[0] if len(same) == 1 and word not in known else word


def near_names(word: str, names: Iterable[str]) -> list[str]:
    """Return up to three names that are like a word, in any case, the nearest first."""
    lowered = {name.lower(): name for name in names}
    return [lowered[name] for name in difflib.get_close_matches(word.lower(), lowered, 3, _NEAR)]


_NEAR = 0.65
"""The least similarity of a suggestion: ``drnf`` and ``drfn`` have 0.75, ``mine`` and ``memnet``
0.6."""

LOAD = "load the file that registers it with --plugin FILE.py (in Python: import it)"
"""What to do if a name is not registered and no other is near."""


MODELS: Registry[ModelCard] = Registry("model", NETWORKS)
DATASETS: Registry[DatasetCard] = Registry("dataset")
METRICS: Registry[MetricCard] = Registry("metric", "harness.protocol.metrics")
REPORTS: Registry[Report] = Registry(
    "report",
    *("harness.report.claims", "harness.report.complexity", "harness.report.crops"),
    *("harness.report.results", "harness.report.plot", "harness.report.page"),
    "harness.report.ablation",
)
PAPERS: Registry[Path] = Registry("paper", "harness.paper.schema")
JUDGES: Registry[Judge] = Registry("judge", "harness.paper.literature")
_ALL: tuple[Registry[Any], ...] = (MODELS, DATASETS, METRICS, REPORTS, PAPERS, JUDGES)

FAILURES: dict[str, str] = {}
"""Installed plug-ins that could not be loaded, with the reason."""

CHANGES = {
    "0.1.0": {
        "harness.specs": "harness.specs is harness.cards and harness.record",
        "harness.report.forms": "harness.report.forms is harness.report.table",
        "harness.report.pictures": "harness.report.pictures is harness.report.crops",
        "harness.report.tables": "harness.report.tables is harness.report.results",
        "harness.protocols": "harness.protocols is harness.protocol.rules",
        "harness.protocol.protocols": "harness.protocol.protocols is harness.protocol.rules",
        "harness.protocol.variants": "harness.protocol.variants is harness.protocol.conventions",
        "harness.data.leaks": "harness.data.leaks is harness.data.identify",
        "harness.data.benchmarks": "harness.data.benchmarks is harness.data.testsets",
        "harness.models.inference": "harness.models.inference is harness.models.upscaler",
        "harness.models.importers": "harness.models.importers is harness.models.formats",
        "baselines": "the package baselines is harness.baselines",
        "register_model": "register_model takes a name, pipeline, input and scales, and may take "
        "paper, params, global_pooling, stand_in and layouts",
        "register_report": "report functions take (findings), and may take pictures",
        "harness.paper.claims.judge": "the verdict on each claim is in harness.paper.findings",
        "harness.paper.verdicts.judge_cells": "the verdict on each number is in "
        "harness.paper.findings",
        "harness.paper.select.choose_runs": "the run of each number is in harness.paper.findings",
        "harness.paper.check.against_reference": "against_reference is in harness.run.compare",
        "harness.report.table.plain_table": "plain_table and json_text are in harness.text",
        "harness.paper.print_claims": "the claims of a paper are data, see docs/papers.md",
    }
}
"""What plug-ins for earlier versions lack, by the version that changed it, with what it is now."""

FILES: dict[str, Path] = {}
"""For each module or file that registered something, the ``--plugin`` file that brought it in."""

SETTINGS: dict[str, set[str]] = {}
"""Global torch settings that each plug-in changed while it was loaded; they were restored."""


def register_model(
    name: str,
    *,
    pipeline: Pipeline,
    input: NetworkInput,  # noqa: A002 - the name of the field
    scales: tuple[int, ...],
    paper: str = "",
    params: int | None = None,
    global_pooling: bool = False,
    stand_in: str = "",
    layouts: str = "",
) -> Callable[[F], F]:
    """Register a function or class that builds a network; see `ModelCard` for the fields."""
    fields = dict(locals())

    def decorate(build: F) -> F:
        # Not the builder's module: that of a partial, for instance, is functools.
        module = sys._getframe(1).f_globals["__name__"]
        _add_model({**fields, "build": build}, _origin(module), _source(module))
        return build

    return decorate


def _add_model(fields: Mapping[str, Any], origin: str, source: Path) -> None:
    card = _card(ModelCard, "model", {**fields, "origin": origin, "source": source})
    MODELS.add(card.name, card, origin)


def _card(kind: type[Card], title: str, fields: Mapping[str, Any]) -> Card:
    """Make a card.

    Raises:
        UsageError: a field has a type or value that the card does not allow.
    """
    try:
        return convert(fields, kind)
    except ValidationError as error:
        message, _, field = str(error).rstrip("`").partition(" - at `$.")
        values = get_args(get_type_hints(kind).get(field)) if "enum" in message else ()
        known = f": it is {' or '.join(values)}" if values else ""
        raise UsageError(
            f"The {title} {fields['name']!r} of {fields['origin']} has an invalid {field} "
            f"({message}){known}."
        ) from error


def _source(module: str) -> Path:
    """The file of an imported module."""
    return Path(str(sys.modules[module].__file__))


def _origin(module: str) -> str:
    """A module's name; for a plug-in file, its path."""
    return str(_source(module)) if module.startswith(_FILE_PREFIX) else module


def register_dataset(name: str, root: Path | str, *, title: str = "", count: int = 0) -> None:
    """Register a folder of HR images as a test set.

    Raises:
        UsageError: an argument has the wrong type.
    """
    origin = _origin(sys._getframe(1).f_globals["__name__"])
    fields = {"name": name, "title": title or name, "count": count, "origin": origin}
    card = _card(DatasetCard, "test set", {**fields, "root": Path(root)})
    DATASETS.add(name, card, origin)


_COLUMNS = (
    "image seconds note id status model dataset scale protocol self_ensemble tile hyper tag "
    "weights_file weights_file_sha256 verified count parameters macs time record rank seen "
    "dataset_sha256 pipeline weights lr_sha256 sr_sha256 earlier foreign error images device utc "
    "how"
)
"""Columns beside the scores in records, in the table of runs and in its listing."""


def register_metric(name: str, *, on: MetricInput = "y") -> Callable[[F], F]:
    """Register a function ``(sr, hr)`` that scores one image; ``--metric`` selects it.

    The function gets copies of the SR and the HR image without the border, which it may modify. It
    returns one number, or an array or tensor of one element; infinity is allowed, NaN is not. It is
    called for one image at a time, in any order.

    Args:
        name: letters, digits, ``_`` and ``-``.
        on: ``y`` for luma, float64 ``(H, W)`` in [0, 255]; ``rgb`` for colour, uint8 ``(H, W, 3)``.
            In the ``y`` pipeline, the colour image is the one that ``--save-images`` writes: the
            SR luma with the chroma of the bicubic enlargement. Grey images have three equal
            channels.

    Raises:
        UsageError: the name or ``on`` is not valid, or a column beside the scores has the name.
    """
    if not re.fullmatch(r"[\w-]+", name) or name in _COLUMNS.split():
        raise UsageError(f"A metric cannot be called {name!r}: choose another name.")

    def decorate(compute: F) -> F:
        origin = _origin(sys._getframe(1).f_globals["__name__"])
        fields = {"name": name, "compute": compute, "on": on, "origin": origin}
        METRICS.add(name, _card(MetricCard, "metric", fields), origin)
        return compute

    return decorate


def register_report(name: str) -> Callable[[F], F]:
    """Register a function that makes a report.

    It takes ``(findings)``: the runs, the paper, and the verdicts that follow from them
    (`harness.paper.findings.Findings`). If it has a parameter ``pictures``, it also gets the images
    to show (`harness.report.crops.Pictures`). It returns a `harness.report.table.Table` or another
    object that implements `harness.report.table.Report`, or a list of these.

    Raises:
        TypeError: the function takes other arguments.
    """

    def decorate(function: F) -> F:
        _require_report_arguments(function)
        REPORTS.add(name, function, _origin(sys._getframe(1).f_globals["__name__"]))
        return function

    return decorate


def _require_report_arguments(function: Callable[..., Any]) -> None:
    call = signature(function)
    options = {"pictures": None} if "pictures" in call.parameters else {}
    try:
        call.bind(None, **options)
    except TypeError as error:
        raise TypeError(f"register_report() got a function that takes {call}") from error


def register_paper(name: str, path: Path | str) -> None:
    """Register the TOML file of a paper; see docs/papers.md.

    Args:
        name: the paper's name on the command line, which ``--paper`` takes.
        path: the file; a relative path is relative to the plug-in's file.

    Raises:
        UsageError: the name means something else there: it is ``none`` or ends in ``.toml``.
    """
    if name == "none" or name.endswith(".toml"):
        raise UsageError(f"A paper cannot be called {name!r}: choose another name.")
    module = sys._getframe(1).f_globals["__name__"]
    PAPERS.add(name, _source(module).parent / path, _origin(module))


def register_judge(function: F) -> F:
    """Register a function that judges claims; a paper names it as ``module:function``.

    The module of a plug-in file is the file's name without ``.py``. The function takes
    ``(findings, claim)``, and the claim's options by name; it returns a verdict, a sentence, and
    if it likes the ids of runs.
    """
    module = sys._getframe(1).f_globals["__name__"]
    called = _source(module).stem if module.startswith(_FILE_PREFIX) else module
    JUDGES.add(f"{called}:{function.__name__}", function, _origin(module))
    return function


def load_plugins(files: Sequence[Path] = ()) -> None:
    """Import the built-in networks, every installed plug-in, and the given files.

    An installed plug-in that fails disables only itself, and `FAILURES` has the reason. `clashes`
    lists the names that plug-ins cannot use.

    Raises:
        HarnessError: the built-in networks are not installed.
        UsageError: a given file is missing, fails, or registers the name of a built-in.
    """
    MODELS.load_built_ins()
    for entry in entry_points(group=GROUP):
        # Earlier versions of the harness registered their own networks as a plug-in.
        if entry.dist is None or entry.dist.name != DISTRIBUTION:
            _guarded(entry.value, partial(_with_settings, entry.value, entry.load))
    for path in files:
        try:
            regular(path, TEXT)
        except FileNotFoundError:
            beside = [one.name for one in path.parent.glob("*.py")]
            near = difflib.get_close_matches(path.name, beside, 1)
            hint = f"did you mean {path.with_name(near[0])}?" if near else "correct the path."
            raise UsageError(f"There is no plug-in file {path}: {hint}") from None
        except OSError as error:
            raise UsageError(f"The plug-in file {path} cannot be read ({error}).") from error
        name = str(path)
        _guarded(name, partial(_with_settings, name, partial(_import_file, path)))
        if reason := FAILURES.pop(name, None):
            raise UsageError(f"The plug-in {name} cannot be loaded ({reason}): correct the file.")


def models_by_file() -> dict[Path, list[str]]:
    """List the models of each ``--plugin`` file that registered some."""
    found: dict[Path, list[str]] = {}
    for name in MODELS:
        if file := FILES.get(MODELS.origin(name)):
            found.setdefault(file, []).append(name)
    return found


def without_entries(files: Iterable[Path]) -> list[Path]:
    """Return those of the ``--plugin`` files that registered nothing."""
    known = {file.resolve() for file in FILES.values()}
    return [file for file in files if file.resolve() not in known]


def clashes() -> list[Clash]:
    """List the names of all kinds that plug-ins registered but cannot use."""
    return [clash for registry in _ALL for clash in registry.clashes()]


class _NameTakenError(UsageError):
    """A plug-in file that the user chose registers the name of a built-in."""


def _guarded(name: str, load: Callable[[], object]) -> None:
    """Load a plug-in; if that fails, remove what it registered and keep the reason."""
    before = [registry.snapshot() for registry in _ALL]
    try:
        load()
        FAILURES.pop(name, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # plug-in code may raise anything
        for registry, entries in zip(_ALL, before, strict=True):
            registry.restore(entries)
        if isinstance(error, _NameTakenError):
            raise
        FAILURES[name] = sentence(error).removesuffix(".") + (
            _meant(error) or _change_behind(error)
        )


def _meant(error: BaseException) -> str:
    """Say which argument of a ``register_*`` function was meant; empty if none is near."""
    # From Python 3.13 on, the error itself ends with what was meant.
    match = re.match(r"(register_\w+)\(\) got an unexpected .* argument '(\w+)'$", str(error))
    function = globals().get(match[1]) if match else None
    near = near_names(match[2], signature(function).parameters)[:1] if match and function else ()
    return "".join(f"; did you mean {name}?" for name in near)


def _change_behind(error: BaseException) -> str:
    """Say which change of the harness an error of a plug-in may come from; empty if from none."""
    if isinstance(error, ImportError):
        quoted = "".join(str(error).split("'")[1:2])  # after: No module named, cannot import name
        names = {quoted, f"{error.name}.{quoted}"}
    else:
        names = {str(error).partition("()")[0]}
    for version, changes in CHANGES.items():
        for name in names & changes.keys():
            return f"; since {version} {changes[name]}"
    return ""


def _with_settings(name: str, load: Callable[[], object]) -> None:
    """Load a plug-in, and restore the global torch settings that it changes."""
    from harness.global_state import settings_guarded

    with settings_guarded(SETTINGS.setdefault(name, set())):
        load()


def _import_file(path: Path) -> ModuleType:
    path_hash = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"{_FILE_PREFIX}{path.stem}_{path_hash}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise HarnessError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    beside = str(path.resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # last, so that no file in it hides an installed package
    before, known = clashes(), _plugin_origins()
    spec.loader.exec_module(module)
    _require_modules_beside(path.resolve())
    FILES.update(dict.fromkeys(_plugin_origins() - known, path))
    taken = [clash for clash in clashes() if clash.built_in and clash not in before]
    if taken:
        raise _NameTakenError(str(taken[0]))
    return module


def _require_modules_beside(path: Path) -> None:
    """Refuse a plug-in that imported another module than the one of that name beside it.

    Python loads one module of a name: the other may be installed, or be another plug-in's.

    Raises:
        HarnessError: there is such a module.
    """
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
            loaded = getattr(sys.modules.get(top), "__file__", None)
            beside = [path.parent / f"{top}.py", path.parent / top / "__init__.py"]
            beside = [file for file in beside if file.is_file() and file != path]
            if loaded and beside and Path(loaded).resolve() not in (f.resolve() for f in beside):
                raise HarnessError(
                    f"it imports {top} from {loaded} and not from {beside[0]}: rename one, or load "
                    "the plug-ins of two folders in two commands"
                )


def _plugin_origins() -> set[str]:
    """The modules and files of plug-ins that registered something."""
    entries = (by_origin for one in _ALL for by_origin in one.snapshot().values())
    return {origin for by_origin in entries for origin in by_origin}


def function_of_plugin(name: str) -> Judge:
    """Return a function that a paper names as ``module:function``.

    Nothing is imported for it, and only what `register_judge` was called on is found.

    Raises:
        UsageError: no plug-in that is loaded registered it, or several did.
    """
    JUDGES.load_built_ins()
    try:
        return JUDGES.get(name)
    except UsageError as error:
        raise UsageError(f"{error} A plug-in registers one with register_judge.") from None


def declare_package(package: str) -> None:
    """Register the models of all modules of a package without importing the modules.

    The ``@register_model`` lines are read from the source, so that listing does not import torch;
    a module is imported when one of its networks is built. The arguments must be literals.
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
                fields["name"] = ast.literal_eval(call.args[0])
                _add_model({**fields, "build": partial(_build, module, node.name)}, module, path)


def _build(module: str, function: str, *args: Any, **kwargs: Any) -> Any:
    """Import a module, and build a network with one of its functions."""
    return getattr(importlib.import_module(module), function)(*args, **kwargs)
