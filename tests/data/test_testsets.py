"""Finding, downloading and verifying test sets."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness.cards import DatasetCard, KnownImage, RemoteFile
from harness.data import pinned
from harness.data.images import pixels_digest
from harness.data.pinned import fetch, sha256_pin
from harness.data.testsets import (
    DatasetUnavailable,
    downloads,
    find,
    find_or_fetch,
    roots,
    select,
    verify,
)
from harness.errors import HarnessError, MismatchError, UsageError
from harness.registry import DATASETS, register_dataset
from tests.conftest import Host
from tests.pictures import picture

IMAGES = {f"img_{i}": picture(24 + 4 * i, 32, seed=i) for i in range(3)}


@pytest.fixture
def card() -> DatasetCard:
    """A published set of three images, like Set5 but small."""
    known = tuple(
        KnownImage(n, p.shape[1], p.shape[0], pixels_digest(p), RemoteFile("a/b", "c", n, 1, n))
        for n, p in IMAGES.items()
    )
    made = DatasetCard("tiny", "Tiny", len(known), ("Tiny", "Little"), known)
    DATASETS.add("tiny", made, __name__)
    return made


def write(folder: Path, names: Sequence[str] = tuple(IMAGES), pattern: str = "{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(IMAGES[name]).save(folder / pattern.format(name))
    return folder


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("Tiny", "{}.png"),
        ("tiny", "{}.bmp"),
        ("Little/HR", "{}.png"),
        ("benchmark/Tiny/HR", "{}.png"),
        ("benchmarks/TINY/image_SRF_4", "{}_SRF_4_HR.png"),
    ],
)
def test_every_known_layout_is_found(
    card: DatasetCard, tmp_path: Path, layout: str, pattern: str
) -> None:
    write(tmp_path / layout, pattern=pattern)
    image_set = find(card, 4, tmp_path)
    assert [image.name for image in image_set.images] == list(IMAGES)
    assert image_set.verified


def test_lr_images_beside_the_hr_images_do_no_harm(card: DatasetCard, tmp_path: Path) -> None:
    folder = write(tmp_path / "Tiny/image_SRF_4", pattern="{}_HR.png")
    Image.fromarray(picture(6, 8)).save(folder / "img_0_LR.png")
    assert len(find(card, 4, tmp_path).images) == 3


def test_pixels_decide_what_a_file_is_not_its_name(card: DatasetCard, tmp_path: Path) -> None:
    folder = tmp_path / "Tiny"
    folder.mkdir()
    for name, other in zip(IMAGES, ["baby", "bird", "img_0"], strict=True):
        Image.fromarray(IMAGES[name]).save(folder / f"{other}.png")
    found = {image.name: image.path.stem for image in find(card, 4, tmp_path).images}
    assert found == {"img_0": "baby", "img_1": "bird", "img_2": "img_0"}


def test_an_original_that_was_not_cropped_yet_is_recognised(
    card: DatasetCard, tmp_path: Path
) -> None:
    folder = write(tmp_path / "Tiny")
    larger = picture(27, 33)
    larger[:24, :32] = IMAGES["img_0"]
    Image.fromarray(larger).save(folder / "img_0.png")
    assert find(card, 4, tmp_path).verified


def test_the_first_root_wins(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "one/Tiny"), write(tmp_path / "two/Tiny"), write(tmp_path / "three/Tiny")
    monkeypatch.setenv("HARNESS_DATA", f"{tmp_path / 'two'}:{tmp_path / 'three'}")
    assert roots(tmp_path / "one")[:3] == [tmp_path / n for n in ("one", "two", "three")]
    assert find(card, 4, tmp_path / "one").images[0].path.is_relative_to(tmp_path / "one")
    assert find(card, 4).images[0].path.is_relative_to(tmp_path / "two")


def test_a_root_may_be_the_set_itself(card: DatasetCard, tmp_path: Path) -> None:
    assert find(card, 4, write(tmp_path / "Tiny")).verified


def test_a_missing_image_is_named(card: DatasetCard, tmp_path: Path) -> None:
    write(tmp_path / "Tiny", ["img_0", "img_2"])
    with pytest.raises(HarnessError, match=r"lacks 1 of its 3 images \(img_1\)"):
        find(card, 4, tmp_path)


def test_an_altered_image_is_named_even_under_its_own_name(
    card: DatasetCard, tmp_path: Path
) -> None:
    pixels = IMAGES["img_1"].copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(write(tmp_path / "Tiny") / "img_1.png")
    with pytest.raises(HarnessError, match=r"lacks 1 .*\(img_1\); not among .*: img_1\.png"):
        find(card, 4, tmp_path)


def test_at_another_scale_hr_images_may_be_cropped_otherwise(
    card: DatasetCard, tmp_path: Path
) -> None:
    for name, pixels in IMAGES.items():
        folder = tmp_path / "Tiny/image_SRF_3"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :30]).save(folder / f"{name}_HR.png")
    image_set = find(card, 3, tmp_path)
    assert len(image_set.images) == 3
    assert not image_set.verified


def test_an_empty_folder_is_said_to_be_empty(card: DatasetCard, tmp_path: Path) -> None:
    (tmp_path / "Tiny").mkdir()
    with pytest.raises(HarnessError, match="there are no images in .*Tiny"):
        find(card, 4, tmp_path)


def test_a_set_that_is_nowhere_says_how_to_get_it(card: DatasetCard) -> None:
    with pytest.raises(DatasetUnavailable, match="harness data fetch tiny"):
        find(card, 4)


def test_a_missing_set_without_a_network_says_both(card: DatasetCard) -> None:
    with pytest.raises(DatasetUnavailable, match="not on this machine.*cannot be reached"):
        find_or_fetch(card, 4)


def test_manga109_is_never_downloaded_and_counts_its_images(tmp_path: Path) -> None:
    manga = DATASETS.get("manga109")
    with pytest.raises(HarnessError, match="licence forbids copies"):
        downloads(manga)
    with pytest.raises(DatasetUnavailable, match="licence forbids copies"):
        find_or_fetch(manga, 4)
    write(tmp_path / "Manga109")
    with pytest.raises(HarnessError, match="has 109 images, and .* has 3"):
        find(manga, 4, tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "mine"), write(tmp_path / "mine", ["img_0"], "{}.bmp")
    with pytest.raises(HarnessError, match="Two images .* are called img_0"):
        find(select([str(tmp_path / "mine")])[0], 4)


def test_the_hash_of_a_set_changes_with_a_pixel(tmp_path: Path) -> None:
    own = select([str(write(tmp_path / "mine"))])[0]
    before = find(own, 4).sha256
    assert before == find(own, 4).sha256
    Image.fromarray(255 - IMAGES["img_1"]).save(tmp_path / "mine/img_1.png")
    assert find(own, 4).sha256 != before


def test_demo_is_always_there() -> None:
    image_set = find(DATASETS.get("demo"), 4)
    assert image_set.verified
    assert {"astronaut", "camera"} < {image.name for image in image_set.images}


def test_a_sound_set_is_found_behind_a_broken_one(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "broken/Tiny", ["img_0"])
    write(tmp_path / "sound/Tiny")
    monkeypatch.setenv("HARNESS_DATA", f"{tmp_path}/broken{os.pathsep}{tmp_path}/sound")
    assert find(card, 4).images[0].path.is_relative_to(tmp_path / "sound")


class TestFetching:
    """A missing set is downloaded and an incomplete download completed; no others are fetched."""

    @staticmethod
    def bring(card: DatasetCard, asked: list[Path]) -> Callable[[Sequence[tuple]], None]:
        def fetch(files: Sequence[tuple]) -> None:
            for file, path in files:
                if not path.exists():
                    asked.append(path)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(IMAGES[file.path.split("/")[-1].split(".")[0]]).save(path)

        return fetch

    @pytest.fixture
    def remote(self, card: DatasetCard) -> DatasetCard:
        known = tuple(
            replace(i, file=replace(i.file, path=f"data/Tiny/{i.name}.png")) for i in card.known
        )
        return replace(card, known=known)

    def test_a_missing_set_is_downloaded(self, remote: DatasetCard) -> None:
        asked: list[Path] = []
        assert find_or_fetch(remote, 4, fetch=self.bring(remote, asked)).verified
        assert len(asked) == 3

    def test_a_download_that_was_cut_short_is_completed(self, remote: DatasetCard) -> None:
        asked: list[Path] = []
        fetch = self.bring(remote, asked)
        fetch(downloads(remote)[:1])
        assert find_or_fetch(remote, 4, fetch=fetch).verified
        assert len(asked) == 3

    def test_a_broken_folder_of_the_user_is_not_papered_over(
        self, remote: DatasetCard, tmp_path: Path
    ) -> None:
        write(tmp_path / "Tiny", ["img_0"])
        with pytest.raises(HarnessError, match="lacks 2 of its 3 images"):
            find_or_fetch(remote, 4, tmp_path, fetch=pytest.fail)

    def test_a_wrong_checksum_is_not_taken_for_a_missing_set(self, remote: DatasetCard) -> None:
        def tampered(files: Sequence[tuple]) -> None:
            raise MismatchError("not what the registry pins")

        with pytest.raises(MismatchError):
            find_or_fetch(remote, 4, fetch=tampered)


class TestUserCache:
    """The harness may replace files in the user cache."""

    @pytest.fixture
    def hosted(self, card: DatasetCard, host: Host) -> DatasetCard:
        """A set that the host serves and that is already in the user cache."""
        known = []
        folder = write(host.root / "a/b/c/data/Tiny/image_SRF_4", pattern="{}_HR.png")
        for image in card.known:
            path = folder / f"{image.name}_HR.png"
            pinned = f"data/Tiny/image_SRF_4/{path.name}"
            file = RemoteFile("a/b", "c", pinned, path.stat().st_size, sha256_pin(path))
            known.append(replace(image, file=file))
        made = replace(card, name="hosted", known=tuple(known))
        DATASETS.add("hosted", made, __name__)
        fetch(downloads(made))
        host.requests.clear()
        return made

    @staticmethod
    def damage(card: DatasetCard, how: str) -> tuple[Path, bytes]:
        """Damage an image in the user cache; return its path and old content."""
        path = downloads(card)[1][1]
        content = path.read_bytes()
        if how == "truncated":
            path.write_bytes(content[: len(content) // 2])
        else:
            Image.fromarray(255 - IMAGES["img_1"]).save(path)
        return path, content

    @pytest.mark.parametrize("scale", [3, 4])
    @pytest.mark.parametrize("how", ["truncated", "altered"])
    def test_a_damaged_image_is_downloaded_again(
        self, harness, hosted: DatasetCard, host: Host, scale: int, how: str
    ) -> None:
        path, content = self.damage(hosted, how)
        shown = harness("run", "--models", "bicubic", "--datasets", "hosted", "--scale", scale)
        assert shown.exit_code == 0, shown.output
        assert f"Truncated or altered, downloading again: {path}." in shown.stderr
        assert path.read_bytes() == content
        assert len([one for one in host.requests if "img" in one]) == 1

    def test_without_a_network_a_damaged_image_is_no_missing_set(
        self, hosted: DatasetCard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, _ = self.damage(hosted, "altered")
        monkeypatch.setattr(pinned, "_reachable", lambda host: False)
        with pytest.raises(HarnessError, match=f"{path} is truncated or altered and") as caught:
            find_or_fetch(hosted, 4)
        assert not isinstance(caught.value, DatasetUnavailable)

    def test_a_wrong_checksum_decides_the_exit_code_of_a_fetch(
        self, harness, hosted: DatasetCard, host: Host
    ) -> None:
        path, _ = self.damage(hosted, "truncated")
        (host.root / f"a/b/c/{hosted.known[1].file.path}").write_bytes(b"something else")
        shown = harness("data", "fetch", "manga109", "hosted", "demo")
        assert shown.exit_code == 3
        assert "licence forbids copies" in shown.output and "it is in" in shown.output
        assert f"{path.name} does not have the SHA-256" in shown.output


class TestSelect:
    def test_two_folders_of_one_name_are_refused(self, tmp_path: Path) -> None:
        one, two = write(tmp_path / "one/hr"), write(tmp_path / "two/hr")
        assert len(select([str(one), f"{one}/"])) == 1
        with pytest.raises(UsageError, match="Two test sets are called hr"):
            select([str(one), str(two)])

    def test_nothing_is_no_request(self) -> None:
        with pytest.raises(UsageError, match="No test sets are named"):
            select([])

    def test_all_means_every_registered_set(self) -> None:
        names = [one.name for one in select(["all"])]
        assert names == ["set5", "set14", "b100", "urban100", "manga109", "demo"]

    def test_words_are_names_in_any_case_and_globs_and_count_once(self) -> None:
        assert [one.name for one in select(["Set5", "set*", "DEMO"])] == ["set5", "set14", "demo"]

    def test_a_folder_is_a_set_by_its_path_or_below_a_root(self, tmp_path: Path) -> None:
        write(tmp_path / "holiday")
        by_path, by_name = select([f"{tmp_path}/holiday"]), select(["holiday"], tmp_path)
        assert by_path == by_name
        assert (by_path[0].name, len(find(by_path[0], 4).images)) == ("holiday", 3)

    def test_a_published_set_named_by_its_path_stays_one(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        for folder in ("Little", "holiday"):
            (chosen,) = select([str(write(tmp_path / folder))])
            found = find(chosen, 4)
            assert (found.card.name, found.verified) == ("tiny", True)
        with pytest.raises(HarnessError, match="not of holiday-00000000"):
            find(select(["holiday-00000000"], tmp_path)[0], 4)

    def test_another_image_beside_a_published_set_is_named(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        folder = write(tmp_path / "Tiny")
        Image.fromarray(picture(48, 48, seed=99)).save(folder / "extra.png")
        found = find(select([str(folder)])[0], 4)
        assert found.verified and "extra.png (not an image of the set)" in found.notes[0]

    def test_a_set_without_known_images_is_one_by_their_number(self, tmp_path: Path) -> None:
        DATASETS.add("Pages", DatasetCard("Pages", "Pages", 3, ("Pages",)), __name__)
        assert [card.name for card in select(["Pages"])] == ["Pages"]
        folder = write(tmp_path / "Pages")
        assert find(select([str(folder)])[0], 4).card.name == "Pages"
        (folder / "img_0.png").unlink()
        assert find(select([str(folder)])[0], 4).card.name.startswith("Pages-")

    def test_the_folder_that_a_plugin_registered_is_its_set_by_its_path_too(
        self, tmp_path: Path
    ) -> None:
        register_dataset("holiday", write(tmp_path / "holiday"))
        by_name, by_path = (
            find(select([word])[0], 4) for word in ("holiday", str(tmp_path / "holiday"))
        )
        assert by_path.card.name == by_name.card.name == "holiday"
        assert by_path.sha256 == by_name.sha256

    def test_a_set_is_called_as_its_link_is(self, tmp_path: Path) -> None:
        (tmp_path / "nice").symlink_to(write(tmp_path / "deep/HR"))
        assert find(select([str(tmp_path / "nice")])[0], 4).card.name == "nice"

    def test_other_images_do_not_stand_in_for_hr_images_that_cannot_be_read(
        self, tmp_path: Path
    ) -> None:
        write(tmp_path / "holiday", ["img_0"])
        (tmp_path / "holiday/HR").mkdir()
        (tmp_path / "holiday/HR/sea.png").write_bytes(b"broken")
        with pytest.raises(HarnessError, match="sea.png cannot be read"):
            find(select([str(tmp_path / "holiday")])[0], 4)

    @pytest.mark.parametrize("name", ["Tiny", "demo", "Set5"])
    def test_an_own_folder_called_like_a_published_set_is_a_set_of_its_own(
        self, card: DatasetCard, tmp_path: Path, name: str
    ) -> None:
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(picture(48, 48, seed=99)).save(folder / "mine.png")
        found = find(select([str(folder)])[0], 4)
        hashed = f"{name}-{found.sha256[:8]}"
        assert found.card.name == hashed and not found.verified
        assert find(select([hashed], tmp_path)[0], 4) == found, "reports call it so"
        with pytest.raises(HarnessError, match=f"are those of {hashed}, not of {name}-00000000"):
            find(select([f"{name}-00000000"], tmp_path)[0], 4)

    def test_an_own_set_is_found_by_its_name_with_the_hash(self, tmp_path: Path) -> None:
        found = find(select([str(write(tmp_path / "holiday"))])[0], 4)
        hashed = f"holiday-{found.sha256[:8]}"
        assert find(select([hashed], tmp_path)[0], 4).card.name == "holiday"
        write(tmp_path / hashed, ["img_0"])
        assert len(find(select([hashed], tmp_path)[0], 4).images) == 1, "a folder comes first"

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_as_many_images_of_other_sizes_are_an_own_set(
        self, card: DatasetCard, tmp_path: Path, scale: int
    ) -> None:
        (tmp_path / "Tiny").mkdir()
        for name in ("img_0_mine", "b", "c"):
            Image.fromarray(picture(96, 84, seed=len(name))).save(tmp_path / f"Tiny/{name}.png")
        found = find(select([str(tmp_path / "Tiny")])[0], scale)
        assert found.card.name == f"Tiny-{found.sha256[:8]}"

    def test_images_of_nearly_the_published_sizes_are_taken_for_the_set_at_x3(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        (tmp_path / "Tiny").mkdir()
        for name, pixels in zip(("baby", "bird", "head"), IMAGES.values(), strict=True):
            Image.fromarray(255 - pixels[:, :30]).save(tmp_path / f"Tiny/{name}.png")
        (chosen,) = select([str(tmp_path / "Tiny")])
        assert find(chosen, 3).card.name == "tiny"
        assert find(chosen, 4).card.name.startswith("Tiny-")
        (tmp_path / "Tiny/bird.png").rename(tmp_path / "Tiny/baby.bmp")
        with pytest.raises(HarnessError, match="Two images in .* are called baby"):
            find(chosen, 3)

    def test_one_that_has_some_of_its_images_lacks_the_others(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        folder = write(tmp_path / "Tiny")
        next(iter(sorted(folder.iterdir()))).unlink()
        with pytest.raises(HarnessError, match="lacks 1 of its 3 images"):
            find(select([str(folder)])[0], 4)

    def test_what_names_nothing_is_refused_with_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="did you mean set14"):
            select(["sett14"])
        with pytest.raises(UsageError, match="There is no folder"):
            select([f"{tmp_path}/nothing"])


class TestVerify:
    def test_sound_broken_and_absent_sets_are_told_apart(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        folder = write(tmp_path / "Tiny")
        assert next(verify(["tiny"], 4, tmp_path)).message.startswith(
            "Tiny: 3 images, as published"
        )
        (folder / "img_1.png").write_bytes(b"broken")
        (broken,) = verify(["tiny"], 4, tmp_path)
        assert not broken.sound
        shutil.rmtree(folder)
        (absent,) = verify(["tiny"], 4, tmp_path)
        assert (broken.absent, absent.absent) == (False, True)
        assert not absent.sound and "not on this machine" in absent.message
        everything = {verdict.message.split()[0]: verdict for verdict in verify(["all"], 4)}
        urban = everything["Urban100"]
        assert urban.sound and urban.absent, "`all` does not require it"


class TestScales:
    """The images of the card, cropped for x4 from originals that are one pixel larger."""

    @pytest.fixture
    def cropped(self, card: DatasetCard) -> DatasetCard:
        known = tuple(
            replace(image, original=(image.width + 1, image.height + 1)) for image in card.known
        )
        made = replace(card, known=known)
        DATASETS.add("tiny", made, __name__)
        return made

    @pytest.mark.parametrize(("scale", "verified"), [(2, True), (3, False), (4, True)])
    def test_images_that_are_cropped_for_x4_are_those_of_x2_and_not_of_x3(
        self, cropped: DatasetCard, tmp_path: Path, scale: int, verified: bool
    ) -> None:
        write(tmp_path / "Tiny")
        found = find(cropped, scale, tmp_path)
        assert found.verified == verified
        assert ("cropped for x4" in " ".join(found.notes)) == (not verified)

    def test_of_a_set_whose_originals_are_unknown_only_x4_is_verified(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        write(tmp_path / "Tiny")
        assert find(card, 4, tmp_path).verified
        found = find(card, 2, tmp_path)
        assert not found.verified and "Tiny is not verified at x2" in found.notes[0]
        (check,) = verify(["tiny"], 2, tmp_path)
        assert check.sound and found.notes[0] in check.message

    def test_images_of_half_size_are_not_the_set_and_those_of_full_size_are_taken(
        self, cropped: DatasetCard, tmp_path: Path
    ) -> None:
        folder = tmp_path / "Tiny"
        (folder / "image_SRF_2").mkdir(parents=True)
        for name in IMAGES:
            half = Image.fromarray(picture(12, 16, seed=7))
            half.save(folder / f"image_SRF_2/{name}_SRF_2_HR.png")
        with pytest.raises(HarnessError, match="16 x 12 pixels, and no published image is"):
            find(cropped, 2, tmp_path)
        write(folder / "image_SRF_4", pattern="{}_SRF_4_HR.png")
        found = find(cropped, 2, tmp_path)
        assert found.verified and found.images[0].path.parent.name == "image_SRF_4"

    def test_a_root_with_the_images_of_one_scale_is_a_set_at_that_scale(
        self, card: DatasetCard, tmp_path: Path
    ) -> None:
        from harness.cli.list import list_datasets

        folder = tmp_path / "Tiny/image_SRF_3"
        folder.mkdir(parents=True)
        for name, pixels in IMAGES.items():
            Image.fromarray(pixels[:24, :30]).save(folder / f"{name}_SRF_3_HR.png")
        rows = {row["dataset"]: row["state"] for row in list_datasets(4, tmp_path)}
        assert rows["tiny"] == "here at x3 only"


def test_a_root_that_is_asked_for_is_not_passed_over(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "good/Tiny")
    other = write(tmp_path / "asked/Tiny")
    Image.fromarray(picture(24, 32, seed=9)).save(other / "img_0.png")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "good"))
    assert find(card, 4).verified
    with pytest.raises(HarnessError, match="Tiny in .*asked"):
        find(card, 4, tmp_path / "asked")
