"""Counts are kept, and never those of another network."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.cards import ModelCard
from harness.data.pinned import cache_root
from harness.models import complexity, counts
from harness.models.complexity import Complexity, measure_complexity, thop_macs
from harness.models.depth import convolution_shapes, measure_depth, receptive_radius
from harness.models.source import network_digest, unbuilt_digest
from harness.record import digest, file_digest
from harness.registry import MODELS, load_plugins

SIZE = (40, 40)
PLUGIN = """\
import json, os, sys
from pathlib import Path
from torch import nn
from harness.registry import register_model
sys.path.insert(0, os.path.dirname(__file__))
{helper}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 48, helper.SIDE, padding=helper.SIDE // 2)
        self.shuffle = nn.PixelShuffle(4)
    def forward(self, image):
        return self.shuffle(self.layer(image))

@register_model("mine", pipeline="rgb", input="lr", scales=(4,))
def mine(scale=4): return Net()
"""

CLONE = """\
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    def forward(self, image):
        for _ in range({steps}):
            image = self.layer(image)
        return image
"""
WRAPPER = """\
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
from harness.registry import register_model
{taken}

@register_model("wrapped", pipeline="y", input="bicubic", scales=(4,))
def wrapped(scale=4): return Net()
"""


def work(helper: str = "import helper") -> int:
    """Operations of the plug-in in this folder, loaded anew."""
    Path("mine.py").write_text(PLUGIN.format(helper=helper))
    sys.modules.pop("helper", None)
    load_plugins([Path("mine.py")])
    macs = measure_complexity(MODELS.get("mine"), 4, {}, SIZE).macs
    assert macs is not None
    return macs // (3 * 48 * 10 * 10)


def files() -> list[Path]:
    return sorted((cache_root() / "counts").glob("*"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks whose operations were counted, not found."""
    names: list[str] = []
    count = complexity._count

    def noted(card: ModelCard, *words: object) -> Complexity:
        names.append(card.name)
        return count(card, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(complexity, "_count", noted)
    return names


def test_the_networks_of_the_harness_import_all_that_they_are_made_of() -> None:
    cards = [MODELS.get(name) for name in MODELS]
    assert len(cards) > 10 and all(c.origin.startswith("harness.baselines.") for c in cards)
    for card in cards:
        assert unbuilt_digest(card) == network_digest(card, card.scales[-1], {}), card.name


def test_a_count_that_is_kept_is_the_one_that_was_made() -> None:
    card = MODELS.get("lapsrn")
    asked: list[Callable[[], object]] = [
        lambda: measure_complexity(card, 4, {}, SIZE),
        lambda: thop_macs(card, 4, (10, 10)),
        lambda: measure_depth(MODELS.get("vdsr"), 4, {"depth": 5}),
        lambda: convolution_shapes(card, 4, {}),
        lambda: receptive_radius(card, 4),
    ]
    made = [one() for one in asked]
    kept = files()
    assert len(kept) == len(asked)
    before = [file.stat().st_mtime_ns for file in kept]
    found = [one() for one in asked]
    assert found == made and repr(found) == repr(made)
    assert [file.stat().st_mtime_ns for file in files()] == before


def test_what_is_kept_is_found_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.cli import main\n"
        "main(['complexity', 'lapsrn', 'fsrcnn', '--output-size', '40x40'], standalone_mode=False)"
        "\nprint('torch' in sys.modules, file=sys.stderr)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert (first.stderr.split()[-1], second.stderr.split()[-1]) == ("True", "False")
    assert first.stdout == second.stdout


def test_arguments_sizes_and_scales_have_counts_of_their_own(counted) -> None:
    card = MODELS.get("fsrcnn")
    for hyper, scale, size in (
        ({}, 4, SIZE),
        ({"width": 8}, 4, SIZE),
        ({}, 2, SIZE),
        ({}, 4, (80, 40)),
    ):
        for _ in range(2):
            measure_complexity(card, scale, hyper, size)
    assert counted == ["fsrcnn"] * 4


def test_a_run_finds_what_a_report_has_counted(counted) -> None:
    card = MODELS.get("fsrcnn")
    measure_complexity(card, 4, {}, SIZE)
    measure_complexity(card, 4, {}, SIZE, source_sha256=network_digest(card, 4, {}))
    measure_complexity(card, 4, {}, SIZE, source_sha256="that of another code")
    assert counted == ["fsrcnn"] * 2


def test_another_release_of_torch_or_other_counting_code_counts_anew(counted, monkeypatch) -> None:
    card = MODELS.get("fsrcnn")
    for versions in (["1"], ["2"], ["1"]):
        monkeypatch.setattr(counts, "_counting", lambda said=versions: said)
        measure_complexity(card, 4, {}, SIZE)
    assert len(counted) == 2
    monkeypatch.undo()
    stated = counts._counting.__wrapped__()
    assert stated[0] == file_digest(Path(complexity.__file__))
    assert stated[-2:] == [version("torch"), version("thop")]


class TestAnotherNetwork:
    @pytest.mark.parametrize(
        "helper", ["import helper", "helper = __import__('helper')", "import helper as helper"]
    )
    def test_an_edited_helper_changes_the_count(self, helper: str, counted) -> None:
        Path("helper.py").write_text("SIDE = 3\n")
        assert [work(helper), work(helper)] == [9, 9]
        Path("helper.py").write_text("SIDE = 5   \n")
        assert [work(helper), work(helper)] == [25, 25]
        Path("helper.py").write_text('"""A side."""\nSIDE = 3\n')
        assert work(helper) == 9
        assert counted == ["mine"] * 2

    @pytest.mark.parametrize("taken", ["from clone import Net", "Net = __import__('clone').Net"])
    def test_a_class_that_is_edited_elsewhere_changes_the_count(self, taken: str) -> None:
        """Its layers stay as they are, and are called more often."""
        seen = []
        for steps in (1, 2):
            Path("clone.py").write_text(CLONE.format(steps=steps))
            Path("wrap.py").write_text(WRAPPER.format(taken=taken))
            sys.modules.pop("clone", None)
            load_plugins([Path("wrap.py")])
            macs = measure_complexity(MODELS.get("wrapped"), 4, {}, SIZE).macs
            assert macs == measure_complexity(MODELS.get("wrapped"), 4, {}, SIZE).macs
            seen.append(macs)
        assert seen == [9 * 40 * 40, 2 * 9 * 40 * 40]

    def test_an_edited_plugin_changes_the_count(self, counted) -> None:
        card = MODELS.get("fsrcnn")
        text = Path(str(card.source)).read_text().replace('"fsrcnn"', '"copied"')
        text = text.replace("from .layers", "from harness.baselines.layers")
        seen = []
        for width in (56, 56, 8):
            Path("copied.py").write_text(text.replace("width: int = 56", f"width: int = {width}"))
            load_plugins([Path("copied.py")])
            seen.append(measure_complexity(MODELS.get("copied"), 4, {}, SIZE).macs)
        assert seen[0] == seen[1] != seen[2]
        assert seen[0] == measure_complexity(card, 4, {}, SIZE).macs
        assert counted == ["copied", "copied", "fsrcnn"]

    def test_an_edited_network_of_the_harness_is_counted_anew(self, counted, monkeypatch) -> None:
        """In the next process: this one has imported the file as it was."""
        source = Path(shutil.copy(str(MODELS.get("vdsr").source), "vdsr.py"))
        card = replace(MODELS.get("vdsr"), source=source)
        for edit in ("", "\nSTEP = 2\n"):
            source.write_text(source.read_text() + edit)
            for _ in range(2):
                monkeypatch.setattr(counts, "_codes", {})
                measure_complexity(card, 4, {}, SIZE)
        assert counted == ["vdsr"] * 2

    def test_what_is_edited_after_a_network_was_imported_is_not_taken_for_it(
        self, monkeypatch
    ) -> None:
        source = Path(shutil.copy(str(MODELS.get("vdsr").source), "vdsr.py"))
        card = replace(MODELS.get("vdsr"), source=source)
        measure_complexity(card, 4, {}, SIZE)
        source.write_text(source.read_text() + "\nSTEP = 2\n")
        thop_macs(card, 4, SIZE)
        kept = files()
        monkeypatch.setattr(counts, "_codes", {})
        thop_macs(card, 4, SIZE)
        assert len(files()) == len(kept) + 1

    def test_a_width_that_is_read_from_a_file_changes_the_count(self) -> None:
        helper = "class helper: SIDE = json.loads(Path('side.json').read_text())"
        Path("side.json").write_text("3")
        assert work(helper) == 9
        Path("side.json").write_text("5")
        assert work(helper) == 25

    def test_what_a_card_says_of_the_input_changes_the_count(self, counted) -> None:
        card = MODELS.get("srcnn")
        for pipeline in ("y", "rgb"):
            for given in ("bicubic", "lr"):
                one = replace(card, pipeline=pipeline, input=given)  # type: ignore[arg-type]
                with_obstacle = measure_complexity(one, 4, {}, SIZE).obstacle
                assert bool(with_obstacle) == (pipeline == "rgb")
        assert len(counted) == 4


class TestWhatIsNotKept:
    def test_a_network_that_failed_is_tried_again(self, monkeypatch) -> None:
        Path("helper.py").write_text("SIDE = 3\n")
        failing = "import helper\nif os.environ.get('FAIL'): helper.SIDE = 'three'"
        monkeypatch.setenv("FAIL", "1")
        Path("mine.py").write_text(PLUGIN.format(helper=failing))
        load_plugins([Path("mine.py")])
        with pytest.raises(Exception, match="mine"):
            measure_complexity(MODELS.get("mine"), 4, {}, SIZE)
        assert not files()
        monkeypatch.delenv("FAIL")
        assert work(failing) == 9

    def test_a_count_that_failed_is_made_again(self, monkeypatch) -> None:
        card = MODELS.get("fsrcnn")
        run = complexity._run

        def out_of_memory(*_: object) -> tuple[object, int]:
            raise MemoryError("full")

        monkeypatch.setattr(complexity, "_run", out_of_memory)
        assert "full" in measure_complexity(card, 4, {}, SIZE).obstacle
        assert not files()
        monkeypatch.setattr(complexity, "_run", run)
        assert measure_complexity(card, 4, {}, SIZE).macs

    def test_a_cache_that_cannot_be_written_costs_no_more_than_time(
        self, monkeypatch, tmp_path: Path
    ) -> None:
        expected = measure_complexity(MODELS.get("fsrcnn"), 4, {}, SIZE)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert measure_complexity(MODELS.get("fsrcnn"), 4, {}, SIZE) == expected


def entry_of(file: Path, count: object) -> None:
    """Write an entry whose seal fits."""
    raw = json.dumps(count, separators=(",", ":"))
    file.write_text(f'{{"count":{raw},"sha256":"{digest([file.stem, raw])}"}}')


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def alter(file: Path) -> None:
    file.write_text(file.read_text().replace('"parameters":', '"parameters":1'))


def take_another(file: Path) -> None:
    measure_complexity(MODELS.get("srcnn"), 4, {}, SIZE)
    other = next(one for one in files() if one != file)
    other.replace(file)


def make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        alter,
        take_another,
        make_fifo,
        make_folder,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff\x00" * 90),
        lambda file: file.write_text("[" * 200_000),
        lambda file: file.write_text('{"count":' + "[" * 200_000),
        lambda file: file.write_text("7"),
        lambda file: entry_of(file, 7),
        lambda file: entry_of(file, {"parameters": "many", "macs": 1, "input_size": [10, 10]}),
        lambda file: entry_of(file, {"parameters": 1, "macs": 1, "input_size": [10, 10, 10]}),
    ],
)
def test_a_damaged_entry_is_not_used(damage: Callable[[Path], object]) -> None:
    card = MODELS.get("fsrcnn")
    expected = measure_complexity(card, 4, {}, SIZE)
    (file,) = files()
    damage(file)
    assert [measure_complexity(card, 4, {}, SIZE) for _ in range(2)] == [expected] * 2


def test_an_entry_of_the_tests_own_making_is_used_where_it_is_sound() -> None:
    """So that the damaged ones above are refused for what is wrong with them."""
    card = MODELS.get("fsrcnn")
    measure_complexity(card, 4, {}, SIZE)
    (file,) = files()
    entry_of(file, {"parameters": 1, "macs": 2, "input_size": [10, 10]})
    assert measure_complexity(card, 4, {}, SIZE) == Complexity(1, 2, (10, 10))
