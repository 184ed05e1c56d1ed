"""Finding, downloading and caching training images."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cards import DatasetCard, KnownImage, RemoteFile
from harness.data.identify import LeakError, leaking
from harness.data.images import pixels_digest
from harness.data.pinned import OfflineError, cache_root, pinned_rows
from harness.data.testsets import find
from harness.data.trainsets import (
    FOLDERS,
    find_images,
    is_pinned,
    lr_folders,
    prepare_images,
    training_folder,
)
from harness.errors import HarnessError, UsageError
from harness.protocol.rules import Protocol, make_sample
from harness.record import file_digest
from harness.registry import DATASETS
from tests.pictures import picture

RGB, Y = Protocol("rgb", grey="as-rgb"), Protocol("y", grey="as-rgb")


def test_pairs_are_made_by_the_protocol_itself(photos: Path) -> None:
    for rules in (RGB, Y):
        images = prepare_images(find_images([str(photos)]), rules)
        assert images.paths == tuple(photos / name for name in ("a.png", "b.png", "c.png"))
        assert images.sizes.tolist() == [[12, 16], [13, 11], [12, 12]]
        sample = make_sample(np.asarray(Image.open(photos / "b.png")), rules)
        before = 12 * 16 * images.channels
        lr = images.lr[before : before + 13 * 11 * images.channels]
        hr = images.hr[16 * before : 16 * (before + 13 * 11 * images.channels)]
        np.testing.assert_allclose(lr, sample.lr.ravel(), atol=1e-7)
        np.testing.assert_array_equal(hr, sample.hr.ravel())


def test_grey_images_become_colour(photos: Path) -> None:
    images = prepare_images(find_images([str(photos)]), RGB)
    with Image.open(photos / "c.png") as grey:
        assert grey.mode == "L"
        levels = np.asarray(grey)[:48, :48]
    made = images.hr[-48 * 48 * 3 :].reshape(48, 48, 3)
    np.testing.assert_array_equal(made, np.stack([levels] * 3, axis=2))


def damaged(path: Path, place: int) -> None:
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def test_a_cache_in_which_anything_changed_is_refused(photos: Path) -> None:
    paths, rng = find_images([str(photos)]), random.Random(0)
    prepare_images(paths, RGB)
    (folder,) = (cache_root() / "training").iterdir()
    for path in sorted(folder.iterdir()):
        for place in rng.sample(range(8 * path.stat().st_size), 60):
            damaged(path, place)
            with pytest.raises(HarnessError, match=f"{folder} is damaged: remove it"):
                prepare_images(paths, RGB)
            damaged(path, place)
        whole = path.read_bytes()
        for content in (whole[:-1], whole[: len(whole) // 2] + bytes(len(whole) // 2), b""):
            path.write_bytes(content)
            with pytest.raises(HarnessError, match=f"{folder} is damaged: remove it"):
                prepare_images(paths, RGB)
        path.unlink()
        with pytest.raises(HarnessError, match=f"{folder} is damaged: remove it"):
            prepare_images(paths, RGB)
        path.write_bytes(whole)
    assert prepare_images(paths, RGB).prepared == 0


def test_decoding_is_done_once(photos: Path) -> None:
    seen: list[Path] = []
    paths = find_images([str(photos)])

    def watch(paths):
        seen.extend(paths)
        return paths

    one, two = (prepare_images(paths, RGB, progress=watch) for _ in range(2))
    assert len(seen) == 3
    assert one.sha256 == two.sha256
    Image.fromarray(picture(48, 64, seed=9)).save(photos / "a.png")
    assert prepare_images(paths, RGB, progress=watch).sha256 != one.sha256
    assert len(seen) == 6


def test_images_lie_in_one_order_whatever_was_named_first(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(picture(40, 40)).save(other / "aa.png")
    one = prepare_images(find_images([str(photos), str(other)]), RGB)
    two = prepare_images(find_images([str(other), str(photos)]), RGB)
    assert [path.name for path in one.paths] == ["a.png", "aa.png", "b.png", "c.png"]
    assert one.paths == two.paths
    assert one.sha256 == two.sha256
    np.testing.assert_array_equal(one.hr, two.hr)


def test_images_too_small_for_a_patch_are_named(photos: Path) -> None:
    small = prepare_images(find_images([str(photos)]), RGB).smaller_than(12)
    assert small == {photos / "b.png": "it has 11 x 13 LR pixels, fewer than a patch of 12"}


def test_an_image_too_small_for_the_protocol_is_left_out(photos: Path) -> None:
    Image.fromarray(picture(21, 18)).save(photos / "aa.png")
    for _ in range(2):  # prepared first, then loaded from the cache
        kept = prepare_images(find_images([str(photos)]), RGB)
        assert kept.paths == tuple(photos / name for name in ("a.png", "b.png", "c.png"))
        assert "18 x 21 pixels" in kept.small[photos / "aa.png"]
    with pytest.raises(HarnessError, match=r"None of the training images .*: .* 18 x 21 pixels"):
        prepare_images([photos / "aa.png"], RGB)


def test_a_bad_image_is_named_and_left_out_only_on_request(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"broken")
    paths = find_images([str(photos)])
    with pytest.raises(HarnessError, match=r"bad\.png cannot be read"):
        prepare_images(paths, RGB)
    for _ in range(2):  # prepared first, then loaded from the cache
        kept = prepare_images(paths, RGB, skip_bad=True)
        assert kept.paths == tuple(photos / name for name in ("a.png", "b.png", "c.png"))
        assert list(kept.skipped) == [photos / "bad.png"]
        assert "cannot be read" in kept.skipped[photos / "bad.png"]
    with pytest.raises(HarnessError, match=r"bad\.png cannot be read"):
        prepare_images(paths, RGB)
    with pytest.raises(HarnessError, match="None of the training images"):
        prepare_images([photos / "bad.png"], RGB, skip_bad=True)


@pytest.fixture
def secret(photos: Path) -> None:
    """Make ``a.png`` an image of a test set."""
    pixels = np.asarray(Image.open(photos / "a.png"))
    known = KnownImage("img_7", 64, 48, pixels_digest(pixels), RemoteFile("", "", "", 0, ""))
    DATASETS.add("test5", DatasetCard("test5", "Test5", known=(known,), benchmark=True), __name__)


@pytest.mark.usefixtures("secret")
def test_an_image_of_a_test_set_is_never_trained_on(photos: Path) -> None:
    paths = find_images([str(photos)])
    assert list(leaking(paths)) == [
        "a.png is img_7 of Test5, pixel for pixel: take it out of the training images."
    ]
    for skip in (False, True):
        with pytest.raises(LeakError, match="img_7 of Test5"):
            prepare_images(paths, RGB, skip_bad=skip)


@pytest.mark.usefixtures("secret")
def test_an_uncropped_copy_under_another_name_is_found_too(photos: Path) -> None:
    larger = np.pad(np.asarray(Image.open(photos / "a.png")), ((0, 3), (0, 2), (0, 0)))
    Image.fromarray(larger).save(photos / "mine.png")
    assert list(leaking([photos / "mine.png"])) == [
        "mine.png is img_7 of Test5, pixel for pixel: take it out of the training images."
    ]


@pytest.mark.real_data
def test_the_known_near_duplicate_is_found_by_its_pixels(photos: Path) -> None:
    set5 = find(DATASETS.get("set5"), 4)
    # As in BSDS500: enlarged 1.39 times, and saved as JPEG.
    for image in set5.images:
        with Image.open(image.path) as opened:
            larger = opened.resize((321, 481), Image.Resampling.BICUBIC)
            larger.save(photos / f"{image.name}-larger.jpg")
    paths = find_images([str(photos)])
    woman = set5.images[4].name
    assert list(leaking(paths)) == [
        f'{woman}-larger.jpg is the Set5 image "woman" in another size: '
        "take it out of the training images."
    ]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["bsds400", "general100", "t91", "kodak24"])
def test_a_published_set_that_is_here_has_the_pinned_files(name: str) -> None:
    try:
        paths = find_images([name])
    except OfflineError:
        pytest.skip(f"{name} is not in a folder of HARNESS_DATA")
    assert is_pinned(name, map(file_digest, paths))


def test_a_file_that_is_called_like_the_near_duplicate_is_judged_by_its_pixels(
    photos: Path,
) -> None:
    (photos / "a.png").rename(photos / "302003.png")
    assert list(leaking(find_images([str(photos)]))) == []


def test_sets_are_found_by_name_below_a_root(tmp_path: Path) -> None:
    for place, count in (("validation/Kodak24", 24), ("train/DIV2K", 800), ("mine", 1)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(picture(20, 20)).save(tmp_path / place / f"{number}.png")
    found = find_images(["kodak24", "div2k", "mine"], tmp_path)
    assert [path.parent.name for path in found] == ["Kodak24"] * 24 + ["DIV2K"] * 800 + ["mine"]


class TestFoldersAsPeopleHaveThem:
    @pytest.fixture(autouse=True)
    def two_images(self, monkeypatch) -> None:
        """DIV2K has two images here."""
        monkeypatch.setattr("harness.data.trainsets.count_of", lambda name: 2)

    def filled(self, *folders: Path) -> None:
        for folder in folders:
            folder.mkdir(parents=True)
            for name in "ab":
                Image.fromarray(picture(20, 20)).save(folder / f"{name}.png")

    @pytest.mark.parametrize(
        ("root", "place"),
        [
            ("data", "DIV2K/DIV2K_train_HR"),
            ("DIV2K", "DIV2K/DIV2K_train_HR"),
            ("DIV2K", "DIV2K_train_HR"),
            ("data", "train/div2k/HR"),
            ("DIV2K", "."),
        ],
    )
    def test_a_set_is_found_one_folder_below_its_name(self, tmp_path, root, place) -> None:
        self.filled(tmp_path / root / place)
        folder, _ = training_folder("div2k", tmp_path / root)
        assert folder and folder.resolve() == (tmp_path / root / place).resolve()

    def test_of_a_path_the_hr_images_are_taken(self, tmp_path: Path) -> None:
        self.filled(tmp_path / "mine/HR", tmp_path / "mine/LR", tmp_path / "mine/LR_x8")
        (folder,) = {path.parent for path in find_images([str(tmp_path / "mine")])}
        assert folder == tmp_path / "mine/HR"
        assert [path.name for path in lr_folders(folder)] == ["LR", "LR_x8"]
        assert lr_folders(tmp_path / "mine") == []

    def test_the_lr_images_of_div2k_are_known(self, tmp_path: Path) -> None:
        names = ("DIV2K_train_HR", "DIV2K_train_LR_bicubic", "DIV2K_valid_LR_bicubic")
        self.filled(*(tmp_path / name for name in names))
        assert lr_folders(tmp_path / names[0]) == [tmp_path / names[1]]

    def test_where_it_is_not_clear_which_are_meant_all_are_named(self, tmp_path: Path) -> None:
        self.filled(tmp_path / "DIV2K_train_HR", tmp_path / "DIV2K_valid_HR")
        said = "itself, but in DIV2K_train_HR, DIV2K_valid_HR: name one of them"
        with pytest.raises(HarnessError, match=said):
            find_images([f"{tmp_path}/"])


def test_a_folder_is_not_a_set_because_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "DIV2K").mkdir()
    for name in "ab":
        Image.fromarray(picture(20, 20)).save(tmp_path / f"DIV2K/{name}.png")
    with pytest.raises(HarnessError, match=r"DIV2K is not div2k: it has 2 images, not 800"):
        find_images(["div2k"], tmp_path)
    assert not is_pinned("kodak24", [str(number) * 64 for number in range(2)])
    pins = [row["sha256"] for row in pinned_rows("trainsets") if row["dataset"] == "kodak24"]
    assert is_pinned("kodak24", pins) and not is_pinned("kodak24", pins[:-1])


def test_a_set_that_is_missing_is_downloaded(tmp_path: Path, host, monkeypatch) -> None:
    rows = []
    for number in range(3):
        path = host.root / f"o/r/c/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(20, 20, seed=number)).save(path)
        place = {"repository": "o/r", "commit": "c", "path": path.name, "file": path.name}
        size = {"bytes": str(path.stat().st_size), "sha256": file_digest(path), "note": ""}
        rows.append({"dataset": "t91"} | place | size)
    monkeypatch.setattr("harness.data.trainsets.pinned_rows", lambda _: rows)
    assert [path.name for path in find_images(["t91"])] == ["0.png", "1.png", "2.png"]
    assert training_folder("t91") == (cache_root() / "data/T91", [])
    # An incomplete download is completed.
    (cache_root() / "data/T91/1.png").unlink()
    assert len(find_images(["t91"])) == 3


def test_what_cannot_be_found_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match="There are no images in"):
        find_images(["empty"], tmp_path)
    with pytest.raises(UsageError, match="No training set or folder is called 'imagenet'"):
        find_images(["imagenet"])
    with pytest.raises(
        HarnessError, match="div2k is not on this machine and may not be downloaded"
    ):
        find_images(["div2k"])
    with pytest.raises(HarnessError, match="its images are derived ones"):
        find_images(["photos50"])
    with pytest.raises(HarnessError, match="t91 is not .* cannot be reached: .* --train-data"):
        find_images(["t91"])


def test_every_pinned_set_has_a_folder() -> None:
    rows = pinned_rows("trainsets")
    assert {row["dataset"] for row in rows} == set(FOLDERS) - {"div2k"}


def test_no_image_of_div2k_is_offered_for_download() -> None:
    rows = pinned_rows("trainsets")
    assert [row["path"] for row in rows if "div2k" in " ".join(row.values()).lower()] == []


def test_training_sets_are_listed_and_fetched_by_name(
    harness, host, tmp_path: Path, monkeypatch
) -> None:
    path = host.root / "o/r/c/a.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(picture(20, 20)).save(path)
    place = {"repository": "o/r", "commit": "c", "path": "a.png", "file": "a.png", "note": ""}
    facts = {"bytes": str(path.stat().st_size), "sha256": file_digest(path), "licence": "CC0"}
    monkeypatch.setattr(
        "harness.data.trainsets.pinned_rows", lambda _: [{"dataset": "t91"} | place | facts]
    )
    before = json.loads(harness("data", "where", "--json").stdout)
    states = {
        row["dataset"]: (row["state"], row["obtain"]) for row in before if row["use"] == "training"
    }
    assert states["t91"] == ("not here", "harness data fetch t91")
    assert states["div2k"] == ("not here", None)
    fetched = harness("data", "fetch", "t91", "div2k")
    assert fetched.exit_code == 1
    assert fetched.output.index("t91, licence: CC0.") < fetched.output.index("Downloading 1 file")
    assert f"t91 is in {cache_root() / 'data/T91'}." in fetched.output
    assert "div2k is not on this machine and may not be downloaded" in fetched.output
    (row,) = [
        row
        for row in json.loads(harness("data", "where", "--json").stdout)
        if row["dataset"] == "t91"
    ]
    assert (row["state"], row["where"]) == ("here", str(cache_root() / "data/T91"))
    kept = Path(row["where"]) / "a.png"
    kept.write_bytes(path.read_bytes()[:-20])
    found, others = training_folder("t91")
    assert found is None and "a.png is truncated or altered" in others[0]
    assert find_images(["t91"]) == [kept]
    assert kept.read_bytes() == path.read_bytes()
