"""Two networks or checkpoints compared: means, differences and intervals, on real records."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.registry import MODELS
from harness.run.store import ResultStore
from tests.conftest import REAL_ROOTS
from tests.records import record, with_metric

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture
def compared(harness) -> Callable[..., list[dict[str, Any]]]:
    """Run ``harness compare`` with the reference records of this project."""

    def call(*words: object) -> list[dict[str, Any]]:
        shown = harness("compare", *words, "--reference", REFERENCE, "--json")
        assert shown.exit_code == 0, shown.output
        return json.loads(shown.stdout)

    return call


def resampled(differences: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a mean, by resampling the images in a few lines of numpy."""
    rng = np.random.default_rng(7)
    picks = rng.integers(0, len(differences), (50_000, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def scores(model: str, tag: str, dataset: str, protocol: str, metric: str) -> np.ndarray:
    """The scores of the images in the first of the reference records that fits."""
    run = next(
        run
        for run in ResultStore(REFERENCE).records()
        if (run.identity.model, run.tag, run.identity.dataset) == (model, tag, dataset)
        and run.identity.protocol == protocol
    )
    return np.array([image.scores[metric] for image in run.images])


@pytest.mark.parametrize(
    ("dataset", "metric"), [("set5", "psnr"), ("set14", "psnr"), ("set14", "ssim")]
)
def test_two_checkpoints_of_a_network_differ_by_their_means(compared, dataset, metric) -> None:
    """FSRCNN with its authors' weights has 30.708 dB on Set5, with those trained here 30.241."""
    a, b = (scores("fsrcnn", tag, dataset, "BI-x4/y", metric) for tag in ("official", "repro"))
    (row,) = (
        row
        for row in compared("fsrcnn:official", "fsrcnn:repro", "--datasets", dataset)
        if row["metric"] == metric
    )
    low, high = resampled(a - b)
    near = 0.02 if metric == "psnr" else 0.0003
    assert (row["mean_a"], row["mean_b"]) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert row["difference"] == pytest.approx((a - b).mean())
    assert (row["low"], row["high"]) == (
        pytest.approx(low, abs=near),
        pytest.approx(high, abs=near),
    )
    assert row["images"] == len(a) and row["verdict"] == "fsrcnn:official is better"


def test_the_other_way_round_the_other_one_is_better(compared) -> None:
    there, back = (
        compared(*words, "--datasets", "b100")[0]
        for words in (("srcnn", "vdsr"), ("vdsr", "srcnn"))
    )
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["verdict"] == back["verdict"] == "vdsr:official is better"


def test_the_same_values_under_two_names_are_equal(compared) -> None:
    a, b = (record("mine", "set5", np.arange(5.0), tag=one, weights=one) for one in "ab")
    for run in (a, b):
        ResultStore(Path("mine")).write(run)
    for row in compared("mine:a", "mine:b", "--results", "mine"):
        assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
        assert row["verdict"] == "equal"
    ResultStore(Path("mine")).write(
        record("mine", "set5", np.arange(5.0)[::-1], tag="c", weights="c")
    )
    row = compared("mine:a", "mine:c", "--results", "mine")[0]
    assert (row["difference"], row["verdict"]) == (0, "no difference shown")


def test_names_are_found_in_any_case(compared) -> None:
    assert {row["a"] for row in compared("VDSR", "FSRCNN:Repro")} == {"vdsr:official"}


def test_a_run_of_the_same_weights_renames_no_checkpoint(compared) -> None:
    """FSRCNN's weights that were trained here, also run from a file same.safetensors."""
    (theirs,) = (
        run
        for run in ResultStore(REFERENCE).records()
        if run.tag == "repro" and (run.identity.model, run.identity.dataset) == ("fsrcnn", "set5")
    )
    assert theirs.weights
    same = replace(
        theirs,
        weights=replace(theirs.weights, tag="same"),
        provenance={"utc": "2999-01-01"},
        identity=replace(theirs.identity, metrics_sha256="0"),
    )
    ResultStore(Path("mine")).write(same)
    for name in ("fsrcnn:repro", "fsrcnn:same"):
        rows = compared(name, "bicubic", "--datasets", "set5", "--results", "mine")
        assert {row["a"] for row in rows} == {"fsrcnn:repro"}
        assert rows[0]["mean_a"] == pytest.approx(30.241, abs=1e-3)


def test_a_name_is_the_checkpoint_of_the_row(compared) -> None:
    assert {row["a"] for row in compared("fsrcnn", "bicubic")} == {"fsrcnn:official"}


def test_networks_on_luma_and_rgb_are_compared_under_one_rule_for_grey_images(compared) -> None:
    (row, _) = compared("drfn", "bicubic", "--datasets", "set14")
    assert (row["protocol_a"], row["protocol_b"]) == ("BI-x4/rgb", "BI-x4/y+as-rgb")
    assert row["images"] == 14


def test_without_one_the_grey_image_is_left_out(compared) -> None:
    a = record("mine", "set14", np.arange(14.0), protocol="BI-x4/rgb", tag="a")
    b = record("other", "set14", np.arange(14.0) - 1, tag="b")
    for run in (a, b):
        ResultStore(Path("mine")).write(run)
    (row, _) = compared("mine", "other", "--results", "mine")
    assert row["images"] == 14 - 1 and row["difference"] == pytest.approx(1)


class TestSeveralTrainings:
    """Three trainings of one network, and bicubic interpolation."""

    SEEDS = np.array([[27.0, 28.0, 30.0], [27.2, 28.1, 30.3], [26.9, 28.0, 29.9]])
    OTHER = np.array([26.0, 27.5, 29.0])

    @pytest.fixture(autouse=True)
    def records(self) -> None:
        for seed, psnr in enumerate(self.SEEDS):
            run = record("mine", "photos", psnr, tag=f"seed{seed}", weights=f"w{seed}")
            ResultStore(Path("mine")).write(with_metric(run, "mae", psnr / 10))
        ensemble = record(
            "mine", "photos", self.SEEDS[0] + 9, tag="seed0", weights="w0", self_ensemble=True
        )
        ResultStore(Path("mine")).write(ensemble)
        other = record("other", "photos", self.OTHER, tag="o", weights="o")
        ResultStore(Path("mine")).write(with_metric(other, "mae", self.OTHER / 10))

    def test_their_mean_and_standard_deviation_are_over_the_weights(self, compared) -> None:
        row = compared("mine:seed*", "other", "--results", "mine")[0]
        means = self.SEEDS.mean(axis=1)
        assert (row["number_a"], row["number_b"], row["sd_b"]) == (3, 1, None)
        assert (row["mean_a"], row["sd_a"]) == (
            pytest.approx(means.mean()),
            pytest.approx(means.std(ddof=1)),
        )
        low, high = resampled(self.SEEDS.mean(axis=0) - self.OTHER)
        assert (row["low"], row["high"]) == (
            pytest.approx(low, abs=0.05),
            pytest.approx(high, abs=0.05),
        )
        assert row["verdict"] == "mine:seed* is better"

    def test_their_number_is_said_on_each_set(self, harness) -> None:
        once = record("mine", "more", self.SEEDS[0], tag="seed0", weights="w0")
        for run in (once, record("other", "more", self.OTHER, tag="o", weights="o")):
            ResultStore(Path("mine")).write(run)
        words = ("compare", "mine:seed*", "other", "--results", "mine", "--reference", REFERENCE)
        shown = harness(*words).stdout
        rows = {line.split("|")[1].strip(): line for line in shown.splitlines() if "| PSNR" in line}
        assert "(3 checkpoints)" in rows["photos"] and "(1 checkpoint)" in rows["more"]

    def test_a_difference_within_their_spread_is_none(self, compared) -> None:
        """On each image, 0.02 dB less than the mean of the three."""
        near = record("near", "photos", self.SEEDS.mean(axis=0) - 0.02, tag="n", weights="n")
        ResultStore(Path("mine")).write(near)
        row = compared("mine:seed*", "near", "--results", "mine")[0]
        assert row["low"] > 0 and row["verdict"] == "no difference shown"

    def test_of_other_metrics_it_is_said_which_is_higher(self, compared) -> None:
        rows = {row["metric"]: row for row in compared("mine:seed1", "other", "--results", "mine")}
        assert rows["mae"]["verdict"] == "mine:seed1 is higher"
        assert rows["psnr"]["verdict"] == "mine:seed1 is better"

    def test_self_ensemble_is_asked_for(self, compared) -> None:
        row = compared("mine:seed0+", "mine:seed0", "--results", "mine")[0]
        assert (row["a"], row["b"]) == ("mine:seed0+", "mine:seed0")
        assert row["difference"] == pytest.approx(9)

    def test_a_name_without_a_tag_says_which_of_them_it_is(self, harness) -> None:
        words = ("compare", "mine", "other", "--results", "mine", "--reference", REFERENCE)
        shown = harness(*words)
        (chosen,) = re.findall(
            r"Note: mine stands for (mine:seed\d); its other checkpoints: ", shown.stderr
        )
        assert f"| {chosen} " in shown.stdout
        words = ("compare", chosen, *words[2:])
        assert "Note: " not in harness(*words).stderr

    def test_an_id_names_one_run(self, compared) -> None:
        (run,) = (r for r in ResultStore(Path("mine")).records() if r.tag == "seed2")
        row = compared(run.identity.id[:12], "other", "--results", "mine")[0]
        assert row["mean_a"] == pytest.approx(self.SEEDS[2].mean())

    def test_few_images_are_said_to_say_little(self, harness) -> None:
        words = ("compare", "mine:seed0", "other", "--results", "mine", "--reference", REFERENCE)
        shown = harness(*words)
        assert "So few images say little" in shown.stdout and "photos (3 images)" in shown.stdout
        tex = harness(*words, "--format", "tex").stdout
        assert tex.count("tabularnewline") == 1 + 3 and r" & Verdict \tabularnewline" in tex
        assert harness(*words, "--format", "csv").stdout.startswith("a,b,dataset,scale,")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("drfn:repro", "vdsr"), "stands for 2 checkpoints: name one of drfn:repro-"),
        (("*", "vdsr"), "stands for several networks, "),
        (("vdsr", "VDSR:official"), "are the same runs"),
        (("edsr", "vdsr"), "there are runs of edsr-baseline:repro."),
        (("mine=a.pth", "vdsr"), "such as mine:a for mine=a.pth."),
        (("a.pth", "vdsr"), "such as mine:a for mine=a.pth."),
        (("vdsr", "srcnn", "--json", "--format", "csv"), "--format is for a table"),
        (("vdsr", "vdrs"), "No run has the name 'vdrs': there are runs of vdsr:official."),
        (("fsrcnn:mine", "vdsr"), "fsrcnn:official and fsrcnn:repro"),
        (("rdn", "msrn", "--datasets", "set14"), "no numbers on set14; it has set5."),
        (("vdsr", "0000"), "names 0 finished runs"),
    ],
)
def test_a_wrong_name_is_an_error_that_says_what_there_is(harness, words, said) -> None:
    shown = harness("compare", *words, "--reference", REFERENCE)
    assert shown.exit_code == 2 and said in shown.stderr, shown.output


@pytest.mark.real_data
def test_noise_in_the_weights_makes_a_network_worse(harness, compared, tmp_path: Path) -> None:
    """FSRCNN's authors' weights, known by their values, and those with noise of 1 %."""
    from harness.models.find_weights import find_weights

    weights = find_weights(MODELS.get("fsrcnn"), 4, tag="official")
    assert weights is not None and REAL_ROOTS["HARNESS_DATA"]
    rng = np.random.default_rng(0)
    for name, noise in (("clean", 0.0), ("noisy", 0.01)):
        state = {
            key: torch.from_numpy(
                (value + noise * value.std() * rng.normal(size=value.shape)).astype("f4")
            )
            for key, value in weights.tensors.items()
        }
        torch.save(state, tmp_path / f"{name}.pth")
    files = [f"fsrcnn={tmp_path / name}.pth" for name in ("clean", "noisy")]
    ran = harness("run", "--models", ",".join(files), "--datasets", "set5,set14")
    assert ran.exit_code == 0, ran.output
    rows = compared("fsrcnn:official", "fsrcnn:noisy")
    assert {row["dataset"] for row in rows} == {"set5", "set14"}
    for row in rows:
        assert row["low"] > 0 and row["verdict"] == "fsrcnn:official is better"
    # 30.7081 and 27.5949 dB are golden values of these weights.
    psnr = {row["dataset"]: row["mean_a"] for row in rows if row["metric"] == "psnr"}
    assert psnr == {
        "set5": pytest.approx(30.7081, abs=5e-4),
        "set14": pytest.approx(27.5949, abs=5e-4),
    }
