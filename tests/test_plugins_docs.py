"""Every example of docs/plugins.md runs, under the name that it says."""

import re
from pathlib import Path

import pytest
import torch

from harness.registry import FAILURES
from harness.run.store import ResultStore

DOCUMENT = (Path(__file__).parents[1] / "docs/plugins.md").read_text()
EXAMPLES = {
    re.findall(r"# (\w+\.py)\n", code)[0]: code
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all examples."""
    for name, code in EXAMPLES.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def published(folder: Path) -> Path:
    """A checkpoint with the names that the example of a layout knows: it repeats pixels."""
    weight = torch.zeros(48, 3, 5, 5)
    for channel in range(3):
        weight[16 * channel : 16 * (channel + 1), channel, 2, 2] = 1
    torch.save({"params": {"upsampler.conv.weight": weight}}, folder / "mine.pth")
    return folder / "mine.pth"


def test_there_is_one_of_each_kind() -> None:
    kinds = {kind for code in EXAMPLES.values() for kind in re.findall(r"register_\w+", code)}
    assert kinds == {
        f"register_{kind}" for kind in ("model", "metric", "dataset", "report", "paper")
    }


def test_the_network_keeps_the_contract_with_published_weights(harness, folder: Path) -> None:
    mine = ("mine", "--plugin", folder / "mine.py")
    for words in (mine, (*mine, "--weights", published(folder)), (*mine, "--scale", "2")):
        shown = harness("check-model", *words)
        assert shown.exit_code == 0 and "FAIL" not in shown.output, shown.output


def test_the_network_the_metric_and_the_set_run_together(
    harness, folder: Path, photos: Path
) -> None:
    photos.rename(folder / "images")
    plugins = [word for name in EXAMPLES for word in ("--plugin", folder / name)]
    words = ("--models", f"mine={published(folder)}", "--datasets", "photographs")
    shown = harness("run", *plugins, *words, "--metric", "mae")
    assert shown.exit_code == 0, shown.output
    (record,) = ResultStore(Path("results/local")).records()
    assert (record.status, record.identity.model) == ("finished", "mine")
    assert 0 < record.means["mae"] < 255 and record.plugins["mae"]["on"] == "rgb"
    listed = harness("list", "datasets", "--plugin", folder / "photographs.py").output
    assert "photographs" in listed


def test_the_report_counts_the_runs(harness, folder: Path) -> None:
    shown = harness("report", "counts", "--plugin", folder / "counts.py", "--out", folder / "out")
    assert shown.exit_code == 0, shown.output
    assert re.search(r"\| srcnn +\| +\d+ +\|", (folder / "out/counts.md").read_text())
    assert sorted(path.suffix for path in (folder / "out").iterdir()) == [
        *(".csv", ".html", ".md", ".tex")
    ]


def test_the_paper_is_found(harness, folder: Path) -> None:
    papers = (Path(__file__).parents[1] / "docs/papers.md").read_text()
    (folder / "letters.toml").write_text(re.findall(r"```toml\n(.*?)```", papers, re.DOTALL)[0])
    words = ("--paper", "letters2026", "--plugin", folder / "letters.py")
    shown = harness("claims", *words)
    assert shown.exit_code == 0, shown.output
    assert re.search("(?m)^reproduced +better: ", shown.stdout)


def test_none_fails(harness, folder: Path) -> None:
    plugins = [word for name in EXAMPLES for word in ("--plugin", folder / name)]
    assert harness("list", "models", *plugins).exit_code == 0
    assert not FAILURES
