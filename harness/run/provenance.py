"""The provenance of a run: software, source, machine, numerics."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.testsets import grey_images
from harness.models.source import is_built_in
from harness.protocol.rules import USUAL_GREY, Protocol, protocol
from harness.record import digest, file_digest
from harness.registry import METRICS, MODELS
from harness.text import listed

if TYPE_CHECKING:
    from harness.cards import Preset
    from harness.record import RunRecord

_PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "pillow", "safetensors", "drfn-harness")


def packages() -> dict[str, str | None]:
    """Versions of the packages that can change a score."""
    return {name: _version(name) for name in _PACKAGES}


def provenance(device: str, changed: Collection[str] = ()) -> dict[str, Any]:
    """The provenance for a run record.

    Args:
        device: the torch device of the run.
        changed: torch settings that the network's code changed and the harness restored.
    """
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "utc": _now(),
        "packages": packages(),
        "harness_sha256": source_digest(),
        "git": _git(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu(),
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "tf32": {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.allow_tf32,
        },
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        **({"changed_settings": sorted(changed)} if changed else {}),
    }


_ORIGIN = ("packages", "harness_sha256", "python", "os", "cpu", "gpu", "cuda", "cudnn")
"""What decides the last bits of a score; the harness sets TF32 and cuDNN's flags itself."""


def same_origin(record: RunRecord, device: str) -> bool:
    """Whether a record was made with this machine's hardware and this process's software."""
    here = provenance(device)
    return all(record.provenance.get(name) == here[name] for name in _ORIGIN)


def foreign_origin(record: RunRecord) -> str:
    """Name the foreign code that a run used under the name of a built-in model or metric.

    Empty where there is none. Such a run is not compared with printed numbers.
    """
    for name, facts in record.plugins.items():
        registry = MODELS if name == record.identity.model else METRICS
        if registry.is_built_in(name) and not is_built_in(facts):
            file = facts.get("module", facts.get("file", "an unknown file"))
            installed = facts.get("distribution")
            return f"{file} ({installed})" if installed else file
    return ""


def grey_images_of(record: RunRecord) -> frozenset[str] | None:
    """Return the names of the grey images of a run's set; None where they are not known.

    Records of earlier versions do not name them; those of published images are known anyway.
    """
    named = record.provenance.get("grey_images")
    if named is not None:
        return frozenset(named)
    return grey_images().get(record.identity.dataset) if record.verified else None


def command(
    record: RunRecord, *, datasets: Sequence[str] = (), all_rules_of: Preset | None = None
) -> str:
    """Write the ``harness run`` command that repeats a run, for the working folder of that run.

    `requirements` says what it needs.

    Args:
        record: the run.
        datasets: other sets to run on.
        all_rules_of: run under all rules in use of a table with this preset, instead of under the
            run's own.

    Raises:
        UsageError: the record names a protocol that this harness does not know.
    """
    identity, weights, facts = record.identity, record.weights, record.provenance
    rules, file = protocol(identity.protocol), weights_file(record)
    metrics = identity.metrics[2:]
    if all_rules_of:
        # No border concerns published images.
        border = rules.border if identity.sr_sha256 else all_rules_of.border
        rules = Protocol(rules.pipeline, rules.scale, border)
        metrics = tuple(name for name in metrics if name != "ssim-whole")  # is one of these rules
    model = f"{identity.model}:{weights.tag}" if weights and not file else identity.model
    if identity.sr_sha256:
        model += f"={facts.get('sr_images', 'FOLDER')}"
    elif "checkpoint" in facts:
        model, file = f"{model}={file}", ""
    sets = ",".join(datasets or [identity.dataset])
    words = ["harness", "run", "--models", model, "--datasets", sets]
    options = {
        "--weights": (file and f"{identity.model}={file}", ""),
        "--weights-key": (facts.get("weights_key", ""), ""),
        "--scale": (rules.scale, 4),
        "--grey": (rules.grey, USUAL_GREY[rules.pipeline]),
        "--border": (rules.border, "replicate"),
        "--tile": (identity.tile, None),
        "--data-root": (facts.get("data_root", ""), ""),
    }
    for option, (value, default) in options.items():
        if value != default:
            words += [option, str(value)]
    words += ["--self-ensemble"] * identity.self_ensemble + ["--float-lr"] * rules.float_lr
    words += ["--float-y"] * rules.float_y + ["--all-rules"] * bool(all_rules_of)
    if identity.lr_sha256:
        words += ["--lr-images", facts.get("lr_images", "DIR")]
    for metric in metrics:
        words += ["--metric", metric]
    for plugin in plugin_files(record):
        words += ["--plugin", plugin]
    return shlex.join(words)


def weights_file(record: RunRecord) -> str:
    """Return the weights file that the user gave for a run; empty if there is none."""
    weights = record.weights
    named = weights.file if weights and weights.tag == "file" else ""
    return str(record.provenance.get("weights_file", named))


def plugin_files(record: RunRecord) -> list[str]:
    """List the ``--plugin`` files that a run needs."""
    files = [facts["file"] for facts in record.plugins.values() if "file" in facts]
    return list(dict.fromkeys(files))


def distributions(record: RunRecord) -> list[str]:
    """List the distributions beside the harness that a run's code comes from, as ``name version``.

    They are those of installed plug-ins, and those that plug-ins import.
    """
    found = set[str]()
    for facts in record.plugins.values():
        if not is_built_in(facts):
            found |= {facts["distribution"]} if "distribution" in facts else set()
        found |= {f"{name} {version}" for name, version in facts.get("packages", {}).items()}
    return sorted(found)


def requirements(record: RunRecord) -> str:
    """Say what `command` needs beside the harness, published test sets and installed weights.

    Empty if it needs nothing.
    """
    identity, installed = record.identity, distributions(record)
    given = [*plugin_files(record), weights_file(record), record.provenance.get("lr_images", "")]
    if "sr_images" in record.provenance:
        given.append(f"the SR images in {record.provenance['sr_images']}")
    if not record.verified and identity.dataset not in record.plugins:
        given.append(f"the images of {identity.dataset}")
    groups = [f"{listed(installed)} installed" if installed else "", listed([*filter(None, given)])]
    needs = ", and ".join(filter(None, groups))
    return f"You need {needs}." if needs else ""


def plugin_of(record: RunRecord, name: str) -> str:
    """Say which plug-in a model or a set of a run comes from, and how to load it."""
    facts = record.plugins.get(name, {})
    if "file" in facts:
        return f"it comes from the plug-in {facts['file']}: add --plugin {facts['file']}."
    if "distribution" in facts:
        return f"it comes from the plug-in {facts['distribution']}: install it."
    return "add --plugin FILE with the plug-in that registers it."


def joint(origins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance of a run that several machines carried out.

    Args:
        origins: the result of `provenance` on each machine.

    Returns:
        the common facts; where they differ, the list of the different values.
    """
    facts = {}
    for key in dict.fromkeys(key for origin in origins for key in origin):
        values = [origin[key] for origin in origins if key in origin]
        different = [v for place, v in enumerate(values) if v not in values[:place]]
        facts[key] = values[0] if len(different) == 1 else different
    return facts | {"utc": _now()}


def _now() -> str:
    # Finer than seconds, since of two checkpoints the one that ran last is shown.
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def source_digest() -> str:
    """Hash of this package's Python files, the same for a checkout and an installed copy.

    Files of the networks are excluded: they are elsewhere in a checkout and have their own hashes.
    """
    root = Path(__file__).parents[1]
    files = sorted(path for path in root.rglob("*.py") if root / "baselines" not in path.parents)
    return digest([(path.relative_to(root).as_posix(), file_digest(path)) for path in files])


def _git() -> dict[str, Any] | None:
    """Commit of the checkout and whether it has changes; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Ignore untracked files, such as pictures.
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    """The name of the processor, from /proc/cpuinfo if it is there."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
