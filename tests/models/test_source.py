"""The code of a network: what it covers, and that it is the same wherever the harness runs."""

import shutil
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.models.source import metrics_digest, network_digest, plugins
from harness.registry import MODELS, load_plugins

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def plug(tmp_path: Path) -> Path:
    """A folder of plug-ins that may be edited."""
    return Path(shutil.copytree(CASES / "plug", tmp_path / "plug"))


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


def test_the_class_of_a_module_that_is_loaded_no_longer_counts(plug: Path) -> None:
    """A plug-in that loads several repositories, each with a module ``blocks``, forgets them."""
    text = (plug / "mine.py").read_text()
    (plug / "mine.py").write_text(
        text.replace("from blocks import Up", "Up = __import__('blocks').Up")
        + "\ndel sys.modules['blocks']\nsys.path.pop(0)\n"
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


def test_what_a_partial_is_made_of_counts(tmp_path: Path) -> None:
    file = tmp_path / "partly.py"
    text = (
        "from functools import partial\nfrom torch import nn\n"
        "from harness.registry import register_metric, register_model\n"
        "def build(scale, width): return nn.Conv2d(1, 1, width)\n"
        "def off(sr, hr, by): return float(by)\n"
        "register_model('partly', pipeline='y', input='bicubic', scales=(4,))("
        "partial(build, width=3))\n"
        "register_metric('off')(partial(off, by=2))\n"
    )
    seen = set()
    for width, by in ((3, 2), (5, 2), (3, 7)):
        file.write_text(text.replace("width=3", f"width={width}").replace("by=2", f"by={by}"))
        load_plugins([file])
        seen.add((network_digest(MODELS.get("partly"), 4, {}), metrics_digest(("psnr", "off"))))
    assert len(seen) == 3
    assert plugins("partly", ("off",))["partly"]["file"] == "partly.py"


def test_the_helper_of_a_metric_counts(plug: Path) -> None:
    load_plugins([plug / "mine.py"])
    assert metrics_digest(("psnr", "ssim", "ssim-whole")) is None
    before = metrics_digest(("psnr", "ssim", "mae-mine"))
    edit(plug / "helper_metric.py", "np.abs(sr - hr)", "np.abs(sr - hr) * 2")
    assert metrics_digest(("psnr", "ssim", "mae-mine")) != before


def test_a_metric_that_python_defines_has_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "builtin.py"
    file.write_text(
        "from harness.registry import register_metric\nregister_metric('counted')([].count)\n"
    )
    load_plugins([file])
    assert len(metrics_digest(("counted",)) or "") == 64


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
    assert built_in["module"] == "harness.baselines.drfn"


PINNED = {
    "bicubic": "ee0b002586ec4aff",
    "bicubic-rgb": "ee0b002586ec4aff",
    "dcsr": "f33b02cfa5ae718a",
    "drfn": "aa30f18ffef18a6a",
    "drfn-2conv": "aa30f18ffef18a6a",
    "edsr": "46b11a6738f83d22",
    "edsr-baseline": "46b11a6738f83d22",
    "fsrcnn": "29c34e8f374ab0e9",
    "lapsrn": "6f13ae343b2f5ffe",
    "memnet": "9480e6c42440721b",
    "msrn": "1d9070df628841e1",
    "rdn": "4a701610d8d936af",
    "srcnn": "50a5980b62c7e9f7",
    "srmdnf": "23a6b90e08fe6d67",
    "vdsr": "5281109acf6b8504",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_networks_of_the_paper_have_the_same_hash_everywhere(name: str) -> None:
    """They are part of the ids of all records: a change here makes every record another run."""
    assert network_digest(MODELS.get(name), 4, {})[:16] == PINNED[name]
