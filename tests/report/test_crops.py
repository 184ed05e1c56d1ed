import os
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.data.images import read_image
from harness.errors import UsageError
from harness.paper.findings import Findings
from harness.paper.schema import Paper, Source, Table, paper
from harness.registry import register_dataset
from harness.report.crops import (
    NO_PICTURE,
    Box,
    Comparison,
    Pictures,
    Region,
    compare,
    crops,
    regions,
)
from harness.run.store import ResultStore

BOX = Box(10, 4, 24, 18)
DRFN = paper("drfn2020")


@pytest.fixture
def pictured(harness, photos: Path, random_weights) -> Pictures:
    """Photographs enlarged by bicubic and SRCNN, with their pictures beside their records."""
    register_dataset("photos", photos)
    weights = f"srcnn={random_weights('srcnn')}"
    words = ("--datasets", "photos", "--results", "records", "--save-images", "records")
    shown = harness("run", "--models", "bicubic,srcnn", "--weights", weights, *words)
    assert shown.exit_code == 0, shown.output
    return Pictures(Path("records"), region=Region("photos", "a", BOX))


def records() -> pd.DataFrame:
    return ResultStore(Path("records")).read().table()


def findings(of: Paper | None = DRFN) -> Findings:
    return Findings(records(), of, None)


def shown(pictures: Pictures) -> Comparison:
    assert pictures.region
    return compare(pictures.region, findings(), pictures)


def texts(pictures: Pictures) -> list[str]:
    drawn = crops(findings(), pictures).draw()
    return [axes.get_xlabel() for axes in drawn.axes[1:]]


def test_hr_comes_first_then_the_models_in_the_order_of_table_2(
    pictured: Pictures, photos: Path
) -> None:
    panels = shown(pictured).panels
    assert [panel.label for panel in panels] == ["HR", "Bicubic", "SRCNN†"]
    assert "SRCNN with a training of which nothing is known" in shown(pictured).note
    assert panels[0].pixels is not None
    assert np.array_equal(panels[0].pixels, read_image(photos / "a.png").pixels)


def test_without_a_paper_the_first_interpolation_and_networks_have_their_own_names(
    harness, pictured: Pictures
) -> None:
    words = ("--datasets", "photos", "--results", "records", "--save-images", "records")
    assert harness("run", "--models", "bicubic-rgb", *words).exit_code == 0
    assert pictured.region
    for of, names in ((None, ["bicubic", "srcnn†"]), (DRFN, ["Bicubic", "SRCNN†"])):
        panels = compare(pictured.region, findings(of), pictured).panels
        assert [panel.label for panel in panels] == ["HR", *names]


def test_the_scale_is_the_largest_of_the_tables(pictured: Pictures) -> None:
    cells = "x2 | A | 37/0.95\nx3 | A | 34/0.92"
    table = Table(id="t", title="T", columns=("set5",), cells=cells)
    source = Source(id="small", title="Small", subject="A")
    small = Paper(source=source, methods={"A": ""}, tables=(table,))
    assert pictured.region
    found = compare(pictured.region, findings(small), pictured)
    assert [panel.label for panel in found.panels] == ["HR"]  # they ran at x4
    assert found.hr.shape[:2] == (48, 63)


def test_pictures_and_scores_are_those_of_the_record(pictured: Pictures) -> None:
    runs = records().set_index("model")["record"]
    panels = shown(pictured).panels[1:]
    assert set(runs.index) == {"bicubic", "srcnn"}
    for panel, model in zip(panels, ("bicubic", "srcnn"), strict=True):
        saved = read_image(next(Path("records").glob(f"x4/photos/{model}-*/a.png")))
        assert np.array_equal(panel.pixels, saved.pixels)
        psnr, ssim = runs[model].images[0].scores.values()
        assert panel.scores == f"{psnr:.2f} dB / {ssim:.4f}"


def test_scores_stand_below_the_patches(pictured: Pictures) -> None:
    bicubic = shown(pictured).panels[1]
    assert texts(pictured)[:2] == ["HR\n", f"Bicubic\n{bicubic.scores}"]


def test_the_patches_are_the_region_enlarged(pictured: Pictures) -> None:
    drawn = crops(findings(), pictured).draw()
    hr = shown(pictured).hr
    assert np.array_equal(drawn.axes[1].images[0].get_array(), hr[4:22, 10:34])


def test_a_missing_picture_is_an_empty_panel(pictured: Pictures) -> None:
    next(Path("records").glob("x4/photos/srcnn-*/a.png")).unlink()
    drawn = crops(findings(), pictured).draw()
    assert [[t.get_text() for t in axes.texts] for axes in drawn.axes[1:]] == [[], [], [NO_PICTURE]]


def test_models_are_chosen_and_one_that_was_not_run_says_so(pictured: Pictures) -> None:
    chosen = Pictures(pictured.folder, region=pictured.region, models=("drfn", "bicubic"))
    assert [text.split("\n")[0] for text in texts(chosen)] == ["HR", "DRFN", "Bicubic"]
    assert texts(chosen)[1] == "DRFN\nnot run"


def test_pictures_of_other_pixels_are_not_shown(pictured: Pictures, photos: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(photos / "a.png")
    assert [panel.pixels for panel in shown(pictured).panels[1:]] == [None, None]


def test_a_picture_of_another_size_is_not_shown(pictured: Pictures) -> None:
    path = next(Path("records").glob("x4/photos/srcnn-*/a.png"))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    srcnn = shown(pictured).panels[2]
    assert srcnn.pixels is None and srcnn.label == "SRCNN† (its picture has another size)"


@pytest.mark.parametrize("box", [Box(60, 0, 24, 18), Box(0, 40, 24, 18), Box(0, 0, 0, 4)])
def test_a_box_outside_the_image_is_refused(pictured: Pictures, box: Box) -> None:
    with pytest.raises(UsageError, match="not inside a, which has 64 x 48 pixels"):
        shown(Pictures(pictured.folder, region=Region("photos", "a", box)))


def test_without_a_box_it_is_the_middle(pictured: Pictures) -> None:
    assert shown(Pictures(pictured.folder, region=Region("photos", "a"))).box == (0, 0, 64, 48)


def test_without_a_choice_and_pictures_it_is_a_photograph_that_may_be_handed_on(
    pictured: Pictures,
) -> None:
    empty = Pictures(Path("nowhere"))
    assert [r.dataset for r in regions(findings(), empty)] == ["demo"]
    report = crops(findings(), empty)
    assert report.name == "crops"
    title = report.draw().axes[0].get_title(loc="left")
    assert title == "demo chelsea (photograph by Stefan van der Walt, CC0)"


class TestTheCommand:
    def test_it_takes_image_box_and_models(self, harness, pictured: Pictures) -> None:
        words = ("--results", "records", "--image", "photos/a", "--models", "bicubic")
        done = harness("report", "crops", *words, "--box", "10,4,24,18")
        assert done.exit_code == 0, done.output
        with Image.open("records/reports/crops-photos-a.png") as image:
            assert image.width > 500

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--image", "a"), "--image takes SET/IMAGE"),
            (("--image", "demo/chelsea", "--box", "1,2,3"), "--box takes x,y,width,height"),
            (("--image", "demo/chelsea", "--box", "1,2,3,x"), "--box takes x,y,width,height"),
            (("--box", "1,2,3,4"), "--box needs the --image"),
            (("--image", "demo/cat"), "demo has no image 'cat': it has astronaut"),
            (("--image", "dema/chelsea"), "did you mean demo?"),
            (("--models", "vdrs"), "did you mean vdsr"),
        ],
    )
    def test_what_is_asked_wrongly_is_said(
        self, harness, pictured: Pictures, words: tuple[str, ...], said: str
    ) -> None:
        done = harness("report", "crops", "--results", "records", *words)
        assert done.exit_code == 2
        assert said in done.output

    def test_its_files_are_the_same_each_time(self, pictured: Pictures) -> None:
        one = crops(findings(), pictured).render("png")
        assert one == crops(findings(), pictured).render("png")
        with Image.open(BytesIO(one)) as image:
            assert image.info.get("Software") is None


@pytest.mark.parametrize("kind", ["garbage", "fifo", "folder"])
def test_a_picture_that_cannot_be_read_leaves_its_place_empty(
    pictured: Pictures, kind: str
) -> None:
    (path,) = Path("records").glob("x4/photos/srcnn-*/a.png")
    path.unlink()
    made = {"garbage": partial(path.write_bytes, b"no image"), "folder": path.mkdir}
    made.get(kind, partial(os.mkfifo, path))()
    bicubic, srcnn = shown(pictured).panels[1:]
    assert bicubic.pixels is not None and srcnn.pixels is None
    assert srcnn.label == "SRCNN† (its picture cannot be read)"
