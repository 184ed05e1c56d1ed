"""What ``harness run`` says at its end: printed numbers, warnings, and what to do next."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness import baselines
from harness.cli.run import next_steps, summary
from harness.paper.literature import printed_numbers
from harness.run.plan import Plan
from harness.run.store import ResultStore
from tests.records import record

SHIPPED = Path(baselines.__file__).parent / "weights"
MINE = """\
from torch import nn
from harness.registry import register_model

@register_model("mine", pipeline="rgb", input="lr", scales=(4,))
def mine(scale=4):
    return nn.Sequential(nn.Conv2d(3, 48, 5, padding=2, bias=False), nn.PixelShuffle(4))
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plug-in with a network that nobody trained, and its weights beside it."""
    torch.manual_seed(0)
    torch.save({"0.weight": 0.01 * torch.randn(48, 3, 5, 5)}, tmp_path / "mine.pth")
    path = tmp_path / "my plug-in.py"
    path.write_text(MINE)
    return path


def test_printed_numbers_have_a_column_and_name_their_paper() -> None:
    runs = [record("bicubic", "set5"), record("edsr-baseline", "set5"), record("mine", "set5")]
    lines = summary(runs, printed_numbers(runs)).splitlines()
    assert lines[0].split()[-3:] == ["printed", "protocol", "weights"]
    assert [line.split()[-3] for line in lines[2:4]] == ["28.42/0.8104", "32.09/0.8938"]
    assert lines[4].split()[-3] == "0.8000"
    assert "printed" not in summary(runs[2:], {}).lower()
    assert lines[-1] == "Printed: bicubic in drfn2020; edsr-baseline in imdn2019."


class TestWarningBelowBicubic:
    def run(self, harness, plugin: Path, *words: object):
        model = f"mine={plugin.parent / 'mine.pth'}"
        return harness("run", "--models", model, "--plugin", plugin, *words)

    def test_untrained_weights_are_named_with_both_numbers(self, harness, plugin, photos) -> None:
        usual = harness("run", "--models", "bicubic-rgb", "--datasets", photos, "--json")
        (bicubic,) = json.loads(usual.stdout)
        shown = self.run(harness, plugin, "--datasets", photos)
        assert shown.exit_code == 0 and "Warning" not in usual.stderr
        (own,) = (one for one in ResultStore(Path("results/local")).records() if one.weights)
        (warning,) = re.findall("Warning: .*", shown.stderr)
        psnr = bicubic["means"]["psnr"]
        assert f"{own.means['psnr']:.2f} dB against {psnr:.2f} on photos." in warning
        assert "0 to 255" in warning and "BGR" in warning
        (command,) = re.findall(r"harness (check-model .*) --weights FILE\.", warning)
        checked = harness(*shlex.split(command), "--weights", plugin.parent / "mine.pth")
        assert checked.exit_code == 1 and "a photograph" in checked.output

    def test_only_the_first_images_of_a_large_set_are_compared(self, harness, plugin) -> None:
        shown = self.run(harness, plugin, "--datasets", "demo")
        assert "on the first 5 images of demo. " in shown.stderr

    def test_a_program_that_reads_json_gets_no_warning(self, harness, plugin, photos) -> None:
        shown = self.run(harness, plugin, "--datasets", photos, "--json")
        assert "Warning" not in shown.output and "Records:" not in shown.output

    def test_weights_that_beat_it_are_not_suspected(self, harness, tmp_path: Path) -> None:
        torch.save(load_file(SHIPPED / "fsrcnn-x4.repro.safetensors"), tmp_path / "own.pth")
        words = ("--models", f"fsrcnn={tmp_path / 'own.pth'}", "--datasets", "demo")
        shown = harness("run", *words)
        assert shown.exit_code == 0, shown.output
        assert "own" in shown.stdout and "Warning" not in shown.stderr


class TestNextSteps:
    def test_the_command_it_names_makes_the_table(self, harness, plugin, photos) -> None:
        model = f"bicubic,mine={plugin.parent / 'mine.pth'}"
        words = ("--plugin", plugin, "--datasets", photos, "--results", "my runs")
        shown = harness("run", "--models", model, *words)
        assert "\nRecords: my runs\n" in shown.stderr and "Finished" not in shown.stderr
        (command,) = re.findall("Table in Markdown and LaTeX: harness (.*)", shown.stderr)
        made = harness(*shlex.split(command))
        assert made.exit_code == 0, made.output
        text = Path("my runs/reports/own-table.tex").read_text()
        assert re.search(r"Bicubic & \\textbf.*\nmine & ", text)

    def test_the_command_names_the_checkpoint_if_another_ran_before(
        self, harness, plugin, photos
    ) -> None:
        """Two trainings into one file: the table is of the second one, and then of the first."""
        file = plugin.parent / "mine.pth"
        first = torch.load(file)
        second = {name: 2 * value for name, value in first.items()}
        words = ("--models", f"mine={file}", "--plugin", plugin, "--datasets", photos)
        for weights in (first, second, first):
            torch.save(weights, file)
            shown = harness("run", *words)
            (command,) = re.findall("Table in Markdown and LaTeX: harness (.*)", shown.stderr)
            psnr = re.findall(r"^mine +\S+ +\d+ +(\S+)", shown.stdout, re.MULTILINE)
            table = harness(*shlex.split(command)).stdout
            in_table = re.findall(r"^\| mine\S* +\| (\S+)/", table, re.MULTILINE)
            assert [*map(float, in_table)] == pytest.approx([*map(float, psnr)], abs=0.006)

    def test_runs_that_failed_and_what_was_left_out_are_counted(
        self, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        done = record("bicubic", "set5", weights=None)
        broken = replace(record("vdsr", "set5"), status="error", images=(), error="no memory")
        planned = Plan(runs=[done, broken], absent=["Set14 is not on this machine."])  # type: ignore[list-item]
        ResultStore(Path("results/local")).write(done)
        count, where, table = next_steps(planned, [done, broken], Path("results/local"), ())
        assert count == "Finished: 1 of 2 runs; left out: 1, see Skipped above."
        assert where == "Records: results/local (harness list runs)"
        assert table.endswith("--models bicubic --datasets set5 --format md,tex")

    def test_runs_that_no_table_shows_get_no_command(self) -> None:
        tiles = record("bicubic", "set5", weights=None)
        tiles = replace(tiles, identity=replace(tiles.identity, tile=64))
        other = record("bicubic", "set5", weights=None, protocol="BI-x4/y+symmetric")
        planned = Plan(runs=[tiles, other])  # type: ignore[list-item]
        assert [*next_steps(planned, [tiles, other], Path("results/local"), ())] == [
            "Records: results/local (harness list runs)"
        ]
