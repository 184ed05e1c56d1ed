"""Re-scores a run, or two images, under other conventions, and says which gives a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.benchmarks import select
from harness.data.images import read_image
from harness.errors import HarnessError, UsageError
from harness.models.inference import pick_device
from harness.protocol.conventions import OWN, Convention, Pair, Rescored, rescore
from harness.protocol.protocols import (
    Protocol,
    colour_image,
    crop_to_multiple,
    hr_image,
    protocol,
)
from harness.run.evaluate import Run
from harness.run.plan import Request, plan
from harness.run.upscaling import Upscaled, upscale, upscaler
from harness.specs import finite_mean

if TYPE_CHECKING:
    from harness.data.identify import BenchmarkImage
    from harness.protocol.conventions import Scores
    from harness.specs import Border, ByteArray, GreyRule, RunRecord

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
    conventions: Sequence[Convention],
    device: str,
    told: Callable[[str], None],
) -> list[Rescored]:
    """Make a run's images anew and score them under other conventions.

    They are also made under the other grey rule, where the set has grey images, with the other
    border of imresize and with LR images or luma that are (not) rounded, and then scored in the
    run's own way.

    Args:
        record: of the run.
        run: what `rebuild` gives for it.
        conventions: those to be tried; those that leave too little of an image are not.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.
        told: hears what is being made, and whether the record's mean was met.
    """
    device, images = pick_device(device), run.benchmark.images
    scale, own = run.rules.scale, _own(run.rules)
    shortest = min(side - side % scale for image in images for side in image.size)
    usable = [own, *(c for c in conventions if c != own and c.fits(shortest, scale))]
    told(f"Making {len(images)} images.")
    scores = _rescored(run, images, usable, device)
    found = [_mean(scores, convention, scale, own=convention == own) for convention in usable]
    psnr = record.means["psnr"]
    if found[0].psnr != psnr and not abs(found[0].psnr - psnr) <= SAME:
        told(
            f"Note: the record says {psnr:.4f} dB, and its images made anew give "
            f"{found[0].psnr:.4f} dB: the code, the set or the machine is another."
        )
    grey = [image for image in images if read_image(image.path).pixels.ndim == 2]
    for said, rules in _alternatives(run.rules):
        changed = images if rules.grey == run.rules.grey else grey
        if changed:
            told(f"Making {len(changed)} images again with {said}.")
            way = _own(rules)
            again = _rescored(replace(run, rules=rules), changed, [way], device)
            found.append(_mean(scores | again, way, scale, said))
    return found


def explain_images(
    sr_path: Path, hr_path: Path, scale: int, conventions: Sequence[Convention]
) -> list[Rescored]:
    """Score two image files under the conventions; grey ones under both grey rules.

    Raises:
        HarnessError: a file cannot be read, or is too small.
        UsageError: the two are not of one kind and size.
    """
    sr, hr = (crop_to_multiple(read_image(path).pixels, scale) for path in (sr_path, hr_path))
    if sr.ndim == 3 and hr.ndim == 2:  # what a network on RGB made of a grey image
        hr = hr_image(hr, Protocol("rgb", scale, grey="as-rgb"))
    if sr.shape != hr.shape:
        raise UsageError(
            f"{sr_path} and {hr_path} are {_shape(sr)} and {_shape(hr)} once cut to multiples of "
            f"{scale}: name an SR image and its HR image."
        )
    own = OWN["rgb"]
    # A grey picture has one channel, whatever is asked for.
    fitting = [c for c in conventions if c.fits(min(sr.shape[:2]), scale)]
    usable = [c for c in fitting if sr.ndim == 3 or c.channel == own.channel]
    if own not in usable:
        raise HarnessError(f"{sr_path} is too small to be scored: it is {_shape(sr)}.")
    scores = rescore(Pair(sr, hr), usable, scale)
    found = [_mean({"": scores}, one, scale, own=one == own) for one in usable]
    if sr.ndim == 2:
        rules = Protocol("rgb", scale, grey="as-rgb")
        colour = Pair(hr_image(sr, rules), hr_image(hr, rules))
        found.append(_mean({"": rescore(colour, [own], scale)}, own, scale, "grey as-rgb"))
    return found


def _rescored(
    run: Run, images: Sequence[BenchmarkImage], conventions: Sequence[Convention], device: str
) -> dict[str, Scores]:
    """The scores of a run's images, by name."""

    def scored(made: Upscaled) -> tuple[str, Scores]:
        pair = Pair(made.sr, made.sample.hr)
        if run.rules.pipeline == "y":
            pixels = made.loaded.pixels
            sr, hr = colour_image(made.sr, pixels, run.rules), hr_image(pixels, run.rules)
            pair = Pair(sr, hr, luma=(made.sr, made.sample.hr))
        return made.image.name, rescore(pair, conventions, run.rules.scale)

    return dict(upscale(run, images, upscaler(run, device), scored))


def _own(rules: Protocol) -> Convention:
    """How a run under the rules is scored: luma that was never rounded is compared as it is."""
    return OWN["rgb" if rules.float_y else rules.pipeline]


def _alternatives(rules: Protocol) -> list[tuple[str, Protocol]]:
    """The rules that make other pictures of the same set, and what they are called."""
    grey: GreyRule = "as-rgb" if rules.grey == "full-range" else "full-range"
    border: Border = "symmetric" if rules.border == "replicate" else "replicate"
    others = [
        (f"grey {grey}", replace(rules, grey=grey)),
        (f"imresize border {border}", replace(rules, border=border)),
    ]
    if rules.pipeline == "rgb":
        rounded = "rounded" if rules.float_lr else "not rounded"
        others.append((f"LR images {rounded}", replace(rules, float_lr=not rules.float_lr)))
    else:
        rounded = "rounded" if rules.float_y else "not rounded"
        others.append((f"luma {rounded}", replace(rules, float_y=not rules.float_y)))
    return others


def _mean(
    scores: Mapping[str, Scores],
    convention: Convention,
    scale: int,
    made: str = "",
    own: bool = False,
) -> Rescored:
    psnr, ssim = (
        finite_mean([one[convention][place] for one in scores.values()]) for place in (0, 1)
    )
    return Rescored(convention, scale, psnr, ssim, made, own)


def _shape(image: ByteArray) -> str:
    kind = "grey" if image.ndim == 2 else "colour"
    return f"{kind}, {image.shape[1]} x {image.shape[0]}"
