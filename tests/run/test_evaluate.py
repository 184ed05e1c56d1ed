import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from harness.cards import LINEAGES, ModelCard
from harness.data.images import read_image
from harness.models.upscaler import Upscaler
from harness.registry import load_plugins
from harness.run.evaluate import READY, bicubic_psnr, side_by_side
from harness.run.plan import plan
from harness.run.request import Request
from harness.run.store import ResultStore, read_record
from tests.pictures import picture
from tests.run.processes import Runner

METRICS = Path(__file__).parents[1] / "cases/metrics"


def only(folder: Path) -> Path:
    (path,) = folder.rglob("*.json")
    return path


def numbers(path: Path) -> dict[str, object]:
    """All of a record that must not depend on when and how fast it was made."""
    data = json.loads(path.read_text())
    for image in data["images"]:
        del image["seconds"]
    del data["provenance"]["utc"], data["sha256"]
    return data


def test_a_run_leaves_a_full_record(harness, photos: Path, random_weights) -> None:
    words = ("run", "--models", "srcnn", "--datasets", photos, "--device", "cpu")
    shown = harness(*words, "--weights", f"srcnn={random_weights('srcnn')}")
    assert shown.exit_code == 0, shown.output
    record = read_record(only(Path("results/local")))
    assert (record.status, record.identity.dataset, record.verified) == (
        "finished",
        "photos",
        False,
    )
    assert [image.image for image in record.images] == ["a", "b", "c"]
    assert record.means["psnr"] == pytest.approx(np.mean([i.scores["psnr"] for i in record.images]))
    assert (record.parameters, record.execution.device) == (57_281, "cpu")
    assert record.weights is not None and record.weights.licence == "Apache-2.0"
    assert record.macs_input_size == (1280, 720)
    facts = record.provenance
    assert facts["packages"]["torch"] and facts["os"] and facts["cpu"] and facts["utc"]
    assert facts["tf32"] == {"matmul": False, "cudnn": False}
    assert not list(Path("results").rglob("*.journal"))


def test_a_finished_run_is_skipped_unless_forced(harness, photos: Path) -> None:
    words = ("run", "--models", "bicubic", "--datasets", photos)
    harness(*words)
    record = only(Path("results/local"))
    written = record.stat().st_mtime_ns
    again = harness(*words)
    assert "already finished" in again.output
    assert record.stat().st_mtime_ns == written
    forced = harness(*words, "--force")
    assert "3 images computed" in forced.output
    assert record.stat().st_mtime_ns != written


@pytest.mark.parametrize(
    "option",
    [
        ("--self-ensemble",),
        ("--tile", 8),
        ("--grey", "full-range"),
        ("--border", "symmetric"),
        ("--scale", 2),
        ("--float-lr",),
        ("--metric", "ssim-whole"),
    ],
)
def test_what_changes_a_number_makes_another_run(harness, photos: Path, option) -> None:
    words = ("run", "--models", "bicubic-rgb", "--datasets", photos)
    assert harness(*words).exit_code == 0
    assert "computed" in harness(*words, *option).output
    assert len(list(Path("results").rglob("*.json"))) == 2


def test_a_rule_that_a_pipeline_does_not_know_makes_no_other_run(harness, photos: Path) -> None:
    words = ("run", "--models", "bicubic", "--datasets", photos)
    harness(*words)
    assert "already finished" in harness(*words, "--float-lr").output


@pytest.mark.parametrize(
    ("model", "like", "options", "protocol"),
    [
        ("bicubic-rgb", "edsr", (), "BI-x4/rgb"),
        ("bicubic-rgb", "imdn", ("--border", "symmetric"), "BI-x4/rgb+symmetric"),
        ("bicubic", "vdsr", ("--grey", "full-range"), "BI-x4/y"),
    ],
)
def test_a_run_like_published_work_is_the_run_with_its_options(
    harness, photos: Path, model, like, options, protocol
) -> None:
    words = ("run", "--models", model, "--datasets", photos)
    assert harness(*words, *options).exit_code == 0
    assert read_record(only(Path("results"))).identity.protocol == protocol
    assert "already finished" in harness(*words, "--like", like).output
    assert "already finished" in harness(*words, "--like", like, *options).output


class TestLikeWhatItIsNot:
    def run(self, harness, photos: Path, models: str, *options: str) -> tuple[int, list[str]]:  # type: ignore[no-untyped-def]
        shown = harness("run", "--models", models, "--datasets", photos, *options)
        said = shown.stderr.splitlines()
        return shown.exit_code, [line for line in said if line.startswith("Error: ")]

    @pytest.mark.parametrize(
        ("models", "like", "said"),
        [
            ("bicubic", "imdn", "bicubic has the pipeline y, and --like imdn is for rgb"),
            ("bicubic-rgb", "vdsr", "bicubic-rgb has the pipeline rgb, and --like vdsr is for y"),
        ],
    )
    def test_rules_of_another_pipeline_are_refused(self, harness, photos, models, like, said):
        code, errors = self.run(harness, photos, models, "--like", like)
        assert code == 2 and len(errors) == 1 and said in errors[0]
        assert not list(Path("results").rglob("*.json"))

    def test_of_several_networks_those_that_fit_run(self, harness, photos: Path) -> None:
        code, errors = self.run(harness, photos, "bicubic,bicubic-rgb", "--like", "imdn")
        assert code == 1 and len(errors) == 1
        assert "bicubic has the pipeline y" in errors[0] and "--like vdsr" in errors[0]
        identity = read_record(only(Path("results"))).identity
        assert (identity.model, identity.protocol) == ("bicubic-rgb", "BI-x4/rgb+symmetric")

    @pytest.mark.parametrize(
        "options", [("--border", "replicate"), ("--grey", "full-range"), ("--float-lr",)], ids=str
    )
    def test_an_option_for_other_rules_is_refused(self, harness, photos: Path, options) -> None:
        code, errors = self.run(harness, photos, "bicubic-rgb", "--like", "imdn", *options)
        assert code == 2 and len(errors) == 1
        assert "--like imdn stands for --grey as-rgb --border symmetric" in errors[0]
        assert f"goes without {' '.join(options)}:" in errors[0]


def test_the_help_says_what_each_lineage_stands_for(harness) -> None:
    said = " ".join(harness("run", "--help").output.split()).replace("full- range", "full-range")
    for name, preset in LINEAGES.items():
        options = f"--grey {preset.grey} --border {preset.border}"
        assert f"{name} (pipeline {preset.pipeline}: {options})" in said


@pytest.mark.parametrize("model", ["bicubic", "bicubic-rgb"])
@pytest.mark.parametrize("options", [{}, {"grey": "as-rgb"}, {"border": "symmetric"}])
def test_the_psnr_of_bicubic_enlargement_is_that_of_its_run(
    harness, photos: Path, model: str, options: dict[str, str]
) -> None:
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    shown = harness("run", "--models", model, "--datasets", photos, *words)
    assert shown.exit_code == 0, shown.output
    record = read_record(only(Path("results/local")))
    (run,) = plan(Request([model], [str(photos)], **options)).runs
    # The network enlarges in float32.
    assert bicubic_psnr(run, run.image_set.images) == pytest.approx(record.means["psnr"], abs=0.01)


def test_a_changed_image_makes_another_run(harness, photos: Path) -> None:
    words = ("run", "--models", "bicubic", "--datasets", photos)
    harness(*words)
    Image.fromarray(picture(48, 64, seed=5)).save(photos / "a.png")
    assert "3 images computed" in harness(*words).output


def test_sr_images_are_saved_in_colour_even_for_luma_networks(
    harness, photos: Path, tmp_path: Path
) -> None:
    words = ("run", "--models", "bicubic,bicubic-rgb", "--datasets", photos)
    harness(*words)
    # Finished runs give their pictures too; the records stay as they are.
    before = [path.stat().st_mtime_ns for path in Path("results").rglob("*.json")]
    shown = harness(*words, "--save-images", tmp_path / "sr")
    assert shown.exit_code == 0, shown.output
    assert [path.stat().st_mtime_ns for path in Path("results").rglob("*.json")] == before
    for model in ("bicubic", "bicubic-rgb"):
        (folder,) = [p for p in (tmp_path / "sr/x4/photos").iterdir() if p.name[:-13] == model]
        shapes = {path.stem: read_image(path).pixels.shape for path in folder.iterdir()}
        grey = (48, 48) if model == "bicubic" else (48, 48, 3)
        assert shapes == {"a": (48, 64, 3), "b": (52, 44, 3), "c": grey}
    assert "already finished" in harness(*words, "--save-images", tmp_path / "sr").output


def test_conversions_are_said_and_recorded(harness, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    Image.fromarray(picture(40, 40)).convert("RGBA").save(tmp_path / "odd/alpha.png")
    shown = harness("run", "--models", "bicubic", "--datasets", tmp_path / "odd")
    assert "alpha: alpha dropped" in shown.output
    assert read_record(only(Path("results"))).images[0].note == "alpha dropped"


PLUGIN = """
from harness.registry import register_model
from torch import nn

class Fails(nn.Module):
    def forward(self, image):
        if image.shape[-1] == 16:
            return image.repeat(1, 1, 4, 4)
        raise RuntimeError("no memory left")

@register_model("fails", pipeline="rgb", input="lr", scales=(4,), params=0)
def fails(scale=4):
    return Fails()
"""


def test_a_run_that_breaks_is_kept_as_an_error_and_the_others_go_on(
    harness, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "fails.py").write_text(PLUGIN)
    words = (
        "run",
        "--models",
        "fails,bicubic",
        "--datasets",
        photos,
        "--plugin",
        tmp_path / "fails.py",
    )
    shown = harness(*words)
    assert shown.exit_code == 1
    assert "failed: RuntimeError: no memory left" in shown.output
    records = {r.identity.model: r for r in ResultStore(Path("results/local")).records()}
    assert (records["fails"].status, len(records["fails"].images)) == ("error", 1)
    assert records["bicubic"].status == "finished"
    assert harness(*words).exit_code == 1, "a broken run never counts as done"


def test_a_forced_run_that_breaks_leaves_the_finished_record(harness, photos: Path) -> None:
    Path("fails.py").write_text(PLUGIN.replace("image.shape[-1] == 16", "not exists('broken')"))
    text = "from os.path import exists\n" + Path("fails.py").read_text()
    Path("fails.py").write_text(text)
    words = ("run", "--models", "fails", "--datasets", photos, "--plugin", "fails.py")
    assert harness(*words).exit_code == 0
    record = only(Path("results/local"))
    before = record.read_bytes()
    Path("broken").touch()
    for option in (["--force"], ["--save-images", "sr"]):
        shown = harness(*words, *option)
        assert shown.exit_code == 1
        assert "no memory left" in shown.output
    assert record.read_bytes() == before
    assert not list(Path("results").rglob("*.journal"))


def test_a_damaged_record_stops_only_its_own_run(harness, photos: Path) -> None:
    words = ("run", "--models", "bicubic,bicubic-rgb", "--datasets", photos)
    harness("run", "--models", "bicubic", "--datasets", photos)
    record = only(Path("results/local"))
    record.write_text("{")
    shown = harness(*words)
    assert shown.exit_code == 1
    assert f"Error: {record} is not a valid run record" in shown.output
    assert "bicubic-rgb" in shown.stdout.splitlines()[-1]
    listed = harness("list", "runs").stdout.splitlines()
    assert [line.split()[-1] for line in listed if "damaged" in line] == [str(record)]


UNCOUNTABLE = """
from harness.registry import register_model
import torch
from torch import nn

class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image):
        return image * self.scale

@register_model("dropping", pipeline="y", input="bicubic", scales=(4,), params=1)
def dropping(scale=4):
    return Dropping()
"""


def test_a_network_whose_work_cannot_be_counted_still_has_a_record(
    harness, photos: Path, tmp_path: Path, random_weights
) -> None:
    file = tmp_path / "dropping.py"
    file.write_text(UNCOUNTABLE)
    load_plugins([file])
    words = ("run", "--models", "dropping", "--datasets", photos, "--plugin", file)
    shown = harness(*words, "--weights", f"dropping={random_weights('dropping')}")
    assert shown.exit_code == 0, shown.output
    record = read_record(only(Path("results")))
    assert (record.parameters, record.macs) == (1, None)


def test_a_killed_run_goes_on_where_it_was_and_equals_an_uninterrupted_one(
    tmp_path: Path, random_weights
) -> None:
    weights = random_weights("vdsr")
    words = ["run", "--models", "vdsr", "--datasets", "demo", "--weights", f"vdsr={weights}"]
    two = {"OMP_NUM_THREADS": "2"}  # more images at once might end together
    victim = Runner([*words, "--results", "killed"], tmp_path, **two)
    victim.until_images(tmp_path / "killed", 2)
    victim.kill()
    (journal,) = (tmp_path / "killed").rglob("*.journal")
    kept = journal.read_text().splitlines()[1:]
    assert 2 <= len(kept) < 6
    assert Runner([*words, "--results", "killed"], tmp_path, **two).wait() == 0
    assert Runner([*words, "--results", "whole"], tmp_path, **two).wait() == 0
    resumed, whole = only(tmp_path / "killed"), only(tmp_path / "whole")
    assert numbers(resumed) == numbers(whole)
    # What the journal held was not computed again: even the seconds are those of the first run.
    rows = json.loads(resumed.read_text())["images"]
    assert all(json.loads(line)["result"] in rows for line in kept)
    assert not journal.exists()


def test_a_network_that_cannot_be_copied_has_one_thread_of_images(harness, photos: Path) -> None:
    Path("locked.py").write_text(
        "import threading\n"
        "from harness.registry import register_model\n"
        "from torch import nn\n"
        "class Locked(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lock = threading.Lock()\n"
        "    def forward(self, image):\n"
        "        assert self.lock.acquire(blocking=False), 'two images at once'\n"
        "        try:\n"
        "            return image * 1\n"
        "        finally:\n"
        "            self.lock.release()\n"
        "@register_model('locked', pipeline='y', input='bicubic', scales=(4,), params=0)\n"
        "def locked(scale=4):\n"
        "    return Locked()\n"
    )
    shown = harness("run", "--models", "locked", "--datasets", photos, "--plugin", "locked.py")
    assert shown.exit_code == 0, shown.output
    assert len(read_record(only(Path("results"))).images) == 3


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("m-tensor", 0.5),
        ("m-np32", float(np.float32(0.1))),
        ("m-small", 1.23456e-6),
        ("m-int", 3),
        ("m-column", 0.25),
        ("m-writes", 0),
        ("m-inf", -np.inf),
    ],
)
def test_a_metric_of_a_plug_in_may_return_any_kind_of_number(
    harness, photos: Path, metric: str, value: float
) -> None:
    words = ("--plugin", METRICS / "odd.py", "--metric", metric)
    shown = harness("run", "--models", "bicubic", "--datasets", photos, *words)
    assert shown.exit_code == 0, shown.output
    record = read_record(only(Path("results/local")))
    assert [image.scores[metric] for image in record.images] == [value] * 3


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("m-nan", "is not a number for c: {} returns nan,"),
        ("m-none", "is not a number for c: {} returns None,"),
        ("m-text", "is not a number for c: {} returns '3',"),
        ("m-dict", "is not a number for c: {} returns {{'a': 1.0}},"),
        ("m-row", "is not a number for c: {} returns array([0., 0.]),"),
        ("m-raise", "of {} fails on c (ValueError: needs 3 channels)"),
        ("m-colour", "of {} fails on c (AssertionError: needs colour, got (40, 40))"),
        ("m-exit", "of {} fails on c (SystemExit: no licence)"),
        ("m-luma", "of {} fails on c (AssertionError: (40, 40, 3)): it gets two RGB arrays"),
    ],
)
def test_a_metric_that_gives_no_number_is_named_with_its_plug_in_and_the_image(
    harness, photos: Path, metric: str, said: str
) -> None:
    for name in ("a", "b"):
        (photos / f"{name}.png").unlink()
    plugin = METRICS / "odd.py"
    words = ("--datasets", photos, "--plugin", plugin, "--metric", metric)
    shown = harness("run", "--models", "bicubic", *words)
    assert shown.exit_code == 1
    record = read_record(only(Path("results/local")))
    assert record.status == "error"
    assert record.error.startswith(f"The metric {metric} {said.format(plugin)}")
    assert record.error in shown.output and "Traceback" not in shown.output


def test_a_metric_that_is_called_as_a_model_of_the_run_is_refused(harness, photos: Path) -> None:
    Path("same.py").write_text(
        "from harness.registry import register_metric\n"
        "register_metric('bicubic')(lambda sr, hr: 1.0)\n"
    )
    words = ("--datasets", photos, "--plugin", "same.py", "--metric", "bicubic")
    shown = harness("run", "--models", "bicubic", *words)
    assert shown.exit_code == 2 and "called bicubic: rename one" in shown.output
    assert not Path("results/local").exists()


def test_infinite_scores_of_both_signs_make_a_record_that_can_be_read(
    harness, photos: Path
) -> None:
    (photos / "a.png").unlink()
    words = ("--plugin", METRICS / "odd.py", "--metric", "m-signs")
    harness("run", "--models", "bicubic", "--datasets", photos, *words)
    record = read_record(only(Path("results/local")))
    assert record.infinite["m-signs"] == 2


def test_a_metric_that_writes_into_its_arguments_spoils_no_other(
    harness, photos: Path, tmp_path: Path
) -> None:
    """It scales them in place, as its authors' own script has it."""
    words = ("run", "--models", "bicubic,bicubic-rgb", "--datasets", photos, "--float-y")
    harness(*words, "--metric", "ssim-whole", "--save-images", tmp_path / "alone")
    alone = ResultStore(Path("results/local")).records()
    plugins = ("--plugin", METRICS / "inplace.py", "--plugin", METRICS / "odd.py")
    named = ("--metric", "mse01", "--metric", "m-writes", "--metric", "ssim-whole")
    pictures = ("--save-images", tmp_path / "beside", "--results", "beside")
    shown = harness(*words, *plugins, *named, *pictures)
    assert shown.exit_code == 0, shown.output
    beside = ResultStore(Path("beside")).records()
    assert len(alone) == len(beside) == 2
    for one, other in zip(alone, beside, strict=True):
        for image, again in zip(one.images, other.images, strict=True):
            assert image.scores.items() <= again.scores.items()
            assert again.scores["mse01"] == pytest.approx(10 ** (-image.scores["psnr"] / 10))
    saved = [sorted((tmp_path / name).rglob("*.png")) for name in ("alone", "beside")]
    assert len(saved[0]) == 6
    for one, other in zip(*saved, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("model", ["bicubic", "bicubic-rgb"])
@pytest.mark.parametrize("rules", ["", "--grey=full-range", "--grey=as-rgb", "--float-y"])
def test_a_metric_on_rgb_scores_the_image_that_is_saved(
    harness, photos: Path, model: str, rules: str
) -> None:
    """The border is left out, and a grey image has three equal channels."""
    words = ("--plugin", METRICS / "colour.py", "--metric", "mae-rgb", *rules.split())
    shown = harness("run", "--models", model, "--datasets", photos, *words, "--save-images", ".")
    assert shown.exit_code == 0, shown.output
    path = only(Path("results/local"))
    record = read_record(path)
    assert record.plugins["mae-rgb"]["on"] == "rgb"
    for image in record.images:
        saved = path.relative_to("results/local").with_suffix("") / f"{image.image}.png"
        sr, hr = (
            np.asarray(Image.open(file).convert("RGB"), float)
            for file in (saved, photos / f"{image.image}.png")
        )
        hr = hr[: sr.shape[0], : sr.shape[1]]
        error = np.abs(sr - hr)[4:-4, 4:-4].mean((0, 1)) @ [1, 2, 3]
        assert image.scores["mae-rgb"] == pytest.approx(error, rel=1e-12)
        assert 1 < error < 100


def test_a_metric_that_keeps_things_while_it_computes_gives_its_number_on_several_threads(
    harness, photos: Path, request: pytest.FixtureRequest
) -> None:
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(3)
    words = ("--plugin", METRICS / "kept.py", "--metric", "mae", "--metric", "mae-kept")
    shown = harness("run", "--models", "bicubic", "--datasets", photos, *words)
    assert shown.exit_code == 0, shown.output
    images = read_record(only(Path("results/local"))).images
    assert len(images) == 3
    assert [one.scores["mae-kept"] for one in images] == [one.scores["mae"] for one in images]


def test_each_item_is_worked_on_once_and_several_at_a_time() -> None:
    together = threading.Barrier(3, timeout=30)

    def work(item: int) -> int:
        if item < 3:
            together.wait()  # passes only if three are at work at once
        return item * item

    made = list(side_by_side(work, range(20), lanes=3, threads=1))
    assert sorted(made) == [item * item for item in range(20)]


def test_no_more_is_taken_than_the_lanes_need() -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items(), lanes=2, threads=1)
    next(results)
    assert len(taken) <= 2 * READY + 2
    results.close()


def test_what_was_under_way_when_one_broke_is_given_first() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("broken")
        time.sleep(0.2)
        return item

    made = []
    with pytest.raises(ValueError, match="broken"):
        for one in side_by_side(work, range(50), lanes=2, threads=1):
            made.append(one)
    assert set(made) == set(begun) - {0} and len(begun) < 10


def test_each_lane_has_its_threads_and_the_caller_gets_them_all_back() -> None:
    before = torch.get_num_threads()
    lanes = side_by_side(lambda _: torch.get_num_threads(), range(8), lanes=2, threads=3)
    assert set(lanes) == {3}
    assert torch.get_num_threads() == before


def test_a_network_that_keeps_things_on_its_modules_is_not_disturbed_by_its_twin() -> None:
    class Keeping(nn.Module):
        def __init__(self, scale: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, image):
            self.kept = self.conv(image)
            time.sleep(0.02)
            return self.kept

    card = ModelCard("keeping", Keeping, "y", "bicubic", (4,))
    one = Upscaler(card, 4, None, network=Keeping(4))
    twins = [one.copy_for_thread(), one.copy_for_thread()]
    assert twins[0].network.conv.weight.data_ptr() == one.network.conv.weight.data_ptr()
    images = [np.full((4, 4, 1), float(value)) for value in range(12)]
    free = list(twins)

    def work(image):
        own = free.pop()
        made = own(image)
        free.append(own)
        return float(image.flat[0]), made

    for value, made in side_by_side(work, images, lanes=2, threads=1):
        np.testing.assert_array_equal(made, one(np.full((4, 4, 1), value)))
