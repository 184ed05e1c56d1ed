"""Names of the sets and checkpoints of runs, where several would have the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.models.published import publication
from harness.models.weights import OWN_TAGS
from harness.record import digest
from harness.registry import is_glob
from harness.text import listed

if TYPE_CHECKING:
    from harness.record import RunRecord


def set_names(records: Iterable[RunRecord]) -> dict[tuple[int, str, str], str]:
    """The display name of each set; the keys are scale, name and hash.

    If several sets have the same name, digits of their hash are added. The set with the published
    pixels keeps its name.
    """
    records = list(records)
    verified = {set_of(record): record.verified for record in records}
    names = [(scale, name) for scale, name, _ in verified]
    return {
        (scale, name, sha256): (
            name if published or names.count((scale, name)) == 1 else f"{name}-{sha256[:8]}"
        )
        for (scale, name, sha256), published in verified.items()
    }


def set_of(record: RunRecord) -> tuple[int, str, str]:
    """The scale, name and hash of a run's set."""
    identity = record.identity
    return identity.scale, identity.dataset, identity.dataset_sha256


Checkpoint = tuple[str, int, str]
"""A model, its scale, and a hash that tells its weights from others."""


def checkpoint_of(record: RunRecord) -> Checkpoint:
    """The model and the scale of a run, with the hash of its weights; empty without weights.

    Published images have no weights: those published together, or those of unknown origin in one
    folder, count as of one checkpoint.
    """
    identity = record.identity
    weights = identity.weights_sha256 or ""
    if identity.sr_sha256:
        known = publication(identity)
        weights = digest(known["commit"] if known else record.provenance.get("sr_images", ""))
    return identity.model, identity.scale, weights


def all_tags(records: Iterable[RunRecord]) -> dict[Checkpoint, list[str]]:
    """The tags of each checkpoint; the first one names it in tables. Those of images: ``images``.

    The first tag is ``official`` or ``repro`` if a run has it, else that of the newest run; if
    several checkpoints of a model have the same first tag, in any case of letters, digits of their
    hash are added. All other tags that the runs have follow: the values of a checkpoint may lie in
    several files.
    """
    found: dict[Checkpoint, list[str]] = {}
    for record in sorted(records, key=lambda one: one.provenance.get("utc", ""), reverse=True):
        tag = "images" if record.identity.sr_sha256 else record.tag
        found.setdefault(checkpoint_of(record), []).append(tag)
    first = {key: min(tags, key=lambda tag: tag not in OWN_TAGS) for key, tags in found.items()}
    count = Counter((model, scale, tag.lower()) for (model, scale, _), tag in first.items())
    names = {}
    for (model, scale, sha256), tag in first.items():
        name = tag if count[model, scale, tag.lower()] == 1 else f"{tag}-{sha256[:8]}"
        names[model, scale, sha256] = [*dict.fromkeys([name, *found[model, scale, sha256]])]
    return names


def checkpoints_called(word: str, tags: Mapping[Checkpoint, Sequence[str]]) -> list[Checkpoint]:
    """The checkpoints that a name such as ``mine:a``, or a glob, stands for, in any case.

    Args:
        word: the name; what stands in tables comes before another tag, and a ``+`` at the end
            does not matter.
        tags: see `all_tags`.

    Raises:
        UsageError: a name that is no glob stands for several checkpoints of one scale.
    """
    pattern, found = word.rstrip("+").lower(), list[Checkpoint]()

    def is_called(checkpoint: Checkpoint, tag: str) -> bool:
        return tag != "" and fnmatchcase(f"{checkpoint[0]}:{tag}".lower(), pattern)

    for scale in dict.fromkeys(scale for _, scale, _ in tags):
        of_scale = {checkpoint: own for checkpoint, own in tags.items() if checkpoint[1] == scale}
        every = [one for one, own in of_scale.items() if any(is_called(one, tag) for tag in own)]
        first = [one for one in every if is_called(one, tags[one][0])]
        chosen = every if is_glob(word) else first or every
        if len(chosen) > 1 and not is_glob(word):
            names = [f"{one[0]}:{tags[one][0]}" for one in chosen]
            raise UsageError(
                f"{word!r} stands for {len(names)} checkpoints: name one of {listed(names)}."
            )
        found += chosen
    return found
