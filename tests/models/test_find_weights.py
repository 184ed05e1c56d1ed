"""Notes beside weights may come from anyone: files that are not valid notes are skipped."""

import json
from pathlib import Path

import pytest

from harness.models.find_weights import notes_from, read_notes

NOTES = {
    "tensors_sha256": "0" * 64,
    "model": "tiny",
    "scale": 4,
    "hyper": {},
    "recipe": {"name": "short", "batch": 8, "patch": 24},
    "steps": 5,
    "seconds": 2.5,
    "device": "cpu",
    "images": {"sha256": "1" * 64, "count": 3},
    "from": {"steps": 1, "recipe": {"batch": 1, "patch": 8}, "seconds": 1},
}
ODD = [(name, odd) for name in NOTES for odd in (None, [1], {"recipe": 5}, 1.5, "x", True)]
FIT = {("seconds", "1.5"), ("hyper", "{'recipe': 5}"), ("device", "x"), ("images", "{'recipe': 5}")}
FIT |= {("tensors_sha256", "x"), ("model", "x")}


def test_the_notes_of_a_training_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps(NOTES))
    assert read_notes(tmp_path / "notes.json") == NOTES


@pytest.mark.parametrize(("name", "odd"), [one for one in ODD if (one[0], str(one[1])) not in FIT])
def test_a_file_with_an_odd_field_holds_none(tmp_path: Path, name: str, odd: object) -> None:
    (tmp_path / "notes.json").write_text(json.dumps(NOTES | {name: odd}))
    assert read_notes(tmp_path / "notes.json") is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '{"a"', "[" * 100_000, "\udcff"])
def test_nor_does_anything_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.json").write_text(text, errors="surrogateescape")
    assert read_notes(tmp_path / "notes.json") is None
    assert read_notes(tmp_path) is None and read_notes(tmp_path / "gone.json") is None


def test_odd_notes_beside_a_plug_in_end_no_report(harness, tmp_path: Path) -> None:
    plugin = """
from harness.baselines.fsrcnn import fsrcnn
from harness.registry import register_model
register_model("tiny", pipeline="y", input="lr", scales=(4,))(fsrcnn)
"""
    (tmp_path / "tiny.py").write_text(plugin)
    (tmp_path / "weights").mkdir()
    for place, odd in enumerate((5, {}, [1], "[")):
        notes = NOTES | {"recipe": odd}
        (tmp_path / f"weights/{place}.json").write_text(json.dumps(notes))
    (tmp_path / "weights/deep.json").write_text("[" * 100_000)
    for words in ("claims", "report table2 --out out"):
        shown = harness(*words.split(), "--plugin", tmp_path / "tiny.py")
        assert shown.exit_code == 0, shown.output


def test_the_notes_say_how_often_the_images_were_seen_and_how_long_it_took() -> None:
    drfn = read_notes(Path(__file__).parents[2] / "baselines/weights/drfn-x4.repro.json")
    assert drfn
    notes = notes_from(drfn)
    # 3,902 steps of 8 patches of 24x24, of images of 13,931,069 LR pixels
    assert notes.passes == pytest.approx(1.2907, abs=1e-4) and notes.duration == "78 min"
    long = notes_from(drfn | {"seconds": 26 * 3600, "from": drfn})
    assert long.passes == pytest.approx(2.5813, abs=1e-4) and long.duration == "27 h"
    assert notes_from(NOTES).passes is None
