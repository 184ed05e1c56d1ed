"""The code of a network: what it covers, and that it is the same wherever the harness runs."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.models.source import metrics_digest, network_digest, plugins
from harness.registry import MODELS, load_plugins

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Path]:
    """A folder of plug-ins that may be edited; what they import is forgotten afterwards."""
    folder = Path(shutil.copytree(CASES / "plug", tmp_path / "plug"))
    path = list(sys.path)
    yield folder
    for name in ("blocks", "helper_metric", "myarch", "myarch.net"):
        sys.modules.pop(name, None)
    sys.path[:] = path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new) + "\n")


def test_a_helper_beside_a_plugin_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "blocks.py", "GAIN = 1.0", "GAIN = 0.7")
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_the_network_of_a_cloned_repository_counts(plug: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(plug / "clone"))
    load_plugins([plug / "wrap.py"])
    before = network_digest(MODELS.get("wrapped"), 4, {})
    net = plug / "clone/myarch/net.py"
    net.write_text('"""Reworded."""\n' + net.read_text())
    assert network_digest(MODELS.get("wrapped"), 4, {}) == before
    net.write_text(net.read_text() + "\nGAIN = 2\n")
    assert network_digest(MODELS.get("wrapped"), 4, {}) != before


def test_the_class_of_a_module_counts_however_it_was_imported(plug: Path) -> None:
    text = (plug / "mine.py").read_text()
    (plug / "mine.py").write_text(
        text.replace("from blocks import Up", "Up = __import__('blocks').Up")
    )
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "blocks.py", "GAIN = 1.0", "GAIN = 0.7")
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_what_a_card_says_of_how_a_network_is_run_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    before = network_digest(MODELS.get("mine"), 4, {})
    edit(plug / "mine.py", 'input="lr"', 'input="bicubic"')
    load_plugins([plug / "mine.py"])
    assert network_digest(MODELS.get("mine"), 4, {}) != before


def test_the_helper_of_a_metric_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    assert metrics_digest(("psnr", "ssim", "ssim-whole")) is None
    before = metrics_digest(("psnr", "ssim", "mae-mine"))
    edit(plug / "helper_metric.py", "np.abs(sr - hr)", "np.abs(sr - hr) * 2")
    assert metrics_digest(("psnr", "ssim", "mae-mine")) != before


def test_a_network_that_cannot_be_built_has_the_hash_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "from harness.registry import register_model\n"
        "@register_model('broken', pipeline='y', input='lr', scales=(4,))\n"
        "def broken(scale=4):\n    raise KeyError\n"
    )
    load_plugins([file])
    assert len(network_digest(MODELS.get("broken"), 4, {})) == 64
    file.unlink()
    with pytest.raises(HarnessError, match="cannot be read"):
        network_digest(MODELS.get("broken"), 4, {})


def test_where_a_plugin_came_from_is_known(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    facts = plugins("mine", ("psnr", "ssim", "ssim-whole", "mae-mine"))
    assert set(facts) == {"mine", "mae-mine"}
    assert facts["mine"]["file"] == "mine.py" and len(facts["mine"]["sha256"]) == 64
    built_in = plugins("drfn", ("psnr", "ssim"))["drfn"]
    assert built_in["module"] == "baselines.drfn"


PINNED = {
    "bicubic": "c89e61e7c96a1ea8",
    "bicubic-rgb": "c89e61e7c96a1ea8",
    "dcsr": "91d45df9b3dfa9a5",
    "drfn": "4f66f68ea3bb430c",
    "drfn-2conv": "4f66f68ea3bb430c",
    "edsr": "8175a62f311aac01",
    "edsr-baseline": "8175a62f311aac01",
    "fsrcnn": "8755416b7e0fcd28",
    "lapsrn": "84ca11eb28df2738",
    "memnet": "4fa471dff9852905",
    "msrn": "642563b07dc8ea6c",
    "rdn": "8876a9c37fe37c41",
    "srcnn": "799d8d6de7ba1793",
    "srmdnf": "27caf5448ba0f4d2",
    "vdsr": "70219c91501311e7",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_networks_of_the_paper_have_the_same_hash_everywhere(name: str) -> None:
    """They are part of the ids of all records: a change here makes every record another run."""
    assert network_digest(MODELS.get(name), 4, {})[:16] == PINNED[name]
