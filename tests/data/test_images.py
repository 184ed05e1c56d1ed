"""Reading image files, and finding HR and LR images in folders."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from harness.data.images import hr_images, image_files, lr_files, pixels_digest, read_image
from harness.data.testsets import find, select
from harness.errors import HarnessError
from tests.pictures import picture

CASES = Path(__file__).parents[1] / "cases"
RGB, GREY = picture(12, 10), picture(12, 10, 1)


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def test_an_image_of_108_megapixels_is_read(tmp_path: Path) -> None:
    path = saved(Image.new("L", (12_000, 9_000), 7), tmp_path / "phone.png")
    assert read_image(path).pixels.shape == (9_000, 12_000)


@pytest.mark.parametrize("pixels", [RGB, GREY], ids=["rgb", "grey"])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_8_bit_images_come_as_they_are(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    loaded = read_image(saved(Image.fromarray(pixels), tmp_path / f"i{suffix}"))
    np.testing.assert_array_equal(loaded.pixels, pixels)
    assert loaded.sha256 == pixels_digest(pixels)
    assert loaded.note == ""


@pytest.mark.parametrize(
    ("mode", "source", "shape", "note"),
    [
        ("RGBA", RGB, (12, 10, 3), "alpha dropped"),
        ("LA", GREY, (12, 10), "alpha dropped"),
        ("P", RGB, (12, 10, 3), "palette read as RGB"),
        ("1", GREY, (12, 10), "black and white read as grey"),
        ("CMYK", RGB, (12, 10, 3), "CMYK read as RGB"),
    ],
)
def test_other_kinds_are_converted_and_it_is_said(
    tmp_path: Path, mode: str, source: np.ndarray, shape: tuple[int, ...], note: str
) -> None:
    path = tmp_path / ("i.tif" if mode == "CMYK" else "i.png")
    loaded = read_image(saved(Image.fromarray(source).convert(mode), path))
    assert loaded.pixels.shape == shape
    assert loaded.pixels.dtype == np.uint8
    assert loaded.note == note


def test_16_bits_a_channel_are_refused_in_grey_and_in_colour(tmp_path: Path) -> None:
    grey = saved(Image.fromarray(GREY.astype(np.uint16) * 257), tmp_path / "grey.png")
    colour = tmp_path / "colour.png"
    colour.write_bytes(sixteen_bit_rgb_png())
    with Image.open(colour) as image:
        assert image.mode == "RGB", "Pillow hides the 16 bits"
    for path in (grey, colour, saved(Image.fromarray(GREY.astype(np.float32)), tmp_path / "f.tif")):
        with pytest.raises(HarnessError, match="more than 8 bits a channel"):
            read_image(path)


def test_a_wide_8_bit_image_is_not_taken_for_a_deep_one(tmp_path: Path) -> None:
    # The decoder arguments of this BMP have a stride of 2160 bytes, which contains "16".
    wide = picture(4, 720)
    loaded = read_image(saved(Image.fromarray(wide), tmp_path / "wide.bmp"))
    np.testing.assert_array_equal(loaded.pixels, wide)


def test_a_deep_ppm_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.ppm").write_bytes(b"P6 2 1 65535\n" + bytes(12))
    with pytest.raises(HarnessError, match="more than 8 bits a channel"):
        read_image(tmp_path / "deep.ppm")


def test_the_hash_of_a_palette_image_is_that_of_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).convert("P")
    before = read_image(saved(image, tmp_path / "one.png"))
    image.putpalette(image.getpalette()[::-1])
    after = read_image(saved(image, tmp_path / "two.png"))
    assert before.sha256 == pixels_digest(before.pixels)
    assert after.sha256 != before.sha256


def sixteen_bit_rgb_png() -> bytes:
    """A PNG of 2 x 2 pixels, colour type 2, bit depth 16, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(12))) * 2)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = saved(Image.fromarray(picture(200, 200)), tmp_path / "cut.png")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(HarnessError, match=r"cut\.png cannot be read"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(HarnessError, match=r"x\.png cannot be read"):
        read_image(tmp_path / "x.png")


@given(
    st.sampled_from(["PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0, 1),
)
@settings(deadline=None, max_examples=150)
def test_a_file_that_is_damaged_anywhere_is_read_or_refused(form: str, damage, kept) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, form)
    content = bytearray(stream.getvalue())
    for place, value in damage:
        content[int(place * len(content))] = value
    with TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(content[: int(kept * len(content)) if damage else None])
        try:
            loaded = read_image(path)
        except HarnessError as error:
            assert damage and str(path) in str(error)
        else:
            assert loaded.pixels.dtype == np.uint8


def test_what_a_file_says_beside_its_pixels_is_passed_over_in_silence(tmp_path: Path) -> None:
    broken = b"Exif\0\0II*\0" + b"\xff" * 4
    Image.fromarray(RGB).save(tmp_path / "x.jpg", exif=broken)
    script = "from pathlib import Path; from harness.data.images import read_image as read; read"
    # In a separate process, since pytest turns warnings into errors.
    command = [sys.executable, "-c", f"{script}(Path('x.jpg'))"]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"gone\.png is missing"):
        read_image(tmp_path / "gone.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_looked_into_has_no_images(tmp_path: Path) -> None:
    saved(Image.fromarray(RGB), tmp_path / "a.png")
    tmp_path.chmod(0o600)
    assert image_files(tmp_path) == []
    tmp_path.chmod(0o700)


def test_only_images_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.BMP", "notes.txt", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.BMP", "b.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_an_orientation_tag_is_applied_in_every_format(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(picture(24, 32))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / f"a{suffix}", exif=exif)
    loaded = read_image(tmp_path / f"a{suffix}")
    assert loaded.pixels.shape == (32, 24, 3)
    assert loaded.note == "turned as its orientation tag says"
    upright = np.rot90(picture(24, 32), -1).astype(int)
    lossy = suffix in (".jpg", ".webp")
    assert np.abs(loaded.pixels - upright).mean() <= 12 * lossy


def test_a_photograph_of_a_telephone_is_upright() -> None:
    loaded = read_image(CASES / "exif/rotated.jpg")
    assert loaded.note == "turned as its orientation tag says"
    with Image.open(CASES / "exif/rotated.jpg") as stored:
        np.testing.assert_array_equal(loaded.pixels, np.rot90(np.asarray(stored), -1))


@pytest.mark.parametrize("name", ["x.tif", "int8.tif"])
def test_tiff_of_16_bits_in_planes_and_of_signed_values_is_refused(name: str) -> None:
    with pytest.raises(HarnessError, match="more than 8 bits a channel, or signed values"):
        read_image(CASES / "tiff16" / name)


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
        """LR images as MATLAB's imresize makes them, with the file names of RDN."""
        from harness.data.images import read_image
        from harness.protocol.rules import Protocol, make_sample

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
