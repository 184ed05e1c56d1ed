import os
import random
from functools import partial
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.files import FileLock
from harness.train.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from harness.train.loop import Trainer
from tests.train.trainings import Said, training

STATE: Checkpoint = {
    "format": FORMAT,
    "facts": {"model": "tiny", "scale": 4, "hyper": {}},
    "recipe": {"steps": 5},
    "validated_on": {"sha256": ""},
    "network": {"0.weight": torch.arange(24.0)},
    "average": {"0.weight": torch.arange(24.0) / 3},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(24)}}, "param_groups": []},
    "step": 1,
    "seconds": 2.5,
    "best": 30.0,
    "validated_from": 0,
    "left_out": [],
    "origin": None,
    "acceleration": {},
    "random": [{"torch": torch.get_rng_state()}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "last.pt", STATE)
    return tmp_path / "last.pt"


def test_any_bit_that_flips_is_found_out(path: Path) -> None:
    whole, rng = path.read_bytes(), random.Random(0)
    places = [rng.randrange(8 * len(whole)) for _ in range(500)]
    ends = range(8 * len(whole) - 8 * 90, 8 * len(whole))  # what PyTorch passes over
    for place in (*places, *ends):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(HarnessError, match=r"last\.pt is damaged"):
            load_checkpoint(path)


def test_one_that_is_cut_short_or_goes_on_is_found_out(path: Path) -> None:
    whole = path.read_bytes()
    for content in (
        b"",
        b"garbage",
        whole[:-1],
        whole[:-66],
        whole[: len(whole) // 2],
        whole + b"0",
    ):
        path.write_bytes(content)
        with pytest.raises(HarnessError, match=r"last\.pt is damaged"):
            load_checkpoint(path)


def test_pytorch_itself_reads_one(path: Path) -> None:
    assert torch.equal(torch.load(path)["average"]["0.weight"], STATE["average"]["0.weight"])


def test_one_without_a_seal_is_of_an_earlier_version_or_damaged(path: Path) -> None:
    torch.save(dict(STATE), path)
    with pytest.raises(HarnessError, match="another version of drfn-harness"):
        load_checkpoint(path)
    save_checkpoint(path, STATE | {"format": 2})
    with pytest.raises(HarnessError, match="was written by another version of drfn-harness"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", sorted(set(STATE) - {"format"}))
def test_a_field_that_is_odd_or_missing_is_named(path: Path, name: str) -> None:
    fits = {float: (1.5,), dict: ({"x": 5},), type(None): ({"x": 5},)}
    of_tensors = name in ("network", "average")
    for odd in (torch.ones(1), [torch.ones(1)], {"x": 5}, 1.5, "x"):
        if odd in fits.get(type(STATE[name]), ()) and not of_tensors:
            continue
        save_checkpoint(path, STATE | {name: odd})
        with pytest.raises(HarnessError, match="cannot be read"):
            load_checkpoint(path)
    save_checkpoint(path, {key: value for key, value in STATE.items() if key != name})
    with pytest.raises(HarnessError, match=rf"cannot be read .*{name}"):
        load_checkpoint(path)


def test_a_full_disk_leaves_the_one_before(path: Path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HarnessError, match="No space left .* the previous one is intact"):
        save_checkpoint(path, STATE | {"step": 2})
    with pytest.raises(HarnessError, match="the previous one does not exist"):
        save_checkpoint(path.with_name("best.pt"), STATE | {"step": 2})
    assert load_checkpoint(path)["step"] == 1
    assert os.listdir(path.parent) == ["last.pt"]


class TestResuming:
    @pytest.fixture
    def begun(self, words: list[str]) -> Path:
        one = training(words, steps=2)
        Trainer(one, Said(), resume=False).run()
        return one.folder / "last.pt"

    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [
            ("optimizer", {}, "KeyError: 'param_groups'"),
            (
                "optimizer",
                {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": []},
                "ValueError: loaded state dict has a different number of parameter groups",
            ),
            (
                "network",
                {"1.weight": torch.ones(1)},
                "RuntimeError: Error(s) in loading state_dict",
            ),
            ("average", {}, "RuntimeError: Error(s) in loading state_dict"),
            ("random", [{}], "KeyError: 'python'"),
            (
                "random",
                [{"python": [3, [1], None], "numpy": [], "torch": 5}],
                "ValueError: state vector is the wrong size",
            ),
            ("acceleration", {"speed": 3}, "TypeError: Acceleration.__init__() got an unexpected"),
            ("validated_on", {}, "KeyError: 'sha256'"),
        ],
    )
    def test_what_was_sealed_and_does_not_fit_is_one_sentence(
        self, harness, words, begun: Path, name: str, value: object, why: str
    ) -> None:
        resume = (*words[:-2], "--steps", 2, "--resume", "--out", begun.parents[1])
        assert harness(*resume).exit_code == 0
        save_checkpoint(begun, load_checkpoint(begun) | {name: value})
        shown = harness(*resume)
        assert shown.exit_code == 1
        said = f"The checkpoint {begun} is not as training wrote it ({why}"
        assert shown.output.startswith(f"Error: {said}") and "Traceback" not in shown.output

    def test_one_without_facts_is_of_another_training(self, harness, words, begun: Path) -> None:
        save_checkpoint(begun, load_checkpoint(begun) | {"facts": {}})
        shown = harness(*words[:-2], "--steps", 2, "--resume", "--out", begun.parents[1])
        assert shown.exit_code == 2
        assert "belongs to another training: model was None and is 'tiny'" in shown.output

    def test_a_second_training_into_one_folder_is_refused(
        self, harness, words, begun: Path, tmp_path: Path
    ) -> None:
        fresh, name = tmp_path / "fresh", begun.parent.name
        for out, resume in ((begun.parents[1], ["--resume"]), (fresh, [])):
            with FileLock(out / name / "training.lock").held():
                shown = harness(*words, "--steps", 3, "--out", out, *resume)
            assert shown.exit_code == 1 and "Another process trains into" in shown.output
        assert load_checkpoint(begun)["step"] == 2 and not any((fresh / name).iterdir())

    @pytest.mark.parametrize("harm", ["seal is gone", "a bit of the seal", "a bit"])
    def test_weights_are_not_taken_from_one_that_is_damaged(
        self, harness, words, begun: Path, tmp_path: Path, harm: str
    ) -> None:
        content = begun.read_bytes()
        bit = {"a bit of the seal": len(content) - 3, "a bit": len(content) // 2}.get(harm)
        if bit is None:
            content = content[:-66] + b"\0\0"
        else:
            content = content[:bit] + bytes([content[bit] ^ 1]) + content[bit + 1 :]
        begun.write_bytes(content)
        out = tmp_path / "more"
        shown = harness(*words, "--steps", 1, "--from", begun, "--out", out)
        assert shown.exit_code == 1 and "last.pt is damaged" in shown.output

    @pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
    def test_a_log_that_is_no_file_is_not_replaced(
        self, harness, words, tmp_path: Path, kind: str
    ) -> None:
        log = tmp_path / "out/tiny-x4/log.csv"
        log.parent.mkdir(parents=True)
        made = {"fifo": os.mkfifo, "folder": os.mkdir, "link": partial(os.symlink, "/dev/zero")}
        made[kind](log)
        shown = harness(*words, "--steps", 1, "--out", tmp_path / "out")
        assert shown.exit_code == 2 and "holds log.csv of another training" in shown.output

    def test_the_lock_of_a_training_goes_with_it(self, harness, words, tmp_path: Path) -> None:
        assert harness(*words, "--steps", 1, "--out", tmp_path / "out").exit_code == 0
        assert not list((tmp_path / "out").rglob("*.lock"))
