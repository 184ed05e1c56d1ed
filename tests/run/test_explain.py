import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import nn

from harness import registry
from harness.data.images import read_image
from harness.protocol.metrics import psnr, ssim_whole
from harness.protocol.rules import Protocol, make_sample, network_input, sr_image
from harness.record import RunRecord
from harness.registry import MODELS
from harness.run.store import ResultStore
from tests.pictures import picture

REFERENCE = Path(__file__).parents[2] / "results/reference"
CATS = Path(__file__).parents[1] / "cases/cats"


def only(folder: str = "results/local") -> RunRecord:
    (record,) = ResultStore(Path(folder)).records()
    return record


def test_a_run_whose_record_is_damaged_is_not_taken_from_elsewhere(harness) -> None:
    harness("run", "--models", "bicubic", "--datasets", "demo")
    (path,) = Path("results/local").rglob("*.json")
    shutil.copytree("results/local", "results/reference")
    path.write_text(path.read_text().replace('"finished"', '"finishen"'))
    shown = harness("explain", path.stem[-12:])
    assert shown.exit_code == 1 and "is not a valid run record" in shown.output


@contextmanager
def plugins_forgotten() -> Iterator[None]:
    """Undo at the end what plug-ins register in the block, as if a process had ended."""
    before = [one.snapshot() for one in registry._ALL]
    yield
    for one, entries in zip(registry._ALL, before, strict=True):
        one.restore(entries)


def rows(harness, *words: object) -> list[dict]:
    shown = harness("explain", "--json", *words)
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def one_row(found: list[dict], **wanted: object) -> dict:
    """The row of some convention; what is not said is as the harness has it."""
    usual = {"border": 4, "window": "Gaussian 11x11", "otherwise": []}
    (row,) = (r for r in found if r.items() >= (usual | wanted).items())
    return row


def given_by(shown: Result) -> list[str]:
    """The combinations that give a claimed number."""
    assert shown.exit_code == 0, shown.output
    said = shown.stdout.split("\n\n")[-1].splitlines()
    assert " is given, within " in said[0], shown.output
    return [line for line in said[1:] if not line.startswith("Not by ")]


@pytest.mark.parametrize("model", ["bicubic", "bicubic-rgb"])
class TestARun:
    @pytest.fixture
    def record(self, harness, photos: Path, model: str) -> RunRecord:
        harness("run", "--models", model, "--datasets", photos)
        return only()

    def test_its_own_convention_comes_first_and_gives_its_mean(self, harness, record) -> None:
        first, *others = rows(harness, record.identity.id)
        assert first["own"]
        assert first["psnr"] == pytest.approx(record.means["psnr"], abs=1e-9)
        assert first["ssim"] == pytest.approx(record.means["ssim"], abs=1e-9)
        assert {row["compared"] for row in others} >= {"Y with 64.738", "full-range Y", "RGB"}

    @pytest.mark.parametrize(
        ("made", "options"),
        [("another grey rule", ()), ("imresize border symmetric", ("--border", "symmetric"))],
    )
    def test_other_ways_to_make_its_images_give_what_such_a_run_gives(
        self, harness, photos, model, record, made, options
    ) -> None:
        if made == "another grey rule":
            rule = "as-rgb" if model == "bicubic" else "full-range"
            made, options = f"grey {rule}", ("--grey", rule)
        channel = "Y" if model == "bicubic-rgb" else "rounded Y"
        row = one_row(rows(harness, record.identity.id, "--all"), compared=channel, made=[made])
        words = ("--models", model, "--datasets", photos, "--results", "other")
        harness("run", *words, *options)
        means = only("other").means
        assert (row["psnr"], row["ssim"]) == pytest.approx((means["psnr"], means["ssim"]), abs=1e-9)
        assert row["psnr"] != pytest.approx(record.means["psnr"], abs=1e-4)

    def test_a_number_is_traced_to_the_convention_that_gives_it(self, harness, record) -> None:
        rgb = one_row(rows(harness, record.identity.id), compared="RGB")
        shown = harness("explain", "--claimed", f"{rgb['psnr']:.2f}", record.identity.id[:8])
        assert f"\nRGB, border 4 ({rgb['psnr']:.4f} dB)" in shown.output
        nowhere = harness("explain", "--claimed", 99, record.identity.id)
        assert " combinations gives 99 dB; the nearest is" in nowhere.output

    def test_a_record_that_its_images_do_not_confirm_is_said_to_differ(
        self, harness, record
    ) -> None:
        store = ResultStore(Path("results/local"))
        scores = {"psnr": 40.0, "ssim": 0.9}
        store.write(replace(record, images=(replace(record.images[0], scores=scores),)))
        shown = harness("explain", record.identity.id)
        assert "Note: the record states 40.0000 dB, but the repeated run gives " in shown.output


def test_a_set_without_grey_images_is_not_made_again_for_the_grey_rule(harness, tmp_path) -> None:
    (tmp_path / "one").mkdir()
    Image.fromarray(picture(48, 64)).save(tmp_path / "one/a.png")
    harness("run", "--models", "bicubic-rgb", "--datasets", "one")
    made = {tuple(row["made"]) for row in rows(harness, only().identity.id, "--all")}
    border, rounding = "imresize border symmetric", "LR images not rounded"
    assert made == {(), (border,), (rounding,), (border, rounding)}


def test_a_luma_run_is_also_scored_without_rounding_and_back(harness, photos: Path) -> None:
    for own, other, made, channel in (
        ((), ("--float-y",), "luma not rounded", "Y"),
        (("--float-y",), (), "luma rounded", "rounded Y"),
    ):
        words = ("--models", "bicubic", "--datasets", photos)
        harness("run", *words, *own, "--results", "own")
        harness("run", *words, *other, "--results", "other")
        found = rows(harness, only("own").identity.id, "--results", "own", "--all")
        row = one_row(found, made=[made], compared=channel)
        for seen, record in ((found[0], only("own")), (row, only("other"))):
            assert {name: seen[name] for name in ("psnr", "ssim")} == pytest.approx(record.means)
        shutil.rmtree("own"), shutil.rmtree("other")


@pytest.mark.parametrize(
    ("model", "options", "given"),
    [
        (
            "bicubic",
            ("--float-y", "--border", "symmetric"),
            "Y, border 4, window Gaussian 11x11, imresize border symmetric, luma not rounded",
        ),
        (
            "bicubic",
            ("--float-y", "--border", "symmetric", "--grey", "as-rgb"),
            "Y, border 4, window Gaussian 11x11, imresize border symmetric, luma not rounded, "
            "grey as-rgb",
        ),
        (
            "bicubic-rgb",
            ("--float-lr", "--grey", "full-range"),
            "Y, border 4, window Gaussian 11x11, LR images not rounded, grey full-range",
        ),
    ],
)
def test_what_a_run_under_several_other_rules_prints_is_traced_to_them(
    harness, photos, model, options, given
) -> None:
    words = ("--models", model, "--datasets", photos)
    harness("run", *words)
    harness("run", *words, *options, "--results", "other")
    psnr, ssim = (only("other").means[name] for name in ("psnr", "ssim"))
    claimed = ("--claimed", f"{psnr:.4f}", "--claimed-ssim", f"{ssim:.4f}")
    assert given_by(harness("explain", only().identity.id, *claimed)) == [
        f"{given} ({psnr:.4f} dB and SSIM {ssim:.5f})"
    ]


@pytest.mark.parametrize(
    ("border", "made"), [("replicate", ""), ("symmetric", ", imresize border symmetric")]
)
def test_other_scores_of_pictures_made_in_either_way_are_found(harness, border, made) -> None:
    """Rounded luma, no border cut, SSIM of the whole image."""
    rules = Protocol("y", border=border)
    psnrs, ssims = [], []
    for path in sorted(CATS.iterdir()):
        sample = make_sample(read_image(path).pixels, rules)
        sr = sr_image(network_input(sample.lr, rules, enlarged=True), sample)
        psnrs.append(psnr(sr, sample.hr))
        ssims.append(ssim_whole(sr, sample.hr))
    claimed = [f"{sum(scores) / len(scores):.4f}" for scores in (psnrs, ssims)]
    harness("run", "--models", "bicubic", "--datasets", CATS)
    words = (only().identity.id, "--claimed", claimed[0], "--claimed-ssim", claimed[1])
    (given,) = given_by(harness("explain", *words, "--data-root", CATS.parent))
    assert given.startswith(
        f"rounded Y, border 0, window Gaussian 11x11, whole image{made} ({claimed[0]} dB and "
    )


@pytest.mark.parametrize(
    ("model", "run", "printed", "said"),
    [
        ("bicubic", (), (), "vdsr"),
        ("bicubic-rgb", (), (), "edsr"),
        ("bicubic-rgb", (), ("--border", "symmetric"), "imdn"),
        ("bicubic-rgb", ("--like", "imdn"), ("--like", "edsr"), "edsr"),
        ("bicubic-rgb", (), ("--float-lr",), ""),
        ("bicubic-rgb", (), ("--grey", "full-range"), ""),
    ],
)
def test_the_lineage_whose_rules_give_a_number_is_named(
    harness, photos, model, run, printed, said
) -> None:
    words = ("run", "--models", model, "--datasets", photos)
    harness(*words, *run)
    harness(*words, *printed, "--results", "print")
    psnr = f"{only('print').means['psnr']:.5f}"
    given = given_by(harness("explain", only().identity.id, "--claimed", psnr))[0]
    _, _, named = given.partition(" dB)")
    assert named == (f": the rules of {said} (--like {said})" if said else "")
    found = rows(harness, only().identity.id, "--claimed", psnr)
    likes = {row["like"] for row in found if abs(row["psnr"] - float(psnr)) < 1e-5}
    assert likes - {""} == ({said} if said else set())
    channel = "rounded Y" if model == "bicubic" else "Y"
    assert {(row["compared"], row["border"]) for row in found if row["like"]} == {(channel, 4)}


def test_of_two_images_no_lineage_is_known(harness, photos: Path) -> None:
    found = rows(harness, photos / "a.png", photos / "a.png")
    assert {row["like"] for row in found} == {""}


class TestHowOftenImagesAreMade:
    def test_once_where_that_gives_the_claimed_number(self, harness, photos: Path) -> None:
        harness("run", "--models", "bicubic", "--datasets", photos)
        record = only()
        words = ("explain", record.identity.id, "--claimed", f"{record.means['psnr']:.4f}")
        shown = harness(*words)
        assert [line for line in shown.stderr.splitlines() if line.startswith("Making")] == [
            "Making 3 images."
        ]
        assert "in 7 other ways (13 images) as well, give --all" in shown.stderr
        assert len(given_by(shown)) == 1
        more = harness(*words, "--all")
        assert "in 7 other ways (13 images)" in more.stderr
        assert given_by(more)[0].split(" (")[0] == given_by(shown)[0].split(" (")[0]

    def test_in_every_way_where_nothing_gives_it(self, harness, photos: Path) -> None:
        harness("run", "--models", "bicubic", "--datasets", photos)
        shown = harness("explain", only().identity.id, "--claimed", 99)
        made = [line for line in shown.stderr.splitlines() if line.startswith("Making")]
        assert made[:2] == ["Making 3 images.", "Making them in 7 other ways (13 images)."]
        assert len(made) == 2 + 7
        assert "Making 1 image with imresize border symmetric, grey as-rgb." in made


def test_images_too_small_for_a_border_are_scored_under_the_others(harness, tmp_path) -> None:
    (tmp_path / "small").mkdir()
    Image.fromarray(picture(24, 40)).save(tmp_path / "small/a.png")
    harness("run", "--models", "bicubic", "--datasets", "small")
    assert {row["border"] for row in rows(harness, only().identity.id)} == {0, 4}


def test_a_run_needs_its_own_weights(harness, photos: Path, tmp_path, random_weights) -> None:
    small = {"groups": 1, "blocks": 1}
    path = random_weights("drfn-2conv", width=16, **small)
    harness(
        "run", "--models", "drfn-2conv", "--datasets", photos, "--weights", f"drfn-2conv={path}"
    )
    record = only()
    absent = harness("explain", record.identity.id)
    assert absent.exit_code == 2
    assert f"add --weights {path.name}" in absent.output
    first = rows(harness, record.identity.id, "--weights", path)[0]
    assert first["psnr"] == pytest.approx(record.means["psnr"], abs=1e-4)
    (tmp_path / "other").mkdir()
    other = random_weights("drfn-2conv", folder=tmp_path / "other", width=32, **small)
    refused = harness("explain", record.identity.id, "--weights", other)
    assert refused.exit_code == 1
    assert "are not those of the run" in refused.output


class TestTwoImages:
    def test_they_score_as_in_the_run_that_saved_them(self, harness, photos: Path) -> None:
        words = ("--models", "bicubic-rgb", "--datasets", photos, "--save-images", "sr")
        harness("run", *words)
        images = only().images
        assert len(images) == 3
        for image in images:
            (sr,) = Path("sr").rglob(f"{image.image}.png")
            first = rows(harness, sr, photos / f"{image.image}.png")[0]
            assert first["own"]
            assert first["psnr"] == pytest.approx(image.scores["psnr"], abs=1e-9)
            assert first["ssim"] == pytest.approx(image.scores["ssim"], abs=1e-9)

    def test_grey_ones_have_two_rules_and_one_channel(self, harness, tmp_path) -> None:
        for seed in (1, 2):
            Image.fromarray(picture(48, 48, 1, seed)).save(tmp_path / f"{seed}.png")
        found = rows(harness, "1.png", "2.png", "--claimed", 20)
        stored = {row["compared"] for row in found if row["made"] != ["grey as-rgb"]}
        assert stored == {"Y"}
        again = one_row(found, made=["grey as-rgb"], compared="Y")
        assert again["psnr"] - found[0]["psnr"] == pytest.approx(1.322, abs=0.001)

    def test_what_cannot_be_compared_is_refused(self, harness, tmp_path) -> None:
        for name, image in {
            "colour": picture(48, 64),
            "grey": picture(48, 64, 1),
            "larger": picture(64, 64),
            "tiny": picture(16, 64),
        }.items():
            Image.fromarray(image).save(tmp_path / f"{name}.png")
        for name in ("grey", "larger"):
            shown = harness("explain", f"{name}.png", "colour.png")
            assert shown.exit_code == 2
            assert "and colour, 64 x 48 after cropping to multiples of 4" in shown.output
        tiny = harness("explain", "tiny.png", "tiny.png")
        assert (tiny.exit_code, "too small to be scored" in tiny.output) == (1, True)
        assert harness("explain", "gone.png", "colour.png").exit_code == 2
        assert harness("explain", "colour.png", "colour.png").exit_code == 0


def test_an_own_set_is_found_again_by_the_name_in_its_record(harness, photos: Path) -> None:
    """That of a folder called Set5 has the hash of its images behind it."""
    photos.rename("Set5")
    harness("run", "--models", "bicubic", "--datasets", "./Set5")
    run = only().identity.id
    assert rows(harness, run)[0]["own"]
    Path("moved").mkdir()
    Path("Set5").rename("moved/Set5")
    shown = harness("explain", run)
    assert shown.exit_code == 2 and "with --data-root" in shown.output
    assert harness("explain", run, "--data-root", "moved").exit_code == 0


PLUGIN = """
from torch import nn
from harness.registry import register_dataset, register_model

@register_model("mine", pipeline="y", input="bicubic", scales=(4,))
def mine(scale=4):
    return nn.Conv2d(1, 1, 1)

register_dataset("three", "photos")
"""


def test_for_a_run_of_a_plugin_it_names_what_to_add(harness, photos: Path) -> None:
    """A process that has loaded no plug-in asks for the file, and then for the weights."""
    Path("mine.py").write_text(PLUGIN)
    torch.save(nn.Conv2d(1, 1, 1).state_dict(), "mine.pth")
    words = ("--datasets", "three", "--weights", "mine=mine.pth", "--plugin", "mine.py")
    with plugins_forgotten():
        assert harness("run", "--models", "mine", *words).exit_code == 0
    run = only().identity.id
    with plugins_forgotten():
        shown = harness("explain", run)
        assert shown.exit_code == 2 and "add --plugin mine.py." in shown.output
        shown = harness("explain", run, "--plugin", "mine.py")
        assert shown.exit_code == 2 and "add --weights mine.pth." in shown.output
        assert rows(harness, run, "--plugin", "mine.py", "--weights", "mine.pth")[0]["own"]


def test_for_a_run_on_the_set_of_a_plugin_it_names_the_plugin(harness, photos: Path) -> None:
    Path("mine.py").write_text(PLUGIN)
    with plugins_forgotten():
        harness("run", "--models", "bicubic", "--datasets", "three", "--plugin", "mine.py")
    shown = harness("explain", only().identity.id)
    assert shown.exit_code == 2 and "add --plugin mine.py." in shown.output


def test_it_reads_the_entry_of_a_checkpoint_that_the_run_read(harness, photos: Path) -> None:
    build = MODELS.get("srcnn").build
    networks = {name: build(scale=4).state_dict() for name in ("params", "params_ema")}
    torch.save(networks, "two.pth")
    words = ("--datasets", "photos", "--weights", "srcnn=two.pth", "--weights-key", "params")
    harness("run", "--models", "srcnn", *words)
    assert rows(harness, only().identity.id, "--weights", "two.pth")[0]["own"]


def test_what_is_no_run_is_said(harness) -> None:
    shown = harness("explain", "abc")
    assert shown.exit_code == 2
    assert "'abc' names 0 finished runs in results/local or " in shown.output
    assert "Name a run, or an SR image" in harness("explain", "a", "b", "c").output


@pytest.mark.real_data
def test_on_set5_each_convention_is_worth_what_was_measured_elsewhere(harness) -> None:
    record = next(
        r
        for r in ResultStore(REFERENCE).records()
        if (r.identity.model, r.identity.dataset, r.identity.protocol)
        == ("bicubic-rgb", "set5", "BI-x4/rgb")
    )
    words = (record.identity.id, "--reference", REFERENCE, "--claimed")
    found = rows(harness, *words, 30)
    own = found[0]["psnr"]
    assert own == pytest.approx(28.4302, abs=1e-4)

    def worth(**convention: object) -> float:
        return one_row(found, **convention)["psnr"] - own

    assert worth(compared="Y with 64.738", made=[]) == pytest.approx(0.04, abs=0.005)
    assert worth(compared="full-range Y", made=[]) == pytest.approx(-1.3, abs=0.05)
    assert -0.02 < worth(compared="rounded Y", made=[]) < -0.005
    assert -0.004 < worth(compared="Y", made=["imresize border symmetric"]) < 0
    # Measured by a script of its own; the image with the largest error decides.
    pooled = worth(compared="Y", made=[], otherwise=["PSNR of the pooled MSE"])
    assert pooled == pytest.approx(26.6833 - 28.4302, abs=1e-4)
    rgb = own + worth(compared="RGB", made=[])
    shown = harness("explain", *words, f"{rgb:.4f}")
    assert given_by(shown)[0].startswith("RGB, border 4 (")


@pytest.mark.real_data
def test_on_set5_the_digits_of_a_luma_network_under_other_rules_are_traced(harness) -> None:
    words = ("--models", "srcnn", "--datasets", "set5")
    harness("run", *words)
    harness("run", *words, "--float-y", "--border", "symmetric", "--results", "other")
    psnr, ssim = (only("other").means[name] for name in ("psnr", "ssim"))
    assert (psnr, ssim) == (pytest.approx(30.5003, abs=1e-4), pytest.approx(0.8638, abs=1e-4))
    given = "Y, border 4, imresize border symmetric, luma not rounded (30.5003 dB)"
    assert given_by(harness("explain", only().identity.id, "--claimed", f"{psnr:.4f}")) == [given]


@pytest.mark.real_data
def test_a_run_stands_beside_the_log_of_the_network_s_authors(harness, random_weights) -> None:
    path = random_weights("msrn")
    harness("run", "--models", "msrn", "--datasets", "set5", "--weights", f"msrn={path}")
    shown = harness("explain", only().identity.id, "--weights", path)
    assert shown.exit_code == 0, shown.output
    title, _, _, *lines, largest = shown.stdout.split("\n\n")[-1].splitlines()
    assert title.startswith("Beside MSRN's authors' log (MIVRC/MSRN-PyTorch at 7873388, ")
    logged = [float(line.split()[3]) for line in lines]
    assert logged == [33.7579, 35.1773, 28.7819, 33.0206, 30.5818]
    gaps = [image.scores["psnr"] - psnr for image, psnr in zip(only().images, logged, strict=True)]
    _, _, gap, _, _, name, _ = largest.split()
    assert float(gap) == pytest.approx(max(gaps, key=abs), abs=2e-4)
    assert name == only().images[gaps.index(max(gaps, key=abs))].image
