"""Make run records for tests of code that reads records."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from harness.data.pinned import pinned_rows
from harness.record import Execution, Identity, ImageResult, RunRecord, WeightsInfo
from harness.run.store import _row


def record(
    model: str,
    dataset: str = "set14",
    psnr: Sequence[float] = (27.0, 28.0),
    *,
    ssim: float = 0.8,
    whole: float | None = None,
    scale: int = 4,
    protocol: str = "",
    tag: str = "official",
    weights: str | None = "",
    hyper: Mapping[str, object] | None = None,
    self_ensemble: bool = False,
    images: str = "the images",
) -> RunRecord:
    """A finished run with one PSNR per image; ``whole`` is an SSIM.

    ``weights`` is their hash: by default the tag, and the hash ``official`` is that of the authors'
    weights of every network in tests, see `authors_of_tests`.
    """
    weights = tag if weights == "" else weights
    scores = {"ssim": ssim} | ({} if whole is None else {"ssim-whole": whole})
    identity = Identity(
        model,
        scale,
        dataset,
        protocol or f"BI-x{scale}/y",
        "source",
        "rules",
        images,
        1,
        weights,
        dict(hyper or {}),
        self_ensemble,
        metrics=("psnr", *scores),
    )
    results = [
        ImageResult(f"img_{place:03}", {"psnr": value, **scores}, 0.1)
        for place, value in enumerate(psnr)
    ]
    info = WeightsInfo(tag, "w.mat", "file", weights) if weights else None
    provenance = {"utc": "2026-01-01"}
    done = (identity, "finished", tuple(results), Execution("cpu", 1), provenance, info)
    return RunRecord(*done, verified=True)


def authors_of_tests(model: str) -> dict[str, str]:
    """A row of the pinned weights: those with the hash ``official`` are by the authors."""
    row = dict.fromkeys(pinned_rows("weights")[0], "")
    return row | {"model": model, "scales": "2 3 4", "tensors_sha256": "official"}


def with_metric(run: RunRecord, name: str, values: Sequence[float]) -> RunRecord:
    """Add one metric to a run."""
    images = tuple(
        replace(image, scores={**image.scores, name: value})
        for image, value in zip(run.images, values, strict=True)
    )
    identity = replace(run.identity, metrics=(*run.identity.metrics, name))
    return replace(run, identity=identity, images=images)


def frame(*records: RunRecord) -> pd.DataFrame:
    """The data frame that `Records.table` makes of these records."""
    return pd.DataFrame([_row(one) for one in records] or None)
