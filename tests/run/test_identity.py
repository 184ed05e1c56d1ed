"""One id, one number: what an id stands for, and the ids of the committed records."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.data.identify import ImageSet, SetImage
from harness.models.published import PublishedImages, SRImage, card_of_images
from harness.models.upscaler import INFERENCE
from harness.models.weights import Weights
from harness.protocol.rules import RULES, protocol
from harness.record import Identity, RunRecord, digest, file_digest
from harness.registry import DATASETS, MODELS
from harness.run.spec import Run
from harness.run.store import Journal, ResultStore, read_record

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/cases"
STORE = ResultStore(ROOT / "results/reference")
RECORDS = [read_record(path) for path in STORE.paths()]


def title(record: RunRecord) -> str:
    return f"{record.identity.model}-{record.identity.id[:12]}"


def run_of(record: RunRecord) -> Run:
    """The run that makes a record of a published set again."""
    one, card = record.identity, DATASETS.get(record.identity.dataset)
    images = tuple(
        SetImage(image.name, Path(image.name), image.pixels_sha256, (image.width, image.height))
        for image in card.known
    )
    enough = {"weight": np.broadcast_to(np.float32(0), 10**9)}  # for any network, in no memory
    published = SimpleNamespace(sha256=one.sr_sha256) if one.sr_sha256 else None
    return Run(
        card_of_images(one.model) if published else MODELS.get(one.model),
        Weights(record.weights, enough, one.hyper) if record.weights else None,
        ImageSet(card, images, verified=True),
        protocol(one.protocol),
        one.self_ensemble,
        one.tile,
        one.metrics,
        published=published,
    )


@pytest.mark.parametrize("record", RECORDS, ids=title)
def test_the_code_gives_every_committed_record_its_id(record: RunRecord) -> None:
    """Whoever changes what an id is made of makes every record here one of another run."""
    again = run_of(record).identity
    assert again == record.identity and not record.earlier
    assert again.id == record.identity.id


def test_every_field_of_a_run_decides_its_id_or_is_recorded_beside_it() -> None:
    run = next(run_of(one) for one in RECORDS if title(one).startswith("vdsr-"))
    run = replace(run, rules=protocol("BI-x4/y"), metrics=("psnr", "ssim"))
    others = {
        "card": MODELS.get("fsrcnn"),
        "weights": None,
        "image_set": replace(run.image_set, images=run.image_set.images[1:]),
        "rules": protocol("BI-x4/y+float-y"),
        "self_ensemble": True,
        "tile": 64,
        "metrics": ("psnr", "ssim", "ssim-whole"),
        "published": PublishedImages("sr", {"baby": SRImage(Path("baby.png"), "0" * 64)}),
    }
    recorded = {"asked_for": "edsr", "tag": "mine"}
    assert {field.name for field in fields(Run)} == others.keys() | recorded.keys()
    ids = {replace(run, **{name: value}).identity.id for name, value in others.items()}
    assert len(ids | {run.identity.id}) == len(others) + 1
    assert replace(run, **recorded).identity == run.identity


def test_the_committed_records_are_those_that_were_migrated() -> None:
    migrated = [one for one in RECORDS if "earlier_id" in one.provenance]
    pairs = sorted((one.provenance["earlier_id"], one.identity.id) for one in migrated)
    assert (len(pairs), digest(pairs)[:16]) == (100, "8bd896efedac3b97")


# PSNR of each image, by model, how it was run, and the folder of images.
WHOLE, TILED, ENSEMBLE = (), ("--tile", 16), ("--self-ensemble",)
GOLDEN = {
    ("fsrcnn:repro", WHOLE): [29.33562, 29.40338],
    ("fsrcnn:repro", TILED): [29.33562, 29.40338],
    ("fsrcnn:repro", ENSEMBLE): [29.38415, 29.48263],
    ("edsr-baseline", WHOLE): [29.68147, 29.84204],
    ("edsr-baseline", TILED): [29.68147, 29.84204],
    ("edsr-baseline", ENSEMBLE): [29.69909, 29.86132],
    ("drfn", WHOLE): [29.61914, 29.81358],
    ("drfn", ENSEMBLE): [29.61956, 29.79351],
    ("bicubic", WHOLE): [28.84026, 28.64742],
    ("bicubic-rgb", WHOLE): [28.84794, 28.64813],
}


@pytest.mark.parametrize(("model", "how"), GOLDEN, ids=str)
def test_networks_are_run_as_the_numbers_in_an_id_say(harness, model: str, how: tuple) -> None:
    """Where a score moves by more, `INFERENCE` or `RULES` must be raised, and every record made
    again: an id promises one number."""
    assert (INFERENCE, RULES) == (1, 1)
    words = ("run", "--models", model, "--datasets", CASES / "cats", "--json", *how)
    (record,) = json.loads(harness(*words).stdout)
    psnr = [image["psnr"] for image in record["images"]]
    assert psnr == pytest.approx(GOLDEN[model, how], abs=1e-4)


POOLING = """
from torch import nn
from torch.nn.functional import interpolate
from harness.registry import register_model

class Pooling(nn.Module):
    def forward(self, x):
        return interpolate(x, scale_factor=4) + 0.5 - x.mean()

@register_model("pooling", pipeline="y", input="lr", scales=(4,), params=0, global_pooling=True)
def pooling(scale=4):
    return Pooling()
"""


def test_a_network_that_pools_over_its_tiles_gives_the_number_of_its_tiles(
    harness, tmp_path: Path
) -> None:
    (tmp_path / "pooling.py").write_text(POOLING)
    words = ("run", "--models", "pooling", "--plugin", tmp_path / "pooling.py")
    for how, psnr in [(WHOLE, 25.2103), (TILED, 15.9670)]:
        shown = harness(*words, "--datasets", CASES / "inplace_tile/set", "--json", *how)
        assert json.loads(shown.stdout)[0]["means"]["psnr"] == pytest.approx(psnr, abs=1e-4)


@pytest.mark.parametrize(
    ("case", "model", "helper", "change"),
    [
        ("plug", "mine", "blocks.py", ("GAIN = 1.0", "GAIN = 0.5")),
        ("helper_module", "p", "my_helper.py", ("x*0.5", "x*0.25")),
    ],
)
def test_after_an_edit_of_a_plugins_helper_its_number_is_computed_anew(
    harness, tmp_path: Path, case: str, model: str, helper: str, change: tuple[str, str]
) -> None:
    plug = Path(shutil.copytree(CASES / case, tmp_path / case))
    file = plug / f"{model}.py"
    words = ("run", "--models", model, "--datasets", CASES / "cats", "--plugin", file)
    first = json.loads(harness(*words, "--json").stdout)
    again = harness(*words)
    assert "already finished" in again.output
    edited = (plug / helper).read_text().replace(*change)
    (plug / helper).write_text(edited)
    other = harness(*words)
    assert "already finished" not in other.output
    assert len(list(Path("results/local").rglob(f"{model}-*.json"))) == 2
    assert first[0]["plugins"][model]["file"] == f"{case}/{file.name}"


def test_the_plugin_that_a_record_names_is_the_one_that_ran(harness, tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    edits_itself = "__import__('pathlib').Path(__file__).write_text('')"
    file.write_text(POOLING.replace("x.mean()", edits_itself))
    before = file_digest(file)
    words = ("run", "--models", "pooling", "--plugin", file, "--datasets", CASES / "cats")
    (record,) = json.loads(harness(*words, "--json").stdout)
    assert record["plugins"]["pooling"]["sha256"] == before != file_digest(file)


class TestEarlierRecords:
    @pytest.fixture
    def store(self, tmp_path: Path) -> ResultStore:
        """A record of schema 2, as an earlier version of the harness wrote it."""
        folder = tmp_path / "results/local/x4/set14"
        folder.mkdir(parents=True)
        shutil.copy(
            ROOT / "tests/run/earlier_record.json", folder / "bicubic-rgb-6cc79c0c53ec.json"
        )
        return ResultStore(tmp_path / "results/local")

    def test_it_is_read_under_its_own_id_with_the_rules_it_followed(self, store) -> None:
        (record,) = store.records()
        assert record.earlier
        assert record.identity.id[:12] == "6cc79c0c53ec"
        assert record.identity.protocol == "BI-x4/rgb+full-range"
        assert json.loads(json.dumps(record.to_json())) == json.loads(store.paths()[0].read_text())

    def test_it_is_shown_as_such_and_never_taken_for_finished(self, store, harness) -> None:
        assert (
            "identity of an earlier version"
            in harness("list", "runs", "--results", "results/local").output
        )
        (record,) = store.records()
        fields = {k: v for k, v in vars(record.identity).items() if k != "stored"}
        assert store.finished(Identity(**fields)) is None
        shown = harness("accept", "all", "--reference", "reference")
        assert shown.exit_code == 2 and "repeat it with harness" in shown.output
        assert store.paths()

    def test_an_altered_one_is_refused(self, store, harness) -> None:
        path = store.paths()[0]
        path.write_text(path.read_text().replace('"scale": 4', '"scale": 3'))
        assert "not a valid run record" in harness("check", "--reference", "results/local").output


def test_what_an_image_is_scored_by_is_in_the_header_of_its_journal(tmp_path: Path) -> None:
    from harness.record import Execution
    from harness.run.provenance import source_digest

    journal = Journal(ResultStore(tmp_path), RECORDS[0].identity, Execution("cpu", 1))
    journal.start([])
    header = json.loads(journal.path.read_text())
    assert header["harness_sha256"] == source_digest()
    assert (header["rules"], header["inference"]) == (RULES, INFERENCE)


def test_a_journal_of_other_code_is_not_continued(tmp_path: Path, monkeypatch) -> None:
    from harness.record import Execution

    record = RECORDS[0]
    store, how = ResultStore(tmp_path), Execution("cpu", 1)
    Journal(store, record.identity, how).start(list(record.images))
    assert len(Journal(store, record.identity, how).read()) == len(record.images)
    monkeypatch.setattr("harness.run.store.source_digest", lambda: "other")
    assert Journal(store, record.identity, how).read() == []
