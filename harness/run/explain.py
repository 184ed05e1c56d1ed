"""Re-score a run or two images under other conventions, to find which gives a claimed number."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.data.images import read_image
from harness.data.testsets import FIRST, folder_called, select
from harness.errors import HarnessError, UsageError
from harness.models.resources import pick_device
from harness.models.weights import OWN_TAGS
from harness.protocol.conventions import (
    OWN,
    ClaimedNumbers,
    Convention,
    Pair,
    Rescored,
    distinct,
    rescore,
)
from harness.protocol.rules import (
    Protocol,
    colour_image,
    crop_to_multiple,
    hr_image,
    lineage,
    protocol,
)
from harness.record import finite_mean
from harness.registry import MODELS
from harness.run.evaluate import Upscaled, upscale, upscaler
from harness.run.plan import plan
from harness.run.provenance import plugin_of, weights_file
from harness.run.request import Request
from harness.run.spec import Run

if TYPE_CHECKING:
    from harness.cards import Border, ByteArray
    from harness.data.identify import SetImage
    from harness.models.upscaler import Upscaler
    from harness.protocol.conventions import Scores
    from harness.record import RunRecord

SAME = 1e-4
"""Largest difference (dB) between a recorded PSNR and that of the repeated run."""


def rebuild(
    record: RunRecord, weights: Path | None, data_root: Path | None, weights_key: str = ""
) -> Run:
    """Rebuild the run of a record, to carry it out again.

    Args:
        record: the record of a finished run.
        weights: the file of its weights, if they are not installed, or the folder of its published
            images.
        data_root: a folder to search first for its set.
        weights_key: the key of the weights in that file; empty to find it.

    Raises:
        HarnessError: its set or weights are not on this machine.
        UsageError: its model or set is unknown, or the model has another pipeline here.
    """
    identity = record.identity
    if identity.lr_sha256:
        raise HarnessError(
            f"The run {identity.id[:12]} was made with given LR images, which explain does not "
            "look for: name an SR image and its HR image instead."
        )
    if identity.sr_sha256 and not (weights and weights.is_dir()):
        raise UsageError(
            f"The run {identity.id[:12]} scored published images: give their folder with --weights."
        )
    dataset, limit = _whole_set(identity.dataset, data_root)
    _require_registered(record, dataset, data_root)
    file = weights_file(record)
    if file and record.weights and record.weights.tag not in OWN_TAGS and not weights:
        raise UsageError(f"This run used the weights file {file}: add --weights {file}.")
    request = _request(record, weights, data_root, weights_key)
    result = plan(replace(request, datasets=[dataset], limit=limit))
    if not result.runs:
        raise HarnessError(result.problems[0])
    run = result.runs[0]
    if run.rules != protocol(identity.protocol):  # the model of a name may have changed
        raise UsageError(
            f"This run follows {identity.protocol}, and here {identity.model} follows "
            f"{run.rules.name}: load the plug-ins that the run had with --plugin."
        )
    if run.identity.sr_sha256 != identity.sr_sha256:
        folder = record.provenance.get("sr_images", "published images")
        raise HarnessError(
            f"The images in {weights} are not those of the run: give its folder, {folder}, with "
            "--weights."
        )
    if record.weights and run.identity.weights_sha256 != identity.weights_sha256:
        raise HarnessError(
            f"The weights of {identity.model} found here are not those of the run: give the run's "
            f"file, {record.weights.file}, with --weights."
        )
    return run


def _request(
    record: RunRecord, weights: Path | None, data_root: Path | None, weights_key: str
) -> Request:
    """The request for the run of a record; the arguments are those of `rebuild`."""
    identity, rules = record.identity, protocol(record.identity.protocol)
    model = identity.model
    tag = f":{record.weights.tag}" if record.weights and not weights else ""
    path: dict[str, Any] = {}
    if weights and identity.sr_sha256:
        path = {"sr_folders": {model: weights}}
    elif weights:
        kind = "checkpoints" if "checkpoint" in record.provenance else "weight_files"
        path = {kind: {model: (weights,)}}
    return Request(
        [] if identity.sr_sha256 else [model + tag],
        [identity.dataset],
        identity.scale,
        rules.grey,
        rules.border,
        rules.float_lr,
        rules.float_y,
        identity.self_ensemble,
        identity.tile,
        data_root=data_root,
        strict=True,
        weights_key=weights_key or (record.provenance.get("weights_key", "") if weights else ""),
        **path,
    )


def _whole_set(dataset: str, data_root: Path | None) -> tuple[str, int | None]:
    """Return the name of the set that a run used, and how many of its images, if not all."""
    first = re.fullmatch(rf"(.+){FIRST}(\d+)", dataset)
    if first and not folder_called(dataset, data_root):
        return first[1], int(first[2])
    return dataset, None


def _require_registered(record: RunRecord, dataset: str, data_root: Path | None) -> None:
    """Refuse a run whose model or test set is not known here, and say how to make it known."""
    model = record.identity.model
    needs_model = not (record.identity.sr_sha256 or "checkpoint" in record.provenance)
    if needs_model and model not in MODELS:
        raise UsageError(
            f"The model {model} of this run is not registered: {plugin_of(record, model)}"
        )
    try:
        select([dataset], data_root)
    except UsageError as error:
        how = (
            plugin_of(record, dataset)
            if dataset in record.plugins
            else "give the folder that contains it with --data-root."
        )
        raise UsageError(f"The test set {dataset} of this run is not found: {how}") from error


def explain_run(
    record: RunRecord,
    run: Run,
    claim: ClaimedNumbers,
    device: str,
    notify: Callable[[str], None],
    *,
    every: bool = False,
) -> list[Rescored]:
    """Make a run's SR images again and score them under the conventions that matter to a claim.

    If no convention gives the claimed number, the images are also made in every other way: with the
    other border of imresize, with LR images or luma (not) rounded, with the other grey rule if the
    set has grey images, and with all combinations of these.

    Args:
        record: the record of the run.
        run: the run, from `rebuild`.
        claim: the number to explain.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        notify: receives a message for each way, and a note if the recorded mean is not reached.
        every: always make the images in every way.

    Returns:
        one result for each distinct number.
    """
    images = run.image_set.images
    grey = [image for image in images if image.name in run.image_set.grey]
    own, *others = _ways(run, grey=bool(grey))
    network = None if run.published else upscaler(run, pick_device(device))
    conventions = _usable(run, claim.conventions)
    doing = "Scoring" if run.published else "Making"

    def score(way: _Way, some: Sequence[SetImage]) -> dict[str, Scores]:
        changes = f" with {', '.join(way.changes)}" if way.changes else ""
        notify(f"{doing} {_count(len(some), 'image')}{changes}.")
        return _rescored(replace(run, rules=way.rules), some, conventions, network)

    started = time.perf_counter()
    scores = {own.rules: score(own, images)}
    per_image = (time.perf_counter() - started) / len(images)
    results = _means(scores[own.rules], conventions, own)
    _compare(results, record, notify)
    # The other grey rule changes grey images only.
    todo = [(way, grey if way.rules.grey != run.rules.grey else images) for way in others]
    if not todo:
        return distinct(results)
    total = sum(len(some) for _, some in todo)
    minutes = total * per_image / 60
    size = _count(total, "image") + f", about {minutes:.0f} min" * (minutes >= 1)
    ways = f"in {_count(len(todo), 'other way')} ({size})"
    if not every and (claim == ClaimedNumbers() or any(map(claim.met_by, results))):
        notify(f"To see them {ways} as well, give --all.")
        return distinct(results)
    notify(f"{doing} them {ways}.")
    for way, some in todo:
        colour_scores = scores.get(replace(way.rules, grey=run.rules.grey), {})
        scores[way.rules] = colour_scores | score(way, some)
        results += _means(scores[way.rules], conventions, way)
    return distinct(results)


def explain_images(
    sr_path: Path, hr_path: Path, scale: int, conventions: Sequence[Convention]
) -> list[Rescored]:
    """Score two image files under the conventions; grey images under both grey rules.

    Returns:
        one result for each distinct number.

    Raises:
        HarnessError: a file cannot be read, or is too small.
        UsageError: the images differ in kind or size.
    """
    sr, hr = (crop_to_multiple(read_image(path).pixels, scale) for path in (sr_path, hr_path))
    as_rgb = Protocol("rgb", scale, grey="as-rgb")
    if sr.ndim == 3 and hr.ndim == 2:  # the SR image of an RGB network for a grey image
        hr = hr_image(hr, as_rgb)
    if sr.shape != hr.shape:
        raise UsageError(
            f"{sr_path} and {hr_path} are {_shape(sr)} and {_shape(hr)} after cropping to "
            f"multiples of {scale}: name an SR image and its HR image."
        )
    usable = [rule for rule in conventions if rule.fits(min(sr.shape[:2]), scale)]
    if OWN["rgb"] not in usable:
        raise HarnessError(f"{sr_path} is too small to be scored: it is {_shape(sr)}.")
    results = _means({"": rescore(Pair(sr, hr), usable, scale)}, usable, _Way(as_rgb))
    if sr.ndim == 2:
        colour = Pair(hr_image(sr, as_rgb), hr_image(hr, as_rgb))
        way = _Way(as_rgb, ("grey as-rgb",))
        results += _means({"": rescore(colour, usable, scale)}, usable, way)
    return distinct(results)


class _Way(NamedTuple):
    """A way to make images: its rules, the changes from those of the run, and who has them."""

    rules: Protocol
    changes: tuple[str, ...] = ()
    lineage: str = ""


def _ways(run: Run, *, grey: bool) -> list[_Way]:
    """All ways to make images of a set, those with the fewest changes first.

    Published images are made, and can only be scored in other ways.

    Args:
        run: the run, which has the usual rules.
        grey: whether the set has grey images.
    """
    rules = run.rules
    other_grey = rules.with_other_grey.grey
    border: Border = "symmetric" if rules.border == "replicate" else "replicate"
    rounded = "rounded" if rules.float_lr or rules.float_y else "not rounded"
    changes: list[tuple[str, dict[str, Any]]] = []
    changes += [] if run.published else [(f"imresize border {border}", {"border": border})]
    if rules.pipeline == "y":
        changes.append((f"luma {rounded}", {"float_y": not rules.float_y}))
    elif not run.published:
        changes.append((f"LR images {rounded}", {"float_lr": not rules.float_lr}))
    changes += [(f"grey {other_grey}", {"grey": other_grey})] if grey else []
    return [
        _Way(
            way := replace(
                rules, **{name: value for _, change in some for name, value in change.items()}
            ),
            tuple(description for description, _ in some),
            "" if run.published else lineage(way, grey=grey),  # unknown how their LR was made
        )
        for count in range(len(changes) + 1)
        for some in combinations(changes, count)
    ]


def _usable(run: Run, conventions: Sequence[Convention]) -> list[Convention]:
    """The conventions whose crop leaves enough of each image; the run's own always does."""
    scale = run.rules.scale
    shortest = min(side - side % scale for image in run.image_set.images for side in image.size)
    return [rule for rule in conventions if rule.fits(shortest, scale)]


def _rescored(
    run: Run,
    images: Sequence[SetImage],
    conventions: Sequence[Convention],
    network: Upscaler | None,
) -> dict[str, Scores]:
    """Make and score a run's images; return the scores by name."""

    def score(done: Upscaled) -> tuple[str, Scores]:
        pair = Pair(done.sr, done.sample.hr)
        if run.rules.pipeline == "y":
            pixels = done.loaded.pixels
            sr, hr = colour_image(done.sr, pixels, run.rules), hr_image(pixels, run.rules)
            pair = Pair(sr, hr, luma=(done.sr, done.sample.hr))
        return done.image.name, rescore(pair, conventions, run.rules.scale)

    return dict(upscale(run, images, network, score))


def _means(
    scores: Mapping[str, Scores], conventions: Sequence[Convention], way: _Way
) -> list[Rescored]:
    """The mean scores of a set under each convention."""
    # Luma that is not rounded is compared directly.
    usual = OWN["rgb" if way.rules.float_y else way.rules.pipeline]
    results = []
    for convention in conventions:
        psnrs, ssims = zip(*(image[convention] for image in scores.values()), strict=True)
        psnr, ssim = convention.psnr_of_set(psnrs), finite_mean(ssims)
        how = way.changes, usual, way.lineage
        results.append(Rescored(convention, way.rules.scale, psnr, ssim, *how))
    return results


def _compare(results: Sequence[Rescored], record: RunRecord, notify: Callable[[str], None]) -> None:
    """Notify the user if the repeated run has another PSNR than the record."""
    psnr, again = record.means["psnr"], next(result.psnr for result in results if result.own)
    if again != psnr and not abs(again - psnr) <= SAME:
        notify(
            f"Note: the record states {psnr:.4f} dB, but the repeated run gives "
            f"{again:.4f} dB: the code, the set or the machine has changed."
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _shape(image: ByteArray) -> str:
    kind = "grey" if image.ndim == 2 else "colour"
    return f"{kind}, {image.shape[1]} x {image.shape[0]}"
