"""A set is its HR images: what lies beside them is left out and named, or refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from harness.data.benchmarks import find, select
from harness.data.layouts import hr_images, lr_files
from harness.errors import HarnessError

CASES = Path(__file__).parents[1] / "cases"


@pytest.mark.parametrize(
    ("case", "name", "psnr", "left_out"),
    [
        ("cats", "cats", 28.7480, ""),
        ("Mine14", "Mine14", 28.7480, "img_001_SRF_4_LR.png (made from an HR image)"),
        ("Mine14/image_SRF_4", "image_SRF_4", 28.7480, "img_002_SRF_4_LR.png"),
        ("Mine5flat", "Mine5flat", 28.7480, "p1x4.png (made from an HR image), p2x4.png"),
        ("Mine5rcan", "Mine5rcan", 28.7480, ""),
        ("partly", "partly", 28.8479, "c.tga (another format), d.jp2 (another format), sub (a f"),
    ],
)
def test_a_folder_gives_the_score_of_its_hr_images(harness, case, name, psnr, left_out) -> None:
    shown = harness("run", "--models", "bicubic-rgb", "--datasets", CASES / case, "--json")
    (record,) = json.loads(shown.stdout)
    assert record["identity"]["dataset"] == name
    assert record["means"]["psnr"] == pytest.approx(psnr, abs=1e-4)
    assert ("Not used in" in shown.stderr) == bool(left_out)
    assert left_out in shown.stderr


def test_a_broken_link_is_named(harness, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(CASES / "cats", tmp_path / "linked"))
    os.symlink("nowhere.png", folder / "c.png")
    shown = harness("run", "--models", "bicubic", "--datasets", folder)
    assert "c.png (a broken link)" in shown.stderr and "28.7438" in shown.stdout


def files(folder: Path, **sizes: tuple[int, int]) -> list[Path]:
    for name, size in sizes.items():
        Image.new("RGB", size).save(folder / f"{name}.png")
    return sorted(folder.glob("*.png"))


@pytest.mark.parametrize(
    "made", ["babyx4", "baby_LR", "babyLRBI_x4", "baby_SRF_4_LR", "baby_x4", "baby_LRx4"]
)
def test_an_lr_image_beside_its_hr_image_is_no_hr_image(tmp_path: Path, made: str) -> None:
    paths = files(tmp_path, baby=(50, 41), **{made: (12, 10)})
    assert [path.stem for path in hr_images(paths)] == ["baby"]
    assert [path.stem for path in lr_files(paths, ["baby"])] == ["baby", made]


def test_an_enlarged_copy_is_no_hr_image_either(tmp_path: Path) -> None:
    paths = files(tmp_path, baby=(50, 40), baby_bicubic=(48, 40), baby_2=(48, 40))
    assert [path.stem for path in hr_images(paths)] == ["baby", "baby_2"]


def test_images_beside_a_folder_of_hr_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "holiday/HR").mkdir(parents=True)
    files(tmp_path / "holiday", beach=(48, 40), hills=(48, 40))
    files(tmp_path / "holiday/HR", sea=(48, 40))
    found = find(select([str(tmp_path / "holiday")])[0], 4)
    assert [image.name for image in found.images] == ["sea"]
    assert "holiday (2), since HR holds HR images" in " ".join(found.notes)


def test_what_may_be_a_result_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    files(folder, baby=(50, 40), baby_EDSR=(48, 40), baby_2=(50, 40), baby_crop=(24, 40))
    files(folder, baby_EDSR_v2=(48, 40))
    (note,) = find(select([str(folder)])[0], 4).notes
    assert note.startswith("baby_EDSR.png counts as an HR image") and "(2 like it in" in note


def test_an_lr_photograph_on_its_side_is_one(tmp_path: Path) -> None:
    paths = files(tmp_path, beach=(96, 80), beachx4=(24, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (20, 24)).save(tmp_path / "beachx4.png", exif=exif)
    assert [path.stem for path in hr_images(paths)] == ["beach"]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"baby": (48, 40), "babyx4": (30, 30)}, "its size is not that of one"),
        ({"baby_LR": (12, 10)}, "its HR image is not beside it"),
        ({"baby_HR": (48, 40), "bird": (48, 40)}, "mixes baby_HR.png with bird.png"),
    ],
)
def test_what_may_be_either_is_refused(tmp_path: Path, sizes, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        hr_images(files(tmp_path, **sizes))


class TestGivenLR:
    def run(self, harness, *words: object):
        return harness("run", "--models", "bicubic-rgb", "--datasets", CASES / "cats", *words)

    @pytest.fixture
    def lr(self, tmp_path: Path) -> Path:
        """LR images that MATLAB's imresize would make, called as those of RDN."""
        from harness.data.images import read_image
        from harness.protocol.protocols import Protocol, make_sample

        folder = tmp_path / "lr"
        folder.mkdir()
        for path in (CASES / "cats").glob("*.png"):
            sample = make_sample(read_image(path).pixels, Protocol("rgb"))
            Image.fromarray(sample.lr).save(folder / f"{path.stem}_LRBI_x4.png")
        return folder

    def test_they_give_the_number_of_those_that_are_made_under_an_id_of_its_own(
        self, harness, lr: Path
    ) -> None:
        (given,) = json.loads(self.run(harness, "--lr-images", lr, "--json").stdout)
        (made,) = json.loads(self.run(harness, "--json").stdout)
        assert given["means"] == made["means"] and given["id"] != made["id"]
        assert given["provenance"]["lr_images"] == "lr"
        assert len(given["identity"]["lr_sha256"]) == 64 and made["identity"]["lr_sha256"] is None
        assert "given LR" in self.run(harness, "--lr-images", lr).stdout

    def test_other_ones_give_another_number(self, harness, lr: Path) -> None:
        for path in lr.iterdir():
            with Image.open(path) as image:
                image.point(lambda level: level // 2).save(path)
        (given,) = json.loads(self.run(harness, "--lr-images", lr, "--json").stdout)
        assert given["means"]["psnr"] < 20

    def test_of_several_for_an_image_none_is_taken(self, harness, lr: Path) -> None:
        for path in list(lr.iterdir()):
            (lr / path.name.replace("LRBI", "LRBD")).write_bytes(path.read_bytes())
        assert (
            "are both named like the LR image of a.png"
            in self.run(harness, "--lr-images", lr).stderr
        )

    def test_of_several_the_one_of_the_right_size_is_taken(self, harness, lr: Path) -> None:
        for path in list(lr.iterdir()):
            Image.new("RGB", (64, 64)).save(lr / path.name.replace("LRBI_x4", "X2"))
        assert self.run(harness, "--lr-images", lr).exit_code == 0

    def test_those_of_another_scale_or_set_are_refused(self, harness, lr: Path) -> None:
        shown = self.run(harness, "--lr-images", lr, "--scale", 2)
        assert shown.exit_code == 1 and "at x2 is 64 x 64" in shown.stderr
        next(lr.glob("a*")).unlink()
        assert "has no LR image of a.png" in self.run(harness, "--lr-images", lr).stderr
        both = self.run(harness, "--lr-images", lr, "--float-lr")
        assert both.exit_code == 2 and "choose one" in both.stderr


def test_what_is_no_file_is_named_and_not_opened(harness, photos: Path) -> None:
    os.mkfifo(photos / "fifo.png")
    (photos / "device.png").symlink_to("/dev/zero")
    shown = harness("run", "--models", "bicubic", "--datasets", photos)
    assert shown.exit_code == 0
    assert "device.png (a device), fifo.png (a FIFO)" in shown.stderr
