import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.data.images import read_image
from harness.protocol.rules import Protocol, make_sample
from harness.record import RunRecord
from harness.registry import MODELS
from harness.run.provenance import command, joint, provenance, requirements
from harness.run.store import ResultStore
from tests.records import record


def test_what_machines_have_in_common_is_said_once_and_the_rest_is_listed() -> None:
    here = provenance("cpu") | {"utc": "2020-01-01T00:00:00+00:00"}
    there = here | {"cpu": "another", "utc": "2020-01-02T00:00:00+00:00"}
    told = joint([here, there, here])
    assert told["cpu"] == [here["cpu"], "another"]
    assert {key for key in here if told[key] != here[key]} == {"cpu", "utc"}
    assert told["utc"] > "2026", "it is when the work ended"


def harness_process(*words: object) -> None:
    """Run the command line in a process of its own, in which no plug-in is loaded yet."""
    line = [sys.executable, "-m", "harness", *map(str, words)]
    shown = subprocess.run(line, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


def only(folder: str = "results/local") -> RunRecord:
    (made,) = ResultStore(Path(folder)).records()
    return made


def assert_made_again(run: Callable[..., object]) -> str:
    """Run the command of the only record, with an empty results folder; return the command."""
    first, line = only(), command(only())
    program, *words = line.split()
    assert program == "harness"
    run(*words, "--results", "again")
    again = only("again")
    assert again.identity.id == first.identity.id
    assert [i.scores for i in again.images] == [i.scores for i in first.images]
    return line


WORDS = [
    "--grey as-rgb --border symmetric --tile 16 --self-ensemble --scale 3",
    "--float-y --metric ssim-whole",
]


@pytest.mark.parametrize("words", WORDS)
def test_the_command_of_a_record_makes_it_again(harness, photos: Path, words: str) -> None:
    harness("run", "--models", "bicubic", "--datasets", "photos", *words.split())
    line = assert_made_again(harness)
    assert set(words.split()) < set(line.split())


@pytest.mark.parametrize(
    ("folder", "given", "line"),
    [
        ("photos", "photos", "--datasets photos"),
        ("data/photos", "data/photos", "--datasets photos --data-root data"),
        ("data/photos", "photos --data-root data", "--datasets photos --data-root data"),
        ("data/Set5", "data/Set5", "--datasets Set5-{} --data-root data"),
        ("Set5", "./Set5", "--datasets Set5-{}"),
    ],
)
def test_an_own_set_is_found_again_from_the_same_folder(
    harness, photos: Path, folder: str, given: str, line: str
) -> None:
    Path("data").mkdir()
    photos.rename(folder)
    harness("run", "--models", "bicubic", "--datasets", *given.split())
    sha256 = only().identity.dataset_sha256[:8]
    assert assert_made_again(harness) == f"harness run --models bicubic {line.format(sha256)}"
    assert requirements(only()) == f"You need the images of {only().identity.dataset}."


def test_a_record_does_not_name_folders_outside_the_working_folder(
    harness, photos: Path, random_weights, monkeypatch
) -> None:
    weights = random_weights("srcnn")
    Path("work").mkdir()
    monkeypatch.chdir("work")
    harness("run", "--models", "srcnn", "--datasets", photos, "--weights", f"srcnn={weights}")
    made = only()
    assert photos.parent.name not in json.dumps(made.to_json())
    assert command(made).endswith(f"--datasets photos --weights srcnn={weights.name}")


@pytest.mark.real_data
def test_full_size_images_of_a_published_set_are_found_again(harness) -> None:
    """At x3 a set with the names and full sizes of Set5's images counts as Set5, unverified."""
    sets = Path("sets/Set5")
    sets.mkdir(parents=True)
    for number, name in enumerate(("baby", "bird", "butterfly", "head", "woman")):
        size = [(512, 512), (288, 288), (256, 256), (280, 280), (228, 344)][number]
        Image.effect_noise(size, 60).save(sets / f"{name}.png")
    words = ("--datasets", "set5", "--scale", "3", "--data-root", "sets")
    harness("run", "--models", "bicubic", *words)
    assert not only().verified
    assert_made_again(harness)


def test_a_weights_file_is_read_again(harness, photos: Path, random_weights) -> None:
    file = random_weights("srcnn", folder=Path("runs"))
    harness("run", "--models", "srcnn", "--datasets", "photos", "--weights", f"srcnn={file}")
    assert only().weights and only().weights.tag == "made" and only().weights.file == "made.npz"
    assert assert_made_again(harness).endswith(f"--weights srcnn=runs/{file.name}")
    assert requirements(only()) == f"You need runs/{file.name} and the images of photos."


def test_the_entry_of_a_checkpoint_is_read_again(harness, photos: Path) -> None:
    build = MODELS.get("srcnn").build
    torch.manual_seed(1)
    networks = {name: build(scale=4).state_dict() for name in ("params", "params_ema")}
    torch.save(networks, "two.pth")
    words = ("--datasets", "photos", "--weights", "srcnn=two.pth", "--weights-key", "params")
    harness("run", "--models", "srcnn", *words)
    assert assert_made_again(harness).endswith("--weights srcnn=two.pth --weights-key params")


def test_given_lr_images_are_read_again(harness, photos: Path) -> None:
    Path("lr/photos").mkdir(parents=True)
    for path in photos.iterdir():
        sample = make_sample(read_image(path).pixels, Protocol("rgb"))
        Image.fromarray(255 - sample.lr).save(f"lr/photos/{path.name}")
    words = ("--datasets", "photos", "--lr-images", "lr/photos")
    harness("run", "--models", "bicubic-rgb", *words)
    assert assert_made_again(harness).endswith("--lr-images lr/photos")


NET = """
from torch import nn

GAIN = 0.5

class Net(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=4) * GAIN
"""

MINE = """
from harness.registry import register_metric, register_model
from net import Net

@register_model("mine", pipeline="rgb", input="lr", scales=(4,), params=0)
def mine(scale=4):
    return Net()

@register_metric("mae")
def mae(sr, hr):
    return abs(sr - hr).mean()
"""


@pytest.fixture
def plug() -> Path:
    """The file of a plug-in that imports its network from a file beside it."""
    Path("plug").mkdir()
    Path("plug/net.py").write_text(NET)
    Path("plug/mine.py").write_text(MINE)
    return Path("plug/mine.py")


def test_a_plugin_is_loaded_again_and_a_change_of_what_it_imports_is_another_run(
    photos: Path, plug: Path
) -> None:
    words = ("run", "--models", "mine", "--datasets", "photos", "--plugin", plug)
    harness_process(*words, "--metric", "mae")
    facts = only().plugins
    assert facts["mine"] == facts["mae"] and facts["mine"]["file"] == "plug/mine.py"
    assert assert_made_again(harness_process).endswith("--metric mae --plugin plug/mine.py")
    (plug.parent / "net.py").write_text(NET.replace("0.5", "0.25"))
    harness_process(*words, "--metric", "mae")
    first, other = sorted(
        ResultStore(Path("results/local")).records(), key=lambda r: r.means["mae"]
    )
    assert first.identity.source_sha256 != other.identity.source_sha256
    assert first.means["mae"] == only("again").means["mae"] < other.means["mae"]


def test_a_plugin_whose_helper_registers_the_model_is_loaded_again(
    photos: Path, plug: Path
) -> None:
    plug.rename("plug/models.py")
    Path("start.py").write_text("import sys; sys.path.insert(0, 'plug'); import models")
    harness_process("run", "--models", "mine", "--datasets", "photos", "--plugin", "start.py")
    facts = only().plugins["mine"]
    assert (facts["file"], facts["module"]) == ("start.py", "models")
    assert assert_made_again(harness_process).endswith("--plugin start.py")


def test_the_plugin_of_a_set_is_loaded_again(harness, photos: Path) -> None:
    Path("sets.py").write_text(
        "from harness.registry import register_dataset\nregister_dataset('three', 'photos')\n"
    )
    harness("run", "--models", "bicubic", "--datasets", "three", "--plugin", "sets.py")
    assert only().identity.dataset == "three"
    assert assert_made_again(harness_process).endswith("--datasets three --plugin sets.py")


def install(site: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Install a distribution as pip does, as far as Python's metadata shows it."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file, text in files.items():
        if file == "entry_points.txt":
            (info / file).write_text(text)
        else:
            (site / file).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions that all processes search."""
    folder = tmp_path / "env/site-packages"
    folder.mkdir(parents=True)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{folder}")
    return folder


def test_the_distribution_that_a_network_comes_from_is_recorded(
    photos: Path, plug: Path, site: Path
) -> None:
    install(site, "tiny-nets", "1.5", {"tiny_nets.py": NET})
    plug.write_text(MINE.replace("from net", "from tiny_nets"))
    words = ("run", "--models", "mine", "--datasets", "photos", "--plugin", plug)
    harness_process(*words)
    assert only().plugins["mine"]["packages"] == {"tiny-nets": "1.5"}
    assert assert_made_again(harness_process).endswith("--plugin plug/mine.py")
    needs = "You need tiny-nets 1.5 installed, and plug/mine.py and the images of photos."
    assert requirements(only()) == needs
    (site / "tiny_nets-1.5.dist-info/METADATA").write_text("Name: tiny-nets\nVersion: 1.6\n")
    harness_process(*words, "--results", "newer")
    assert only("newer").identity.id != only().identity.id


def test_an_installed_plugin_needs_no_option_but_its_distribution(photos: Path, site: Path) -> None:
    points = "[drfn_harness.plugins]\nmine = tiny_sr\n"
    text = MINE.replace("from net", "from tiny_nets")
    install(site, "tiny-nets", "1.5", {"tiny_nets.py": NET})
    install(site, "tiny-sr", "0.2", {"tiny_sr.py": text, "entry_points.txt": points})
    harness_process("run", "--models", "mine", "--datasets", "photos")
    assert assert_made_again(harness_process) == "harness run --models mine --datasets photos"
    needs = "You need tiny-nets 1.5 and tiny-sr 0.2 installed, and the images of photos."
    assert requirements(only()) == needs


def test_it_names_the_weights() -> None:
    made = record("srcnn", "set5", tag="repro")
    assert command(made) == "harness run --models srcnn:repro --datasets set5"
    given = record("srcnn", "set5", tag="file")
    assert command(given).endswith("--models srcnn --datasets set5 --weights srcnn=w.mat")
