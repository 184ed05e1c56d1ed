"""Golden values: published images and the authors' weights through the whole harness."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import baselines
from harness.cli import main
from tests.conftest import REAL_ROOTS

pytestmark = pytest.mark.real_data

# Mean PSNR and SSIM, measured with the authors' weights by independent code.
GOLDEN = {
    ("bicubic", "set5"): (28.4220, 0.8104),
    ("bicubic", "set14"): (26.0030, 0.7019),
    ("bicubic", "b100"): (25.9613, 0.6674),
    ("bicubic-rgb", "set5"): (28.4302, 0.8111),
    ("bicubic-rgb", "set14"): (25.9970, 0.7029),
    ("bicubic-rgb", "b100"): (25.9620, 0.6681),
    ("srcnn", "set5"): (30.4888, 0.8628),
    ("srcnn", "set14"): (27.5040, 0.7513),
    ("srcnn", "b100"): (26.9033, 0.7103),
    ("fsrcnn", "set5"): (30.7081, 0.8657),
    ("fsrcnn", "set14"): (27.5949, 0.7535),
    ("fsrcnn", "b100"): (26.9649, 0.7128),
    ("vdsr", "set5"): (31.3494, 0.8838),
    ("vdsr", "set14"): (28.0203, 0.7676),
    ("vdsr", "b100"): (27.2829, 0.7251),
    ("lapsrn", "set5"): (31.5233, 0.8856),
    ("lapsrn", "set14"): (28.0853, 0.7688),
    ("lapsrn", "b100"): (27.3099, 0.7256),
    ("srmdnf", "set5"): (31.9461, 0.8920),
    ("srmdnf", "set14"): (28.3573, 0.7769),
    ("srmdnf", "b100"): (27.4751, 0.7331),
}
AS_RGB = {
    "bicubic": (26.0972, 0.7037),
    "bicubic-rgb": (26.0914, 0.7048),
    "srcnn": (27.6002, 0.7529),
    "fsrcnn": (27.6907, 0.7551),
    "vdsr": (28.1190, 0.7692),
    "lapsrn": (28.1814, 0.7703),
    "srmdnf": (28.4518, 0.7784),
}
FLOAT_LR = {"set5": (31.9586, 0.8923), "set14": (28.3624, 0.7773), "b100": (27.4892, 0.7336)}


# The printed FSRCNN and LapSRN values agree to 0.01 dB, and to 0.0004 with ``ssim-whole``.
FLOAT_Y = {
    "full-range": {
        ("fsrcnn", "set5"): (30.7254, 0.8668),
        ("fsrcnn", "set14"): (27.6015, 0.7542),
        ("fsrcnn", "b100"): (26.9720, 0.7137),
        ("lapsrn", "set5"): (31.5420, 0.8867),
        ("lapsrn", "b100"): (27.3185, 0.7265),
    },
    "as-rgb": {("lapsrn", "set14"): (28.1896, 0.7711)},
}


Scores = dict[tuple[str, str], tuple[float, float]]
"""Mean PSNR and SSIM by model and set."""


def run(folder: Path, *words: str) -> Scores:
    shown = CliRunner().invoke(
        main, ["run", "--results", str(folder), "--json", *words], env=REAL_ROOTS
    )
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)
    assert rows and all(row["verified"] for row in rows)
    return {
        (r["identity"]["model"], r["identity"]["dataset"]): (r["means"]["psnr"], r["means"]["ssim"])
        for r in rows
    }


def agree(measured: Scores, golden: Scores, within: float = 5e-4) -> None:
    """Fail unless exactly these runs have these scores: PSNR within this, SSIM within 0.0001."""
    assert measured.keys() == golden.keys()
    for key, (psnr, ssim) in golden.items():
        assert measured[key][0] == pytest.approx(psnr, abs=within), key
        assert measured[key][1] == pytest.approx(ssim, abs=1e-4), key


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


WORDS = (
    "--models",
    "bicubic,bicubic-rgb,srcnn,fsrcnn,vdsr,lapsrn,srmdnf",
    "--datasets",
    "set5,set14,b100",
    "--grey",
    "full-range",
)


def test_the_golden_values_hold(results: Path) -> None:
    agree(run(results, *WORDS), GOLDEN)


def test_a_second_run_finds_them_all_at_once(results: Path) -> None:
    written = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    assert len(written) == len(GOLDEN)
    assert run(results, *WORDS).keys() == GOLDEN.keys()
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.json")} == written


SHIPPED = [
    weights.with_suffix(".json")
    for weights in sorted((Path(baselines.__file__).parent / "weights").glob("*.safetensors"))
]


@pytest.mark.parametrize("notes", SHIPPED, ids=lambda path: path.name)
def test_shipped_weights_score_what_their_provenance_says(notes: Path, tmp_path: Path) -> None:
    facts = json.loads(notes.read_text())
    assert {"set5", "set14", "b100"} <= facts["scores"].keys()
    measured = run(tmp_path, "--models", f"{facts['model']}:repro", "--datasets", "set5,set14")
    agree(
        measured,
        {
            (facts["model"], dataset): (one["psnr"], one["ssim"])
            for dataset, one in facts["scores"].items()
            if dataset in ("set5", "set14")
        },
    )


def test_the_other_grey_rule_has_its_own_golden_values(tmp_path: Path) -> None:
    words = ("--models", ",".join(AS_RGB), "--datasets", "set14", "--grey", "as-rgb")
    agree(run(tmp_path, *words), {(model, "set14"): golden for model, golden in AS_RGB.items()})


def test_each_pipeline_scores_grey_images_by_its_own_rule(tmp_path: Path) -> None:
    words = ("--models", "bicubic,bicubic-rgb,vdsr,srmdnf", "--datasets", "set14")
    golden = {(model, "set14"): AS_RGB[model] for model in ("bicubic-rgb", "srmdnf")}
    golden |= {(model, "set14"): GOLDEN[model, "set14"] for model in ("bicubic", "vdsr")}
    agree(run(tmp_path, *words), golden)


def test_the_lr_images_that_matlab_made_give_the_numbers_of_those_made_here(tmp_path: Path) -> None:
    roots = REAL_ROOTS["HARNESS_DATA"].split(os.pathsep)
    places = [Path(root).parent / "golden/lr/replicate/Set5" for root in roots]
    matlab = next(filter(Path.is_dir, places), None)
    if matlab is None:
        pytest.skip("the LR images that MATLAB made are not beside the HR images")
    words = ("--models", "bicubic-rgb,srmdnf", "--datasets", "set5", "--lr-images", str(matlab))
    golden = {(model, "set5"): GOLDEN[model, "set5"] for model in ("bicubic-rgb", "srmdnf")}
    agree(run(tmp_path, *words), golden, within=1e-4)


def test_srmdnf_on_lr_images_that_are_not_rounded_has_its_own_golden_values(tmp_path: Path) -> None:
    words = ("--models", "srmdnf", "--datasets", ",".join(FLOAT_LR), "--float-lr")
    words += ("--grey", "full-range")
    agree(run(tmp_path, *words), {("srmdnf", name): golden for name, golden in FLOAT_LR.items()})


@pytest.mark.parametrize("grey", FLOAT_Y)
def test_luma_that_is_never_rounded_has_its_own_golden_values(grey: str, tmp_path: Path) -> None:
    measured = {}
    for model, dataset in FLOAT_Y[grey]:
        words = ("--models", model, "--datasets", dataset, "--float-y", "--grey", grey)
        measured |= run(tmp_path, *words)
    agree(measured, FLOAT_Y[grey])
