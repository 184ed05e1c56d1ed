"""Re-scores a run, or two images, under other conventions, and says which gives a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.data.images import read_image
from harness.data.testsets import select
from harness.errors import HarnessError, UsageError
from harness.models.network import pick_device
from harness.protocol.conventions import (
    OWN,
    ClaimedNumbers,
    Convention,
    Pair,
    Rescored,
    distinct,
    rescore,
)
from harness.protocol.protocols import (
    Protocol,
    colour_image,
    crop_to_multiple,
    hr_image,
    protocol,
)
from harness.record import finite_mean
from harness.run.evaluate import Upscaled, upscale, upscaler
from harness.run.plan import Request, plan
from harness.run.spec import Run

if TYPE_CHECKING:
    from harness.cards import Border, ByteArray, GreyRule
    from harness.data.identify import SetImage
    from harness.models.upscaler import Upscaler
    from harness.protocol.conventions import Scores
    from harness.record import RunRecord

SAME = 1e-4
"""PSNR (dB) to which a run made anew must give what its record says."""


def rebuild(
    record: RunRecord, weights: Path | None, data_root: Path | None, weights_key: str = ""
) -> Run:
    """The run that a record tells of, ready to be carried out again.

    Args:
        record: of a finished run.
        weights: the file of its weights, where they are not installed.
        data_root: searched for its set first.
        weights_key: where in that file they are; empty to look for them.

    Raises:
        HarnessError: its set or weights are not on this machine.
        UsageError: its model or set is not known here.
    """
    identity = record.identity
    if identity.lr_sha256:
        raise HarnessError(
            f"The run {identity.id[:12]} was made with given LR images, which explain does not "
            "look for: name an SR image and its HR image instead."
        )
    _require_found(identity.dataset, data_root)
    rules = protocol(identity.protocol)
    tag = f":{record.weights.tag}" if record.weights and not weights else ""
    request = Request(
        [identity.model + tag],
        [identity.dataset],
        identity.scale,
        rules.grey,
        rules.border,
        rules.float_lr,
        rules.float_y,
        identity.self_ensemble,
        identity.tile,
        {identity.model: weights} if weights else {},
        data_root=data_root,
        strict=True,
        weights_key=weights_key,
    )
    made = plan(request)
    if not made.runs:
        raise HarnessError(made.problems[0])
    run = made.runs[0]
    if record.weights and run.identity.weights_sha256 != identity.weights_sha256:
        raise HarnessError(
            f"The weights of {identity.model} found here are not those of the run: give the run's "
            f"file, {record.weights.file}, with --weights."
        )
    return run


def _require_found(dataset: str, data_root: Path | None) -> None:
    """Raise an error that says how to name the folder of a user's own set."""
    try:
        select([dataset], data_root)
    except UsageError as error:
        raise UsageError(
            f"The test set {dataset} of this run is not found: give the folder that contains it "
            "with --data-root."
        ) from error


def explain_run(
    record: RunRecord,
    run: Run,
    claim: ClaimedNumbers,
    device: str,
    told: Callable[[str], None],
    *,
    every: bool = False,
) -> list[Rescored]:
    """Make a run's images anew and score them under the conventions that matter to a claim.

    Where none of them gives what is claimed, the images are also made in every other way: with the
    other border of imresize, with LR images or luma that are (not) rounded, under the other grey
    rule where the set has grey images, and all combinations of these.

    Args:
        record: of the run.
        run: what `rebuild` gives for it.
        claim: the number to be explained.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        told: hears what is being made, and whether the record's mean was met.
        every: make the images in every way in any case.

    Returns:
        one result for each number that is given.
    """
    images = run.image_set.images
    grey = [image for image in images if read_image(image.path).pixels.ndim == 2]
    own, *others = _ways(run.rules, grey=bool(grey))
    network, conventions = upscaler(run, pick_device(device)), _usable(run, claim.conventions)

    def score(way: _Way, some: Sequence[SetImage]) -> dict[str, Scores]:
        made = f" with {', '.join(way.made)}" if way.made else ""
        told(f"Making {len(some)} image{'s' * (len(some) > 1)}{made}.")
        return _rescored(replace(run, rules=way.rules), some, conventions, network)

    scored = {own.rules: score(own, images)}
    found = _means(scored[own.rules], conventions, own)
    _compare(found, record, told)
    # Only grey images look otherwise under the other grey rule.
    todo = [(way, grey if way.rules.grey != run.rules.grey else images) for way in others]
    total = f"in {len(todo)} other ways ({sum(len(some) for _, some in todo)} images)"
    if not every and (claim == ClaimedNumbers() or any(map(claim.met_by, found))):
        told(f"To make them {total} as well, give --all.")
        return distinct(found)
    told(f"Making them {total}.")
    for way, some in todo:
        known = scored.get(replace(way.rules, grey=run.rules.grey), {})
        scored[way.rules] = known | score(way, some)
        found += _means(scored[way.rules], conventions, way)
    return distinct(found)


def explain_images(
    sr_path: Path, hr_path: Path, scale: int, conventions: Sequence[Convention]
) -> list[Rescored]:
    """Score two image files under the conventions; grey ones under both grey rules.

    Returns:
        one result for each number that is given.

    Raises:
        HarnessError: a file cannot be read, or is too small.
        UsageError: the two are not of one kind and size.
    """
    sr, hr = (crop_to_multiple(read_image(path).pixels, scale) for path in (sr_path, hr_path))
    as_rgb = Protocol("rgb", scale, grey="as-rgb")
    if sr.ndim == 3 and hr.ndim == 2:  # what a network on RGB made of a grey image
        hr = hr_image(hr, as_rgb)
    if sr.shape != hr.shape:
        raise UsageError(
            f"{sr_path} and {hr_path} are {_shape(sr)} and {_shape(hr)} once cut to multiples of "
            f"{scale}: name an SR image and its HR image."
        )
    usable = [one for one in conventions if one.fits(min(sr.shape[:2]), scale)]
    if OWN["rgb"] not in usable:
        raise HarnessError(f"{sr_path} is too small to be scored: it is {_shape(sr)}.")
    found = _means({"": rescore(Pair(sr, hr), usable, scale)}, usable, _Way(as_rgb))
    if sr.ndim == 2:
        colour = Pair(hr_image(sr, as_rgb), hr_image(hr, as_rgb))
        way = _Way(as_rgb, ("grey as-rgb",))
        found += _means({"": rescore(colour, usable, scale)}, usable, way)
    return distinct(found)


class _Way(NamedTuple):
    """A way to make pictures: its rules, and which of them are not the run's."""

    rules: Protocol
    made: tuple[str, ...] = ()


def _ways(rules: Protocol, *, grey: bool) -> list[_Way]:
    """All that make other pictures of the same set, those that change the least first.

    Args:
        rules: of the run.
        grey: the set has grey images.
    """
    other_grey: GreyRule = "as-rgb" if rules.grey == "full-range" else "full-range"
    border: Border = "symmetric" if rules.border == "replicate" else "replicate"
    rounded = "rounded" if rules.float_lr or rules.float_y else "not rounded"
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"imresize border {border}", {"border": border}),
        (f"luma {rounded}", {"float_y": not rules.float_y})
        if rules.pipeline == "y"
        else (f"LR images {rounded}", {"float_lr": not rules.float_lr}),
    ]
    changes += [(f"grey {other_grey}", {"grey": other_grey})] if grey else []
    return [
        _Way(
            replace(rules, **{name: value for _, one in some for name, value in one.items()}),
            tuple(said for said, _ in some),
        )
        for count in range(len(changes) + 1)
        for some in combinations(changes, count)
    ]


def _usable(run: Run, conventions: Sequence[Convention]) -> list[Convention]:
    """Those that leave enough of each image; the run's own does, or it could not be made."""
    scale = run.rules.scale
    shortest = min(side - side % scale for image in run.image_set.images for side in image.size)
    return [one for one in conventions if one.fits(shortest, scale)]


def _rescored(
    run: Run,
    images: Sequence[SetImage],
    conventions: Sequence[Convention],
    network: Upscaler,
) -> dict[str, Scores]:
    """The scores of a run's images, by name."""

    def scored(made: Upscaled) -> tuple[str, Scores]:
        pair = Pair(made.sr, made.sample.hr)
        if run.rules.pipeline == "y":
            pixels = made.loaded.pixels
            sr, hr = colour_image(made.sr, pixels, run.rules), hr_image(pixels, run.rules)
            pair = Pair(sr, hr, luma=(made.sr, made.sample.hr))
        return made.image.name, rescore(pair, conventions, run.rules.scale)

    return dict(upscale(run, images, network, scored))


def _means(
    scores: Mapping[str, Scores], conventions: Sequence[Convention], way: _Way
) -> list[Rescored]:
    """What each convention gives for a set."""
    # Luma that was never rounded is compared as it is.
    usual = OWN["rgb" if way.rules.float_y else way.rules.pipeline]
    found = []
    for one in conventions:
        psnrs, ssims = zip(*(each[one] for each in scores.values()), strict=True)
        psnr, ssim = one.psnr_of_set(psnrs), finite_mean(ssims)
        found.append(Rescored(one, way.rules.scale, psnr, ssim, way.made, usual))
    return found


def _compare(found: Sequence[Rescored], record: RunRecord, told: Callable[[str], None]) -> None:
    """Tell of a record that says another PSNR than its images made anew have."""
    psnr, again = record.means["psnr"], next(one.psnr for one in found if one.own)
    if again != psnr and not abs(again - psnr) <= SAME:
        told(
            f"Note: the record says {psnr:.4f} dB, and its images made anew give "
            f"{again:.4f} dB: the code, the set or the machine is another."
        )


def _shape(image: ByteArray) -> str:
    kind = "grey" if image.ndim == 2 else "colour"
    return f"{kind}, {image.shape[1]} x {image.shape[0]}"
