"""Published SR images: found by their files' names, scored like a network's output."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli.progress import RunProgress, bars
from harness.data.images import read_image
from harness.data.testsets import find, select
from harness.errors import HarnessError
from harness.models.published import PublishedImages, find_images
from harness.protocol.color import rgb_to_y, to_uint8
from harness.protocol.metrics import psnr
from harness.record import Execution
from harness.registry import MODELS
from harness.run.job import Job, begin_runs
from harness.run.plan import plan
from harness.run.provenance import command, requirements
from harness.run.request import Request
from harness.run.spec import RunContext
from harness.run.store import ResultStore

REFERENCE = ResultStore(Path(__file__).parents[2] / "results/reference")
RUN = ("run", "--json", "--models")

# Mean PSNR and SSIM on Set5 x4 in the authors' own logs.
LOGS = {
    ("rdn", "rdn", ()): (32.468907, 0.898957),
    ("msrn", "msrn", ()): (32.263916, 0.896016),
    ("msrn", "msrn-plus", ("--self-ensemble",)): (32.396092, 0.897473),
}


@pytest.mark.real_data
@pytest.mark.parametrize(("model", "folder", "how"), LOGS, ids=str)
def test_they_give_the_numbers_of_their_authors(
    harness, published: Path, model: str, folder: str, how: tuple[str, ...]
) -> None:
    shown = harness(*RUN, f"{model}={published / folder}", "--datasets", "set5", *how)
    (record,) = json.loads(shown.stdout)
    means = record["means"]["psnr"], record["means"]["ssim"]
    assert means == pytest.approx(LOGS[model, folder, how], abs=5e-7)
    (committed,) = (one for one in REFERENCE.records() if one.identity.id == record["id"])
    assert committed.means == pytest.approx(record["means"], abs=1e-9)
    assert (committed.parameters, committed.macs, committed.weights) == (None, None, None)


@pytest.mark.real_data
def test_a_missing_one_of_a_published_set_is_also_called_by_its_usual_name(
    harness, published: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(published / "rdn/Set5", tmp_path / "rdn")
    (folder / "head_RDN_x4.png").unlink()
    shown = harness(*RUN, f"rdn={folder}", "--datasets", "set5")
    assert shown.exit_code == 1 and "names begin with img_004 or head." in shown.stderr


@pytest.fixture
def sr(photos: Path) -> Path:
    """SR images of the photographs: each level 10 brighter, where it is not white already."""
    folder = photos.parent / "sr"
    folder.mkdir()
    for path in photos.iterdir():
        pixels = read_image(path).pixels
        height, width = (side - side % 4 for side in pixels.shape[:2])
        brighter = np.minimum(pixels[:height, :width], 245) + np.uint8(10)
        Image.fromarray(brighter).save(folder / f"{path.stem}_Mine_x4.png")
    return folder


def found(photos: Path, folder: Path, scale: int = 4) -> PublishedImages:
    (card,) = select([str(photos)])
    return find_images(find(card, scale), folder, scale)


@pytest.mark.parametrize(
    "name",
    [
        *("a", "ax4", "a_x4", "a_RDN_x4", "a_RDNx4", "a_MSRN_plus_x4", "a_4x", "a-EDSR", "a.HAT"),
        *("a_SRF_4_SR", "a_SR", "a_x4_SwinIR", "a_HRNet", "aX4", "a (1)", "a final x4"),
    ],
)
def test_a_file_with_such_a_name_is_the_sr_image_of_a(photos: Path, sr: Path, name: str) -> None:
    (sr / "a_Mine_x4.png").rename(sr / f"{name}.png")
    assert found(photos, sr).images["a"].path == sr / f"{name}.png"


@pytest.mark.parametrize(
    "name",
    [
        *("a_x2", "ax3_RDN", "a_RDNx2", "a_SRF_2_SR", "a_2x", "a_x16", "a_x2_x4"),
        *("a_HR", "a_HR_x4", "a_GT", "a_LR", "a_LRBI_x4", "a_LR4", "a_bicubic", "a_Bicubic_x4"),
        *("ab", "a1", "aa_x4", "_a_x4", "a (x2)", "a bicubic"),
    ],
)
def test_a_file_with_such_a_name_is_not(photos: Path, sr: Path, name: str) -> None:
    (sr / "a_Mine_x4.png").rename(sr / f"{name}.png")
    with pytest.raises(HarnessError, match=r"lacks the SR images of 1 of the 3 .* begin with a\."):
        found(photos, sr)


def test_of_two_names_the_longer_one_counts(photos: Path, sr: Path) -> None:
    shutil.copy(photos / "a.png", photos / "a_2.png")
    shutil.copy(sr / "a_Mine_x4.png", sr / "a_2_Mine_x4.png")
    images = found(photos, sr).images
    assert [images[name].path.name for name in ("a", "a_2")] == ["a_Mine_x4.png", "a_2_Mine_x4.png"]


@pytest.mark.parametrize("inner", ["photos", "Photos/x4", "x4", "photos/image_SRF_4"])
def test_they_may_be_in_a_folder_of_the_set_or_the_scale(
    photos: Path, sr: Path, tmp_path: Path, inner: str
) -> None:
    whole = found(photos, sr)
    shutil.move(sr, tmp_path / "repository" / inner)
    assert found(photos, tmp_path / "repository").sha256 == whole.sha256


class TestWhereARunSavesThem:
    """``--models own=DIR`` takes the DIR of ``--save-images``."""

    @pytest.fixture
    def saved(self, harness, photos: Path) -> dict[str, float]:
        return scores(harness, "bicubic-rgb", "--datasets", photos, "--save-images", "saved")

    def test_those_of_the_only_run_are_found(self, harness, photos: Path, saved) -> None:
        again = scores(harness, "own=saved", "--datasets", photos)
        assert again == saved

    def test_several_runs_are_named(self, harness, photos: Path, saved) -> None:
        harness("run", "--models", "bicubic", "--datasets", photos, "--save-images", "saved")
        shown = harness("run", "--models", "own=saved", "--datasets", photos)
        one, other = sorted(map(str, Path("saved/x4/photos").iterdir()))
        assert shown.exit_code == 1 and f"give the folder of one, {one} or {other}." in shown.stderr
        (own,) = (path for path in (one, other) if "rgb" in path)
        assert scores(harness, f"own={own}", "--datasets", photos) == saved


@pytest.mark.real_data
def test_only_images_that_are_known_to_be_published_are_called_so(harness, published: Path) -> None:
    for name, label in (("rdn", "published images"), ("mine", "SR images")):
        shown = harness("run", "--models", f"{name}={published / 'rdn'}", "--datasets", "set5")
        (line,) = (line for line in shown.stdout.splitlines() if line.startswith(name))
        assert line.endswith(f"  {label}")


def test_the_table_of_images_and_weights_of_one_name_can_be_made(
    harness, photos: Path, sr: Path, random_weights
) -> None:
    models = f"srcnn={sr},srcnn={random_weights('srcnn')}"
    shown = harness("run", "--models", models, "--datasets", photos)
    (command,) = re.findall("LaTeX: harness (.*)", shown.stderr)
    made = harness(*shlex.split(command))
    assert made.exit_code == 0, made.output
    assert re.findall(r"(?mi)^\| (srcnn\S*)", made.stdout) == ["SRCNN:made", "SRCNN:images"]


def test_the_hash_is_that_of_names_and_pixels(photos: Path, sr: Path) -> None:
    before = found(photos, sr).sha256
    for path in sr.iterdir():
        path.rename(path.with_name(path.name.replace("Mine", "Other")))
    assert found(photos, sr).sha256 == before
    changed = read_image(sr / "b_Other_x4.png").pixels.copy()
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(sr / "b_Other_x4.png")
    assert found(photos, sr).sha256 != before


class TestRefused:
    def test_several_are_missing(self, photos: Path, sr: Path) -> None:
        for name in "ac":
            (sr / f"{name}_Mine_x4.png").unlink()
        with pytest.raises(HarnessError, match=r"of 2 of the 3 images of .* with a, c\."):
            found(photos, sr)

    def test_two_fit_one_image(self, photos: Path, sr: Path) -> None:
        shutil.copy(sr / "a_Mine_x4.png", sr / "a_Other_x4.png")
        with pytest.raises(HarnessError, match=r"a_Mine_x4\.png and a_Other_x4\.png"):
            found(photos, sr)

    def test_the_size_is_that_of_the_image_before_the_crop(self, photos: Path, sr: Path) -> None:
        shutil.copy(photos / "b.png", sr / "b_Mine_x4.png")
        with pytest.raises(HarnessError, match="47 x 53 pixels, and b at x4 is 44 x 52"):
            found(photos, sr)

    def test_a_colour_image_is_grey(self, photos: Path, sr: Path) -> None:
        Image.open(sr / "a_Mine_x4.png").convert("L").save(sr / "a_Mine_x4.png")
        with pytest.raises(HarnessError, match="is grey, and a is not"):
            found(photos, sr)


@pytest.mark.parametrize("name", ["mine", "rdn"])
def test_a_path_that_does_not_exist_is_named(harness, photos: Path, name: str) -> None:
    shown = harness("run", "--models", f"{name}=gone", "--datasets", photos)
    assert shown.exit_code == 2 and "There is no file or folder gone" in shown.stderr


def test_files_that_are_not_used_are_named(harness, photos: Path, sr: Path) -> None:
    shutil.copy(photos / "a.png", sr / "a_HR.png")
    shutil.copy(photos / "a.png", sr / "z_Mine_x4.png")
    shown = harness("run", "--models", f"mine={sr}", "--datasets", photos)
    assert "a_HR.png" in shown.stderr and "z_Mine_x4.png" in shown.stderr
    assert shown.exit_code == 0 and "SR images" in shown.stdout


def test_the_hr_images_are_no_sr_images(harness, photos: Path, sr: Path) -> None:
    """Of a part of the set they may be; all of them, cropped or in another colour mode, are not."""
    for path in photos.iterdir():
        height, width = (side - side % 4 for side in read_image(path).pixels.shape[:2])
        hr = Image.open(path).crop((0, 0, width, height)).convert("RGB")
        assert found(photos, sr).images
        hr.save(sr / f"{path.stem}_Mine_x4.png")
    shown = harness("run", "--models", f"mine={sr}", "--datasets", photos)
    assert shown.exit_code == 1 and not Path("results").exists()
    assert f"The images in {sr} are the HR images of photos" in shown.stderr


def test_jpeg_files_are_noted(photos: Path, sr: Path) -> None:
    assert not found(photos, sr).note
    Image.open(sr / "a_Mine_x4.png").save(sr / "a_Mine_x4.jpg")
    (sr / "a_Mine_x4.png").unlink()
    assert "1 of the 3 SR images" in found(photos, sr).note and "JPEG" in found(photos, sr).note


def test_a_set_without_any_is_skipped(harness, photos: Path, sr: Path, tmp_path: Path) -> None:
    words = ("--models", f"mine={sr}", "--datasets", f"{photos},demo")
    shown = harness("run", *words)
    assert shown.exit_code == 0 and "Skipped:" in shown.stderr
    assert harness("run", *words, "--strict").exit_code == 1


def scores(harness, *words: object) -> dict[str, float]:
    (record,) = json.loads(harness(*RUN, *words).stdout)
    return {image["image"]: image["psnr"] for image in record["images"]}


def psnr_of(sr: np.ndarray, hr: np.ndarray) -> float:
    inner = (slice(4, -4), slice(4, -4))
    return psnr(sr[inner].astype(float), hr[inner].astype(float))


def test_each_pipeline_compares_its_own_luma(harness, photos: Path, sr: Path) -> None:
    """That of the method if it is registered, as vdsr is; else rgb, where luma is not rounded."""
    result = read_image(sr / "a_Mine_x4.png").pixels
    luma, target = rgb_to_y(result), rgb_to_y(read_image(photos / "a.png").pixels)
    in_rgb = scores(harness, f"mine={sr}", "--datasets", photos)
    in_y = scores(harness, f"vdsr={sr}", "--datasets", photos)
    not_rounded = scores(harness, f"vdsr={sr}", "--datasets", photos, "--float-y")
    assert in_rgb["a"] == not_rounded["a"] == pytest.approx(psnr_of(luma, target), abs=1e-9)
    rounded = psnr_of(to_uint8(luma), to_uint8(target))
    assert in_y["a"] == pytest.approx(rounded, abs=1e-9) != in_rgb["a"]


@pytest.mark.parametrize("model", ["mine", "vdsr"])
@pytest.mark.parametrize("grey", ["full-range", "as-rgb"])
def test_a_grey_image_may_be_grey_or_rgb(
    harness, photos: Path, sr: Path, model: str, grey: str
) -> None:
    words = (f"{model}={sr}", "--datasets", photos, "--grey", grey)
    as_grey = scores(harness, *words)
    Image.open(sr / "c_Mine_x4.png").convert("RGB").save(sr / "c_Mine_x4.png")
    assert scores(harness, *words)["c"] == as_grey["c"]
    if grey == "full-range":
        stored = read_image(photos / "c.png").pixels
        brighter = np.minimum(stored, 245) + np.uint8(10)
        assert as_grey["c"] == pytest.approx(psnr_of(brighter, stored), abs=1e-9)


class TestARun:
    @pytest.fixture
    def words(self, photos: Path, sr: Path) -> tuple[object, ...]:
        return ("run", "--models", f"mine={sr}", "--datasets", photos)

    def test_it_is_not_done_twice(self, harness, words) -> None:
        assert "already finished" not in harness(*words).stderr
        assert "already finished" in harness(*words).stderr

    def test_options_for_making_images_make_no_other_run(self, harness, words) -> None:
        harness(*words)
        for option in (("--tile", 16), ("--border", "symmetric"), ("--float-lr",)):
            assert "already finished" in harness(*words, *option).stderr

    def test_self_ensemble_says_how_the_images_were_made(self, harness, words) -> None:
        plain, ensemble = (
            json.loads(harness(*words, "--json", *how).stdout)[0]
            for how in ((), ("--self-ensemble",))
        )
        assert ensemble["means"] == plain["means"] and ensemble["id"] != plain["id"]
        assert "mine+" in harness(*words, "--self-ensemble").stdout

    def test_it_needs_no_workers(self, harness, words) -> None:
        shown = harness(*words, "--executor", "dask", "--workers", 1, "--json")
        (record,) = json.loads(shown.stdout)
        assert record["execution"]["executor"] == "serial"

    def test_it_is_the_same_execution_on_a_machine_with_a_gpu(self, photos: Path, sr: Path) -> None:
        runs = plan(Request([], [str(photos)], sr_folders={"mine": sr})).runs
        with bars() as shown:
            context = RunContext(ResultStore(Path("out")), RunProgress(shown))
            (job,) = begin_runs(runs, context, lambda: Execution("cuda", 1))
        assert isinstance(job, Job)
        (journal,) = Path("out").rglob("*.journal")
        job.close()
        header = json.loads(journal.read_text().splitlines()[0])
        assert job.execution.device == header["execution"]["device"] == "cpu"

    def test_rules_of_the_other_pipeline_are_refused_once(
        self, harness, photos: Path, sr: Path
    ) -> None:
        shutil.copytree(photos, "more")
        words = ("--models", f"mine={sr},bicubic", "--datasets", f"{photos},more")
        shown = harness("run", *words, "--like", "vdsr")
        assert shown.exit_code == 1
        assert shown.stderr.count("mine has the pipeline rgb, and --like vdsr is for y") == 1

    def test_its_images_can_be_saved_for_crops(self, harness, words, sr: Path) -> None:
        harness(*words, "--save-images", "pictures")
        (saved,) = Path("pictures").rglob("a.png")
        assert np.array_equal(read_image(saved).pixels, read_image(sr / "a_Mine_x4.png").pixels)

    def test_it_is_explained_with_its_folder(self, harness, words, sr: Path) -> None:
        """Of the rules only that for grey images is open: the images are made."""
        (record,) = json.loads(harness(*words, "--json").stdout)
        explain = ("explain", record["id"][:12], "--data-root", ".")
        for file in ((), ("--weights", sr / "a_Mine_x4.png")):
            assert "give their folder with --weights" in harness(*explain, *file).stderr
        assert "To see them in 1 other way (1 image)" in harness(*explain, "--weights", sr).stderr
        rows = json.loads(harness(*explain, "--weights", sr, "--all", "--json").stdout)
        own = [row["psnr"] for row in rows if row["own"]]
        assert own == pytest.approx([record["means"]["psnr"]], abs=1e-9)
        assert {change for row in rows for change in row["made"]} == {"grey full-range"}
        other = Image.open(sr / "a_Mine_x4.png").transpose(Image.Transpose.ROTATE_180)
        other.save(sr / "a_Mine_x4.png")
        shown = harness(*explain, "--weights", sr)
        assert shown.exit_code == 1 and "are not those of the run" in shown.stderr

    def test_it_is_not_explained_under_the_rules_of_another_pipeline(
        self, harness, words, sr: Path
    ) -> None:
        """The model of its name decides the pipeline, and that may be a plug-in's."""
        Path("luma.py").write_text(
            "from harness.registry import register_model\n"
            "from torch import nn\n"
            "@register_model('mine', pipeline='y', input='bicubic', scales=(4,))\n"
            "def mine(scale=4): return nn.Conv2d(1, 1, 1)\n"
        )
        plugin = ("--plugin", "luma.py")
        (record,) = json.loads(harness(*words, *plugin, "--json").stdout)
        explain = ("explain", record["id"][:12], "--data-root", ".", "--weights", sr)
        assert harness(*explain, *plugin).exit_code == 0
        MODELS.restore({n: e for n, e in MODELS.snapshot().items() if n != "mine"})
        shown = harness(*explain)
        assert shown.exit_code == 2
        assert "follows BI-x4/y, and here mine follows BI-x4/rgb" in shown.stderr

    def test_without_grey_images_it_cannot_be_made_in_other_ways(
        self, harness, words, photos: Path, sr: Path
    ) -> None:
        (photos / "c.png").unlink()
        (sr / "c_Mine_x4.png").unlink()
        (record,) = json.loads(harness(*words, "--json").stdout)
        words = (record["id"][:12], "--data-root", ".", "--weights", sr, "--claimed", "99.9")
        shown = harness("explain", *words)
        assert shown.exit_code == 0 and "Scoring 2 images." in shown.stderr
        assert "other way" not in shown.stderr

    def test_the_command_that_repeats_it_needs_its_folder(self, harness, words) -> None:
        harness(*words)
        (record,) = ResultStore(Path("results/local")).records()
        assert requirements(record) == "You need the SR images in sr and the images of photos."
        assert command(record) == "harness run --models mine=sr --datasets photos"

    def test_it_takes_no_weights(self, harness, words, sr: Path) -> None:
        shown = harness(*words, "--weights", f"mine={sr}")
        assert shown.exit_code == 2 and "leave out --weights" in shown.stderr

    def test_bench_and_tags_refuse_images(self, harness, photos: Path, sr: Path) -> None:
        for words in (("bench", f"mine={sr}"), ("run", f"rdn:official={sr}"), ("run", f"a/b={sr}")):
            verb, model = words
            shown = harness(verb, "--models", model, "--datasets", photos)
            assert shown.exit_code == 2, shown.output
