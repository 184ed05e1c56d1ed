import os
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from PIL import Image

from harness.data.images import read_image
from harness.errors import HarnessError, UsageError
from harness.paper.findings import Findings
from harness.paper.schema import Paper, Source, Table, paper
from harness.registry import register_dataset
from harness.report.crops import CREDITS, Box, Pictures, Region, crops
from harness.run.store import ResultStore

BOX = Box(10, 4, 24, 18)
DRFN = paper("drfn2020")
REFERENCE = Path(__file__).parents[2] / "results/reference"


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


def drawn(pictures: Pictures, of: Paper | None = DRFN) -> list[Axes]:
    """The whole image, then the patches."""
    (report,) = crops(findings(of), pictures)
    return report.draw().axes


def models(pictures: Pictures, of: Paper | None = DRFN) -> list[str]:
    return [axes.get_xlabel().split("\n")[0] for axes in drawn(pictures, of)[1:]]


def test_hr_comes_first_then_the_models_in_the_order_of_table_2(pictured: Pictures) -> None:
    assert models(pictured) == ["HR", "Bicubic", "SRCNN†"]
    (report,) = crops(findings(), pictured)
    notes = [text.get_text().replace("\n", " ") for text in report.draw().texts]
    assert "SRCNN with a training of which nothing is known" in notes[0]


def test_without_a_paper_networks_have_their_own_names(pictured: Pictures) -> None:
    assert models(pictured, None) == ["HR", "bicubic", "srcnn†"]


def test_the_scale_is_the_largest_of_the_tables(pictured: Pictures) -> None:
    cells = "x2 | A | 37.00/0.9500\nx3 | A | 34.00/0.9200"
    table = Table(id="t", title="T", columns=("set5",), cells=cells)
    source = Source(id="small", title="Small", subject="A")
    small = Paper(source=source, methods={"A": ""}, tables=(table,))
    with pytest.raises(UsageError, match="lacks SR images of photos/a"):  # they ran at x4
        crops(findings(small), pictured)


def test_patches_and_scores_are_those_of_the_records(pictured: Pictures, photos: Path) -> None:
    runs = records().set_index("model")["record"]
    _, hr, *panels = drawn(pictured)
    assert hr.get_xlabel() == "HR"
    patch = slice(4, 22), slice(10, 34)
    assert np.array_equal(hr.images[0].get_array(), read_image(photos / "a.png").pixels[patch])
    for panel, model in zip(panels, ("bicubic", "srcnn"), strict=True):
        saved = read_image(next(Path("records").glob(f"x4/photos/{model}-*/a.png")))
        assert np.array_equal(panel.images[0].get_array(), saved.pixels[patch])
        psnr, ssim = runs[model].images[0].scores.values()
        assert panel.get_xlabel().endswith(f"\n{psnr:.2f} dB / {ssim:.4f}")


def test_a_grey_image_that_is_scored_as_rgb_says_so(harness, pictured: Pictures) -> None:
    Path("grey").mkdir()
    pixels = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64) % 251
    Image.fromarray(pixels.astype(np.uint8)).save("grey/g.png")
    register_dataset("grey", Path("grey"))
    words = ("--datasets", "grey", "--results", "records", "--save-images", "records")
    assert harness("run", "--models", "bicubic,bicubic-rgb", *words).exit_code == 0
    labels = [
        axes.get_xlabel() for axes in drawn(Pictures(Path("records"), region=Region("grey", "g")))
    ]
    assert [label.endswith(" as RGB") for label in labels[1:]] == [False, False, True]


def test_a_run_without_picture_is_left_out(pictured: Pictures) -> None:
    next(Path("records").glob("x4/photos/srcnn-*/a.png")).unlink()
    assert models(pictured) == ["HR", "Bicubic"]


def test_models_are_chosen_and_one_without_picture_is_an_error(pictured: Pictures) -> None:
    chosen = replace(pictured, models=("srcnn", "bicubic"))
    assert models(chosen) == ["HR", "SRCNN†", "Bicubic"]
    assert models(replace(pictured, models=("S*cnn", "*"))) == ["HR", "SRCNN†", "Bicubic"]
    with pytest.raises(UsageError, match="by vdsr: make them"):
        crops(findings(), replace(pictured, models=("vds*",)))
    with pytest.raises(UsageError, match="by drfn: make them with harness run --save-images"):
        crops(findings(), replace(pictured, models=("drfn", "bicubic")))


def test_pictures_of_other_pixels_are_not_shown(pictured: Pictures, photos: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(photos / "a.png")
    with pytest.raises(UsageError, match="lacks SR images of photos/a by any model"):
        crops(findings(), pictured)


@pytest.mark.parametrize("box", [Box(60, 0, 24, 18), Box(0, 40, 24, 18), Box(0, 0, 0, 4)])
def test_a_box_outside_the_image_is_refused(pictured: Pictures, box: Box) -> None:
    with pytest.raises(UsageError, match="not inside a, which has 64 x 48 pixels"):
        crops(findings(), replace(pictured, region=Region("photos", "a", box)))


def test_without_a_box_it_is_the_middle(pictured: Pictures) -> None:
    whole, *_ = drawn(replace(pictured, region=Region("photos", "a")))
    assert whole.patches[0].get_bbox().bounds == (-0.5, -0.5, 64, 48)


def test_without_a_choice_they_are_photographs_that_may_be_redistributed(
    pictured: Pictures,
) -> None:
    assert {region.dataset for region in CREDITS} == {"demo"}
    assert crops(findings(), Pictures(Path("nowhere"))) == []
    assert crops(findings(), replace(pictured, region=None)) == []
    reference = Findings(ResultStore(REFERENCE).read().table(), DRFN)
    (report,) = crops(reference, Pictures(REFERENCE))
    assert report.name == "crops"
    titles = [axes.get_title(loc="left") for axes in report.draw().axes]
    assert [title for title in titles if title] == [
        "demo chelsea (photograph by Stefan van der Walt, CC0)",
        "demo camera (photograph by Lav Varshney, CC0)",
    ]


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
        (one,) = (report.render("png") for report in crops(findings(), pictured))
        assert one == crops(findings(), pictured)[0].render("png")
        with Image.open(BytesIO(one)) as image:
            assert image.info.get("Software") is None


@pytest.mark.parametrize("kind", ["garbage", "fifo", "folder"])
def test_a_picture_that_cannot_be_read_is_an_error(pictured: Pictures, kind: str) -> None:
    (path,) = Path("records").glob("x4/photos/srcnn-*/a.png")
    path.unlink()
    made = {"garbage": partial(path.write_bytes, b"no image"), "folder": path.mkdir}
    made.get(kind, partial(os.mkfifo, path))()
    with pytest.raises(HarnessError, match=r"srcnn-\w+/a.png"):
        crops(findings(), pictured)
